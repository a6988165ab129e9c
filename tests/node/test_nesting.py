"""Functions that call functions, in real workers, through a real invoker: what the outermost caller is told."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from osiris_mesh.clock import SystemClock
from osiris_mesh.codec import VALUE, pack, unpack
from osiris_mesh.errors import DeadlineExceeded, FunctionError, LimitExceeded
from osiris_mesh.function.spec import FunctionSpec
from osiris_mesh.invoke.invoker import Invoker
from osiris_mesh.link import Audience, Caller, Router
from osiris_mesh.node.functions import _Runner
from osiris_mesh.settings.invoke import InvokeSettings
from tests.invoke.fakes import FakeLedger, FakePeers, until
from tests.runtime.conftest import Bench, make_runtime

_ME = Caller(b"", "", Audience.LOCAL, "")


class Mesh:
    """One node's invoker over its runtime."""

    def __init__(self, bench: Bench, router: Router) -> None:
        self.bench = bench
        self.ledger = FakeLedger()
        self.invoker = Invoker(
            me="me",
            ledger=self.ledger,
            runner=_Runner(bench.runtime),
            peers=FakePeers(),
            settings=InvokeSettings(),
            clock=SystemClock(),
            rng=random.Random(1),
        )
        self.invoker.register(router)

    def deploy(self, source: str, **limits: Any) -> None:
        self.ledger.publish(self.bench.deploy(source, **limits))

    def spec(self, name: str) -> FunctionSpec:
        found = self.ledger.active(name)
        assert found is not None
        return found

    async def call(self, name: str, *args: Any, within: float = 20.0, **headers: Any) -> Any:
        body, deadline = pack([list(args), {}]), time.monotonic() + within
        return unpack(await self.invoker.call(name, body, deadline=deadline, headers=headers, caller=_ME), VALUE)


@pytest.fixture
async def mesh(tmp_path: Path) -> AsyncIterator[Mesh]:
    router = Router()
    async with make_runtime(tmp_path, router) as runtime:
        yield Mesh(Bench(tmp_path, runtime), router)


CALLER = """
    import osiris_sdk
    def {name}(name, *args):
        return osiris_sdk.current().call(name, *args)
"""


async def test_an_exception_keeps_what_it_was_from_hop_to_hop(mesh: Mesh) -> None:
    mesh.deploy('def inner(x):\n    raise ValueError(f"no {x}")\n')
    mesh.deploy(CALLER.format(name="middle"))
    mesh.deploy(CALLER.format(name="outer"))
    with pytest.raises(FunctionError) as caught:
        await mesh.call("fn/outer", "fn/middle", "fn/inner", "luck")
    error = caught.value
    assert (error.type, error.message) == ("ValueError", "no luck")
    assert error.path == ["fn/outer", "fn/middle", "fn/inner"]
    assert error.what == "fn/outer failed: fn/inner raised ValueError: no luck"
    assert "in outer" in error.traceback
    assert {key: error.cause[key] for key in ("function", "type", "message")} == {
        "function": "fn/inner",
        "type": "ValueError",
        "message": "no luck",
    }
    assert "raise ValueError" in error.cause["traceback"]


async def test_an_error_without_end_is_told_once(mesh: Mesh) -> None:
    mesh.deploy('import osiris_sdk\ndef again():\n    return osiris_sdk.current().call("fn/again")\n', max=20)
    with pytest.raises((FunctionError, LimitExceeded)) as caught:
        await mesh.call("fn/again")
    assert isinstance(caught.value, FunctionError)
    assert caught.value.type == "osiris_mesh.errors.LimitExceeded"
    assert caught.value.what.count("raised") == 1
    assert len(caught.value.path) == 17


async def test_an_exception_raised_from_another_is_the_functions_own(mesh: Mesh) -> None:
    mesh.deploy("def inner():\n    raise ValueError('deep')\n")
    mesh.deploy(
        """
        import osiris_sdk
        def outer():
            try:
                osiris_sdk.current().call("fn/inner")
            except osiris_sdk.FunctionError as error:
                raise KeyError("mine") from error
        """
    )
    with pytest.raises(FunctionError) as caught:
        await mesh.call("fn/outer")
    assert (caught.value.type, caught.value.path, caught.value.cause) == ("KeyError", ["fn/outer"], {})


async def test_one_deadline_for_all_hops(mesh: Mesh) -> None:
    mesh.deploy("import time\ndef slow(s):\n    time.sleep(s)\n")
    mesh.deploy(CALLER.format(name="middle"))
    mesh.deploy(CALLER.format(name="outer"))
    await mesh.call("fn/outer", "fn/middle", "fn/slow", 0)  # warm
    pool = mesh.bench.runtime._pools[mesh.spec("fn/outer").digest]
    workers = set(pool.workers)
    with pytest.raises(DeadlineExceeded, match="fn/outer") as caught:
        await mesh.call("fn/outer", "fn/middle", "fn/slow", 3, within=1.5)
    assert caught.value.details["reason"] == "caller"
    assert "call --timeout" in caught.value.fix
    # It was done waiting in time: no reason to end it.
    assert set(pool.workers) == workers


async def test_the_inner_functions_own_limit_is_its_callers_exception(mesh: Mesh) -> None:
    mesh.deploy("import time\ndef slow(s):\n    time.sleep(s)\n", timeout="200ms")
    mesh.deploy(CALLER.format(name="outer"))
    with pytest.raises(FunctionError) as caught:
        await mesh.call("fn/outer", "fn/slow", 3)
    assert caught.value.type == "osiris_mesh.errors.DeadlineExceeded"
    assert "its own limit is 200ms" in caught.value.message


async def test_the_caller_hears_what_its_time_was_spent_on(mesh: Mesh) -> None:
    mesh.deploy("import time\ndef slow(s):\n    time.sleep(s)\n", max=1)
    await mesh.call("fn/slow", 0)
    first = asyncio.ensure_future(mesh.call("fn/slow", 1.5))
    await until(lambda: mesh.bench.runtime.here(mesh.spec("fn/slow")).in_flight == 1)
    with pytest.raises(DeadlineExceeded, match="no instance of fn/slow was free") as caught:
        await mesh.call("fn/slow", 0, within=0.3)
    assert "deploy --max" in caught.value.fix
    await first


async def test_lines_carry_the_id_of_their_call(mesh: Mesh) -> None:
    mesh.deploy("def inner():\n    print('two')\n")
    mesh.deploy(
        """
        import osiris_sdk
        def outer():
            print("one")
            return osiris_sdk.current().call("fn/inner")
        """
    )
    body = pack([[], {}])
    answer = await mesh.invoker.call("fn/outer", body, deadline=None, headers={"details": True}, caller=_ME)
    facts, _ = unpack(answer, VALUE)
    logs = mesh.bench.runtime.logs
    await until(lambda: logs.tail("fn/outer") and logs.tail("fn/inner"))
    (one,), (two,) = logs.tail("fn/outer"), logs.tail("fn/inner")
    assert (one.text, one.call) == ("one", facts["call"])
    assert two.text == "two"
    assert len({"", one.call, two.call}) == 3
