"""Which security contexts an instance works in: of every call it has, from its start to its answer."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from osiris_mesh.codec import pack, unpack
from osiris_mesh.link import Audience, Caller, Request, Router
from osiris_mesh.runtime import Runtime
from tests.runtime.conftest import Bench, make_runtime

CALLS = """
    import threading
    from osiris_sdk.inside import _current
    def f(text):
        link = _current.get().link
        def later():
            while link.call("call", b"later", timeout=20) != b"done":
                pass
        if text == "leave":
            threading.Thread(target=later, daemon=True).start()
            return text
        return [text, link.call("call", text.encode(), timeout=20).decode()]
"""
NOBODY = Caller(b"", "", Audience.FUNCTION, "nobody")


class Asked:
    """What functions asked, and what their instances worked on then.

    Attributes:
        serving: By what was asked: the contexts, ascending.
        callers: Who asked.
        idle: Set once somebody asked who worked on nothing.
        goes_on: What those wait for who ask to ``wait``.
    """

    def __init__(self) -> None:
        self.runtime: Runtime | None = None
        self.serving: dict[str, list[str]] = {}
        self.callers: list[Caller] = []
        self.idle = asyncio.Event()
        self.goes_on = asyncio.Event()
        self.waiting = asyncio.Event()
        self.router = Router()
        self.router.unary("call", self.call, allow=Audience.FUNCTION)

    async def call(self, request: Request) -> bytes:
        assert self.runtime is not None
        text = request.body.decode()
        self.callers.append(request.caller)
        found = self.runtime.serving(request.caller)
        self.serving[text] = sorted(found)
        if text == "wait":
            self.waiting.set()
            await self.goes_on.wait()
        if text == "later" and not found:
            self.idle.set()
        return b"done" if self.idle.is_set() else b"more"


@pytest.fixture
async def asked() -> Asked:
    return Asked()


async def run(runtime: Runtime, spec, text: str, context: str | None):
    headers = {"call": "c"} if context is None else {"call": "c", "context": context}
    return unpack(await runtime.run(spec, pack([[text], {}]), deadline=None, headers=headers))


async def test_an_instance_is_in_the_context_of_its_call_until_that_is_answered(tmp_path: Path, asked: Asked) -> None:
    async with make_runtime(tmp_path, asked.router) as runtime:
        asked.runtime = runtime
        spec = Bench(tmp_path, runtime).deploy(CALLS, max=1)
        for text, context in (("one", "pure"), ("two", None), ("three", "")):
            await run(runtime, spec, text, context)
            assert asked.serving[text] == [context or ""]
            assert list(runtime.serving(asked.callers[-1])) == []
        assert runtime.serving(NOBODY) == ()
    assert runtime.serving(asked.callers[-1]) == ()


async def test_calls_side_by_side_count_all_and_one_given_up_as_well(tmp_path: Path, asked: Asked) -> None:
    async with make_runtime(tmp_path, asked.router) as runtime:
        asked.runtime = runtime
        spec = Bench(tmp_path, runtime).deploy(CALLS, max=1, concurrency=2)
        slow = asyncio.create_task(run(runtime, spec, "wait", "controlled"))
        await asyncio.wait_for(asked.waiting.wait(), 20)
        await run(runtime, spec, "beside", "pure")
        assert asked.serving["beside"] == ["controlled", "pure"]
        last = asyncio.create_task(run(runtime, spec, "wait", ""))
        asked.waiting.clear()
        await asyncio.wait_for(asked.waiting.wait(), 20)
        slow.cancel()
        await asyncio.wait([slow])
        # The function still works on it, and may call.
        assert sorted(runtime.serving(asked.callers[-1])) == ["", "controlled"]
        asked.goes_on.set()
        assert await last == ["wait", "more"]


async def test_what_outlives_its_call_is_in_nobodys_name(tmp_path: Path, asked: Asked) -> None:
    async with make_runtime(tmp_path, asked.router) as runtime:
        asked.runtime = runtime
        spec = Bench(tmp_path, runtime).deploy(CALLS, max=1)
        assert await run(runtime, spec, "leave", "full; functions=a/*") == "leave"
        await asyncio.wait_for(asked.idle.wait(), 20)


async def test_the_tests_of_a_deployment_are_in_the_context_given(tmp_path: Path, asked: Asked) -> None:
    tests = """
    # /// script
    # [[tool.osiris.function.test]]
    # args = ["tested"]
    # expect = ["tested", "more"]
    # ///
    """
    async with make_runtime(tmp_path, asked.router) as runtime:
        asked.runtime = runtime
        digest = Bench(tmp_path, runtime).deploy(tests + CALLS).digest
        assert (await runtime.run_tests(digest)).ok
        assert asked.serving["tested"] == [""]
        assert (await runtime.run_tests(digest, "full; functions=a/*")).ok
        assert asked.serving["tested"] == ["full; functions=a/*"]
