"""Tells where this node answers, and whether it goes on: the placements of the ``mesh://`` providers it is. A shell.

A provider is ours if a record names it with this node's own address, ``mesh://PEER``. Its placement is signed with the
node's key, which is what that address is. It is told again well before it ends, as draining when this node winds down,
and as down when it stops; so callers turn to others before a call fails.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Iterable
from typing import Final, Literal

from osiris_mesh.clock import Clock
from osiris_mesh.errors import OsirisError
from osiris_mesh.identity.keys import KeyPair
from osiris_mesh.identity.peer_id import peer_id
from osiris_mesh.registry.record import MAX_PLACEMENT_MS, Placement, Provider, Record, sign

__all__ = ["Placing", "State"]

State = Literal["up", "draining", "down"]

_EVERY_S: Final = 120.0
_LOOK_S: Final = 5.0
_MOST: Final = 64
_log = logging.getLogger(__name__)


class Placing:
    """The placements of one node. Run :meth:`run`.

    Args:
        key: The node's.
        records: Returns the records that may name this node.
        tell: Tells all members a signed placement; must not block.
        region: Where this node runs.
        clock: Time.
    """

    def __init__(
        self,
        key: KeyPair,
        records: Callable[[], Awaitable[Iterable[Record]]],
        tell: Callable[[bytes], None],
        *,
        region: str,
        clock: Clock,
    ) -> None:
        self._key = key
        self._at = f"mesh://{peer_id(key.public)}"
        self._records = records
        self._tell = tell
        self._region = region
        self._clock = clock
        self._told: dict[tuple[str, str], float] = {}
        self._sequence = 0
        self._state: State = "up"

    @property
    def providers(self) -> list[tuple[str, str]]:
        """Id and endpoint of the providers this node told of."""
        return list(self._told)

    async def run(self) -> None:
        """Look for providers that are ours, and tell of them before what was told ends; until cancelled."""
        while True:
            try:
                await self.once()
            except OsirisError as error:
                _log.warning("placements_not_told", extra={"error": str(error)})
            except Exception:  # noqa: BLE001 - a record met once must not end the telling of all others
                _log.exception("placements_defect")
            await asyncio.sleep(_LOOK_S)

    async def once(self) -> None:
        """Tell of what is new, or was told long ago."""
        if self._state != "up":
            return
        ours = self._ours(await self._records())
        now = self._clock.monotonic()
        self._told = {one: at for one, at in self._told.items() if one in ours}
        for one in ours:
            at = self._told.get(one)
            if at is None or now - at >= _EVERY_S:
                self._said(one, now)

    def change(self, state: State) -> None:
        """Tell now that this node takes nothing new, or is down."""
        self._state = state
        now = self._clock.monotonic()
        for one in self._told:
            self._said(one, now)

    def _said(self, one: tuple[str, str], now: float) -> None:
        now_ms = self._clock.time_ms()
        self._sequence = max(self._sequence + 1, now_ms)
        placement = Placement(
            provider=one[0],
            endpoint=one[1],
            sequence=self._sequence,
            valid_from_ms=now_ms,
            valid_until_ms=now_ms + MAX_PLACEMENT_MS,
            state=self._state,
            region=self._region,
        )
        try:
            self._tell(sign(placement, [self._key]).line)
        except OsirisError as error:
            _log.warning("placement_not_told", extra={"provider": one[0], "error": str(error)})
            return
        self._told[one] = now

    def _ours(self, records: Iterable[Record]) -> list[tuple[str, str]]:
        found: dict[tuple[str, str], None] = {}
        for record in records:
            for bound in record.versions.values():
                for provider in bound.providers:
                    if self._is_ours(provider):
                        found[provider.id, provider.endpoint] = None
                        if len(found) >= _MOST:
                            return list(found)
        return list(found)

    def _is_ours(self, provider: Provider) -> bool:
        mine = provider.endpoint == self._at or provider.endpoint.startswith((f"{self._at}/", f"{self._at}?"))
        return mine and provider.key in {"", self._key.public.hex()}
