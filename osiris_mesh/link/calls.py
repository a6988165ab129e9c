"""What stands behind one stream of an asyncio link when it is a unary call: ours, or one we serve."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import TYPE_CHECKING, Protocol

from osiris_mesh.errors import DeadlineExceeded, OsirisError, RemoteProtocolError, Unavailable, UsageError
from osiris_mesh.link.mux import MuxStream

if TYPE_CHECKING:
    from osiris_mesh.link.aio import Link

__all__ = ["Answer", "DirectCall", "OwnCall", "Owner", "TaskCall"]

Answer = bytes | OsirisError
"""How a call ends."""


class Owner(Protocol):
    """What stands behind one stream."""

    def on_message(self, body: bytes, ended: bool) -> None:
        """A whole message arrived; ``ended``: it was the last."""
        ...

    def on_end(self) -> None:
        """The peer sends nothing more."""
        ...

    def on_reset(self, error: OsirisError | None) -> None:
        """The stream is over."""
        ...

    def on_deadline(self) -> None:
        """Its deadline passed."""
        ...

    def on_lost(self, error: OsirisError) -> None:
        """The link is gone."""
        ...


class OwnCall:
    """A unary call of ours."""

    __slots__ = ("body", "done", "link", "stream")

    def __init__(self, link: Link, stream: MuxStream, done: Callable[[Answer], None]) -> None:
        self.link = link
        self.stream = stream
        self.done: Callable[[Answer], None] | None = done
        self.body: bytes | None = None

    def settle(self, answer: Answer) -> None:
        """Hand the answer over, once."""
        done, self.done = self.done, None
        if done is not None:
            done(answer)

    def on_message(self, body: bytes, ended: bool) -> None:
        """The answer, or one message too many."""
        if self.body is not None:
            self.link.reset(self.stream, None)
            self.settle(RemoteProtocolError(f"{self.stream.method} answered a unary call with several messages"))
        elif ended:
            self.settle(body)
        else:
            self.body = body

    def on_end(self) -> None:
        """The answer is complete."""
        if self.body is None:
            self.settle(RemoteProtocolError(f"{self.stream.method} ended without an answer"))
        else:
            self.settle(self.body)

    def on_reset(self, error: OsirisError | None) -> None:
        """The error is the answer."""
        self.settle(error or Unavailable(f"{self.stream.method} was given up by the other end", maybe=True))

    def on_deadline(self) -> None:
        """Give it up; the peer stops too."""
        self.link.reset(self.stream, None)
        self.settle(DeadlineExceeded(f"{self.stream.method} was not answered in time"))

    def on_lost(self, error: OsirisError) -> None:
        """The loss is the answer."""
        self.settle(error)

    def cancel(self) -> None:
        """Give the call up; ``done`` is not called."""
        if self.done is not None:
            self.done = None
            self.link.reset(self.stream, None)


class _ServedCall:
    """A call the peer made of a unary method; what its two kinds have in common."""

    __slots__ = ("link", "stream")

    def __init__(self, link: Link, stream: MuxStream) -> None:
        self.link = link
        self.stream = stream

    def stop(self) -> None:
        """Stop the handler."""
        raise NotImplementedError

    def on_message(self, body: bytes, ended: bool) -> None:
        """Nothing comes behind the one message: the core refuses it."""

    def on_end(self) -> None:
        """The core refuses it too."""

    def on_reset(self, error: OsirisError | None) -> None:
        """The caller gave up."""
        del error
        self.stop()

    def on_deadline(self) -> None:
        """The caller's time ran out."""
        self.link.reset(self.stream, DeadlineExceeded(f"{self.stream.method} was not done in time"))
        self.stop()

    def on_lost(self, error: OsirisError) -> None:
        """Nobody waits any more."""
        del error
        self.stop()


class TaskCall(_ServedCall):
    """A call the peer made of a unary method, served by a task."""

    __slots__ = ("task",)

    def __init__(self, link: Link, stream: MuxStream) -> None:
        super().__init__(link, stream)
        self.task: asyncio.Task[None] | None = None

    def stop(self) -> None:
        """Cancel the task."""
        if self.task is not None:
            self.task.cancel()


class DirectCall(_ServedCall):
    """A call the peer made of a direct method: the :class:`osiris_mesh.link.router.Reply` its handler gets."""

    __slots__ = ("_cancelled",)

    def __init__(self, link: Link, stream: MuxStream) -> None:
        super().__init__(link, stream)
        self._cancelled: Callable[[], None] | None = None

    def send(self, body: bytes) -> None:
        """Answer."""
        self._cancelled = None
        try:
            self.link.mux.send(self.stream, body, end=True)
        except UsageError as error:
            self.link.reset(self.stream, error)
        self.link.wake()

    def fail(self, error: OsirisError) -> None:
        """Answer with an error."""
        self._cancelled = None
        self.link.reset(self.stream, error)

    def on_cancel(self, callback: Callable[[], None]) -> None:
        """Note whom to tell when nobody waits any more."""
        self._cancelled = callback

    def stop(self) -> None:
        """Tell the handler that nobody waits any more."""
        cancelled, self._cancelled = self._cancelled, None
        if cancelled is not None:
            cancelled()
