"""Our own health, as far as we can tell from how our probes go.

Source: Lifeguard, section IV-A "Local Health Aware Probe". A node that is slow, or cut off, sees everybody else
fail; the worse its score, the longer it waits before it accuses anybody.
"""

from __future__ import annotations

__all__ = ["Awareness"]


class Awareness:
    """A saturating counter.

    Args:
        highest: The score never goes above it (Lifeguard's S).

    Attributes:
        score: 0 is well.
    """

    __slots__ = ("_highest", "score")

    def __init__(self, highest: int) -> None:
        self._highest = highest
        self.score = 0

    def add(self, delta: int) -> None:
        """Worsen (positive) or improve (negative) the score."""
        self.score = min(self._highest, max(0, self.score + delta))

    def scale(self, seconds: float) -> float:
        """Return a period or timeout as long as our health demands."""
        return seconds * (self.score + 1)
