"""The SDK's connection for threads: one shared link, made again after a restart of the controller or a fork."""

from __future__ import annotations

import os
import sys
import threading
import time
import weakref
from collections.abc import Callable
from typing import Final, TypeVar

from osiris_mesh.errors import DeadlineExceeded, OsirisError, Unavailable, UsageError
from osiris_mesh.link.blocking import BlockingLink, BlockingStream
from osiris_sdk.talk import Exchange, Talk, may_resend
from osiris_sdk.target import LocalTarget, Target, TokenTarget

__all__ = ["CONNECT_S", "Line", "connector"]

CONNECT_S: Final = 5.0
T = TypeVar("T")


class Line:
    """Carries exchanges to a controller. Any number of threads may use one.

    Args:
        connect: Makes a link, or None if there is only the one given.
        link: The link to begin with.
        deadline: Monotonic seconds no exchange goes beyond: inside a function, that of the call it answers.
    """

    def __init__(
        self,
        connect: Callable[[], BlockingLink] | None,
        link: BlockingLink | None = None,
        deadline: float | None = None,
    ) -> None:
        self._connect = connect
        self._link = link
        self._deadline = deadline
        self._lock = threading.Lock()
        self._closed = False
        if connect is not None:
            _lines.add(self)

    def link(self) -> BlockingLink:
        """Return the live link, connecting if need be.

        Raises:
            Unavailable: It can't be had.
            UsageError: Inside an ``async def`` function, whose other calls would wait for this one.
        """
        if self._connect is None:
            _refuse_on_a_loop()
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
                    answer = self._exchange(exchange, deadline)
                except OsirisError as error:
                    exchange = talk.throw(error)
                else:
                    exchange = talk.send(answer)
        except StopIteration as end:
            result: T = end.value
            return result

    def _exchange(self, exchange: Exchange, deadline: float | None) -> bytes:
        link = self.link()
        try:
            return link.call(
                exchange.method,
                exchange.body,
                timeout=exchange.left(deadline, time.monotonic()),
                headers=exchange.headers,
            )
        except Unavailable as error:
            # An error of a live link is the controller's own answer.
            if not link.closed or self._connect is None or not may_resend(exchange, error):
                raise
        return self.link().call(
            exchange.method, exchange.body, timeout=exchange.left(deadline, time.monotonic()), headers=exchange.headers
        )

    def begin(self, exchange: Exchange) -> BlockingStream:
        """Send an exchange; its answer is the one message to be received."""
        return self.link().open(
            exchange.method,
            exchange.body,
            timeout=exchange.left(self._deadline, time.monotonic()),
            headers=exchange.headers,
            end=True,
        )

    def open(self, method: str, body: bytes, *, timeout: float | None, end: bool = False) -> BlockingStream:
        """Open a stream."""
        return self.link().open(method, body, timeout=timeout, end=end)

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


def _refuse_on_a_loop() -> None:
    """Refuse to block a function's event loop: the very call it waits for may have to run there."""
    asyncio = sys.modules.get("asyncio")
    if asyncio is None:
        return
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return
    raise UsageError(
        "a call that waits would stop everything else of this async function",
        fix="write: await asyncio.to_thread(osiris_sdk.current().call, name, ...)",
    )


def connector(target: Target, timeout: float) -> Callable[[], BlockingLink]:
    """Return what makes links to ``target``, each in at most ``timeout`` seconds."""
    match target:
        case LocalTarget(path):
            return lambda: BlockingLink.unix(path, timeout=timeout)
        case TokenTarget(text):
            return lambda: _with_token(text, timeout)


def _with_token(text: str, timeout: float) -> BlockingLink:
    """Connect to any member a token names."""
    from osiris_sdk.credentials import Credentials, nobody  # noqa: PLC0415 - brings NaCl, which local callers do without

    credentials = Credentials.from_token(text)
    until = time.monotonic() + timeout
    last: OsirisError | None = None
    members = credentials.shuffled()
    for member in members:
        left = until - time.monotonic()
        if left <= 0:
            break
        try:
            return BlockingLink.tcp(member, credentials.key, credentials.network_key, credentials.hello(), timeout=left)
        except (Unavailable, DeadlineExceeded) as error:
            last = error
    raise nobody(len(members), last)


_lines: weakref.WeakSet[Line] = weakref.WeakSet()


def _forked() -> None:
    for line in list(_lines):
        line.forked()


os.register_at_fork(after_in_child=_forked)
