"""What is told of registries: each thing once, and what to do; and checkpoints are renewed in time."""

from __future__ import annotations

import random
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from osiris_mesh.clock import FakeClock
from osiris_mesh.gateway.events import EVENTS
from osiris_mesh.node.registries import Registries
from osiris_mesh.node.registry_news import RENEW_MS, RegistryNews, RegistryState, problems_of
from osiris_mesh.registry.checkpoint import Config
from osiris_mesh.registry.keyring import found_keys
from osiris_mesh.registry.registry import CHECKPOINT_TTL_MS, Registry
from osiris_mesh.registry.roster import Entry
from osiris_mesh.registry.tree_folder import FolderTree
from osiris_mesh.registry.trust import Evidence, Trust
from osiris_mesh.settings.registry import RegistrySettings
from tests.registry.core.kit import NOW, REGISTRY, STRANGER, VENDOR_KEY, root

DAY_MS = 86_400_000


def evidence(subject: str = "acme.com/a/b", line: bytes = b"{}") -> Evidence:
    return Evidence("rollback", subject, f"{subject} went back", NOW, b"", (line,))


def state(**more: Any) -> RegistryState:
    given = {"name": "team", "url": "https://team.example/", "expires_ms": NOW + CHECKPOINT_TTL_MS}
    return RegistryState(**{**given, **more})


def test_what_is_refused_is_told_once_and_what_was_before_is_no_news() -> None:
    news, old, new = RegistryNews(), evidence("old"), evidence("new")
    assert news.look([state(evidence=(old,))], NOW) == []
    (event,) = news.look([state(evidence=(old, new))], NOW)
    assert event == (
        "registry.refused",
        {"registry": "team", "reason": "rollback", "about": "new", "what": "new went back"},
    )
    assert set(event[1]) == set(EVENTS[event[0]].fields)
    assert news.look([state(evidence=(old, new))], NOW) == []
    assert len(news.look([state(evidence=(old, evidence("new", b"[]")))], NOW)) == 1, "another line is another lie"


def test_a_flood_is_told_in_part() -> None:
    news = RegistryNews()
    news.look([state()], NOW)
    assert len(news.look([state(evidence=tuple(evidence(f"n{number}") for number in range(256)))], NOW)) == 16


def test_a_checkpoint_that_ends_soon_is_told_once_a_day_until_it_is_renewed() -> None:
    news, ends = RegistryNews(), NOW + CHECKPOINT_TTL_MS
    told = [
        day
        for day in range(7)
        for _ in range(3)
        for name, fields in news.look([state()], NOW + day * DAY_MS)
        if name == "registry.stale_soon" and set(fields) == set(EVENTS[name].fields)
    ]
    assert told == [4, 5, 6]
    assert news.look([state(expires_ms=ends + CHECKPOINT_TTL_MS)], NOW + 7 * DAY_MS) == []
    assert news.look([state(expires_ms=0)], NOW + 7 * DAY_MS) == []


@pytest.mark.parametrize(
    ("more", "what"),
    [
        ({}, ""),
        ({"failed": "it is away"}, "it is away"),
        ({"evidence": (evidence(),)}, "went back"),
        ({"expires_ms": NOW}, "has ended"),
        ({"expires_ms": NOW + DAY_MS}, "ends in 24 h"),
        ({"expires_ms": NOW + DAY_MS * 3, "renews": True}, ""),
    ],
)
def test_the_doctor_names_what_is_wrong_and_what_to_do(more: dict[str, Any], what: str) -> None:
    found = problems_of([state(**more)], NOW)
    assert len(found) == bool(what)
    for name, told, fix in found:
        assert (name, what in told, "osiris-mesh registry" in fix) == ("team", True, True)


class Empty:
    """A mesh without functions."""

    def active(self, _name: str) -> None:
        return None

    def versions(self, _name: str) -> Sequence[Any]:
        return ()


async def node(folder: Path, clock: FakeClock, path: Path) -> Registries:
    folder.mkdir()  # noqa: ASYNC240 - a test's own folder
    ledger: Any = None
    settings = RegistrySettings.preset("test")
    made = Registries(folder, ledger, Empty(), settings=settings, clock=clock, rng=random.Random(1))
    await made.open()
    url = f"file://{folder.parent / 'registry'}"
    await made.add(Entry("team", url, root().digest.hex(), options=(("renew_key", str(path)),)))
    return made


def key_file(folder: Path, seed: str) -> Path:
    path = folder / "key"
    path.write_text(seed)
    path.chmod(0o600)
    return path


async def begun(folder: Path, clock: FakeClock) -> None:
    mine = Registry(FolderTree("mine", folder / "registry"), Trust(root().digest), clock)
    await mine.create(Config(REGISTRY), [VENDOR_KEY], root=root(), vendor_keys=[found_keys("acme.com", [VENDOR_KEY])])
    await mine.close()


async def test_a_checkpoint_is_renewed_at_half_of_its_life_and_by_one_of_two_nodes(tmp_path: Path) -> None:
    clock = FakeClock(epoch_ms=NOW)
    await begun(tmp_path, clock)
    path = key_file(tmp_path, (10).to_bytes(32, "big").hex())
    one, two = [await node(tmp_path / name, clock, path) for name in ("one", "two")]
    try:
        await one.renew()
        assert one.states()[0].expires_ms == NOW + CHECKPOINT_TTL_MS
        clock.advance((CHECKPOINT_TTL_MS - RENEW_MS * 0.7) / 1000)
        await one.renew()
        await two.renew()
        for each in (one, two):
            assert each.states()[0].expires_ms == clock.time_ms() + CHECKPOINT_TTL_MS
            assert each.listing()[0]["checkpoint"] == 2
    finally:
        await one.close()
        await two.close()


async def test_a_key_that_may_not_renews_nothing_and_ends_nothing(tmp_path: Path) -> None:
    clock = FakeClock(epoch_ms=NOW)
    await begun(tmp_path, clock)
    made = await node(tmp_path / "one", clock, key_file(tmp_path, (666).to_bytes(32, "big").hex()))
    try:
        assert STRANGER.public != VENDOR_KEY.public
        clock.advance((CHECKPOINT_TTL_MS - RENEW_MS * 0.2) / 1000)
        await made.renew()
        await made.renew()
        (row,) = made.states()
        assert row.expires_ms == NOW + CHECKPOINT_TTL_MS
        assert row.renews
        assert problems_of([row], clock.time_ms())
    finally:
        await made.close()
