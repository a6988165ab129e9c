"""Functions that call functions: what the outer call may reach is what the inner ones may, whatever they say."""

from __future__ import annotations

import random
from collections.abc import Mapping
from typing import Any

import pytest

from osiris_mesh.clock import SYSTEM
from osiris_mesh.codec import pack, unpack
from osiris_mesh.errors import Denied, Unavailable, UsageError
from osiris_mesh.invoke.choice import Candidate
from osiris_mesh.invoke.contexts import Contexts
from osiris_mesh.invoke.invoker import Invoker
from osiris_mesh.ledger.permissions import EVERYTHING, Grants
from osiris_mesh.ledger.principal import Principal
from osiris_mesh.link import Audience, Caller, Request
from osiris_mesh.settings.invoke import InvokeSettings
from tests.invoke.fakes import FakeLedger, FakePeers, FakeRunner, spec

LOCAL, MEMBER, CLIENT, FUNCTION = (
    Caller(b"k" * 32, "peer", audience, "instance")
    for audience in (Audience.LOCAL, Audience.MEMBER, Audience.CLIENT, Audience.FUNCTION)
)


class Node:
    """An invoker whose function ``a/relay`` calls another, as an instance that serves that one call.

    Attributes:
        mesh: The setting of the mesh.
        grants: What a client holds.
        said: Headers that ``a/relay`` gives its own call.
        serves: Contexts of the calls the instance serves.
    """

    def __init__(self) -> None:
        self.mesh = ""
        self.grants = EVERYTHING
        self.said: dict[str, Any] = {}
        self.serves: list[str] = []
        self.runner = FakeRunner({"a/relay": self.relay, "a/end": lambda: "a", "b/end": lambda: "b"})
        self.peers = FakePeers()
        self.invoker = Invoker(
            me="me",
            ledger=FakeLedger(spec("a/relay"), spec("a/end"), spec("b/end")),
            runner=self.runner,
            peers=self.peers,
            settings=InvokeSettings(),
            clock=SYSTEM,
            rng=random.Random(1),
            contexts=Contexts(
                principal=lambda _: Principal("user", "ann", grants=self.grants),
                mesh=lambda: self.mesh,
                serving=lambda _: self.serves,
            ),
        )

    async def relay(self, name: str) -> Any:
        self.serves.append(self.runner.runs[-1].get("context", ""))
        try:
            return await self.call(name, caller=FUNCTION, **self.said)
        finally:
            self.serves.pop()

    async def call(self, name: str, *args: Any, caller: Caller = LOCAL, **headers: Any) -> Any:
        body = pack([list(args), {}])
        return unpack(await self.invoker.call(name, body, deadline=None, headers=headers, caller=caller))

    async def run_here(self, name: str, *args: Any, headers: Mapping[str, Any]) -> Any:
        """Have ``call.run`` served, as another node would ask for it."""
        one = spec(name)
        told = {"name": name, "version": one.version, "digest": one.digest, "caller": "ann", **headers}
        request = Request("call.run", pack([list(args), {}]), told, None, MEMBER)
        return unpack(await self.invoker.run_here(request))


@pytest.fixture
def node() -> Node:
    return Node()


async def test_without_limits_nothing_goes_on(node: Node) -> None:
    for caller in (LOCAL, MEMBER, CLIENT):
        assert await node.call("a/relay", "b/end", caller=caller) == "b"
    assert not any("context" in run for run in node.runner.runs)


async def test_a_clients_patterns_hold_for_what_it_calls_calls(node: Node) -> None:
    node.grants = Grants(["function.call:a/*"])
    assert await node.call("a/relay", "a/end", caller=CLIENT) == "a"
    for said in ({}, {"context": "full"}, {"context": "full; functions=**"}):
        node.said = said
        with pytest.raises(Denied, match="b/end fits no pattern") as caught:
            await node.call("a/relay", "b/end", caller=CLIENT)
        assert caught.value.details["rule"] == "functions"
    with pytest.raises(Denied):
        await node.call("b/end", caller=CLIENT)
    assert node.invoker.in_flight == 0


@pytest.mark.parametrize("level", ["pure", "controlled", "full"])
async def test_a_level_limits_no_function_of_this_mesh_and_goes_on(node: Node, level: str) -> None:
    assert await node.call("a/relay", "b/end", context=level) == "b"
    assert [run.get("context", "full") for run in node.runner.runs] == [level] * 2


async def test_a_header_narrows_and_so_does_the_functions_own(node: Node) -> None:
    assert await node.call("a/relay", "a/end", context="full; functions=a/*") == "a"
    with pytest.raises(Denied):
        await node.call("a/relay", "b/end", context="full; functions=a/*")
    node.said = {"context": "full; functions=b/*"}
    with pytest.raises(Denied):
        await node.call("a/relay", "a/end", context="full; functions=a/*")
    with pytest.raises(Denied):
        await node.call("a/relay", "b/end", context="full; functions=a/*")
    with pytest.raises(UsageError):
        await node.call("a/end", context="everything")


async def test_the_mesh_limits_everybody(node: Node) -> None:
    node.mesh = "full; functions=a/*"
    assert await node.call("a/relay", "a/end") == "a"
    for caller in (LOCAL, MEMBER, CLIENT):
        with pytest.raises(Denied):
            await node.call("b/end", caller=caller)


async def test_what_works_on_no_call_calls_nothing(node: Node) -> None:
    with pytest.raises(Denied, match="works on no call"):
        await node.call("a/end", caller=FUNCTION)
    assert node.runner.runs == []


async def test_another_node_is_told(node: Node) -> None:
    node.runner.had.in_flight = 1
    node.peers.nodes = [Candidate("other", instances=1, in_flight=0, queued=0, cpu=0.0, room=True)]
    node.peers.answers["other"] = pack("a")
    assert await node.call("a/end", context="full; functions=a/*") == "a"
    (asked,) = node.peers.calls
    assert asked[2]["context"] == "full; functions=a/*"


async def test_a_call_of_another_node_is_kept_to_what_came_with_it(node: Node) -> None:
    assert await node.run_here("a/relay", "b/end", headers={}) == "b"
    assert await node.run_here("a/relay", "a/end", headers={"context": "full; functions=a/*"}) == "a"
    with pytest.raises(Denied):
        await node.run_here("a/relay", "b/end", headers={"context": "full; functions=a/*"})


@pytest.mark.parametrize("context", [1, b"full", None, "everything", "full; " + "functions=a/*," * 1000])
async def test_a_call_of_another_node_with_what_is_no_context_does_not_run(node: Node, context: Any) -> None:
    with pytest.raises(UsageError):
        await node.run_here("a/end", headers={"context": context})
    assert node.runner.runs == []
    assert node.invoker.in_flight == 0


async def test_a_call_that_is_repeated_elsewhere_takes_its_context_along(node: Node) -> None:
    node.runner.before = [Unavailable("gone", maybe=False)]
    node.peers.nodes = [Candidate("other", instances=1, in_flight=0, queued=0, cpu=0.0, room=True)]
    node.peers.answers["other"] = pack("a")
    assert await node.call("a/end", context="pure") == "a"
    assert node.peers.calls[0][2]["context"] == "pure"
