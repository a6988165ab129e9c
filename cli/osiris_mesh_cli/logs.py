"""``logs metrics``: what functions print, and how they and the nodes do."""

from __future__ import annotations

import contextlib
import sys
from typing import Annotated, Any

import typer

from osiris_mesh.clock import SYSTEM
from osiris_mesh.errors import UsageError
from osiris_mesh_cli.control import Controller
from osiris_mesh_cli.session import Session, command, noun
from osiris_mesh_cli.tables import clean, table, time_text
from osiris_mesh_cli.values import seconds

app = noun("Logs and metrics.")


def _line(item: dict[str, Any]) -> str:
    stream = " err" if item["stream"] == "err" else ""
    return f"{time_text(int(item['time_ms']))} {item['function']}{stream}: {clean(str(item['text']))}"


@command(app, example="logs addNumbers --tail\nlogs text/tokens --since 10m --search error")
def logs(
    session: Session,
    name: Annotated[str, typer.Argument(metavar="NAME", help="A function; all of this node's if not given.")] = "",
    follow: Annotated[
        bool, typer.Option("--tail", "--follow", "-f", help="Go on with new lines until Ctrl-C.")
    ] = False,
    lines: Annotated[int, typer.Option("--lines", "-n", min=0, max=10_000, help="How many old lines at most.")] = 100,
    since: Annotated[
        str | None, typer.Option("--since", metavar="TIME", help="Not older than, for example 10m.")
    ] = None,
    search: Annotated[str, typer.Option("--search", metavar="TEXT", help="Only lines with this text.")] = "",
) -> None:
    """Show what a function printed on this node, the newest lines last."""
    if follow and session.json:
        raise UsageError("--tail never ends, so no JSON document can hold it", fix="leave out --tail or --json")
    since_ms = 0 if since is None else SYSTEM.time_ms() - int(seconds(since) * 1000)
    found: list[dict[str, Any]] = []
    shown = False
    with Controller(session.home) as controller, contextlib.suppress(KeyboardInterrupt):
        for item in controller.mesh.logs(name, tail=lines, follow=follow, since_ms=since_ms):
            if search not in str(item["text"]):
                continue
            if session.json:
                found.append(item)
            else:
                shown = True
                sys.stdout.write(_line(item) + "\n")
                sys.stdout.flush()
    if session.json:
        session.result({"lines": found})
    elif not follow and not shown:
        session.say("nothing was printed on this node; functions print where they run")
        session.next("describe NAME", "logs --tail")


@command(app, example="metrics\nmetrics addNumbers --json")
def metrics(
    session: Session,
    name: Annotated[str, typer.Argument(metavar="NAME", help="A function; all and the nodes if not given.")] = "",
) -> None:
    """Show figures of one function, or of all functions and of the nodes, as this node knows them."""
    with Controller(session.home) as controller:
        samples = controller.ask("node.metrics", {"name": name})["samples"]

    def text() -> str:
        heads = list(dict.fromkeys(key for sample in samples for key in sample))
        rows = [[_figure(sample.get(key)) for key in heads] for sample in samples]
        return table([head.upper() for head in heads], rows)

    session.result({"samples": samples}, text)


def _figure(value: Any) -> object:
    if isinstance(value, float):
        return round(value, 3)
    if isinstance(value, dict):
        return " ".join(f"{key}={_figure(item)}" for key, item in value.items())
    return value
