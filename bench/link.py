"""The link over TCP with handshake and boxes, beside plain asyncio TCP with the same framing, in the same run.

Two processes on uvloop over loopback. Samples of both are taken in turns, so that whatever else the machine does hits
both alike; every reply is checked; each figure is the median over the rounds of the round's own figure.

``rtt_p50_us``: a unary call of 100 bytes and its answer. ``mb_per_s``: a stream of 1 MiB messages one way, acknowledged
once at the end (MB: 10^6 bytes). ``uds_rtt_p50_us``: the blocking shell over a Unix socket, as the SDK calls its own
controller, beside ``uds_echo_p50_us``: the same bytes over a bare socket to an asyncio echo.
"""

from __future__ import annotations

import asyncio
import multiprocessing
import os
import socket
import statistics
import struct
import tempfile
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import uvloop

from osiris_mesh.identity.keys import KeyPair
from osiris_mesh.identity.multiaddr import Multiaddr
from osiris_mesh.identity.peer_id import peer_id
from osiris_mesh.link import Audience, BlockingLink, Hello, Link, Links, Request, Router, Stream, UnixServer

ROUNDS = 5
CALLS = 1500
SIZE = 100
CHUNK = 1 << 20
CHUNKS = 48
MESH, NETWORK_KEY = b"b" * 16, b"n" * 32
SERVER, CLIENT = KeyPair(b"s" * 32), KeyPair(b"c" * 32)


def _echo_body(body: bytes) -> bytes:
    return body[::-1]


class _Framed(asyncio.Protocol):
    """4-byte length, then that many bytes: length 100 is echoed, others counted until an empty one asks for the sum."""

    def __init__(self) -> None:
        self.held = bytearray()
        self.total = 0
        self.frames: asyncio.Queue[bytes] = asyncio.Queue()
        self.serving = False
        self.transport: Any = None
        self.resumed = asyncio.Event()
        self.resumed.set()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport

    def pause_writing(self) -> None:
        self.resumed.clear()

    def resume_writing(self) -> None:
        self.resumed.set()

    def send(self, body: bytes) -> None:
        self.transport.writelines([len(body).to_bytes(4, "big"), body])

    def data_received(self, data: bytes) -> None:
        held = self.held
        held += data
        while len(held) >= 4:
            size = int.from_bytes(held[:4], "big")
            if len(held) < 4 + size:
                return
            body = bytes(held[4 : 4 + size])
            del held[: 4 + size]
            if not self.serving:
                self.frames.put_nowait(body)
            elif size == SIZE:
                self.send(_echo_body(body))
            elif size:
                self.total += size
            else:
                self.send(struct.pack(">Q", self.total))
                self.total = 0


class _Serving(_Framed):
    def __init__(self) -> None:
        super().__init__()
        self.serving = True


def _serve(folder: str, ready: Any) -> None:
    async def echo(request: Request) -> bytes:
        return _echo_body(request.body)

    async def take(_: Request, stream: Stream) -> None:
        total = 0
        async for message in stream:
            total += len(message)
        await stream.send(struct.pack(">Q", total))

    async def main() -> None:
        router = Router()
        router.unary("echo", echo, allow=Audience.MEMBER | Audience.LOCAL)
        router.streaming("take", take, allow=Audience.MEMBER)
        links = Links(SERVER, NETWORK_KEY, Hello(MESH), router, admit=lambda _: Audience.MEMBER)
        (address,) = await links.listen("127.0.0.1", 0)
        loop = asyncio.get_running_loop()
        plain = await loop.create_server(_Serving, "127.0.0.1", 0)
        bare = await loop.create_unix_server(_Serving, f"{folder}/echo")
        async with UnixServer(f"{folder}/node", router), plain, bare:
            ready.send((address.port, plain.sockets[0].getsockname()[1]))
            await asyncio.Event().wait()

    uvloop.run(main())


def _p50(samples: list[float]) -> float:
    return statistics.median(samples) * 1e6


async def _timed(call: Callable[[bytes], Awaitable[bytes]], body: bytes) -> float:
    began = time.perf_counter()
    answer = await call(body)
    took = time.perf_counter() - began
    assert answer == _echo_body(body)
    return took


async def _link_bulk(link: Link, chunk: bytes) -> float:
    began = time.perf_counter()
    stream = link.open("take", timeout=120)
    for _ in range(CHUNKS):
        await stream.send(chunk)
    await stream.end()
    answer = await stream.receive()
    took = time.perf_counter() - began
    assert answer == struct.pack(">Q", CHUNKS * CHUNK)
    return CHUNKS * CHUNK / took / 1e6


async def _plain_bulk(plain: _Framed, chunk: bytes) -> float:
    began = time.perf_counter()
    for _ in range(CHUNKS):
        plain.send(chunk)
        await plain.resumed.wait()
    plain.send(b"")
    answer = await plain.frames.get()
    took = time.perf_counter() - began
    assert answer == struct.pack(">Q", CHUNKS * CHUNK)
    return CHUNKS * CHUNK / took / 1e6


async def _over_tcp(link_port: int, plain_port: int) -> dict[str, list[float]]:
    links = Links(CLIENT, NETWORK_KEY, Hello(MESH), Router(), admit=lambda _: Audience.MEMBER)
    link = await links.dial(Multiaddr("127.0.0.1", link_port, peer_id(SERVER.public)))
    plain = _Framed()
    await asyncio.get_running_loop().create_connection(lambda: plain, "127.0.0.1", plain_port)

    async def by_link(body: bytes) -> bytes:
        return await link.call("echo", body, timeout=30)

    async def by_plain(body: bytes) -> bytes:
        plain.send(body)
        return await plain.frames.get()

    found: dict[str, list[float]] = {"rtt": [], "tcp_rtt": [], "mb": [], "tcp_mb": []}
    chunk = os.urandom(CHUNK)
    for number in range(ROUNDS + 1):
        ours, theirs = [], []
        for _ in range(CALLS):
            body = os.urandom(SIZE)
            ours.append(await _timed(by_link, body))
            theirs.append(await _timed(by_plain, body))
        figures = (_p50(ours), _p50(theirs), await _link_bulk(link, chunk), await _plain_bulk(plain, chunk))
        if number:  # the first round warms up
            for name, figure in zip(found, figures, strict=True):
                found[name].append(figure)
    await links.close()
    plain.transport.close()
    return found


def _over_unix(folder: str) -> dict[str, list[float]]:
    link = BlockingLink.unix(f"{folder}/node")
    bare = socket.socket(socket.AF_UNIX)
    bare.connect(f"{folder}/echo")
    found: dict[str, list[float]] = {"uds": [], "uds_echo": []}
    for number in range(ROUNDS + 1):
        ours, theirs = [], []
        for _ in range(CALLS):
            body = os.urandom(SIZE)
            began = time.perf_counter()
            answer = link.call("echo", body, timeout=30)
            ours.append(time.perf_counter() - began)
            assert answer == _echo_body(body)
            began = time.perf_counter()
            bare.sendall(len(body).to_bytes(4, "big") + body)
            answer = b""
            while len(answer) < 4 + SIZE:
                answer += bare.recv(4096)
            theirs.append(time.perf_counter() - began)
            assert answer[4:] == _echo_body(body)
        if number:
            found["uds"].append(_p50(ours))
            found["uds_echo"].append(_p50(theirs))
    bare.close()
    link.close()
    return found


def run(_args: list[str]) -> dict[str, float | int | str]:
    context = multiprocessing.get_context("spawn")
    ready, told = context.Pipe(duplex=False)
    with tempfile.TemporaryDirectory(prefix="om-") as folder:
        server = context.Process(target=_serve, args=(folder, told), daemon=True)
        server.start()
        try:
            if not ready.poll(60):
                raise TimeoutError("the server did not start")
            ports = ready.recv()
            tcp = uvloop.run(_over_tcp(*ports))
            unix = _over_unix(str(Path(folder)))
        finally:
            server.terminate()
            server.join()
    middle = {name: statistics.median(values) for name, values in (tcp | unix).items()}

    def ratio(one: str, other: str) -> float:
        by_round = zip((tcp | unix)[one], (tcp | unix)[other], strict=True)
        return round(statistics.median(mine / theirs for mine, theirs in by_round), 2)

    return {
        "rtt_p50_us": round(middle["rtt"], 1),
        "tcp_rtt_p50_us": round(middle["tcp_rtt"], 1),
        "rtt_ratio": ratio("rtt", "tcp_rtt"),
        "mb_per_s": round(middle["mb"], 1),
        "tcp_mb_per_s": round(middle["tcp_mb"], 1),
        "mb_ratio": ratio("mb", "tcp_mb"),
        "uds_rtt_p50_us": round(middle["uds"], 1),
        "uds_echo_p50_us": round(middle["uds_echo"], 1),
        "uds_ratio": ratio("uds", "uds_echo"),
        "rounds": ROUNDS,
        "calls_per_round": CALLS,
    }
