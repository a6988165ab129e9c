"""What a client can make the gateway spend: bodies, heads, connections, time, requests. A gateway alone."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import trustme
import uvloop

from osiris_mesh.clock import SYSTEM
from osiris_mesh.errors import Conflict, Unavailable, UsageError
from osiris_mesh.gateway.building import Builds
from osiris_mesh.gateway.events import Bus
from osiris_mesh.gateway.http.listener import Listener
from osiris_mesh.gateway.http.parts import Parts
from osiris_mesh.gateway.http.server import HttpServer
from osiris_mesh.identity.keys import KeyPair
from osiris_mesh.ledger.permissions import EVERYTHING
from osiris_mesh.ledger.principal import Principal
from osiris_mesh.ledger.state import State
from osiris_mesh.settings.gateway import GatewaySettings

TOKEN = "a-token"


SETTINGS = GatewaySettings.preset("test")


class Book:
    def __init__(self) -> None:
        self.state = State(bytes(16))


class Policy:
    key = KeyPair(bytes(32))

    def bearer(self, token_text: str) -> Principal | None:
        return Principal("api_token", "t", b"", EVERYTHING) if token_text.startswith(TOKEN) else None

    def key_of(self, token_text: str) -> KeyPair:
        return self.key


class Node:
    state = "ready"

    def status(self) -> dict[str, Any]:
        return {"state": self.state, "members": []}


class Calls:
    """Answers when it is told to."""

    def __init__(self) -> None:
        self.waiting: list[Callable[[], None]] = []
        self.cancelled = 0
        self.size = 1

    def begin(self, name: str, body: bytes, reply: Any, *, answered: Any, **_more: Any) -> None:
        def cancelled() -> None:
            self.cancelled += 1

        reply.on_cancel(cancelled)
        if name == "t/lost":
            raise Unavailable("lost", maybe=True)
        if name == "t/defect":
            raise RuntimeError("a defect")
        if name == "t/large":
            answered(reply, bytes(self.size), {"node": "n\r\nX: y", "version": "1", "warm": True}, 0.1)
        else:
            self.waiting.append(lambda: answered(reply, b"\x01", None, 0.1))


@asynccontextmanager
async def gateway(
    settings: GatewaySettings = SETTINGS, *, cert: str = "", key: str = "", proxied: bool = False
) -> AsyncIterator[tuple[HttpServer, Calls, int]]:
    calls = Calls()
    unused: Any = None
    book = Book()
    parts = Parts(
        node=Node(),
        book=book,
        functions=unused,
        calls=calls,
        policy=Policy(),
        events=Bus(SYSTEM),
        hooks=unused,
        overview=unused,
        metrics=lambda: ("text/plain", b"x 1\n"),
        trail=unused,
        builds=Builds(1),
        in_force=lambda: book.state.settings,
        registries=unused,
        tree=unused,
        settings=settings,
        clock=SYSTEM,
    )
    listener = Listener.bind("127.0.0.1:0", cert=cert, key=key, proxied=proxied)
    server = HttpServer(parts, listener)
    await server.start()
    try:
        yield server, calls, listener.port
    finally:
        await server.close()


def head(method: str, path: str, *lines: str, host: str = "127.0.0.1") -> bytes:
    return "\r\n".join(
        [f"{method} {path} HTTP/1.1", f"Host: {host}", f"Authorization: Bearer {TOKEN}", *lines, "", ""]
    ).encode()


CALL = head("POST", "/v1/call/t/add", "Content-Type: application/msgpack", "Content-Length: 1") + b"\x01"


async def connect(port: int, **more: Any) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    return await asyncio.open_connection("127.0.0.1", port, **more)


async def answer(reader: asyncio.StreamReader) -> tuple[int, dict[str, str], bytes]:
    async with asyncio.timeout(15):
        lines = (await reader.readuntil(b"\r\n\r\n")).decode().split("\r\n")
        headers = dict(line.split(": ", 1) for line in lines[1:] if line)
        return int(lines[0].split()[1]), headers, await reader.readexactly(int(headers.get("Content-Length", "0")))


async def until(holds: Callable[[], object]) -> None:
    async with asyncio.timeout(10):
        while not holds():
            await asyncio.sleep(0.005)


async def closed(reader: asyncio.StreamReader) -> bool:
    async with asyncio.timeout(15):
        try:
            return not await reader.read()
        except ConnectionError:
            return True


async def test_a_body_larger_than_allowed_is_413_before_it_is_read() -> None:
    async with gateway(replace(SETTINGS, body=100, call_body=200)) as (_, _, port):
        for path, method, size in (("/v1/config/x", "PUT", 101), ("/v1/call/t/add", "POST", 201)):
            reader, writer = await connect(port)
            writer.write(head(method, path, "Content-Type: application/json", f"Content-Length: {size}"))
            assert (await answer(reader))[0] == 413
            writer.close()
        reader, writer = await connect(port)
        writer.write(head("POST", "/v1/call/t/add", "Content-Type: application/json", "Transfer-Encoding: chunked"))
        writer.write(b"c8\r\n" + b"x" * 200 + b"\r\nc8\r\n" + b"x" * 200 + b"\r\n0\r\n\r\n")
        assert (await answer(reader))[0] == 413
        writer.close()


async def test_who_holds_a_body_back_is_told_that_it_is_wanted() -> None:
    expecting = CALL[:-5].replace(b"/v1/call/t/add", b"/v1/call/t/large") + b"\r\nExpect: 100-continue\r\n\r\n"
    async with gateway() as (_, _, port):
        reader, writer = await connect(port)
        writer.write(expecting)
        assert (await answer(reader))[0] == 100
        writer.write(b"\x01")
        assert (await answer(reader))[0] == 200
        writer.write(expecting.replace(TOKEN.encode(), b"nobody"))
        assert (await answer(reader))[0] == 401, "whose body is not wanted is told so before he sends it"
        writer.close()


async def test_heads_are_bounded() -> None:
    async with gateway() as (_, _, port):
        for request in (
            head("GET", "/v1/status", "X: " + "x" * 10_000),
            head("GET", "/v1/status", *(f"X{number}: x" for number in range(200))),
            head("GET", "/" + "x" * 10_000),
            b"nonsense\r\n\r\n",
            b"GET / HTTP/9.9\r\n\r\n",
            head("POST", "/v1/call/t/add", "Content-Length: -1"),
            head("POST", "/v1/call/t/add", "Content-Length: 1", "Transfer-Encoding: chunked"),
        ):
            reader, writer = await connect(port)
            writer.write(request)
            status, headers, _ = await answer(reader)
            assert (status, headers["Content-Type"]) == (400, "application/problem+json"), request[:80]
            assert await closed(reader)
            writer.close()


@pytest.mark.parametrize(
    "trickle",
    [b"GET /v1/status HTTP/1.1\r\nHost: 127.0.0.1\r\n", head("PUT", "/v1/config/x", "Content-Length: 100") + b"{"],
    ids=["head", "body"],
)
async def test_who_sends_slowly_is_cut(trickle: bytes) -> None:
    async with gateway(replace(SETTINGS, head_s=0.3, read_s=0.3)) as (server, _, port):
        reader, writer = await connect(port)
        writer.write(trickle)
        loop = asyncio.get_running_loop()
        began = loop.time()

        async def drip() -> None:
            while True:
                await asyncio.sleep(0.05)
                writer.write(b"X")

        dripping = asyncio.ensure_future(drip())
        try:
            assert await _ends(reader)
        finally:
            dripping.cancel()
        assert loop.time() - began < 10
        writer.close()
        del server


async def _ends(reader: asyncio.StreamReader) -> bool:
    async with asyncio.timeout(15):
        try:
            while await reader.read(65_536):
                pass
        except ConnectionError:
            pass
        return True


def test_a_connection_too_many_is_closed() -> None:
    # On the loop a controller runs on, whose transports are of no class of asyncio's.
    uvloop.run(_one_too_many())


async def _one_too_many() -> None:
    async with gateway(replace(SETTINGS, connections=2)) as (_, _, port):
        pairs = [await connect(port) for _ in range(2)]
        for reader, writer in pairs:
            writer.write(head("GET", "/v1/members"))
            assert (await answer(reader))[0] == 200
        reader, third = await connect(port)
        assert await closed(reader)
        third.close()
        for _, writer in pairs:
            writer.close()


async def test_a_bearer_who_asks_too_often_is_told_to_wait() -> None:
    async with gateway(replace(SETTINGS, calls_per_s=0.5, call_burst=3)) as (_, _, port):
        reader, writer = await connect(port)
        statuses = []
        for _ in range(4):
            writer.write(head("GET", "/v1/members"))
            status, headers, _ = await answer(reader)
            statuses.append(status)
        assert statuses == [200, 200, 200, 429]
        assert int(headers["Retry-After"]) >= 1
        other = head("GET", "/v1/members").replace(TOKEN.encode(), TOKEN.encode() + b"2")
        writer.write(other)
        assert (await answer(reader))[0] == 200
        writer.close()


async def test_a_client_that_leaves_gives_its_call_up() -> None:
    async with gateway() as (_, calls, port):
        for lines in ((), ("Origin: http://127.0.0.1",)):
            _, writer = await connect(port)
            request = head("POST", "/v1/call/t/add", "Content-Type: application/msgpack", "Content-Length: 1", *lines)
            before = calls.cancelled
            writer.write(request + b"\x01")
            await until(lambda: calls.waiting)
            writer.transport.abort()
            await until(lambda before=before: calls.cancelled == before + 1)
            calls.waiting.pop()()


async def test_a_call_longer_than_the_idle_time_keeps_its_connection() -> None:
    async with gateway(replace(SETTINGS, head_s=0.2, idle_s=0.2)) as (_, calls, port):
        reader, writer = await connect(port)
        writer.write(CALL)
        await until(lambda: calls.waiting)
        loop = asyncio.get_running_loop()
        done = asyncio.Event()
        loop.call_later(0.7, done.set)
        await done.wait()
        calls.waiting.pop()()
        assert (await answer(reader))[::2] == (200, b"\x01")
        assert await closed(reader)
        writer.close()


async def test_what_waits_behind_a_call_is_answered_after_it() -> None:
    async with gateway() as (_, calls, port):
        reader, writer = await connect(port)
        writer.write(CALL + head("GET", "/v1/health") + CALL)
        await until(lambda: calls.waiting)
        calls.waiting.pop()()
        assert (await answer(reader))[2] == b"\x01"
        assert (await answer(reader))[2] == b'{"state":"ready"}'
        await until(lambda: calls.waiting)
        calls.waiting.pop()()
        assert (await answer(reader))[2] == b"\x01"
        writer.close()


async def test_errors_of_the_short_way() -> None:
    async with gateway() as (_, _, port):
        reader, writer = await connect(port)
        for name, status in (("lost", 503), ("defect", 500)):
            writer.write(CALL.replace(b"t/add", f"t/{name}".encode()))
            assert (await answer(reader))[0] == status
        writer.close()


async def test_what_a_node_says_of_itself_makes_no_headers() -> None:
    async with gateway() as (_, _, port):
        reader, writer = await connect(port)
        writer.write(CALL.replace(b"t/add", b"t/large"))
        _, headers, _ = await answer(reader)
        assert "X" not in headers
        assert "Osiris-Node" not in headers
        assert headers["Osiris-Version"] == "1"
        writer.close()


LARGE = CALL.replace(b"t/add", b"t/large")


@pytest.mark.parametrize(
    ("sent", "size"),
    [
        pytest.param(LARGE, 32 << 20, id="a large answer, the short way"),
        pytest.param(LARGE.replace(b"\r\n\r\n", b"\r\nExpect: no\r\n\r\n"), 32 << 20, id="the ordinary way"),
        pytest.param(b"GET /v1/openapi.json HTTP/1.1\r\nHost: localhost\r\n\r\n" * 400, 1, id="many, by a stranger"),
    ],
)
async def test_a_client_that_takes_nothing_is_cut(sent: bytes, size: int, caplog: pytest.LogCaptureFixture) -> None:
    async with gateway(replace(SETTINGS, write_s=0.2, idle_s=0.3)) as (server, calls, port):
        calls.size = size
        reader, writer = await connect(port, limit=1024)
        await until(lambda: len(server.admission) == 1)
        writer.write(sent)
        await until(lambda: not len(server.admission))
        await until(lambda: not server._server.connections)
        writer.close()
        del reader
    assert not caplog.records, "who takes nothing is no defect of ours"


async def test_a_client_that_takes_an_answer_late_but_in_time_gets_all_of_it() -> None:
    async with gateway(replace(SETTINGS, write_s=5.0)) as (server, calls, port):
        calls.size = 8 << 20
        reader, writer = await connect(port, limit=1024)
        await until(lambda: len(server.admission) == 1)
        (connection,) = list(server.admission._networks)
        for _ in range(2):
            writer.write(LARGE)
            await until(lambda: connection.writing_paused)
            status, _, body = await answer(reader)
            assert (status, len(body)) == (200, 8 << 20)
            await until(lambda: not connection.writing_paused)
            assert connection._stalled is None
        writer.close()


async def test_draining_refuses_what_is_new_and_finishes_what_is_under_way() -> None:
    async with gateway() as (server, calls, port):
        busy, busy_writer = await connect(port)
        idle, idle_writer = await connect(port)
        idle_writer.write(head("GET", "/v1/health"))
        assert (await answer(idle))[0] == 200
        busy_writer.write(CALL)
        await until(lambda: calls.waiting)
        draining = asyncio.ensure_future(server.drain(5))
        await until(lambda: server.draining)
        for request in (CALL, head("GET", "/v1/members")):
            idle_writer.write(request)
            status, headers, _ = await answer(idle)
            assert (status, headers["Retry-After"], headers["Connection"]) == (503, "1", "close")
            break
        assert not draining.done()
        calls.waiting.pop()()
        assert (await answer(busy))[2] == b"\x01"
        assert await draining
        with pytest.raises(OSError, match=r"refused|Connect call failed"):
            await connect(port)
        busy_writer.close()
        idle_writer.close()


async def test_draining_ends_streams() -> None:
    async with gateway() as (server, _, port):
        reader, writer = await connect(port)
        writer.write(head("GET", "/v1/events"))
        async with asyncio.timeout(10):
            await reader.readuntil(b": osiris\n\n")
        assert await server.drain(5)
        assert await _ends(reader)
        writer.close()


async def test_streams_say_that_they_live_and_are_bounded() -> None:
    async with gateway(replace(SETTINGS, heartbeat_s=0.05, streams=1)) as (_, _, port):
        reader, writer = await connect(port)
        writer.write(head("GET", "/v1/events"))
        async with asyncio.timeout(10):
            for _ in range(3):
                await reader.readuntil(b": osiris\n\n")
        other, other_writer = await connect(port)
        other_writer.write(head("GET", "/v1/events"))
        assert (await answer(other))[0] == 429
        other_writer.close()
        writer.close()


@pytest.fixture
def certificate(tmp_path: Path) -> tuple[str, str, ssl.SSLContext]:
    authority = trustme.CA()
    issued = authority.issue_cert("localhost", "127.0.0.1")
    cert, key = tmp_path / "cert.pem", tmp_path / "key.pem"
    issued.private_key_pem.write_to_path(str(key))
    for pem in issued.cert_chain_pems:
        pem.write_to_path(str(cert), append=True)
    context = ssl.create_default_context()
    authority.configure_trust(context)
    return str(cert), str(key), context


async def test_tls(certificate: tuple[str, str, ssl.SSLContext]) -> None:
    cert, key, context = certificate
    async with gateway(cert=cert, key=key) as (server, calls, port):
        assert server.address == f"https://127.0.0.1:{port}"
        reader, writer = await connect(port, ssl=context)
        assert writer.get_extra_info("ssl_object").version() in {"TLSv1.2", "TLSv1.3"}
        writer.write(CALL)
        await until(lambda: calls.waiting)
        calls.waiting.pop()()
        status, headers, body = await answer(reader)
        assert (status, body) == (200, b"\x01")
        assert headers["Strict-Transport-Security"]
        writer.close()
        plain, plain_writer = await connect(port)
        plain_writer.write(head("GET", "/v1/health"))
        assert await closed(plain)
        plain_writer.close()


@pytest.mark.parametrize("run", [asyncio.run, uvloop.run], ids=["asyncio", "uvloop"])
@pytest.mark.parametrize(
    ("limits", "held"),
    [({"handshakes": 8}, 8), ({"handshakes": 100, "connections_per_address": 6}, 6)],
    ids=["in all", "of one address"],
)
def test_who_never_finishes_his_handshake_shuts_out_nobody(
    run: Callable[..., Any], limits: dict[str, int], held: int, certificate: tuple[str, str, ssl.SSLContext]
) -> None:
    run(_bare(replace(SETTINGS, connections=4, head_s=30.0, **limits), held, certificate))


def _descriptors() -> int:
    return sum(1 for _ in Path("/proc/self/fd").iterdir())


async def _bare(settings: GatewaySettings, held: int, certificate: tuple[str, str, ssl.SSLContext]) -> None:
    cert, key, context = certificate
    before = _descriptors()
    async with gateway(settings, cert=cert, key=key) as (server, _, port):
        assert server.handshakes is not None
        pairs = [await connect(port) for _ in range(60)]
        gone = [asyncio.ensure_future(closed(reader)) for reader, _ in pairs]
        await until(lambda: sum(each.done() for each in gone) == len(pairs) - held)
        assert len(server.handshakes.under_way) == held
        assert not any(each.done() for each in gone[-held:]), "the oldest go first"
        reader, writer = await connect(port, ssl=context)
        writer.write(head("GET", "/v1/health"))
        assert (await answer(reader))[0] == 200
        writer.close()
        assert len(server.handshakes.under_way) <= held
        assert await server.drain(5)
        async with asyncio.timeout(10):
            assert all(await asyncio.gather(*gone)), "those under way end with the door"
        for _, each in pairs:
            each.close()
    await until(lambda: _descriptors() <= before + 1)


async def test_a_handshake_has_its_time(certificate: tuple[str, str, ssl.SSLContext]) -> None:
    cert, key, _ = certificate
    async with gateway(replace(SETTINGS, head_s=0.2), cert=cert, key=key) as (server, _, port):
        reader, writer = await connect(port)
        writer.write(b"\x16\x03\x01")
        assert await closed(reader)
        await until(lambda: server.handshakes is not None and not len(server.handshakes.under_way))
        writer.close()


async def test_old_tls_is_refused(certificate: tuple[str, str, ssl.SSLContext]) -> None:
    cert, key, _ = certificate
    listener = Listener.bind("127.0.0.1:0", cert=cert, key=key)
    assert listener.tls is not None
    assert listener.tls.minimum_version == ssl.TLSVersion.TLSv1_2
    listener.close()


async def test_behind_a_proxy_any_host_is_served() -> None:
    async with gateway(proxied=True) as (_, _, port):
        reader, writer = await connect(port)
        writer.write(head("GET", "/v1/members", host="mesh.example.org"))
        assert (await answer(reader))[0] == 200
        writer.close()


def test_a_port_that_is_taken() -> None:
    first = Listener.bind("127.0.0.1:0")
    with pytest.raises(Conflict):
        Listener.bind(f"127.0.0.1:{first.port}")
    first.close()
    ours = Listener.bind("")
    other = Listener.bind("")
    assert ours.port != other.port
    ours.close()
    other.close()


def test_certificates_that_can_not_be_used(tmp_path: Path) -> None:
    (tmp_path / "x").write_text("nonsense")
    for cert, key in (("x", ""), ("", "x"), (str(tmp_path / "x"), str(tmp_path / "x")), ("/none", "/none")):
        with pytest.raises(UsageError):
            Listener.bind("127.0.0.1:0", cert=cert, key=key)
    with pytest.raises(UsageError):
        Listener.bind("0.0.0.0:0")
