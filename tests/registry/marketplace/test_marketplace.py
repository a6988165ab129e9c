"""Offers and acceptances in a real ledger, and calls of what was accepted."""

from __future__ import annotations

import dataclasses

import msgspec
import pytest

from osiris_mesh.errors import CheckFailed, Conflict, NotFound, Unavailable, UsageError
from osiris_mesh.registry.checkpoint import Config
from osiris_mesh.registry.keyring import found_keys
from osiris_mesh.registry.marketplace import Markets, Offer, RecordMarket, Reference, offers_of
from osiris_mesh.registry.providers.endpoint import Endpoints
from osiris_mesh.registry.providers.market import MarketEndpoint
from osiris_mesh.registry.record import Amendment, Binding, Provider
from osiris_mesh.registry.registry import Registry
from osiris_mesh.registry.tree_ledger import TreeLedger, key_signer
from osiris_mesh.registry.trust import Trust
from tests.ledger.kit import ADMIN, FOUNDER, MESH, Agreement, Node, genesis
from tests.registry.core.kit import REGISTRY, STRANGER, VENDOR_KEY, root

NAME = "acme.com/image/sharpen"
CHEAP = Provider(id="cheap", endpoint="https://cheap.example/call", cost_micros=5, currency="EUR")
DEAR = Provider(id="dear", endpoint="https://dear.example/call", cost_micros=50, currency="EUR")
FREE = Provider(id="free", endpoint="https://free.example/call")
LOOP = Provider(id="loop", endpoint=f"marketplace://ledger/{NAME}", cost_micros=1, currency="EUR")
REFERENCE = f"marketplace://ledger/{NAME}"


@pytest.mark.parametrize("text", [REFERENCE, f"{REFERENCE}@1.2.0", "marketplace://eu-1/t/f"])
def test_references(text):
    assert str(Reference.parse(text)) == text


@pytest.mark.parametrize(
    "text",
    [
        "",
        "https://x/y",
        "marketplace://",
        "marketplace:///t/f",
        "marketplace://l/",
        f"{REFERENCE}@x",
        "marketplace://a b/t/f",
    ],
)
def test_what_is_no_reference(text):
    with pytest.raises(UsageError):
        Reference.parse(text)


def test_whatever_changes_is_another_offer():
    offer = Offer(NAME, "1.0.0", CHEAP)
    changes = [
        {"cost_micros": 6},
        {"currency": "USD"},
        {"endpoint": "https://evil.example/call"},
        {"capability": "ab" * 32},
    ]
    others = [dataclasses.replace(offer, provider=msgspec.structs.replace(CHEAP, **change)) for change in changes]
    others += [dataclasses.replace(offer, version="1.0.1"), dataclasses.replace(offer, name="t/f")]
    assert len({each.digest for each in [offer, *others]}) == len(others) + 1


@pytest.fixture
async def registry(tmp_path):
    node = await Node(tmp_path / "node", Agreement(), FOUNDER).start()
    await node.put(genesis([FOUNDER]), FOUNDER)
    tree = TreeLedger("mesh", node.ledger, signer=key_signer(ADMIN, MESH, node.clock))
    statement = root(expires_ms=node.clock.time_ms() + 365 * 86_400_000)
    found = Registry(tree, Trust(statement.digest), node.clock, checkpoint_key=VENDOR_KEY)
    keys = [found_keys(vendor, [VENDOR_KEY]) for vendor in ("_", "acme.com")]
    await found.create(Config(REGISTRY), [VENDOR_KEY], root=statement, vendor_keys=keys)
    await found.publish([binding(CHEAP, DEAR, FREE, LOOP)], [VENDOR_KEY])
    yield found
    await node.close()


def binding(*providers, version="1.0.0"):
    return Binding(name=NAME, version=version, sequence=1, providers=providers)


@pytest.fixture
def market(registry):
    return RecordMarket("ledger", registry, registry, registry._clock)


async def test_offers_are_priced_and_cheapest_first(registry, market):
    offers = await market.offers(Reference.parse(REFERENCE))
    assert [offer.provider for offer in offers] == [CHEAP, DEAR]
    await registry.publish([binding(DEAR, version="2.0.0-rc.1"), binding(DEAR, version="1.1.0")], [VENDOR_KEY])
    assert [offer.version for offer in await market.offers(Reference.parse(REFERENCE))] == ["1.1.0"]
    assert [offer.version for offer in await market.offers(Reference.parse(REFERENCE + "@2.0.0-rc.1"))] == [
        "2.0.0-rc.1"
    ]
    assert await market.offers(Reference.parse(REFERENCE + "@9.0.0")) == []
    record = (await registry.lookup(NAME)).record
    assert offers_of(record) == list(await market.offers(Reference.parse(REFERENCE)))
    with pytest.raises(NotFound):
        await market.offers(Reference.parse("marketplace://ledger/acme.com/image/nothing"))


async def test_only_what_was_accepted_is_called_and_only_at_that_price(registry, market):
    markets = Markets({"ledger": market})
    cheap, dear = await market.offers(Reference.parse(REFERENCE))
    with pytest.raises(NotFound, match="none of the 2 offers"):
        await markets.providers(REFERENCE)
    with pytest.raises(CheckFailed):
        await market.accept(cheap, [STRANGER])
    assert not await market.accepted(cheap)
    assert await market.accept(cheap, [VENDOR_KEY]) == cheap.acceptance
    assert await market.accepted(cheap)
    assert not await market.accepted(dear)
    assert await markets.providers(REFERENCE) == [CHEAP]
    # The same again changes nothing.
    await market.accept(cheap, [VENDOR_KEY])
    higher = msgspec.structs.replace(CHEAP, cost_micros=5000)
    await registry.publish([Amendment(name=NAME, sequence=1, version="1.0.0", providers=(higher, DEAR))], [VENDOR_KEY])
    with pytest.raises(NotFound):
        await markets.providers(REFERENCE)
    with pytest.raises(Conflict):
        await market.accept(cheap, [VENDOR_KEY])
    with pytest.raises(NotFound):
        await markets.providers("marketplace://other/t/f")


async def test_acceptances_end(registry, market):
    cheap, dear = await market.offers(Reference.parse(REFERENCE))
    await market.accept(cheap, [VENDOR_KEY])
    await market.withdraw(cheap, [VENDOR_KEY], "too slow")
    assert not await market.accepted(cheap)
    now = registry._clock.time_ms()
    await market.accept(dear, [VENDOR_KEY], until_ms=now + 3_600_000)
    assert await market.accepted(dear)

    class Later:
        def monotonic(self):
            return 0.0

        def time_ms(self):
            return now + 3_600_000

    assert not await RecordMarket("ledger", registry, registry, Later()).accepted(dear)
    with pytest.raises(NotFound):
        await market.withdraw(dataclasses.replace(dear, version="3.0.0"), [VENDOR_KEY], "")


class Https:
    def __init__(self):
        self.asked = []
        self.errors = {}

    async def call(self, provider, name, args, kwargs, *, deadline, headers):
        self.asked.append((provider.id, name, args, kwargs))
        if error := self.errors.get(provider.id):
            raise error
        return provider.id

    async def probe(self, provider, *, deadline=None):
        self.asked.append(provider.id)


async def test_calls_go_to_the_cheapest_accepted_and_on_while_surely_nothing_happened(registry, market):
    for offer in await market.offers(Reference.parse(REFERENCE)):
        await market.accept(offer, [VENDOR_KEY])
    https = Https()
    endpoint = MarketEndpoint(Markets({"ledger": market}), Endpoints({"https": https}))
    provider = Provider(id="market", endpoint=REFERENCE)

    async def call():
        https.asked.clear()
        return await endpoint.call(provider, "t/f", [1], {"x": 2}, deadline=None, headers={})

    assert await call() == "cheap"
    assert https.asked == [("cheap", NAME, [1], {"x": 2})]
    https.errors["cheap"] = Unavailable("gone", maybe=False)
    assert await call() == "dear"
    https.errors["cheap"] = Unavailable("gone", maybe=True)
    with pytest.raises(Unavailable):
        await call()
    assert [each[0] for each in https.asked] == ["cheap"]
    https.errors = {name: Unavailable("gone", maybe=False) for name in ("cheap", "dear")}
    with pytest.raises(Unavailable):
        await call()
    await endpoint.probe(provider)
    with pytest.raises(UsageError):
        await endpoint.discover(REFERENCE)
