"""What the tests of IPFS share: blocks in a dictionary, records signed by a key at hand, gateways that misbehave."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from typing import Any, TypeVar

import cbor2
from aiohttp import web

from osiris_mesh.identity.keys import KeyPair
from osiris_mesh.registry import ipfs_protobuf as protobuf
from osiris_mesh.registry.ipfs_build import EMPTY, EMPTY_BLOCK
from osiris_mesh.registry.ipfs_cid import Cid, IpnsName
from osiris_mesh.registry.ipfs_walk import Walk

T = TypeVar("T")
DAY_MS = 86_400_000


def run(walk: Walk[T], blocks: Mapping[Cid, bytes]) -> T:
    """Go a way through blocks that are all at hand; a missing one is a KeyError."""
    try:
        wanted = next(walk)
        while True:
            wanted = walk.send([EMPTY_BLOCK if cid == EMPTY else blocks[cid] for cid in wanted])
    except StopIteration as end:
        value: T = end.value
        return value


def moment(ms: int) -> bytes:
    """Return a time as records have it."""
    return datetime.fromtimestamp(ms / 1000, UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ").encode()


def record(key: KeyPair, value: str, *, sequence: int, until_ms: int, beside: bool = False, **changes: Any) -> bytes:
    """Return a signed record of IPNS.

    Args:
        key: The name's.
        value: Where it points.
        sequence: Its number.
        until_ms: When it expires.
        beside: With the fields that only old readers look at.
        changes: Of the signed document; ``drop`` names a key to leave out.
    """
    said: dict[str, Any] = {
        "Value": value.encode(), "Validity": moment(until_ms), "ValidityType": 0, "Sequence": sequence,
        "TTL": 60_000_000_000,
    } | {name: item for name, item in changes.items() if name != "drop"}  # fmt: skip
    said.pop(changes.get("drop", ""), None)
    document = cbor2.dumps(said, canonical=True)
    data = b""
    if beside:
        data += protobuf.field(1, said["Value"]) + protobuf.field(2, b"old") + protobuf.field(3, 0)
        data += protobuf.field(4, said["Validity"]) + protobuf.field(5, sequence) + protobuf.field(6, 60_000_000_000)
    signature = key.sign_bare(b"ipns-signature:" + document)
    return data + protobuf.field(8, signature) + protobuf.field(9, document)


Answer = Callable[[web.Request], Awaitable[web.Response]]


class FakeGateway:
    """A gateway that serves what a test gives it; for how ours treats bad ones, never instead of a real one.

    Attributes:
        blocks: What it has.
        records: Records by name.
        answer: Answers instead, when set.
        asked: Paths it was asked for.
    """

    def __init__(self) -> None:
        self.blocks: dict[Cid, bytes] = {EMPTY: EMPTY_BLOCK}
        self.records: dict[IpnsName, bytes] = {}
        self.answer: Answer | None = None
        self.asked: list[str] = []
        self.url = ""

    async def handle(self, request: web.Request) -> web.Response:
        self.asked.append(request.path)
        if self.answer is not None:
            return await self.answer(request)
        kind, text = request.path.strip("/").split("/", 1)
        data = self.blocks.get(Cid.parse(text)) if kind == "ipfs" else self.records.get(IpnsName.parse(text))
        return web.Response(status=404) if data is None else web.Response(body=data)

    @asynccontextmanager
    async def serve(self) -> AsyncIterator[FakeGateway]:
        app = web.Application()
        app.router.add_get("/{path:.*}", self.handle)
        runner = web.AppRunner(app, shutdown_timeout=0.1)
        await runner.setup()
        try:
            site = web.TCPSite(runner, "127.0.0.1", 0)
            await site.start()
            self.url = f"http://127.0.0.1:{runner.addresses[0][1]}"
            yield self
        finally:
            await runner.cleanup()


async def hang(_request: web.Request) -> web.Response:
    """Never answer."""
    await asyncio.Event().wait()
    raise AssertionError
