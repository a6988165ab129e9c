"""The SDK for asyncio against a controller on a real Unix socket."""

from __future__ import annotations

import asyncio
import inspect
import os
from collections.abc import AsyncIterator
from hashlib import sha256
from pathlib import Path

import pytest

from osiris_sdk import (
    AsyncCalls,
    AsyncMesh,
    Calls,
    DeadlineExceeded,
    FunctionError,
    Mesh,
    NotFound,
    Overloaded,
    Unavailable,
    UsageError,
)
from osiris_sdk.registry import AsyncRegistry, Registry
from tests.sdk.nodes import Node


@pytest.fixture
async def amesh(node: Node) -> AsyncIterator[AsyncMesh]:
    async with await AsyncMesh.connect(home=node.home.path) as mesh:
        yield mesh


def test_both_offer_the_same() -> None:
    def public(kind: type) -> set[str]:
        return {name for name in vars(kind) if not name.startswith("_")}

    assert public(Calls) == public(AsyncCalls)
    assert public(Mesh) == public(AsyncMesh)
    assert public(Registry) == public(AsyncRegistry)
    for ours, theirs in ((Calls, AsyncCalls), (Mesh, AsyncMesh), (Registry, AsyncRegistry)):
        for name in public(ours):
            if isinstance(getattr(ours, name), property):
                assert isinstance(getattr(theirs, name), property), name
                continue
            one, other = inspect.signature(getattr(ours, name)), inspect.signature(getattr(theirs, name))
            assert list(one.parameters.values()) == list(other.parameters.values()), name


async def test_calls(amesh: AsyncMesh) -> None:
    assert await amesh.call("math/add", 2, b=3) == 5
    assert await amesh.call_function("math/add", 2) == 3
    assert await amesh.options(version="1").call("math/add", 2) == 3
    with pytest.raises(TypeError, match="missing 1 required"):
        await amesh.call("math/add")
    with pytest.raises(FunctionError):
        await amesh.call("math/fail")
    with pytest.raises(NotFound):
        await amesh.call("math/none")
    value, facts = await amesh.detailed("math/add", [1])
    assert (value, facts["node"]) == (2, "me")
    assert (await amesh.resolve("math/add")).version == "1.0.0"


async def test_a_function_as_a_callable(amesh: AsyncMesh) -> None:
    add = await amesh.function("math/add")
    assert await add(2, 3) == 5
    assert str(inspect.signature(add)) == "(a: 'int', b: 'int' = Ellipsis)"


async def test_many_at_once(amesh: AsyncMesh) -> None:
    answers = await asyncio.gather(*(amesh.call("math/add", number) for number in range(200)))
    assert answers == list(range(1, 201))


async def test_a_timeout(node: Node, amesh: AsyncMesh) -> None:
    held = asyncio.Event()
    node.publish("slow/f", held.wait)
    with pytest.raises(DeadlineExceeded):
        await amesh.options(timeout=0.1).call("slow/f")


async def test_map(amesh: AsyncMesh) -> None:
    assert [item async for item in amesh.map("math/add", range(100), concurrency=8)] == list(range(1, 101))
    assert [item async for item in amesh.map("math/add", [])] == []
    with pytest.raises(UsageError):
        await anext(amesh.map("math/add", [1], concurrency=0))
    results = amesh.map("math/add", [1, "x", 3])
    assert await anext(results) == 2
    with pytest.raises(TypeError):
        await anext(results)


async def test_requests_upload_and_logs(amesh: AsyncMesh) -> None:
    assert [item["name"] for item in await amesh.list()] == ["math/add", "math/fail"]
    assert await amesh.describe("math/add") == {"name": "math/add"}
    with pytest.raises(Overloaded):
        await amesh.request("refuse")
    data = os.urandom(1_500_000)
    assert await amesh.upload(data) == sha256(data).digest()
    assert [line["text"] async for line in amesh.logs("math/add", tail=2)] == ["line 0", "line 1"]


async def test_a_restarted_controller_is_found_again(node: Node, amesh: AsyncMesh) -> None:
    assert await amesh.call("math/add", 1) == 2
    await asyncio.to_thread(node.stop)
    with pytest.raises(Unavailable) as caught:
        await amesh.call("math/add", 1)
    assert caught.value.details["maybe"] is False
    await asyncio.to_thread(node.start)
    assert await amesh.call("math/add", 1) == 2


async def test_closed_is_closed(node: Node) -> None:
    mesh = await AsyncMesh.connect(home=node.home.path)
    assert await mesh.call("math/add", 1) == 2
    await mesh.close()
    with pytest.raises(Unavailable):
        await mesh.call("math/add", 1)


async def test_no_controller(tmp_path: Path) -> None:
    with pytest.raises(Unavailable) as caught:
        await AsyncMesh.connect(home=tmp_path)
    assert caught.value.fix == "start it with: osiris-mesh start"
