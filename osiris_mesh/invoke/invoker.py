"""The shell around :mod:`osiris_mesh.invoke.life`: takes a call, finds the version, has it run, answers.

Nothing here touches the disk or looks into arguments and results. What it needs of the parts below stands beside it as
three Protocols.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final, Protocol

from osiris_mesh.clock import Clock
from osiris_mesh.codec import VALUE, pack, unpack
from osiris_mesh.errors import (
    Conflict,
    DeadlineExceeded,
    LimitExceeded,
    NotFound,
    OsirisError,
    Overloaded,
    RemoteProtocolError,
    UsageError,
)
from osiris_mesh.function.signature import binding_of
from osiris_mesh.function.spec import FunctionSpec
from osiris_mesh.invoke.choice import Candidate, Here, free_here
from osiris_mesh.invoke.life import CallLife, Failed, Forward, RunHere, earliest
from osiris_mesh.invoke.meter import Meter
from osiris_mesh.invoke.reference import reference
from osiris_mesh.link import Audience, Caller, Request, Router
from osiris_mesh.settings.invoke import InvokeSettings

__all__ = ["Invoker", "LedgerView", "Peers", "Runner"]

_CALLERS: Final = Audience.LOCAL | Audience.CLIENT | Audience.MEMBER | Audience.FUNCTION
_MAX_BINDINGS: Final = 4096
_MAX_CALLER: Final = 128


class LedgerView(Protocol):
    """What the ledger knows of functions; asked on the loop thread, must not block."""

    def active(self, name: str) -> FunctionSpec | None:
        """Return the active version of a function, by full name."""
        ...

    def versions(self, name: str) -> Sequence[FunctionSpec]:
        """Return all published versions of a function, by full name."""
        ...


class Runner(Protocol):
    """What runs functions on this node; all on the loop thread."""

    async def run(
        self, spec: FunctionSpec, body: bytes, *, deadline: float | None, headers: Mapping[str, Any], caller: Caller
    ) -> bytes:
        """Run one call, starting an instance if there is none; ``body`` and the answer are opaque."""
        ...

    def here(self, spec: FunctionSpec) -> Here:
        """Return what this node has for a function now."""
        ...

    def pause(self, caller: Caller) -> Callable[[], None]:
        """Free the concurrency slot of the instance ``caller`` until the returned function is called."""
        ...


class Peers(Protocol):
    """The other nodes."""

    def candidates(self, digest: bytes) -> Sequence[Candidate]:
        """Return the live nodes but this one, with their load for the function whose bundle has this digest."""
        ...

    async def call(self, peer: str, method: str, body: bytes, *, timeout: float, headers: dict[str, Any]) -> bytes:
        """Call a method of another node; ``Unavailable`` says in ``maybe`` whether it may have arrived."""
        ...


class Invoker:
    """Serves calls of functions by name.

    Args:
        me: Peer id of this node.
        ledger: Where names are looked up.
        runner: Where functions run here.
        peers: Where else they may run.
        settings: Bounds.
        clock: Time.
        rng: Draws between nodes.
    """

    def __init__(
        self,
        *,
        me: str,
        ledger: LedgerView,
        runner: Runner,
        peers: Peers,
        settings: InvokeSettings,
        clock: Clock,
        rng: random.Random,
    ) -> None:
        self._me = me
        self._ledger = ledger
        self._runner = runner
        self._peers = peers
        self._settings = settings
        self._clock = clock
        self._rng = rng
        self._meter = Meter(weight=settings.mean_weight, limit=settings.max_metered)
        self._in_flight = 0
        self._bindings: dict[bytes, bytes] = {}

    def register(self, router: Router) -> None:
        """Serve ``call``, ``call.run`` and ``resolve``."""
        router.unary("call", self._on_call, allow=_CALLERS)
        router.unary("call.run", self.run_here, allow=Audience.MEMBER)
        router.unary("resolve", self._on_resolve, allow=_CALLERS)

    def snapshot(self) -> dict[str, dict[str, Any]]:
        """Return calls, errors, in_flight and mean_us by function, of calls that arrived at this node."""
        return self._meter.snapshot()

    @property
    def in_flight(self) -> int:
        """Calls this node works on now, those it forwarded and those that were forwarded to it included."""
        return self._in_flight

    # --- resolving -------------------------------------------------------------------------------------------------

    def resolve(self, name: str) -> dict[str, Any]:
        """Return what a caller must know of a function: name, version, digest, signature, binding, and its limits.

        Args:
            name: Name, with or without ``@version``.

        Raises:
            UsageError: Not a name.
            NotFound: No such function or version.
        """
        return self._answer(self._find(name))

    def _answer(self, spec: FunctionSpec) -> dict[str, Any]:
        return {
            "name": spec.name,
            "version": spec.version,
            "digest": spec.digest,
            "signature": spec.signature,
            "binding": self._binding(spec),
            "description": spec.description,
            "timeout_ms": spec.timeout_ms,
            "idempotent": spec.idempotent,
        }

    def _binding(self, spec: FunctionSpec) -> bytes:
        known = self._bindings.get(spec.digest)
        if known is None:
            if len(self._bindings) >= _MAX_BINDINGS:
                self._bindings.clear()
            known = self._bindings[spec.digest] = binding_of(spec.signature)
        return known

    def _find(self, name: str) -> FunctionSpec:
        wanted = reference(name)
        if wanted.low is None:
            spec = self._ledger.active(wanted.name)
            if spec is not None:
                return spec
            known = self._ledger.versions(wanted.name)
            what = f"{wanted.name} has no active version" if known else f"no function is called {wanted.name}"
        else:
            known = self._ledger.versions(wanted.name)
            spec = wanted.choose(known)
            if spec is not None:
                return spec
            what = (
                f"no version of {wanted.name} is meant by {name!r}" if known else f"no function is called {wanted.name}"
            )
        fix = f"there are {', '.join(spec.version for spec in known[-8:])}" if known else "see: osiris-mesh list"
        raise NotFound(what, fix=fix, name=wanted.name)

    # --- calling ---------------------------------------------------------------------------------------------------

    async def call(
        self, name: str, body: bytes, *, deadline: float | None, headers: Mapping[str, Any], caller: Caller
    ) -> bytes:
        """Have one call run, here or on another node.

        Args:
            name: Name, with or without ``@version``.
            body: ``pack([args, kwargs])``; passed on unread.
            deadline: Monotonic seconds, or None for the function's own limit.
            headers: ``binding``, ``details``, ``idempotent`` and ``depth`` count; see DESIGN.md.
            caller: Who asks.

        Returns:
            The packed result, or ``pack([details, packed result])`` if ``details`` was asked for.

        Raises:
            UsageError: Not a name, or a header of the wrong kind.
            NotFound: No such function or version.
            Conflict: The arguments were bound against another signature; ``resolved`` in the details has the right one.
            LimitExceeded: Functions call functions too deep.
            Overloaded, Unavailable, WorkerDied, DeadlineExceeded, FunctionError: As the table in ``life.py`` says.
        """
        settings = self._settings
        if self._in_flight >= settings.max_in_flight:
            raise self._full()
        spec = self._find(name)
        binding = headers.get("binding")
        if binding is not None and binding != self._binding(spec):
            raise Conflict(
                f"the signature of {spec.name} is not the one the arguments were bound against",
                fix="resolve the name again and bind anew",
                reason="binding",
                resolved=self._answer(spec),
            )
        depth = _depth(headers, settings.max_depth)
        details = headers.get("details") is True
        onward: dict[str, Any] = {"depth": depth, "version": spec.version}
        clock = self._clock
        began = clock.monotonic()
        ends = earliest(began, deadline, spec.timeout_ms)
        if ends <= began:
            raise DeadlineExceeded(f"the time for {spec.name} was over before it began")
        resume = self._runner.pause(caller) if caller.audience is Audience.FUNCTION else None
        tally = self._meter.begin(spec.name)
        self._in_flight += 1
        ok = False
        try:
            life = CallLife(
                spec.name,
                deadline=ends,
                attempts=settings.attempts,
                concurrency=spec.concurrency,
                idempotent=spec.idempotent or headers.get("idempotent") is True,
                retry_after_ms=settings.retry_after_ms,
            )
            result, facts = await self._live(life, spec, body, onward, caller, ends, details=details)
            ok = True
        finally:
            self._in_flight -= 1
            elapsed = clock.monotonic() - began
            self._meter.end(tally, elapsed, ok=ok)
            if resume is not None:
                resume()
        if facts is None:
            return result
        facts["elapsed_us"] = int(elapsed * 1e6)
        return pack([facts, result])

    async def _live(
        self,
        life: CallLife,
        spec: FunctionSpec,
        body: bytes,
        onward: dict[str, Any],
        caller: Caller,
        ends: float,
        *,
        details: bool,
    ) -> tuple[bytes, dict[str, Any] | None]:
        now = self._clock.monotonic
        runner = self._runner
        while True:
            here = runner.here(spec)
            # Gossip's figures are gathered only when this node can't take the call at once.
            others = () if free_here(here, spec.concurrency) else self._peers.candidates(spec.digest)
            place = life.next(now(), here, others, self._rng)
            try:
                match place:
                    case RunHere(warm):
                        result = await runner.run(spec, body, deadline=ends, headers=onward, caller=caller)
                        return result, self._facts(spec, warm=warm) if details else None
                    case Forward(peer):
                        return await self._forward(peer, spec, body, onward, caller, ends, details=details)
                    case Failed(error):
                        raise error
            except OsirisError as error:
                if isinstance(place, Failed):
                    raise
                end = life.failed(now(), error, remote=isinstance(place, Forward))
                if end is not None:
                    raise end.error from None

    async def _forward(
        self,
        peer: str,
        spec: FunctionSpec,
        body: bytes,
        onward: dict[str, Any],
        caller: Caller,
        ends: float,
        *,
        details: bool,
    ) -> tuple[bytes, dict[str, Any] | None]:
        headers = {
            **onward,
            "name": spec.name,
            "digest": spec.digest,
            "caller": (caller.peer or caller.name)[:_MAX_CALLER],
        }
        if details:
            headers["details"] = True
        left = max(ends - self._clock.monotonic(), 0.0)
        reply = await self._peers.call(peer, "call.run", body, timeout=left, headers=headers)
        if not details:
            return reply, None
        parts = unpack(reply, VALUE)
        if not (isinstance(parts, list) and len(parts) == 2 and isinstance(parts[0], dict) and type(parts[1]) is bytes):
            raise RemoteProtocolError(f"{peer} answered a call without its details")
        return parts[1], parts[0]

    def _facts(self, spec: FunctionSpec, *, warm: bool) -> dict[str, Any]:
        return {"node": self._me, "version": spec.version, "warm": warm}

    async def run_here(self, request: Request) -> bytes:
        """Serve ``call.run``: run exactly the named version on this node; never forwards.

        Raises:
            NotFound: This node's ledger does not have that version, or with another digest.
            Overloaded: Too much under way here.
        """
        headers = request.headers
        name, version = _text(headers, "name"), _text(headers, "version")
        if self._in_flight >= self._settings.max_in_flight:
            raise self._full()
        spec = next((spec for spec in self._ledger.versions(name) if spec.version == version), None)
        if spec is None or spec.digest != headers.get("digest"):
            raise NotFound(f"{name} {version} is not known on this node yet", name=name)
        onward = {"depth": _depth(headers, self._settings.max_depth), "version": version}
        now = self._clock.monotonic()
        ends = earliest(now, request.deadline, spec.timeout_ms)
        details = headers.get("details") is True
        warm = details and self._runner.here(spec).instances > 0
        # For whom it runs; told by a member, so good for attribution, never for a decision.
        caller = Caller(
            request.caller.public_key,
            request.caller.peer,
            request.caller.audience,
            _text(headers, "caller")[:_MAX_CALLER],
        )
        self._in_flight += 1
        try:
            result = await self._runner.run(spec, request.body, deadline=ends, headers=onward, caller=caller)
        finally:
            self._in_flight -= 1
        return pack([self._facts(spec, warm=warm), result]) if details else result

    def _full(self) -> Overloaded:
        return Overloaded(
            f"{self._in_flight} calls are under way on this node, which is its limit",
            fix="call again a little later",
            retry_after_ms=self._settings.retry_after_ms,
        )

    # --- methods ---------------------------------------------------------------------------------------------------

    async def _on_call(self, request: Request) -> bytes:
        headers = request.headers
        return await self.call(
            _text(headers, "name"), request.body, deadline=request.deadline, headers=headers, caller=request.caller
        )

    async def _on_resolve(self, request: Request) -> bytes:
        body = unpack(request.body)
        if not isinstance(body, dict):
            raise UsageError("resolve takes a map", fix="send {name}")
        return pack(self.resolve(_text(body, "name")))


def _text(headers: Mapping[str, Any], name: str) -> str:
    value = headers.get(name)
    if type(value) is not str:
        raise UsageError(f"a call without the text {name!r}")
    return value


def _depth(headers: Mapping[str, Any], most: int) -> int:
    depth = headers.get("depth", 0)
    if type(depth) is not int or depth < 0:
        raise UsageError("the depth of a call is not a number from 0")
    if depth > most:
        raise LimitExceeded(
            f"functions call functions more than {most} deep",
            fix="end the recursion, or call in a loop",
            limit="depth",
        )
    return depth
