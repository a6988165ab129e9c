"""For how long a stream that broke is opened again; decisions alone."""

from __future__ import annotations

from typing import Final

__all__ = ["SILENCE_S", "TROUBLE_S", "Patience"]

SILENCE_S: Final = 45.0
"""Seconds without even a heartbeat after which a stream counts as lost; controllers send one every 15 s."""
TROUBLE_S: Final = 60.0
"""Seconds a stream that broke is tried again before the caller is told."""
_FIRST_S: Final = 0.1
_MOST_S: Final = 5.0


class Patience:
    """Counts the failures of one stream. A stream that never was is not tried again."""

    def __init__(self) -> None:
        self._heard = False
        self._wait = _FIRST_S
        self._since: float | None = None

    def heard(self) -> None:
        """Something came."""
        self._heard = True
        self._wait = _FIRST_S
        self._since = None

    def lost(self, now: float) -> float | None:
        """Return the seconds to wait before it is opened again; None: give up.

        Args:
            now: Monotonic seconds.
        """
        if self._since is None:
            self._since = now
        if not self._heard or now - self._since > TROUBLE_S:
            return None
        wait = self._wait
        self._wait = min(wait * 2, _MOST_S)
        return wait
