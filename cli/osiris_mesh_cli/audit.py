"""``audit``: who changed what, when, and from where."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from osiris_mesh.clock import SYSTEM
from osiris_mesh_cli.control import Controller
from osiris_mesh_cli.moment import moment
from osiris_mesh_cli.session import Session, command, noun
from osiris_mesh_cli.tables import table, time_text

app = noun("The audit trail.")


@command(
    app,
    example="audit\naudit --user johndoe --since 1h\n"
    "audit --kind config. --limit 5 --json\naudit --refused --subject math/add",
)
def audit(
    session: Session,
    user: Annotated[str, typer.Option("--user", metavar="NAME", help="Only what this user or token did.")] = "",
    kind: Annotated[
        str,
        typer.Option(
            "--kind", metavar="KIND", help="Only this kind of entry, or kinds that begin so: config. with the dot."
        ),
    ] = "",
    subject: Annotated[
        str,
        typer.Option(
            "--subject",
            metavar="TEXT",
            help="Only about this function, user, member or setting; text* for a beginning.",
        ),
    ] = "",
    since: Annotated[
        str | None, typer.Option("--since", metavar="TIME", help="Not older: 10m, 2d, or 2025-01-31T12:00.")
    ] = None,
    until: Annotated[str | None, typer.Option("--until", metavar="TIME", help="Not newer; as --since.")] = None,
    refused: Annotated[bool, typer.Option("--refused", help="Only what was refused.")] = False,
    before: Annotated[
        int | None,
        typer.Option("--before", metavar="INDEX", min=1, help="Only entries before this one: `next` of --json."),
    ] = None,
    limit: Annotated[int, typer.Option("--limit", "-n", min=1, max=1000, help="How many at most.")] = 100,
) -> None:
    """Show changes of the mesh from the ledger, the newest last: who, what, when, from which node."""
    body: dict[str, Any] = {"limit": limit}
    body |= {key: word for key, word in (("user", user), ("kind", kind), ("subject", subject)) if word}
    now = SYSTEM.time_ms()
    if since is not None:
        body["since_ms"] = moment(since, now)
    if until is not None:
        body["until_ms"] = moment(until, now)
    if before is not None:
        body["before"] = before
    if refused:
        body["refused"] = True
    found: list[dict[str, Any]] = []
    with Controller(session.home) as controller, session.busy("looking through the ledger"):
        while True:
            # A page may end early, so that nobody else waits for a long search.
            page = controller.ask("audit.list", {**body, "limit": limit - len(found)}, timeout=30)
            found += page["events"]
            last = page["next"]
            if last is None or len(found) >= limit:
                break
            body["before"] = last
    events = found[::-1]

    def text() -> str:
        rows = [
            [
                time_text(item["time_ms"]),
                _who(item),
                item["kind"],
                item["subject"] or item["summary"],
                "done" if item["accepted"] else f"REFUSED: {item['reason']}",
                item["node"],
            ]
            for item in events
        ]
        return table(["TIME", "WHO", "WHAT", "ABOUT", "OUTCOME", "FROM"], rows)

    session.result({"events": events, "next": last}, text)
    if not events:
        session.say("nothing of the kind is in the ledger")
    elif last is not None:
        session.next(f"audit --before {last} (for what came before)")


def _who(item: dict[str, Any]) -> str:
    who, owner = str(item["who"]), str(item.get("owner") or "")
    return f"{who} of {owner}" if owner and owner != who else who
