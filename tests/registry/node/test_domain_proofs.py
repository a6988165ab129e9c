"""Vendors that the root does not delegate to are proven by their domains, within a budget."""

from __future__ import annotations

import asyncio

import pytest

from osiris_mesh.clock import FakeClock
from osiris_mesh.errors import CheckFailed, Unavailable
from osiris_mesh.function.name import FunctionName
from osiris_mesh.registry.checkpoint import Config
from osiris_mesh.registry.domain import Proof, claim
from osiris_mesh.registry.domain_fetch import DomainFetch, system_texts
from osiris_mesh.registry.domain_proofs import PROVEN_MS, RENEW_MS, DomainProofs
from osiris_mesh.registry.guard import Guard
from osiris_mesh.registry.keyring import found_keys
from osiris_mesh.registry.registry import Registry
from osiris_mesh.registry.trust import Trust
from tests.registry.core.kit import NAME, NOW, REGISTRY, STRANGER, VENDOR_KEY, MemoryTree, binding, key, root
from tests.registry.domain.test_domain_fetch import Here, Zone, dns_server, https_server, says, trust

EVIL = "evil.example"
_DAY_S = PROVEN_MS / 1000
_RENEW_S = RENEW_MS / 1000


class Domain:
    """Domains that say what they are told to, and count who asks."""

    def __init__(self, **says: list[bytes]) -> None:
        self.says = {vendor.replace("_", "."): keys for vendor, keys in says.items()}
        self.asked: list[str] = []
        self.away = False
        self.may = asyncio.Event()
        self.may.set()

    async def ask(self, vendor: str, keys: frozenset[bytes]) -> Proof:
        assert keys
        self.asked.append(vendor)
        await self.may.wait()
        if self.away:
            raise Unavailable("no DNS here", maybe=False)
        return Proof(vendor, tuple(sorted(self.says.get(vendor, ()))), "dns", NOW)


async def tree_without_root() -> MemoryTree:
    """Return a registry without a root: one vendor, with one name."""
    tree, mine = MemoryTree(), Trust()
    mine.accept_domain("acme.com", [VENDOR_KEY.public], NOW + 10 * PROVEN_MS)
    registry = Registry(tree, mine, FakeClock(epoch_ms=NOW))
    await registry.create(Config(REGISTRY), [VENDOR_KEY], vendor_keys=[found_keys("acme.com", [VENDOR_KEY])])
    await registry.publish([binding()], [VENDOR_KEY])
    return tree


def reader(
    tree: MemoryTree, domain: Domain, clock: FakeClock, held: Trust | None = None
) -> tuple[Registry, DomainProofs]:
    proofs = DomainProofs(domain.ask, clock)
    return Registry(tree, held or Trust(), clock, domains=proofs), proofs


async def settled(proofs: DomainProofs) -> None:
    async with asyncio.timeout(5):
        while proofs._asking:
            await asyncio.gather(*list(proofs._asking.values()))
            await asyncio.sleep(0)


async def test_a_domain_proves_a_vendor_and_is_asked_once() -> None:
    tree, domain, clock = await tree_without_root(), Domain(acme_com=[VENDOR_KEY.public]), FakeClock(epoch_ms=NOW)
    registry, proofs = reader(tree, domain, clock)
    assert (await registry.lookup(NAME)).attested
    await registry.lookup(NAME)
    assert domain.asked == ["acme.com"]
    await proofs.close()


@pytest.mark.parametrize("says", [[], [STRANGER.public]], ids=["nothing", "another key"])
async def test_a_domain_that_does_not_name_the_key_proves_nothing(says: list[bytes]) -> None:
    tree, domain, clock = await tree_without_root(), Domain(acme_com=says), FakeClock(epoch_ms=NOW)
    registry, proofs = reader(tree, domain, clock)
    for _ in range(3):
        with pytest.raises(CheckFailed):
            await registry.lookup(NAME)
    assert domain.asked == ["acme.com"]
    domain.says["acme.com"] = [VENDOR_KEY.public]
    clock.advance(61.0)
    assert (await registry.lookup(NAME)).record.name == str(NAME)
    await proofs.close()


async def test_a_proof_is_asked_for_anew_and_holds_to_its_end_while_dns_is_away() -> None:
    tree, domain, clock = await tree_without_root(), Domain(acme_com=[VENDOR_KEY.public]), FakeClock(epoch_ms=NOW)
    held = Trust()
    registry, proofs = reader(tree, domain, clock, held)
    await registry.lookup(NAME)
    domain.away = True
    clock.advance(_DAY_S - _RENEW_S + 1)
    assert (await registry.lookup(NAME)).record.name == str(NAME)
    await settled(proofs)
    assert domain.asked == ["acme.com"] * 2
    domain.away = False
    clock.advance(61.0)
    await registry.lookup(NAME)
    await settled(proofs)
    await registry.lookup(NAME)
    assert held.proven_until_ms("acme.com") == clock.time_ms() + PROVEN_MS
    domain.away = True
    clock.advance(_DAY_S + 31)
    with pytest.raises(CheckFailed) as refused:
        await registry.lookup(NAME)
    assert refused.value.details["reason"] == "domain"
    assert not held.evidence
    await proofs.close()


async def test_who_has_a_proof_is_not_made_to_wait_for_a_new_one() -> None:
    tree, domain, clock = await tree_without_root(), Domain(acme_com=[VENDOR_KEY.public]), FakeClock(epoch_ms=NOW)
    registry, proofs = reader(tree, domain, clock)
    await registry.lookup(NAME)
    domain.may.clear()
    clock.advance(_DAY_S - _RENEW_S + 1)
    async with asyncio.timeout(2):
        await registry.lookup(NAME)
        await registry.lookup(NAME)
    domain.may.set()
    await settled(proofs)
    await proofs.close()


async def test_a_proof_survives_a_restart_unasked() -> None:
    tree, domain, clock = await tree_without_root(), Domain(acme_com=[VENDOR_KEY.public]), FakeClock(epoch_ms=NOW)
    held = Trust()
    registry, proofs = reader(tree, domain, clock, held)
    await registry.lookup(NAME)
    await proofs.close()
    silent = Domain()
    again, more = reader(tree, silent, clock, Trust.from_wire(held.to_wire()))
    await again.lookup(NAME)
    assert silent.asked == []
    await more.close()


async def test_a_vendor_the_root_delegates_to_is_not_asked_about() -> None:
    tree, clock, domain = MemoryTree(), FakeClock(epoch_ms=NOW), Domain()
    mine = Registry(tree, Trust(root().digest), clock)
    keys = [found_keys("acme.com", [VENDOR_KEY])]
    await mine.create(Config(REGISTRY), [VENDOR_KEY], root=root(), vendor_keys=keys)
    await mine.publish([binding()], [VENDOR_KEY])
    registry, proofs = reader(tree, domain, clock, Trust(root().digest))
    await registry.lookup(NAME)
    assert domain.asked == []
    await proofs.close()


async def test_names_are_listed_once_their_domain_has_proven_them_though_the_tree_did_not_change() -> None:
    clock = FakeClock(epoch_ms=NOW)
    tree, other = MemoryTree(), FunctionName("other.org", "image", "blur")
    mine_trust = Trust(root().digest)
    mine_trust.accept_domain("other.org", [key(11).public], NOW + PROVEN_MS)
    mine = Registry(tree, mine_trust, clock)
    keys = [found_keys("acme.com", [VENDOR_KEY])]
    await mine.create(Config(REGISTRY), [VENDOR_KEY], root=root(), vendor_keys=keys)
    await mine.publish_keys(found_keys("other.org", [key(11)]), [key(11)])
    await mine.publish([binding(name=other)], [key(11)])
    domain = Domain(other_org=[key(11).public])
    registry, proofs = reader(tree, domain, clock, Trust(root().digest))
    await registry.sync()
    await settled(proofs)
    await registry.sync()
    assert [row.name for row in await registry.list()] == [str(other)]
    await proofs.close()


async def test_a_registry_that_lists_ten_thousand_vendors_has_a_handful_asked() -> None:
    clock, domain = FakeClock(epoch_ms=NOW), Domain()
    proofs = DomainProofs(domain.ask, clock)
    keys = frozenset([STRANGER.public])
    for _ in range(3):
        for number in range(10_000):
            proofs.want(f"v{number}.{EVIL}", keys)
        await settled(proofs)
    assert 0 < len(domain.asked) <= 20
    listed = len(domain.asked)
    # Somebody who looks a name up has a budget of his own.
    domain.says["acme.com"] = [VENDOR_KEY.public]
    assert await proofs.prove("acme.com", frozenset([VENDOR_KEY.public])) is not None
    for number in range(1000):
        await proofs.prove(f"w{number}.{EVIL}", keys)
    assert len(domain.asked) <= listed + 40
    assert len(proofs._vendors) <= 4096
    await proofs.close()


async def test_a_registry_is_believed_by_what_dns_says() -> None:
    tree, clock = await tree_without_root(), FakeClock(epoch_ms=NOW)
    zone = Zone({"_osiris.acme.com.": [f'"{claim(VENDOR_KEY.public)}"']})
    async with dns_server(zone) as resolver, https_server(says("", 404)) as port:
        fetch = DomainFetch(
            clock, system_texts(resolver), guard=Guard(["loopback"]), trust=trust(), resolver=Here(), port=port
        )
        proofs = DomainProofs(fetch.ask, clock)
        assert (await Registry(tree, Trust(), clock, domains=proofs).lookup(NAME)).record.name == str(NAME)
        await proofs.close()
    assert zone.asked == ["_osiris.acme.com."]
