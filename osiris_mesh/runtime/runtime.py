"""Functions on this node: prepare them, run them, test them, keep as many as the ledger wants, let them go."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import shutil
from collections.abc import Callable, Collection, Coroutine, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from osiris_mesh.clock import SYSTEM, Clock
from osiris_mesh.codec import pack
from osiris_mesh.errors import DeadlineExceeded, OsirisError, Overloaded, Unavailable, UsageError
from osiris_mesh.function.spec import FunctionSpec
from osiris_mesh.identity.home import Home
from osiris_mesh.link import Caller, Router
from osiris_mesh.runtime.environment import SITE, Environments
from osiris_mesh.runtime.interpreter import find_interpreter
from osiris_mesh.runtime.kit import make_kit, remove_other_kits
from osiris_mesh.runtime.library import Library
from osiris_mesh.runtime.logs import LogLine, LogStore
from osiris_mesh.runtime.pool import Answer, Here, Pool, Run
from osiris_mesh.runtime.sandbox import SandboxStatus, probe
from osiris_mesh.runtime.testing import TestReport, TestResult, judge
from osiris_mesh.runtime.zygotes import Place, Zygote
from osiris_mesh.settings.runtime import RuntimeSettings

__all__ = ["FunctionLoad", "Runtime"]

FunctionLoad = Here

_SWEEP_S: Final = 1.0
_DRAIN_POLL_S: Final = 0.02
_READOPT_S: Final = 5.0
_log = logging.getLogger("osiris.runtime")


class Runtime:
    """The functions of one node.

    Call :meth:`start` before anything else, and :meth:`close` at the end; ``async with`` does both.

    Args:
        home: The node's folders.
        library: Where bundles come from.
        router: What functions may call here (audience FUNCTION).
        settings: Bounds.
        clock: Time.
        environments: Where dependencies are installed; by default in the home.

    Attributes:
        library: As given.
        logs: What functions print.
    """

    def __init__(
        self,
        home: Home,
        library: Library,
        *,
        router: Router | None = None,
        settings: RuntimeSettings | None = None,
        clock: Clock = SYSTEM,
        environments: Environments | None = None,
    ) -> None:
        self.library = library
        self._home = home
        self._router = router or Router()
        self._settings = settings or RuntimeSettings()
        self._clock = clock
        self.logs = LogStore(home.logs, self._settings)
        self._environments = environments or Environments(
            home.environments, timeout_s=self._settings.environment_timeout_s
        )
        self._pools: dict[bytes, Pool] = {}
        self._names: dict[str, Pool] = {}
        # Those of tests and of what is no longer published: here until they have ended, found by no call.
        self._apart: set[Pool] = set()
        self._wanted: dict[bytes, int] = {}
        self._adopting: set[bytes] = set()
        self._tasks: set[asyncio.Task[Any]] = set()
        self._place: Place | None = None
        self._sweeper: asyncio.TimerHandle | None = None
        self._closed = False
        self._draining = False

    async def start(self) -> None:
        """Find out what this machine offers, and make the kit.

        Raises:
            Unavailable: A sandbox is required and there is none.
        """
        folder = self._home.run / "functions"
        sandbox, kit = await asyncio.to_thread(self._prepare, folder)
        self._place = Place(folder, kit, sandbox, self._settings, self._router, self._clock)
        _log.info("sandbox", extra={"sandbox": sandbox.status.name, "missing": list(sandbox.status.missing)})
        self._sweep()

    async def __aenter__(self) -> Runtime:
        await self.start()
        return self

    async def __aexit__(self, *exc: object) -> None:
        await self.close()

    # running

    async def prepare(self, digest: bytes) -> None:
        """Have all that the first call needs on this node's disk: the bundle, verified, and its environment.

        Raises:
            Unavailable: Nobody can give the bundle, its dependencies can't be installed, or its interpreter is missing.
        """
        bundle = await self.library.bundle(digest)
        await asyncio.to_thread(find_interpreter, bundle.spec.runtime)
        await self._environments.ensure(bundle)

    def begin(
        self,
        spec: FunctionSpec,
        body: bytes,
        done: Callable[[Answer], None],
        *,
        deadline: float | None,
        headers: Mapping[str, Any] | None = None,
    ) -> Run:
        """Run one call without a task: the hot path under :meth:`run`.

        Args:
            spec: The function.
            body: ``pack([args, kwargs])``.
            done: Called exactly once on the loop's thread with the answer or the error, unless the returned object's
                ``cancel`` comes before. It may be called before this returns.
            deadline: Monotonic seconds, or None; the function's own limit holds besides.
            headers: What the worker is told: ``call`` (an id for log lines), ``depth``; ``context`` stays here.

        Raises:
            OsirisError: It can't even be queued; ``done`` is not called then.
        """
        pool = self._pools.get(spec.digest)
        if pool is None:
            pool = self._make_pool(spec)
        return pool.begin(body, done, deadline, headers or {})

    def begin_warm(
        self,
        spec: FunctionSpec,
        body: bytes,
        done: Callable[[Answer], None],
        *,
        deadline: float | None,
        headers: Mapping[str, Any] | None = None,
    ) -> Run | None:
        """Do as :meth:`begin` if an instance is free now; otherwise return None with nothing done."""
        pool = self._pools.get(spec.digest)
        return None if pool is None else pool.begin_warm(body, done, deadline, headers or {})

    async def run(
        self,
        spec: FunctionSpec,
        body: bytes,
        *,
        deadline: float | None,
        headers: Mapping[str, Any] | None = None,
        caller: Caller | None = None,
    ) -> bytes:
        """Run one call on this node, starting an instance if there is none free.

        Args:
            spec: The function.
            body: ``pack([args, kwargs])``.
            deadline: Monotonic seconds, or None; the function's own limit holds besides.
            headers: What the worker is told: ``call`` (an id for log lines), ``depth``; ``context`` stays here.
            caller: Who asks; the worker is not told.

        Returns:
            ``pack(result)``.

        Raises:
            FunctionError: The function, or its import, raised.
            WorkerDied: Its process ended under the call.
            LimitExceeded: It went past its memory, its processor time, or the time for its start.
            DeadlineExceeded: It was not done in time.
            Overloaded: Too many calls wait already.
            Unavailable: It can't be started here, or nobody can give its bundle.
        """
        del caller
        return await _run(self._pool(spec), body, deadline, headers or {})

    def pause(self, caller: Caller) -> Callable[[], None]:
        """A function waits for a call of its own: its slot counts as free until the returned function is called."""
        pool = self._names.get(caller.name)
        return _nothing if pool is None else pool.pause(caller.name)

    def serving(self, caller: Caller) -> Sequence[str]:
        """Return the texts of the security contexts of every call that the instance ``caller.name`` works on.

        A call that has none counts with an empty text; no texts at all: the instance works on nothing, or is none.
        """
        pool = self._names.get(caller.name)
        return () if pool is None else pool.serving(caller.name)

    def here(self, spec: FunctionSpec) -> Here:
        """Return what this node has for a function."""
        pool = self._pools.get(spec.digest)
        if pool is None:
            return Here(0, 0, 0, room=not self._draining)
        return pool.here()

    # tests

    async def run_tests(self, digest: bytes, context: str = "") -> TestReport:
        """Run the deploy-time tests of a bundle under the function's own limits.

        A function without tests is started and nothing more: code that can't even be imported is not worth publishing.
        Its processes are the tests' own and end with them: what is not published does not count as running here.

        Args:
            digest: The bundle's.
            context: Text of the security context the tests are in.

        Raises:
            Unavailable: Nobody can give the bundle, its dependencies can't be installed, or its interpreter is missing.
            OsirisError: The function can't be imported, and has no tests that would say so.
        """
        await self.prepare(digest)
        bundle = await self.library.bundle(digest)
        give_up = self._clock.monotonic() + self._settings.test_timeout_s
        pool = self._new_pool(bundle.spec)
        self._apart.add(pool)
        results: list[TestResult] = []
        try:
            if not bundle.tests:
                await pool.zygote()
            for test in bundle.tests:
                body = pack([list(test.args), dict(test.kwargs)])
                began = self._clock.monotonic()
                answer: Answer
                try:
                    if began >= give_up:
                        raise DeadlineExceeded(
                            f"all tests together took longer than {self._settings.test_timeout_s:g} s"
                        )
                    answer = await _run(pool, body, give_up, {"call": test.name[:64], "context": context})
                except OsirisError as error:
                    answer = error
                results.append(judge(test, answer, (self._clock.monotonic() - began) * 1000))
        finally:
            # In a task of its own: a deployment given up must not leave processes behind.
            self._spawn(self._end(pool, 0.0))
        return TestReport(bundle.spec.name, bundle.spec.version, tuple(results))

    # the node

    def loads(self) -> dict[bytes, Here]:
        """Return the figures of each function that runs here, by digest."""
        return {digest: pool.here() for digest, pool in self._pools.items() if pool.core.total or pool.core.queued}

    def specs(self) -> dict[bytes, FunctionSpec]:
        """Return what runs here, by digest."""
        return {digest: pool.spec for digest, pool in self._pools.items() if pool.core.count}

    def pools(self) -> Sequence[Pool]:
        """Return the pools of this node, one a function that was called or is wanted here."""
        return tuple(self._pools.values())

    def status(self) -> SandboxStatus:
        """Return what stands between functions and this machine."""
        return self._ground().sandbox.status

    def reconcile(self, wanted: Mapping[bytes, int], *, published: Collection[bytes] | None = None) -> None:
        """Keep, from now on, at least so many instances of each function, by digest; others stop when idle.

        Args:
            wanted: Instances by digest.
            published: What the ledger publishes: all else ends once its calls are done, and no longer counts as
                running here. None: nothing is known of that.
        """
        if published is not None:
            for digest in [digest for digest in self._pools if digest not in published]:
                pool = self._pools.pop(digest)
                self._apart.add(pool)
                pool.drain()
                self._spawn(self._end(pool, pool.limit_s + self._settings.start_timeout_s))
        self._wanted = {digest: count for digest, count in wanted.items() if count > 0}
        for digest, pool in self._pools.items():
            pool.want(self._wanted.get(digest, 0))
        for digest in self._wanted:
            if digest not in self._pools and digest not in self._adopting:
                self._adopting.add(digest)
                self._spawn(self._adopt(digest))

    async def drain(self, deadline: float) -> bool:
        """Take no new calls, and wait for those under way.

        Args:
            deadline: Monotonic seconds.

        Returns:
            Whether all were done in time.
        """
        self._draining = True
        self.reconcile({})
        for pool in self._pools.values():
            pool.drain()
        while any(pool.core.in_flight or pool.core.queued for pool in (*self._pools.values(), *self._apart)):
            if self._clock.monotonic() >= deadline:
                return False
            await asyncio.sleep(_DRAIN_POLL_S)
        return True

    async def close(self) -> None:
        """End every function; what is under way ends with ``WorkerDied``."""
        if self._closed:
            return
        self._closed = self._draining = True
        if self._sweeper is not None:
            self._sweeper.cancel()
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*(pool.close() for pool in (*self._pools.values(), *self._apart)), return_exceptions=True)
        while self._tasks:
            await asyncio.wait(list(self._tasks))
        self._environments.close()
        self.logs.close()
        if self._place is not None:
            await asyncio.to_thread(shutil.rmtree, self._place.folder, ignore_errors=True)

    # within

    def _prepare(self, folder: Path) -> tuple[Any, Path]:
        shutil.rmtree(folder, ignore_errors=True)  # what a killed controller left
        folder.mkdir(mode=0o700, parents=True)
        kit = make_kit(self._home.run)
        remove_other_kits(kit)
        return probe(self._settings), kit

    def _ground(self) -> Place:
        if self._place is None:
            raise Unavailable("the runtime has not been started", maybe=False)
        return self._place

    def _make_pool(self, spec: FunctionSpec) -> Pool:
        pool = self._pools[spec.digest] = self._new_pool(spec)
        return pool

    def _new_pool(self, spec: FunctionSpec) -> Pool:
        self._ground()
        if self._draining:
            raise Overloaded(
                f"{spec.name} can't take the call: this node is draining", fix="try again", retry_after_ms=500
            )
        return Pool(spec, self._start_zygote, self._settings, self._clock, self._spawn, self._names)

    def _pool(self, spec: FunctionSpec) -> Pool:
        return self._pools.get(spec.digest) or self._make_pool(spec)

    async def _end(self, pool: Pool, seconds: float) -> None:
        """End a pool that no new call finds, once its calls are done, or after so many seconds."""
        give_up = self._clock.monotonic() + seconds
        try:
            # Calls end in callbacks of many kinds; looking again now and then is simpler than hearing of each.
            while (pool.core.in_flight or pool.core.queued) and self._clock.monotonic() < give_up:  # noqa: ASYNC110 - see above
                await asyncio.sleep(_DRAIN_POLL_S)
        finally:
            pool.drain()
            await pool.close()
            self._apart.discard(pool)

    async def _start_zygote(self, pool: Pool) -> Zygote:
        bundle = await self.library.bundle(pool.spec.digest)
        if bundle.spec.to_wire() != pool.spec.to_wire():
            # Who may use how much is decided by what was published and signed, so nothing else may take effect.
            raise UsageError(f"{pool.spec.name} was published as something else than its bundle says")
        environment = await self._environments.ensure(bundle)
        interpreter = await asyncio.to_thread(find_interpreter, bundle.spec.runtime)
        name = bundle.spec.name

        def sink(lines: Sequence[LogLine]) -> None:
            self.logs.append(name, lines)

        site = environment / SITE if environment is not None else None
        return await Zygote.start(bundle, site, interpreter, self._ground(), sink=sink, on_gone=pool.zygote_gone)

    async def _adopt(self, digest: bytes) -> None:
        """Keep instances of a function nobody has called here yet."""
        try:
            while digest in self._wanted and not self._draining:
                try:
                    bundle = await self.library.bundle(digest)
                    self._pool(bundle.spec).want(self._wanted.get(digest, 0))
                except OsirisError as error:
                    _log.warning("a wanted function can't be kept", extra={"digest": digest.hex(), "why": str(error)})
                    await asyncio.sleep(_READOPT_S)
                else:
                    return
        finally:
            self._adopting.discard(digest)

    def _sweep(self) -> None:
        for pool in self._apart:
            pool.tick()
        for digest, pool in list(self._pools.items()):
            pool.tick()
            if pool.unused and digest not in self._wanted:
                del self._pools[digest]
        self._sweeper = asyncio.get_running_loop().call_later(_SWEEP_S, self._sweep)

    def _spawn(self, work: Coroutine[Any, Any, Any]) -> None:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._finished)

    def _finished(self, task: asyncio.Task[Any]) -> None:
        self._tasks.discard(task)
        with contextlib.suppress(asyncio.CancelledError):
            error = task.exception()
            if error is not None:
                _log.error("a task of the runtime failed", exc_info=error)


async def _run(pool: Pool, body: bytes, deadline: float | None, headers: Mapping[str, Any]) -> bytes:
    future: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()

    def done(answer: Answer) -> None:
        if future.done():
            return
        if isinstance(answer, bytes):
            future.set_result(answer)
        else:
            future.set_exception(answer)

    running = pool.begin(body, done, deadline, headers)
    try:
        return await future
    except asyncio.CancelledError:
        running.cancel()
        raise


def _nothing() -> None:
    """Resume nothing: no such instance is here."""
