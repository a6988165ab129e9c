"""Calls between nodes over real links on the in-memory network, in simulated time."""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from typing import Any

import pytest

from osiris_mesh.codec import pack, unpack
from osiris_mesh.errors import DeadlineExceeded, Denied, FunctionError, LimitExceeded, OsirisError, Unavailable
from osiris_mesh.gossip.load import FunctionLoad, Load, LoadTable
from osiris_mesh.invoke.contexts import Contexts
from osiris_mesh.invoke.invoker import Invoker
from osiris_mesh.invoke.peers import LinkPeers
from osiris_mesh.ledger.principal import NOBODY
from osiris_mesh.link import Audience, Caller, MemoryNetwork
from osiris_mesh.link.memory import LoopClock, MeshNode, mesh, simulate
from osiris_mesh.settings.invoke import InvokeSettings
from tests.invoke.fakes import FakeLedger, FakeRunner, Had, spec

ME = Caller(b"", "", Audience.LOCAL, "test")


class Node:
    """One node: real links, a real Invoker, Python callables for workers."""

    def __init__(self, at: MeshNode, seed: int) -> None:
        self.at = at
        self.peer = at.links.peer
        self.ran: Counter[Any] = Counter()
        self.ledger = FakeLedger(spec("t/f", timeout_ms=10_000), spec("t/safe", timeout_ms=10_000, idempotent=True))
        self.runner = FakeRunner({"t/f": self._note, "t/safe": self._note})
        self.loads = LoadTable()
        self.alive: set[str] = set()
        self.invoker = Invoker(
            me=self.peer,
            ledger=self.ledger,
            runner=self.runner,
            peers=LinkPeers(self.peer, at.links, self.loads, self.alive.__contains__),
            settings=InvokeSettings(),
            clock=LoopClock(),
            rng=random.Random(seed),
            contexts=Contexts(
                principal=lambda _: NOBODY,
                mesh=lambda: "",
                serving=lambda _: [self.runner.runs[-1].get("context", "")],
            ),
        )
        self.invoker.register(at.router)

    def _note(self, number: Any) -> list[Any]:
        self.ran[number] += 1
        return [self.at.host, number]

    def warm(self, instances: int) -> None:
        self.runner.had = Had(instances=instances)
        self.runner.fast = instances > 0

    async def call(self, number: Any, name: str = "t/f", timeout: float = 8.0, **headers: Any) -> Any:
        deadline = LoopClock().monotonic() + timeout
        answer = await self.invoker.call(name, pack([[number], {}]), deadline=deadline, headers=headers, caller=ME)
        return unpack(answer)


@asynccontextmanager
async def cluster(count: int, network: MemoryNetwork | None = None) -> AsyncIterator[list[Node]]:
    async with mesh(count, network=network, clock=LoopClock()) as places:
        nodes = [Node(at, seed) for seed, at in enumerate(places)]
        for node in nodes:
            node.alive.update(other.peer for other in nodes)
        yield nodes
        for node in nodes:
            await node.invoker.close()


def tell(nodes: list[Node]) -> None:
    """Let every node know how warm the others are, as gossip would."""
    for node in nodes:
        functions = {
            known[-1].digest: FunctionLoad(node.runner.had.instances)
            for known in node.ledger.functions.values()
            if node.runner.had.instances
        }
        for other in nodes:
            other.loads.put(node.peer, Load(functions=functions), 0.0)


def simulated(test: Callable[[], Coroutine[Any, Any, None]]) -> Callable[[], None]:
    def run() -> None:
        simulate(test)

    run.__name__ = test.__name__
    return run


@simulated
async def test_a_cold_node_calls_a_warm_one() -> None:
    async with cluster(3) as nodes:
        for node, instances in zip(nodes, (0, 1, 0), strict=True):
            node.warm(instances)
        tell(nodes)
        assert await nodes[0].call(7) == ["n1", 7]
        assert await nodes[2].call(8) == ["n1", 8]
        assert await nodes[1].call(9) == ["n1", 9]
        nodes[0].alive.discard(nodes[1].peer)
        assert await nodes[0].call(10) == ["n0", 10]  # it is said to be dead: started here


@simulated
async def test_a_function_far_away_is_kept_to_the_context_of_the_call() -> None:
    async with cluster(2) as (near, far):
        near.warm(0)
        far.warm(1)
        tell([near, far])
        inside = Caller(b"", "", Audience.FUNCTION, "t/f#1")

        async def relay(number: Any) -> Any:
            body = pack([[number], {}])
            try:
                return unpack(await far.invoker.call("t/safe", body, deadline=None, headers={}, caller=inside))
            except Denied as error:
                raise FunctionError(f"Denied: {error.what}", type="Denied") from None  # as a worker tells it

        far.runner.code["t/f"] = relay
        assert await near.call(7) == ["n1", 7]
        assert await near.call(8, context="full; functions=t/*") == ["n1", 8]
        with pytest.raises(FunctionError, match="t/safe fits no pattern"):
            await near.call(9, context="full; functions=t/f")
        assert (near.ran[9], far.ran[9]) == (0, 0)


@simulated
async def test_errors_of_a_function_far_away_are_its_own() -> None:
    async with cluster(2) as nodes:
        nodes[0].warm(0)
        nodes[1].warm(1)
        nodes[1].runner.code["t/f"] = lambda _n: 1 // 0
        tell(nodes)
        with pytest.raises(FunctionError) as caught:
            await nodes[0].call(1)
        assert caught.value.traceback == "its own"
        with pytest.raises(LimitExceeded):
            await nodes[0].call(1, depth=99)


@simulated
async def test_nobody_forwards_what_was_forwarded() -> None:
    async with cluster(3) as nodes:
        for node in nodes:
            node.warm(0)
        tell(nodes)
        # All the others believe n1 warm; it is not, and starts one rather than send the call on.
        nodes[0].loads.put(nodes[1].peer, Load(functions={spec("t/f").digest: FunctionLoad(1)}), 1.0)
        nodes[1].loads.put(nodes[2].peer, Load(functions={spec("t/f").digest: FunctionLoad(5)}), 1.0)
        assert await nodes[0].call(1) == ["n1", 1]
        assert nodes[2].ran.total() == 0


@simulated
async def test_a_node_that_dies_under_a_call() -> None:
    async with cluster(3) as nodes:
        nodes[0].warm(0)
        for node in nodes[1:]:
            node.warm(1)
            node.runner.hold = asyncio.Event()
        tell(nodes)
        for name, harmless in (("t/f", False), ("t/safe", True)):
            call = asyncio.ensure_future(nodes[0].call(name, name))
            holder = await _holder(nodes)
            nodes[0].at.network.cut("n0", holder.at.host)
            for node in nodes[1:]:
                assert node.runner.hold is not None
                node.runner.hold.set()
            if harmless:
                host, _ = await call
                assert host != holder.at.host
            else:
                with pytest.raises(Unavailable) as caught:
                    await call
                assert caught.value.details["maybe"] is True
            for node in nodes[1:]:
                node.runner.hold = asyncio.Event()


async def _holder(nodes: list[Node]) -> Node:
    async with asyncio.timeout(5):
        while True:
            for node in nodes[1:]:
                if node.invoker.in_flight:
                    return node
            await asyncio.sleep(0.001)


@simulated
async def test_a_node_gone_silent_ends_at_the_deadline_or_before() -> None:
    async with cluster(2) as nodes:
        nodes[0].warm(0)
        nodes[1].warm(1)
        tell(nodes)
        nodes[0].at.network.part(["n0"], ["n1"])
        began = LoopClock().monotonic()
        with pytest.raises((DeadlineExceeded, Unavailable)):
            await nodes[0].call(1, timeout=1.0)
        assert LoopClock().monotonic() - began <= 1.1
        # With time to spare the dead link is noticed, and a harmless call runs here after all.
        assert await nodes[0].call(2, "t/safe", timeout=60.0) == ["n0", 2]


@simulated
async def test_a_node_without_a_link_that_can_not_be_reached_is_passed_over() -> None:
    async with cluster(2) as nodes:
        nodes[0].warm(0)
        nodes[1].warm(1)
        tell(nodes)
        nodes[0].at.network.part(["n0"], ["n1"])
        nodes[0].at.network.cut("n0", "n1")
        await asyncio.sleep(0)
        assert await nodes[0].call(1) == ["n0", 1]
        assert nodes[1].ran.total() == 0


@simulated
async def test_a_node_whose_ledger_is_behind_is_passed_over() -> None:
    async with cluster(2) as nodes:
        nodes[0].warm(0)
        nodes[1].warm(1)
        tell(nodes)
        nodes[1].ledger.functions.clear()
        assert await nodes[0].call(1) == ["n0", 1]


@pytest.mark.parametrize("seed", range(6))
def test_never_twice_and_never_wrong_while_connections_break(seed: int) -> None:
    async def main() -> None:
        network = MemoryNetwork(seed)
        async with cluster(3, network) as nodes:
            for node, instances in zip(nodes, (0, 1, 1), strict=True):
                node.warm(instances)
            tell(nodes)
            network.delay_s, network.break_rate, network.refuse_rate = (0.0, 0.01), 0.04, 0.1
            outcomes = Counter[str]()
            kinds: set[type[OsirisError]] = set()

            async def one(number: int) -> None:
                node = nodes[number % 3]
                try:
                    host, same = await node.call(number)
                except OsirisError as error:
                    kinds.add(type(error))
                    outcomes["failed"] += 1
                    if isinstance(error, Unavailable) and error.details.get("maybe") is False:
                        assert sum(each.ran[number] for each in nodes) == 0
                else:
                    outcomes["ok"] += 1
                    assert same == number
                    assert host in {"n0", "n1", "n2"}
                    assert sum(each.ran[number] for each in nodes) == 1

            for start in range(0, 240, 12):
                await asyncio.gather(*(one(number) for number in range(start, start + 12)))
            assert outcomes["ok"] > 150
            assert outcomes.total() == 240
            assert kinds <= {Unavailable, DeadlineExceeded}
            for node in nodes:
                assert max(node.ran.values(), default=0) <= 1
            ran = sum((node.ran for node in nodes), Counter[int]())
            assert max(ran.values()) == 1

    simulate(main)
