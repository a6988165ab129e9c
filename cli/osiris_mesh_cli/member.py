"""``member list remove``: who belongs to the mesh."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from osiris_mesh.errors import NotFound, UsageError
from osiris_mesh_cli.control import Controller
from osiris_mesh_cli.session import Session, command, noun
from osiris_mesh_cli.tables import table

app = noun("Members of the mesh.")


def members_table(members: list[dict[str, Any]], leader: object) -> str:
    """Return the members for people."""
    rows = [
        [
            member["name"],
            member["peer_id"],
            member["state"],
            member["role"],
            "leader" if member["peer_id"] == leader else "voter" if member["voter"] else "-",
        ]
        for member in members
    ]
    return table(["NAME", "PEER", "STATE", "ROLE", "VOTES"], rows)


@command(app, example="member list", name="list")
def list_(session: Session) -> None:
    """List the members, as the ledger names them and as they are now."""
    with Controller(session.home) as controller:
        status = controller.ask("node.status")
    session.result({"members": status["members"]}, lambda: members_table(status["members"], status.get("leader")))


@command(app, example="member remove node-3")
def remove(
    session: Session,
    peer: Annotated[str, typer.Argument(metavar="PEER", help="Peer id, the end of one, or a name that is unique.")],
) -> None:
    """Remove a member: every node cuts its links at once."""
    from osiris_mesh.ledger.kinds import MemberRemove  # noqa: PLC0415 - only this command needs it

    with Controller(session.home) as controller:
        members = controller.ask("node.status")["members"]
        found = find(members, peer)
        answer = controller.submit(MemberRemove(found["peer_id"]))
    session.result(
        {"peer_id": found["peer_id"], "removed": True, "height": answer["height"]},
        f"removed {found['name']} ({found['peer_id']})",
    )
    session.next("member list")


def find(members: list[dict[str, Any]], wanted: str) -> dict[str, Any]:
    """Return the one member meant by a peer id, the end of one (six letters at least), or a name.

    Raises:
        NotFound: No member is.
        UsageError: Several are.
    """
    tail = wanted.lstrip("…")
    found = [member for member in members if wanted in {member["peer_id"], member["name"]}]
    if not found and len(tail) >= 6:
        found = [member for member in members if member["peer_id"].endswith(tail)]
    if not found:
        raise NotFound(f"no member is called {wanted!r}", fix="see: osiris-mesh member list")
    if len(found) > 1:
        raise UsageError(f"several members are called {wanted!r}", fix="name one by its peer id")
    return found[0]
