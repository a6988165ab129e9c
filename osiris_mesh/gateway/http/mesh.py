"""Mesh, node and ledger: what they are, and what they can be told."""

from __future__ import annotations

from typing import Any

import msgspec

from osiris_mesh.errors import NotFound, UsageError
from osiris_mesh.function.name import qualified
from osiris_mesh.gateway.http import types
from osiris_mesh.gateway.http.changes import record
from osiris_mesh.gateway.http.route import Ask, Output
from osiris_mesh.gateway.http.seen import rows_seen, sets_settings, sight_of
from osiris_mesh.ledger.entry import Entry
from osiris_mesh.ledger.kinds import ConfigSet, MemberRemove, MemberRole, read
from osiris_mesh.ledger.outcome import Outcome, Refused
from osiris_mesh.ledger.values import is_guarded

__all__ = [
    "block",
    "blocks",
    "doctor",
    "drain",
    "health",
    "leave",
    "members",
    "metrics",
    "overview",
    "prometheus",
    "remove_member",
    "set_member_role",
    "status",
    "stop",
    "sync",
    "verify",
]


async def health(ask: Ask) -> Output:
    """Answer 200 while this controller serves, 503 while it drains, stops or has no quorum to start with."""
    state = ask.parts.node.status()["state"]
    return Output(msgspec.json.encode({"state": state}), status=200 if state == "ready" else 503)


async def status(ask: Ask) -> Any:
    """Return how the mesh stands."""
    found = ask.parts.node.status()
    return found | {"functions": rows_seen(ask, found["functions"], "name")}


async def overview(ask: Ask) -> Any:
    """Return nodes and functions with their figures."""
    found = ask.parts.overview()
    return found | {"functions": rows_seen(ask, found["functions"], "name")}


async def members(ask: Ask) -> Any:
    """Return the members."""
    return {"members": ask.parts.node.status()["members"]}


def _peer(ask: Ask) -> str:
    peer = ask.names["peer"]
    if peer not in ask.parts.book.state.members:
        raise NotFound(f"no member has the peer id {peer[:80]}", fix="GET /v1/members lists them")
    return peer


async def remove_member(ask: Ask) -> types.Changed:
    """Remove a member: every node cuts its links."""
    receipt = await record(ask, [MemberRemove(_peer(ask))], ask.body.entries)
    return types.Changed(receipt.height)


async def set_member_role(ask: Ask) -> types.Changed:
    """Say what a member may become."""
    receipt = await record(ask, [MemberRole(_peer(ask), ask.body.role)], ask.body.entries)
    return types.Changed(receipt.height)


async def doctor(ask: Ask) -> Any:
    """Return what is wrong with this node."""
    return {"checks": await ask.parts.node.diagnose()}


async def sync(ask: Ask) -> Any:
    """Catch up with the mesh."""
    return await ask.parts.node.sync()


async def drain(ask: Ask) -> Any:
    """Take no more work."""
    return await ask.parts.node.drain()


async def leave(ask: Ask) -> Any:
    """Leave the mesh."""
    return await ask.parts.node.leave()


async def stop(ask: Ask) -> Any:
    """Begin to stop."""
    return ask.parts.node.request_stop()


async def metrics(ask: Ask) -> Any:
    """Return figures of calls."""
    name = qualified(ask.query.name) if ask.query.name else ""
    if name and not (name in ask.parts.book.state.functions and sight_of(ask).sees(name)):
        raise NotFound(f"there is no function {name}", fix="GET /v1/functions lists what there is")
    return {"samples": rows_seen(ask, ask.parts.functions.metrics(name), "function")}


async def prometheus(ask: Ask) -> Output:
    """Return the exposition for Prometheus."""
    sight = sight_of(ask)
    media, body = await ask.parts.metrics(None if sight.whole else sight.sees)
    return Output(body, media)


async def blocks(ask: Ask) -> Any:
    """Return blocks of the ledger; what an entry says of functions the bearer may not know of is withheld."""
    return {"blocks": ask.parts.book.log(ask.query.start, ask.query.limit, sight_of(ask).entry)}


async def block(ask: Ask) -> Any:
    """Return one block with every field of its entries."""
    text = ask.names["height"]
    if not (text.isascii() and text.isdigit() and len(text) <= 15):
        raise UsageError(f"{text[:40]!r} is not a height", fix="a number from 1")
    sight, whole = sight_of(ask), sets_settings(ask)

    def shown(entry: Entry | None, outcome: Outcome) -> bool:
        return sight.entry(entry, outcome) and (whole or not _is_guarded(entry))

    return ask.parts.book.show(int(text), shown)


def _is_guarded(entry: Entry | None) -> bool:
    """Say whether an entry sets what is told to those alone who may set it."""
    if entry is None or entry.kind != ConfigSet.KIND:
        return False
    try:
        body = read(entry.kind, entry.body)
    except Refused:
        return True
    return isinstance(body, ConfigSet) and is_guarded(body.key)


async def verify(ask: Ask) -> Any:
    """Check the whole stored chain."""
    return await ask.parts.book.verify()
