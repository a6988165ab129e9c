"""The zone over real sockets: as ``dig`` sees it, and as somebody hostile might."""

from __future__ import annotations

import asyncio
import logging
import os
import shutil
import socket
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

import dns.message
import dns.rcode
import pytest

from osiris_mesh.errors import Conflict, Unavailable, UsageError
from osiris_mesh.gateway.dns.directory import Directory, DnsNode, Place, Service
from osiris_mesh.gateway.dns.server import DnsServer, Find

NODE = DnsNode("laptop", "12D3KooWlaptop", ("127.0.0.1",), 7411)
MANY = [Service(f"many/function-number-{i}", "1.0.0", "", (Place("laptop", 7411),)) for i in range(100)]
DIRECTORY = Directory.build(
    [Service("image-processing/sharpen", "1.2.0", "ab", (Place("laptop", 7411),)), *MANY], [NODE]
)
OUTSIDE = Service("far/away", "3.0.0", "", (Place("functions.acme.com", 443, 20, 1, outside=True),))


async def find(name: str) -> Sequence[Service]:
    if name == "far/broken":
        raise Unavailable("no registry answers", maybe=False)
    return [OUTSIDE] if name == OUTSIDE.name else []


@asynccontextmanager
async def serving(asked: Find = find) -> AsyncIterator[DnsServer]:
    server = DnsServer(lambda: DIRECTORY, asked)
    server.bind("127.0.0.1:0")
    await server.start()
    try:
        yield server
    finally:
        await server.close()


async def dig(server: DnsServer, *arguments: str) -> str:
    program = shutil.which("dig")
    if program is None:
        if os.environ.get("CI"):
            pytest.fail("dig is not installed")
        pytest.skip("dig is not installed")
    host, _, port = server.address.rpartition(":")
    process = await asyncio.create_subprocess_exec(
        program, f"@{host}", "-p", port, "+time=5", "+tries=1", *arguments, stdout=asyncio.subprocess.PIPE
    )
    out, _ = await asyncio.wait_for(process.communicate(), 20)
    assert process.returncode == 0, out
    return out.decode()


async def ask(server: DnsServer, name: str, kind: str) -> dns.message.Message:
    """Ask over TCP."""
    host, _, port = server.address.rpartition(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    data = dns.message.make_query(name, kind).to_wire()
    writer.write(len(data).to_bytes(2, "big") + data)
    size = int.from_bytes(await asyncio.wait_for(reader.readexactly(2), 5), "big")
    reply = dns.message.from_wire(await asyncio.wait_for(reader.readexactly(size), 5))
    writer.close()
    return reply


async def test_dig_finds_a_function_by_its_name() -> None:
    async with serving() as server:
        assert await dig(server, "+short", "SRV", "sharpen.image-processing.mesh") == "0 1 7411 laptop.node.mesh.\n"
        assert await dig(server, "+short", "A", "sharpen.image-processing.mesh") == "127.0.0.1\n"
        assert "name=image-processing/sharpen" in await dig(server, "+short", "TXT", "sharpen.image-processing.mesh")
        whole = await dig(server, "SRV", "nothing.here.mesh")
        assert "status: NXDOMAIN" in whole
        assert "SOA" in whole
        assert "flags: qr aa" in whole


async def test_dig_gets_long_answers_by_tcp_after_a_cut_one() -> None:
    async with serving() as server:
        cut = await dig(server, "+ignore", "PTR", "many.mesh")
        assert " tc" in cut
        whole = await dig(server, "+short", "PTR", "many.mesh")
        assert len(whole.splitlines()) == len(MANY)
        old = await dig(server, "+noedns", "+ignore", "PTR", "many.mesh")
        assert " tc" in old


async def test_dig_speaks_newer_edns_and_other_zones_to_a_refusal() -> None:
    async with serving() as server:
        assert "status: BADVERS" in await dig(server, "+edns=1", "+noednsnegotiation", "SOA", "mesh")
        assert "status: REFUSED" in await dig(server, "A", "example.com")


async def test_what_the_mesh_does_not_have_is_asked_of_registries(caplog: pytest.LogCaptureFixture) -> None:
    async with serving() as server:
        assert await dig(server, "+short", "SRV", "away.far.mesh") == "20 1 443 functions.acme.com.\n"
        assert (await ask(server, "away.far.mesh", "SRV")).rcode() == dns.rcode.NOERROR
        assert (await ask(server, "absent.far.mesh", "SRV")).rcode() == dns.rcode.NXDOMAIN
        # A registry that can't be asked is no proof that the name is not there.
        # As in a controller, whose log is written.
        caplog.set_level(logging.INFO)
        assert (await ask(server, "broken.far.mesh", "SRV")).rcode() == dns.rcode.SERVFAIL
        assert "status: SERVFAIL" in await dig(server, "+notcp", "SRV", "broken.far.mesh")
        assert not [record for record in caplog.records if record.levelno >= logging.WARNING]


@pytest.mark.parametrize("name", ["%s.%s.mesh", "a\\000b.math.mesh", "-.math.mesh", "add.math.no_domain.mesh"])
async def test_what_can_be_no_function_is_asked_of_nobody(name: str) -> None:
    async def nobody(_name: str) -> Sequence[Service]:
        raise UsageError("not a function's name")

    async with serving(nobody) as server:
        reply = await ask(server, name, "SRV")
        assert reply.rcode() == dns.rcode.NXDOMAIN
        assert reply.authority


async def test_rubbish_and_silence_disturb_nobody() -> None:
    async with serving() as server:
        host, _, port = server.address.rpartition(":")
        loop = asyncio.get_running_loop()
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as rubbish:
            rubbish.settimeout(0)
            for data in (b"", b"\xff" * 1200, bytes(12), b"\0" * 600):
                await loop.sock_sendto(rubbish, data, (host, int(port)))
        silent = [await asyncio.open_connection(host, int(port)) for _ in range(60)]
        for _, writer in silent[:20]:
            writer.write(b"\xff\xff only a beginning")
        assert (await ask(server, "sharpen.image-processing.mesh", "SRV")).rcode() == dns.rcode.NOERROR
        for _, writer in silent:
            writer.close()


async def test_more_connections_than_there_are_places_are_closed_at_once() -> None:
    async with serving() as server:
        host, _, port = server.address.rpartition(":")
        held = [await asyncio.open_connection(host, int(port)) for _ in range(64)]
        # The last of them has been taken once it is answered.
        data = dns.message.make_query("mesh", "SOA").to_wire()
        for reader, writer in held:
            writer.write(len(data).to_bytes(2, "big") + data)
            await asyncio.wait_for(reader.readexactly(2), 5)
        reader, writer = await asyncio.open_connection(host, int(port))
        assert await asyncio.wait_for(reader.read(1), 5) == b""
        assert server.refused == 1
        writer.close()
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as asking:
            asking.settimeout(0)
            loop = asyncio.get_running_loop()
            await loop.sock_connect(asking, (host, int(port)))
            await loop.sock_sendall(asking, dns.message.make_query("away.far.mesh", "SRV").to_wire())
            reply = dns.message.from_wire(await asyncio.wait_for(loop.sock_recv(asking, 2048), 5))
        assert reply.rcode() == dns.rcode.NOERROR, "connections take no place of a look-up"
        for _, writer in held:
            writer.close()


async def test_who_takes_no_answer_leaves_nothing_behind(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("osiris_mesh.gateway.dns.server._IDLE_S", 0.2)
    async with serving() as server:
        host, _, port = server.address.rpartition(":")
        before = _open_files()
        with socket.socket() as client:
            client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            client.settimeout(0)
            loop = asyncio.get_running_loop()
            await loop.sock_connect(client, (host, int(port)))
            data = dns.message.make_query("_osiris._tcp.mesh", "PTR").to_wire()
            sending = asyncio.ensure_future(loop.sock_sendall(client, (len(data).to_bytes(2, "big") + data) * 20_000))
            async with asyncio.timeout(20):
                while server.queries < 100 or _open_files() > before + 1:
                    await asyncio.sleep(0.01)
            sending.cancel()
            await asyncio.wait([sending])


def _open_files() -> int:
    return len(list(Path("/dev/fd").iterdir()))


async def test_an_answer_beyond_this_machine_is_hardly_longer_than_its_query() -> None:
    sent: list[bytes] = []
    server = DnsServer(lambda: DIRECTORY)
    data = dns.message.make_query("many.mesh", "PTR", use_edns=0, payload=4096).to_wire()
    server.on_datagram(data, ("192.0.2.7", 5353), lambda reply, _: sent.append(reply))
    server.on_datagram(data, ("127.0.0.1", 5353), lambda reply, _: sent.append(reply))
    assert len(sent[0]) <= 3 * len(data)
    assert dns.message.from_wire(sent[0]).flags & dns.flags.TC
    short = dns.message.make_query("ns.mesh", "A").to_wire()
    server.on_datagram(short, ("192.0.2.7", 5353), lambda reply, _: sent.append(reply))
    assert not dns.message.from_wire(sent[2]).flags & dns.flags.TC


async def test_a_port_that_is_taken_is_told_and_the_default_gives_way() -> None:
    async with serving() as server:
        other = DnsServer(lambda: DIRECTORY)
        with pytest.raises(Conflict, match="can't be listened on"):
            other.bind(server.address)
        await other.close()
