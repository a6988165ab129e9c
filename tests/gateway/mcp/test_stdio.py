"""The package's own client starts ``osiris-mesh mcp`` and talks to a real controller through it."""

from __future__ import annotations

import asyncio
import io
import json
import os
import sys

import mcp_types
import pytest
from mcp import Client, StdioServerParameters
from mcp.client.subscriptions import ToolsListChanged

from osiris_mesh.errors import NotFound
from osiris_mesh.function.signature import Parameter, Signature
from osiris_mesh.gateway.mcp.server import Server
from osiris_mesh.gateway.mcp.stdio import Stdio
from osiris_mesh.gateway.mcp.tools import Described
from tests.system.harness import ENVIRONMENT


def connect(face, *words, mode="auto", **more):
    return Client(
        StdioServerParameters(
            command=sys.executable,
            args=["-m", "osiris_mesh_cli", "mcp", *words],
            env=ENVIRONMENT | {"OSIRIS_HOME": str(face.home)},
        ),
        mode=mode,
        **more,
    )


@pytest.mark.system
@pytest.mark.parametrize("mode", ["auto", "legacy"])
async def test_list_and_call(face, mode):
    async with connect(face, mode=mode) as client:
        assert client.protocol_version == ("2025-11-25" if mode == "legacy" else "2026-07-28")
        tools = {tool.name: tool for tool in (await client.list_tools()).tools}
        assert tools["t__add"].input_schema["required"] == ["a"]
        assert (await client.call_tool("t__add", {"a": 2, "b": 3})).structured_content == {"result": 5}
        failed = await client.call_tool("t__fail", {"text": "broken"})
        assert failed.is_error
        assert "ValueError" in failed.content[0].text


@pytest.mark.system
async def test_a_context_limits_what_there_is(face):
    async with connect(face, "--context", "controlled; functions=t/add") as client:
        assert [tool.name for tool in (await client.list_tools()).tools] == ["t__add"]
        refused = await client.call_tool("t__echo", {"value": 1}, meta={"osiris-mesh/context": "full"})
        assert refused.meta["osiris-mesh/error"]["details"]["rule"] == "functions"


@pytest.mark.system
async def test_changes_are_told_in_both_eras(face):
    heard = asyncio.Event()

    async def handler(message):
        if isinstance(message, mcp_types.ToolListChangedNotification):
            heard.set()

    async with (
        connect(face) as modern,
        connect(face, mode="legacy", message_handler=handler) as legacy,
        modern.listen(tools_list_changed=True) as events,
    ):
        await legacy.list_tools()
        await legacy.call_tool("t__add", {"a": 1})
        async with asyncio.timeout(30):
            number = 0
            while not heard.is_set():
                number += 1
                source = f"def told(x: int) -> int:\n    return x + {number}\n"
                await asyncio.to_thread(face.post, "/v1/functions", {"source": source, "name": "told/stdio"})
                try:
                    await asyncio.wait_for(heard.wait(), 3)
                except TimeoutError:
                    continue
            assert isinstance(await anext(aiter(events)), ToolsListChanged)


class Reached:
    """A mesh of one function that waits until it is let go."""

    def __init__(self):
        self.begun = asyncio.Event()
        self.cancelled = asyncio.Event()
        signature = Signature((Parameter("x", 1, False, "int"),), "int", "wait")  # noqa: FBT003 - the field's place
        self.described = Described("t/wait", "1.0.0", b"d" * 32, "", signature)

    async def functions(self):
        return [self.described]

    async def find(self, name):
        if name != "t/wait":
            raise NotFound("nothing")
        return self.described

    async def call(self, described, args, kwargs, context):
        self.begun.set()
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            self.cancelled.set()
            raise

    async def changes(self):
        if False:
            yield


def line(**parts):
    return json.dumps({"jsonrpc": "2.0", **parts}).encode() + b"\n"


async def test_a_call_is_cancelled_by_its_id_and_rubbish_does_no_harm():
    reach = Reached()
    read_end, write_end = os.pipe()
    sink = io.BytesIO()
    with os.fdopen(read_end, "rb") as source, os.fdopen(write_end, "wb", buffering=0) as client:
        running = asyncio.ensure_future(Stdio(Server(reach), source, sink).run())
        client.write(b"rubbish\n\n")
        client.write(line(id=1, method="tools/call", params={"name": "t__wait", "arguments": {"x": 1}}))
        async with asyncio.timeout(10):
            await reach.begun.wait()
            client.write(line(id=1, method="ping"))
            client.write(line(method="notifications/cancelled", params={"requestId": 1}))
            await reach.cancelled.wait()
            client.write(line(id=2, method="nonsense"))
            while b'"id":2' not in sink.getvalue():
                await asyncio.sleep(0.01)
            client.close()
            await running
    answers = [json.loads(each) for each in sink.getvalue().splitlines()]
    assert [answer["error"]["code"] for answer in answers] == [-32700, -32600, -32601]


async def test_the_end_of_input_ends_what_is_under_way():
    reach = Reached()
    call = line(id=1, method="tools/call", params={"name": "t__wait", "arguments": {"x": 1}})
    read_end, write_end = os.pipe()
    with os.fdopen(read_end, "rb") as source, os.fdopen(write_end, "wb", buffering=0) as client:
        running = asyncio.ensure_future(Stdio(Server(reach), source, io.BytesIO()).run())
        client.write(call)
        async with asyncio.timeout(10):
            await reach.begun.wait()
            client.close()
            await running
    assert reach.cancelled.is_set()
