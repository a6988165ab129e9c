"""Where providers answer now, by their own word. A pure core.

A placement is signed with the key the record names for the provider, or without one with that of the node whose address
its endpoint is (``mesh://PEER-ID``: the id is the key). It holds five minutes at most, and replaces the
endpoint of the record while it holds. The highest sequence of a key counts; a clock that is a minute off does no harm.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import Final

import msgspec

from osiris_mesh.errors import OsirisError, RemoteProtocolError
from osiris_mesh.identity.peer_id import public_key
from osiris_mesh.registry.record import Placement, Provider
from osiris_mesh.registry.statement import Statement

__all__ = ["Placements"]

_SKEW_MS: Final = 60_000


@dataclass(frozen=True, slots=True)
class _Held:
    placement: Placement
    line: bytes


class Placements:
    """Placements by the provider's key.

    Args:
        limit: Kept at most; the one not renewed for longest goes first.
    """

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._known: dict[tuple[str, str], _Held] = {}

    def accept(self, statement: Statement, now_ms: int) -> Placement | None:
        """Take a placement in; None: it is no news.

        Args:
            statement: Proven.
            now_ms: Wall clock.

        Raises:
            RemoteProtocolError: It is over, of the future, or signed by more than one key.
            UsageError: It is no placement.
        """
        placement = Placement.from_payload(statement.payload)
        if len(statement.keys) != 1:
            raise RemoteProtocolError("a placement is signed by more than one key")
        if placement.valid_until_ms + _SKEW_MS <= now_ms or placement.valid_from_ms - _SKEW_MS > now_ms:
            raise RemoteProtocolError("a placement is over, or of the future")
        (key,) = statement.keys
        at = (key.hex(), placement.provider)
        held = self._known.get(at)
        if held is not None and held.placement.sequence >= placement.sequence:
            return None
        self._known.pop(at, None)
        while len(self._known) >= self._limit:
            del self._known[next(iter(self._known))]
        self._known[at] = _Held(placement, statement.line)
        return placement

    def of(self, provider: Provider, now_ms: int) -> tuple[Provider, str, int]:
        """Return a provider as it answers now, its state (``up``, ``draining`` or ``down``), and for how many ms."""
        key = provider.key or _key_of(provider.endpoint)
        held = self._known.get((key, provider.id)) if key else None
        if held is None or now_ms >= held.placement.valid_until_ms + _SKEW_MS:
            return provider, "up", 0
        placement = held.placement
        region = placement.region or provider.region
        moved = msgspec.structs.replace(provider, endpoint=placement.endpoint, region=region)
        return moved, placement.state, held.placement.valid_until_ms + _SKEW_MS - now_ms

    def lines(self, now_ms: int) -> list[bytes]:
        """Return the placements that hold, as signed."""
        return [held.line for held in self._known.values() if now_ms < held.placement.valid_until_ms]


@lru_cache(maxsize=4096)
def _key_of(endpoint: str) -> str:
    """Return the key of the node an endpoint names, in hexadecimal; empty if it names none."""
    parts = endpoint.removeprefix("mesh://") if endpoint.startswith("mesh://") else ""
    try:
        return public_key(parts.partition("/")[0].partition("?")[0]).hex()
    except OsirisError:
        return ""
