"""A name that changes is told from node to node: the others ask anew before their own next fetch."""

from __future__ import annotations

import random
import time
from pathlib import Path
from typing import Any

from osiris_mesh.clock import SYSTEM
from osiris_mesh.registry.health import Health
from osiris_mesh.registry.health_news import HealthNews
from osiris_mesh.registry.placements import Placements
from osiris_mesh.registry.record import Binding, Provider
from osiris_mesh.registry.registry import Registry
from osiris_mesh.registry.reputation import Reputation
from osiris_mesh.registry.roster import Entry
from osiris_mesh.registry.tree_folder import FolderTree
from osiris_mesh.registry.trust import Trust
from osiris_mesh.settings.registry import RegistrySettings
from tests.registry.core.kit import NAME, VENDOR_KEY, provider
from tests.registry.node.test_region import node, published


class Nobody:
    async def probe(self, provider: Provider) -> None:
        """Nothing is probed here."""


def health(registries: Any, sent: list[bytes]) -> Health:
    return Health(
        registries.resolver,
        registries.standings,
        Reputation(half_life=60, limit=9),
        Placements(9),
        prober=Nobody(),
        publish=sent.append,
        settings=RegistrySettings.preset("test"),
        clock=SYSTEM,
        rng=random.Random(1),
    )


async def test_a_change_one_node_sees_makes_the_other_ask_anew(tmp_path: Path) -> None:
    pin, folder, _ = await published(tmp_path)
    told: list[dict[str, int]] = []
    seeing, other = node(tmp_path / "seeing", tell_names=told.append), node(tmp_path / "other", tell_names=told.append)
    sent: list[bytes] = []
    try:
        for each in (seeing, other):
            await each.open()
            await each.add(Entry("corp", f"file://{folder}", pin=pin))
        assert told == [], "what is new at the first fetch is new here alone"
        deadline = time.monotonic() + 20
        assert str((await other.resolve(str(NAME), deadline=deadline)).version) == "1.0.0"

        owner = Registry(FolderTree("mine", folder), Trust(bytes.fromhex(pin)), SYSTEM)
        said = Binding(name=str(NAME), version="1.1.0", sequence=2, digest="cd" * 32, providers=(provider(),))
        await owner.publish([said], [VENDOR_KEY])
        await owner.close()
        assert str((await other.resolve(str(NAME), deadline=deadline)).version) == "1.0.0", "it is fresh still"

        await seeing._open["corp"].keeper.once()
        assert told == [{str(NAME): 2}]
        await seeing._open["corp"].keeper.once()
        assert len(told) == 1, "nothing changed since"
        health(seeing, sent).tell_names(told[0])
        assert len(sent) == 1
        echo: list[bytes] = []
        listening = health(other, echo)
        listening.on_news("12D3KooWpeer", sent[0])
        assert str((await other.resolve(str(NAME), deadline=deadline)).version) == "1.1.0"
        listening.tell_names(told[0])
        assert echo == [], "everybody was told"
        listening.tell_names({str(NAME): 3})
        assert len(echo) == 1
        long = {f"acme.com/{number}/{'x' * 400}": 1 for number in range(256)}
        listening.tell_names(long)
        news = [HealthNews.from_wire(body) for body in echo[1:]]
        assert dict(name for said in news for name in said.names) == long
        assert max(map(len, echo)) < 50_000
    finally:
        await seeing.close()
        await other.close()
