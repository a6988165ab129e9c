"""Many gateways, some slow, some down, some lying: what holds is what counts."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack

import aiohttp
import pytest
from aiohttp import web

from osiris_mesh.clock import SYSTEM
from osiris_mesh.errors import Unavailable, UsageError
from osiris_mesh.identity.keys import KeyPair
from osiris_mesh.registry.ipfs_build import EMPTY
from osiris_mesh.registry.ipfs_cid import RAW, Cid, IpnsName
from osiris_mesh.registry.ipfs_gateway import Gateway, Sources, checked_url
from osiris_mesh.registry.ipfs_unixfs import MAX_BLOCK
from tests.registry.ipfs.kit import DAY_MS, FakeGateway, hang, record

DATA = b"hello world"
CID = Cid.of(RAW, DATA)
KEY = KeyPair(b"g" * 32)
NAME = IpnsName(KEY.public)


class World:
    """Some gateways and who asks them."""

    def __init__(self, session: aiohttp.ClientSession, gateways: list[FakeGateway]) -> None:
        self.gateways = gateways
        self.sources = Sources([Gateway(session, gateway.url) for gateway in gateways], SYSTEM)


@pytest.fixture
async def world() -> AsyncIterator[World]:
    async with AsyncExitStack() as stack:
        gateways = [await stack.enter_async_context(FakeGateway().serve()) for _ in range(3)]
        session = await stack.enter_async_context(aiohttp.ClientSession())
        yield World(session, gateways)


def answering(status: int = 200, body: bytes = b"", **headers: str) -> object:
    async def answer(_request: web.Request) -> web.Response:
        return web.Response(
            status=status, body=body, headers={name.replace("_", "-"): text for name, text in headers.items()}
        )

    return answer


BAD = {
    "other bytes": answering(body=b"other"),
    "nothing": answering(),
    "too much": answering(body=bytes(MAX_BLOCK + 1)),
    "not found": answering(404),
    "broken": answering(500, b"x" * 10_000),
    "elsewhere": answering(302, location="http://127.0.0.1:1/"),
    "hanging": hang,
}


@pytest.mark.parametrize("bad", BAD)
async def test_a_bad_gateway_keeps_nobody_from_a_block(world: World, bad: str) -> None:
    world.gateways[0].answer = BAD[bad]  # type: ignore[assignment]
    world.gateways[2].blocks[CID] = DATA
    async with asyncio.timeout(5):
        assert await world.sources.block(CID) == DATA
    # It is asked last from now on: not at all where another one answers at once.
    asked = len(world.gateways[0].asked)
    async with asyncio.timeout(5):
        assert await world.sources.block(CID) == DATA
    if bad != "hanging":
        assert len(world.gateways[0].asked) == asked


async def test_when_nobody_has_a_block_it_is_said_what_each_said(world: World) -> None:
    world.gateways[1].answer = BAD["other bytes"]  # type: ignore[assignment]
    world.gateways[2].answer = BAD["elsewhere"]  # type: ignore[assignment]
    with pytest.raises(Unavailable) as raised:
        await world.sources.block(CID)
    for words in ("answered 404", "other bytes", "answered 302", "trustless"):
        assert words in raised.value.what
    assert await world.sources.block(Cid(1, RAW, b"inline", inline=True)) == b"inline"


async def test_of_all_records_the_newest_that_holds_counts(world: World) -> None:
    now = SYSTEM.time_ms()
    for gateway, (sequence, until) in zip(
        world.gateways, ((4, now + DAY_MS), (6, now + DAY_MS), (9, now - 1)), strict=True
    ):
        gateway.records[NAME] = record(KEY, f"/ipfs/{EMPTY}", sequence=sequence, until_ms=until)
    assert (await world.sources.record(NAME)).sequence == 6
    world.gateways[1].records[NAME] = record(KeyPair(b"x" * 32), f"/ipfs/{EMPTY}", sequence=99, until_ms=now + DAY_MS)
    assert (await world.sources.record(NAME)).sequence == 4
    longer = record(KEY, f"/ipfs/{CID}", sequence=4, until_ms=now + 2 * DAY_MS)
    world.gateways[1].records[NAME] = longer
    assert (await world.sources.record(NAME)).value == f"/ipfs/{CID}"
    world.gateways[0].answer = hang
    async with asyncio.timeout(5):
        assert (await world.sources.record(NAME)).value == f"/ipfs/{CID}"


async def test_no_record_is_told_from_nobody_there(world: World) -> None:
    with pytest.raises(Unavailable) as raised:
        await world.sources.record(NAME)
    assert raised.value.details["absent"] is True
    world.gateways[0].records[NAME] = record(KEY, "/ipfs/x", sequence=1, until_ms=SYSTEM.time_ms() - 1)
    with pytest.raises(Unavailable, match="expired") as raised:
        await world.sources.record(NAME)
    assert raised.value.details["absent"] is False
    async with aiohttp.ClientSession() as session:
        down = Sources([Gateway(session, "http://127.0.0.1:1")], SYSTEM)
        with pytest.raises(Unavailable) as raised:
            await down.record(NAME)
        assert raised.value.details["absent"] is False


@pytest.mark.parametrize(
    "url",
    [
        "",
        "x",
        "ftp://a",
        "http://",
        "file:///x",
        "http://a b",
        "http://u@h",
        "http://h/?x",
        "http://h#x",
        "http://" + "a" * 600,
    ],
)
def test_what_is_no_gateway(url: str) -> None:
    with pytest.raises(UsageError):
        checked_url(url)
