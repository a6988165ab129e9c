"""``marketplace://``: whoever offers the function at a price this mesh has accepted."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from osiris_mesh.errors import OsirisError, UsageError
from osiris_mesh.registry.marketplace import Markets, Reference
from osiris_mesh.registry.providers.endpoint import Discovery, Endpoints, surely_not
from osiris_mesh.registry.record import Provider

__all__ = ["MarketEndpoint"]


class MarketEndpoint:
    """Asks the providers of accepted offers, cheapest first, as long as the call surely did not happen.

    Args:
        markets: Where offers and acceptances are.
        endpoints: Asks the providers themselves.
    """

    def __init__(self, markets: Markets, endpoints: Endpoints) -> None:
        self._markets = markets
        self._endpoints = endpoints

    async def call(
        self,
        provider: Provider,
        name: str,
        args: Sequence[Any],
        kwargs: Mapping[str, Any],
        *,
        deadline: float | None,
        headers: Mapping[str, Any],
    ) -> Any:
        """Call a function; see :meth:`osiris_mesh.registry.providers.endpoint.Endpoint.call`."""
        del name
        wanted = Reference.parse(provider.endpoint)
        found = await self._markets.providers(provider.endpoint)
        for last, each in zip([*[False] * (len(found) - 1), True], found, strict=True):
            try:
                return await self._endpoints.call(each, wanted.name, args, kwargs, deadline=deadline, headers=headers)
            except OsirisError as error:
                if last or not surely_not(error):
                    raise
        raise UsageError("an offer is accepted by nobody")  # pragma: no cover - providers() is never empty

    async def probe(self, provider: Provider, *, deadline: float | None = None) -> None:
        """Find out whether the cheapest accepted provider answers."""
        found = await self._markets.providers(provider.endpoint)
        await self._endpoints.probe(found[0], deadline=deadline)

    async def discover(self, endpoint: str, *, deadline: float | None = None) -> Discovery:
        """Refuse: offers are records, signed already.

        Raises:
            UsageError: Always.
        """
        del deadline
        raise UsageError(f"{endpoint[:200]} is a market, whose offers need no discovery", fix="look its offers up")

    async def close(self) -> None:
        """Nothing is held here."""
