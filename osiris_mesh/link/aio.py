"""The asyncio shell of a link: one :class:`Mux`, the transport under it, the router and the callers above it.

A call costs one future at the caller and one task at the server (none for a direct handler); frames of one turn of the
loop leave in one write. All deadlines of a link share one timer.
"""

from __future__ import annotations

import asyncio
import logging
import sys
from collections.abc import Callable, Coroutine, Mapping
from typing import Any, Final, Protocol

from osiris_mesh.clock import SYSTEM, Clock
from osiris_mesh.errors import (
    DeadlineExceeded,
    Denied,
    InternalError,
    OsirisError,
    RemoteProtocolError,
    Unavailable,
    UsageError,
)
from osiris_mesh.link.calls import Answer, DirectCall, OwnCall, TaskCall
from osiris_mesh.link.mux import Ended, Mux, MuxLimits, MuxStream, Opened, Ponged, Received
from osiris_mesh.link.request import Audience, Caller, Request
from osiris_mesh.link.router import DirectHandler, Router, StreamHandler, UnaryHandler
from osiris_mesh.link.stream import Stream

__all__ = ["MAX_DEADLINE_MS", "Answer", "Link", "Sink", "Stream", "local_caller"]

MAX_DEADLINE_MS: Final = 7 * 24 * 3600 * 1000

_BATCH: Final = 1 << 18
_CLOSE_GRACE_S: Final = 2.0
_log = logging.getLogger("osiris.link")


class Sink(Protocol):
    """What carries a link's bytes; called on the loop's thread."""

    def write(self, buffers: list[bytes | memoryview]) -> None:
        """Send; the buffers are not changed afterwards."""
        ...

    def close(self) -> None:
        """Send what is buffered, say goodbye and close; ``Link.lost`` follows."""
        ...

    def abort(self) -> None:
        """Close at once; ``Link.lost`` follows."""
        ...


class Link:
    """One live connection to a peer; both ends call and serve. Belongs to the loop it was made on.

    Args:
        sink: What carries the bytes.
        router: What the peer may call.
        caller: Who the peer is.
        limits: What the peer may make us spend.
        clock: Time for deadlines.

    Attributes:
        caller: Who is at the other end.
        closed: Nothing can be sent any more.
        mux: The core; for this package alone.
        draining: Streams whose ``send`` waits; for this package alone.
        received: Count of chunks received so far, by which idleness is noticed.
    """

    def __init__(
        self,
        sink: Sink,
        router: Router,
        caller: Caller,
        *,
        limits: MuxLimits | None = None,
        clock: Clock = SYSTEM,
    ) -> None:
        self.mux = Mux(limits)
        self.closed = False
        self.draining: set[Stream] = set()
        self.received = 0
        self._sink = sink
        self._router = router
        self._clock = clock
        self._loop = asyncio.get_running_loop()
        self._paused = False
        self._feeding = False
        self._flush_due = False
        self._timer: asyncio.TimerHandle | None = None
        self._timer_at = float("inf")
        self._tasks: set[asyncio.Task[None]] = set()
        self._on_close: list[Callable[[Link], None]] = []
        self._gone = self._loop.create_future()
        self._why = ""
        self._pings: dict[int, asyncio.Future[None]] = {}
        self._last_ping = 0
        self.caller = caller
        self._bits = caller.audience.value

    def __repr__(self) -> str:
        return f"Link({self.caller.peer or self.caller.name}, {'closed' if self.closed else 'open'})"

    def set_caller(self, caller: Caller) -> None:
        """Change what the peer counts as; calls it makes from now on are judged by it."""
        self.caller = caller
        self._bits = caller.audience.value

    # calling

    async def call(
        self,
        method: str,
        body: bytes = b"",
        *,
        timeout: float | None,
        headers: Mapping[str, Any] | None = None,
        urgent: bool = False,
    ) -> bytes:
        """Make a unary call.

        Args:
            method: Name of the method.
            body: The request.
            timeout: Seconds until it is given up, here and at the peer; None for no limit.
            headers: Map of JSON types and bytes, at most 32 KiB packed.
            urgent: Its frames, and those of the answer, overtake bulk.

        Returns:
            The answer.

        Raises:
            OsirisError: What the handler raised, as the same class.
            DeadlineExceeded: No answer in time; the peer is told to stop.
            Unavailable: The link was lost; ``details["maybe"]`` is False if the request surely was not sent.
            UsageError: Body or headers too large.
        """
        future: asyncio.Future[bytes] = self._loop.create_future()

        def done(answer: Answer) -> None:
            if future.done():
                return
            if type(answer) is bytes:
                future.set_result(answer)
            else:
                future.set_exception(answer)  # type: ignore[arg-type]

        cancel = self.begin(method, body, done, timeout=timeout, headers=headers, urgent=urgent)
        try:
            return await future
        except asyncio.CancelledError:
            cancel()
            raise

    def begin(
        self,
        method: str,
        body: bytes,
        done: Callable[[Answer], None],
        *,
        timeout: float | None,
        headers: Mapping[str, Any] | None = None,
        urgent: bool = False,
    ) -> Callable[[], None]:
        """Make a unary call without a future or a task: for the hot path.

        Args:
            method: As for :meth:`call`.
            body: As for :meth:`call`.
            done: Called exactly once on the loop's thread with the answer or the error; it must not raise.
            timeout: As for :meth:`call`.
            headers: As for :meth:`call`.
            urgent: As for :meth:`call`.

        Returns:
            A function that gives the call up; ``done`` is not called afterwards.

        Raises:
            Unavailable: The link is closed.
            DeadlineExceeded: ``timeout`` is not positive.
            UsageError: Body or headers too large.
        """
        stream = self._open(method, body, timeout, headers, end=True, urgent=urgent)
        call = OwnCall(self, stream, done)
        stream.owner = call
        self.wake()
        return call.cancel

    def open(
        self,
        method: str,
        body: bytes = b"",
        *,
        timeout: float | None = None,
        headers: Mapping[str, Any] | None = None,
        urgent: bool = False,
    ) -> Stream:
        """Open a stream to a streaming method; ``body`` is its first message (``Request.body`` there).

        Raises:
            Unavailable: The link is closed.
            DeadlineExceeded: ``timeout`` is not positive.
            UsageError: Body or headers too large.
        """
        core = self._open(method, body, timeout, headers, end=False, urgent=urgent)
        stream = Stream(self, core)
        core.owner = stream
        self.wake()
        return stream

    def _open(
        self,
        method: str,
        body: bytes,
        timeout: float | None,
        headers: Mapping[str, Any] | None,
        *,
        end: bool,
        urgent: bool,
    ) -> MuxStream:
        if self.closed:
            raise self._unavailable(maybe=False)
        if timeout is None:
            return self.mux.open(method, body, headers=headers, end=end, urgent=urgent)
        if timeout <= 0:
            raise DeadlineExceeded(f"no time was left to call {method}")
        deadline_ms = min(int(timeout * 1000) or 1, MAX_DEADLINE_MS)
        all_headers = {"deadline_ms": deadline_ms} if headers is None else {**headers, "deadline_ms": deadline_ms}
        stream = self.mux.open(method, body, headers=all_headers, end=end, urgent=urgent)
        self._set_deadline(stream, self._clock.monotonic() + timeout)
        return stream

    async def ping(self, *, timeout: float) -> float:
        """Return the seconds a frame needs to the peer and back.

        Raises:
            DeadlineExceeded: No answer in time.
            Unavailable: The link is closed or was lost.
        """
        if self.closed:
            raise self._unavailable(maybe=False)
        self._last_ping += 1
        token = self._last_ping
        future: asyncio.Future[None] = self._loop.create_future()
        self._pings[token] = future
        started = self._clock.monotonic()
        self.send_ping(token)
        try:
            async with asyncio.timeout(timeout):
                await future
        except TimeoutError:
            raise DeadlineExceeded(f"{self._name()} did not answer a ping in {timeout} s") from None
        finally:
            self._pings.pop(token, None)
        return self._clock.monotonic() - started

    def send_ping(self, token: int = 0) -> None:
        """Ask for a sign of life without waiting for it."""
        try:
            self.mux.ping(token)
        except RemoteProtocolError as error:
            self.fail(str(error))
        self.wake()

    # closing

    async def close(self) -> None:
        """Send what is queued, say goodbye and close; at most 2 s, then at once."""
        if not self.closed:
            self._why = self._why or "it was closed here"
            self._flush()
            self._sink.close()
            try:
                async with asyncio.timeout(_CLOSE_GRACE_S):
                    await asyncio.shield(self._gone)
            except TimeoutError:
                self._sink.abort()
        await self._gone

    def fail(self, why: str) -> None:
        """Close at once, and say why to those whose calls are in flight here; all of that is done on return."""
        if not self.closed:
            self._sink.abort()
            self.lost(why)

    def on_close(self, callback: Callable[[Link], None]) -> None:
        """Call ``callback`` once when the link is gone; at once if it is."""
        if self.closed:
            callback(self)
        else:
            self._on_close.append(callback)

    # for the transport

    def feed(self, data: bytes | bytearray | memoryview) -> None:
        """Take bytes from the transport."""
        if self.closed:
            return
        self.received += 1
        self._feeding = True
        try:
            for event in self.mux.receive(data):
                kind = type(event)
                if kind is Opened:
                    self._serve(event.stream, event.body, event.ended)  # type: ignore[union-attr]
                elif kind is Ponged:
                    waiter = self._pings.get(event.token)  # type: ignore[union-attr]
                    if waiter is not None and not waiter.done():
                        waiter.set_result(None)
                else:
                    # No owner: refused a moment ago, while these very bytes were handled; what follows is too late.
                    owner = event.stream.owner  # type: ignore[union-attr]
                    if owner is None:
                        continue
                    if kind is Received:
                        owner.on_message(event.body, event.ended)  # type: ignore[union-attr]
                    elif kind is Ended:
                        owner.on_end()
                    else:
                        owner.on_reset(event.error)  # type: ignore[union-attr]
        except RemoteProtocolError as error:
            _log.warning("protocol violation", extra={"peer": self._name(), "why": error.what})
            self.fail(error.what)
        finally:
            self._feeding = False
        if self.mux.wants_write:
            self._flush()

    def pause(self) -> None:
        """Stop writing: the transport holds enough."""
        self._paused = True

    def resume(self) -> None:
        """Go on writing."""
        self._paused = False
        self._flush()

    def lost(self, why: str = "") -> None:
        """Fail all that is in flight: the transport is gone."""
        if self.closed:
            return
        self.closed = True
        self._why = self._why or why or "it was closed by the other end"
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        for stream in self.mux.streams():
            if stream.owner is not None:
                stream.owner.on_lost(self._unavailable(maybe=stream.sent))
        for waiter in self._pings.values():
            if not waiter.done():
                waiter.set_exception(self._unavailable(maybe=False))
        for task in self._tasks:
            task.cancel()
        if not self._gone.done():
            self._gone.set_result(None)
        callbacks, self._on_close = self._on_close, []
        for callback in callbacks:
            callback(self)

    # for this package

    def wake(self) -> None:
        """Write what is queued at the end of this turn of the loop."""
        if not (self._flush_due or self._feeding or self._paused):
            self._flush_due = True
            self._loop.call_soon(self._flush_soon)

    def reset(self, stream: MuxStream, error: OsirisError | None) -> None:
        """Reset a stream, and write that soon."""
        try:
            self.mux.reset(stream, error)
        except RemoteProtocolError as broken:
            self.fail(broken.what)
        self.wake()

    def consumed(self, stream: MuxStream, size: int) -> None:
        """Give credit back for a message that was taken."""
        try:
            self.mux.consumed(stream, size)
        except RemoteProtocolError as broken:
            self.fail(broken.what)
        if self.mux.wants_write:
            self.wake()

    def _flush_soon(self) -> None:
        self._flush_due = False
        self._flush()

    def _flush(self) -> None:
        mux = self.mux
        while not self._paused and not self.closed:
            buffers = mux.take(_BATCH)
            if not buffers:
                break
            self._sink.write(buffers)
        if self.draining:
            for stream in list(self.draining):
                if stream.drained():
                    self.draining.discard(stream)

    def _set_deadline(self, stream: MuxStream, deadline: float) -> None:
        self.mux.set_deadline(stream, deadline)
        if deadline < self._timer_at:
            self._arm(deadline)

    def _arm(self, deadline: float) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._timer_at = deadline
        self._timer = self._loop.call_later(max(0.0, deadline - self._clock.monotonic()), self._expire)

    def _expire(self) -> None:
        self._timer = None
        self._timer_at = float("inf")
        # A timer may fire a little early by the other clock; half a millisecond is below what a deadline can say.
        for stream in self.mux.expire(self._clock.monotonic() + 0.0005):
            if stream.owner is not None:
                stream.owner.on_deadline()
        if self.mux.next_deadline is not None and not self.closed:
            self._arm(self.mux.next_deadline)

    def _unavailable(self, *, maybe: bool) -> Unavailable:
        return Unavailable(f"the link to {self._name()} is gone: {self._why}", maybe=maybe)

    def _name(self) -> str:
        return self.caller.peer or self.caller.name or "the controller"

    # serving

    def _serve(self, stream: MuxStream, body: bytes, ended: bool) -> None:
        method = stream.method
        route = self._router.get(method)
        if route is None or not route.allow_bits & self._bits:
            kind = str(self.caller.audience.name).lower()
            self.mux.reset(stream, Denied(f"there is no method {method} for a {kind}", method=method))
            return
        headers = stream.headers
        deadline = None
        if "deadline_ms" in headers:
            left_ms = headers.pop("deadline_ms")
            if type(left_ms) is not int or not 0 < left_ms <= MAX_DEADLINE_MS:
                self.mux.reset(stream, UsageError(f"deadline_ms of a call of {method} is out of range"))
                return
            deadline = self._clock.monotonic() + left_ms / 1000
            self._set_deadline(stream, deadline)
        request = Request(method, body, headers, deadline, self.caller)
        if route.streaming is not None:
            self.mux.consumed(stream, len(body))
            opened = Stream(self, stream)
            if ended:
                opened.on_end()
            stream.owner = opened
            opened.serve(self._start(self._run_streaming(stream, route.streaming, request, opened)))
        elif not ended:
            self.mux.reset(stream, UsageError(f"{method} takes one message"))
        elif route.direct is not None:
            self._run_direct(stream, route.direct, request)
        elif route.unary is not None:
            serving = TaskCall(self, stream)
            stream.owner = serving
            serving.task = self._start(self._run_unary(stream, route.unary, request))

    if sys.version_info >= (3, 12):

        def _start(self, coroutine: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
            task = asyncio.Task(coroutine, loop=self._loop, eager_start=True)
            if not task.done():
                self._tasks.add(task)
                task.add_done_callback(self._tasks.discard)
            return task

    else:

        def _start(self, coroutine: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
            task = self._loop.create_task(coroutine)
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)
            return task

    def _run_direct(self, stream: MuxStream, handler: DirectHandler, request: Request) -> None:
        reply = DirectCall(self, stream)
        stream.owner = reply
        try:
            handler(request, reply)
        except OsirisError as error:
            self.mux.reset(stream, error)
        except Exception:  # noqa: BLE001 - the outermost edge of a handler: its defect must not take the link down
            self._defect(stream)

    async def _run_unary(self, stream: MuxStream, handler: UnaryHandler, request: Request) -> None:
        try:
            self.mux.send(stream, await handler(request), end=True)
            self.wake()
        except OsirisError as error:
            self.reset(stream, error)
        except asyncio.CancelledError:
            self.reset(stream, Unavailable(f"{request.method} was stopped", maybe=True))
            raise
        except Exception:  # noqa: BLE001 - the outermost edge of a handler's task
            self._defect(stream)

    async def _run_streaming(self, stream: MuxStream, handler: StreamHandler, request: Request, opened: Stream) -> None:
        try:
            await handler(request, opened)
            self.mux.finish(stream)
            self.wake()
        except OsirisError as error:
            self.reset(stream, error)
        except asyncio.CancelledError:
            self.reset(stream, Unavailable(f"{request.method} was stopped", maybe=True))
            raise
        except Exception:  # noqa: BLE001 - the outermost edge of a handler's task
            self._defect(stream)

    def _defect(self, stream: MuxStream) -> None:
        _log.exception("handler failed", extra={"method": stream.method, "peer": self._name()})
        error = InternalError(f"{stream.method} failed inside the controller", fix="look into its log")
        self.reset(stream, error)


def local_caller(audience: Audience, name: str) -> Caller:
    """Return the caller of a link without boxes."""
    return Caller(public_key=b"", peer="", audience=audience, name=name)
