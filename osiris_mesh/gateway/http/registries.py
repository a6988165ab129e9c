"""Registries: which ones this node asks, and what it knows through them.

What a registry is reached with may be a file of the node's machine (a token, a folder, a certificate): such a registry
is added on that machine, lest somebody who is let in here had the node read its files and carry them elsewhere.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from osiris_mesh.errors import OsirisError, UsageError
from osiris_mesh.function.name import FunctionName
from osiris_mesh.gateway.http import types
from osiris_mesh.gateway.http.route import Ask
from osiris_mesh.gateway.http.seen import rows_seen, sight_of
from osiris_mesh.registry.layout import name_at
from osiris_mesh.registry.roster import Entry

__all__ = ["add", "discover", "evidence", "find", "list_", "order", "remove", "resolve", "show", "sync", "usage"]

_SHOWN: Final = frozenset({"branch", "gateways"})
"""Options that name nothing of the node's machine."""
_HERE: Final = "add it on the node's machine: osiris-mesh registry add"


async def list_(ask: Ask) -> Any:
    """Return the registries in the order of precedence, and how they are."""
    return _shown(ask, await ask.parts.registries.ask("list", {}))


async def add(ask: Ask) -> Any:
    """Have this node ask a registry, once it was fetched and is believed."""
    body = ask.body
    options = {"branch": body.branch, "gateways": ",".join(body.gateways)}
    given = tuple((key, value) for key, value in options.items() if value)
    entry = Entry(body.name, body.url, body.pin, tuple(body.routes), given).check()
    if entry.is_here:
        raise UsageError(f"{entry.url[:200]} is a place of the node's own machine", fix=_HERE)
    made = await ask.parts.registries.ask("add", {"entry": entry.to_json(), "first": body.first})
    return {"registry": _row(ask, made["registry"])}


async def remove(ask: Ask) -> Any:
    """Forget a registry and what was seen of it."""
    return await ask.parts.registries.ask("remove", {"name": ask.names["registry"]})


async def order(ask: Ask) -> Any:
    """Give registries another precedence."""
    return _shown(ask, await ask.parts.registries.ask("order", {"names": ask.body.names}))


async def sync(ask: Ask) -> Any:
    """Fetch registries now, and verify what they say."""
    return _shown(ask, await ask.parts.registries.ask("sync", {"name": ask.body.registry}))


async def resolve(ask: Ask) -> Any:
    """Return what a reference comes to, and why."""
    query = ask.query
    return await ask.parts.registries.ask(
        "resolve",
        {
            "name": ask.names["name"],
            "explain": query.explain,
            "context": query.context,
            "timeout_ms": query.timeout_ms,
        },
    )


async def show(ask: Ask) -> Any:
    """Return the history of a name, statement by statement."""
    return await ask.parts.registries.ask("show", {"name": ask.names["name"]})


async def find(ask: Ask) -> Any:
    """Return names of registries that the bearer may read about."""
    may = ask.bearer.principal.may
    found = await ask.parts.registries.ask("find", {"pattern": ask.query.pattern, "limit": ask.query.limit})
    return {"names": [row for row in found["names"] if may("function.read", row["name"])]}


async def evidence(ask: Ask) -> Any:
    """Return what registries said that was refused, of names the bearer may know of."""
    sight = sight_of(ask)
    found = await ask.parts.registries.ask("evidence", {"name": ask.query.registry})
    # Lines are quoted in it: of what is about no name, nobody knows which names they have.
    return {"evidence": [row for row in found["evidence"] if sight.whole or sight.sees(_subject(str(row["subject"])))]}


async def usage(ask: Ask) -> Any:
    """Return what calls of providers amount to."""
    query = ask.query
    wanted: dict[str, Any] = {"provider": query.provider, "caller": query.caller, "since_ms": query.since_ms}
    if query.until_ms is not None:
        wanted["until_ms"] = query.until_ms
    found = await ask.parts.registries.ask("usage", wanted)
    sight = sight_of(ask)
    rows = rows_seen(ask, found["usage"], "function")
    # A function that called is named as its caller.
    return {"usage": [row for row in rows if "/" not in row["caller"] or sight.sees(str(row["caller"]))]}


async def discover(ask: Ask) -> Any:
    """Return what a provider offers."""
    return await ask.parts.registries.ask("discover", {"endpoint": ask.body.endpoint})


def _shown(ask: Ask, answer: Mapping[str, Any]) -> dict[str, Any]:
    return {"registries": [_row(ask, row) for row in answer["registries"]]}


def _row(ask: Ask, row: Mapping[str, Any]) -> dict[str, Any]:
    """Return a registry as it is told: without names of files, and of routes those the bearer may know of."""
    sight = sight_of(ask)
    shown = {
        **row,
        "options": {key: value for key, value in row["options"].items() if key in _SHOWN},
        "routes": [pattern for pattern in row["routes"] if sight.whole or sight.sees(pattern)],
    }
    if not sight.whole and shown.get("error"):
        shown["error"] = "it can't be fetched, or is not believed"
    return {name: shown[name] for name in types.RegistryBody.__struct_fields__ if name in shown}


def _subject(text: str) -> str:
    """Return the function that evidence is about; a text that no pattern fits if it is about none."""
    try:
        named = name_at(text)
        return str(named if named is not None else FunctionName.parse(text))
    except OsirisError:
        return ""
