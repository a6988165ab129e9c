"""Raft's messages over links: one urgent, one-way stream to each peer.

Raft may send from its own thread and must never wait; what a peer can't take in time is dropped, and Raft is told that
the peer is gone and back, which makes it start that peer's replication afresh (raft/DESIGN.md, "send window").
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Callable
from typing import Final, Protocol

from osiris_mesh.errors import Denied, OsirisError
from osiris_mesh.link import Audience, Link, Request, Router, Stream

__all__ = ["METHOD", "RaftLinks"]

METHOD: Final = "raft"
_QUEUE_BYTES: Final = 16 << 20
_RETRY_SECONDS: Final = 0.05
_LONGEST_RETRY_SECONDS: Final = 1.0
_log = logging.getLogger(__name__)


class Receiver(Protocol):
    """Where messages and news of peers go; every method may be called from the loop thread and returns at once."""

    def deliver(self, peer: str, message: bytes) -> None:
        """Take one message from ``peer``."""
        ...

    def peer_up(self, peer: str) -> None:
        """Learn that messages to ``peer`` go out from now on."""
        ...

    def peer_down(self, peer: str) -> None:
        """Learn that messages to ``peer`` are lost from now on."""
        ...


class _Outbox:
    """Messages to one peer, waiting for its link's flow control."""

    def __init__(self, link: Link) -> None:
        self.link = link
        self.waiting: deque[bytes] = deque()
        self.size = 0
        self.wake = asyncio.Event()


class RaftLinks:
    """Carries Raft's messages.

    Args:
        router: Where the receiving method is registered.
        loop: The loop all links live on.
        may_vote: Says of a peer whether it votes or may become a voter; nobody else has anything to say to Raft.
    """

    def __init__(self, router: Router, loop: asyncio.AbstractEventLoop, may_vote: Callable[[str], bool]) -> None:
        self._loop = loop
        self._may_vote = may_vote
        self._receiver: Receiver | None = None
        self._outboxes: dict[str, _Outbox] = {}
        self._tasks: dict[str, asyncio.Task[None]] = {}
        self._pending: deque[tuple[str, bytes]] = deque()
        self._scheduled = False
        router.streaming(METHOD, self._receive, allow=Audience.MEMBER)

    def attach(self, receiver: Receiver) -> None:
        """Name who takes the messages; before that they are refused."""
        self._receiver = receiver

    # From the Raft thread.

    def send(self, peer: str, message: bytes) -> None:
        """Queue ``message`` for ``peer``; from any thread, never waits."""
        self._pending.append((peer, message))
        if self._scheduled:
            return
        # Set before it is asked for and cleared before the queue is read, so that no message is left waiting.
        self._scheduled = True
        try:
            self._loop.call_soon_threadsafe(self._drain)
        except RuntimeError:
            # The loop is closed: the controller is past caring what Raft still wanted to say.
            self._pending.clear()

    # On the loop.

    def link_up(self, link: Link) -> None:
        """Begin to carry messages to the member at the other end of ``link``."""
        peer = link.caller.peer
        self._stop(peer)
        box = _Outbox(link)
        self._outboxes[peer] = box
        task = self._loop.create_task(self._pump(peer, box), name=f"raft to {peer}")
        self._tasks[peer] = task

    def link_down(self, peer: str) -> None:
        """Stop carrying messages to ``peer``."""
        self._stop(peer)
        if self._receiver is not None:
            self._receiver.peer_down(peer)

    async def close(self) -> None:
        """Stop all pumps."""
        tasks = list(self._tasks.values())
        for peer in list(self._outboxes):
            self._stop(peer)
        await asyncio.gather(*tasks, return_exceptions=True)

    def _stop(self, peer: str) -> None:
        self._outboxes.pop(peer, None)
        task = self._tasks.pop(peer, None)
        if task is not None:
            task.cancel()

    def _drain(self) -> None:
        self._scheduled = False
        pending = self._pending
        while pending:
            peer, message = pending.popleft()
            box = self._outboxes.get(peer)
            if box is None:
                continue
            if box.size + len(message) > _QUEUE_BYTES:
                box.waiting.clear()
                box.size = 0
                if self._receiver is not None:
                    self._receiver.peer_down(peer)
                    self._receiver.peer_up(peer)
                continue
            box.waiting.append(message)
            box.size += len(message)
            box.wake.set()

    async def _pump(self, peer: str, box: _Outbox) -> None:
        pause = _RETRY_SECONDS
        while not box.link.closed:
            try:
                await self._carry(peer, box)
            except OsirisError as error:
                # Mostly a member that has not applied the block yet which names us as one: it will.
                _log.debug("raft stream to %s ended: %s", peer, error)
                if self._receiver is not None and self._outboxes.get(peer) is box:
                    self._receiver.peer_down(peer)
            box.waiting.clear()
            box.size = 0
            await asyncio.sleep(pause)
            pause = min(2 * pause, _LONGEST_RETRY_SECONDS)

    async def _carry(self, peer: str, box: _Outbox) -> None:
        stream = box.link.open(METHOD, urgent=True)
        if self._receiver is not None:
            self._receiver.peer_up(peer)
        ended = self._loop.create_task(stream.receive(), name=f"raft stream to {peer}")
        ended.add_done_callback(lambda _done: box.wake.set())
        try:
            while True:
                while box.waiting:
                    message = box.waiting.popleft()
                    box.size -= len(message)
                    await stream.send(message)
                box.wake.clear()
                if ended.done():
                    # Nothing is ever said on it: whatever came, or came to an end, ends it, and its error is ours.
                    ended.result()
                    return
                await box.wake.wait()
        finally:
            ended.cancel()

    async def _receive(self, request: Request, stream: Stream) -> None:
        peer = request.caller.peer
        self._check(peer)
        while True:
            message = await stream.receive()
            if message is None:
                return
            # Again for each: who lost the role of a voter falls silent without a new link.
            self._check(peer)
            if self._receiver is not None:
                self._receiver.deliver(peer, message)

    def _check(self, peer: str) -> None:
        if not self._may_vote(peer):
            raise Denied(f"{peer} does not vote in this mesh", fix="give it the role voter: osiris-mesh member role")
