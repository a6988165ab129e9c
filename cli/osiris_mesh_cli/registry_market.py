"""``registry market …``: what providers offer at a price, and what this mesh has accepted in its ledger's registry.

Offers are read where they stand, acceptances signed here and published to the ledger as every other statement is.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Annotated, Any

import typer

from osiris_mesh.clock import SYSTEM
from osiris_mesh.errors import NotFound, UsageError
from osiris_mesh_cli.registry_options import CaFileOption, KeyFileOption, KeyOption, PinOption, TokenFileOption
from osiris_mesh_cli.registry_place import Way, opened, run, signers
from osiris_mesh_cli.registry_publish import permitted
from osiris_mesh_cli.session import Session, command, noun
from osiris_mesh_cli.tables import table

if TYPE_CHECKING:
    from osiris_mesh.identity.keys import KeyPair
    from osiris_mesh.registry.marketplace import Market, Offer

app = noun("What providers offer at a price, and what this mesh accepts.")

_LEDGER = "ledger:"
_SHOWN = 12

NameArgument = Annotated[
    str, typer.Argument(metavar="NAME[@VERSION]", help="Function; the highest version that is offered if none is said.")
]
VersionedArgument = Annotated[str, typer.Argument(metavar="NAME@VERSION", help="Function and version.")]
MarketOption = Annotated[
    str, typer.Option("--market", metavar="URL|NAME", help="Registry where it is offered; the ledger's if not given.")
]
OfferOption = Annotated[
    str, typer.Option("--offer", metavar="DIGEST", help="Which, as list shows it; not needed where there is one.")
]


@command(app, name="list", example="registry market list math/add_numbers --market team")
def list_(
    session: Session,
    name: NameArgument,
    market: MarketOption = _LEDGER,
    pin: PinOption = "",
    ca_file: CaFileOption = "",
    token_file: TokenFileOption = "",
) -> None:
    """List who offers a function and for how much, and which offers this mesh has accepted."""
    full, version = _asked(name)

    async def carry_out() -> list[dict[str, Any]]:
        async with _market(session, Way(market, pin, "", ca_file, token_file), full) as place:
            return [_row(offer, await place.accepted(offer)) for offer in await _offers(place, full, version)]

    rows = run(carry_out())
    session.result(
        {"name": full, "offers": rows},
        lambda: (
            table(
                ["OFFER", "VERSION", "PROVIDER", "COST", "ACCEPTED"],
                [
                    [
                        row["offer"][:_SHOWN],
                        row["version"],
                        row["provider"]["id"],
                        f"{row['provider'].get('cost_micros', 0) / 1e6:g} {row['provider']['currency']}",
                        "yes" if row["accepted"] else "no",
                    ]
                    for row in rows
                ],
            )
            if rows
            else f"nobody offers {name} at a price"
        ),
    )


@command(app, example="registry market accept math/add_numbers@1.0.0 --market team --key owner")
def accept(
    session: Session,
    name: VersionedArgument,
    market: MarketOption = _LEDGER,
    offer: OfferOption = "",
    key: KeyOption = None,
    key_file: KeyFileOption = "",
    pin: PinOption = "",
    ca_file: CaFileOption = "",
    token_file: TokenFileOption = "",
) -> None:
    """Accept an offer as it stands: exactly this provider, at exactly this price, until it is withdrawn."""
    keys = signers(session, key or (), key_file)
    full, version = _versioned(name)

    async def carry_out() -> dict[str, Any]:
        async with _market(session, Way(market, pin, "", ca_file, token_file), full, keys) as place:
            found = _one(await _offers(place, full, version), offer, name)
            changed = not await place.accepted(found)
            if changed:
                await permitted(place.accept(found, keys))
            return {**_row(found, await place.accepted(found)), "changed": changed, "acceptance": found.acceptance}

    with session.busy(f"publishing to {_LEDGER}"):
        value = run(carry_out())
    provider = value["provider"]["id"]
    session.result(value, f"{full} {version} of {provider}: {'accepted' if value['changed'] else 'accepted before'}")
    session.next(f"registry market list {full}" + ("" if market == _LEDGER else f" --market {market}"))


@command(app, example="registry market withdraw math/add_numbers@1.0.0 'too slow' --market team --key owner")
def withdraw(
    session: Session,
    name: VersionedArgument,
    why: Annotated[str, typer.Argument(metavar="WHY", help="What the acceptance's history says.")] = "",
    market: MarketOption = _LEDGER,
    offer: OfferOption = "",
    key: KeyOption = None,
    key_file: KeyFileOption = "",
    pin: PinOption = "",
    ca_file: CaFileOption = "",
    token_file: TokenFileOption = "",
) -> None:
    """Take an acceptance back: the provider is not called by it any more."""
    keys = signers(session, key or (), key_file)
    full, version = _versioned(name)

    async def carry_out() -> dict[str, Any]:
        async with _market(session, Way(market, pin, "", ca_file, token_file), full, keys) as place:
            offers = [each for each in await _offers(place, full, version) if await place.accepted(each)]
            found = _one(offers, offer, name)
            await permitted(place.withdraw(found, keys, why))
            return {**_row(found, await place.accepted(found)), "changed": True, "acceptance": found.acceptance}

    with session.busy(f"publishing to {_LEDGER}"):
        value = run(carry_out())
    session.result(value, f"{full} {version} of {value['provider']['id']}: withdrawn")
    session.next(f"registry market list {full}" + ("" if market == _LEDGER else f" --market {market}"))


# --- what they have in common ---------------------------------------------------------------------------------------


@asynccontextmanager
async def _market(session: Session, way: Way, name: str, keys: Sequence[KeyPair] = ()) -> AsyncIterator[Market]:
    """Open the registry in the ledger, and the one where a function is offered."""
    from osiris_mesh.function.name import FunctionName  # noqa: PLC0415 - other commands do not need them
    from osiris_mesh.registry.marketplace import RecordMarket  # noqa: PLC0415

    vendors = [FunctionName.parse(name).vendor]
    is_own = way.to in {_LEDGER, "ledger"}
    own_way = Way(_LEDGER, way.pin if is_own else "")
    async with opened(session, own_way, checkpoint_key=keys[0] if keys else None) as own:
        await own.look(vendors if is_own else ())
        if is_own:
            yield RecordMarket("ledger", own.registry, own.registry, SYSTEM)
            return
        async with opened(session, way) as offered:
            await offered.look(vendors)
            yield RecordMarket(offered.entry.name, offered.registry, own.registry, SYSTEM)


async def _offers(market: Market, name: str, version: str) -> Sequence[Offer]:
    from osiris_mesh.registry.marketplace import Reference  # noqa: PLC0415 - other commands do not need it

    return await market.offers(Reference(market.name, name, version))


def _one(offers: Sequence[Offer], wanted: str, name: str) -> Offer:
    """Return the offer that is meant."""
    found = [each for each in offers if each.digest.startswith(wanted.lower())]
    if not found:
        raise NotFound(f"there is no such offer of {name}", fix=f"osiris-mesh registry market list {name}")
    if len(found) > 1:
        told = ", ".join(f"{each.digest[:_SHOWN]} ({each.provider.id})" for each in found[:8])
        raise UsageError(f"{len(found)} offers of {name} are meant", fix=f"say which with --offer: {told}")
    return found[0]


def _row(offer: Offer, accepted: bool) -> dict[str, Any]:
    return {
        "offer": offer.digest,
        "name": offer.name,
        "version": offer.version,
        "provider": offer.provider.payload(),
        "accepted": accepted,
    }


def _asked(text: str) -> tuple[str, str]:
    from osiris_mesh.function.name import Version, qualified  # noqa: PLC0415 - other commands do not need it

    name, at, version = text.partition("@")
    return qualified(name), str(Version.parse(version)) if at else ""


def _versioned(text: str) -> tuple[str, str]:
    name, version = _asked(text)
    if not version:
        raise UsageError(f"{text[:80]!r} names no version", fix=f"write {text[:80]}@1.2.0")
    return name, version
