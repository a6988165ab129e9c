"""``mesh://``: a member over a link, another mesh over a token's link, another mesh through its gateway."""

from __future__ import annotations

import json
import random

import pytest
from aiohttp import web

from osiris_mesh.clock import SYSTEM
from osiris_mesh.codec import pack, unpack
from osiris_mesh.errors import Denied, FunctionError, Unavailable, UsageError
from osiris_mesh.identity.keys import KeyPair
from osiris_mesh.identity.multiaddr import Multiaddr
from osiris_mesh.identity.peer_id import peer_id
from osiris_mesh.identity.token import Token
from osiris_mesh.link import Audience
from osiris_mesh.link.memory import mesh as memory_mesh
from osiris_mesh.registry.providers.credentials import Credential, Credentials
from osiris_mesh.registry.providers.endpoint import surely_not
from osiris_mesh.registry.providers.https import HttpsEndpoint
from osiris_mesh.registry.providers.mesh import MeshEndpoint
from osiris_mesh.registry.record import Provider

PEER = peer_id(KeyPair.generate().public)


class Link:
    def __init__(self, answer=None):
        self.closed = False
        self.calls = []
        self.pings = 0
        self._answer = answer

    async def call(self, method, body=b"", *, timeout, headers=None):
        self.calls.append((method, unpack(body), timeout, headers))
        if isinstance(self._answer, Exception):
            raise self._answer
        return pack(self._answer)

    async def ping(self, *, timeout):
        self.pings += 1

    async def close(self):
        self.closed = True


class Links:
    def __init__(self, link):
        self.link = link
        self.asked = []

    async def to(self, peer):
        self.asked.append(peer)
        if self.link is None:
            raise Unavailable("no such peer", maybe=False)
        return self.link


def endpoint(links, https, **more):
    return MeshEndpoint(links, https(), SYSTEM, rng=random.Random(1), **more)


async def test_a_member_of_this_mesh(https):
    link = Link((1, b"\x00"))
    found = endpoint(Links(link), https)
    provider = Provider(id=PEER, endpoint=f"mesh://{PEER}")
    headers = {"idempotent": True, "context": "pure", "depth": 3, "details": True, "digest": b"x"}
    answer = await found.call(
        provider, "t/f@1.0.0", [b"x"], {"y": 1.5}, deadline=SYSTEM.monotonic() + 5, headers=headers
    )
    assert answer == [1, b"\x00"]
    method, body, timeout, told = link.calls[0]
    assert (method, body) == ("call", [[b"x"], {"y": 1.5}])
    assert 4 < timeout <= 5
    assert told == {"name": "t/f@1.0.0", "idempotent": True, "context": "pure", "depth": 3}
    await found.probe(provider)
    assert link.pings == 1
    with pytest.raises(UsageError):
        await found.discover(provider.endpoint)


async def test_errors_of_a_link_come_through(https):
    provider = Provider(id=PEER, endpoint=f"mesh://{PEER}")
    raised = FunctionError("it raised", type="ValueError")
    with pytest.raises(FunctionError):
        await endpoint(Links(Link(raised)), https).call(provider, "t/f", [], {}, deadline=None, headers={})
    with pytest.raises(Unavailable) as caught:
        await endpoint(Links(None), https).call(provider, "t/f", [], {}, deadline=None, headers={})
    assert surely_not(caught.value)


def token(*members):
    issuer = KeyPair.generate()
    return Token(b"m" * 16, b"n" * 32, "client", "developer", b"s" * 32, 1, 1 << 45, members).signed(issuer)


async def test_another_mesh_with_a_client_token(https):
    members = [Multiaddr.parse(f"/ip4/127.0.0.1/tcp/{port}/p2p/{PEER}") for port in (1, 2)]
    made, dialled = Link("yes"), []

    async def dial(address, given):
        dialled.append(address)
        assert given.mesh_id == b"m" * 16
        if len(dialled) == 1:
            raise Unavailable("gone", maybe=True)
        return made

    secret = Credential.bearer(f"mesh://{PEER}", token(*members).text())
    own = Links(Link("wrong mesh"))
    found = endpoint(own, https, credentials=Credentials({"other": secret}), dial=dial)
    provider = Provider(id="other", endpoint=f"mesh://{PEER}")
    for _ in range(3):
        assert await found.call(provider, "t/f", [], {}, deadline=None, headers={}) == "yes"
    assert len(dialled) == 2
    assert own.asked == []
    await found.close()
    assert made.closed
    dialled[:] = []

    async def nobody(address, given):
        dialled.append(address)
        raise Unavailable("gone", maybe=True)

    alone = endpoint(own, https, credentials=Credentials({"other": secret}), dial=nobody)
    with pytest.raises(Unavailable) as caught:
        await alone.call(provider, "t/f", [], {}, deadline=None, headers={})
    assert surely_not(caught.value)
    assert len(dialled) == 2


async def test_another_mesh_through_its_gateway(serve, exchange):
    async def handler(request):
        if request.headers.get("Authorization") != "Bearer osa1secret":
            return web.Response(status=401)
        if request.method == "HEAD":
            return web.Response(status=405)
        return web.json_response([request.raw_path, json.loads(await request.read())])

    where = (await serve(handler)).replace("https://", "mesh://")
    credentials = Credentials({"other": Credential.bearer(where, "osa1secret")})
    https = HttpsEndpoint(exchange, SYSTEM, credentials)
    found = MeshEndpoint(Links(None), https, SYSTEM, credentials, rng=random.Random(1))
    provider = Provider(id="other", endpoint=where)
    answer = await found.call(provider, "t/f", [1], {}, deadline=None, headers={})
    assert answer == ["/v1/call/t%2Ff", {"args": [1], "kwargs": {}}]
    await found.probe(provider)
    with pytest.raises(Denied):
        await found.call(Provider(id="stranger", endpoint=where), "t/f", [], {}, deadline=None, headers={})


async def test_over_real_links(https):
    async def serve(request):
        return pack([unpack(request.body), request.headers["name"]])

    async with memory_mesh(2) as (one, other):
        other.links.router.unary("call", serve, allow=Audience.MEMBER)
        found = endpoint(one.links, https)
        peer = peer_id(other.key.public)
        provider = Provider(id=peer, endpoint=f"mesh://{peer}")
        await found.probe(provider)
        answer = await found.call(provider, "t/f", [1], {}, deadline=None, headers={})
        assert answer == [[[1], {}], "t/f"]
