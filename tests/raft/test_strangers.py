"""Who is outside the configuration, and what nobody may say: no message moves what its sender has no part in."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

from osiris_mesh.clock import FakeClock
from osiris_mesh.codec import pack
from osiris_mesh.errors import Denied, RemoteProtocolError
from osiris_mesh.raft import Raft
from osiris_mesh.raft.message import MAX_NUMBER, MAX_TERM_LEAP, decode, encode
from tests.raft.pairs import SETTINGS, Ours, append, bare, lead

ABC = ("a", "b", "c")
LAST = {"last_log_index": 1 << 40, "last_log_term": 1 << 40}
MANY = MAX_TERM_LEAP + 100


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock(start=1000.0)


def follower(clock: FakeClock) -> Ours:
    node = Ours("a", ABC, clock)
    append(node, "b", 3, (1, 0), [(node.command(b"x"), 3)])
    assert (node.term, len(node.log())) == (3, 2)
    node.take()
    return node


FORGED: list[dict[str, Any]] = [
    {"type": "request_vote", "term": 900, **LAST, "transfer": True},
    {"type": "request_vote", "term": 900, **LAST, "transfer": False},
    {"type": "append_entries", "term": 900, "commit_index": 1, "prevLogIdx": 1, "prevLogTerm": 0, "entries": []},
    {
        "type": "install_snapshot", "term": 900, "commit_index": 90,
        "index": 90, "index_term": 9, "voters": ["x"], "data": b"",
    },
    {"type": "next_node_idx", "term": 900, "next_node_idx": 1, "success": False, "reset": False},
    {"type": "pre_vote_answer", "term": 900, "round": 1, "granted": False},
    {"type": "response_vote", "term": 900},
    {"type": "timeout_now", "term": 900},
    {"type": "commit", "term": 900, "commit_index": 2, "commit_term": 3},
]  # fmt: skip


@pytest.mark.parametrize("message", FORGED, ids=lambda message: message["type"])
@pytest.mark.parametrize("leading", [False, True])
def test_a_stranger_deposes_nobody(clock: FakeClock, message: dict[str, Any], leading: bool) -> None:
    node = Ours("a", ABC, clock)
    if leading:
        lead(node, ["b"], clock)
    else:
        append(node, "b", 3, (1, 0), [(node.command(b"x"), 3)])
    before = (node.term, node.log(), node.commit, node.engine.status())
    node.inject("x", message)
    node.tick()
    assert (node.term, node.log(), node.commit, node.engine.status()) == before
    assert not node.installed


@pytest.mark.parametrize("kind", ["pre_vote_answer", "next_node_idx"])
def test_a_strangers_answer_raises_no_term_even_without_a_leader(clock: FakeClock, kind: str) -> None:
    node = Ours("a", ABC, clock)
    clock.advance(SETTINGS.election_max_s + 0.1)
    node.tick()
    node.inject("x", next(message for message in FORGED if message["type"] == kind))
    node.tick()
    assert node.term == 0


def test_a_strangers_command_is_refused_and_not_appended(clock: FakeClock) -> None:
    node = Ours("a", ABC, clock)
    lead(node, ["b"], clock)
    node.engine.connect("x")
    node.take()
    end = node.log()
    for sender in ("x", "b"):
        node.inject(sender, {"type": "apply_command", "request_id": 5, "command": node.command(b"x")})
    node.tick()
    answers = {peer: message.get("error", 0) for peer, message in node.take("apply_command_response")}
    assert answers["x"] > 0
    assert answers["b"] == 0
    assert len(node.log()) == len(end) + 1


def test_a_leader_takes_no_command_its_owner_refuses(clock: FakeClock) -> None:
    node = Ours("a", ABC, clock)
    lead(node, ["b"], clock)
    node.engine.raft.may_append = lambda command: command != b"late"
    node.take()
    end = len(node.log())
    node.inject("b", {"type": "apply_command", "request_id": 5, "command": node.command(b"late")})
    node.tick()
    assert [message["error"] > 0 for _, message in node.take("apply_command_response")] == [True]
    assert len(node.log()) == end
    follower = Ours("c", ABC, clock)
    append(follower, "a", 3, (1, 0), [])
    follower.propose(b"late")
    follower.tick()
    [(_, message)] = follower.take("apply_command")
    answer = {
        "type": "apply_command_response",
        "request_id": message["request_id"],
        "error": bare.FAIL_REASON.REQUEST_DENIED,
    }
    follower.inject("a", answer)
    follower.tick()
    assert isinstance(follower.outcomes[b"late"], Denied)


def test_who_was_elected_by_a_configuration_not_known_here_is_heard_when_the_leader_is_silent(clock: FakeClock) -> None:
    node = follower(clock)
    clock.advance(SETTINGS.election_min_s + 0.001)
    append(node, "d", 4, (2, 3), [(node.command(b"y"), 4)])
    assert (node.term, len(node.log()), node.engine.status().leader) == (4, 3, "d")
    append(node, "d", 4, (3, 4), [(node.command(b"z"), 4)])
    assert len(node.log()) == 4


@pytest.mark.parametrize("sender", ["b", "x"])
def test_no_message_leaps_ahead_of_the_term(clock: FakeClock, sender: str) -> None:
    node = follower(clock)
    clock.advance(SETTINGS.election_min_s + 0.001)
    node.inject(sender, {"type": "request_vote", "term": MANY, **LAST, "transfer": True})
    append(node, sender, MANY, (2, 3), [])
    assert node.term == 3
    append(node, sender, MAX_TERM_LEAP + 3, (2, 3), [])
    assert node.term == MAX_TERM_LEAP + 3


def test_a_newcomer_learns_whatever_term_there_is(clock: FakeClock) -> None:
    node = Ours("n", (), clock)
    append(node, "b", MANY, (1, 0), [(node.command(b"x"), MANY)])
    assert node.term == MANY


async def test_a_leap_is_refused_to_its_senders_face(tmp_path: Path) -> None:
    raft = Raft(
        peer="a", voters=["a"], folder=tmp_path, settings=SETTINGS,
        send=lambda _peer, _packet: None, on_committed=lambda _batch: None,
    )  # fmt: skip
    raft.start(0)
    try:
        async with asyncio.timeout(10):
            while raft.status().term == 0:
                await asyncio.sleep(0.005)
        with pytest.raises(RemoteProtocolError, match="leaps"):
            raft.deliver("b", next(encode([{"type": "response_vote", "term": MANY}])))
    finally:
        await raft.stop()


def test_numbers_have_one_bound() -> None:
    assert decode(pack([1, [[5, MAX_NUMBER]]]))
    for packet in (pack([1, [[5, MAX_NUMBER + 1]]]), pack([1, [[2, 5, 1, 1, 6, ["a"], b""]]])):
        with pytest.raises(RemoteProtocolError):
            decode(packet)
