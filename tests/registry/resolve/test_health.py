"""Providers are probed, members tell each other, and placements say where providers answer now."""

from __future__ import annotations

import asyncio
import random
import time
from dataclasses import replace

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from osiris_mesh.clock import SYSTEM
from osiris_mesh.codec import pack
from osiris_mesh.errors import RemoteProtocolError, Unavailable
from osiris_mesh.registry.health import Health
from osiris_mesh.registry.health_news import HealthNews
from osiris_mesh.registry.placements import Placements
from osiris_mesh.registry.record import Placement, Provider, sign
from osiris_mesh.registry.reputation import Reputation
from osiris_mesh.registry.resolver import Resolver
from osiris_mesh.registry.selection import Standings
from tests.registry.resolve.kit import PROVIDERS, SETTINGS, Fake, history, key, resolver, standings

NAME = "acme.com/image/sharpen"
FAST = replace(SETTINGS, probe_s=0.02, probe_timeout_s=0.05, breaker_failures=2, breaker_s=0.05, policy="fastest")
PEER = "12D3KooWpeer"


class Probes:
    def __init__(self) -> None:
        self.down: set[str] = set()
        self.seen: list[str] = []
        self.most = self.now = 0

    async def probe(self, provider: Provider) -> None:
        self.seen.append(provider.id)
        self.now += 1
        self.most = max(self.most, self.now)
        try:
            await asyncio.sleep(0)
            if provider.id in self.down:
                raise Unavailable("no route")
        finally:
            self.now -= 1


class Parts:
    """A resolver with its health."""

    def __init__(self) -> None:
        self.probes = Probes()
        self.said: list[HealthNews] = []
        self.book: Standings = standings(FAST)
        self.reputation = Reputation(half_life=60, limit=100)
        self.source = Fake("r", {NAME: history(NAME, {"version": "1.0.0"})})
        self.names: Resolver = resolver(self.source, settings=FAST, book=self.book)
        self.placements: Placements = self.names._placements
        self.health = Health(
            self.names,
            self.book,
            self.reputation,
            self.placements,
            prober=self.probes,
            publish=lambda body: self.said.append(HealthNews.from_wire(body)),
            settings=FAST,
            clock=SYSTEM,
            rng=random.Random(1),
        )

    def first(self) -> str:
        found = self.names.resolve_now(NAME, time.monotonic())
        assert found is not None
        return found.providers[0].endpoint


async def test_what_stops_answering_comes_last_and_everybody_is_told() -> None:
    parts = Parts()
    async with parts.names:
        await parts.names.resolve(NAME, deadline=time.monotonic() + 5)
        assert parts.first() == "https://one.test/"
        parts.probes.down.add("one")
        running = asyncio.create_task(parts.health.run())
        async with asyncio.timeout(10):
            while parts.first() != "https://two.test/" or not parts.said:
                parts.health._wake.set()
                await asyncio.sleep(0.005)
            assert parts.said[0].down == (("one", "https://one.test/", True),)
            parts.probes.down.clear()
            while not any(item.down and not item.down[0][2] for item in parts.said):
                parts.health._wake.set()
                await asyncio.sleep(0.005)
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)
    assert parts.probes.most <= FAST.probes


async def test_others_word_makes_a_node_look_for_itself_and_no_more() -> None:
    parts = Parts()
    async with parts.names:
        await parts.names.resolve(NAME, deadline=time.monotonic() + 5)
        parts.health.on_news(PEER, HealthNews(down=(("one", "https://one.test/", True),)).to_wire())
        assert parts.first() == "https://one.test/"
        parts.health._probe_due(time.monotonic())
        assert "one" in [task.get_name().removeprefix("probe ") for task in parts.health._probing.values()]
        await asyncio.gather(*parts.health._probing.values())
        parts.health.on_news(PEER, HealthNews(seen=(("one", "https://one.test/", 0.0, 1e6),)).to_wire())
        parts.health._report(time.monotonic())
        assert parts.book.availability(PROVIDERS[0], time.monotonic()) < 0.6
        assert parts.said[-1].seen[0][0] == "one"
        parts.health.gone(PEER)
        assert parts.reputation.others("one https://one.test/", time.monotonic())[2] == 0


async def test_names_that_changed_are_asked_for() -> None:
    parts = Parts()
    async with parts.names:
        await parts.names.resolve(NAME, deadline=time.monotonic() + 5)
        parts.source.has[NAME] = history(NAME, {"version": "1.0.0"}, {"version": "2.0.0"})
        parts.health.on_news(PEER, HealthNews(names=((NAME, 2), ("team/other", 9))).to_wire())
        assert str((await parts.names.resolve(NAME, deadline=time.monotonic() + 5)).version) == "2.0.0"
        parts.health.tell_names({f"team/f{number}": 1 for number in range(300)})
        assert [len(item.names) for item in parts.said] == [256, 44]


async def test_a_placement_moves_a_provider_if_its_own_key_says_so() -> None:
    parts = Parts()
    own, now_ms = key(7), SYSTEM.time_ms()
    placed = msgspec.structs.replace(PROVIDERS[0], key=own.public.hex())
    parts.source.has[NAME] = history(NAME, {"version": "1.0.0", "providers": (placed,)})

    def line(number: int, by: int = 7, state: str = "up") -> bytes:
        said = Placement("one", f"https://moved{number}.test/", number, now_ms, now_ms + 60_000, state=state)  # type: ignore[arg-type]
        return sign(said, [key(by)]).line

    async with parts.names:
        await parts.names.resolve(NAME, deadline=time.monotonic() + 5)
        parts.health.on_news(PEER, HealthNews(placed=(line(5, by=8), b"nonsense")).to_wire())
        assert parts.first() == "https://one.test/"
        parts.health.on_news(PEER, HealthNews(placed=(line(2),)).to_wire())
        assert parts.first() == "https://moved2.test/"
        parts.health.on_news(PEER, HealthNews(placed=(line(1),)).to_wire())
        assert parts.first() == "https://moved2.test/", "the highest sequence counts"
        parts.health.tell_placement(line(3))
        assert parts.first() == "https://moved3.test/"
        assert parts.said[-1].placed == (line(3),)


@pytest.mark.parametrize(("since", "until"), [(-600_000, -400_000), (120_000, 180_000)])
def test_a_placement_of_another_time_is_refused(since: int, until: int) -> None:
    said = Placement("one", "https://one.test/", 1, 1_000_000 + since, 1_000_000 + until)
    with pytest.raises(RemoteProtocolError):
        Placements(9).accept(sign(said, [key()]), 1_000_000)


def test_placements_are_bounded() -> None:
    held = Placements(3)
    for number in range(1, 9):
        said = Placement(f"p{number}", "https://one.test/", 1, 1_000_000, 1_060_000)
        assert held.accept(sign(said, [key(number)]), 1_000_000) is not None
    assert len(held.lines(1_000_000)) == 3
    assert held.lines(2_000_000) == []


WORDS = st.text(st.characters(min_codepoint=33, max_codepoint=126), min_size=1, max_size=20)
NEWS = st.builds(
    HealthNews,
    names=st.lists(st.tuples(WORDS, st.integers(0, 10**9)), max_size=5).map(tuple),
    seen=st.lists(
        st.tuples(WORDS, WORDS, st.integers(0, 1000).map(float), st.integers(0, 1000).map(float)), max_size=5
    ).map(tuple),
    down=st.lists(st.tuples(WORDS, WORDS, st.booleans()), max_size=5).map(tuple),
    placed=st.lists(st.binary(max_size=50), max_size=5).map(tuple),
    region=st.text("abc-", max_size=9),
)


@settings(max_examples=60)
@given(NEWS)
def test_news_come_back_as_they_were(news: HealthNews) -> None:
    assert HealthNews.from_wire(news.to_wire()) == news


@settings(max_examples=100)
@given(st.one_of(st.binary(max_size=200), NEWS.map(HealthNews.to_wire)), st.integers(0, 199), st.integers(0, 255))
def test_no_bytes_break_the_reader(data: bytes, at: int, value: int) -> None:
    broken = data[:at] + bytes([value]) + data[at + 1 :]
    try:
        news = HealthNews.from_wire(broken)
    except RemoteProtocolError:
        return
    assert news.to_wire() == broken


@pytest.mark.parametrize(
    "value",
    [
        {},
        {"down": [], "names": [], "placed": [], "region": "", "seen": [], "more": []},
        {"down": [["a", "b", 1]], "names": [], "placed": [], "region": "", "seen": []},
        {"down": [], "names": [["a", -1]], "placed": [], "region": "", "seen": []},
        {"down": [], "names": [["a" * 2000, 1]], "placed": [], "region": "", "seen": []},
        {"down": [], "names": [], "placed": [b"x"] * 9, "region": "", "seen": []},
    ],
)
def test_other_shapes_are_refused(value: object) -> None:
    with pytest.raises(RemoteProtocolError):
        HealthNews.from_wire(pack(value))
