"""The Invoker between real links, a fake runtime and fake other nodes."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from osiris_mesh.clock import SYSTEM
from osiris_mesh.codec import pack, unpack
from osiris_mesh.errors import (
    Conflict,
    DeadlineExceeded,
    Denied,
    FunctionError,
    InternalError,
    LimitExceeded,
    NotFound,
    Overloaded,
    Unavailable,
    UsageError,
    WorkerDied,
)
from osiris_mesh.function.signature import Parameter, Signature, binding_of
from osiris_mesh.invoke.choice import Candidate
from osiris_mesh.invoke.invoker import Invoker
from osiris_mesh.link import Audience, Caller, Link, Router, UnixServer, connect_unix
from osiris_mesh.settings.invoke import InvokeSettings
from tests.invoke.fakes import FakeLedger, FakePeers, FakeRunner, Had, spec, until

ADD = Signature((Parameter("a", 1, annotation="int"), Parameter("b", 1, annotation="int")), name="add")
BODY = pack([[2, 3], {}])


class Bench:
    """One Invoker with its surroundings, and links to it as each audience."""

    def __init__(self, path: Path, settings: InvokeSettings | None = None) -> None:
        self.ledger = FakeLedger(spec("math/add", signature=ADD, timeout_ms=5000), spec("math/safe", idempotent=True))
        self.runner = FakeRunner({"math/add": lambda a, b: a + b, "math/safe": lambda *_: "safe"})
        self.peers = FakePeers()
        self.invoker = Invoker(
            me="me",
            ledger=self.ledger,
            runner=self.runner,
            peers=self.peers,
            settings=settings or InvokeSettings(),
            clock=SYSTEM,
            rng=random.Random(1),
        )
        self.router = Router()
        self.invoker.register(self.router)
        self._path = path
        self._servers: list[UnixServer] = []
        self._links: list[Link] = []

    async def link(self, audience: Audience = Audience.LOCAL) -> Link:
        path = self._path / f"{len(self._servers)}.sock"
        server = UnixServer(path, self.router, audience)
        await server.start()
        self._servers.append(server)
        link = await connect_unix(path)
        self._links.append(link)
        return link

    async def close(self) -> None:
        for link in self._links:
            await link.close()
        await self.invoker.close()
        for server in self._servers:
            await server.close()


@pytest.fixture
async def bench(tmp_path: Path) -> AsyncIterator[Bench]:
    bench = Bench(tmp_path)
    yield bench
    await bench.close()


async def call(link: Link, name: str = "math/add", body: bytes = BODY, timeout: float = 5.0, **headers: Any) -> bytes:
    return await link.call("call", body, timeout=timeout, headers={"name": name, **headers})


@pytest.mark.parametrize("fast", [True, False])
async def test_runs_here(bench: Bench, fast: bool) -> None:
    bench.runner.fast = fast
    link = await bench.link()
    assert unpack(await call(link)) == 5
    assert unpack(await call(link, "math/add@1.0.0")) == 5
    assert [run["way"] for run in bench.runner.runs] == ["begin" if fast else "run"] * 2
    assert bench.runner.runs[0]["depth"] == 0
    assert bench.invoker.in_flight == 0
    figures = bench.invoker.snapshot()["math/add"]
    assert (figures["calls"], figures["errors"], figures["in_flight"]) == (2, 0, 0)
    assert figures["mean_us"] > 0


@pytest.mark.parametrize("fast", [True, False])
async def test_details_come_when_asked_for(bench: Bench, fast: bool) -> None:
    bench.runner.fast = fast
    facts, result = unpack(await call(await bench.link(), details=True))
    assert unpack(result) == 5
    assert facts.pop("elapsed_us") >= 0
    call_id = bench.runner.runs[-1]["call"]
    assert facts == {"node": "me", "version": "1.0.0", "warm": True, "call": call_id}
    again, _ = unpack(await call(await bench.link(), details=True))
    assert len({"", call_id, again["call"], bench.runner.runs[-1]["call"]}) == 3


@pytest.mark.parametrize("fast", [True, False])
async def test_the_functions_exception_is_carried_and_never_repeated(bench: Bench, fast: bool) -> None:
    bench.runner.fast = fast
    bench.runner.code["math/safe"] = lambda: 1 // 0
    with pytest.raises(FunctionError) as caught:
        await call(await bench.link(), "math/safe", pack([[], {}]))
    assert caught.value.type == "ZeroDivisionError"
    assert len(bench.runner.runs) == 1
    assert bench.invoker.snapshot()["math/safe"]["errors"] == 1
    assert bench.invoker.in_flight == 0


async def test_names_that_lead_nowhere(bench: Bench) -> None:
    link = await bench.link()
    with pytest.raises(NotFound, match="no function is called math/sub"):
        await call(link, "math/sub")
    with pytest.raises(NotFound, match=r"math/add@\^2") as caught:
        await call(link, "math/add@^2")
    assert "1.0.0" in caught.value.fix
    with pytest.raises(UsageError):
        await call(link, "not a name")
    with pytest.raises(UsageError):
        await link.call("call", BODY, timeout=5, headers={})


async def test_a_changed_signature_is_answered_with_the_new_one(bench: Bench) -> None:
    link = await bench.link()
    old = binding_of(ADD.to_wire())
    assert unpack(await call(link, binding=old)) == 5
    other = Signature((Parameter("a", 1),), name="add")
    bench.ledger.publish(spec("math/add", "2.0.0", other))
    with pytest.raises(Conflict) as caught:
        await call(link, binding=old)
    resolved = caught.value.details["resolved"]
    assert caught.value.details["reason"] == "binding"
    assert resolved["version"] == "2.0.0"
    assert resolved["binding"] == binding_of(other.to_wire())
    assert len(bench.runner.runs) == 1
    bench.ledger.publish(spec("math/add", "3.0.0", ADD))  # another version, the same signature
    assert unpack(await call(link, binding=old)) == 5


async def test_resolve_says_what_a_caller_must_know(bench: Bench) -> None:
    link = await bench.link()
    answer = unpack(await link.call("resolve", pack({"name": "math/add"}), timeout=5))
    assert answer["version"] == "1.0.0"
    assert Signature.from_wire(answer["signature"], answer["name"]) == ADD
    assert answer["binding"] == binding_of(ADD.to_wire())
    for body in (pack([]), pack({}), pack({"name": 1})):
        with pytest.raises(UsageError):
            await link.call("resolve", body, timeout=5)


@pytest.mark.parametrize(
    ("method", "refused"),
    [
        ("call", [Audience.JOINER]),
        ("resolve", [Audience.JOINER]),
        ("call.run", [Audience.JOINER, Audience.LOCAL, Audience.CLIENT, Audience.FUNCTION]),
    ],
)
async def test_refuses_who_may_not(bench: Bench, method: str, refused: list[Audience]) -> None:
    for audience in refused:
        link = await bench.link(audience)
        with pytest.raises(Denied):
            await link.call(method, BODY, timeout=5, headers={"name": "math/add"})
    assert bench.runner.runs == []


async def test_a_function_that_calls_gives_up_its_slot_while_it_waits(bench: Bench) -> None:
    link = await bench.link(Audience.FUNCTION)
    seen: list[int] = []
    bench.runner.code["math/add"] = lambda a, b: seen.append(len(bench.runner.paused)) or a + b
    await call(link, depth=3)
    bench.runner.code["math/add"] = lambda _a, _b: 1 // 0
    with pytest.raises(FunctionError):
        await call(link, depth=3)
    with pytest.raises(NotFound):
        await call(link, "math/none", depth=3)
    assert seen == [1]
    assert bench.runner.paused == []
    assert bench.runner.runs[0]["depth"] == 3


@pytest.mark.parametrize(
    ("depth", "kind"), [(17, LimitExceeded), (-1, UsageError), ("1", UsageError), (True, UsageError)]
)
async def test_depth_is_bounded(bench: Bench, depth: Any, kind: type[Exception]) -> None:
    with pytest.raises(kind):
        await call(await bench.link(Audience.FUNCTION), depth=depth)
    assert bench.runner.paused == []
    assert unpack(await call(await bench.link(), depth=16)) == 5


async def test_one_deadline_the_earlier_of_caller_and_function(bench: Bench) -> None:
    link = await bench.link()
    began = SYSTEM.monotonic()
    await call(link, timeout=2.0)
    await call(link, timeout=60.0)
    mine, own = (run["deadline"] - began for run in bench.runner.runs)
    assert 1.5 < mine <= 2.1
    assert 4.5 < own <= 5.5


async def test_a_caller_that_gives_up_ends_the_call(bench: Bench) -> None:
    bench.runner.hold = asyncio.Event()
    link = await bench.link()
    for number, fast in enumerate((True, False), 1):
        bench.runner.fast = fast
        with pytest.raises(DeadlineExceeded):
            await call(link, timeout=0.05)
        await until(lambda: bench.invoker.in_flight == 0 and bench.runner.given_up == number)  # noqa: B023 - awaited
    assert bench.invoker.snapshot()["math/add"]["errors"] == 2


async def test_more_than_the_node_takes_is_refused_at_once(tmp_path: Path) -> None:
    bench = Bench(tmp_path, InvokeSettings(max_in_flight=2, retry_after_ms=77))
    try:
        bench.runner.hold = asyncio.Event()
        link, member = await bench.link(), await bench.link(Audience.MEMBER)
        first = [asyncio.ensure_future(call(link)) for _ in range(2)]
        await until(lambda: bench.invoker.in_flight == 2)
        with pytest.raises(Overloaded) as caught:
            await call(link)
        assert caught.value.details["retry_after_ms"] == 77
        with pytest.raises(Overloaded):
            await run_here(member, bench)
        bench.runner.hold.set()
        assert [unpack(item) for item in await asyncio.gather(*first)] == [5, 5]
        assert unpack(await call(link)) == 5
    finally:
        await bench.close()


async def test_a_runner_that_answers_before_it_returns(bench: Bench) -> None:
    link = await bench.link()
    bench.runner.at_once = lambda _spec: pack(9)
    assert unpack(await call(link)) == 9
    bench.runner.at_once = lambda _spec: FunctionError("raised", type="X")
    with pytest.raises(FunctionError):
        await call(link)
    bench.peers.nodes, bench.peers.answers = remote("b"), {"b": pack(5)}
    bench.runner.at_once = lambda _spec: Overloaded("no slot after all")
    assert unpack(await call(link)) == 5

    def refuse(_spec: Any) -> bytes:
        raise Overloaded("not even taken")

    bench.runner.at_once = refuse
    assert unpack(await call(link)) == 5

    def break_down(_spec: Any) -> bytes:
        raise KeyError("a defect")

    bench.runner.at_once = break_down
    with pytest.raises(InternalError):
        await call(link)
    assert bench.invoker.in_flight == 0
    assert bench.invoker.snapshot()["math/add"]["calls"] == 5


async def test_a_defect_below_is_told_and_counted(bench: Bench) -> None:
    bench.runner.fast = False
    bench.runner.code["math/add"] = lambda _a, _b: {}["missing"]
    with pytest.raises(InternalError):
        await call(await bench.link())
    assert bench.invoker.in_flight == 0


# --- other nodes ---------------------------------------------------------------------------------------------------


def remote(*peers: str) -> list[Candidate]:
    return [Candidate(peer, 1, 0, 0, 0.1, room=True) for peer in peers]


async def test_goes_to_a_warm_node_rather_than_start_one_here(bench: Bench) -> None:
    bench.runner.had = Had(instances=0)
    bench.runner.fast = False
    bench.peers.nodes = remote("b")
    bench.peers.answers["b"] = pack("from b")
    assert unpack(await call(await bench.link())) == "from b"
    peer, method, headers, timeout = bench.peers.calls[0]
    assert (peer, method) == ("b", "call.run")
    assert headers["name"] == "math/add"
    assert headers["version"] == "1.0.0"
    assert headers["digest"] == bench.ledger.functions["math/add"][0].digest
    assert 4 < timeout <= 5
    assert bench.runner.runs == []


async def test_details_of_a_forwarded_call_name_the_other_node(bench: Bench) -> None:
    bench.runner.had, bench.runner.fast = Had(instances=0), False
    bench.peers.nodes = remote("b")
    bench.peers.answers["b"] = pack([{"node": "b", "version": "1.0.0", "warm": True}, pack(5)])
    facts, result = unpack(await call(await bench.link(), details=True))
    assert unpack(result) == 5
    assert facts["node"] == "b"
    assert facts["elapsed_us"] > 0


async def test_a_node_that_surely_did_not_run_it_is_replaced(bench: Bench) -> None:
    bench.runner.had, bench.runner.fast = Had(instances=0), False
    bench.peers.nodes = remote("b", "c")
    bench.peers.answers = dict.fromkeys("bc", Unavailable("gone", maybe=False))
    assert unpack(await call(await bench.link())) == 5
    assert sorted(peer for peer, *_ in bench.peers.calls) == ["b", "c"]
    assert [run["way"] for run in bench.runner.runs] == ["run"]


@pytest.mark.parametrize(
    ("name", "headers", "again"),
    [("math/add", {}, False), ("math/add", {"idempotent": True}, True), ("math/safe", {}, True)],
)
async def test_a_node_that_may_have_run_it_only_when_harmless(
    bench: Bench, name: str, headers: dict[str, Any], again: bool
) -> None:
    bench.runner.had, bench.runner.fast = Had(instances=0), False
    bench.peers.nodes = remote("b")
    bench.peers.answers["b"] = Unavailable("lost", maybe=True)
    link = await bench.link()
    if again:
        assert unpack(await call(link, name, **headers)) in {5, "safe"}
    else:
        with pytest.raises(Unavailable) as caught:
            await call(link, name, **headers)
        assert caught.value.details["maybe"] is True
    assert len(bench.runner.runs) == again


async def test_the_fast_way_fails_over_too(bench: Bench) -> None:
    bench.runner.before = [WorkerDied("killed", maybe=False)]
    bench.peers.nodes = remote("b")
    bench.peers.answers["b"] = pack("from b")
    assert unpack(await call(await bench.link())) == "from b"
    assert [run["way"] for run in bench.runner.runs] == ["begin"]
    bench.runner.before = [WorkerDied("killed")]
    with pytest.raises(WorkerDied):
        await call(await bench.link())
    assert bench.invoker.in_flight == 0


async def run_here(link: Link, bench: Bench, **headers: Any) -> bytes:
    one = bench.ledger.functions["math/add"][0]
    given = {"name": one.name, "version": one.version, "digest": one.digest, "caller": "uid:7", **headers}
    return await link.call("call.run", BODY, timeout=5, headers=given)


async def test_call_run_runs_that_version_here_and_nowhere_else(bench: Bench) -> None:
    bench.runner.had = Had(instances=0, room=False)
    bench.runner.before = [Overloaded("no room")]
    bench.peers.nodes = remote("b")
    member = await bench.link(Audience.MEMBER)
    with pytest.raises(Overloaded):
        await run_here(member, bench)
    assert bench.peers.calls == []
    assert unpack(await run_here(member, bench, depth=2)) == 5
    assert bench.runner.runs[-1]["depth"] == 2
    assert bench.runner.runs[-1]["caller"].name == "uid:7"
    facts, _ = unpack(await run_here(member, bench, details=True, call="c.7"))
    assert facts == {"node": "me", "version": "1.0.0", "warm": False, "call": "c.7"}
    assert bench.runner.runs[-1]["call"] == "c.7"
    for bad in (7, "a\x1fb", "x" * 65):
        await run_here(member, bench, call=bad)
        assert bench.runner.runs[-1]["call"] == ""
    with pytest.raises(NotFound):
        await run_here(member, bench, version="9.0.0")
    with pytest.raises(NotFound):
        await run_here(member, bench, digest=b"x" * 32)
    assert bench.invoker.in_flight == 0


async def test_the_method_for_callers_inside_the_controller(bench: Bench) -> None:
    caller = Caller(b"", "", Audience.LOCAL, "gateway")
    assert unpack(await bench.invoker.call("math/add", BODY, deadline=None, headers={}, caller=caller)) == 5
    with pytest.raises(DeadlineExceeded):
        await bench.invoker.call("math/add", BODY, deadline=SYSTEM.monotonic(), headers={}, caller=caller)
    assert bench.invoker.in_flight == 0
