"""What one bearer may take of a node: requests a second, calls excepted, and event streams. Decisions alone.

Calls are counted where bearers are looked up; what bounds them is the queue of each function.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

from osiris_mesh.errors import Overloaded
from osiris_mesh.gateway.http.guard import Bucket
from osiris_mesh.settings.gateway import GatewaySettings

__all__ = ["Shares"]

_MOST: Final = 4096
_STREAM_MS: Final = 5000
_CHECK_MS: Final = 2000


class Shares:
    """The shares of all bearers of a face.

    Args:
        settings: Bounds.
    """

    def __init__(self, settings: GatewaySettings) -> None:
        self._settings = settings
        self._buckets: dict[str, tuple[int, Bucket]] = {}
        self._streams: Counter[str | bytes] = Counter()
        self._open = 0
        self._checks: Counter[str] = Counter()

    def ask(self, token: str, rate: int, now: float) -> None:
        """Count a request that is no call.

        Args:
            token: The bearer's token.
            rate: Requests a second.
            now: Monotonic seconds.

        Raises:
            Overloaded: He asks too often.
        """
        known = self._buckets.get(token)
        if known is None or known[0] != rate:
            if known is None and len(self._buckets) >= _MOST:
                del self._buckets[next(iter(self._buckets))]
            burst = max(self._settings.burst * rate // self._settings.requests_per_s, 1)
            known = self._buckets[token] = (rate, Bucket(rate, burst, now))
        wait = known[1].take(now)
        if wait > 0.0:
            raise Overloaded(
                f"this bearer makes more than {rate} requests a second",
                fix="ask less often; an operator raises the bound with: osiris-mesh config set http.requests_per_s N",
                retry_after_ms=int(wait * 1000) + 1,
            )

    @contextmanager
    def stream(self, token: str, user: bytes, per_bearer: int) -> Iterator[None]:
        """Hold an event stream open.

        Args:
            token: The bearer's token.
            user: Public key of the user behind him.
            per_bearer: Streams of one bearer at a time.

        Raises:
            Overloaded: He, his user or everybody has as many open as may be.
        """
        settings = self._settings
        if self._open >= settings.streams:
            raise Overloaded("there are too many streams at this node", fix="try another", retry_after_ms=_STREAM_MS)
        if self._streams[token] >= per_bearer:
            raise Overloaded(
                f"this bearer has {per_bearer} streams open, as many as one may",
                fix="end one; an operator raises the bound with: osiris-mesh config set http.streams_per_bearer N",
                retry_after_ms=_STREAM_MS,
            )
        if self._streams[user] >= max(settings.streams_per_user, per_bearer):
            raise Overloaded(
                "the bearers of this user have as many streams open as may be",
                fix="end one",
                retry_after_ms=_STREAM_MS,
            )
        self._open += 1
        self._streams[token] += 1
        self._streams[user] += 1
        try:
            yield
        finally:
            self._open -= 1
            for key in (token, user):
                self._streams[key] -= 1
                if not self._streams[key]:
                    del self._streams[key]

    @contextmanager
    def check(self, path: str) -> Iterator[None]:
        """Hold one of the few places of a route that takes much of a node.

        Args:
            path: The route's template.

        Raises:
            Overloaded: All are taken.
        """
        if self._checks[path] >= self._settings.checks:
            raise Overloaded(f"{path} is being answered already", fix="ask again later", retry_after_ms=_CHECK_MS)
        self._checks[path] += 1
        try:
            yield
        finally:
            self._checks[path] -= 1
