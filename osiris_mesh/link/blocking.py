"""The blocking shell of a link, for the SDK and for workers: the same :class:`Mux` over a blocking socket.

Any number of threads may use one link at a time. They share the reading: the first that waits becomes the *reader*, and
what it reads for others it hands to them; when it has its own answer, the next one that waits takes over. So nothing
runs in the background, a link with one thread costs one ``send`` and one ``recv`` a call, and a handler may call out
over the link it serves, in the same thread.

Imports neither asyncio nor nacl: a sandboxed worker has only msgpack. Links over TCP load the rest when they are made.
"""

from __future__ import annotations

import logging
import os
import select
import socket
import struct
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Protocol

from osiris_mesh.errors import (
    DeadlineExceeded,
    Denied,
    InternalError,
    OsirisError,
    RemoteProtocolError,
    Unavailable,
    UsageError,
)
from osiris_mesh.link.mux import Ended, Mux, MuxLimits, MuxStream, Opened, Ponged, Received
from osiris_mesh.link.request import Audience, Caller, Request

if TYPE_CHECKING:
    from osiris_mesh.identity.keys import KeyPair
    from osiris_mesh.identity.multiaddr import Multiaddr
    from osiris_mesh.link.hello import Hello

__all__ = ["BlockingLink", "BlockingStream"]

_BATCH: Final = 1 << 18
_BUFFER: Final = 1 << 18
_HIGH: Final = 1 << 18
_MAX_DEADLINE_MS: Final = 7 * 24 * 3600 * 1000
# How long a plain recv may block while a deadline is running; nearer deadlines take the slower way through poll.
_TICK_S: Final = 1.0
_STALE_S: Final = 1.0
_SEND_STALL_S: Final = 60.0
_log = logging.getLogger("osiris.link")


class Boxes(Protocol):
    """Encryption between the frames and the socket."""

    def seal(self, buffers: list[bytes | memoryview]) -> list[bytes | memoryview]:
        """Return what to write for ``buffers``."""
        ...

    def receive(self, data: bytes | memoryview) -> bytes:
        """Return what is inside ``data``; raises RemoteProtocolError."""
        ...

    def goodbye(self) -> bytes:
        """Return the last packet."""
        ...

    @property
    def said_goodbye(self) -> bool:
        """Whether the peer did."""
        ...


class _Waiter:
    """What one thread blocks on while another reads."""

    __slots__ = ("_lock", "called")

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._lock.acquire()
        self.called = False

    def set(self) -> None:
        """Wake the thread; called with the link's lock held."""
        if not self.called:
            self.called = True
            self._lock.release()

    def wait(self, seconds: float | None) -> None:
        """Block until :meth:`set`, at most so long."""
        self._lock.acquire(timeout=-1 if seconds is None else seconds)


class BlockingStream:
    """Messages in both directions, whole and in order.

    Attributes:
        method: What it was opened for.
    """

    def __init__(self, link: BlockingLink, stream: MuxStream, deadline: float | None) -> None:
        self.method = stream.method
        self.core = stream
        self.deadline = deadline
        self.queue: deque[bytes] = deque()
        self.ended = False
        self.error: OsirisError | None = None
        self.waiter: _Waiter | None = None
        self.done: Callable[[], None] | None = None
        self._link = link

    def send(self, data: bytes, *, end: bool = False) -> None:
        """Send one message (``end``: the last); waits while more than 256 KiB of the stream wait to be written.

        Raises:
            OsirisError: What ended the stream: the peer's error, ``DeadlineExceeded``, ``Unavailable``.
            LocalProtocolError: After the end.
            UsageError: The message is larger than a link carries.
        """
        self._link.stream_send(self, data, end=end)

    def end(self) -> None:
        """Say that we send nothing more; the peer may still send."""
        self._link.stream_end(self)

    def receive(self, timeout: float | None = None) -> bytes | None:
        """Return the next message, or None when the peer has ended.

        Args:
            timeout: Seconds to wait; the stream stays usable when they pass.

        Raises:
            OsirisError: What ended the stream, once the messages before it were taken.
            DeadlineExceeded: Nothing came in ``timeout``, or the stream's own time ran out.
        """
        return self._link.stream_receive(self, timeout)

    def reset(self, error: OsirisError | None = None) -> None:
        """End both directions at once; the peer gets ``error``, or just that nothing is wanted any more."""
        self._link.stream_reset(self, error)

    def __iter__(self) -> Iterator[bytes]:
        while (message := self.receive()) is not None:
            yield message

    @property
    def cancelled(self) -> bool:
        """Whether the peer gave the stream up, as far as was read."""
        return self.error is not None


def _result(stream: BlockingStream) -> bytes | OsirisError:
    if stream.error is not None:
        return stream.error
    if len(stream.queue) != 1:
        return RemoteProtocolError(f"{stream.method} answered a unary call with {len(stream.queue)} messages")
    return stream.queue[0]


class BlockingLink:
    """One live connection, for threads. Make it with :meth:`unix`, :meth:`over` or :meth:`tcp`.

    Args:
        connection: A connected stream socket; the link owns it from now on.
        caller: Who the peer is, as requests it makes will say.
        serving: Keep streams the peer opens for :meth:`accept` and :meth:`serve`; otherwise they are refused.
        limits: What the peer may make us spend.
        boxes: Encryption; None on one machine.

    Attributes:
        caller: As given.
        closed: Nothing can be sent any more.
    """

    def __init__(
        self,
        connection: socket.socket,
        caller: Caller,
        *,
        serving: bool = False,
        limits: MuxLimits | None = None,
        boxes: Boxes | None = None,
    ) -> None:
        self.caller = caller
        self.closed = False
        self._mux = Mux(limits)
        self._socket = connection
        self._boxes = boxes
        self._serving = serving
        self._lock = threading.Lock()
        self._reading = False
        self._buffer = memoryview(bytearray(_BUFFER))
        self._unsent: deque[memoryview] = deque()
        self._why = ""
        self._followers: dict[_Waiter, None] = {}
        self._acceptors: list[_Waiter] = []
        self._called = 0  # acceptors woken and not yet on their feet
        self._attended: set[BlockingStream] = set()  # streams of begin
        self._attending = False
        self._incoming: deque[tuple[Request, BlockingStream]] = deque()
        self._last_read = time.monotonic()
        self._tick = 0.0
        connection.settimeout(None)

    # making one

    @classmethod
    def unix(cls, path: Path | str, *, timeout: float = 5.0, serving: bool = False) -> BlockingLink:
        """Connect to a controller's Unix socket.

        Raises:
            Unavailable: Nobody listens there.
        """
        connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            connection.settimeout(timeout)
            connection.connect(os.fspath(path))
        except OSError as error:
            connection.close()
            raise Unavailable(
                f"no controller answers at {path}: {error.strerror or type(error).__name__}",
                fix="start it with: osiris-mesh start",
                maybe=False,
            ) from None
        return cls.over(connection, name=os.fspath(path), serving=serving)

    @classmethod
    def over(cls, connection: socket.socket, *, name: str = "the controller", serving: bool = False) -> BlockingLink:
        """Make a link of a connected socket, for example the inherited end of a socket pair."""
        return cls(connection, Caller(b"", "", Audience.LOCAL, name), serving=serving)

    @classmethod
    def tcp(
        cls,
        address: Multiaddr,
        key: KeyPair,
        network_key: bytes,
        hello: Hello,
        *,
        timeout: float = 5.0,
    ) -> BlockingLink:
        """Connect to a peer over TCP with the full handshake.

        Args:
            address: Where, with the peer id that must answer there.
            key: Our own key.
            network_key: The mesh's 32-byte secret.
            hello: What we say of ourselves.
            timeout: Seconds for all of it.

        Raises:
            Unavailable: Nobody answers there.
            Denied: Whoever answers does not accept us, or is another peer.
            UsageError: The address names no peer.
        """
        from osiris_mesh.link.blocking_tcp import connect  # noqa: PLC0415 - loads nacl, which workers do not have

        connection, caller, session, payload = connect(address, key, network_key, hello, timeout=timeout)
        link = cls(connection, caller, boxes=session)
        with link._lock:
            link._dispatch(payload)
            link._push()
        return link

    # calling

    def call(
        self,
        method: str,
        body: bytes = b"",
        *,
        timeout: float | None,
        headers: Mapping[str, Any] | None = None,
        urgent: bool = False,
    ) -> bytes:
        """Make a unary call and wait for its answer; arguments and errors as :meth:`osiris_mesh.link.Link.call`."""
        deadline = None if timeout is None else time.monotonic() + timeout
        with self._lock:
            stream = self._open(method, body, timeout, deadline, headers, end=True, urgent=urgent)
            try:
                self._push()
                while not stream.ended and stream.error is None:
                    if not self._wait(stream, deadline):
                        stream.error = DeadlineExceeded(f"{method} was not answered in time")
                        self._give_up(stream)
            except BaseException:
                self._give_up(stream)
                raise
            finally:
                self._pass_on()
            answer = _result(stream)
            if type(answer) is bytes:
                return answer
            raise answer  # type: ignore[misc]

    def open(
        self,
        method: str,
        body: bytes = b"",
        *,
        timeout: float | None = None,
        headers: Mapping[str, Any] | None = None,
        urgent: bool = False,
        end: bool = False,
    ) -> BlockingStream:
        """Open a stream; arguments and errors as :meth:`osiris_mesh.link.Link.open`.

        ``end``: ``body`` is all we send, so that a unary method can be begun now and its answer received later.
        """
        deadline = None if timeout is None else time.monotonic() + timeout
        with self._lock:
            stream = self._open(method, body, timeout, deadline, headers, end=end, urgent=urgent)
            self._push()
            self._pass_on()
            return stream

    def begin(
        self,
        method: str,
        body: bytes,
        done: Callable[[bytes | OsirisError], None],
        *,
        timeout: float | None = None,
        headers: Mapping[str, Any] | None = None,
    ) -> Callable[[], None]:
        """Make a unary call without waiting: for an event loop, whose threads must not block.

        Args:
            method: As for :meth:`call`.
            body: As for :meth:`call`.
            done: Called once with the answer or the error, by whichever thread reads, while it holds the link: it must
                not use the link, block or raise. ``loop.call_soon_threadsafe`` does neither.
            timeout: What the peer is told; whoever waits here for ``done`` keeps the time himself.
            headers: As for :meth:`call`.

        Returns:
            A function that gives the call up; ``done`` may still be called while it runs.

        Raises:
            Unavailable: The link is closed.
            DeadlineExceeded: ``timeout`` is not positive.
            UsageError: Body or headers too large.
        """
        with self._lock:
            stream = self._open(method, body, timeout, None, headers, end=True, urgent=False)
            stream.done = lambda: done(_result(stream))
            self._attended.add(stream)
            self._push()
            if not self._attending and not self.closed:
                self._attending = True
                threading.Thread(target=self._attend, name="link", daemon=True).start()
            self._pass_on()

        def give_up() -> None:
            with self._lock:
                stream.done = None
                self._attended.discard(stream)
                self._give_up(stream)
                self._pass_on()

        return give_up

    def _attend(self) -> None:
        """Read, or wait to, for as long as somebody waits for a call that :meth:`begin` began."""
        place = BlockingStream(self, MuxStream(0, "", {}, urgent=False), None)
        with self._lock:
            try:
                while self._attended and not self.closed:
                    self._wait(place, None)
            finally:
                self._attending = False
                self._pass_on()

    # serving

    def accept(self, timeout: float | None = None) -> tuple[Request, BlockingStream]:
        """Wait for a stream the peer opens.

        Raises:
            DeadlineExceeded: None came in ``timeout`` seconds.
            Unavailable: The link is gone.
        """
        deadline = None if timeout is None else time.monotonic() + timeout
        with self._lock:
            try:
                while not self._incoming:
                    if self.closed:
                        raise self._unavailable(maybe=False)
                    if not self._wait(None, deadline):
                        raise DeadlineExceeded("the peer opened no stream in time")
                return self._incoming.popleft()
            finally:
                self._pass_on()

    def serve(self, handler: Callable[[Request], bytes]) -> None:
        """Answer unary calls, one at a time, until the link is gone; several threads may serve one link.

        Args:
            handler: Gets each request in this thread; it may use this link itself. An :class:`OsirisError` it raises
                reaches the caller.
        """
        while True:
            try:
                request, stream = self.accept()
            except Unavailable:
                return
            if not stream.ended:
                stream.reset(UsageError(f"{request.method} takes one message"))
                continue
            try:
                stream.send(handler(request), end=True)
            except OsirisError as error:
                stream.reset(error)
            except Exception:  # noqa: BLE001 - the outermost edge of a handler: the next call finds the worker alive
                _log.exception("handler failed", extra={"method": request.method})
                stream.reset(InternalError(f"{request.method} failed inside the worker"))

    # closing

    def close(self) -> None:
        """Close; calls in flight in other threads end with ``Unavailable``."""
        with self._lock:
            if self.closed:
                return
            if self._boxes is not None and not self._unsent:
                with suppress(OSError):
                    self._socket.send(self._boxes.goodbye(), socket.MSG_DONTWAIT)
            self._lose("it was closed here")

    def abandon(self) -> None:
        """Close this process's descriptor alone: in a child after a fork, where the link is the parent's."""
        self.closed = True
        self._why = "it belongs to the parent process"
        self._socket.close()

    def __enter__(self) -> BlockingLink:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    # for streams

    def stream_send(self, stream: BlockingStream, data: bytes, *, end: bool) -> None:
        """Send a message on ``stream``."""
        with self._lock:
            if stream.error is not None:
                raise stream.error
            self._mux.send(stream.core, data, end=end)
            try:
                self._push()
                while stream.core.queued > _HIGH and stream.error is None:
                    if not self._wait(stream, stream.deadline):
                        raise self._expired(stream)
            finally:
                self._pass_on()
            if stream.error is not None:
                raise stream.error

    def stream_end(self, stream: BlockingStream) -> None:
        """End our direction of ``stream``."""
        with self._lock:
            self._mux.end(stream.core)
            self._push()
            self._pass_on()

    def stream_receive(self, stream: BlockingStream, timeout: float | None) -> bytes | None:
        """Return the next message of ``stream``."""
        deadline = stream.deadline
        if timeout is not None:
            until = time.monotonic() + timeout
            deadline = until if deadline is None else min(until, deadline)
        with self._lock:
            try:
                while not stream.queue:
                    if stream.ended:
                        return None
                    if stream.error is not None:
                        raise stream.error
                    if not self._wait(stream, deadline):
                        raise self._expired(stream)
                body = stream.queue.popleft()
                self._mux.consumed(stream.core, len(body))
                self._push()
                return body
            finally:
                self._pass_on()

    def stream_reset(self, stream: BlockingStream, error: OsirisError | None) -> None:
        """Reset ``stream``."""
        with self._lock:
            if stream.error is None:
                stream.error = error or Unavailable(f"the stream {stream.method} was given up", maybe=True)
            self._mux.reset(stream.core, error)
            self._push()
            self._pass_on()

    # inside; all with the lock held

    def _open(
        self,
        method: str,
        body: bytes,
        timeout: float | None,
        deadline: float | None,
        headers: Mapping[str, Any] | None,
        *,
        end: bool,
        urgent: bool,
    ) -> BlockingStream:
        if timeout is not None:
            if timeout <= 0:
                raise DeadlineExceeded(f"no time was left to call {method}")
            headers = {**(headers or {}), "deadline_ms": min(int(timeout * 1000) or 1, _MAX_DEADLINE_MS)}
        if not self._reading and not self.closed and time.monotonic() - self._last_read > _STALE_S:
            # Learn now whether the peer left meanwhile: later one could not tell whether it took the call.
            self._read(0.0)
        if self.closed:
            raise self._unavailable(maybe=False)
        core = self._mux.open(method, body, headers=headers, end=end, urgent=urgent)
        stream = BlockingStream(self, core, deadline)
        core.owner = stream
        return stream

    def _give_up(self, stream: BlockingStream) -> None:
        if not self.closed:
            self._mux.reset(stream.core, None)
            self._push()

    def _expired(self, stream: BlockingStream) -> OsirisError:
        """Return the error for a wait that took too long; if the stream's own time ran out, it ends."""
        if stream.error is not None:
            return stream.error
        if stream.deadline is None or time.monotonic() < stream.deadline:
            return DeadlineExceeded(f"no message of {stream.method} came in time")
        error = stream.error = DeadlineExceeded(f"the stream {stream.method} was not done in time")
        if not self.closed:
            self._mux.reset(stream.core, error if stream.core.id < 0 else None)
            self._push()
        return error

    def _wait(self, stream: BlockingStream | None, deadline: float | None) -> bool:
        """Let something happen: read, or sleep while another thread reads. False once ``deadline`` has passed."""
        left = None if deadline is None else deadline - time.monotonic()
        if left is not None and left <= 0:
            return False
        if not self._reading:
            self._read(left)
            return True
        waiter = _Waiter()
        if stream is None:
            self._acceptors.append(waiter)
        else:
            self._followers[waiter] = None
            stream.waiter = waiter
        self._lock.release()
        try:
            waiter.wait(left)
        finally:
            self._lock.acquire()
            if stream is not None:
                self._followers.pop(waiter, None)
                stream.waiter = None
            elif waiter.called:
                self._called -= 1
            else:
                self._acceptors.remove(waiter)
        return True

    def _pass_on(self) -> None:
        """Let a thread that waits take over: the reading, or a stream the peer opened.

        Acceptors are woken one at a time, the one that slept least first; who is up wakes the next if there is still
        something to do. So a burst does not set all threads of a worker against each other.
        """
        if self._called or (self._reading and not self._incoming):
            return
        if self._acceptors:
            self._called += 1
            self._acceptors.pop().set()
        elif self._followers and not self._reading:
            next(iter(self._followers)).set()

    def _read(self, seconds: float | None) -> None:
        """Read once, waiting at most so long (None: without end), and hand out what came."""
        self._reading = True
        self._lock.release()
        size: int | None = None
        why = ""
        try:
            if seconds is not None and seconds < _TICK_S:
                if seconds <= 0 or self._poll(select.POLLIN, seconds):
                    size = self._socket.recv_into(self._buffer, 0, socket.MSG_DONTWAIT)
            else:
                self._set_tick(0.0 if seconds is None else _TICK_S)
                size = self._socket.recv_into(self._buffer)
        except (BlockingIOError, InterruptedError):
            pass
        except OSError as error:
            size, why = 0, error.strerror or type(error).__name__
        finally:
            self._lock.acquire()
            self._reading = False
        if size is None or self.closed:
            return
        if size == 0:
            self._lose(why or "it was closed by the other end")
            return
        self._last_read = time.monotonic()
        try:
            data = self._buffer[:size]
            self._dispatch(data if self._boxes is None else self._boxes.receive(data))
        except RemoteProtocolError as error:
            self._lose(error.what)
            return
        if self._boxes is not None and self._boxes.said_goodbye:
            self._lose("it was closed by the other end")
            return
        if self._mux.wants_write or self._unsent:
            self._push()
        if self._incoming:
            # This thread may go on to read for an answer of its own.
            self._pass_on()

    def _set_tick(self, seconds: float) -> None:
        if seconds != self._tick:
            self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, struct.pack("ll", int(seconds), 0))
            self._tick = seconds

    def _poll(self, events: int, seconds: float) -> int:
        poller = select.poll()
        try:
            poller.register(self._socket, events)
        except ValueError:
            # Another thread closed the socket a moment ago.
            return 0
        ready = poller.poll(max(1, int(seconds * 1000)))
        return ready[0][1] if ready else 0

    def _dispatch(self, data: bytes | memoryview) -> None:
        for event in self._mux.receive(data):
            if isinstance(event, Opened):
                self._opened(event)
                continue
            if isinstance(event, Ponged):
                continue
            # No owner: refused a moment ago, while these very bytes were handled; what follows is too late.
            stream: BlockingStream | None = event.stream.owner
            if stream is None:
                continue
            if isinstance(event, Received):
                stream.queue.append(event.body)
                stream.ended = event.ended
            elif isinstance(event, Ended):
                stream.ended = True
            else:
                if stream.error is None:
                    stream.error = event.error or Unavailable(
                        f"{stream.method} was given up by the other end", maybe=True
                    )
                if event.stream.id < 0:
                    self._incoming = deque(item for item in self._incoming if item[1] is not stream)
            if stream.waiter is not None:
                stream.waiter.set()
            if stream.done is not None and (stream.ended or stream.error is not None):
                self._finished(stream)

    def _finished(self, stream: BlockingStream) -> None:
        """Tell who began a call that it is over."""
        self._attended.discard(stream)
        done, stream.done = stream.done, None
        if done is not None:
            done()

    def _opened(self, event: Opened) -> None:
        core = event.stream
        if not self._serving:
            self._mux.reset(core, Denied(f"there is no method {core.method} here", method=core.method))
            return
        deadline = None
        left_ms = core.headers.pop("deadline_ms", None)
        if left_ms is not None:
            if type(left_ms) is not int or not 0 < left_ms <= _MAX_DEADLINE_MS:
                self._mux.reset(core, UsageError(f"deadline_ms of a call of {core.method} is out of range"))
                return
            deadline = time.monotonic() + left_ms / 1000
        stream = BlockingStream(self, core, deadline)
        stream.ended = event.ended
        core.owner = stream
        self._incoming.append((Request(core.method, event.body, core.headers, deadline, self.caller), stream))

    def _push(self) -> None:
        """Write all that may be written now; while the socket is full, read, lest both ends wait for each other."""
        stalled_since = 0.0
        while not self.closed and not self._write():
            if stalled_since and time.monotonic() - stalled_since > _SEND_STALL_S:
                self._lose(f"the other end took nothing for {_SEND_STALL_S:.0f} s")
                return
            reader = not self._reading
            self._reading = True
            self._lock.release()
            ready = 0
            try:
                ready = self._poll(select.POLLOUT | (select.POLLIN if reader else 0), _TICK_S)
            finally:
                self._lock.acquire()
                if reader:
                    self._reading = False
            stalled_since = 0.0 if ready else stalled_since or time.monotonic()
            if reader and ready & ~select.POLLOUT and not self.closed:
                self._read(0.0)

    def _write(self) -> bool:
        """Write without waiting; False if the socket is full."""
        while True:
            unsent = self._unsent
            if not unsent:
                buffers = self._mux.take(_BATCH)
                if not buffers:
                    return True
                sealed = buffers if self._boxes is None else self._boxes.seal(buffers)
                if len(sealed) == 1:
                    unsent.append(memoryview(sealed[0]))
                else:
                    unsent.extend(memoryview(item) for item in sealed)
            try:
                if len(unsent) == 1:
                    sent = self._socket.send(unsent[0], socket.MSG_DONTWAIT)
                else:
                    sent = self._socket.sendmsg(list(unsent)[:64], (), socket.MSG_DONTWAIT)
            except (BlockingIOError, InterruptedError):
                return False
            except OSError as error:
                # The socket took nothing of what the core gave last, so the peer surely saw none of those calls.
                for stream in self._mux.just_opened:
                    stream.sent = False
                self._lose(error.strerror or type(error).__name__)
                return True
            self._mux.just_opened.clear()
            while sent:
                first = unsent[0]
                if sent < len(first):
                    unsent[0] = first[sent:]
                    break
                sent -= len(first)
                unsent.popleft()

    def _lose(self, why: str) -> None:
        if self.closed:
            return
        self.closed = True
        self._why = why
        for core in self._mux.streams():
            stream = core.owner
            if stream is not None and stream.error is None:
                stream.error = self._unavailable(maybe=core.sent)
                self._finished(stream)
        self._unsent.clear()
        for waiter in self._followers:
            waiter.set()
        self._called += len(self._acceptors)
        while self._acceptors:
            self._acceptors.pop().set()
        # A thread may be blocked in recv: shutdown wakes it, close alone would not.
        with suppress(OSError):
            self._socket.shutdown(socket.SHUT_RDWR)
        self._socket.close()

    def _unavailable(self, *, maybe: bool) -> Unavailable:
        who = self.caller.peer or self.caller.name
        return Unavailable(f"the link to {who} is gone: {self._why}", maybe=maybe)
