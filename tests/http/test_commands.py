"""Whatever the command line or the Unix socket can do has a route, or a reason in docs/http.md why it has none."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from osiris_mesh.gateway.http.routes import ROUTES
from osiris_mesh_cli.main import root
from osiris_mesh_cli.reference import leaves

DOCS = Path(__file__).parents[2] / "docs"
TEXT = (DOCS / "http.md").read_text("utf-8").partition("## Commands and routes")[2].partition("## Routes")[0]
SERVED = {f"{route.method} {route.path}" for route in ROUTES}


def table(head: str) -> dict[str, str]:
    """Return the second column by the first, of the table with this head."""
    lines = TEXT.partition(f"| {head} |")[2].splitlines()[2:]
    rows: dict[str, str] = {}
    for line in lines:
        match = re.fullmatch(r"\| `([^`]+)` \| (.*) \|", line)
        if match is None:
            break
        assert match[1] not in rows
        rows[match[1]] = match[2]
    return rows


COMMANDS = table("command")
METHODS = table("method of the Unix socket")


def routes_in(cell: str) -> list[str]:
    return re.findall(r"`([A-Z]+ /\S+)`", cell)


def test_every_command_has_its_row() -> None:
    assert set(COMMANDS) == {" ".join(path) for path, _ in leaves(root())}


def test_every_method_of_the_unix_socket_has_its_row() -> None:
    rows = re.findall(r"^\| `([\w.]+)` \| ([^|]+) \|", (DOCS / "methods.md").read_text("utf-8"), re.MULTILINE)
    local = {name for name, audiences in rows if "local" in audiences.split(", ")}
    assert len(local) > 30
    assert set(METHODS) == local


@pytest.mark.parametrize(("name", "cell"), [*COMMANDS.items(), *METHODS.items()])
def test_a_row_names_routes_there_are_or_says_why_there_is_none(name: str, cell: str) -> None:
    named = routes_in(cell)
    assert set(named) <= SERVED, name
    assert named or cell.startswith("here only: "), name


def test_every_route_is_some_commands() -> None:
    named = {route for cell in COMMANDS.values() for route in routes_in(cell)}
    assert {route for route in SERVED if " /v1/" in route} <= named
