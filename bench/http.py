"""A call over HTTP beside a bare aiohttp echo: keep-alive connections, raw sockets, every answer checked.

Both servers are processes of their own with uvloop; the client is the same for both and takes part in neither. Rounds
are interleaved, so that what else the machine does meets both. One by one, the function is deployed as it comes; for 64
connections at a time it is deployed to work on 64 calls at a time, as an author would who expects them.
"""

from __future__ import annotations

import asyncio
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import cast

import msgpack
import uvloop

from bench._nodes import nodes

BATCH = 20
ROUNDS = 10
WIDE = 64
ECHO = """
import asyncio, sys
import uvloop
from aiohttp import web

async def echo(request):
    return web.Response(body=await request.read(), content_type=request.content_type)

async def main():
    app = web.Application()
    app.router.add_post("/v1/call/{namespace}/{name}", echo)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    print(site._server.sockets[0].getsockname()[1], flush=True)
    await asyncio.Event().wait()

uvloop.run(main())
"""
SOURCE = """
def add_one(number: int) -> int:
    return number + 1
"""


def percentile(values: list[float], part: float) -> float:
    """Return a percentile of seconds, in microseconds."""
    return sorted(values)[min(int(len(values) * part), len(values) - 1)] * 1e6


@contextmanager
def echo() -> Iterator[int]:
    """A bare aiohttp echo; its port."""
    process = subprocess.Popen([sys.executable, "-c", ECHO], stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None
        yield int(process.stdout.readline())
    finally:
        process.terminate()
        process.wait(10)


class Target:
    """One server and what it is sent."""

    def __init__(self, port: int, path: str, token: str, body: bytes, media: str, answer: bytes) -> None:
        self.port = port
        self.answer = answer
        self.request = (
            f"POST {path} HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nAuthorization: Bearer {token}\r\n"
            f"Content-Type: {media}\r\nContent-Length: {len(body)}\r\n\r\n"
        ).encode() + body
        self.socket = socket.create_connection(("127.0.0.1", port))
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def check(self, got: bytes) -> bool:
        """Say whether the answer is all there; it must be the right one."""
        head, separator, body = got.partition(b"\r\n\r\n")
        if not separator or len(body) < len(self.answer):
            return False
        assert head.startswith(b"HTTP/1.1 200 "), got
        assert body == self.answer, got
        return True

    def once(self) -> float:
        """Ask once over the one connection; seconds."""
        began = time.perf_counter()
        self.socket.sendall(self.request)
        got = self.socket.recv(65_536)
        while not self.check(got):
            more = self.socket.recv(65_536)
            assert more, "the server closed the connection"
            got += more
        return time.perf_counter() - began


class Asking(asyncio.Protocol):
    """One of many connections: asks again as soon as it was answered."""

    def __init__(self, target: Target, times: int, done: asyncio.Future[None]) -> None:
        self.target, self.left, self.done, self.got = target, times, done, b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast("asyncio.Transport", transport)

    def ask(self) -> None:
        self.transport.write(self.target.request)

    def data_received(self, data: bytes) -> None:
        self.got += data
        try:
            if not self.target.check(self.got):
                return
        except AssertionError as error:
            self.done.set_exception(error)
            return
        self.got = b""
        self.left -= 1
        if self.left:
            self.ask()
        else:
            self.done.set_result(None)

    def connection_lost(self, exc: Exception | None) -> None:
        if not self.done.done():
            self.done.set_exception(exc or ConnectionError("the server closed the connection"))


async def many(target: Target, times: int) -> float:
    """Keep 64 connections busy; requests a second."""
    loop = asyncio.get_running_loop()
    done = [loop.create_future() for _ in range(WIDE)]
    pairs = [
        await loop.create_connection(lambda end=end: Asking(target, times, end), "127.0.0.1", target.port)
        for end in done
    ]
    began = time.perf_counter()
    for _, asking in pairs:
        asking.ask()
    await asyncio.gather(*done)
    took = time.perf_counter() - began
    for transport, _ in pairs:
        transport.close()
    return WIDE * times / took


def run(args: list[str]) -> dict[str, float | int | str]:
    calls = int(args[args.index("--calls") + 1]) if "--calls" in args else 3000
    ones: dict[str, list[float]] = {"call": [], "aiohttp": [], "packed": []}
    wide: dict[str, list[float]] = {"c64": [], "aiohttp_c64": [], "packed_c64": []}
    with nodes() as homes, echo() as bare:
        home = homes.start()
        name = homes.deploy(SOURCE, "add_one", "--min", "1")
        busy = homes.deploy(SOURCE.replace("add_one", "add_many"), "add_many", "--min", "1", "--concurrency", str(WIDE))
        token = str(homes.command(home, "apitoken", "create", "--name", "bench", "--grant", "function.call")["token"])
        port = int(str(homes.command(home, "status")["http"]).rpartition(":")[2])
        path, text = f"/v1/call/{name}", b'{"args": [41]}'
        packed = msgpack.packb([[41], {}])
        call = Target(port, path, token, text, "application/json", b"42")
        through = Target(port, path, token, packed, "application/msgpack", msgpack.packb(42))
        plain = Target(bare, path, token, text, "application/json", text)
        call_wide = Target(port, f"/v1/call/{busy}", token, text, "application/json", b"42")
        through_wide = Target(port, f"/v1/call/{busy}", token, packed, "application/msgpack", msgpack.packb(42))
        for target in (call, through, plain, call_wide, through_wide):
            for _ in range(200):
                target.once()
        for _ in range(max(calls // BATCH, 1)):
            for key, target in (("call", call), ("aiohttp", plain), ("packed", through)):
                ones[key] += [target.once() for _ in range(BATCH)]
        for _ in range(ROUNDS):
            for key, target in (("c64", call_wide), ("aiohttp_c64", plain), ("packed_c64", through_wide)):
                wide[key].append(uvloop.run(many(target, max(calls // ROUNDS // 4, 1))))
    figures: dict[str, float | int | str] = {}
    for key, times in ones.items():
        figures[f"{key}_p50_us"] = round(percentile(times, 0.5), 1)
        figures[f"{key}_p99_us"] = round(percentile(times, 0.99), 1)
    for key, rates in wide.items():
        figures[f"{key}_per_s"] = round(sorted(rates)[len(rates) // 2], 1)
    figures["call_over_aiohttp"] = round(percentile(ones["call"], 0.5) / percentile(ones["aiohttp"], 0.5), 2)
    figures["packed_over_aiohttp"] = round(percentile(ones["packed"], 0.5) / percentile(ones["aiohttp"], 0.5), 2)
    figures["c64_over_aiohttp"] = round(float(figures["c64_per_s"]) / float(figures["aiohttp_c64_per_s"]), 2)
    return figures
