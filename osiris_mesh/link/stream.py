"""A stream of an asyncio link: whole messages in both directions."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator
from typing import TYPE_CHECKING, Final

from osiris_mesh.errors import DeadlineExceeded, LocalProtocolError, OsirisError, Unavailable
from osiris_mesh.link.mux import MuxStream

if TYPE_CHECKING:
    from osiris_mesh.link.aio import Link

__all__ = ["Stream"]

_HIGH: Final = 1 << 18


class Stream:
    """Messages in both directions, whole and in order; made by :meth:`Link.open` or handed to a streaming handler.

    Attributes:
        method: What it was opened for.
    """

    def __init__(self, link: Link, stream: MuxStream) -> None:
        self.method = stream.method
        self._link = link
        self._stream = stream
        self._queue: deque[bytes] = deque()
        self._ended = False
        self._error: OsirisError | None = None
        self._waiter: asyncio.Future[None] | None = None
        self._drained: asyncio.Future[None] | None = None
        self._task: asyncio.Task[None] | None = None

    async def send(self, data: bytes) -> None:
        """Send one message; waits while more than 256 KiB of the stream wait to be written.

        Raises:
            OsirisError: What ended the stream: the peer's error, ``DeadlineExceeded``, ``Unavailable``.
            LocalProtocolError: After :meth:`end`.
            UsageError: The message is larger than a link carries.
        """
        if self._error is not None:
            raise self._error
        self._link.mux.send(self._stream, data)
        self._link.wake()
        while self._stream.queued > _HIGH:
            if self._drained is None:
                self._drained = asyncio.get_running_loop().create_future()
                self._link.draining.add(self)
            await asyncio.shield(self._drained)
            if self._error is not None:
                raise self._error

    async def end(self) -> None:
        """Say that we send nothing more; the peer may still send."""
        self._link.mux.end(self._stream)
        self._link.wake()

    async def receive(self) -> bytes | None:
        """Return the next message, or None when the peer has ended; one task at a time may wait.

        Raises:
            OsirisError: What ended the stream, once the messages before it were taken.
        """
        while not self._queue:
            if self._ended:
                return None
            if self._error is not None:
                raise self._error
            if self._waiter is not None:
                raise LocalProtocolError("two tasks wait for messages of one stream")
            self._waiter = asyncio.get_running_loop().create_future()
            try:
                await self._waiter
            finally:
                self._waiter = None
        body = self._queue.popleft()
        self._link.consumed(self._stream, len(body))
        return body

    def reset(self, error: OsirisError | None = None) -> None:
        """End both directions at once; the peer gets ``error``, or just that nothing is wanted any more."""
        if self._error is None:
            self._error = error or Unavailable(f"the stream {self.method} was given up", maybe=True)
        self._link.reset(self._stream, error)
        self._wake()

    async def __aiter__(self) -> AsyncIterator[bytes]:
        while (message := await self.receive()) is not None:
            yield message

    def drained(self) -> bool:
        """Let a waiting :meth:`send` go on if little enough is queued; whether it may."""
        if self._stream.queued > _HIGH and self._error is None:
            return False
        drained, self._drained = self._drained, None
        if drained is not None and not drained.done():
            drained.set_result(None)
        return True

    def _wake(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)
        if self._drained is not None and self._error is not None:
            self._link.draining.discard(self)
            self.drained()

    def serve(self, task: asyncio.Task[None]) -> None:
        """Note the task that serves this stream, to be cancelled when the peer gives up."""
        self._task = task

    def on_message(self, body: bytes, ended: bool) -> None:
        """Queue a message."""
        self._queue.append(body)
        self._ended = ended
        self._wake()

    def on_end(self) -> None:
        """Nothing more comes."""
        self._ended = True
        self._wake()

    def on_reset(self, error: OsirisError | None) -> None:
        """The stream is over; messages before it can still be taken."""
        if self._error is None:
            self._error = error or Unavailable(f"the stream {self.method} was given up by the other end", maybe=True)
        self._wake()
        # With an error-free RESET the peer may just have had enough of our messages; its own are complete then.
        if self._task is not None:
            self._task.cancel()

    def on_deadline(self) -> None:
        """Its time ran out."""
        error = DeadlineExceeded(f"the stream {self.method} was not done in time")
        self._link.reset(self._stream, error if self._task is not None else None)
        self.on_reset(error)

    def on_lost(self, error: OsirisError) -> None:
        """The link is gone."""
        self.on_reset(error)
