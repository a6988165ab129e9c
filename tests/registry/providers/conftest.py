"""Servers of the tests' own, on loopback."""

from __future__ import annotations

import ssl

import pytest
import trustme
from aiohttp import web

from osiris_mesh.clock import SYSTEM
from osiris_mesh.registry.guard import Guard
from osiris_mesh.registry.providers.credentials import Credential, Credentials
from osiris_mesh.registry.providers.exchange import Exchange
from osiris_mesh.registry.providers.https import HttpsEndpoint
from osiris_mesh.registry.providers.network import open_session


@pytest.fixture(scope="session")
def authority():
    return trustme.CA()


@pytest.fixture
async def serve(authority):
    """Serve a handler over TLS; returns its origin."""
    runners = []

    async def start(handler, *, tls=True):
        app = web.Application(client_max_size=64 << 20)
        app.router.add_route("*", "/{tail:.*}", handler)
        runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
        await runner.setup()
        runners.append(runner)
        context = None
        if tls:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            authority.issue_cert("localhost", "127.0.0.1").configure_cert(context)
        site = web.TCPSite(runner, "127.0.0.1", 0, ssl_context=context)
        await site.start()
        port = site._server.sockets[0].getsockname()[1]
        return f"{'https' if tls else 'http'}://localhost:{port}"

    yield start
    for runner in runners:
        await runner.cleanup()


@pytest.fixture
async def exchange(authority):
    trust = ssl.create_default_context()
    authority.configure_trust(trust)
    guard = Guard(["loopback"])
    session = open_session(guard, trust=trust)
    yield Exchange(session, guard)
    await session.close()


@pytest.fixture
def https(exchange):
    return lambda by_name=None: HttpsEndpoint(
        exchange, SYSTEM, Credentials({name: Credential.bearer(*pair) for name, pair in (by_name or {}).items()})
    )
