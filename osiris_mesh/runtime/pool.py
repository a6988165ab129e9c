"""One function on this node: its instances, the calls they work on and the calls that wait; a shell around the core.

The path of a warm call is :meth:`Pool.begin`: an instance from the core, one object, one frame to the worker; the
answer comes back through :meth:`Run.answered`. No task, no future, no copy of the body.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any, Final, NamedTuple

from osiris_mesh.clock import Clock
from osiris_mesh.errors import (
    DeadlineExceeded,
    InternalError,
    OsirisError,
    Overloaded,
    RemoteProtocolError,
    Unavailable,
    WorkerDied,
)
from osiris_mesh.function.spec import FunctionSpec
from osiris_mesh.runtime.instances import Effect, Fail, Instance, Instances, PoolLimits, Start, Stop
from osiris_mesh.runtime.instances import Run as RunNow
from osiris_mesh.runtime.obituary import Exit, obituary
from osiris_mesh.runtime.units import format_time
from osiris_mesh.runtime.worker.control import INHERITED
from osiris_mesh.runtime.zygotes import Worker, Zygote
from osiris_mesh.settings.runtime import RuntimeSettings

__all__ = ["Answer", "Here", "Pool", "Run"]

Answer = bytes | OsirisError
Done = Callable[[Answer], None]
StartZygote = Callable[["Pool"], Awaitable[Zygote]]

_RETRY_MS: Final = 500
_EXIT_S: Final = 2.0
_CONTEXT: Final = "context"
"""Header with the text of the security context a call is in, which to this part is a text and nothing more."""
_log = logging.getLogger("osiris.runtime")


class Here(NamedTuple):
    """What this node has for one function.

    Attributes:
        instances: Warm instances.
        in_flight: Calls they work on.
        queued: Calls that wait for one.
        room: Another instance may be started now.
    """

    instances: int
    in_flight: int
    queued: int
    room: bool


class Run:
    """One call on its way through a pool.

    Attributes:
        body: What the worker is sent; empty once it was.
        done: Told how it ends.
        context: Text of the security context it is in.
    """

    __slots__ = (
        "_cancel",
        "_deadline",
        "_headers",
        "_instance",
        "_pool",
        "_timer",
        "_worker",
        "body",
        "context",
        "done",
    )

    def __init__(self, pool: Pool, body: bytes, done: Done, deadline: float, headers: Mapping[str, Any]) -> None:
        self.body = body
        self.done: Done | None = done
        self._pool = pool
        self.context = ""
        self._deadline = deadline
        if _CONTEXT in headers:
            # Kept here and not told: what its caller may reach is none of the function's business.
            self.context = headers[_CONTEXT]
            headers = {key: value for key, value in headers.items() if key != _CONTEXT}
        self._headers = headers
        self._instance: Instance | None = None
        self._worker: Worker | None = None
        self._cancel: Callable[[], None] | None = None
        self._timer: asyncio.TimerHandle | None = None

    def cancel(self) -> None:
        """Give the call up: nobody wants its answer any more."""
        done, self.done = self.done, None
        if done is None:
            return
        self._stop_waiting()
        if self._instance is None:
            self._pool.core.cancel(self)
        elif self._cancel is not None:
            self._cancel()
            self._pool.overdue(self._instance, "its caller gave up")

    def queued(self) -> None:
        """Wait for an instance, no longer than the deadline."""
        pool = self._pool
        self._timer = pool.loop.call_later(max(self._deadline - pool.clock.monotonic(), 0.0), self._waited_too_long)

    def refuse(self, error: OsirisError) -> None:
        """End the wait with an error."""
        self._stop_waiting()
        self._finish(OsirisError.from_wire(error.to_wire()))

    def start(self, instance: Instance, now: float) -> None:
        """Send the call to an instance that has a slot for it."""
        self._stop_waiting()
        pool = self._pool
        worker = pool.workers[instance]
        self._instance = instance
        self._worker = worker
        pool.contexts[instance].append(self.context)
        timeout = min(self._deadline - now, pool.limit_s)
        try:
            self._cancel = worker.link.begin("run", self.body, self.answered, timeout=timeout, headers=self._headers)
        except OsirisError as error:
            if worker.link.closed:
                self._lost()
            else:
                pool.give(instance, self.context)
                self._finish(error)
        else:
            self.body = b""

    def answered(self, answer: Answer) -> None:
        """Take the worker's answer, or the link's error."""
        instance = self._instance
        assert instance is not None  # noqa: S101 - for the type checker: it was started
        if type(answer) is bytes:
            done, self.done = self.done, None
            self._pool.give(instance, self.context)
            if done is not None:
                done(answer)
        elif isinstance(answer, Unavailable | RemoteProtocolError) and self._worker is not None:
            self._lost()
        elif isinstance(answer, DeadlineExceeded) and answer.details.get("reason") != INHERITED:
            self._finish(self._too_late())
            self._pool.overdue(instance, "a call ran past its deadline")
        else:
            self._pool.give(instance, self.context)
            self._finish(answer)

    def _lost(self) -> None:
        """The worker is gone: find out why before the caller is told."""
        worker = self._worker
        assert worker is not None  # noqa: S101 - for the type checker: it was started
        self._timer = self._pool.loop.call_later(_EXIT_S, self._died, None)
        worker.ended.add_done_callback(self._died)

    def _died(self, ended: asyncio.Future[Exit] | None) -> None:
        self._stop_waiting()
        worker, pool = self._worker, self._pool
        if self.done is None or worker is None:
            return
        end = Exit(None, 0, worker.stopped) if ended is None else ended.result()
        self._finish(obituary(pool.spec, end, worker.errors.last_words()))

    def _waited_too_long(self) -> None:
        self._timer = None
        self._pool.core.cancel(self)
        self._finish(
            DeadlineExceeded(
                f"no instance of {self._pool.spec.name} was free before the deadline",
                fix="call again, or allow more instances: osiris-mesh deploy --max",
                reason="busy",
            )
        )

    def _too_late(self) -> DeadlineExceeded:
        spec = self._pool.spec
        limit = format_time(spec.timeout_ms)
        return DeadlineExceeded(
            f"{spec.name}@{spec.version} was not done in time (its own limit is {limit})",
            fix="give the call more time, or raise its own limit: osiris-mesh deploy --timeout",
            limit_ms=spec.timeout_ms,
        )

    def _stop_waiting(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _finish(self, answer: Answer) -> None:
        done, self.done = self.done, None
        if done is not None:
            done(answer)


class Pool:
    """The instances of one version of a function.

    Args:
        spec: The function.
        start_zygote: Prepares what it needs and starts its zygote.
        settings: Bounds.
        clock: Time.
        spawn: Runs a coroutine as a task that is waited for at the end.
        names: Where the pool of each worker is found by the worker's name; shared by all pools.

    Attributes:
        spec: The function.
        core: The decisions.
        workers: The process of each ready instance.
        contexts: The security contexts of the calls each ready instance works on, those given up included: until the
            function has answered, it may still call others.
        limit_s: Seconds one call may take.
        refused: Calls refused because too many waited.
        zygote_ms: How long the last start of its zygote took, milliseconds; 0 before the first.
    """

    def __init__(
        self,
        spec: FunctionSpec,
        start_zygote: StartZygote,
        settings: RuntimeSettings,
        clock: Clock,
        spawn: Callable[[Any], object],
        names: dict[str, Pool],
    ) -> None:
        self.spec = spec
        self.clock = clock
        self.loop = asyncio.get_running_loop()
        self.limit_s = spec.timeout_ms / 1000
        self.zygote_ms = 0.0
        self.refused = 0
        self.workers: dict[Instance, Worker] = {}
        self.contexts: dict[Instance, list[str]] = {}
        self.core = Instances(
            PoolLimits(
                concurrency=spec.concurrency,
                max_instances=spec.max_instances,
                idle_s=spec.idle_ms / 1000,
                queue=settings.queue,
                backoff_s=settings.backoff_s,
                backoff_max_s=settings.backoff_max_s,
                retire_after_busy_s=settings.retire_after_busy_s,
            )
        )
        self._start_zygote = start_zygote
        self._settings = settings
        self._spawn = spawn
        self._names = names
        self._by_name: dict[str, Instance] = {}
        self._zygote: Zygote | None = None
        self._starting: asyncio.Task[Zygote] | None = None
        self._unused_since = clock.monotonic()
        self._draining = False

    # calls

    def begin(self, body: bytes, done: Done, deadline: float | None, headers: Mapping[str, Any]) -> Run:
        """Run one call.

        Args:
            body: ``pack([args, kwargs])``, handed on as it is.
            done: Called once with the answer or the error, unless the call is given up before.
            deadline: Monotonic seconds; the function's own limit holds besides.
            headers: What the worker is told.

        Raises:
            Overloaded: Too many calls wait already.
            DeadlineExceeded: The deadline has passed.
            OsirisError: The function does not start; the error of its last attempt.
        """
        now = self.clock.monotonic()
        if deadline is None:
            deadline = now + self.limit_s + self._settings.start_timeout_s
        run = Run(self, body, done, deadline, headers)
        instance = self.core.take(now)
        if instance is not None:
            run.start(instance, now)
            return run
        self._check_queue(deadline, now)
        run.queued()
        self.apply(self.core.wait(run, now), now)
        return run

    def begin_warm(self, body: bytes, done: Done, deadline: float | None, headers: Mapping[str, Any]) -> Run | None:
        """Run one call if an instance is free now; otherwise return None with nothing done."""
        now = self.clock.monotonic()
        instance = self.core.take(now)
        if instance is None:
            return None
        run = Run(self, body, done, now + self.limit_s if deadline is None else deadline, headers)
        run.start(instance, now)
        return run

    def give(self, instance: Instance, context: str) -> None:
        """Take an instance's slot back, of a call in this security context that the function has answered."""
        contexts = self.contexts.get(instance)
        if contexts is not None:
            contexts.remove(context)
        now = self.clock.monotonic()
        effects = self.core.give(instance, now)
        if effects:
            self.apply(effects, now)

    def overdue(self, instance: Instance, why: str) -> None:
        """Take back the slot of a call nobody waits for; the function still works on it, so that instance must end."""
        now = self.clock.monotonic()
        worker = self.workers.get(instance)
        if worker is not None:
            worker.stopped = why
        self.apply(self.core.retire(instance, now), now)
        self.apply(self.core.give(instance, now), now)

    def serving(self, name: str) -> Sequence[str]:
        """Return the security contexts of the calls that the worker ``name`` works on; none: it works on nothing."""
        instance = self._by_name.get(name)
        return () if instance is None else self.contexts[instance]

    def pause(self, name: str) -> Callable[[], None]:
        """A call of the worker ``name`` waits for a call of its own until the returned function is called."""
        instance = self._by_name.get(name)
        if instance is None:
            return _nothing
        now = self.clock.monotonic()
        self.apply(self.core.pause(instance, now), now)
        left = [instance]

        def resume() -> None:
            if left:
                self.core.resume(left.pop())

        return resume

    # instances

    def here(self) -> Here:
        """Return what there is."""
        core = self.core
        return Here(core.count, core.in_flight, core.queued, core.room(self.clock.monotonic()))

    def want(self, minimum: int) -> None:
        """Keep at least ``minimum`` instances."""
        if minimum != self.core.minimum:
            now = self.clock.monotonic()
            self.apply(self.core.want(minimum, now), now)

    def tick(self) -> None:
        """Stop what is idle, start what is due."""
        now = self.clock.monotonic()
        self.apply(self.core.tick(now), now)
        if self.core.total or self.core.queued or self._starting:
            self._unused_since = now
        elif self._zygote is not None and now - self._unused_since >= self._settings.zygote_idle_s:
            zygote, self._zygote = self._zygote, None
            self._spawn(zygote.close())

    @property
    def unused(self) -> bool:
        """Whether nothing of it exists."""
        core = self.core
        return not (core.total or core.queued or core.minimum or self._zygote or self._starting)

    def drain(self) -> None:
        """Stop instances as they become free; start none that no waiting call needs."""
        self._draining = True
        now = self.clock.monotonic()
        self.apply(self.core.drain(now), now)

    async def zygote(self) -> Zygote:
        """Return the zygote, starting it if there is none; many callers share one start."""
        if self._zygote is not None and not self._zygote.closed:
            return self._zygote
        if self._starting is None:
            self._starting = asyncio.create_task(self._make_zygote(), name=f"zygote {self.spec.name}")
            self._starting.add_done_callback(self._zygote_made)
        return await asyncio.shield(self._starting)

    async def close(self) -> None:
        """End everything."""
        self._draining = True
        starting = self._starting
        if starting is not None:
            starting.cancel()
            await asyncio.wait([starting])
        if self._zygote is not None:
            await self._zygote.close()

    def zygote_gone(self) -> None:
        """The zygote ended, and all workers with it."""
        if self._zygote is not None and self._zygote.closed:
            self._zygote = None

    # within

    def apply(self, effects: Sequence[Effect], now: float) -> None:
        """Carry out what the core decided."""
        for effect in effects:
            match effect:
                case RunNow(ticket, instance):
                    assert isinstance(ticket, Run)  # noqa: S101 - for the type checker: only those were put in
                    ticket.start(instance, now)
                case Fail(ticket, error):
                    assert isinstance(ticket, Run)  # noqa: S101 - for the type checker: only those were put in
                    ticket.refuse(error)
                case Start(instance):
                    self._spawn(self._start(instance))
                case Stop(instance):
                    self._stop(instance)

    def _check_queue(self, deadline: float, now: float) -> None:
        if deadline <= now:
            raise DeadlineExceeded(f"no time was left to run {self.spec.name}")
        reason = self.core.can_queue(now)
        if reason is not None:
            raise OsirisError.from_wire(reason.to_wire())
        if self._draining or self.core.queue_full:
            self.refused += not self._draining
            what = "this node is draining" if self._draining else f"{self.core.queued} calls wait for it already"
            raise Overloaded(f"{self.spec.name} can't take the call: {what}", fix="try again", retry_after_ms=_RETRY_MS)

    async def _start(self, instance: Instance) -> None:
        try:
            zygote = await self.zygote()
            worker = await zygote.fork()
        except OsirisError as error:
            now = self.clock.monotonic()
            self.apply(self.core.failed(instance, error, now), now)
            return
        except asyncio.CancelledError:
            now = self.clock.monotonic()
            stopping = Unavailable(f"{self.spec.name} was not started: the node stops", maybe=False)
            self.apply(self.core.failed(instance, stopping, now), now)
            raise
        except Exception as defect:  # noqa: BLE001 - a task's outermost edge; it is logged and the callers are told
            _log.exception("an instance failed to start", extra={"function": self.spec.name})
            now = self.clock.monotonic()
            failure = InternalError(f"{self.spec.name} could not be started: {type(defect).__name__}")
            self.apply(self.core.failed(instance, failure, now), now)
            return
        now = self.clock.monotonic()
        if worker.link.closed:
            lost = WorkerDied(f"a worker of {self.spec.name} ended as it started", fix="see osiris-mesh logs")
            self.apply(self.core.failed(instance, lost, now), now)
            return
        self.workers[instance] = worker
        self.contexts[instance] = []
        self._by_name[worker.name] = instance
        self._names[worker.name] = self
        worker.link.on_close(lambda _link: self._lost(instance))
        self.apply(self.core.started(instance, now), now)

    def _lost(self, instance: Instance) -> None:
        """A worker's link closed: it ended, or has to."""
        if not self._let_go(instance, ""):
            return
        now = self.clock.monotonic()
        self.apply(self.core.died(instance, now), now)

    def _stop(self, instance: Instance) -> None:
        self._let_go(instance, "it was idle")

    def _let_go(self, instance: Instance, why: str) -> bool:
        """End an instance's process; False if it has none any more."""
        worker = self.workers.pop(instance, None)
        if worker is None:
            return False
        del self.contexts[instance]
        del self._by_name[worker.name]
        del self._names[worker.name]
        worker.zygote.kill(worker.number, worker.stopped or why)
        return True

    async def _make_zygote(self) -> Zygote:
        began = self.clock.monotonic()
        self._zygote = await self._start_zygote(self)
        self.zygote_ms = (self.clock.monotonic() - began) * 1000
        return self._zygote

    def _zygote_made(self, task: asyncio.Task[Zygote]) -> None:
        self._starting = None
        if not task.cancelled():
            task.exception()  # every waiter gets it


def _nothing() -> None:
    """Resume nothing: that instance is gone."""
