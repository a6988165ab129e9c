"""The queue to one peer: lanes, latest-wins, bounds."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from osiris_mesh.gossip.outbox import Outbox, Parcel
from osiris_mesh.gossip.topic import TopicMessage
from tests.gossip.fake_mesh import name


def parcel(topic: str, sequence: int, size: int = 10, origin: int = 0) -> Parcel:
    return Parcel(TopicMessage(topic, name(origin), sequence, 0, b"", bytes(size)))


def labels(parcels: list[Parcel]) -> list[tuple[str, int]]:
    return [(each.message.topic, each.message.sequence) for each in parcels]


def test_urgent_overtakes_and_order_holds_within_a_lane() -> None:
    box = Outbox(max_messages=100, max_bytes=10_000)
    for each in (parcel("a", 1), parcel("a", 2), parcel("health", 3), parcel("tip", 4), parcel("b", 5)):
        box.put(each)
    assert labels(box.take(3, 10_000)) == [("health", 3), ("tip", 4), ("a", 1)]
    assert labels(box.take(3, 10_000)) == [("a", 2), ("b", 5)]
    assert box.take(3, 10_000) == []


def test_of_latest_wins_topics_the_newest_of_each_origin_waits() -> None:
    box = Outbox(max_messages=100, max_bytes=10_000)
    for each in (parcel("load", 1), parcel("a", 2), parcel("load", 3), parcel("load", 9, origin=1), parcel("load", 2)):
        box.put(each)
    assert labels(box.take(10, 10_000)) == [("load", 3), ("a", 2), ("load", 9)], "in the place of the older"
    assert box.dropped == 0


def test_the_oldest_ordinary_message_makes_room() -> None:
    box = Outbox(max_messages=3, max_bytes=10_000)
    for each in (parcel("tip", 1), parcel("a", 2), parcel("a", 3), parcel("a", 4), parcel("health", 5)):
        box.put(each)
    assert box.dropped == 2
    assert labels(box.take(10, 10_000)) == [("tip", 1), ("health", 5), ("a", 4)]


def test_bytes_are_bounded_too() -> None:
    box = Outbox(max_messages=100, max_bytes=100)
    for number in range(10):
        box.put(parcel("a", number, size=40))
    assert labels(box.take(10, 1000)) == [("a", 8), ("a", 9)]
    assert box.dropped == 8


def test_one_message_always_goes() -> None:
    box = Outbox(max_messages=100, max_bytes=1000)
    box.put(parcel("a", 1, size=900))
    box.put(parcel("a", 2, size=90))
    assert labels(box.take(10, 100)) == [("a", 1)]
    assert labels(box.take(10, 100)) == [("a", 2)]


@settings(max_examples=100, deadline=None)
@given(st.lists(st.tuples(st.sampled_from(["a", "tip", "load", "health"]), st.integers(1, 300), st.booleans())))
def test_bounds_hold_and_nothing_is_lost_uncounted(steps: list[tuple[str, int, bool]]) -> None:
    box = Outbox(max_messages=8, max_bytes=1000)
    waiting = taken = replaced = 0
    for number, (topic, size, take) in enumerate(steps):
        before = len(box)
        dropped = box.dropped
        box.put(parcel(topic, number, size))
        replaced += before + 1 - (box.dropped - dropped) - len(box)
        assert len(box) <= 8
        assert box._bytes == sum(len(each.message.raw) for lane in box._lanes for each in lane.values())
        assert box._bytes <= 1000
        if take:
            taken += len(box.take(2, 200))
        waiting = len(box)
    assert len(steps) == taken + waiting + box.dropped + replaced
