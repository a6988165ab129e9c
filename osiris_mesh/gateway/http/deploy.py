"""Deployments: a bundle as a client built it, or one built here from a source, which is parsed and never run.

Building is :mod:`osiris_mesh.gateway.building`'s: a process of its own for each.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import replace
from typing import Any, Final

from osiris_mesh.errors import Conflict, NotFound, RemoteProtocolError, UsageError
from osiris_mesh.gateway import function_keys
from osiris_mesh.gateway.building import FIRST_VERSION, Job
from osiris_mesh.gateway.deployment import Ready, make_ready
from osiris_mesh.gateway.http import types
from osiris_mesh.gateway.http.changes import prepare, propose, refusal
from osiris_mesh.gateway.http.functions import record_of
from osiris_mesh.gateway.http.route import BUNDLE, Ask
from osiris_mesh.gateway.versions import Choice, Variants, choose
from osiris_mesh.gateway.views import function_view
from osiris_mesh.ledger.kinds import Body, FunctionActivate, FunctionPublish
from osiris_mesh.runtime.bundle import Bundle

__all__ = ["deploy", "list_settings", "reset_settings", "set_settings", "store"]

_TRIES: Final = 4


async def store(ask: Ask) -> types.BundleStored:
    """Put a bundle into the library of this node."""
    bundle = await _parse(ask.body)
    ask.bearer.require("function.deploy", bundle.spec.name)
    digest = await ask.parts.functions.store(bundle.data)
    return types.BundleStored(digest.hex(), bundle.spec.name, bundle.spec.version)


async def deploy(ask: Ask) -> types.Deployment:
    """Deploy a bundle, a stored one, or the functions of a source."""
    if ask.media == BUNDLE:
        bundle = await _parse(ask.body)
        return types.Deployment([await _deploy(ask, bundle, bundle.spec.version, None)])
    body: types.DeployBody = ask.body
    if [bool(body.source), bool(body.files), bool(body.digest)].count(True) != 1:
        raise UsageError("give one of: a source, files, the digest of a stored bundle")
    if body.digest:
        data = await ask.parts.functions.load(bytes.fromhex(body.digest))
        bundle = await _parse(data)
        return types.Deployment([await _deploy(ask, bundle, bundle.spec.version, body.entries)])
    if body.entries is not None:
        raise UsageError(
            "what is built here can't be signed elsewhere", fix="build the bundle, store it, and send its digest"
        )
    bundles = await ask.parts.builds.run(_job(body))
    for bundle in bundles:
        ask.bearer.require("function.deploy", bundle.spec.name)
    return types.Deployment([await _deploy(ask, bundle, body.version or None, None) for bundle in bundles])


async def _parse(data: bytes) -> Bundle:
    try:
        return await asyncio.to_thread(Bundle.parse, data)
    except RemoteProtocolError as error:
        raise UsageError(
            f"the body is not a bundle: {error.what}", fix="build it with the SDK or the command line"
        ) from None


def _job(body: types.DeployBody) -> Job:
    given = body.overrides or types.OverrideFields()
    try:
        files = dict(body.files) or {body.filename: body.source.encode()}
    except UnicodeEncodeError:
        raise UsageError("the source is not text") from None
    return Job(
        files=files,
        folder=body.folder,
        whole=bool(body.files),
        function=body.function,
        name=body.name,
        namespace=body.namespace or ("default" if not body.name and not body.folder else ""),
        version=body.version or FIRST_VERSION,
        runtime=body.runtime,
        overrides={name: value for name in given.__struct_fields__ if (value := getattr(given, name)) is not None},
    ).checked()


async def _deploy(ask: Ask, built: Bundle, wanted: str | None, texts: Sequence[str] | None) -> types.Deployed:
    """Deploy one bundle: as the version wanted, or as the next patch if its code is not the active one's."""
    ask.bearer.require("function.deploy", built.spec.name)
    variants = Variants(built)
    for tried in range(_TRIES):
        choice = await choose(ask.parts.book.state, variants, wanted)
        if not choice.changed:
            return _deployed(choice, None, None)
        try:
            ready, height = await _publish(ask, choice.bundle, texts)
        except Conflict as error:
            # Somebody else's deployment took the number in between: the next one is as good.
            if wanted is not None or error.details.get("refusal") != "exists" or tried == _TRIES - 1:
                raise
            continue
        return _deployed(choice, ready, height)
    raise AssertionError("unreachable")  # pragma: no cover - the last try returns or raises


def _deployed(choice: Choice, ready: Ready | None, height: int | None) -> types.Deployed:
    bundle = choice.bundle
    done = types.Deployed(bundle.spec.name, bundle.spec.version, bundle.digest.hex(), choice.changed, None, height)
    if ready is not None:
        done.tests, done.copies, done.nodes = ready.tests, ready.copies, ready.nodes
    return done


async def _publish(ask: Ask, bundle: Bundle, texts: Sequence[str] | None) -> tuple[Ready, int]:
    functions = ask.parts.functions
    spec = bundle.spec
    bodies: list[Body] = [FunctionPublish(spec.to_wire()), FunctionActivate(spec.name, spec.version, spec.digest)]
    entries = prepare(ask, bodies, texts)
    await functions.store(bundle.data)
    ready = await make_ready(ask.parts.book.state, functions, spec, entries, refusal, ask.parts.clock)
    return ready, (await propose(ask, entries)).height


# Settings of one function: another version with the same code.


async def list_settings(ask: Ask) -> Any:
    """Return the settings of a function's active version."""
    found = record_of(ask, ask.names["name"])
    rows = function_keys.rows(function_view(found, {}, {}))
    return {"name": found.name, "version": found.active, "settings": rows}


async def set_settings(ask: Ask) -> types.Deployed:
    """Deploy the active version's code anew with other settings."""
    changes = {
        name: value for name in ask.body.__struct_fields__ if (value := getattr(ask.body, name)) is not types.UNSET
    }
    if not changes:
        raise UsageError("nothing to change was given", fix=f"there are {', '.join(function_keys.FIELDS)}")
    return await _redeploy(ask, changes)


async def reset_settings(ask: Ask) -> types.Deployed:
    """Deploy the active version's code anew with the default of every setting."""
    return await _redeploy(ask, dict.fromkeys(function_keys.FIELDS))


async def _redeploy(ask: Ask, changes: dict[str, str | None]) -> types.Deployed:
    found = record_of(ask, ask.names["name"])
    if found.active is None:
        raise NotFound(f"{found.name} has no active version", fix="activate one first")
    values: dict[str, Any] = function_keys.parsed(changes)
    there = await _parse(await ask.parts.functions.load(found.versions[found.active].spec.digest))
    spec = replace(there.spec, digest=b"", **values)
    changed = await asyncio.to_thread(
        Bundle.make, spec, there.files, lock=there.lock, tests=there.tests, roots=there.roots
    )
    return await _deploy(ask, changed, None, None)
