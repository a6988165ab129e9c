"""Where each node's ledger stands, and who votes: told on the topic ``tip``, so that followers know it too."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, Protocol

from osiris_mesh.clock import Clock
from osiris_mesh.codec import Limits, pack, unpack
from osiris_mesh.errors import RemoteProtocolError

__all__ = ["TOPIC", "Standing", "Tips"]

TOPIC: Final = "tip"
_EVERY_SECONDS: Final = 1.0
_LEAST_SECONDS: Final = 0.05
_LIMITS: Final = Limits(size=2048, depth=2, count=16)
_KEEP_SECONDS: Final = 10.0


@dataclass(frozen=True, slots=True)
class Standing:
    """What a node says of itself.

    Attributes:
        height: Height of its newest block.
        tip: Hash of that block.
        term: Raft term it knows.
        leader: Peer id of the leader it follows, or empty.
        voters: Voters in force, as far as it knows.
        time_ms: Its wall clock when it said so.
    """

    height: int
    tip: bytes
    term: int
    leader: str
    voters: tuple[str, ...]
    time_ms: int

    def to_wire(self) -> bytes:
        """Return the body of a ``tip`` message."""
        return pack([self.height, self.tip, self.term, self.leader, list(self.voters), self.time_ms])

    @classmethod
    def from_wire(cls, data: bytes) -> Standing:
        """Read one.

        Raises:
            RemoteProtocolError: Not such a message.
        """
        value = unpack(data, _LIMITS)
        if not isinstance(value, list) or len(value) < 6:
            raise RemoteProtocolError("a tip has too few items")
        height, tip, term, leader, voters, time_ms = value[:6]
        good = (
            type(height) is type(term) is type(time_ms) is int
            and min(height, term, time_ms) >= 0
            and type(tip) is bytes
            and type(leader) is str
            and type(voters) is list
            and all(type(voter) is str and len(voter) <= 64 for voter in voters)
        )
        if not good:
            raise RemoteProtocolError("a tip has an item of the wrong kind")
        return cls(height, tip, term, leader, tuple(voters), time_ms)


class Topics(Protocol):
    """What tells and hears, as :class:`osiris_mesh.gossip.Gossip` does."""

    def publish(self, topic: str, body: bytes) -> None:
        """Send to all."""
        ...

    def on(self, topic: str, callback: Callable[[str, bytes], None]) -> None:
        """Hear from all: origin, body."""
        ...


class Tips:
    """Tells our standing when it changed, at most twenty times a second, and once a second anyway.

    Args:
        topics: The gossip.
        standing: Ours, asked anew.
        clock: Time.
        heard: Called with peer and standing when another node told its own.
    """

    def __init__(
        self,
        topics: Topics,
        standing: Callable[[], Standing],
        clock: Clock,
        heard: Callable[[str, Standing], None],
    ) -> None:
        self._topics = topics
        self._standing = standing
        self._clock = clock
        self._heard = heard
        self._wake = asyncio.Event()
        self._latest: dict[str, tuple[float, Standing]] = {}
        self._skew_ms: dict[str, int] = {}
        topics.on(TOPIC, self._on_message)

    def changed(self) -> None:
        """Tell soon."""
        self._wake.set()

    def of(self, peer: str) -> Standing | None:
        """Return what ``peer`` said last, unless that is long ago."""
        found = self._latest.get(peer)
        if found is None or self._clock.monotonic() - found[0] > _KEEP_SECONDS:
            return None
        return found[1]

    def newest_term(self) -> Standing | None:
        """Return the standing that knows a leader in the highest term."""
        known = [standing for peer in self._latest if (standing := self.of(peer)) is not None and standing.leader]
        return max(known, key=lambda standing: (standing.term, standing.height), default=None)

    def skew_ms(self) -> dict[str, int]:
        """Return by how much each peer's clock seemed ahead of ours, milliseconds."""
        return dict(self._skew_ms)

    def forget(self, peer: str) -> None:
        """Forget a node that is no member any longer."""
        self._latest.pop(peer, None)
        self._skew_ms.pop(peer, None)

    async def run(self) -> None:
        """Work until cancelled."""
        while True:
            self._topics.publish(TOPIC, self._standing().to_wire())
            await asyncio.sleep(_LEAST_SECONDS)
            try:
                async with asyncio.timeout(_EVERY_SECONDS):
                    await self._wake.wait()
            except TimeoutError:
                pass
            self._wake.clear()

    def _on_message(self, origin: str, body: bytes) -> None:
        standing = Standing.from_wire(body)
        self._latest[origin] = (self._clock.monotonic(), standing)
        self._skew_ms[origin] = standing.time_ms - self._clock.time_ms()
        self._heard(origin, standing)
