"""Who is asked next, and how long is waited: failing over inside one deadline. A pure core.

An attempt gets its fair share of what is left, or several times the expected response time where that is longer, but
never so much that the next one could not be tried at all: half of what is left stays for the others. The last one gets
everything. A call that may have taken effect is tried elsewhere only if it may be repeated.
Times are monotonic seconds.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

from osiris_mesh.registry.record import Provider

__all__ = ["Attempt", "Failover"]

_PATIENCE: Final = 4.0
"""Times the expected response time after which an answer is not waited for, while others are left."""
_LEAST_S: Final = 0.02
"""Less time than this is no attempt."""


@dataclass(frozen=True, slots=True)
class Attempt:
    """Ask this provider, and wait no longer than this.

    Attributes:
        provider: Whom to ask.
        wait: Seconds.
        number: 1 for the first.
    """

    provider: Provider
    wait: float
    number: int


class Failover:
    """The way through an ordered list of providers.

    Args:
        order: First the one to try first.
        deadline: When the caller's time is over.
        expected_ms: Expected response time of a provider.
        may_repeat: A call that may have taken effect may be made again.
        attempts: Providers tried at most.
    """

    def __init__(
        self,
        order: Sequence[Provider],
        *,
        deadline: float,
        expected_ms: Callable[[Provider], float],
        may_repeat: bool,
        attempts: int,
    ) -> None:
        self._left = list(reversed(order[:attempts]))
        self._deadline = deadline
        self._expected_ms = expected_ms
        self._may_repeat = may_repeat
        self._number = 0
        self._over = False

    @property
    def is_over(self) -> bool:
        """Nothing more is tried."""
        return self._over or not self._left

    def next(self, now: float) -> Attempt | None:
        """Return the next attempt, or None: all are tried, or the time is over."""
        left = self._deadline - now
        if self.is_over or left < _LEAST_S:
            self._over = True
            return None
        provider = self._left.pop()
        self._number += 1
        others = len(self._left)
        if not others:
            return Attempt(provider, left, self._number)
        wanted = max(left / (others + 1), _PATIENCE * self._expected_ms(provider) / 1000)
        return Attempt(provider, max(min(wanted, left / 2), _LEAST_S), self._number)

    def failed(self, *, maybe: bool) -> bool:
        """Note that the attempt failed; say whether another may be made.

        Args:
            maybe: It may have taken effect all the same: it timed out, or the connection broke after it was sent.
        """
        if maybe and not self._may_repeat:
            self._over = True
        return not self.is_over
