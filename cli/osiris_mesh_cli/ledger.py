"""``ledger log show verify``: what was recorded, by whom, and whether it still holds."""

from __future__ import annotations

from typing import Annotated, Any, Final

import typer

from osiris_mesh.errors import Unavailable
from osiris_mesh_cli.control import Controller
from osiris_mesh_cli.session import Session, command, noun
from osiris_mesh_cli.tables import clean, pairs, table, time_text

app = noun("The ledger: hash-chained blocks of signed entries.")
_VERIFY_SECONDS: Final = 600.0


def _row(entry: dict[str, Any]) -> list[object]:
    outcome = "" if entry["accepted"] else f"REFUSED: {entry['reason']}"
    who = str(entry["author_name"] or entry["author"][:16])
    what = f"{entry['summary']} {outcome}".strip()
    return [entry["height"], time_text(int(entry["time_ms"])), entry["kind"], who, what]


@command(app, example="ledger log --limit 5\nledger log --from 12 --json")
def log(
    session: Session,
    start: Annotated[
        int | None, typer.Option("--from", metavar="HEIGHT", min=1, help="First block; the last ones if not given.")
    ] = None,
    limit: Annotated[int, typer.Option("--limit", "-n", min=1, max=1000, help="How many blocks at most.")] = 20,
) -> None:
    """Show the entries of the last blocks, or of those from a height on, the newest last."""
    with Controller(session.home) as controller:
        now = controller.ask("node.status")
        # From 0 means the last ones.
        blocks = controller.ask("ledger.log", {"from": start or 0, "limit": limit})["blocks"]
    entries = [entry for block in blocks for entry in block["entries"]]
    session.result(
        {"height": now["height"], "tip": now["tip"], "entries": entries, "blocks": blocks},
        lambda: table(["HEIGHT", "TIME", "KIND", "BY", "WHAT"], [_row(entry) for entry in entries]),
    )


@command(app, example="ledger show 12")
def show(
    session: Session, height: Annotated[int, typer.Argument(metavar="HEIGHT", min=1, help="Height of the block.")]
) -> None:
    """Show one block with all its entries."""
    with Controller(session.home) as controller:
        value = controller.ask("ledger.show", {"height": height})

    def text() -> str:
        facts = [(key, item) for key, item in value.items() if key != "entries"]
        parts = [pairs(facts)]
        for entry in value["entries"]:
            inside = [(key, item) for key, item in entry.items() if key not in {"kind", "body"}]
            parts.append(f"{clean(entry['kind'])}\n{_indented(inside + _flat(entry.get('body', {}), 'body.'))}")
        return "\n\n".join(part for part in parts if part)

    session.result(value, text)


def _flat(value: dict[str, Any], path: str) -> list[tuple[str, Any]]:
    """Return a map's items under dotted names, maps in it included."""
    items: list[tuple[str, Any]] = []
    for key, item in value.items():
        items += _flat(item, f"{path}{key}.") if isinstance(item, dict) else [(f"{path}{key}", item)]
    return items


def _indented(items: list[tuple[str, Any]]) -> str:
    return "\n".join(f"  {line}" for line in pairs(items).splitlines())


@command(app, example="ledger verify")
def verify(session: Session) -> int:
    """Check every hash, signature and link of this node's copy of the chain; exit code 1 if one does not hold.

    Where no controller runs, the folder itself is checked.
    """
    with session.busy("checking the chain"):
        value = _verified(session)

    def text() -> str:
        if value["valid"]:
            offline = ", of the stored files; no controller runs" if value["offline"] else ""
            return f"valid: height {value['height']}, {value['entries']} entries, tip {value['tip'][:16]}…{offline}"
        return "\n".join(["NOT VALID", *(f"  {clean(str(problem))}" for problem in value["problems"])])

    session.result(value, text)
    if not value["valid"]:
        session.say("fix: stop this node, move the folder ledger in its home away, start it: the others have the chain")
    return 0 if value["valid"] else 1


def _verified(session: Session) -> dict[str, Any]:
    from osiris_mesh_cli.process import is_held  # noqa: PLC0415 - this command alone needs it

    home = session.home
    try:
        with Controller(home) as controller:
            return {"offline": False, **controller.ask("ledger.verify", timeout=_VERIFY_SECONDS)}
    except Unavailable:
        # A controller that was killed leaves its socket behind, but not the lock.
        if is_held(home) or not any(home.ledger.glob("*")):
            raise
    from osiris_mesh.ledger.verify import verify_folder  # noqa: PLC0415 - brings the whole ledger
    from osiris_mesh.node.options import MeshFile  # noqa: PLC0415

    mesh = MeshFile.load(home)
    return {"offline": True, **verify_folder(home.ledger, None if mesh is None else mesh.mesh_id).view()}
