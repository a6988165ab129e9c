"""The SDK's way to a controller, for threads: what every way offers, and the one over a single link."""

from __future__ import annotations

import os
import sys
import threading
import time
import weakref
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from typing import Any, Final, Protocol, TypeVar

from osiris_mesh.codec import pack, unpack
from osiris_mesh.errors import OsirisError, RemoteProtocolError, Unavailable, UsageError
from osiris_mesh.link.blocking import BlockingLink, BlockingStream
from osiris_sdk.talk import REQUEST_S, Exchange, Talk, may_resend

__all__ = [
    "CONNECT_S",
    "Line",
    "LinkLine",
    "Pending",
    "no_events",
    "refuse_on_a_loop",
    "remember",
    "running_loop",
    "stored",
]

CONNECT_S: Final = 5.0
"""Seconds to connect, unless said otherwise."""
_PIECE: Final = 256 * 1024
T = TypeVar("T")


class Pending(Protocol):
    """An exchange under way."""

    def receive(self) -> bytes | None:
        """Wait for the answer; raises what the exchange ended with."""
        ...

    def reset(self) -> None:
        """Give it up."""
        ...


class Line(ABC):
    """Carries exchanges to a controller. Any number of threads may use one.

    Args:
        deadline: Monotonic seconds no exchange goes beyond: inside a function, that of the call it answers.
    """

    def __init__(self, deadline: float | None = None) -> None:
        self._deadline = deadline

    def run(self, talk: Talk[T], timeout: float | None = None) -> T:
        """Carry a talk on to its end, in at most ``timeout`` seconds."""
        deadline = self._deadline
        if timeout is not None:
            until = time.monotonic() + timeout
            deadline = until if deadline is None else min(until, deadline)
        try:
            exchange = next(talk)
            while True:
                try:
                    answer = self.exchange(exchange, deadline)
                except OsirisError as error:
                    exchange = talk.throw(error)
                else:
                    exchange = talk.send(answer)
        except StopIteration as end:
            result: T = end.value
            return result

    @abstractmethod
    def open(self) -> None:
        """Make sure that somebody answers."""

    @abstractmethod
    def exchange(self, exchange: Exchange, deadline: float | None) -> bytes:
        """Carry one exchange, until ``deadline`` (monotonic seconds)."""

    @abstractmethod
    def begin(self, exchange: Exchange) -> Pending:
        """Send an exchange whose answer is received later.

        Raises:
            Unavailable: Nothing was sent.
        """

    @abstractmethod
    def logs(self, name: str, *, tail: int, follow: bool, since_ms: int) -> Iterator[dict[str, Any]]:
        """Yield log lines."""

    def events(self, names: str, after: int | None) -> Iterator[dict[str, Any]]:
        """Yield events of the mesh; only gateways have them."""
        del names, after
        raise no_events()

    @abstractmethod
    def upload(self, data: bytes, timeout: float) -> bytes:
        """Store a bundle; its digest."""

    @abstractmethod
    def close(self) -> None:
        """Close what is open."""

    def one(self) -> Line:
        """Return the way to one and the same controller, for exchanges that build on each other."""
        return self

    @abstractmethod
    def forked(self) -> None:
        """Leave what is open to the parent process; this one will make its own."""


class LinkLine(Line):
    """One link, made again when it is gone.

    Args:
        connect: Makes a link, or None if there is only the one given.
        link: The link to begin with.
        deadline: As for :class:`Line`.
    """

    def __init__(
        self,
        connect: Callable[[], BlockingLink] | None,
        link: BlockingLink | None = None,
        deadline: float | None = None,
    ) -> None:
        super().__init__(deadline)
        self._connect = connect
        self._link = link
        self._lock = threading.Lock()
        self._closed = False
        if connect is not None:
            _lines.add(self)

    def open(self) -> None:
        """Connect."""
        self.link()

    def link(self) -> BlockingLink:
        """Return the live link, connecting if need be.

        Raises:
            Unavailable: It can't be had.
            UsageError: Inside an ``async def`` function, whose other calls would wait for this one.
        """
        if self._connect is None:
            refuse_on_a_loop()
        link = self._link
        if link is not None and not link.closed:
            return link
        with self._lock:
            if self._closed:
                raise Unavailable("the connection was closed here", fix="connect again", maybe=False)
            link = self._link
            if link is None or link.closed:
                if self._connect is None:
                    raise Unavailable("the controller that runs this function is gone", maybe=False)
                link = self._link = self._connect()
            return link

    @property
    def live(self) -> bool:
        """Whether there is a link now."""
        link = self._link
        return link is not None and not link.closed

    def exchange(self, exchange: Exchange, deadline: float | None) -> bytes:
        """Carry one exchange; over a new link once if the old one was lost and it may be sent again."""
        link = self.link()
        try:
            return _over(link, exchange, deadline)
        except Unavailable as error:
            # An error of a live link is the controller's own answer.
            if not link.closed or self._connect is None or not may_resend(exchange, error):
                raise
        return _over(self.link(), exchange, deadline)

    def begin(self, exchange: Exchange) -> BlockingStream:
        """Send an exchange; its answer is the one message to be received."""
        return self.link().open(
            exchange.method,
            exchange.body,
            timeout=exchange.left(self._deadline, time.monotonic()),
            headers=exchange.headers,
            end=True,
        )

    def logs(self, name: str, *, tail: int, follow: bool, since_ms: int) -> Iterator[dict[str, Any]]:
        """Yield log lines of the node."""
        body = pack({"name": name, "tail": tail, "follow": follow, "since_ms": since_ms})
        stream = self.link().open("function.logs", body, timeout=None if follow else REQUEST_S, end=True)
        try:
            for message in stream:
                line = unpack(message)
                if not isinstance(line, dict):
                    raise RemoteProtocolError("a log line is not a map")
                yield line
        finally:
            stream.reset()

    def upload(self, data: bytes, timeout: float) -> bytes:
        """Store a bundle."""
        view = memoryview(data)
        stream = self.link().open("library.put", b"", timeout=timeout)
        try:
            for start in range(0, len(view), _PIECE):
                stream.send(bytes(view[start : start + _PIECE]))
            stream.end()
            answer = unpack(stream.receive() or b"\xc0")
        except BaseException:
            stream.reset()
            raise
        return stored(answer)

    def close(self) -> None:
        """Close the link; a link that was given stays open."""
        with self._lock:
            self._closed = True
            if self._connect is not None and self._link is not None:
                self._link.close()
            self._link = None

    def forked(self) -> None:
        """Leave the link to the parent process; this one will make its own."""
        # Another thread of the parent may have held the lock: it does not exist here.
        self._lock = threading.Lock()
        link, self._link = self._link, None
        if link is not None:
            link.abandon()


def running_loop() -> Any:
    """Return the event loop that runs in this thread, or None; loads no asyncio to find out."""
    asyncio = sys.modules.get("asyncio")
    return None if asyncio is None else asyncio._get_running_loop()  # noqa: SLF001 - documented for such uses


def refuse_on_a_loop() -> None:
    """Refuse to block a function's event loop: the very call it waits for may have to run there."""
    if running_loop() is not None:
        raise UsageError(
            "a call that waits would stop everything else of this async function",
            fix="write: await osiris_sdk.current_async().call(name, ...)",
        )


def _over(link: BlockingLink, exchange: Exchange, deadline: float | None) -> bytes:
    return link.call(
        exchange.method,
        exchange.body,
        timeout=exchange.left(deadline, time.monotonic()),
        headers=exchange.headers,
    )


def no_events() -> UsageError:
    """Return the error for events asked of what has none."""
    return UsageError(
        "events come over HTTP", fix='connect to the gateway: Mesh.connect("http://127.0.0.1:7480", token="osa1…")'
    )


def stored(answer: Any) -> bytes:
    """Return the digest in a controller's answer to a bundle.

    Raises:
        RemoteProtocolError: There is none.
    """
    digest = answer.get("digest") if isinstance(answer, dict) else None
    if type(digest) is not bytes:
        raise RemoteProtocolError("the controller took a bundle without answering its digest")
    return digest


_lines: weakref.WeakSet[Line] = weakref.WeakSet()


def remember(line: Line) -> None:
    """Tell ``line`` of forks for as long as it lives."""
    _lines.add(line)


def _forked() -> None:
    for line in list(_lines):
        line.forked()


os.register_at_fork(after_in_child=_forked)
