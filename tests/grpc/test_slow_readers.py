"""Who opens a log stream and stops reading: he is cut, and his place is free again."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Any

import pytest

grpc = pytest.importorskip("grpc")

from osiris_mesh.clock import SYSTEM  # noqa: E402 - only where there is grpcio
from osiris_mesh.codec import pack  # noqa: E402
from osiris_mesh.gateway.building import Builds  # noqa: E402
from osiris_mesh.gateway.events import Bus  # noqa: E402
from osiris_mesh.gateway.grpc import osiris_pb2 as pb  # noqa: E402
from osiris_mesh.gateway.grpc.osiris_pb2_grpc import OsirisStub  # noqa: E402
from osiris_mesh.gateway.grpc.server import GrpcServer  # noqa: E402
from osiris_mesh.gateway.http.parts import Parts  # noqa: E402
from tests.http.test_limits import SETTINGS, TOKEN, Book, Calls, Node, Policy, until  # noqa: E402

LINE = {"function": "t/f", "time_ms": 1, "version": "1.0.0", "call": "", "stream": "out", "text": "x" * 60_000}


class Functions:
    """Prints without end."""

    def __init__(self) -> None:
        self.open = 0

    async def logs(self, _name: str, stream: Any, **_more: Any) -> None:
        self.open += 1
        try:
            while True:
                await stream.send(pack(LINE))
                await asyncio.sleep(0)
        finally:
            self.open -= 1


@asynccontextmanager
async def serving(write_s: float) -> AsyncIterator[tuple[GrpcServer, Functions]]:
    functions, unused = Functions(), None
    book: Any = Book()
    wrong: Any = unused
    parts = Parts(
        node=Node(),  # type: ignore[arg-type]
        book=book,
        functions=functions,  # type: ignore[arg-type]
        calls=Calls(),  # type: ignore[arg-type]
        policy=Policy(),
        events=Bus(SYSTEM),
        hooks=wrong,
        overview=wrong,
        metrics=wrong,
        trail=wrong,
        builds=Builds(1),
        in_force=dict,
        registries=wrong,
        tree=wrong,
        settings=replace(SETTINGS, write_s=write_s, streams_per_bearer=1),
        clock=SYSTEM,
    )
    server = GrpcServer(parts, "127.0.0.1:0")
    await server.start()
    try:
        yield server, functions
    finally:
        await server.close()


def follow(channel: Any) -> Any:
    stub: Any = OsirisStub
    return stub(channel).StreamLogs(
        pb.LogsRequest(follow=True), metadata=(("authorization", f"Bearer {TOKEN}"),), timeout=60
    )


async def _read_on(stream: Any) -> None:
    async with asyncio.timeout(15):
        while await stream.read() is not grpc.aio.EOF:
            pass


async def test_who_stops_reading_loses_his_place() -> None:
    async with serving(0.3) as (server, functions), grpc.aio.insecure_channel(server.address) as channel:
        stream = follow(channel)
        assert len((await stream.read()).text) == 60_000
        assert functions.open == 1
        await until(lambda: functions.open == 0)
        assert server._parts.watch.holds == 0
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await _read_on(stream)
        assert caught.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
        # The one place of this bearer is free.
        other = follow(channel)
        assert len((await other.read()).text) == 60_000
        other.cancel()
        await until(lambda: functions.open == 0)


async def test_who_reads_slowly_is_served() -> None:
    async with serving(20.0) as (server, _), grpc.aio.insecure_channel(server.address) as channel:
        stream = follow(channel)
        for _ in range(300):
            assert len((await stream.read()).text) == 60_000
        stream.cancel()
