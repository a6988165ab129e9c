"""Without a majority a command is refused soon, and surely not done."""

from __future__ import annotations

import pytest

from osiris_mesh.clock import FakeClock
from osiris_mesh.errors import Unavailable
from tests.raft.pairs import SETTINGS, Ours, append

ABC = ("a", "b", "c")


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock(start=1000.0)


def wait(node: Ours, clock: FakeClock, seconds: float) -> None:
    until = clock.monotonic() + seconds
    while clock.monotonic() < until:
        clock.advance(0.05)
        node.tick()


def test_a_command_that_finds_no_leader_is_refused_by_name_of_what_lacks(clock: FakeClock) -> None:
    node = Ours("a", ABC, clock)
    node.engine.disconnect("c")
    wait(node, clock, 2 * SETTINGS.leaderless_s)
    node.propose(b"x")
    wait(node, clock, SETTINGS.leaderless_s - 0.2)
    assert node.outcomes == {}  # each has its own time: a leader may be elected any moment
    wait(node, clock, 0.4)
    refused = node.outcomes[b"x"]
    assert isinstance(refused, Unavailable)
    assert refused.details == {"maybe": False, "why": "quorum", "reachable": 2, "voters": 3}
    append(node, "b", 3, (1, 0), [])
    assert not node.take("apply_command")


def test_a_command_outlives_an_election(clock: FakeClock) -> None:
    node = Ours("a", ABC, clock)
    node.propose(b"x")
    wait(node, clock, SETTINGS.leaderless_s - 0.2)
    append(node, "b", 9, (1, 0), [])
    assert [message["command"] for _, message in node.take("apply_command")] == [node.command(b"x")]
    assert node.outcomes == {}
