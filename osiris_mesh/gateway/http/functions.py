"""Functions: what there is, and every change of it but a deployment."""

from __future__ import annotations

from typing import Any, Final

from osiris_mesh.errors import Conflict, NotFound
from osiris_mesh.function.name import qualified
from osiris_mesh.function.signature import Signature
from osiris_mesh.gateway.http import types
from osiris_mesh.gateway.http.changes import record
from osiris_mesh.gateway.http.route import Ask
from osiris_mesh.gateway.views import function_row, function_view
from osiris_mesh.ledger.kinds import FunctionActivate, FunctionDeprecate, FunctionRemove
from osiris_mesh.ledger.records import FunctionRecord

__all__ = ["activate", "deprecate", "describe", "list_", "record_of", "remove", "resolve", "rollback"]

# Of a function of a registry.
_BEYOND: Final = ("source", "age", "stale", "deprecated", "requirements", "versions", "providers", "ttl_ms")


def record_of(ask: Ask, name: str) -> FunctionRecord:
    """Return a function's record.

    Raises:
        UsageError: Not a name.
        NotFound: No function has it.
    """
    full = qualified(name)
    found = ask.parts.book.state.functions.get(full)
    if found is None:
        raise NotFound(f"there is no function {full}", fix="GET /v1/functions lists what there is", name=full)
    return found


async def list_(ask: Ask) -> Any:
    """Return the functions the bearer may read about."""
    functions, may = ask.parts.functions, ask.bearer.principal.may
    rows = [
        function_row(record, sum(functions.instances(record.name).values()))
        for record in ask.parts.book.state.functions.values()
        if may("function.read", record.name)
    ]
    return {"functions": sorted(rows, key=lambda row: str(row["name"]))}


async def describe(ask: Ask) -> Any:
    """Return everything about one function."""
    found = record_of(ask, ask.names["name"])
    functions = ask.parts.functions
    return function_view(found, functions.instances(found.name), functions.local(found.name))


async def resolve(ask: Ask) -> types.Resolved:
    """Return which version a name means."""
    facts = await ask.parts.calls.look_up(ask.names["name"], caller=ask.bearer.caller, headers={})
    signature = Signature.from_wire(facts["signature"], facts["name"])
    return types.Resolved(
        name=facts["name"],
        version=facts["version"],
        digest=facts["digest"].hex(),
        binding=facts["binding"].hex(),
        signature=signature.to_json(),
        wire=signature.to_wire(),
        description=facts["description"],
        timeout_ms=facts["timeout_ms"],
        idempotent=facts["idempotent"],
        **{key: facts[key] for key in _BEYOND if key in facts},
    )


async def remove(ask: Ask) -> types.Changed:
    """Remove a function, or one version of it."""
    found = record_of(ask, ask.names["name"])
    body = ask.body
    receipt = await record(ask, [FunctionRemove(found.name, ask.query.version)], body.entries)
    return types.Changed(receipt.height)


async def activate(ask: Ask) -> types.Changed:
    """Make a version the one calls without a version go to."""
    found = record_of(ask, ask.names["name"])
    _version(found, ask.body.version)
    receipt = await record(ask, [FunctionActivate(found.name, ask.body.version)], ask.body.entries)
    return types.Changed(receipt.height)


async def rollback(ask: Ask) -> types.Changed:
    """Make an earlier version the active one again."""
    found = record_of(ask, ask.names["name"])
    target = ask.body.to or _version_before(found)
    _version(found, target)
    receipt = await record(ask, [FunctionActivate(found.name, target)], ask.body.entries)
    return types.Changed(receipt.height)


async def deprecate(ask: Ask) -> types.Changed:
    """Say that a version should not be used any longer."""
    found = record_of(ask, ask.names["name"])
    _version(found, ask.body.version)
    receipt = await record(ask, [FunctionDeprecate(found.name, ask.body.version)], ask.body.entries)
    return types.Changed(receipt.height)


def _version(found: FunctionRecord, version: str) -> None:
    if version not in found.versions:
        there = ", ".join(list(found.versions)[-8:])
        raise NotFound(f"there is no {found.name} {version[:64]}", fix=f"there are {there}")


def _version_before(found: FunctionRecord) -> str:
    versions = list(found.versions)
    place = versions.index(found.active) if found.active in found.versions else len(versions)
    if place == 0:
        raise Conflict(f"{found.name} has no version before {found.active}", fix="name one in the body's field to")
    return versions[place - 1]
