"""Twenty clients resolve while registries go wrong; what they were told is compared with what is true."""

from __future__ import annotations

import asyncio
import logging
import random
import tempfile
import time
from contextlib import AsyncExitStack
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from osiris_mesh.clock import SYSTEM
from osiris_mesh.errors import OsirisError, Unavailable
from osiris_mesh.registry.asking import Asker
from osiris_mesh.registry.breaker import Breakers
from osiris_mesh.registry.federation import Federation, Route
from osiris_mesh.registry.memory import Memory
from osiris_mesh.registry.placements import Placements
from osiris_mesh.registry.registry import Registry
from osiris_mesh.registry.registry_source import Keeper, RegistrySource, restore
from osiris_mesh.registry.resolver import Resolver
from osiris_mesh.registry.selection import Standings
from osiris_mesh.registry.tree import Tree
from osiris_mesh.registry.tree_folder import FolderTree
from osiris_mesh.registry.tree_git import GitTree
from osiris_mesh.registry.tree_http import HttpTree
from osiris_mesh.registry.trust import Trust
from osiris_mesh.settings.registry import RegistrySettings
from tests.registry.chaos.world import NAMES, World

CLIENTS = 20
SLACK_S = 0.1
"""What a busy machine may add to a deadline; the loop's own delays come on top."""
SETTINGS = RegistrySettings(
    local_ttl_s=0.4, not_found_s=0.2, failure_s=0.1, failure_max_s=0.5, stale_after_s=0.2, lookup_s=1.0, patience_s=0.1
)


@dataclass
class Outcome:
    """What came of it.

    Attributes:
        resolved: Answers.
        stale: Of these, marked stale.
        failed: Errors, all of them before their deadlines.
        forged: Answers that are not true.
        rolled_back: Answers older than one given before the question.
        late: Answers or errors after their deadline.
        worst_late_ms: By how much, at most; below zero: always in time.
        restarts: How often the node was stopped and started from its disk.
        defects: Exceptions of ours in the log.
        converged: Names that came to what is true once everything was right again.
        problems: What was wrong, in words; the first few.
    """

    resolved: int = 0
    stale: int = 0
    failed: int = 0
    forged: int = 0
    rolled_back: int = 0
    late: int = 0
    worst_late_ms: float = -1e9
    restarts: int = 0
    defects: int = 0
    published: int = 0
    converged: int = 0
    faults: dict[str, int] = field(default_factory=dict)
    errors: dict[str, int] = field(default_factory=dict)
    evidence: list[str] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)

    @property
    def is_good(self) -> bool:
        """Nothing that must not happen happened, and what was tried was tried."""
        good = not (self.forged or self.rolled_back or self.late or self.defects) and self.converged == len(NAMES)
        return good and self.resolved > 0 and bool(self.faults)

    def to_json(self) -> dict[str, object]:
        return {"good": self.is_good, **asdict(self)}


class Node:
    """A resolver over all registries, started from a disk."""

    def __init__(self, world: World, folder: Path, rng: random.Random) -> None:
        self.resolver: Resolver | None = None
        self._world = world
        self._folder = folder
        self._rng = rng
        self._stack = AsyncExitStack()

    async def start(self) -> None:
        self._stack = AsyncExitStack()
        memory = await self._stack.enter_async_context(Memory(self._folder / "names.db", limit=1000))
        trees: list[Tree] = [
            FolderTree("near", self._world.near),
            HttpTree("far", self._world.url, self._folder, seconds=1.0, index_s=1.0),
            GitTree("git", self._world.git_url, self._folder / "clone", seconds=2.0),
        ]
        trees.sort(key=lambda tree: self._world.order.index(tree.name))
        registries = [await self._registry(tree, memory) for tree in trees]
        # Closed after the resolver, which asks them.
        for item in registries:
            self._stack.push_async_callback(item.close)
        asker = Asker(
            {item.name: RegistrySource(item, SYSTEM) for item in registries},
            Federation(tuple(Route(item.name) for item in registries)),
            SETTINGS,
            SYSTEM,
        )
        resolver = Resolver(
            _NoFunctions(),
            asker,
            settings=SETTINGS,
            standings=Standings(half_life=60, breakers=Breakers(failures=3, pause=1, longest=9, limit=99), limit=99),
            placements=Placements(9),
            memory=memory,
            rng=self._rng,
        )
        await self._stack.enter_async_context(resolver)
        tasks = await self._stack.enter_async_context(_Tasks())
        for item in registries:
            # A fetch from Git is some ten processes of two machines' work on this one.
            every = 1.2 if item.name == "git" else 0.3
            keeper = Keeper(item, memory, resolver.questions, every=every, clock=SYSTEM, rng=self._rng)
            tasks.start(keeper.run())
        self.resolver = resolver
        trusts = {item.name: item.trust for item in registries}
        self._world.heads = lambda registry, name: (trusts[registry].head_of(name) or (0, b""))[0]

    async def _registry(self, tree: Tree, memory: Memory) -> Registry:
        seen = await memory.trust(tree.name)
        trust = Trust.from_wire(seen) if seen is not None else Trust(self._world.pin.digest)
        registry = Registry(tree, trust, SYSTEM)
        await restore(registry, memory)
        return registry

    async def stop(self) -> None:
        self.resolver = None
        await self._stack.aclose()


class _NoFunctions:
    def active(self, _name: str) -> None:
        return None

    def versions(self, _name: str) -> list[None]:
        return []


class _Tasks:
    """Tasks that end with their owner."""

    def __init__(self) -> None:
        self._tasks: list[asyncio.Task[None]] = []

    async def __aenter__(self) -> _Tasks:
        return self

    def start(self, work: object) -> None:
        self._tasks.append(asyncio.ensure_future(work))  # type: ignore[arg-type]

    async def __aexit__(self, *_: object) -> None:
        for task in self._tasks:
            task.cancel()
        for result in await asyncio.gather(*self._tasks, return_exceptions=True):
            if isinstance(result, Exception):
                raise result


async def drive(seconds: float, seed: int) -> Outcome:
    """Run it.

    Args:
        seconds: How long.
        seed: Of every choice; what the machine's scheduler does is not in it.
    """
    outcome, rng = Outcome(), random.Random(seed)
    defects = _Defects(outcome)
    log = logging.getLogger("osiris.registry")
    log.addHandler(defects)
    asyncio.get_running_loop().set_exception_handler(defects.of_loop)
    try:
        await _drive(seconds, seed, outcome, rng)
    finally:
        log.removeHandler(defects)
    return outcome


async def _drive(seconds: float, seed: int, outcome: Outcome, rng: random.Random) -> None:
    with tempfile.TemporaryDirectory(prefix="osc-") as name:
        folder = Path(name)
        world = World(folder, rng)
        async with world.open():
            (folder / "node").mkdir()
            node = Node(world, folder / "node", random.Random(seed + 1))
            await node.start()
            lag = _Lag()
            ends = time.monotonic() + seconds
            async with asyncio.TaskGroup() as group:
                watching = group.create_task(lag.run())
                clients = [
                    group.create_task(_client(node, world, outcome, lag, random.Random(seed * 100 + number), ends))
                    for number in range(CLIENTS)
                ]
                group.create_task(_disturb(node, world, outcome, rng, ends))
                await asyncio.gather(*clients)
                watching.cancel()
            await world.heal()
            await _converge(node, world, outcome)
            outcome.faults = world.faults
            assert node.resolver is not None
            outcome.evidence += sorted({found.registry for found in node.resolver.questions.evidence})
            await node.stop()


class _Defects(logging.Handler):
    """Counts exceptions that were logged: everything a registry may do has an error of its own."""

    def __init__(self, outcome: Outcome) -> None:
        super().__init__(logging.ERROR)
        self._outcome = outcome

    def emit(self, record: logging.LogRecord) -> None:
        if record.exc_info and record.exc_info[0] is not None:
            self._outcome.defects += 1
            self._outcome.problems.append(f"{record.getMessage()}: {record.exc_info[1]!r}"[:300])

    def of_loop(self, _loop: asyncio.AbstractEventLoop, said: dict[str, Any]) -> None:
        """Count what went wrong where nobody waits for it."""
        self._outcome.defects += 1
        self._outcome.problems.append(f"{said.get('message')}: {said.get('exception')!r}"[:300])


class _Lag:
    """How late the loop itself is."""

    def __init__(self) -> None:
        self._late: list[tuple[float, float]] = []

    async def run(self) -> None:
        while True:
            began = time.monotonic()
            await asyncio.sleep(0.01)
            now = time.monotonic()
            self._late = [item for item in self._late if item[0] > now - 5][-500:]
            self._late.append((now, now - began - 0.01))

    def since(self, began: float) -> float:
        """Return how late the loop was in all since a moment."""
        return sum(late for at, late in self._late if at >= began)


async def _client(node: Node, world: World, outcome: Outcome, lag: _Lag, rng: random.Random, ends: float) -> None:
    while time.monotonic() < ends:
        await asyncio.sleep(rng.random() * 0.05)
        resolver = node.resolver
        if resolver is None:
            continue
        name = rng.choice(NAMES)
        before = world.seen.get(name, 0)
        began = time.monotonic()
        deadline = began + rng.choice((0.02, 0.1, 0.5, 2.0))
        try:
            found = await resolver.resolve(name, deadline=deadline, explain=rng.random() < 0.02)
        except OsirisError as error:
            outcome.failed += 1
            outcome.errors[error.code] = outcome.errors.get(error.code, 0) + 1
            found = None
        late = time.monotonic() - deadline - lag.since(began)
        outcome.worst_late_ms = max(outcome.worst_late_ms, round(late * 1000, 1))
        if late > SLACK_S:
            outcome.late += 1
            outcome.problems.append(f"{name} {late:.3f} s late")
        if found is None or found.record is None or found.bound is None:
            continue
        outcome.resolved += 1
        outcome.stale += found.stale
        for bound in found.record.versions.values():
            if bound.digest not in world.truth.digests[name]:
                outcome.forged += 1
                outcome.problems.append(f"{name} {bound.binding.version} of {found.source} is not true")
                break
        if found.record.sequence < before:
            outcome.rolled_back += 1
            outcome.problems.append(f"{name} went from {before} to {found.record.sequence}, by {found.source}")
        world.seen[name] = max(world.seen.get(name, 0), found.record.sequence)
        del outcome.problems[20:]


async def _disturb(node: Node, world: World, outcome: Outcome, rng: random.Random, ends: float) -> None:
    """Publish, break and restart, in turns."""
    while time.monotonic() < ends:
        await asyncio.sleep(0.1 + rng.random() * 0.5)
        await world.break_one()
        if rng.random() < 0.6:
            await world.publish()
            outcome.published += 1
        if rng.random() < 0.06:
            await node.stop()
            await node.start()
            outcome.restarts += 1


async def _converge(node: Node, world: World, outcome: Outcome) -> None:
    """See that every name comes to what is true, once nothing is wrong any more."""
    ends = time.monotonic() + 20
    for name in NAMES:
        while time.monotonic() < ends:
            assert node.resolver is not None
            try:
                found = await node.resolver.resolve(name, deadline=time.monotonic() + 2, explain=True)
            except Unavailable:
                await asyncio.sleep(0.05)
                continue
            digests = set() if found.record is None else {item.digest for item in found.record.versions.values()}
            if digests == world.truth.digests[name]:
                outcome.converged += 1
                break
            await asyncio.sleep(0.05)
