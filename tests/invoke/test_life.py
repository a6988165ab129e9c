"""Where a call goes, and what becomes of it when that fails; no I/O, no clock."""

from __future__ import annotations

import random
from dataclasses import dataclass
from typing import Any

import pytest

from osiris_mesh.errors import (
    DeadlineExceeded,
    Denied,
    FunctionError,
    InternalError,
    LimitExceeded,
    NotFound,
    OsirisError,
    Overloaded,
    RemoteProtocolError,
    Unavailable,
    UsageError,
    WorkerDied,
)
from osiris_mesh.invoke.choice import Candidate, choose
from osiris_mesh.invoke.life import CallLife, Failed, Forward, RunHere, earliest


@dataclass(frozen=True)
class Here:
    instances: int
    in_flight: int
    queued: int
    room: bool


WARM = Here(1, 0, 0, room=True)
BUSY = Here(1, 1, 0, room=False)
QUEUED = Here(2, 0, 3, room=True)
COLD = Here(0, 0, 0, room=True)
FULL = Here(0, 0, 0, room=False)


def node(
    peer: str, instances: int = 0, in_flight: int = 0, queued: int = 0, cpu: float = 0.1, *, room: bool = True
) -> Candidate:
    return Candidate(peer, instances, in_flight, queued, cpu, room)


@pytest.mark.parametrize(
    ("here", "others", "place"),
    [
        (WARM, [node("b", 1)], ""),
        (COLD, [], ""),
        (COLD, [node("b")], ""),
        (COLD, [node("b", 1)], "b"),
        (BUSY, [node("b", 1)], "b"),
        (BUSY, [node("b", 1, 1)], ""),
        (BUSY, [node("b")], ""),
        (QUEUED, [node("b", 1)], "b"),
        (FULL, [node("b", 1, 1)], "b"),
        (FULL, [node("b")], "b"),
        (FULL, [node("b", room=False)], ""),
        (FULL, [node("b", room=False), node("c")], "c"),
        (None, [node("b", room=False)], None),
        (None, [], None),
    ],
)
def test_order_of_places(here: Here | None, others: list[Candidate], place: str | None) -> None:
    assert choose(here, others, concurrency=1, tried=(), rng=random.Random(1)) == place


def test_of_two_drawn_the_less_loaded_is_taken() -> None:
    rng = random.Random(1)
    others = [node("idle", 4, 0), node("half", 4, 2), node("busy", 4, 3, cpu=0.9)]
    chosen = [choose(COLD, others, concurrency=1, tried=(), rng=rng) for _ in range(3000)]
    assert chosen.count("busy") == 0
    assert chosen.count("idle") == pytest.approx(2000, rel=0.1)
    assert chosen.count("half") == pytest.approx(1000, rel=0.1)


def test_equal_load_goes_to_the_cooler_node() -> None:
    others = [node("hot", 1, cpu=0.9), node("cool", 1, cpu=0.2)]
    rng = random.Random(1)
    assert {choose(COLD, others, concurrency=1, tried=(), rng=rng) for _ in range(50)} == {"cool"}


def test_more_slots_by_concurrency() -> None:
    assert choose(Here(1, 7, 0, room=False), [node("b", 1)], concurrency=8, tried=(), rng=random.Random(1)) == ""


def life(*, attempts: int = 3, idempotent: bool = False, deadline: float = 10.0) -> CallLife:
    return CallLife(
        "test/f", deadline=deadline, attempts=attempts, concurrency=1, idempotent=idempotent, retry_after_ms=50
    )


def go(call: CallLife, here: Here = WARM, others: list[Candidate] | None = None, now: float = 0.0) -> Any:
    return call.next(now, here, others or [], random.Random(1))


def test_warm_and_cold_are_told_apart() -> None:
    assert go(life()) == RunHere(warm=True)
    assert go(life(), COLD) == RunHere(warm=False)


REPEATED: list[tuple[OsirisError, bool, bool, bool]] = [
    # error, remote, repeated, repeated when idempotent
    (Overloaded("x"), False, True, True),
    (Overloaded("x"), True, True, True),
    (Unavailable("x", maybe=False), True, True, True),
    (Unavailable("x", maybe=True), True, False, True),
    (Unavailable("x"), True, False, True),
    (WorkerDied("x"), False, False, True),
    (WorkerDied("x"), True, False, True),
    (WorkerDied("x", maybe=False), False, True, True),
    (RemoteProtocolError("x"), True, False, True),
    (NotFound("x"), True, True, True),
    (NotFound("x"), False, False, False),
    (Denied("x"), True, True, True),
    (Denied("x"), False, False, False),
    (FunctionError("x", type="ValueError"), True, False, False),
    (LimitExceeded("x"), False, False, False),
    (UsageError("x"), True, False, False),
    (DeadlineExceeded("x"), True, False, False),
    (InternalError("x"), True, False, False),
]


@pytest.mark.parametrize(("error", "remote", "repeated", "when_idempotent"), REPEATED)
def test_what_is_repeated(error: OsirisError, remote: bool, repeated: bool, when_idempotent: bool) -> None:
    for idempotent, expected in ((False, repeated), (True, when_idempotent)):
        call = life(idempotent=idempotent)
        go(call, COLD if remote else WARM, [node("b", 1)])
        end = call.failed(1.0, error, remote=remote)
        assert (end is None) is expected
        if end is not None:
            assert end.error is error


def test_goes_on_elsewhere_and_never_twice_to_one_node() -> None:
    call = life(attempts=5)
    others = [node("b", 1), node("c", 1)]
    places = []
    for _ in range(3):
        place = go(call, COLD, others)
        places.append(place.peer if isinstance(place, Forward) else "here")
        assert call.failed(1.0, Unavailable("gone", maybe=False), remote=isinstance(place, Forward)) is None
    assert sorted(places) == ["b", "c", "here"]
    end = go(call, COLD, others)
    assert isinstance(end, Failed)
    assert end.error.what == "gone"


def test_attempts_are_capped() -> None:
    call = life(attempts=2)
    others = [node(peer, 1) for peer in "bcdefg"]
    for _ in range(2):
        assert isinstance(go(call, COLD, others), Forward)
        assert call.failed(1.0, Overloaded("busy"), remote=True) is None
    end = go(call, COLD, others)
    assert isinstance(end, Failed)
    assert isinstance(end.error, Overloaded)


def test_a_lone_node_tries_a_harmless_call_again_when_its_worker_died() -> None:
    call = life(idempotent=True)
    for _ in range(3):
        assert isinstance(go(call), RunHere)
        assert call.failed(1.0, WorkerDied("killed"), remote=False) is None
    end = go(call)
    assert isinstance(end, Failed)
    assert isinstance(end.error, WorkerDied)


def test_one_deadline_for_all_attempts() -> None:
    call = life(deadline=10.0)
    go(call, COLD, [node("b", 1)])
    end = call.failed(10.0, Overloaded("busy there"), remote=True)
    assert end is not None
    assert isinstance(end.error, DeadlineExceeded)
    assert "busy there" in end.error.what
    assert isinstance(go(life(deadline=1.0), now=1.0).error, DeadlineExceeded)


def test_nobody_has_room() -> None:
    call = life()
    assert go(call, FULL) == RunHere(warm=False)  # the runtime has the last word
    assert call.failed(0.0, Overloaded("no slot", retry_after_ms=7), remote=False) is None
    end = go(call, FULL)
    assert isinstance(end, Failed)
    assert end.error.details == {"retry_after_ms": 7}


def test_a_node_behind_is_not_told_as_not_found() -> None:
    call = life(attempts=1)
    go(call, COLD, [node("b", 1)])
    assert call.failed(0.0, NotFound("test/f 1.0.0 is not known on this node yet"), remote=True) is None
    end = go(call, COLD)
    assert isinstance(end, Failed)
    assert isinstance(end.error, Unavailable)
    assert end.error.details["maybe"] is False


@pytest.mark.parametrize(("deadline", "expected"), [(None, 101.0), (100.5, 100.485), (500.0, 101.0), (99.0, 99.03)])
def test_the_earlier_limit_counts(deadline: float | None, expected: float) -> None:
    # The caller's a little earlier, so that he is told why.
    assert earliest(100.0, deadline, 1000) == pytest.approx(expected)
    assert earliest(100.0, 200.0, 1_000_000) == pytest.approx(199.97)
