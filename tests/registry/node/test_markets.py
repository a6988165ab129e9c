"""Every registry of a node is a market; only what the mesh accepted in its own is called."""

from __future__ import annotations

import pytest

from osiris_mesh.clock import FakeClock
from osiris_mesh.errors import NotFound
from osiris_mesh.node.markets import NodeMarkets
from osiris_mesh.registry.marketplace import Reference
from osiris_mesh.registry.registry import Registry
from tests.registry.core.kit import NAME, NOW, VENDOR_KEY, MemoryTree, binding, provider, registry

OFFERED = provider(cost_micros=5, currency="EUR")


async def shelves() -> tuple[Registry, Registry]:
    clock = FakeClock(epoch_ms=NOW)
    own, team = await registry(MemoryTree("own"), clock=clock), await registry(MemoryTree("team"), clock=clock)
    await team.publish([binding(providers=(OFFERED,))], [VENDOR_KEY])
    return own, team


async def test_an_offer_of_another_registry_counts_once_it_is_accepted_here() -> None:
    own, team = await shelves()
    markets = NodeMarkets(lambda: own, {"team": team}.get, FakeClock(epoch_ms=NOW))
    text = f"marketplace://team/{NAME}"
    with pytest.raises(NotFound, match="accepted none"):
        await markets.providers(text)
    market = markets.of(Reference.parse(text))
    (offer,) = await market.offers(Reference.parse(text))
    await market.accept(offer, [VENDOR_KEY])
    assert await markets.providers(text) == [OFFERED]
    with pytest.raises(NotFound):
        await markets.providers(f"marketplace://ledger/{NAME}")
    await market.withdraw(offer, [VENDOR_KEY], "too dear")
    with pytest.raises(NotFound, match="accepted none"):
        await markets.providers(text)


async def test_without_a_registry_in_the_ledger_there_is_no_market() -> None:
    own, _ = await shelves()
    nothing = NodeMarkets(lambda: None, {"team": own}.get, FakeClock(epoch_ms=NOW))
    with pytest.raises(NotFound, match="no registry in the ledger"):
        await nothing.providers(f"marketplace://team/{NAME}")
    some = NodeMarkets(lambda: own, {"team": own}.get, FakeClock(epoch_ms=NOW))
    with pytest.raises(NotFound, match="no market is called other"):
        await some.providers(f"marketplace://other/{NAME}")
