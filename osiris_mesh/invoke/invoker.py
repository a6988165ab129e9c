"""The shell around :mod:`osiris_mesh.invoke.life`: takes a call, finds the version, has it run, answers.

Nothing here touches the disk or looks into arguments and results. What it needs of the parts below are Protocols in
:mod:`osiris_mesh.invoke.ports`.
"""

from __future__ import annotations

import asyncio
import functools
import logging
import random
from collections.abc import Awaitable, Callable, Coroutine, Mapping
from typing import Any, Final

from osiris_mesh.clock import Clock
from osiris_mesh.codec import VALUE, pack, unpack
from osiris_mesh.errors import (
    Conflict,
    DeadlineExceeded,
    Denied,
    InternalError,
    NotFound,
    OsirisError,
    Overloaded,
    RemoteProtocolError,
    Unavailable,
    UsageError,
)
from osiris_mesh.function.spec import FunctionSpec
from osiris_mesh.invoke.life import CallLife, Failed, Forward, RunHere, earliest
from osiris_mesh.invoke.meter import Meter
from osiris_mesh.invoke.ports import Access, Beyond, Contexts, Peers, Runner
from osiris_mesh.invoke.resolver import LedgerView, Resolver
from osiris_mesh.invoke.trace import HEADER, Span, Tracer, checked
from osiris_mesh.invoke.under_way import (
    MORE_TIME,
    Answered,
    Call,
    answer,
    context_of,
    depth_of,
    recorded,
    send,
    text_of,
    told,
)
from osiris_mesh.link import Audience, Caller, Reply, Request, Router
from osiris_mesh.registry.context import HEADER as CONTEXT
from osiris_mesh.settings.invoke import InvokeSettings

__all__ = ["Invoker"]

_CALLERS: Final = Audience.LOCAL | Audience.CLIENT | Audience.MEMBER | Audience.FUNCTION
_MAX_CALLER: Final = 128
_MAX_CALL: Final = 64
_log = logging.getLogger("osiris.invoke")


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
        tracer: Records spans; None: none are.
        access: Who may call what; None: whoever reaches this node.
        contexts: What a call may reach; None: nothing limits it here.
        beyond: The attribute.

    Attributes:
        meter: Figures of the calls that came to this node.
        refused: Calls refused because this node had too much under way.
        attempts: Places one call is tried at; the settings' until changed.
        beyond: Functions that this mesh does not have; None: there are none.
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
        tracer: Tracer | None = None,
        access: Access | None = None,
        contexts: Contexts | None = None,
        beyond: Beyond | None = None,
    ) -> None:
        self.meter = Meter(limit=settings.max_metered)
        self.refused = 0
        self.attempts = settings.attempts
        self._tracer = tracer
        self._access = access
        self._contexts = contexts
        self.beyond = beyond
        self._me = me
        self._resolver = Resolver(ledger)
        self._ledger = ledger
        self._runner = runner
        self._peers = peers
        self._settings = settings
        self._clock = clock
        self._rng = rng
        self._in_flight = 0
        self._run_id = f"{rng.getrandbits(32):08x}."
        self._count = 0
        self._tasks: set[asyncio.Task[None]] = set()

    def register(self, router: Router) -> None:
        """Serve ``call``, ``call.run`` and ``resolve``."""
        router.direct("call", self._on_call, allow=_CALLERS)
        router.unary("call.run", self.run_here, allow=Audience.MEMBER)
        router.unary("resolve", self._on_resolve, allow=_CALLERS)

    def snapshot(self) -> dict[str, dict[str, Any]]:
        """Return counts, and mean, median and 99 % times in µs, by function, of calls that arrived at this node."""
        return self.meter.snapshot()

    @property
    def in_flight(self) -> int:
        """Calls this node works on now, those it forwarded and those that were forwarded to it included."""
        return self._in_flight

    def find(self, name: str) -> FunctionSpec:
        """Return the version a name means; see :meth:`Resolver.find`."""
        return self._resolver.find(name)

    def resolve(self, name: str) -> dict[str, Any]:
        """Return what a caller must know of a function; see :meth:`Resolver.resolve`."""
        return self._resolver.resolve(name)

    @property
    def asks_beyond(self) -> bool:
        """Whether functions that this mesh does not have may be found elsewhere."""
        return self.beyond is not None and self.beyond.asks()

    async def look_up(self, name: str, *, caller: Caller, headers: Mapping[str, Any]) -> dict[str, Any]:
        """Return what a caller must know of a function of this mesh, or of one that only others have.

        Raises:
            UsageError: Not a name.
            NotFound: Nobody has it.
            Denied: The security context of the call does not allow it.
            Unavailable, DeadlineExceeded: Nobody could say.
        """
        try:
            return self.resolve(name)
        except NotFound:
            if self.beyond is None or not self.beyond.asks():
                raise
        return await self.beyond.resolve(name, caller=caller, headers=headers)

    # --- calling ---------------------------------------------------------------------------------------------------

    async def call(
        self, name: str, body: bytes, *, deadline: float | None, headers: Mapping[str, Any], caller: Caller
    ) -> bytes:
        """Have one call run, here or on another node.

        Args:
            name: Name, with or without ``@version``.
            body: ``pack([args, kwargs])``; passed on unread.
            deadline: Monotonic seconds, or None for the function's own limit.
            headers: ``binding``, ``details``, ``idempotent``, ``context`` and ``depth`` count; see DESIGN.md.
            caller: Who asks.

        Returns:
            The packed result, or ``pack([details, packed result])`` if ``details`` was asked for.

        Raises:
            UsageError: Not a name, or a header of the wrong kind.
            Denied: The caller may not call this function, or the security context does not allow it.
            NotFound: No such function or version.
            Conflict: The arguments were bound against another signature; ``resolved`` in the details has the right one.
            LimitExceeded: Functions call functions too deep.
            Overloaded, Unavailable, WorkerDied, DeadlineExceeded, FunctionError: As the table in ``life.py`` says.
        """
        try:
            call = self._begin(name, deadline, headers, caller)
        except NotFound:
            if self.beyond is None or not self.beyond.asks():
                raise
            result, facts, elapsed = await self._call_beyond(self.beyond, name, body, deadline, headers, caller)
            return answer(result, facts, elapsed)
        ok = False
        try:
            result, facts = await self._live(call, self._life(call), body)
            ok = True
        except OsirisError as error:
            call.failure = error.code
            raise told(call, error) from None
        finally:
            elapsed = self._end(call, ok=ok)
        return answer(result, facts, elapsed)

    def _begin(self, name: str, deadline: float | None, headers: Mapping[str, Any], caller: Caller) -> Call:
        """Check all that can be checked before anything runs, and count the call in; :meth:`_end` counts it out."""
        settings = self._settings
        if self._in_flight >= settings.max_in_flight:
            raise self._full()
        if self._access is not None and not self._access.may_call(caller, name):
            raise _denied("call", name)
        spec = self._resolver.find(name)
        context = "" if self._contexts is None else self._contexts.check(caller, headers, spec.name)
        binding = headers.get("binding")
        if binding is not None and binding != self._resolver.binding(spec):
            raise Conflict(
                f"the signature of {spec.name} is not the one the arguments were bound against",
                fix="resolve the name again and bind anew",
                reason="binding",
                resolved=self._resolver.facts(spec),
            )
        began = self._clock.monotonic()
        call = Call(spec, caller, began, earliest(began, deadline, spec.timeout_ms))
        self._count += 1
        call.call_id = call_id = f"{self._run_id}{self._count:x}"
        call.onward = {"depth": depth_of(headers, settings.max_depth), "version": spec.version, "call": call_id}
        if context:
            call.onward[CONTEXT] = context
        trace = headers.get(HEADER)
        call.details = headers.get("details") is True
        call.idempotent = spec.idempotent or headers.get("idempotent") is True
        if call.ends <= began:
            raise DeadlineExceeded(f"the time for {spec.name} was over before it began", fix=MORE_TIME, reason="caller")
        if caller.audience is Audience.FUNCTION:
            call.resume = self._runner.pause(caller)
        if trace is not None or self._tracer is not None:
            self._trace(call, checked(trace))
        call.tally = self.meter.begin(spec.name)
        self._in_flight += 1
        return call

    def _trace(self, call: Call, parent: str) -> None:
        """Begin the span of a call; without a tracer, pass on the context it came with."""
        spec = call.spec
        if self._tracer is not None:
            call.span = self._tracer.start(
                f"call {spec.name}",
                parent,
                server=True,
                attributes={
                    "osiris.function": spec.name,
                    "osiris.version": spec.version,
                    "osiris.audience": str(call.caller.audience.name).lower(),
                },
            )
            parent = call.span.traceparent
        if parent:
            call.onward[HEADER] = parent

    def _attempt(self, call: Call, peer: str = "") -> tuple[dict[str, Any], Span | None]:
        """Begin the span of one attempt at a call, here or at ``peer``; return the headers it goes on with."""
        if call.span is None or self._tracer is None:
            return call.onward, None
        span = self._tracer.start(
            f"{'forward' if peer else 'run'} {call.spec.name}",
            call.span.traceparent,
            server=False,
            attributes={"osiris.node": peer or self._me},
        )
        return {**call.onward, HEADER: span.traceparent}, span

    def _end(self, call: Call, *, ok: bool) -> float:
        """Count the call out; return its seconds."""
        elapsed = self._clock.monotonic() - call.began
        self._in_flight -= 1
        if call.tally is not None:
            self.meter.end(call.tally, elapsed, ok=ok)
        if call.resume is not None:
            call.resume()
        if call.span is not None:
            call.span.end("" if ok else call.failure)
        return elapsed

    def _life(self, call: Call) -> CallLife:
        return CallLife(
            call.spec.name,
            deadline=call.ends,
            attempts=self.attempts,
            concurrency=call.spec.concurrency,
            idempotent=call.idempotent,
            retry_after_ms=self._settings.retry_after_ms,
        )

    async def _live(self, call: Call, life: CallLife, body: bytes) -> tuple[bytes, dict[str, Any] | None]:
        """Carry out what ``life`` decides until the call has a result or an error."""
        now, spec, runner = self._clock.monotonic, call.spec, self._runner
        while True:
            here = runner.here(spec)
            others = self._peers.candidates(spec.digest) if life.asks_for_others(here) else ()
            place = life.next(now(), here, others, self._rng)
            try:
                match place:
                    case RunHere(warm):
                        headers, span = self._attempt(call)
                        result = await recorded(
                            runner.run(spec, body, deadline=call.ends, headers=headers, caller=call.caller), span
                        )
                        return result, self._facts(spec, call.call_id, warm=warm) if call.details else None
                    case Forward(peer):
                        return await self._forward(peer, call, body)
                    case Failed(error):
                        raise error
            except OsirisError as error:
                if isinstance(place, Failed):
                    raise
                end = life.failed(now(), error, remote=isinstance(place, Forward))
                if end is not None:
                    raise end.error from None

    async def _forward(self, peer: str, call: Call, body: bytes) -> tuple[bytes, dict[str, Any] | None]:
        caller = (call.caller.peer or call.caller.name)[:_MAX_CALLER]
        onward, span = self._attempt(call, peer)
        headers = {**onward, "name": call.spec.name, "digest": call.spec.digest, "caller": caller}
        if call.details:
            headers["details"] = True
        left = max(call.ends - self._clock.monotonic(), 0.0)
        reply = await recorded(self._peers.call(peer, "call.run", body, timeout=left, headers=headers), span)
        if not call.details:
            return reply, None
        parts = unpack(reply, VALUE)
        if not (isinstance(parts, list) and len(parts) == 2 and isinstance(parts[0], dict) and type(parts[1]) is bytes):
            raise RemoteProtocolError(f"{peer} answered a call without its details")
        return parts[1], parts[0]

    def _facts(self, spec: FunctionSpec, call_id: str, *, warm: bool) -> dict[str, Any]:
        return {"node": self._me, "version": spec.version, "warm": warm, "call": call_id}

    async def run_here(self, request: Request) -> bytes:
        """Serve ``call.run``: run exactly the named version on this node; never forwards.

        Raises:
            NotFound: This node's ledger does not have that version, or with another digest.
            Overloaded: Too much under way here.
        """
        headers = request.headers
        name, version = text_of(headers, "name"), text_of(headers, "version")
        if self._in_flight >= self._settings.max_in_flight:
            raise self._full()
        spec = next((spec for spec in self._ledger.versions(name) if spec.version == version), None)
        if spec is None or spec.digest != headers.get("digest"):
            raise NotFound(f"{name} {version} is not known on this node yet", name=name)
        call_id = headers.get("call")
        if not (type(call_id) is str and len(call_id) <= _MAX_CALL and call_id.isprintable()):
            call_id = ""
        onward = {"depth": depth_of(headers, self._settings.max_depth), "version": version, "call": call_id}
        # What the call is in was decided where it came in; here its own calls are kept to it.
        context = context_of(headers)
        if context:
            onward[CONTEXT] = context
        span: Span | None = None
        parent = checked(headers.get(HEADER))
        if self._tracer is not None:
            attributes = {"osiris.function": name, "osiris.version": version, "osiris.node": self._me}
            span = self._tracer.start(f"run {name}", parent, server=True, attributes=attributes)
            parent = span.traceparent
        if parent:
            onward[HEADER] = parent
        now = self._clock.monotonic()
        ends = earliest(now, request.deadline, spec.timeout_ms)
        details = headers.get("details") is True
        warm = details and self._runner.here(spec).instances > 0
        # For whom it runs; told by a member, so good for attribution, never for a decision.
        caller = Caller(
            request.caller.public_key,
            request.caller.peer,
            request.caller.audience,
            text_of(headers, "caller")[:_MAX_CALLER],
        )
        self._in_flight += 1
        try:
            result = await recorded(
                self._runner.run(spec, request.body, deadline=ends, headers=onward, caller=caller), span
            )
        finally:
            self._in_flight -= 1
        return pack([self._facts(spec, call_id, warm=warm), result]) if details else result

    def _full(self) -> Overloaded:
        self.refused += 1
        return Overloaded(
            f"{self._in_flight} calls are under way on this node, which is its limit",
            fix="call again a little later",
            retry_after_ms=self._settings.retry_after_ms,
        )

    # --- methods ---------------------------------------------------------------------------------------------------

    def _on_call(self, request: Request, reply: Reply) -> None:
        """Serve ``call``."""
        headers = request.headers
        self.begin(
            text_of(headers, "name"),
            request.body,
            reply,
            deadline=request.deadline,
            headers=headers,
            caller=request.caller,
        )

    def begin(
        self,
        name: str,
        body: bytes,
        reply: Reply,
        *,
        deadline: float | None,
        headers: Mapping[str, Any],
        caller: Caller,
        answered: Answered | None = None,
    ) -> None:
        """Have one call run as :meth:`call` does: on a warm instance of ours without a task, else by a task.

        Args:
            name: As for :meth:`call`, and so ``body``, ``deadline``, ``headers`` and ``caller``.
            body: Passed on unread.
            reply: Told once how it ended, perhaps before this returns.
            deadline: Monotonic seconds.
            headers: What counts is named at :meth:`call`.
            caller: Who asks.
            answered: What is done with a result instead of sending it to ``reply`` in the form :meth:`call` gives it:
                called with ``reply``, the packed result, the details if they were asked for, and the seconds it took.

        Raises:
            OsirisError: What can be said before anything runs; ``reply`` is told nothing then.
        """
        try:
            call = self._begin(name, deadline, headers, caller)
        except NotFound:
            if self.beyond is None or not self.beyond.asks():
                raise
            ask = functools.partial(self._call_beyond, self.beyond, name, body, deadline, headers, caller)
            self._start(self._tell_beyond(name, ask, reply, answered or send), reply)
            return
        if answered is not None:
            call.answered = answered

        settled = False
        onward, span = (call.onward, None) if call.span is None else self._attempt(call)

        def done(ended: bytes | OsirisError) -> None:
            nonlocal settled
            settled = True
            if span is not None:
                span.end("" if isinstance(ended, bytes) else ended.code)
            if isinstance(ended, bytes):
                elapsed = self._end(call, ok=True)
                facts = self._facts(call.spec, call.call_id, warm=True) if call.details else None
                call.answered(reply, ended, facts, elapsed)
                return
            life = self._life(call)
            life.began_here()
            end = life.failed(self._clock.monotonic(), ended, remote=False)
            if end is None:
                self._spawn(call, life, body, reply)
            else:
                call.failure = end.error.code
                self._end(call, ok=False)
                reply.fail(told(call, end.error))

        try:
            give_up = self._runner.begin(call.spec, body, done, deadline=call.ends, headers=onward, caller=call.caller)
        except OsirisError as error:
            done(error)
            return
        except BaseException:
            # A defect, which the link logs and tells; the counters must stay right all the same.
            self._end(call, ok=False)
            raise
        if give_up is None:
            self._spawn(call, self._life(call), body, reply)
            return
        if settled:
            return

        def cancelled() -> None:
            give_up()
            if span is not None:
                span.end("cancelled")
            self._end(call, ok=False)

        reply.on_cancel(cancelled)

    def _spawn(self, call: Call, life: CallLife, body: bytes, reply: Reply) -> None:
        self._start(self._finish(call, life, body, reply), reply)

    def _start(self, work: Coroutine[Any, Any, None], reply: Reply) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

        def cancelled() -> None:
            task.cancel()

        reply.on_cancel(cancelled)

    async def _finish(self, call: Call, life: CallLife, body: bytes, reply: Reply) -> None:
        ok = False
        try:
            result, facts = await self._live(call, life, body)
            ok = True
            call.answered(reply, result, facts, self._clock.monotonic() - call.began)
        except OsirisError as error:
            call.failure = error.code
            reply.fail(told(call, error))
        except asyncio.CancelledError:
            reply.fail(Unavailable(f"the call of {call.spec.name} was stopped", maybe=True))
            raise
        except Exception:  # noqa: BLE001 - the outermost edge of a call's task
            call.failure = InternalError.code
            _log.exception("call failed", extra={"function": call.spec.name})
            reply.fail(InternalError(f"the call of {call.spec.name} failed inside the controller"))
        finally:
            self._end(call, ok=ok)

    async def _call_beyond(
        self,
        beyond: Beyond,
        name: str,
        body: bytes,
        deadline: float | None,
        headers: Mapping[str, Any],
        caller: Caller,
    ) -> tuple[bytes, dict[str, Any] | None, float]:
        """Have a call of a function that this mesh does not have answered; return result, details and seconds."""
        depth = depth_of(headers, self._settings.max_depth)
        began = self._clock.monotonic()
        if deadline is not None and deadline <= began:
            raise DeadlineExceeded(f"the time for {name} was over before it began", fix=MORE_TIME, reason="caller")
        self._count += 1
        call_id = f"{self._run_id}{self._count:x}"
        resume = self._runner.pause(caller) if caller.audience is Audience.FUNCTION else None
        self._in_flight += 1
        try:
            onward = {**headers, "depth": depth}
            result, facts = await beyond.call(name, body, deadline=deadline, headers=onward, caller=caller)
        finally:
            self._in_flight -= 1
            if resume is not None:
                resume()
        details = {**facts, "call": call_id} if headers.get("details") is True else None
        return result, details, self._clock.monotonic() - began

    @staticmethod
    async def _tell_beyond(
        name: str,
        ask: Callable[[], Awaitable[tuple[bytes, dict[str, Any] | None, float]]],
        reply: Reply,
        answered: Answered,
    ) -> None:
        try:
            answered(reply, *await ask())
        except OsirisError as error:
            reply.fail(error)
        except asyncio.CancelledError:
            reply.fail(Unavailable(f"the call of {name} was stopped", maybe=True))
            raise
        except Exception:  # noqa: BLE001 - the outermost edge of a call's task
            _log.exception("call failed", extra={"function": name})
            reply.fail(InternalError(f"the call of {name} failed inside the controller"))

    async def close(self) -> None:
        """Stop every call that is still under way; its caller is told so."""
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _on_resolve(self, request: Request) -> bytes:
        body = unpack(request.body)
        if not isinstance(body, dict):
            raise UsageError("resolve takes a map", fix="send {name}")
        name = text_of(body, "name")
        if self._access is not None and not self._access.may_resolve(request.caller, name):
            raise _denied("resolve", name)
        return pack(await self.look_up(name, caller=request.caller, headers=request.headers))


def _denied(what: str, name: str) -> Denied:
    return Denied(
        f"the caller may not {what} {name[:384]}",
        fix="use a key or token whose role has function.call for this name; an administrator of the mesh gives it",
        permission="function.call",
    )
