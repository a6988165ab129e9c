"""Deployments: a bundle as a client built it, or one built here from a source, which is parsed and never run.

Building happens in a thread, a few at a time: it reads a syntax tree, and asks the package index for the lock of what
the source depends on.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Final

from osiris_mesh.errors import (
    Conflict,
    OsirisError,
    Overloaded,
    RemoteProtocolError,
    UsageError,
)
from osiris_mesh.function.name import Version
from osiris_mesh.gateway.deployment import Ready, make_ready
from osiris_mesh.gateway.http import types
from osiris_mesh.gateway.http.changes import prepare, propose, refusal
from osiris_mesh.gateway.http.route import BUNDLE, Ask
from osiris_mesh.ledger.kinds import Body, FunctionActivate, FunctionPublish
from osiris_mesh.runtime.bundle import Bundle

if TYPE_CHECKING:
    from osiris_mesh.function.spec import FunctionSpec

__all__ = ["Builds", "deploy", "store"]

_FIRST: Final = "1.0.0"
_TRIES: Final = 32


class Builds:
    """Counts what is built at a time.

    Args:
        most: Builds at a time; one more is refused.
    """

    def __init__(self, most: int) -> None:
        self._most = most
        self._now = 0

    async def run(self, build: Callable[[], list[Bundle]]) -> list[Bundle]:
        """Build in a thread.

        Raises:
            Overloaded: Too many are under way.
            UsageError: It can't be built.
        """
        if self._now >= self._most:
            raise Overloaded(f"{self._most} functions are being built already", fix="try again", retry_after_ms=2000)
        self._now += 1
        try:
            return await asyncio.to_thread(build)
        finally:
            self._now -= 1


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
    if bool(body.source) == bool(body.digest):
        raise UsageError("give either a source or the digest of a stored bundle")
    if body.digest:
        data = await ask.parts.functions.load(bytes.fromhex(body.digest))
        bundle = await _parse(data)
        return types.Deployment([await _deploy(ask, bundle, bundle.spec.version, body.entries)])
    if body.entries is not None:
        raise UsageError(
            "what is built here can't be signed elsewhere", fix="build the bundle, store it, and send its digest"
        )
    bundles = await ask.parts.builds.run(lambda: _build(body))
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


def _build(body: types.DeployBody) -> list[Bundle]:
    from osiris_mesh.runtime.build import Overrides, build_bundles  # noqa: PLC0415 - most controllers never build

    given = body.overrides or types.OverrideFields()
    with TemporaryDirectory(prefix="osiris-build-") as folder:
        path = Path(folder) / body.filename
        try:
            path.write_text(body.source, "utf-8")
            return build_bundles(
                path,
                function=body.function or None,
                name=body.name or None,
                namespace=body.namespace or ("default" if not body.name else None),
                version=body.version or _FIRST,
                runtime=body.runtime or None,
                overrides=Overrides(**{name: getattr(given, name) for name in given.__struct_fields__}),
            )
        except (RecursionError, MemoryError, UnicodeEncodeError):
            raise UsageError("the source can't be parsed: it is nested too deep, or not text") from None
        except OsirisError as error:
            # The folder's name is nobody's business, and changes with every request.
            raise type(error)(
                error.what.replace(f"{folder}/", ""), fix=error.fix.replace(f"{folder}/", ""), **error.details
            ) from None


async def _deploy(ask: Ask, built: Bundle, wanted: str | None, texts: Sequence[str] | None) -> types.Deployed:
    """Deploy one bundle: as the version wanted, or as the next patch if its code is not the active one's."""
    name = built.spec.name
    ask.bearer.require("function.deploy", name)
    made: dict[str, Bundle] = {built.spec.version: built}

    def built_as(version: str) -> Bundle:
        if version not in made:
            spec = replace(built.spec, version=version)
            made[version] = Bundle.make(spec, built.files, lock=built.lock, tests=built.tests, roots=built.roots)
        return made[version]

    version, changed = _plan(ask, name, wanted, lambda version: built_as(version).digest)
    if not changed:
        return types.Deployed(name, version, built_as(version).digest.hex(), changed=False, tests=None, height=None)
    for _ in range(_TRIES):
        bundle = built_as(version)
        try:
            ready, height = await _publish(ask, bundle, texts)
        except Conflict as error:
            # A removed function's numbers stay taken: they never mean other code again.
            if wanted is not None or error.details.get("refusal") != "exists":
                raise
            version = str(Version.parse(version).next_patch())
            continue
        return types.Deployed(
            name,
            version,
            bundle.digest.hex(),
            changed=True,
            tests=ready.tests,
            height=height,
            copies=ready.copies,
            nodes=ready.nodes,
        )
    raise Conflict(f"{name} has no free version near {version}", fix="give one in the field version")


def _plan(ask: Ask, name: str, wanted: str | None, digest_as: Callable[[str], bytes]) -> tuple[str, bool]:
    """Return the version to deploy, and whether there is anything to do."""
    record = ask.parts.book.state.functions.get(name)
    digests = {} if record is None else {key: each.spec.digest for key, each in record.versions.items()}
    active = None if record is None else record.active
    if wanted is not None:
        there = digests.get(wanted)
        if there is not None and there != digest_as(wanted):
            raise Conflict(
                f"version {wanted} of {name} is there with other code, and a version never changes",
                fix="give it a new version",
                version=wanted,
            )
        return wanted, there is None or active != wanted
    if active is not None and digests[active] == digest_as(active):
        return active, False
    if not digests:
        return _FIRST, True
    return str(max(Version.parse(version) for version in digests).next_patch()), True


async def _publish(ask: Ask, bundle: Bundle, texts: Sequence[str] | None) -> tuple[Ready, int]:
    functions = ask.parts.functions
    spec: FunctionSpec = bundle.spec
    bodies: list[Body] = [FunctionPublish(spec.to_wire()), FunctionActivate(spec.name, spec.version, spec.digest)]
    entries = prepare(ask, bodies, texts)
    await functions.store(bundle.data)
    ready = await make_ready(ask.parts.book.state, functions, spec, entries, refusal, ask.parts.clock)
    return ready, (await propose(ask, entries)).height
