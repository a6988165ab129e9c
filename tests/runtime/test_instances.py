from __future__ import annotations

import math
from typing import Any

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from osiris_mesh.errors import OsirisError, WorkerDied
from osiris_mesh.runtime.instances import Effect, Fail, Instance, Instances, PoolLimits, Run, Start, State, Stop

BROKEN = WorkerDied("it broke")


def kinds(effects: list[Effect]) -> list[str]:
    return [type(effect).__name__ for effect in effects]


def ready(pool: Instances, now: float = 0.0) -> Instance:
    """Bring one instance up through a call, and give the call back."""
    (start,) = pool.wait("first", now)
    assert isinstance(start, Start)
    (run,) = pool.started(start.instance, now)
    assert run == Run("first", start.instance)
    assert pool.give(start.instance, now) == []
    return start.instance


def test_the_first_call_starts_an_instance_and_gets_it() -> None:
    pool = Instances(PoolLimits())
    assert pool.take(0.0) is None
    (start,) = pool.wait("a", 0.0)
    assert isinstance(start, Start)
    assert (pool.count, pool.total, pool.queued) == (0, 1, 1)
    assert pool.started(start.instance, 1.0) == [Run("a", start.instance)]
    assert (pool.count, pool.in_flight, pool.queued) == (1, 1, 0)


def test_a_warm_instance_is_taken_at_once() -> None:
    pool = Instances(PoolLimits())
    instance = ready(pool)
    assert pool.take(0.0) is instance
    assert pool.take(0.0) is None


def test_never_more_than_the_maximum() -> None:
    pool = Instances(PoolLimits(max_instances=2))
    starts = [effect for ticket in "abcde" for effect in pool.wait(ticket, 0.0)]
    assert kinds(starts) == ["Start", "Start"]
    assert pool.room(0.0) is False


def test_who_gives_back_hands_on_in_order() -> None:
    pool = Instances(PoolLimits(max_instances=1))
    instance = ready(pool)
    assert pool.take(0.0) is instance
    for ticket in "abc":
        assert pool.wait(ticket, 0.0) == []
    pool.cancel("b")
    assert pool.give(instance, 0.0) == [Run("a", instance)]
    assert pool.give(instance, 0.0) == [Run("c", instance)]
    assert pool.give(instance, 0.0) == []


def test_concurrency_fills_an_instance_before_another_starts() -> None:
    pool = Instances(PoolLimits(concurrency=3))
    instance = ready(pool)
    assert [pool.take(0.0) for _ in range(4)] == [instance, instance, instance, None]
    assert kinds(pool.wait("d", 0.0)) == ["Start"]
    assert pool.wait("e", 0.0) == []  # the one that starts has room for both


def test_calls_spread_over_instances_with_several_slots() -> None:
    pool = Instances(PoolLimits(concurrency=2, max_instances=2))
    starts = [effect for ticket in "abc" for effect in pool.wait(ticket, 0.0)]
    for start in starts:
        assert isinstance(start, Start)
        pool.started(start.instance, 0.0)
    assert sorted(effect.instance.in_flight for effect in starts if isinstance(effect, Start)) == [1, 2]


@pytest.mark.parametrize(("minimum", "stopped"), [(0, 2), (1, 1), (2, 0)])
def test_idle_instances_stop_but_the_minimum_stays(minimum: int, stopped: int) -> None:
    pool = Instances(PoolLimits(idle_s=10.0))
    for start in pool.want(2, 0.0):
        assert isinstance(start, Start)
        pool.started(start.instance, 0.0)
    pool.want(minimum, 0.0)
    assert pool.tick(9.9) == []
    assert kinds(pool.tick(10.0)) == ["Stop"] * stopped
    assert pool.count == 2 - stopped


def test_a_call_makes_an_instance_young_again() -> None:
    pool = Instances(PoolLimits(idle_s=10.0))
    instance = ready(pool)
    assert pool.take(8.0) is instance
    pool.give(instance, 9.0)
    assert pool.tick(18.0) == []
    assert pool.tick(19.0) == [Stop(instance)]


def test_a_failed_start_fails_those_who_wait_and_holds_back() -> None:
    pool = Instances(PoolLimits(backoff_s=1.0, backoff_max_s=3.0))
    (start,) = pool.wait("a", 0.0)
    assert isinstance(start, Start)
    (another,) = pool.wait("b", 0.0)
    assert isinstance(another, Start)
    assert pool.failed(start.instance, BROKEN, 0.0) == []  # the other may still work
    assert pool.failed(another.instance, BROKEN, 0.0) == [Fail("a", BROKEN), Fail("b", BROKEN)]
    assert pool.can_queue(1.9) is BROKEN
    assert pool.can_queue(2.0) is None


def test_the_pause_doubles_up_to_its_bound_and_ends_with_success() -> None:
    pool = Instances(PoolLimits(backoff_s=1.0, backoff_max_s=3.0))
    pauses = []
    now = 0.0
    effects = pool.want(1, now)
    for _ in range(4):
        (start,) = effects
        assert isinstance(start, Start)
        pool.failed(start.instance, BROKEN, now)
        due = pool._no_start_before
        pauses.append(due - now)
        assert pool.tick(due - 0.001) == []
        now = due
        effects = pool.tick(now)
    assert pauses == [1.0, 2.0, 3.0, 3.0]
    (start,) = effects
    assert isinstance(start, Start)
    pool.started(start.instance, now)
    assert pool.last_error is None
    assert (pool._no_start_before, pool._shortage()) == (-math.inf, 0)


def test_the_dead_are_replaced_when_they_are_wanted() -> None:
    pool = Instances(PoolLimits())
    instance = ready(pool)
    assert pool.died(instance, 1.0) == []
    assert instance.state is State.GONE
    (start,) = pool.want(1, 1.0)
    assert isinstance(start, Start)
    pool.started(start.instance, 1.0)
    assert pool.take(1.5) is start.instance
    assert kinds(pool.died(start.instance, 2.0)) == ["Start"]


def test_what_dies_of_itself_is_replaced_ever_more_slowly() -> None:
    pool = Instances(PoolLimits(backoff_s=1.0, backoff_max_s=3.0))
    now, pauses = 0.0, []
    effects = pool.want(1, now)
    for _ in range(4):
        (start,) = effects
        assert isinstance(start, Start)
        pool.started(start.instance, now)
        assert pool.died(start.instance, now) == []
        due = pool._no_start_before
        pauses.append(due - now)
        assert pool.tick(due - 0.001) == []
        now = due
        effects = pool.tick(now)
    assert pauses == [1.0, 2.0, 3.0, 3.0]


def test_what_happens_to_the_gone_changes_nothing() -> None:
    pool = Instances(PoolLimits())
    instance = ready(pool)
    pool.take(0.0)
    pool.died(instance, 0.0)
    assert pool.give(instance, 0.0) == []
    assert pool.died(instance, 0.0) == []
    assert pool.retire(instance, 0.0) == []
    assert pool.pause(instance, 0.0) == []
    pool.resume(instance)
    assert (pool.in_flight, pool.total) == (0, 0)


def test_an_overdue_instance_gets_no_more_calls_and_stops_after_its_others() -> None:
    pool = Instances(PoolLimits(concurrency=2))
    instance = ready(pool)
    pool.take(0.0)
    pool.take(0.0)
    assert pool.retire(instance, 0.0) == []
    assert pool.give(instance, 0.0) == []
    assert pool.take(0.0) is None
    assert pool.give(instance, 0.0) == [Stop(instance)]


def test_an_instance_is_replaced_after_much_work() -> None:
    pool = Instances(PoolLimits(retire_after_busy_s=10.0))
    instance = ready(pool)
    for begin in (0.0, 100.0):
        assert pool.take(begin) is instance
        pool.give(instance, begin + 4.9)
    assert pool.take(200.0) is instance
    assert pool.give(instance, 200.3) == [Stop(instance)]


def test_a_paused_call_makes_room_for_one_more() -> None:
    pool = Instances(PoolLimits(max_instances=1))
    instance = ready(pool)
    pool.take(0.0)
    assert pool.wait("inner", 0.0) == []
    (start,) = pool.pause(instance, 0.0)
    assert isinstance(start, Start)
    assert pool.started(start.instance, 0.0) == [Run("inner", start.instance)]
    pool.resume(instance)
    # Beyond the maximum again: whoever is free first goes.
    assert pool.give(start.instance, 0.0) == [Stop(start.instance)]
    assert pool.give(instance, 0.0) == []


def test_draining_lets_the_waiting_finish() -> None:
    pool = Instances(PoolLimits(max_instances=1))
    instance = ready(pool)
    pool.take(0.0)
    pool.wait("a", 0.0)
    assert pool.drain(0.0) == []
    assert pool.give(instance, 0.0) == [Run("a", instance)]
    assert pool.give(instance, 0.0) == []
    assert kinds(pool.drain(0.0)) == ["Stop"]


class Life(RuleBasedStateMachine):
    """Anything may happen in any order; no call is lost and no bound is passed."""

    def __init__(self) -> None:
        super().__init__()
        self.limits = PoolLimits(concurrency=2, max_instances=3, idle_s=5.0, queue=20, backoff_s=1.0, backoff_max_s=4.0)
        self.pool = Instances(self.limits)
        self.now = 0.0
        self.tickets = 0
        self.waiting: set[int] = set()
        self.running: dict[int, Instance] = {}
        self.starting: list[Instance] = []
        self.stopped: list[Instance] = []
        self.paused: list[Instance] = []

    def apply(self, effects: list[Effect]) -> None:
        for effect in effects:
            match effect:
                case Run(ticket, instance):
                    assert isinstance(ticket, int)
                    self.waiting.remove(ticket)
                    self.running[ticket] = instance
                case Fail(ticket, error):
                    assert isinstance(error, OsirisError)
                    assert isinstance(ticket, int)
                    self.waiting.remove(ticket)
                case Start(instance):
                    self.starting.append(instance)
                    paused = min(sum(one.paused for one in self.pool._all.values()) // 2, 64)
                    assert self.pool.total <= max(self.limits.max_instances, self.pool.minimum) + paused
                case Stop(instance):
                    self.stopped.append(instance)
                    assert instance not in self.running.values()

    @rule()
    def call(self) -> None:
        self.tickets += 1
        instance = self.pool.take(self.now)
        if instance is not None:
            self.running[self.tickets] = instance
        elif self.pool.can_queue(self.now) is None and not self.pool.queue_full:
            self.waiting.add(self.tickets)
            self.apply(self.pool.wait(self.tickets, self.now))

    @precondition(lambda self: self.running)
    @rule(data=st.data())
    def answer(self, data: Any) -> None:
        ticket = data.draw(st.sampled_from(sorted(self.running)))
        self.apply(self.pool.give(self.running.pop(ticket), self.now))

    @precondition(lambda self: self.waiting)
    @rule(data=st.data())
    def give_up(self, data: Any) -> None:
        ticket = data.draw(st.sampled_from(sorted(self.waiting)))
        self.waiting.remove(ticket)
        self.pool.cancel(ticket)

    @precondition(lambda self: self.starting)
    @rule(works=st.booleans())
    def start(self, works: bool) -> None:
        instance = self.starting.pop(0)
        if works:
            self.apply(self.pool.started(instance, self.now))
        else:
            self.apply(self.pool.failed(instance, BROKEN, self.now))

    @precondition(lambda self: self.running)
    @rule(data=st.data(), how=st.sampled_from(["died", "retire", "pause"]))
    def disturb(self, data: Any, how: str) -> None:
        instance = self.running[data.draw(st.sampled_from(sorted(self.running)))]
        if how == "died":
            effects = self.pool.died(instance, self.now)
            self.running = {ticket: one for ticket, one in self.running.items() if one is not instance}
            self.apply(effects)
        elif how == "retire":
            self.apply(self.pool.retire(instance, self.now))
        elif instance.paused < instance.in_flight:
            self.paused.append(instance)
            self.apply(self.pool.pause(instance, self.now))

    @precondition(lambda self: self.paused)
    @rule()
    def go_on(self) -> None:
        self.pool.resume(self.paused.pop())

    @rule(seconds=st.floats(0.01, 6.0))
    def wait(self, seconds: float) -> None:
        self.now += seconds
        self.apply(self.pool.tick(self.now))

    @rule(minimum=st.integers(0, 4))
    def want(self, minimum: int) -> None:
        self.apply(self.pool.want(minimum, self.now))

    @invariant()
    def bounds_hold(self) -> None:
        assert all(0 <= one.in_flight <= self.limits.concurrency for one in self.pool._all.values())
        assert self.pool.queued == len(self.waiting) <= self.limits.queue
        assert self.pool.in_flight == len(self.running) == sum(one.in_flight for one in self.pool._all.values())
        assert self.pool._starting == len(self.starting)

    @invariant()
    def nobody_waits_beside_a_free_instance(self) -> None:
        assert not (self.pool.queued and self.pool._free)
        for instance in self.pool._free:
            assert instance.state is State.READY
            assert instance.in_flight < self.limits.concurrency

    @invariant()
    def who_waits_will_be_served(self) -> None:
        """Somebody works, or starts, or the back-off ends: a wait always has an end in sight."""
        if self.pool.queued:
            assert self.running or self.starting or self.pool._shortage() > 0


TestLife = Life.TestCase
TestLife.settings = settings(max_examples=60, stateful_step_count=40)
