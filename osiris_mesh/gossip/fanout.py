"""Topic messages over links: one urgent, one-way stream to each linked member, a bounded queue before it."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterable
from typing import Final

from osiris_mesh.codec import Limits, pack, unpack
from osiris_mesh.errors import OsirisError, RemoteProtocolError
from osiris_mesh.gossip.outbox import Outbox, Parcel
from osiris_mesh.link import Audience, Link, Request, Router, Stream
from osiris_mesh.settings.gossip import GossipSettings

__all__ = ["MAX_ONWARD", "METHOD", "Fanout"]

METHOD: Final = "gossip.message"
MAX_ONWARD: Final = 16
"""Members one peer may be asked to pass a message on to."""
_BATCH_MESSAGES: Final = 64
_BATCH_BYTES: Final = 1 << 18
_FRAME: Final = Limits(size=1 << 20, depth=3, count=_BATCH_MESSAGES)
_log = logging.getLogger("osiris.gossip")

OnParcel = Callable[[str, bytes, list[bytes]], None]


class _Pump:
    __slots__ = ("box", "link", "task", "wake")

    def __init__(self, link: Link, box: Outbox) -> None:
        self.link = link
        self.box = box
        self.wake = asyncio.Event()
        self.task: asyncio.Task[None] | None = None


class Fanout:
    """Carries topic messages to and from linked members. Belongs to one loop.

    Args:
        router: Where ``gossip.message`` is registered.
        settings: Bounds of the queues.
        on_parcel: Called with the sender's peer id, a message's bytes and the public keys it is to be passed on to;
            must not block or raise.

    Attributes:
        dropped: Messages that fell out of queues of peers whose link is gone.
    """

    def __init__(self, router: Router, settings: GossipSettings, on_parcel: OnParcel) -> None:
        self._settings = settings
        self._on_parcel = on_parcel
        self._pumps: dict[str, _Pump] = {}
        self._closing: set[asyncio.Task[None]] = set()
        self.dropped = 0
        router.streaming(METHOD, self._serve, allow=Audience.MEMBER)

    def linked(self) -> Iterable[str]:
        """Return the peers messages go out to."""
        return self._pumps.keys()

    def send(self, peer: str, parcel: Parcel) -> bool:
        """Queue a message; False if there is no link to ``peer``."""
        pump = self._pumps.get(peer)
        if pump is None:
            return False
        pump.box.put(parcel)
        pump.wake.set()
        return True

    def up(self, link: Link, first: Iterable[Parcel]) -> None:
        """Begin to send to the member at the other end of ``link``.

        Args:
            link: A link that came up; it takes the place of an older one to the same peer, whose queue goes on.
            first: What the peer should know from the start.
        """
        peer = link.caller.peer
        old = self._pumps.get(peer)
        if old is not None:
            self._stop(old)
        settings = self._settings
        box = old.box if old else Outbox(max_messages=settings.queue_messages, max_bytes=settings.queue_bytes)
        for parcel in first:
            box.put(parcel)
        pump = _Pump(link, box)
        self._pumps[peer] = pump
        pump.task = asyncio.get_running_loop().create_task(self._run(peer, pump), name=f"gossip to {peer}")

    def down(self, peer: str) -> None:
        """Stop sending to ``peer``; what waited is dropped."""
        pump = self._pumps.pop(peer, None)
        if pump is not None:
            self.dropped += pump.box.dropped + len(pump.box)
            self._stop(pump)

    def waiting(self) -> dict[str, tuple[int, int]]:
        """Return, for each linked peer, how many messages wait and how many fell out."""
        return {peer: (len(pump.box), pump.box.dropped) for peer, pump in self._pumps.items()}

    async def close(self) -> None:
        """Stop all sending."""
        for peer in list(self._pumps):
            self.down(peer)
        await asyncio.gather(*self._closing, return_exceptions=True)

    def _stop(self, pump: _Pump) -> None:
        if pump.task is not None:
            pump.task.cancel()
            self._closing.add(pump.task)
            pump.task.add_done_callback(self._closing.discard)

    async def _run(self, peer: str, pump: _Pump) -> None:
        while not pump.link.closed:
            try:
                stream = pump.link.open(METHOD, urgent=True)
                await self._drain(pump, stream)
            except OsirisError as error:
                # The peer may not count us as a member yet: its ledger can be a moment behind ours.
                _log.debug("gossip to %s was refused: %s", peer, error)
                await asyncio.sleep(self._settings.link_retry_s)

    async def _drain(self, pump: _Pump, stream: Stream) -> None:
        box = pump.box
        while True:
            while box:
                batch = box.take(_BATCH_MESSAGES, _BATCH_BYTES)
                await stream.send(pack([[parcel.message.raw, parcel.onward] for parcel in batch]))
            pump.wake.clear()
            await pump.wake.wait()

    async def _serve(self, request: Request, stream: Stream) -> None:
        sender = request.caller.peer
        if request.body:
            self._take(sender, request.body)
        while (data := await stream.receive()) is not None:
            self._take(sender, data)

    def _take(self, sender: str, data: bytes) -> None:
        batch = unpack(data, _FRAME)
        if type(batch) is not list:
            raise RemoteProtocolError("a gossip frame is not an array")
        for item in batch:
            if type(item) is not list or len(item) != 2:
                raise RemoteProtocolError("a gossip frame holds something that is no message")
            raw, onward = item
            if type(raw) is not bytes or type(onward) is not list or len(onward) > MAX_ONWARD:
                raise RemoteProtocolError("a gossip frame holds something that is no message")
            if any(type(public) is not bytes or len(public) != 32 for public in onward):
                raise RemoteProtocolError("a gossip frame names a member that is no key")
            self._on_parcel(sender, raw, onward)
