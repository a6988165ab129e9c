"""Which peer to ask for blocks, and when: a pure core.

A peer is *ready*, or *resting* after a failure (pause doubling up to a bound) or after a bad block (one long pause).
Peers are chosen at random among those that are ready and said they are ahead, so that many followers spread over many
peers instead of meeting at the leader.
"""

from __future__ import annotations

import random
from collections.abc import Collection
from dataclasses import dataclass

from osiris_mesh.settings.ledger import LedgerSettings

__all__ = ["PullPlan"]


@dataclass(slots=True)
class _Peer:
    height: int = 0
    rests_until: float = 0.0
    failures: int = 0


class PullPlan:
    """What is known of peers' chains.

    Args:
        settings: Pauses.
    """

    def __init__(self, settings: LedgerSettings) -> None:
        self._settings = settings
        self._peers: dict[str, _Peer] = {}

    def heard(self, peer: str, height: int) -> None:
        """Note the height a peer said it has."""
        self._peers.setdefault(peer, _Peer()).height = height

    def keep(self, peers: Collection[str]) -> None:
        """Forget all peers but these."""
        for peer in [peer for peer in self._peers if peer not in peers]:
            del self._peers[peer]

    def served(self, peer: str) -> None:
        """Note that a peer answered as it should."""
        self._peers.setdefault(peer, _Peer()).failures = 0

    def failed(self, peer: str, now: float) -> None:
        """Note that a peer could not be asked, or had not what it said."""
        view = self._peers.setdefault(peer, _Peer())
        pause = min(self._settings.retry_first_s * 2**view.failures, self._settings.retry_most_s)
        view.failures = min(view.failures + 1, 32)
        view.rests_until = now + pause

    def bad(self, peer: str, now: float) -> None:
        """Note that a peer sent a block that does not follow from the chain."""
        view = self._peers.setdefault(peer, _Peer())
        view.rests_until = now + self._settings.bad_peer_s

    def ready(self, peers: Collection[str], now: float) -> list[str]:
        """Return those of these peers that may be asked now."""
        known = self._peers
        return [peer for peer in peers if peer not in known or known[peer].rests_until <= now]

    def source(self, height: int, now: float, rng: random.Random) -> str | None:
        """Return a peer to pull from, or None if none that is ready is above ``height``."""
        ahead = sorted(peer for peer, view in self._peers.items() if view.height > height and view.rests_until <= now)
        return rng.choice(ahead) if ahead else None

    def wake(self, height: int, now: float) -> float | None:
        """Return the seconds until a resting peer above ``height`` is ready, or None if there is none."""
        waits = [view.rests_until - now for view in self._peers.values() if view.height > height]
        return max(0.0, min(waits)) if waits else None
