"""The bus: history, patterns, readers that are too slow."""

from __future__ import annotations

import asyncio

import pytest

from osiris_mesh.clock import FakeClock
from osiris_mesh.errors import Overloaded, UsageError
from osiris_mesh.gateway.events import EVENTS, MAX_READERS, Bus, Event, check_patterns, matches


@pytest.mark.parametrize(
    ("pattern", "name", "good"),
    [
        ("*", "node.lost", True),
        ("node.lost", "node.lost", True),
        ("node.lost", "node.back", False),
        ("node.*", "node.back", True),
        ("node.*", "leader.changed", False),
        ("*.lost", "quorum.lost", True),
        ("*.lost", "quorum.back", False),
        ("*e*o*", "deploy.done", True),
        ("n*n*", "node.lost", False),
        ("node.lost*lost", "node.lost", False),
    ],
)
def test_patterns(pattern: str, name: str, good: bool) -> None:
    assert matches((pattern,), name) is good


@pytest.mark.parametrize(
    "patterns", [[], ["node.found"], ["x*"], ["Node.*"], ["node.lost "], ["*"] * 33, ["node.[l]*"]]
)
def test_patterns_that_mean_nothing_are_refused(patterns: list[str]) -> None:
    with pytest.raises(UsageError):
        check_patterns(patterns)


def test_an_event_nobody_documented_is_refused() -> None:
    with pytest.raises(UsageError):
        Event("node.exploded")


def test_history_is_bounded_and_stamped() -> None:
    clock = FakeClock()
    bus = Bus(clock, history=3)
    for number in range(5):
        clock.advance(1)
        bus.publish(Event("queue.full", {"refused": number}))
    kept = bus.history()
    assert [event.sequence for event in kept] == [3, 4, 5]
    assert kept[-1].time_ms == clock.time_ms()
    assert [event.sequence for event in bus.history(("queue.*",), after=4)] == [5]
    assert bus.history(("node.*",)) == []
    assert bus.counts["queue.full"] == 5


async def test_a_reader_gets_what_he_asked_for_in_order() -> None:
    bus = Bus(FakeClock())
    bus.publish(Event("node.lost", {"peer": "before"}))
    with bus.subscribe(["node.*"], after=0) as all_of_it, bus.subscribe(["node.back"]) as only_new:
        bus.publish(Event("quorum.lost"))
        bus.publish(Event("node.back", {"peer": "b"}))
        assert [(await anext(all_of_it)).name for _ in range(2)] == ["node.lost", "node.back"]
        assert (await anext(only_new)).fields == {"peer": "b"}
        assert bus.readers == 2
    assert bus.readers == 0


async def test_a_reader_who_waits_is_woken() -> None:
    bus = Bus(FakeClock())
    with bus.subscribe() as reader:
        waiting = asyncio.create_task(anext(reader))  # type: ignore[arg-type]
        await asyncio.sleep(0)
        bus.publish(Event("leader.changed"))
        async with asyncio.timeout(5):
            assert (await waiting).name == "leader.changed"


async def test_who_is_too_slow_is_cut_and_told_and_holds_up_nobody() -> None:
    bus = Bus(FakeClock())
    with bus.subscribe() as slow, bus.subscribe(["node.lost"]) as quick:
        for _ in range(257):
            bus.publish(Event("queue.full"))
        bus.publish(Event("node.lost"))
        assert (await anext(quick)).name == "node.lost"
        assert (bus.readers, bus.cut) == (1, 1)
        for _ in range(256):
            await anext(slow)
        with pytest.raises(Overloaded):
            await anext(slow)


async def test_a_long_history_does_not_cut_its_reader() -> None:
    bus = Bus(FakeClock())
    for _ in range(900):
        bus.publish(Event("queue.full"))
    with bus.subscribe(after=0) as reader:
        bus.publish(Event("node.lost"))
        got = [await anext(reader) for _ in range(901)]
    assert got[-1].name == "node.lost"


async def test_closing_the_bus_ends_reading_after_what_is_there() -> None:
    bus = Bus(FakeClock())
    reader = bus.subscribe()
    bus.publish(Event("node.lost"))
    bus.close()
    assert [event.name async for event in reader] == ["node.lost"]


def test_readers_are_bounded() -> None:
    bus = Bus(FakeClock())
    for _ in range(MAX_READERS):
        bus.subscribe()
    with pytest.raises(Overloaded):
        bus.subscribe()


def test_scopes() -> None:
    assert {name for name, kind in EVENTS.items() if kind.scope == "mesh"} == {
        "node.lost",
        "node.back",
        "leader.changed",
        "member.added",
        "member.removed",
        "deploy.done",
    }


def test_what_an_event_is_about_is_told_by_the_fields_its_kind_has() -> None:
    """Who may not know of a function gets no event about it, so no field but these may name one."""
    for name, kind in EVENTS.items():
        about = [field for field in kind.fields if field in {"function", "subject"}]
        fields = {field: f"t/{field}" for field in kind.fields}
        assert Event(name, fields).function == (f"t/{about[0]}" if about else "")
        assert len(about) == name.startswith(("deploy.", "function.", "queue.", "alert."))
