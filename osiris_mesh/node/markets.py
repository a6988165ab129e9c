"""The markets of a node: each of its registries, by its name there; acceptances stand in the one of the ledger.

``marketplace://ledger/NAME`` looks offers up in the ledger's registry, ``marketplace://team/NAME`` in the one this node
calls ``team``. Either way an offer counts only while an acceptance of it stands in the registry of the own ledger.
"""

from __future__ import annotations

from collections.abc import Callable

from osiris_mesh.clock import Clock
from osiris_mesh.errors import NotFound
from osiris_mesh.registry.marketplace import Market, Markets, RecordMarket, Reference, Shelf

__all__ = ["OWN", "NodeMarkets"]

OWN = "ledger"
"""What references call the market in the mesh's own ledger."""


class NodeMarkets(Markets):
    """Markets as the node's registries are now.

    Args:
        own: Returns the registry in the ledger; None: this node has none.
        shelf: Returns the registry of that name; None: there is none.
        clock: Wall clock.
    """

    def __init__(self, own: Callable[[], Shelf | None], shelf: Callable[[str], Shelf | None], clock: Clock) -> None:
        super().__init__({})
        self._own = own
        self._shelf = shelf
        self._clock = clock

    def of(self, reference: Reference) -> Market:
        """Return a market.

        Raises:
            NotFound: This node has no such registry, or none in the ledger to keep acceptances in.
        """
        own = self._own()
        if own is None:
            raise NotFound(
                "this node has no registry in the ledger, where acceptances are kept",
                fix="osiris-mesh registry add ledger ledger:",
                maybe=False,
            )
        offered = own if reference.market == OWN else self._shelf(reference.market)
        if offered is None:
            raise NotFound(f"no market is called {reference.market}", fix="see: osiris-mesh registry list", maybe=False)
        return RecordMarket(reference.market, offered, own, self._clock)
