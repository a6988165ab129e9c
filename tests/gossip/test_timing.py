"""Suspicion timeouts, awareness and retransmission: arithmetic by table, as memberlist's suspicion_test.go has it."""

from __future__ import annotations

import pytest

from osiris_mesh.errors import UsageError
from osiris_mesh.gossip.awareness import Awareness
from osiris_mesh.gossip.broadcast import Broadcasts, retransmissions
from osiris_mesh.gossip.message import PeerState, Update
from osiris_mesh.gossip.suspicion import Suspicion, least_timeout, timeout
from osiris_mesh.settings import GossipSettings
from tests.gossip.fake_mesh import name

A, B, C, D, E = (name(number) for number in range(5))


@pytest.mark.parametrize(
    ("confirmations", "expected"),
    # memberlist TestSuspicion_remainingSuspicionTime: k = 3, from 30 s down to 2 s
    [(0, 30.0), (1, 16.0), (2, 7.810), (3, 2.0), (4, 2.0), (5, 2.0)],
)
def test_timeout_falls_on_a_logarithmic_scale(confirmations: int, expected: float) -> None:
    assert timeout(confirmations, 3, 2.0, 30.0) == pytest.approx(expected, abs=0.001)


def test_where_nobody_can_confirm_the_least_holds() -> None:
    assert timeout(0, 0, 2.0, 30.0) == 2.0


@pytest.mark.parametrize(
    ("members", "expected"), [(1, 4.0), (5, 4.0), (10, 4.0), (50, 6.796), (100, 8.0), (500, 10.796)]
)
def test_least_timeout_grows_with_the_logarithm_of_the_mesh(members: int, expected: float) -> None:
    assert least_timeout(4, 1.0, members) == pytest.approx(expected, abs=0.001)


def test_only_new_accusers_confirm_and_only_as_many_as_needed() -> None:
    suspicion = Suspicion(A, now=100.0, needed=2, least=1.0, most=10.0)
    assert suspicion.deadline == 110.0
    assert not suspicion.confirm(A), "the first accuser does not confirm itself"
    assert suspicion.confirm(B)
    middle = suspicion.deadline
    assert 101.0 < middle < 110.0
    assert not suspicion.confirm(B)
    assert suspicion.deadline == middle
    assert suspicion.confirm(C)
    assert suspicion.deadline == 101.0
    assert not suspicion.confirm(D)
    suspicion.delay(5.0)
    assert suspicion.deadline == 106.0


def test_awareness_saturates() -> None:
    awareness = Awareness(8)
    for delta, score in [(1, 1), (20, 8), (-3, 5), (-100, 0), (-1, 0)]:
        awareness.add(delta)
        assert awareness.score == score
    awareness.add(2)
    assert awareness.scale(0.5) == 1.5


@pytest.mark.parametrize(("members", "times"), [(1, 4), (2, 4), (9, 4), (10, 8), (99, 8), (100, 12)])
def test_retransmissions(members: int, times: int) -> None:
    assert retransmissions(4, members) == times


def update(peer: str, incarnation: int = 1, state: PeerState = PeerState.ALIVE, accuser: str = "") -> Update:
    return Update(state, peer, incarnation, bytes(64), accuser)


def test_an_update_is_passed_on_so_often_and_no_more() -> None:
    waiting = Broadcasts()
    waiting.put(update(A))
    assert [waiting.take(7, 3) for _ in range(4)] == [[update(A)], [update(A)], [update(A)], []]
    assert len(waiting) == 0


def test_those_sent_least_go_first_and_the_newest_among_them() -> None:
    waiting = Broadcasts()
    waiting.put(update(A))
    waiting.take(1, 10)
    waiting.put(update(B))
    waiting.put(update(C))
    assert waiting.take(2, 10) == [update(C), update(B)]
    assert waiting.take(3, 10) == [update(C), update(B), update(A)]


def test_a_newer_update_takes_the_place_of_the_older() -> None:
    waiting = Broadcasts()
    waiting.put(update(A, 1, PeerState.SUSPECT, B))
    waiting.put(update(A, 1, PeerState.SUSPECT, C))
    assert len(waiting) == 2, "two accusers are two updates"
    waiting.put(update(A, 1, PeerState.DEAD, D))
    assert waiting.take(7, 10) == [update(A, 1, PeerState.DEAD, D)]
    waiting.put(update(A, 2))
    assert waiting.take(7, 10) == [update(A, 2)]
    waiting.forget(A)
    assert waiting.take(7, 10) == []


@pytest.mark.parametrize("name", ["local", "lan", "wan", "test"])
def test_presets_are_consistent(name: str) -> None:
    settings = GossipSettings.preset(name)
    assert settings.probe_timeout_s < settings.probe_interval_s


def test_local_keeps_its_promise_by_its_formula() -> None:
    settings = GossipSettings.preset("local")
    # N probers, each of which reaches all others in N - 1 periods, then a period, then an unconfirmed suspicion
    least = least_timeout(settings.suspicion_multiplier, settings.probe_interval_s, 5)
    assert settings.probe_interval_s * 4 + settings.probe_interval_s + least * settings.suspicion_max <= 3.0


@pytest.mark.parametrize(
    "wrong",
    [
        {"probe_timeout_s": 0.0},
        {"probe_timeout_s": 1.0, "probe_interval_s": 1.0},
        {"indirect_probes": -1},
        {"gossip_fanout": 0},
        {"suspicion_multiplier": 0.5},
        {"message_bytes": 0},
        {"message_bytes": 1 << 20},
        {"queue_messages": 1},
        {"queue_messages": 100_000},
        {"queue_bytes": 1},
    ],
)
def test_settings_that_can_not_work_are_refused(wrong: dict[str, float]) -> None:
    with pytest.raises(UsageError):
        GossipSettings(**wrong)  # type: ignore[arg-type]
