"""Peers that mean harm: they cost little, learn nothing and disturb nobody else."""

from __future__ import annotations

import asyncio
import os
import random
import struct
import tracemalloc
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import msgpack
import pytest

from osiris_mesh.errors import Unavailable
from osiris_mesh.identity.keys import KeyPair
from osiris_mesh.identity.multiaddr import Multiaddr
from osiris_mesh.link import Audience, Hello, Link, Links, Request, Router, UnixServer, connect_unix
from osiris_mesh.link.frames import FLAG_END, MAX_FRAME, open_frame
from osiris_mesh.link.handshake import ClientHandshake
from osiris_mesh.link.memory import LoopClock, mesh, simulate
from osiris_mesh.link.mux import MuxLimits
from osiris_mesh.link.session import Session, State
from osiris_mesh.settings.link import LinkSettings

MESH, K = b"m" * 16, b"k" * 32
SERVER, CLIENT = KeyPair(b"s" * 32), KeyPair(b"c" * 32)


async def echo(request: Request) -> bytes:
    return request.body


async def forever(request: Request) -> bytes:
    await asyncio.Event().wait()
    return b""


@asynccontextmanager
async def node(**settings: Any) -> AsyncIterator[tuple[Links, Multiaddr]]:
    router = Router()
    router.unary("echo", echo, allow=Audience.MEMBER)
    router.unary("forever", forever, allow=Audience.MEMBER)
    defaults = {"keepalive_s": 0.5, "dead_s": 2.0, "half_open_per_address": 64} | settings
    links = Links(SERVER, K, Hello(MESH), router, admit=lambda _: Audience.MEMBER, settings=LinkSettings(**defaults))
    (address,) = await links.listen("127.0.0.1", 0)
    try:
        yield links, address
    finally:
        await links.close()


class Raw:
    """A hand-made client."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader, self.writer = reader, writer

    @classmethod
    async def tcp(cls, address: Multiaddr) -> Raw:
        return cls(*await asyncio.open_connection(address.host, address.port))

    @classmethod
    async def unix(cls, path: Path) -> Raw:
        return cls(*await asyncio.open_unix_connection(path))

    async def send(self, data: bytes) -> None:
        self.writer.write(data)
        await self.writer.drain()

    async def rest(self) -> bytes:
        """Everything until the other end closes."""
        async with asyncio.timeout(10):
            try:
                return await self.reader.read()
            except ConnectionResetError:
                return b""

    async def close(self) -> None:
        self.writer.close()
        try:
            await self.writer.wait_closed()
        except OSError:
            pass

    async def shake(self) -> Session:
        session = Session.client(CLIENT, K, SERVER.public, os.urandom(32), lambda: Hello(MESH))
        session.start()
        while True:
            for message in session.outgoing:
                await self.send(message)
            session.outgoing.clear()
            if session.state is State.OPEN:
                return session
            session.receive(await self.reader.read(65_536))


async def honest_call(address: Multiaddr) -> None:
    links = Links(KeyPair(os.urandom(32)), K, Hello(MESH), Router(), admit=lambda _: Audience.MEMBER)
    link = await links.dial(address)
    assert await link.call("echo", b"undisturbed", timeout=5) == b"undisturbed"
    await links.close()


@pytest.mark.parametrize("seed", range(3))
async def test_garbage_before_authentication_gets_silence(seed: int) -> None:
    async with node() as (links, address):
        chance = random.Random(seed)
        for size in (64, 65, 1000, 300_000):
            raw = await Raw.tcp(address)
            try:
                await raw.send(chance.randbytes(size))
            except OSError:
                pass
            assert await raw.rest() == b""
            await raw.close()
        assert links.links() == []
        await honest_call(address)


async def test_garbage_in_place_of_each_later_message_gets_silence() -> None:
    async with node() as (links, address):
        raw = await Raw.tcp(address)
        client = ClientHandshake(CLIENT, K, SERVER.public, os.urandom(32))
        await raw.send(client.hello())
        client.receive_hello(await raw.reader.readexactly(64))
        await raw.send(os.urandom(112))
        assert await raw.rest() == b""
        await raw.close()

        raw = await Raw.tcp(address)
        session = Session.client(CLIENT, K, SERVER.public, os.urandom(32), lambda: Hello(MESH))
        session.start()
        await raw.send(session.outgoing.pop())
        session.receive(await raw.reader.readexactly(64))
        await raw.send(session.outgoing.pop() + os.urandom(500))
        # Message 4 and its HELLO are out before the garbage is read; nothing comes behind them.
        assert len(await raw.rest()) < 400
        await raw.close()
        assert links.links() == []
        await honest_call(address)


async def test_a_replayed_conversation_is_worth_nothing() -> None:
    async with node() as (links, address):
        raw = await Raw.tcp(address)
        recorded: list[bytes] = []
        send = raw.send

        async def recording(data: bytes) -> None:
            recorded.append(data)
            await send(data)

        raw.send = recording  # type: ignore[method-assign]
        await raw.shake()
        await raw.close()
        again = await Raw.tcp(address)
        await again.send(recorded[0])
        assert len(await again.reader.readexactly(64)) == 64
        await again.send(b"".join(recorded[1:]))
        assert await again.rest() == b""
        await again.close()
        assert links.peers() == []


@pytest.mark.parametrize("damage", ["replay", "change", "cut"])
async def test_replayed_changed_and_cut_packets_end_the_link(damage: str) -> None:
    async with node() as (links, address):
        raw = await Raw.tcp(address)
        session = await raw.shake()
        while not links.peers():
            await asyncio.sleep(0)
        (link,) = links.links()
        packet = b"".join(session.seal([open_frame(1, FLAG_END, "echo", {}, b"x")]))
        wire = {
            "replay": packet + packet,
            "change": packet[:-1] + bytes([packet[-1] ^ 1]),
            "cut": packet[:-1],
        }[damage]
        lost = asyncio.Event()
        link.on_close(lambda _: lost.set())
        await raw.send(wire)
        if damage == "cut":
            await raw.close()
        async with asyncio.timeout(5):
            await lost.wait()
        with pytest.raises(Unavailable, match=r"does not open|cut"):
            await link.call("x", timeout=1)
        await raw.close()
        await honest_call(address)


def test_slow_bytes_do_not_hold_a_connection_beyond_the_handshake_time() -> None:
    async def main() -> None:
        async with mesh(1, clock=LoopClock()) as (node,):
            hello = ClientHandshake(CLIENT, node.links._network_key, node.key.public, b"e" * 32).hello()
            loop = asyncio.get_running_loop()
            gone: asyncio.Future[float] = loop.create_future()

            class Slow(asyncio.Protocol):
                def connection_made(self, transport: asyncio.BaseTransport) -> None:
                    self.transport = transport
                    self.left = bytearray(hello)
                    self.trickle()

                def trickle(self) -> None:
                    if not gone.done():
                        self.transport.write(bytes([self.left.pop(0)]))  # type: ignore[attr-defined]
                        loop.call_later(0.2, self.trickle)

                def connection_lost(self, exc: Exception | None) -> None:
                    gone.set_result(loop.time())

            started = loop.time()
            await node.network.connect("n0", 7411, Slow)
            took = await gone - started
            assert took == pytest.approx(LinkSettings().handshake_s, abs=0.3)

    simulate(main)


async def test_half_open_connections_are_few_per_address_and_in_all() -> None:
    async with node(half_open_per_address=4, half_open=6, handshake_s=0.3) as (links, address):
        raws = [await Raw.tcp(address) for _ in range(10)]
        results = await asyncio.gather(*(_closed_soon(raw) for raw in raws))
        assert results.count(True) >= 6
        # The four that were let in run out of time, and then others get their turn.
        assert all([await raw.rest() == b"" for raw in raws])
        for raw in raws:
            await raw.close()
        await honest_call(address)
        assert links._half_open.total() == 0


async def _closed_soon(raw: Raw) -> bool:
    try:
        async with asyncio.timeout(0.15):
            return await raw.reader.read(1) == b""
    except TimeoutError:
        return False
    except OSError:
        return True


# behind authentication, and on the Unix socket


@asynccontextmanager
async def served(path: Path, **limits: int) -> AsyncIterator[tuple[UnixServer, Link]]:
    router = Router()
    router.unary("echo", echo, allow=Audience.LOCAL)
    router.unary("forever", forever, allow=Audience.LOCAL)
    async with UnixServer(path, router, limits=MuxLimits(**limits)) as server:
        honest = await connect_unix(path)
        assert await honest.call("echo", b"1", timeout=5) == b"1"
        try:
            yield server, honest
            assert await honest.call("echo", b"2", timeout=5) == b"2"
        finally:
            await honest.close()


@pytest.mark.parametrize(
    "data",
    [
        b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n",
        struct.pack(">I", MAX_FRAME + 1),
        struct.pack(">I", 0xFFFFFFFF) + b"x" * 1000,
        struct.pack(">I", 1) + b"\xc1",
        struct.pack(">I", 5) + b"\xdd\xff\xff\xff\xff",
        struct.pack(">I", 5) + b"\xdf\xff\xff\xff\xff",
        struct.pack(">I", 2000) + b"\x91" * 2000,
    ],
    ids=["http", "oversize", "4 GiB", "no msgpack", "array of 4 G", "map of 4 G", "nested 2000 deep"],
)
async def test_impossible_frames_end_their_link_alone(tmp_path: Path, data: bytes) -> None:
    async with served(tmp_path / "s") as (server, _):
        raw = await Raw.unix(tmp_path / "s")
        await raw.send(data)
        assert await raw.rest() == b""
        await raw.close()
        assert len(server.links) == 1


async def test_a_flood_of_opens_is_answered_overloaded_in_bounded_memory(tmp_path: Path) -> None:
    async with served(tmp_path / "s", streams=16) as (server, honest):
        raw = await Raw.unix(tmp_path / "s")
        opens = b"".join(open_frame(number, FLAG_END, "forever", {}, b"") for number in range(1, 2001))
        answers = msgpack.Unpacker()
        refused = 0
        reader = asyncio.create_task(raw.reader.read(1 << 20))
        await raw.send(opens)
        data = await reader
        while refused < 2000 - 16:
            while len(data) >= 4 and len(data) >= 4 + int.from_bytes(data[:4], "big"):
                size = int.from_bytes(data[:4], "big")
                answers.feed(data[4 : 4 + size])
                data = data[4 + size :]
                kind, _, error = answers.unpack()
                assert (kind, error["code"]) == (3, "overloaded")
                refused += 1
            if refused < 2000 - 16:
                data += await raw.reader.read(1 << 20)
        flooded = next(link for link in server.links if len(link.mux.streams()) > 1)
        assert len(flooded.mux.streams()) == 16
        assert await honest.call("echo", b"meanwhile", timeout=5) == b"meanwhile"
        await raw.close()


async def test_a_peer_that_asks_and_never_reads_is_cut(tmp_path: Path) -> None:
    async with served(tmp_path / "s", streams=1, control=500) as (server, honest):
        raw = await Raw.unix(tmp_path / "s")
        raw.writer.transport.pause_reading()  # type: ignore[attr-defined]
        ping = b"\x00\x00\x00\x03\x92\x05\x01"
        with pytest.raises(OSError):  # noqa: PT011, PT012 - reset or broken pipe, whenever the system says so
            while True:
                await raw.send(ping * 10_000)
                await honest.call("echo", b"meanwhile", timeout=5)
        assert len(server.links) == 1
        await raw.close()


async def test_uploads_nobody_asked_for_are_bounded_in_memory(tmp_path: Path) -> None:
    async with served(tmp_path / "s", buffered=4 << 20, message=2 << 20) as (_, honest):
        raw = await Raw.unix(tmp_path / "s")
        piece = bytes(65_536)
        tracemalloc.start()
        try:
            # Sixty-four streams, a window each, none of them ever finished: 64 MiB if nobody counted.
            for number in range(1, 65):
                await raw.send(open_frame(number, 2, "echo", {}, piece))
                for _ in range(15):
                    packed = msgpack.packb([1, number, 2, piece], use_bin_type=True)
                    await raw.send(len(packed).to_bytes(4, "big") + packed)
            assert await honest.call("echo", b"meanwhile", timeout=5) == b"meanwhile"
            _, peak = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
        assert peak < 16 << 20
        await raw.close()


async def test_rapid_open_and_reset_leaves_nothing_behind(tmp_path: Path) -> None:
    async with served(tmp_path / "s") as (server, honest):
        raw = await Raw.unix(tmp_path / "s")
        reset = [msgpack.packb([3, number, None]) for number in range(1, 3001)]
        wire = b"".join(
            open_frame(number, FLAG_END, "forever", {}, b"") + len(frame).to_bytes(4, "big") + frame
            for number, frame in enumerate(reset, 1)
        )
        await raw.send(wire)
        await raw.send(b"\x00\x00\x00\x03\x92\x05\x07")
        assert await raw.reader.readexactly(7) == b"\x00\x00\x00\x03\x92\x06\x07"
        await honest.call("echo", b"", timeout=5)
        for link in server.links:
            assert link.mux.buffered == 0
            assert link.mux.idle
            assert not link._tasks
        await raw.close()
