"""Where each node stands, told and heard."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from osiris_mesh.clock import FakeClock
from osiris_mesh.codec import pack
from osiris_mesh.errors import RemoteProtocolError
from osiris_mesh.node.tips import Standing, Tips

STANDING = Standing(7, b"t" * 32, 3, "12D3leader", ("a", "b", "c"), 1_700_000_000_000)


class Topics:
    """A gossip that goes nowhere but back."""

    def __init__(self) -> None:
        self.sent: list[bytes] = []
        self.handlers: list[Callable[[str, bytes], None]] = []

    def publish(self, topic: str, body: bytes) -> None:
        assert topic == "tip"
        self.sent.append(body)

    def on(self, topic: str, callback: Callable[[str, bytes], None]) -> None:
        assert topic == "tip"
        self.handlers.append(callback)


@given(
    st.builds(
        Standing,
        height=st.integers(0, 2**53),
        tip=st.binary(max_size=32),
        term=st.integers(0, 2**53),
        leader=st.text("abc123", max_size=52),
        voters=st.lists(st.text("abc123", max_size=52), max_size=9).map(tuple),
        time_ms=st.integers(0, 2**53),
    )
)
def test_a_standing_survives_the_wire(standing: Standing) -> None:
    assert Standing.from_wire(standing.to_wire()) == standing


@pytest.mark.parametrize(
    "value",
    [
        None,
        [],
        [1, b"", 1, "", []],
        [-1, b"", 1, "", [], 0],
        [1, "", 1, "", [], 0],
        [1, b"", 1, "", ["x" * 65], 0],
        [1, b"", 1, "", "voters", 0],
        [True, b"", 1, "", [], 0],
    ],
)
def test_a_wrong_standing_is_refused(value: object) -> None:
    with pytest.raises(RemoteProtocolError):
        Standing.from_wire(pack(value))


def test_what_was_said_long_ago_counts_no_longer() -> None:
    clock, topics, heard = FakeClock(), Topics(), []
    tips = Tips(topics, lambda: STANDING, clock, lambda peer, standing: heard.append((peer, standing)))
    topics.handlers[0]("peer", STANDING.to_wire())
    assert heard == [("peer", STANDING)]
    assert tips.of("peer") == tips.newest_term() == STANDING
    clock.advance(11)
    assert tips.of("peer") is None
    assert tips.newest_term() is None


def test_the_highest_term_with_a_leader_is_believed() -> None:
    clock, topics = FakeClock(), Topics()
    tips = Tips(topics, lambda: STANDING, clock, lambda _peer, _standing: None)
    later = Standing(7, b"t" * 32, 5, "", (), 0)
    newer = Standing(7, b"t" * 32, 4, "12D3other", ("a",), 0)
    for peer, standing in (("p", STANDING), ("q", later), ("r", newer)):
        topics.handlers[0](peer, standing.to_wire())
    assert tips.newest_term() == newer


def test_clock_difference_is_measured_against_ours() -> None:
    clock, topics = FakeClock(epoch_ms=1_700_000_000_000), Topics()
    tips = Tips(topics, lambda: STANDING, clock, lambda _peer, _standing: None)
    clock.advance(2)
    topics.handlers[0]("p", STANDING.to_wire())
    assert tips.skew_ms() == {"p": -2000}
