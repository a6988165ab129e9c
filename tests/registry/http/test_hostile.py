"""Hosts that are slow, endless, lie, or lead elsewhere."""

from __future__ import annotations

import asyncio
import gzip
from collections.abc import Awaitable, Callable

import pytest
from aiohttp import web
from aiohttp.web_request import BaseRequest

from osiris_mesh.errors import Denied, Unavailable
from osiris_mesh.registry.listing import digest_of, write_index
from osiris_mesh.registry.tree import MAX_FILE
from tests.registry.conformance import ADD, CONTENT, HEAD, SHARPEN, read, writing
from tests.registry.http.conftest import Make
from tests.registry.http.hosts import StaticHost, saying, serving

Talk = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


async def silent(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await asyncio.Event().wait()


async def dripping(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 1000000\r\n\r\n")
    while True:
        writer.write(b"x")
        await writer.drain()
        await asyncio.sleep(0.01)


async def endless(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    writer.write(b"HTTP/1.1 200 OK\r\n\r\n")
    while True:
        writer.write(b"x" * 65_536)
        await writer.drain()


async def endless_head(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    writer.write(b"HTTP/1.1 200 OK\r\n")
    while True:
        writer.write(b"X-Y: " + b"z" * 4000 + b"\r\n")
        await writer.drain()


def once(data: bytes) -> Talk:
    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(data)
        await writer.drain()

    return talk


SAYS = {
    "silent": (silent, "within"),
    "dripping": (dripping, "within"),
    "endless": (endless, "more than"),
    "endless_head": (endless_head, "can't be read"),
    "nothing": (once(b""), "can't be read"),
    "no_http": (once(b"SSH-2.0-OpenSSH_9\r\n"), "can't be read"),
    "too_short": (once(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nabc"), "can't be read"),
    "too_large": (once(b"HTTP/1.1 200 OK\r\nContent-Length: 999999999999\r\n\r\n"), "more than"),
    "no_length": (once(b"HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\n"), "can't be read"),
    "bad_chunk": (once(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n"), "can't be read"),
    "broken": (once(b"HTTP/1.1 500 Oh\r\nContent-Length: 13\r\n\r\ncore\x1b[1m dump"), "answers 500: core"),
    "not_changed": (once(b"HTTP/1.1 304 Not Modified\r\n\r\n"), "answers 304"),
}


@pytest.mark.parametrize("kind", SAYS)
async def test_what_a_host_says_ends_in_time_and_is_told(trees: Make, kind: str) -> None:
    talk, match = SAYS[kind]
    async with saying(talk) as address:
        tree = trees(address, seconds=0.3, index_s=0.3)
        async with asyncio.timeout(5):
            with pytest.raises(Unavailable, match=match) as caught:
                await tree._fetch.get(ADD, "", most=MAX_FILE, seconds=0.3)
            with pytest.raises(Unavailable):
                await tree.refresh()
    assert "\x1b" not in str(caught.value)


async def test_nobody_listens(trees: Make) -> None:
    async with saying(silent) as address:
        pass
    with pytest.raises(Unavailable, match="can't be reached") as caught:
        await trees(address).publish(writing({ADD: b"1\n"}), "x")
    assert caught.value.details["maybe"] is False


async def test_a_zip_bomb_is_not_opened(trees: Make) -> None:
    bomb = gzip.compress(b"\0" * (64 << 20))

    async def handler(request: BaseRequest) -> web.Response:
        assert request.headers["Accept-Encoding"] == "identity"
        return web.Response(body=bomb, headers={"Content-Encoding": "gzip"})

    async with serving(handler) as address:
        with pytest.raises(Unavailable, match="sent as gzip"):
            await trees(address).refresh()


@pytest.mark.parametrize(
    "index",
    [
        b"", b"<html>", b"[]", b"{}", b'{"files":{},"format":"osiris-registry-index/2"}',
        b'{"files":{"config.json":"x"},"format":"osiris-registry-index/1"}',
        b'{"files":{"config.json":7},"format":"osiris-registry-index/1"}',
        b"[" * 100_000, b'{"files":' * 100_000,
    ],
)  # fmt: skip
async def test_an_index_that_is_none(trees: Make, index: bytes) -> None:
    host = StaticHost({**CONTENT, "index.json": index})
    async with serving(host) as address:
        with pytest.raises(Unavailable, match="not an index"):
            await trees(address + "/some/place").refresh()


async def test_files_that_lead_elsewhere_are_never_asked_for(trees: Make) -> None:
    strange = [
        "../secret",
        "/etc/passwd",
        "ns/../config.json",
        "NS/_/a/b.jsonl",
        "ns/_/a/../b.jsonl",
        "ns/_/a/b c.jsonl",
    ]
    host = StaticHost({"index.json": write_index([(path, digest_of(b"")) for path in [*strange, "config.json"]])})
    async with serving(host) as address:
        tree = trees(address + "/some/place")
        assert await tree.paths() == ["config.json"]
        for path in strange:
            assert await tree.read(path) is None
    assert [path for path, _ in host.asked] == ["index.json"]


async def test_a_file_that_is_not_what_the_index_says(trees: Make) -> None:
    host = StaticHost({ADD: b"forged\n", "index.json": write_index([(ADD, digest_of(b"right\n")), (HEAD, "0" * 64)])})
    async with serving(host) as address:
        tree = trees(address + "/some/place")
        for path in (ADD, HEAD):
            with pytest.raises(Unavailable, match="not what its index says"):
                await tree.read(path)
    assert len(host.asked) < 20


@pytest.mark.parametrize(
    "location",
    ["http://127.0.0.1:1/x", "//elsewhere.example/x", "https://localhost/x", "file:///etc/passwd", "", "http://["],
)
async def test_it_does_not_follow_to_another_host(trees: Make, location: str) -> None:
    async def handler(request: BaseRequest) -> web.Response:
        return web.Response(status=302, headers={"Location": location})

    async with serving(handler) as address:
        with pytest.raises(Unavailable, match="another host"):
            await trees(address, token="secret").refresh()


async def test_it_follows_on_the_same_host_but_not_for_ever(trees: Make) -> None:
    host = StaticHost(CONTENT)

    async def handler(request: BaseRequest) -> web.StreamResponse:
        if request.path.startswith("/some/place/"):
            return await host(request)
        if request.path.startswith("/old/"):
            return web.Response(status=308, headers={"Location": request.raw_path.replace("/old/", "/some/place/")})
        return web.Response(status=302, headers={"Location": request.raw_path})

    async with serving(handler) as address:
        assert await read(trees(address + "/old"), SHARPEN) == CONTENT[SHARPEN]
        with pytest.raises(Unavailable, match="leads elsewhere"):
            await trees(address + "/round").refresh()


async def test_a_publication_is_not_sent_on(trees: Make) -> None:
    asked = []

    async def handler(request: BaseRequest) -> web.Response:
        asked.append((request.method, request.path))
        if request.method == "PUT":
            return web.Response(status=307, headers={"Location": "/elsewhere"})
        return web.Response(status=404)

    async with serving(handler) as address:
        with pytest.raises(Unavailable, match="answers 307"):
            await trees(address + "/tree").publish(writing({ADD: b"1\n"}), "x")
    assert ("PUT", "/elsewhere") not in asked


@pytest.mark.parametrize("status", [401, 403, 429, 503])
async def test_a_refusal_is_not_taken_for_not_found(trees: Make, status: int) -> None:
    async def handler(request: BaseRequest) -> web.Response:
        return web.Response(status=status)

    async with serving(handler) as address:
        with pytest.raises(Unavailable, match=str(status)):
            await trees(address).read(ADD)


@pytest.mark.parametrize("answer", [b"", b"{}", b"[1]", b'{"tag":1}', b"x" * 70_000])
async def test_a_controller_that_answers_nonsense_to_a_publication(trees: Make, answer: bytes) -> None:
    async def handler(request: BaseRequest) -> web.Response:
        return web.Response(body=answer) if request.method == "PUT" else web.Response(status=404)

    async with serving(handler) as address:
        with pytest.raises(Unavailable) as caught:
            await trees(address).publish(writing({ADD: b"1\n"}), "x")
    assert "maybe" in caught.value.details


async def test_an_error_that_is_no_error_of_ours(trees: Make) -> None:
    async def handler(request: BaseRequest) -> web.Response:
        if request.method != "PUT":
            return web.Response(status=404)
        return web.Response(status=403, body=b'{"code":"denied","detail":"' + b"no" * 20_000 + b'"}')

    async with serving(handler) as address:
        with pytest.raises(Denied) as caught:
            await trees(address).publish(writing({ADD: b"1\n"}), "x")
    assert len(str(caught.value)) < 20_000
