"""Functions of one node: library, runtime and invoker, kept in step with the ledger."""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any, Final

from osiris_mesh.access.policy import Policy
from osiris_mesh.clock import Clock
from osiris_mesh.codec import pack
from osiris_mesh.errors import CheckFailed, NotFound, OsirisError, UsageError
from osiris_mesh.function.spec import FunctionSpec
from osiris_mesh.gateway.in_force import Held
from osiris_mesh.gateway.readings import Demand
from osiris_mesh.gossip import FunctionLoad, Gossip
from osiris_mesh.identity.home import Home
from osiris_mesh.invoke.contexts import Contexts
from osiris_mesh.invoke.invoker import Invoker
from osiris_mesh.invoke.peers import LinkPeers
from osiris_mesh.invoke.placement import share
from osiris_mesh.invoke.state_view import StateView
from osiris_mesh.invoke.trace import Tracer
from osiris_mesh.ledger.ledger import Ledger
from osiris_mesh.link import Caller, Links, Router, Stream
from osiris_mesh.runtime.bundle import Bundle
from osiris_mesh.runtime.library import Library, LinkSource
from osiris_mesh.runtime.pool import Here
from osiris_mesh.runtime.prefetch import Prefetch
from osiris_mesh.runtime.runtime import Runtime
from osiris_mesh.runtime.spreading import Copies, Spreading
from osiris_mesh.settings import Settings

__all__ = ["Functions"]

_LOOK_SECONDS: Final = 1.0
_log = logging.getLogger(__name__)


class _Runner:
    """The runtime as :class:`osiris_mesh.invoke.ports.Runner`."""

    def __init__(self, runtime: Runtime) -> None:
        self._runtime = runtime
        self.run = runtime.run
        self.here: Callable[[FunctionSpec], Here] = runtime.here
        self.pause = runtime.pause

    def begin(
        self,
        spec: FunctionSpec,
        body: bytes,
        done: Callable[[bytes | OsirisError], None],
        *,
        deadline: float | None,
        headers: Mapping[str, Any],
        caller: Caller,
    ) -> Callable[[], None] | None:
        del caller
        run = self._runtime.begin_warm(spec, body, done, deadline=deadline, headers=headers)
        return None if run is None else run.cancel


class Functions:
    """Library, runtime and invoker of one node; also :class:`osiris_mesh.gateway.control.Functions`.

    Args:
        home: The node's folders.
        me: Its peer id.
        ledger: What is published and active.
        gossip: Who is alive and how loaded.
        links: Where bundles are fetched from and calls go to.
        router: Where ``call``, ``call.run``, ``resolve`` and ``library.*`` are registered.
        settings: All sections.
        clock: Time.
        rng: Draws between nodes.
        tracer: Records spans of calls, or None.
        access: Who may call what.

    Attributes:
        contexts: Which security context a call is in.
    """

    def __init__(
        self,
        home: Home,
        me: str,
        ledger: Ledger,
        gossip: Gossip,
        links: Links,
        *,
        router: Router,
        settings: Settings,
        clock: Clock,
        rng: random.Random,
        tracer: Tracer | None = None,
        access: Policy,
    ) -> None:
        self._me = me
        self._ledger = ledger
        self._gossip = gossip
        self._clock = clock
        self._library = Library(home.library, LinkSource(links))
        self._library.register(router)
        self._spreading = Spreading(links, lambda: [peer for peer in self._alive() if peer != me])
        self._prefetch = Prefetch(self._library, self._to_have, clock)
        self._runtime = Runtime(home, self._library, router=router, settings=settings.runtime, clock=clock)
        limit = Held("registry.context", "")
        self.contexts = Contexts(
            principal=access.principal_of,
            mesh=lambda: str(limit.of(ledger.state.settings)),
            serving=self._runtime.serving,
        )
        self._invoker = Invoker(
            me=me,
            ledger=StateView(ledger),
            runner=_Runner(self._runtime),
            peers=LinkPeers(me, links, gossip.loads, gossip.alive),
            settings=settings.invoke,
            clock=clock,
            rng=rng,
            tracer=tracer,
            access=access,
            contexts=self.contexts,
        )
        self._invoker.register(router)
        self._wake = asyncio.Event()
        self._draining = False
        self._failed_tests: Callable[[FunctionSpec, str, str], None] | None = None

    @property
    def invoker(self) -> Invoker:
        """What takes calls."""
        return self._invoker

    # Running.

    async def open(self) -> None:
        """Make the runtime ready."""
        await self._runtime.start()

    def look(self) -> None:
        """Compare with the ledger soon."""
        self._wake.set()
        self._prefetch.look()

    async def run(self) -> None:
        """Keep what runs here, and the library, in step with the ledger, until cancelled."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self._prefetch.run(), name="prefetch")
            group.create_task(self._keep(), name="keep")

    async def _keep(self) -> None:
        while True:
            if not self._draining:
                self._runtime.reconcile(self._wanted(), published=self._published())
            try:
                async with asyncio.timeout(_LOOK_SECONDS):
                    await self._wake.wait()
            except TimeoutError:
                pass
            self._wake.clear()

    def _published(self) -> frozenset[bytes]:
        state = self._ledger.state
        return frozenset(
            version.spec.digest for record in state.functions.values() for version in record.versions.values()
        )

    def _wanted(self) -> Mapping[bytes, int]:
        active = (self._ledger.state.active(name) for name in self._ledger.state.functions)
        return share(self._me, [record.spec for record in active if record is not None], self._alive())

    def _to_have(self) -> list[bytes]:
        """Return the digests of all that is published, of active versions first."""
        state = self._ledger.state
        active = (state.active(name) for name in state.functions)
        first = dict.fromkeys(record.spec.digest for record in active if record is not None)
        return list(first | dict.fromkeys(self._published()))

    def _alive(self) -> list[str]:
        """Return the peer ids of the nodes that live, this one included while it is a member."""
        return [
            member.peer
            for member in self._ledger.state.members.values()
            if member.role != "client" and self._gossip.alive(member.peer)
        ]

    async def drain(self, seconds: float) -> bool:
        """Take no new calls and wait for those under way; say whether all were done in time."""
        self._draining = True
        return await self._runtime.drain(self._clock.monotonic() + seconds)

    async def close(self) -> None:
        """End every function."""
        await self._invoker.close()
        await self._runtime.close()

    # What others ask.

    def loads(self) -> dict[bytes, FunctionLoad]:
        """Return demand by digest, as gossip publishes it."""
        return {
            digest: FunctionLoad(here.instances, here.in_flight, here.queued)
            for digest, here in self._runtime.loads().items()
        }

    def running(self) -> tuple[tuple[str, str, int], ...]:
        """Return what runs here: name, version, instances, ascending."""
        loads = self._runtime.loads()
        rows = (
            (spec.name, spec.version, loads[digest].instances)
            for digest, spec in self._runtime.specs().items()
            if digest in loads and loads[digest].instances
        )
        return tuple(sorted(rows))

    def demand(self) -> dict[str, Demand]:
        """Return what runs here by function, all its versions together."""
        found: dict[str, Demand] = {}
        for pool in self._runtime.pools():
            here, name = pool.here(), pool.spec.name
            row = found.get(name, Demand())
            found[name] = Demand(
                row.instances + here.instances,
                row.in_flight + here.in_flight,
                row.queued + here.queued,
                row.refused + pool.refused,
            )
        return found

    def summary(self) -> list[dict[str, Any]]:
        """Return name, active version and instances of every function, for ``status``."""
        return [
            {"name": record.name, "version": record.active, "instances": sum(self.instances(record.name).values())}
            for record in self._ledger.state.functions.values()
        ]

    def sandbox(self) -> dict[str, Any]:
        """Return what stands between functions and this machine."""
        status = self._runtime.status()
        detail = f"{status.name}: {', '.join(status.applied)}"
        if status.missing:
            detail += f"; missing: {', '.join(status.missing)}"
        return {
            "name": status.name,
            "full": status.name == "bubblewrap",
            "applied": list(status.applied),
            "missing": list(status.missing),
            "detail": detail,
        }

    def check_bundle(self, spec: FunctionSpec) -> None:
        """Check that the bundle is in the library and is what ``spec`` says of it.

        Raises:
            NotFound: It was not uploaded.
            UsageError: The published specification is not the bundle's own.
        """
        bundle = Bundle.parse(self._library.get(spec.digest))
        if replace(bundle.spec, digest=spec.digest) != spec:
            raise UsageError(f"what is published of {spec.name} {spec.version} is not what its bundle says")

    async def store(self, data: bytes) -> bytes:
        """Put a bundle into the library of this node; return its digest.

        Raises:
            RemoteProtocolError: Not a bundle.
        """
        return await asyncio.to_thread(self._library.put, data)

    async def spread(self, digest: bytes) -> Copies:
        """Have a majority of the nodes that live store a bundle of this node's library.

        Raises:
            Unavailable: No majority took it in time.
        """
        return await self._spreading.spread(digest)

    async def load(self, digest: bytes) -> bytes:
        """Return a bundle of this node's library.

        Raises:
            NotFound: It is not here.
        """
        return await asyncio.to_thread(self._library.get, digest)

    async def test(self, digest: bytes, context: str = "") -> dict[str, Any]:
        """Run a bundle's deploy-time tests here, in the security context that a text says."""
        try:
            report = (await self._runtime.run_tests(digest, context)).to_wire()
        except OsirisError as error:
            self._tests_failed(digest, error.code, error.what)
            raise
        if not report["ok"]:
            names = [str(test["name"]) for test in report["results"] if not test["ok"]]
            self._tests_failed(digest, CheckFailed.code, f"failed: {', '.join(names)}")
        return report

    def on_failed_tests(self, callback: Callable[[FunctionSpec, str, str], None]) -> None:
        """Call ``callback`` with specification, code and reason when a deployment's tests fail here."""
        self._failed_tests = callback

    def _tests_failed(self, digest: bytes, code: str, why: str) -> None:
        if self._failed_tests is not None and self._library.has(digest):
            self._failed_tests(Bundle.parse(self._library.get(digest)).spec, code, why)

    def instances(self, name: str) -> dict[str, int]:
        """Return running instances by peer id, as gossip tells of the others and the runtime of this node."""
        record = self._ledger.state.functions.get(name)
        if record is None:
            return {}
        digests = [version.spec.digest for version in record.versions.values()]
        found: dict[str, int] = {}
        here = self._runtime.loads()
        for peer in self._gossip.loads:
            load = self._gossip.loads.get(peer)
            rows: Mapping[bytes, Any] = here if peer == self._me else load.functions if load is not None else {}
            count = sum(rows[digest].instances for digest in digests if digest in rows)
            if count:
                found[peer] = count
        return found

    def local(self, name: str) -> dict[str, Any]:
        """Return what this node knows of a function it runs."""
        record = self._ledger.state.functions.get(name)
        if record is None:
            raise NotFound(f"there is no function {name}")
        loads = self._runtime.loads()
        for version in record.versions.values():
            here = loads.get(version.spec.digest)
            if here is not None and version.spec.version == record.active:
                return {"instances": here.instances, "in_flight": here.in_flight, "queued": here.queued}
        return {"instances": 0, "in_flight": 0, "queued": 0}

    async def logs(self, name: str, stream: Stream, *, tail: int, follow: bool, since_ms: int) -> None:
        """Send lines of a function's output, as packed maps, until there are no more."""
        names = [name] if name else sorted(self._ledger.state.functions)
        lines = sorted(
            ((line, each) for each in names for line in self._runtime.logs.tail(each, tail, since_ms)),
            key=lambda item: item[0].time_ms,
        )
        for line, each in lines[-tail:] if tail else []:
            await stream.send(_line(each, line))
        if follow:
            async with asyncio.TaskGroup() as group:
                for each in names:
                    group.create_task(self._follow(each, stream))
        await stream.end()

    async def _follow(self, name: str, stream: Stream) -> None:
        async for line in self._runtime.logs.follow(name):
            await stream.send(_line(name, line))

    def metrics(self, name: str) -> list[dict[str, Any]]:
        """Return samples of one function, or of all."""
        rows = self._invoker.snapshot()
        return [{"function": each, **row} for each, row in sorted(rows.items()) if name in {"", each}]


def _line(name: str, line: Any) -> bytes:
    return pack(
        {
            "function": name,
            "time_ms": line.time_ms,
            "version": line.version,
            "call": line.call,
            "stream": line.stream,
            "text": line.text,
        }
    )
