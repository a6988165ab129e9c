"""``events``: what happened on this node and in its mesh."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Iterator
from typing import Annotated, Any

import typer

from osiris_mesh_cli.control import Controller
from osiris_mesh_cli.session import Session, command, noun
from osiris_mesh_cli.tables import clean, time_text
from osiris_mesh_cli.values import dumps

app = noun("Events.")


def _line(event: dict[str, Any]) -> str:
    fields = " ".join(f"{key}={_word(value)}" for key, value in event["fields"].items())
    return f"{time_text(int(event['time_ms']))} {clean(str(event['name']))} {fields}".rstrip()


def _word(value: Any) -> str:
    text = value if isinstance(value, str) else dumps(value)
    return clean(text if text and " " not in text else dumps(text))


@command(app, example="events\nevents --match 'node.*' --limit 20 --json\nevents -f")
def events(
    session: Session,
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Go on with new events until Ctrl-C.")] = False,
    match: Annotated[
        list[str] | None,
        typer.Option("--match", "-m", metavar="NAME", help="Only these names or patterns; several may be given."),
    ] = None,
    limit: Annotated[int, typer.Option("--limit", "-n", min=0, max=1000, help="How many old events at most.")] = 50,
) -> None:
    """Show the events this node remembers since it started, the newest last.

    With -f and --json each line on stdout is a document of its own.
    """
    patterns = match or ["*"]
    with Controller(session.home) as controller:
        known = controller.ask("events.list", {"names": patterns})["events"]
        shown = known[-limit:] if limit else []
        if not follow:
            session.result({"events": shown}, lambda: "\n".join(map(_line, shown)))
            if not shown:
                session.say("nothing of the kind happened since this node started")
                session.next("events -f")
            return
        after = known[-1]["sequence"] if known else 0
        with contextlib.suppress(KeyboardInterrupt):
            for event in _both(shown, controller, patterns, after):
                sys.stdout.write((dumps(event) if session.json else _line(event)) + "\n")
                sys.stdout.flush()


def _both(
    first: list[dict[str, Any]], controller: Controller, patterns: list[str], after: int
) -> Iterator[dict[str, Any]]:
    from osiris_mesh.codec import unpack  # noqa: PLC0415 - following alone needs it

    yield from first
    for message in controller.messages("events.follow", {"names": patterns, "after": after}):
        yield unpack(message)
