"""Marketplaces: what is offered at a price, and what this mesh has accepted.

A provider ``marketplace://MARKET/NAME`` (or ``NAME@VERSION``) stands for whoever offers that function in a market. An
*offer* is a provider with a cost in the signed record of the function. Its *digest* is the SHA-256 over name, version
and all that the provider says of itself, its price among it. An *acceptance* is a statement too: the binding
``accepted/DIGEST`` in the accepting mesh's own namespace, with exactly that provider, signed by a key of that
namespace. A price or an endpoint that changes is another offer, which nobody has accepted; an acceptance that is
deprecated, or whose time is over, is none.

The market in the ledger keeps both where all of the mesh agrees on them, by whose authority and when included.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, Protocol

from osiris_mesh.clock import Clock
from osiris_mesh.errors import Conflict, NotFound, UsageError
from osiris_mesh.function.name import FunctionName, Version
from osiris_mesh.identity.keys import KeyPair
from osiris_mesh.registry.record import Amendment, Binding, Provider, Record
from osiris_mesh.registry.statement import canonical

__all__ = ["ACCEPTED", "Market", "Markets", "Offer", "RecordMarket", "Reference", "Shelf", "offers_of"]

ACCEPTED: Final = "accepted"
"""Namespace of acceptances."""
_VERSION: Final = "1.0.0"
_DIGITS: Final = 48
_MARKET: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}\Z")
_SCHEME: Final = "marketplace://"


@dataclass(frozen=True, slots=True)
class Reference:
    """What ``marketplace://MARKET/NAME@VERSION`` says.

    Attributes:
        market: Which market.
        name: Full name of the function.
        version: Which version; empty: the highest that is offered.
    """

    market: str
    name: str
    version: str = ""

    def __str__(self) -> str:
        return f"{_SCHEME}{self.market}/{self.name}" + (f"@{self.version}" if self.version else "")

    @classmethod
    def parse(cls, text: str) -> Reference:
        """Read a reference.

        Raises:
            UsageError: Not one.
        """
        fix = "it looks like marketplace://ledger/acme.com/images/sharpen@1.2.0"
        market, slash, rest = text.removeprefix(_SCHEME).partition("/")
        if not text.startswith(_SCHEME) or not slash or not _MARKET.match(market):
            raise UsageError(f"{text[:200]!r} is no reference to a market", fix=fix)
        name, at, version = rest.partition("@")
        full = str(FunctionName.parse(name))
        if at:
            Version.parse(version)
        return cls(market, full, version)


@dataclass(frozen=True, slots=True)
class Offer:
    """One provider's terms for one version.

    Attributes:
        name: Full name of the function.
        version: Semantic version.
        provider: Who, where and for how much.
    """

    name: str
    version: str
    provider: Provider

    @property
    def digest(self) -> str:
        """SHA-256 of all of it, hexadecimal."""
        said = {"name": self.name, "version": self.version, "provider": self.provider.payload()}
        return hashlib.sha256(b"osiris/offer/v1\0" + canonical(said)).hexdigest()

    @property
    def acceptance(self) -> str:
        """Name of the binding that accepts it."""
        return f"{ACCEPTED}/{self.digest[:_DIGITS]}"


def offers_of(record: Record, version: str = "") -> list[Offer]:
    """Return what a record offers: of one version, or of the highest offered and not deprecated; cheapest first.

    Costs of different currencies are not compared: offers are ascending by currency, then by cost.
    """
    for known in sorted(record.versions, reverse=True):
        standing = record.versions[known]
        if (version and str(known) != version) or (not version and (standing.deprecated is not None or known.pre)):
            continue
        found = [Offer(record.name, str(known), each) for each in standing.providers if _is_offer(each)]
        if found or version:
            return sorted(found, key=lambda offer: (offer.provider.currency, offer.provider.cost_micros, offer.digest))
    return []


def _is_offer(provider: Provider) -> bool:
    # A market that sends to a market is a way round that nobody has agreed to.
    return bool(provider.currency) and not provider.endpoint.startswith(_SCHEME)


class Market(Protocol):
    """One market."""

    @property
    def name(self) -> str:
        """What references call it."""
        ...

    async def offers(self, reference: Reference) -> Sequence[Offer]:
        """Return what is offered, cheapest first; NotFound, Unavailable."""
        ...

    async def accepted(self, offer: Offer) -> bool:
        """Say whether this mesh has accepted exactly this offer, and still does."""
        ...

    async def accept(self, offer: Offer, keys: Sequence[KeyPair], *, until_ms: int = 0) -> str:
        """Accept an offer; return the name of the acceptance.

        Args:
            offer: As :meth:`offers` returned it.
            keys: Sign for the mesh's own namespaces.
            until_ms: When the acceptance ends, Unix time; 0: when it is withdrawn.

        Raises:
            Conflict: It is not offered any more, or accepted until another time.
            Denied, CheckFailed: The keys may not.
        """
        ...

    async def withdraw(self, offer: Offer, keys: Sequence[KeyPair], why: str) -> None:
        """Take an acceptance back; NotFound, Denied, CheckFailed."""
        ...


class Shelf(Protocol):
    """What a market of records needs of a registry (:class:`osiris_mesh.registry.registry.Registry`)."""

    async def lookup(self, name: str) -> Any:
        """Return what holds a :class:`Record` as ``record``; NotFound."""
        ...

    async def publish(self, said: Sequence[Binding | Amendment], keys: Sequence[KeyPair], *, message: str = "") -> Any:
        """Sign and publish; Conflict, Denied, CheckFailed."""
        ...


class RecordMarket:
    """A market that is a registry: over the tree in the ledger, the market ``ledger``.

    Args:
        name: What references call it.
        offered: Where offers are looked up.
        own: Where acceptances are kept: the registry in this mesh's ledger.
        clock: Wall clock.
    """

    def __init__(self, name: str, offered: Shelf, own: Shelf, clock: Clock) -> None:
        self._name = name
        self._offered = offered
        self._own = own
        self._clock = clock

    @property
    def name(self) -> str:
        """What references call it."""
        return self._name

    async def offers(self, reference: Reference) -> Sequence[Offer]:
        """Return what is offered; see :meth:`Market.offers`."""
        found = await self._offered.lookup(reference.name)
        return offers_of(found.record, reference.version)

    async def accepted(self, offer: Offer) -> bool:
        """Say whether exactly this offer is accepted now; see :meth:`Market.accepted`."""
        try:
            found = await self._own.lookup(offer.acceptance)
        except NotFound:
            return False
        record: Record = found.record
        standing = record.versions.get(Version.parse(_VERSION))
        if standing is None or standing.deprecated is not None or standing.binding.providers != (offer.provider,):
            return False
        now, bound = self._clock.time_ms(), standing.binding
        return bound.valid_from_ms <= now and (not bound.valid_until_ms or now < bound.valid_until_ms)

    async def accept(self, offer: Offer, keys: Sequence[KeyPair], *, until_ms: int = 0) -> str:
        """Accept an offer; see :meth:`Market.accept`."""
        if offer not in await self.offers(Reference(self._name, offer.name, offer.version)):
            raise Conflict(
                f"{offer.provider.id} does not offer {offer.name} {offer.version} on these terms any more",
                fix="look at what is offered now",
                reason="offer",
            )
        said = Binding(
            name=offer.acceptance,
            version=_VERSION,
            sequence=1,
            description=f"{offer.name} {offer.version}",
            providers=(offer.provider,),
            valid_until_ms=until_ms,
        )
        await self._own.publish([said], keys, message=f"accept {offer.name} {offer.version} of {offer.provider.id}")
        if not await self.accepted(offer):
            # It was withdrawn before: the statement stands, and holds again.
            again = Amendment(name=offer.acceptance, sequence=1, version=_VERSION, deprecated="")
            await self._own.publish([again], keys, message=f"accept {offer.name} {offer.version} again")
        return offer.acceptance

    async def withdraw(self, offer: Offer, keys: Sequence[KeyPair], why: str) -> None:
        """Take an acceptance back; see :meth:`Market.withdraw`."""
        await self._own.lookup(offer.acceptance)
        said = Amendment(name=offer.acceptance, sequence=1, version=_VERSION, deprecated=why or "withdrawn")
        await self._own.publish([said], keys, message=f"withdraw {offer.name} {offer.version}")


class Markets:
    """The markets this node knows.

    Args:
        markets: Each by its name.
    """

    def __init__(self, markets: Mapping[str, Market]) -> None:
        self._markets = dict(markets)

    def of(self, reference: Reference) -> Market:
        """Return a market.

        Raises:
            NotFound: This node does not know it.
        """
        found = self._markets.get(reference.market)
        if found is None:
            known = ", ".join(sorted(self._markets)) or "none"
            raise NotFound(f"no market is called {reference.market}", fix=f"this node knows {known}")
        return found

    async def providers(self, text: str) -> list[Provider]:
        """Return the providers a reference stands for: those whose offer is accepted, cheapest first.

        Raises:
            UsageError: Not a reference.
            NotFound: No such market or function, or nothing of it is accepted.
        """
        reference = Reference.parse(text)
        market = self.of(reference)
        offers = await market.offers(reference)
        found = [offer.provider for offer in offers if await market.accepted(offer)]
        if not found:
            raise NotFound(
                f"this mesh has accepted none of the {len(offers)} offers of {reference}",
                fix="look at the offers, and accept one",
                offers=[offer.digest for offer in offers[:16]],
            )
        return found
