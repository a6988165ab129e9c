"""Records in the ledger what runs on this container: one entry per change of the list, debounced."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Sequence
from typing import Final

from osiris_mesh.errors import OsirisError
from osiris_mesh.ledger.entry import Entry
from osiris_mesh.ledger.outcome import Receipt

__all__ = ["Announcer"]

_SETTLE_SECONDS: Final = 1.0
_RETRY_SECONDS: Final = 5.0
_log = logging.getLogger(__name__)

Rows = tuple[tuple[str, str, int], ...]


class Announcer:
    """Proposes ``container.functions`` whenever what runs differs from what the ledger says.

    Args:
        running: What runs now: name, version, instances, ascending.
        announced: What the ledger says of this container.
        make: Signs an entry with this list.
        propose: Puts it into the ledger.
    """

    def __init__(
        self,
        running: Callable[[], Rows],
        announced: Callable[[], Rows],
        make: Callable[[Rows], Entry],
        propose: Callable[[Sequence[bytes]], Awaitable[Receipt]],
    ) -> None:
        self._running = running
        self._announced = announced
        self._make = make
        self._propose = propose

    async def run(self) -> None:
        """Work until cancelled."""
        while True:
            await asyncio.sleep(_SETTLE_SECONDS)
            rows = self._running()
            if rows == self._announced():
                continue
            # A list that is still changing is not worth a block: wait until it held for one pause.
            await asyncio.sleep(_SETTLE_SECONDS)
            if self._running() != rows:
                continue
            try:
                receipt = await self._propose([self._make(rows).bytes])
            except OsirisError as error:
                _log.debug("what runs here could not be recorded yet: %s", error)
                await asyncio.sleep(_RETRY_SECONDS)
                continue
            outcome = receipt.outcomes[0]
            if not outcome.accepted:
                _log.warning("the ledger refuses the list of what runs here: %s", outcome.reason)
                await asyncio.sleep(_RETRY_SECONDS)
