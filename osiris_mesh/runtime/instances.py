"""Which instance takes which call: the pool of one function on one node, as a core without I/O.

An instance is one worker process. Its states::

    state      on                                   goes to
    STARTING   started                              READY
    STARTING   failed                               (gone; the next start waits for the back-off)
    READY      a call given, taken back             READY
    READY      idle too long, above the minimum     (gone, Stop)
    READY      retire: overdue, busy for too long   RETIRING, or (gone, Stop) when it has no call
    RETIRING   its last call taken back             (gone, Stop)
    any        died                                 (gone)

A call takes a free instance at once, or waits in a bounded queue, first come first served; whoever gives an instance
back hands it to the next that waits. While calls wait, instances are started up to the maximum, never more than the
queue can use. A call that itself waits for a call of its own (``pause``) does not count against the maximum, so that a
chain of functions longer than the maximum can't wait for itself.

An instance that fails at its start fails the calls that wait for it when no other instance is there, and holds back the
next start, longer each time; calls that come in the meantime are refused with the same reason. One that dies before it
answered any call, and not under one, holds back the next start as well.
"""

from __future__ import annotations

import enum
import math
from dataclasses import dataclass, field
from typing import Final

from osiris_mesh.errors import OsirisError

__all__ = ["Effect", "Fail", "Instance", "Instances", "PoolLimits", "Run", "Start", "State", "Stop"]

_EXTRA: Final = 64
"""Instances beyond the maximum that paused calls may bring about."""


@dataclass(frozen=True, slots=True)
class PoolLimits:
    """What a function's pool keeps to.

    Attributes:
        concurrency: Calls at a time in one instance.
        max_instances: Most instances.
        idle_s: Seconds without a call after which an instance above the minimum stops.
        queue: Calls that may wait.
        backoff_s: First pause after a failed start, seconds; doubles each time.
        backoff_max_s: Longest pause.
        retire_after_busy_s: Seconds of work after which an instance is replaced.
    """

    concurrency: int = 1
    max_instances: int = 4
    idle_s: float = 300.0
    queue: int = 1000
    backoff_s: float = 0.25
    backoff_max_s: float = 30.0
    retire_after_busy_s: float = math.inf


class State(enum.Enum):
    """Where an instance is in its life."""

    STARTING = "starting"
    READY = "ready"
    RETIRING = "retiring"
    GONE = "gone"


@dataclass(slots=True, eq=False)
class Instance:
    """One instance as the core sees it.

    Attributes:
        number: Counts up within the pool, from 1.
        state: Where it is in its life.
        in_flight: Calls it works on.
        paused: Of these, calls that wait for a call of their own.
        since: When it was last given or gave back a call, or became ready, seconds.
        busy_s: Seconds it has had at least one call.
        answered: It gave back a call.
    """

    number: int
    state: State = State.STARTING
    in_flight: int = 0
    paused: int = 0
    since: float = 0.0
    busy_s: float = 0.0
    answered: bool = False


@dataclass(frozen=True, slots=True)
class Start:
    """Start the process of ``instance``; answer with ``started`` or ``failed``."""

    instance: Instance


@dataclass(frozen=True, slots=True)
class Stop:
    """End the process of ``instance``; the core has forgotten it."""

    instance: Instance


@dataclass(frozen=True, slots=True)
class Run:
    """``ticket`` has a slot of ``instance`` now; give it back with ``give``."""

    ticket: object
    instance: Instance


@dataclass(frozen=True, slots=True)
class Fail:
    """``ticket`` waits no more; ``error`` says why."""

    ticket: object
    error: OsirisError


Effect = Start | Stop | Run | Fail


@dataclass(slots=True, eq=False)
class Instances:
    """The pool.

    Args:
        limits: What it keeps to.

    Attributes:
        minimum: Instances kept, from ``want``.
        in_flight: Calls being worked on.
        last_error: Why the last start failed; None after one that worked.
    """

    limits: PoolLimits
    minimum: int = 0
    in_flight: int = 0
    last_error: OsirisError | None = None
    _all: dict[int, Instance] = field(default_factory=dict)
    _free: list[Instance] = field(default_factory=list)
    _waiting: dict[object, None] = field(default_factory=dict)
    _counter: int = 0
    _starting: int = 0
    _retiring: int = 0
    _paused: int = 0
    _failures: int = 0
    _deaths: int = 0
    _no_start_before: float = -math.inf
    _draining: bool = False

    # figures

    @property
    def count(self) -> int:
        """Instances that are ready, retiring ones left out."""
        return len(self._all) - self._starting - self._retiring

    @property
    def total(self) -> int:
        """Instances in any state."""
        return len(self._all)

    @property
    def queued(self) -> int:
        """Calls that wait for an instance."""
        return len(self._waiting)

    def room(self, now: float) -> bool:
        """Return whether another instance may be started now."""
        return not self._draining and len(self._all) < self._ceiling() and now >= self._no_start_before

    def can_queue(self, now: float) -> OsirisError | None:
        """Return why a call can't wait now; None if it can."""
        if self._failures and not self.count and now < self._no_start_before:
            return self.last_error
        return None

    @property
    def queue_full(self) -> bool:
        """Whether the queue takes no more calls."""
        return len(self._waiting) >= self.limits.queue

    # calls

    def take(self, now: float) -> Instance | None:
        """Return an instance with a free slot, which the caller now has; None if there is none.

        The instance used last is taken first, so that the others grow idle; with several slots each, the least busy.
        """
        free = self._free
        if not free or self._waiting:
            return None
        concurrency = self.limits.concurrency
        if concurrency == 1:
            instance = free.pop()
        else:
            instance = min(free, key=_in_flight)
            if instance.in_flight + 1 == concurrency:
                free.remove(instance)
        self.in_flight += 1
        instance.in_flight += 1
        if instance.in_flight == 1:
            instance.since = now
        return instance

    def wait(self, ticket: object, now: float) -> list[Effect]:
        """Queue a call that found no free instance; a ``Run`` or a ``Fail`` with this ticket ends its wait.

        The caller has asked ``can_queue`` and ``queue_full`` before.
        """
        self._waiting[ticket] = None
        return self._hand_out(now) + self._grow(now)

    def cancel(self, ticket: object) -> None:
        """Forget a call that waits; does nothing if it does not."""
        self._waiting.pop(ticket, None)

    def give(self, instance: Instance, now: float) -> list[Effect]:
        """Take a slot back; the next call that waits gets it."""
        if instance.state is State.GONE:
            return []
        self.in_flight -= 1
        instance.in_flight -= 1
        instance.answered = True
        self._deaths = 0
        if instance.in_flight == 0:
            instance.busy_s += now - instance.since
            instance.since = now
            if instance.busy_s >= self.limits.retire_after_busy_s and instance.state is State.READY:
                return self.retire(instance, now)
        if instance.state is State.RETIRING:
            return self._stop(instance, now) if instance.in_flight == 0 else []
        if instance.in_flight == 0 and len(self._all) > self._ceiling():
            return self._stop(instance, now)
        if instance.in_flight == self.limits.concurrency - 1:
            self._free.append(instance)
        return self._hand_out(now) if self._waiting else []

    def pause(self, instance: Instance, now: float) -> list[Effect]:
        """A call of ``instance`` waits for a call of its own."""
        if instance.state is State.GONE:
            return []
        instance.paused += 1
        self._paused += 1
        return self._grow(now)

    def resume(self, instance: Instance) -> None:
        """The call of ``instance`` goes on."""
        if instance.state is not State.GONE:
            instance.paused -= 1
            self._paused -= 1

    # instances

    def started(self, instance: Instance, now: float) -> list[Effect]:
        """A process is ready for calls."""
        if instance.state is not State.STARTING:
            return []
        self._starting -= 1
        self._failures = 0
        self._no_start_before = -math.inf
        self.last_error = None
        instance.state = State.READY
        instance.since = now
        self._free.append(instance)
        return self._hand_out(now) + self._grow(now)

    def failed(self, instance: Instance, error: OsirisError, now: float) -> list[Effect]:
        """A process did not get ready."""
        if instance.state is not State.STARTING:
            return []
        self._forget(instance)
        self.last_error = error
        self._hold_back(self._failures, now)
        self._failures += 1
        if self.count or self._starting:
            return []
        effects: list[Effect] = [Fail(ticket, error) for ticket in self._waiting]
        self._waiting.clear()
        return effects

    def died(self, instance: Instance, now: float) -> list[Effect]:
        """A process that was ready ended by itself; its calls are the shell's to fail."""
        if instance.state is State.GONE:
            return []
        if not instance.answered and not instance.in_flight:
            self._hold_back(self._deaths, now)
            self._deaths += 1
        self._forget(instance)
        return self._grow(now)

    def retire(self, instance: Instance, now: float) -> list[Effect]:
        """Give ``instance`` no further call and stop it once it has none."""
        if instance.state is not State.READY:
            return []
        if instance in self._free:
            self._free.remove(instance)
        if instance.in_flight == 0:
            return self._stop(instance, now)
        instance.state = State.RETIRING
        self._retiring += 1
        return self._grow(now)

    def want(self, minimum: int, now: float) -> list[Effect]:
        """Keep at least ``minimum`` instances from now on."""
        self.minimum = minimum
        return self._grow(now)

    def tick(self, now: float) -> list[Effect]:
        """Stop what is idle, start what is due."""
        effects: list[Effect] = []
        surplus = self.count - self.minimum
        # The oldest first: the list's end is where calls are taken from.
        for instance in list(self._free):
            if surplus <= 0:
                break
            if instance.in_flight == 0 and now - instance.since >= self.limits.idle_s:
                effects += self._stop(instance, now)
                surplus -= 1
        return effects + self._grow(now)

    def drain(self, now: float) -> list[Effect]:
        """Take no further instance into use; those without a call stop now, the others after their calls."""
        self._draining = True
        self.minimum = 0
        effects: list[Effect] = []
        for instance in list(self._all.values()):
            if instance.state is State.READY and not self._waiting:
                effects += self.retire(instance, now)
        return effects

    # within

    def _ceiling(self) -> int:
        paused = min(self._paused // self.limits.concurrency, _EXTRA)
        return max(self.limits.max_instances, self.minimum) + paused

    def _shortage(self) -> int:
        """Return how many instances are missing for the minimum and for the calls that wait."""
        if self._draining and not self._waiting:
            return 0
        alive = len(self._all) - self._retiring
        slots = sum(self.limits.concurrency - one.in_flight for one in self._free)
        backlog = math.ceil(max(len(self._waiting) - slots, 0) / self.limits.concurrency) - self._starting
        return min(max(self.minimum - alive, backlog), self._ceiling() - len(self._all))

    def _grow(self, now: float) -> list[Effect]:
        if now < self._no_start_before:
            return []
        effects: list[Effect] = []
        for _ in range(self._shortage()):
            self._counter += 1
            instance = Instance(self._counter, since=now)
            self._all[instance.number] = instance
            self._starting += 1
            effects.append(Start(instance))
            if self._failures:
                break  # one attempt at a time until one works
        return effects

    def _hand_out(self, now: float) -> list[Effect]:
        effects: list[Effect] = []
        while self._waiting and self._free:
            ticket = next(iter(self._waiting))
            del self._waiting[ticket]
            instance = self._free[-1]
            self.in_flight += 1
            instance.in_flight += 1
            if instance.in_flight == 1:
                instance.since = now
            if instance.in_flight == self.limits.concurrency:
                self._free.pop()
            effects.append(Run(ticket, instance))
        return effects

    def _stop(self, instance: Instance, now: float) -> list[Effect]:
        self._forget(instance)
        return [Stop(instance), *self._grow(now)]

    def _hold_back(self, before: int, now: float) -> None:
        pause = min(self.limits.backoff_s * 2.0 ** min(before, 30), self.limits.backoff_max_s)
        self._no_start_before = now + pause

    def _forget(self, instance: Instance) -> None:
        self.in_flight -= instance.in_flight
        instance.in_flight = 0
        del self._all[instance.number]
        if instance.state is State.STARTING:
            self._starting -= 1
        elif instance.state is State.RETIRING:
            self._retiring -= 1
        if instance in self._free:
            self._free.remove(instance)
        self._paused -= instance.paused
        instance.paused = 0
        instance.state = State.GONE


def _in_flight(instance: Instance) -> int:
    return instance.in_flight
