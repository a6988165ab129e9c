"""The documents say what the code does."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from osiris_mesh.ledger.authority import AUTHORS
from osiris_mesh.ledger.people import MAX_API_TOKENS, MAX_ROLES
from osiris_mesh.ledger.permissions import BUILT_IN_ROLES, MAX_GRANTS, PERMISSIONS, check_grant

ROOT = Path(__file__).parents[2]
PERMISSIONS_PAGE = (ROOT / "docs/permissions.md").read_text("utf-8")
DESIGN = (ROOT / "osiris_mesh/access/DESIGN.md").read_text("utf-8")


def table(text: str, head: str) -> dict[str, str]:
    """Return a table of two columns whose head is given."""
    rows = text.split(f"| {head} |\n", 1)[1].split("\n\n", 1)[0].splitlines()[1:]
    return {row.split("|")[1].strip().strip("`"): row.split("|")[2].strip() for row in rows}


@pytest.mark.parametrize("text", [PERMISSIONS_PAGE, DESIGN], ids=["docs", "design"])
def test_the_permissions_are_the_codes(text: str) -> None:
    assert table(text, "permission | covers") == dict(PERMISSIONS)


def test_the_roles_are_the_codes() -> None:
    written = table(PERMISSIONS_PAGE, "role | may")
    held: set[str] = set()
    for role, grants in BUILT_IN_ROLES.items():
        more = re.findall(r"`([a-z.]+)`", written.pop(role))
        assert more == sorted(set(grants.texts) - held)
        held |= set(grants.texts)
    assert not written


def test_the_kinds_are_the_codes() -> None:
    written = table(PERMISSIONS_PAGE, "kind | takes")
    assert {kind: takes.replace("`", "") for kind, takes in written.items()} == {
        kind: str(rule) for kind, rule in AUTHORS.items()
    }


def test_examples_of_grants_are_grants_and_bounds_are_the_codes() -> None:
    for grant in table(PERMISSIONS_PAGE, "grant | means"):
        assert check_grant(grant) == grant
    for number in (MAX_GRANTS, MAX_ROLES, MAX_API_TOKENS):
        assert str(number) in PERMISSIONS_PAGE


def test_every_file_of_the_part_is_named_in_its_design() -> None:
    files = {path.name for path in (ROOT / "osiris_mesh/access").glob("*.py")} - {"__init__.py"}
    assert files == set(table(DESIGN, "file | concept"))
