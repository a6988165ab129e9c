"""Domains asked over a DNS server and an HTTPS server of these tests' own."""

from __future__ import annotations

import asyncio
import socket
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Any

import dns.asyncresolver
import dns.flags
import dns.message
import dns.rcode
import dns.rrset
import pytest
import trustme
from aiohttp import web
from aiohttp.abc import AbstractResolver, ResolveResult

from osiris_mesh.clock import SYSTEM
from osiris_mesh.errors import Unavailable, UsageError
from osiris_mesh.registry.domain import claim
from osiris_mesh.registry.domain_fetch import DomainFetch, system_texts
from osiris_mesh.registry.guard import Guard

KEY, OTHER = bytes(range(32)), bytes(32)
AUTHORITY = trustme.CA()


class Zone(asyncio.DatagramProtocol):
    """A DNS server with some TXT records."""

    def __init__(self, records: Mapping[str, Sequence[str]], code: dns.rcode.Rcode = dns.rcode.NOERROR) -> None:
        self.records = records
        self.code = code
        self.asked: list[str] = []

    def connection_made(self, transport: Any) -> None:
        self.transport = transport

    def datagram_received(self, data: bytes, addr: Any) -> None:
        query = dns.message.from_wire(data)
        name = query.question[0].name.to_text()
        self.asked.append(name)
        reply = dns.message.make_response(query)
        reply.flags |= dns.flags.RA
        texts = self.records.get(name)
        if self.code != dns.rcode.NOERROR:
            reply.set_rcode(self.code)
        elif texts is None:
            reply.set_rcode(dns.rcode.NXDOMAIN)
        elif texts:
            reply.answer.append(dns.rrset.from_text_list(name, 60, "IN", "TXT", texts))
        self.transport.sendto(reply.to_wire(), addr)


class Here(AbstractResolver):
    """Every name is this machine."""

    async def resolve(self, host: str, port: int = 0, family: int = socket.AF_INET) -> list[ResolveResult]:
        return [ResolveResult(hostname=host, host="127.0.0.1", port=port, family=socket.AF_INET, proto=0, flags=0)]

    async def close(self) -> None:
        pass


@asynccontextmanager
async def dns_server(zone: Zone) -> AsyncIterator[dns.asyncresolver.Resolver]:
    loop = asyncio.get_running_loop()
    transport, _ = await loop.create_datagram_endpoint(lambda: zone, local_addr=("127.0.0.1", 0))
    resolver = dns.asyncresolver.Resolver(configure=False)
    resolver.nameservers = ["127.0.0.1"]
    resolver.port = transport.get_extra_info("sockname")[1]
    try:
        yield resolver
    finally:
        transport.close()


Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


@asynccontextmanager
async def https_server(handler: Handler, name: str = "acme.com") -> AsyncIterator[int]:
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    AUTHORITY.issue_cert(name).configure_cert(context)
    app = web.Application()
    app.router.add_get("/{path:.*}", handler)
    runner = web.AppRunner(app)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0, ssl_context=context)
    await site.start()
    try:
        yield runner.addresses[0][1]
    finally:
        await runner.cleanup()


def trust() -> ssl.SSLContext:
    context = ssl.create_default_context()
    AUTHORITY.configure_trust(context)
    return context


def says(text: str, status: int = 200) -> Handler:
    async def handler(request: web.Request) -> web.Response:
        assert request.path == "/.well-known/osiris-registry"
        return web.Response(text=text, status=status)

    return handler


async def asked(
    zone: Zone, handler: Handler, key: bytes | None = None, *, name: str = "acme.com", guard: Guard | None = None
) -> Any:
    async with dns_server(zone) as resolver, https_server(handler, name) as port:
        fetch = DomainFetch(
            SYSTEM,
            system_texts(resolver),
            guard=guard or Guard(["loopback"]),
            trust=trust(),
            resolver=Here(),
            port=port,
        )
        return await fetch.ask("acme.com", key)


async def test_a_txt_record_proves_whatever_stands_beside_it() -> None:
    zone = Zone({"_osiris.acme.com.": ['"v=spf1 -all"', f'"{claim(OTHER)}"', f'"{claim(KEY)}"']})
    proof = await asked(zone, says("", 404), KEY)
    assert (proof.method, proof.keys, zone.asked) == ("dns", (OTHER, KEY), ["_osiris.acme.com."])


async def test_a_record_in_several_strings_is_one_text() -> None:
    text = claim(KEY)
    zone = Zone({"_osiris.acme.com.": [f'"{text[:20]}" "{text[20:]}"']})
    assert (await asked(zone, says("", 404), KEY)).keys == (KEY,)


async def test_the_file_proves_where_dns_says_nothing() -> None:
    proof = await asked(Zone({}), says(f"# our keys\n{claim(KEY)}\n"), KEY)
    assert (proof.method, proof.keys) == ("well-known", (KEY,))


async def test_the_file_proves_where_dns_fails() -> None:
    assert (await asked(Zone({}, dns.rcode.REFUSED), says(claim(KEY)), KEY)).keys == (KEY,)


async def test_a_domain_that_names_no_key_is_an_answer() -> None:
    assert (await asked(Zone({}), says("", 404))).keys == ()
    assert (await asked(Zone({"_osiris.acme.com.": []}), says("nothing of this kind"))).keys == ()


async def redirect(_request: web.Request) -> web.Response:
    raise web.HTTPFound("/elsewhere")


async def endless(request: web.Request) -> web.StreamResponse:
    answer = web.StreamResponse()
    await answer.prepare(request)
    try:
        for _ in range(100):
            await answer.write(b"#" * 1000)
    except ConnectionError:
        pass
    return answer


@pytest.mark.parametrize(
    ("handler", "what"),
    [
        (redirect, "answers 302"),
        (endless, "longer than 4096"),
        (says("x" * 5000), "longer than 4096"),
        (says("", 500), "500"),
    ],
)
async def test_a_file_that_is_elsewhere_or_endless_is_not_read(handler: Handler, what: str) -> None:
    with pytest.raises(Unavailable, match=what):
        await asked(Zone({}, dns.rcode.REFUSED), handler, KEY)


async def test_a_certificate_of_somebody_else_proves_nothing() -> None:
    with pytest.raises(Unavailable, match="certificate"):
        await asked(Zone({}, dns.rcode.REFUSED), says(claim(KEY)), KEY, name="evil.example")


async def test_a_domain_that_points_into_this_network_is_not_asked() -> None:
    with pytest.raises(Unavailable, match="not a public address"):
        await asked(Zone({}, dns.rcode.REFUSED), says(claim(KEY)), KEY, guard=Guard())
    with pytest.raises(UsageError):
        await DomainFetch(SYSTEM, system_texts()).ask("localhost")
