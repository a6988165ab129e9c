"""Whom a browser may speak for, and how often one bearer may ask: decisions alone.

A page of any origin can make its reader's browser send requests to loopback, and with a name of its own that resolves
to 127.0.0.1 (DNS rebinding) it would count as same-origin. So on loopback the Host header must name this machine, and
an Origin, where there is one, must be the same or named in the mesh's setting ``http.allowed_origins``.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Final

from osiris_mesh.gateway.http.exposure import is_loopback

__all__ = ["Bucket", "host_name", "is_local_host", "same_origin"]

_LOCAL_NAMES: Final = frozenset({"localhost", "127.0.0.1", "::1"})


@lru_cache(maxsize=256)
def host_name(header: str) -> str:
    """Return the host of a Host header, without port and brackets, in lower case; empty if it is none."""
    text = header.strip().lower()
    if text.startswith("["):
        host, bracket, rest = text[1:].partition("]")
        return host if bracket and (not rest or (rest[0] == ":" and rest[1:].isdigit())) else ""
    host, colon, port = text.partition(":")
    return "" if colon and not port.isdigit() else host


@lru_cache(maxsize=256)
def is_local_host(header: str, listens_at: str) -> bool:
    """Say whether a Host header names this machine as somebody on it would, or the very address listened at."""
    host = host_name(header)
    return host in _LOCAL_NAMES or (host != "" and host == listens_at and is_loopback(host))


def same_origin(origin: str, host: str, *, tls: bool) -> bool:
    """Say whether a page of ``origin`` came from here: the Host header ``host``, over TLS or not."""
    return origin.lower() == f"{'https' if tls else 'http'}://{host.lower()}"


class Bucket:
    """A token bucket.

    Args:
        rate: Tokens a second.
        burst: Most tokens at a time; it begins full.
        now: Monotonic seconds.
    """

    __slots__ = ("_burst", "_left", "_rate", "_since")

    def __init__(self, rate: float, burst: int, now: float) -> None:
        self._rate = rate
        self._burst = float(burst)
        self._left = float(burst)
        self._since = now

    def take(self, now: float) -> float:
        """Take one token; return 0.0, or the seconds until there is one."""
        left = min(self._left + (now - self._since) * self._rate, self._burst)
        self._since = now
        if left < 1.0:
            self._left = left
            return (1.0 - left) / self._rate
        self._left = left - 1.0
        return 0.0
