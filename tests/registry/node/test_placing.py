"""A node tells where the providers answer that it is, before that ends, and that it goes."""

from __future__ import annotations

from typing import Any

import pytest

from osiris_mesh.clock import FakeClock
from osiris_mesh.identity.keys import KeyPair
from osiris_mesh.identity.peer_id import peer_id
from osiris_mesh.node.placing import Placing
from osiris_mesh.registry.history import follow
from osiris_mesh.registry.placements import Placements
from osiris_mesh.registry.record import Provider, Record
from osiris_mesh.registry.statement import read
from tests.registry.core.kit import NAME, NOW, history, key

NODE, OTHER = key(70), key(71)
AT = f"mesh://{peer_id(NODE.public)}"


def record(*providers: Provider) -> Record:
    lines = history({"version": "1.0.0", "digest": "ab" * 32, "providers": providers})
    return follow(NAME, lines, frozenset())


class Mesh:
    """One node that tells, and another that listens."""

    def __init__(self, *records: Record, node: KeyPair = NODE) -> None:
        self.clock = FakeClock(epoch_ms=NOW)
        self.records = list(records)
        self.lines: list[bytes] = []
        self.heard = Placements(16)
        self.placing = Placing(node, self._records, self._tell, region="eu", clock=self.clock)

    async def _records(self) -> list[Record]:
        return self.records

    def _tell(self, line: bytes) -> None:
        self.lines.append(line)
        assert self.heard.accept(read(line), self.clock.time_ms()) is not None

    def state(self, provider: Provider) -> tuple[str, str]:
        moved, state, _ = self.heard.of(provider, self.clock.time_ms())
        return state, moved.region


@pytest.mark.parametrize("more", [{}, {"key": NODE.public.hex()}], ids=["by its address", "by its key"])
@pytest.mark.parametrize("endpoint", [AT, f"{AT}/"])
async def test_it_is_told_and_renewed_before_it_ends(more: dict[str, Any], endpoint: str) -> None:
    ours = Provider("ours", endpoint, **more)
    mesh = Mesh(record(ours, Provider("theirs", f"mesh://{peer_id(OTHER.public)}")))
    for _ in range(6):
        await mesh.placing.once()
        await mesh.placing.once()
        assert mesh.state(ours) == ("up", "eu")
        mesh.clock.advance(121.0)
    assert len(mesh.lines) == 6
    assert mesh.placing.providers == [("ours", endpoint)]


async def test_it_tells_that_it_drains_and_that_it_is_down_and_nothing_after() -> None:
    ours = Provider("ours", AT)
    mesh = Mesh(record(ours))
    await mesh.placing.once()
    mesh.placing.change("draining")
    assert mesh.state(ours)[0] == "draining"
    mesh.placing.change("down")
    assert mesh.state(ours)[0] == "down"
    mesh.clock.advance(150.0)
    await mesh.placing.once()
    assert len(mesh.lines) == 3


async def test_what_is_not_ours_is_not_told_of() -> None:
    mesh = Mesh(
        record(
            Provider("a", f"mesh://{peer_id(OTHER.public)}"),
            Provider("b", AT, key=OTHER.public.hex()),
            Provider("c", "https://acme.example/call", key=NODE.public.hex()),
            Provider("d", "mesh://mesh.example/"),
        )
    )
    await mesh.placing.once()
    assert mesh.lines == []


async def test_a_record_that_goes_is_told_of_no_more() -> None:
    mesh = Mesh(record(Provider("ours", AT)))
    await mesh.placing.once()
    mesh.records = []
    mesh.clock.advance(121.0)
    await mesh.placing.once()
    mesh.placing.change("down")
    assert len(mesh.lines) == 1


async def test_nobody_speaks_for_another_node() -> None:
    """A placement of a stranger's key for the same id changes nothing of who is meant."""
    ours = Provider("ours", AT)
    stranger = Mesh(record(Provider("ours", f"mesh://{peer_id(OTHER.public)}")), node=OTHER)
    await stranger.placing.once()
    stranger.placing.change("down")
    assert stranger.state(ours) == ("up", "")
