"""The control methods of functions: what there is, deployments and changes; over the Unix socket and clients' links.

Over the Unix socket the one who asks is the home's user, and what he may is decided by the entries he signs. Over a
client's link he is the holder of the client's key: he sees and does what his permissions say, asked here first, and the
entries he sends must be his own and about functions alone.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any, Final, Protocol

from osiris_mesh.clock import Clock
from osiris_mesh.codec import Limits, pack, unpack
from osiris_mesh.errors import Conflict, Denied, NotFound, OsirisError, UsageError
from osiris_mesh.function.name import qualified
from osiris_mesh.function.spec import FunctionSpec
from osiris_mesh.gateway import deployment
from osiris_mesh.gateway.building import MAX_SOURCE_BYTES, Job
from osiris_mesh.gateway.control import Book, entries_of, field_of, receipt_of
from osiris_mesh.gateway.control import Functions as Runtime
from osiris_mesh.gateway.versions import Variants, choose
from osiris_mesh.gateway.views import function_row, function_view
from osiris_mesh.ledger import kinds
from osiris_mesh.ledger.entry import Entry
from osiris_mesh.ledger.outcome import Outcome, Receipt, Refused
from osiris_mesh.ledger.records import FunctionRecord
from osiris_mesh.link import Audience, Request, Router, Stream
from osiris_mesh.runtime.bundle import Bundle

__all__ = ["FunctionMethods"]

_GRANT: Final = "use a client token made with --grant developer, or ask an administrator for the role"
_PROPOSE_SECONDS: Final = 10.0
_REQUEST: Final = Limits(size=MAX_SOURCE_BYTES + (8 << 20), depth=8)
_EITHER: Final = Audience.LOCAL | Audience.CLIENT
_CHANGES: Final = frozenset(
    {kinds.FunctionActivate.KIND, kinds.FunctionDeprecate.KIND, kinds.FunctionRemove.KIND},
)


class _Functions(Runtime, Protocol):
    async def store(self, data: bytes) -> bytes: ...


class _Builds(Protocol):
    async def run(self, job: Job) -> list[Bundle]: ...


class FunctionMethods:
    """Registers the methods and answers them.

    Args:
        router: The node's methods.
        book: Its ledger.
        functions: Its runtime.
        builds: Where bundles are built.
        clock: Time.
    """

    def __init__(self, router: Router, book: Book, functions: _Functions, builds: _Builds, clock: Clock) -> None:
        self._book = book
        self._functions = functions
        self._builds = builds
        self._clock = clock
        router.unary("function.list", self._list, allow=_EITHER)
        router.unary("function.describe", self._describe, allow=_EITHER)
        router.unary("function.build", self._build, allow=_EITHER)
        router.unary("function.deploy", self._deploy, allow=_EITHER)
        router.unary("function.change", self._change, allow=_EITHER)
        router.streaming("function.logs", self._logs, allow=Audience.LOCAL)

    # Who may.

    def _may(self, request: Request, permission: str) -> Callable[[str], bool]:
        """Return what says for which functions the caller has a permission."""
        if request.caller.audience is Audience.LOCAL:
            return lambda _name: True
        principal = self._book.state.principal(request.caller.public_key, self._clock.time_ms())
        return lambda name: principal.may(permission, name)

    def _require(self, request: Request, permission: str, name: str) -> None:
        if not self._may(request, permission)(name):
            raise Denied(
                f"the client has no permission {permission} for {name}",
                fix=_GRANT,
                permission=permission,
            )

    def _require_some(self, request: Request, permission: str) -> None:
        caller = request.caller
        if caller.audience is not Audience.LOCAL:
            principal = self._book.state.principal(caller.public_key, self._clock.time_ms())
            if not principal.may_some(permission):
                raise Denied(f"the client has no permission {permission}", fix=_GRANT, permission=permission)

    def _own(self, request: Request, entries: Sequence[bytes]) -> list[Entry]:
        """Return the entries; over a client's link he must have signed them himself."""
        found = [Entry.parse(data) for data in entries]
        if request.caller.audience is not Audience.LOCAL and any(
            entry.author != request.caller.public_key for entry in found
        ):
            raise Denied("a client sends entries it signed itself", fix="sign them with the key of the client token")
        return found

    # Methods.

    async def _list(self, request: Request) -> bytes:
        may = self._may(request, "function.read")
        rows = [
            function_row(record, sum(self._functions.instances(record.name).values()))
            for record in self._book.state.functions.values()
            if may(record.name)
        ]
        return pack({"functions": sorted(rows, key=lambda row: str(row["name"]))})

    async def _describe(self, request: Request) -> bytes:
        name = qualified(field_of(_map(request), "name", str))
        self._require(request, "function.read", name)
        record = self._record(name)
        return pack(function_view(record, self._functions.instances(name), self._functions.local(name)))

    async def _build(self, request: Request) -> bytes:
        """Build bundles from a source, store them here, and say what there is to sign."""
        job = dict(_map(request, _REQUEST))
        wanted = job.pop("version", "")
        if type(wanted) is not str:
            raise UsageError("the request's version is not a str")
        self._require_some(request, "function.deploy")
        asked = Job.from_wire(job)
        bundles = await self._builds.run(replace(asked, version=wanted) if wanted else asked)
        for bundle in bundles:
            self._require(request, "function.deploy", bundle.spec.name)
        rows = []
        for bundle in bundles:
            choice = await choose(self._book.state, Variants(bundle), wanted or None)
            spec = choice.bundle.spec
            if choice.changed:
                await self._functions.store(choice.bundle.data)
            rows.append({"spec": spec.to_wire(), "changed": choice.changed})
        return pack({"mesh_id": self._book.state.mesh_id, "functions": rows})

    async def _deploy(self, request: Request) -> bytes:
        body = _map(request)
        digest = field_of(body, "digest", bytes)
        entries = entries_of(body)
        spec = _published(self._own(request, entries), digest)
        self._require(request, "function.deploy", spec.name)
        ready = await deployment.make_ready(
            self._book.state, self._functions, spec, entries, _refusal, clock=self._clock
        )
        receipt = await self._propose(entries)
        return pack(receipt_of(receipt) | {"tests": ready.tests, "copies": ready.copies, "nodes": ready.nodes})

    async def _change(self, request: Request) -> bytes:
        """Put signed entries that activate, deprecate or remove functions into the ledger."""
        entries = entries_of(_map(request))
        found = self._own(request, entries)
        for outcome in deployment.check(self._book.state, found, self._clock.time_ms(), _CHANGES):
            if not outcome.accepted:
                raise _refusal(outcome)
        return pack(receipt_of(await self._propose(entries)))

    async def _logs(self, request: Request, stream: Stream) -> None:
        body = _map(request)
        name = field_of(body, "name", str, "")
        if name:
            name = qualified(name)
            self._record(name)
        await self._functions.logs(
            name,
            stream,
            tail=min(max(field_of(body, "tail", int, 100), 0), 10_000),
            follow=field_of(body, "follow", bool, default=False),
            since_ms=field_of(body, "since_ms", int, 0),
        )

    async def _propose(self, entries: Sequence[bytes]) -> Receipt:
        receipt = await self._book.propose(entries, timeout=_PROPOSE_SECONDS)
        for outcome in receipt.outcomes:
            if not outcome.accepted:
                raise _refusal(outcome)
        return receipt

    def _record(self, name: str) -> FunctionRecord:
        record = self._book.state.functions.get(name)
        if record is None:
            raise NotFound(f"there is no function {name}", fix="see what there is with: osiris-mesh list")
        return record


def _map(request: Request, limits: Limits | None = None) -> dict[str, Any]:
    body = {}
    if request.body:
        body = unpack(request.body) if limits is None else unpack(request.body, limits)
    if not isinstance(body, dict):
        raise UsageError("the request is not a map")
    return body


def _published(entries: Sequence[Entry], digest: bytes) -> FunctionSpec:
    """Return what the entries publish under ``digest``; only what is published is worth testing."""
    for entry in entries:
        if entry.kind == kinds.FunctionPublish.KIND:
            try:
                published = kinds.read(entry.kind, entry.body)
            except Refused as refusal:
                raise UsageError(f"the entry can't be published: {refusal}") from None
            if isinstance(published, kinds.FunctionPublish):
                spec = FunctionSpec.from_wire(published.spec)
                if spec.digest == digest:
                    return spec
    raise UsageError("none of the entries publishes the bundle with this digest")


def _refusal(outcome: Outcome) -> OsirisError:
    text = f"the ledger refuses it: {outcome.reason}"
    if outcome.code in {"author", "role", "grant", "signature"}:
        return Denied(text, fix="sign with a user who may, or ask an administrator for the role", why=outcome.code)
    if outcome.code == "unknown":
        return NotFound(text, why=outcome.code)
    return Conflict(text, why=outcome.code)
