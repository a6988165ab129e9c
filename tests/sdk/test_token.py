"""The SDK from afar: a client token becomes a link over TCP, with the token's key as identity."""

from __future__ import annotations

import secrets
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from osiris_mesh.identity.keys import KeyPair
from osiris_mesh.identity.multiaddr import Multiaddr
from osiris_mesh.identity.peer_id import peer_id
from osiris_mesh.identity.token import Token
from osiris_mesh.link import Audience, Hello, Links
from osiris_sdk import AsyncMesh, Denied, Mesh, Unavailable, UsageError
from tests.sdk.nodes import Node


class Afar:
    """A node that accepts links over TCP, and a client token for it."""

    def __init__(self, node: Node) -> None:
        self.node = node
        self.admitted: dict[bytes, Audience] = {}
        key, network_key, mesh_id = KeyPair.generate(), secrets.token_bytes(32), secrets.token_bytes(16)
        self.issuer = KeyPair.generate()
        self.links: Links = node.do(self._listen(key, network_key, mesh_id))
        self.token = Token(
            mesh_id=mesh_id,
            network_key=network_key,
            role="client",
            grant="none",
            seed=secrets.token_bytes(32),
            uses=1,
            expires_ms=time.time_ns() // 1_000_000 + 60_000,
            members=self.addresses,
        )
        self.admitted[self.token.key.public] = Audience.CLIENT

    async def _listen(self, key: KeyPair, network_key: bytes, mesh_id: bytes) -> Links:
        links = Links(key, network_key, Hello(mesh_id), self.node.router, admit=self.admitted.get)
        self.addresses = tuple(await links.listen("127.0.0.1", 0))
        return links

    def text(self, **changes: object) -> str:
        return replace(self.token, **changes).signed(self.issuer).text()  # type: ignore[arg-type]


@pytest.fixture
def afar(node: Node) -> Iterator[Afar]:
    afar = Afar(node)
    yield afar
    node.do(afar.links.close())


def test_calls_with_a_token(afar: Afar) -> None:
    with Mesh.connect(afar.text()) as mesh:
        assert mesh.call("math/add", 2, 3) == 5
        assert list(mesh.map("math/add", range(20))) == list(range(1, 21))
        caller = afar.node.runner.runs[0]["caller"]
        assert caller.audience is Audience.CLIENT
        assert caller.peer == peer_id(afar.token.key.public)
        with pytest.raises(Denied):
            mesh.request("function.list")


async def test_calls_with_a_token_awaited(afar: Afar) -> None:
    async with await AsyncMesh.connect(afar.text()) as mesh:
        assert await mesh.call("math/add", 2, 3) == 5
        with pytest.raises(TypeError):
            await mesh.call("math/add", "x")


def test_two_clients_with_one_token(afar: Afar) -> None:
    with Mesh.connect(afar.text()) as one, Mesh.connect(afar.text()) as other:
        for number in range(3):
            assert one.call("math/add", number) == other.call("math/add", number) == number + 1


def test_a_member_that_is_gone_is_passed_over(afar: Afar) -> None:
    gone = Multiaddr("127.0.0.1", 1, peer_id(KeyPair.generate().public))
    for _ in range(4):
        with Mesh.connect(afar.text(members=(gone, *afar.addresses))) as mesh:
            assert mesh.call("math/add", 1) == 2
    with pytest.raises(Unavailable, match="can't be reached"):
        Mesh.connect(afar.text(members=(gone,)), timeout=1.0)


def test_a_revoked_token_is_denied(afar: Afar) -> None:
    afar.admitted.clear()
    with pytest.raises((Denied, Unavailable)):
        Mesh.connect(afar.text(), timeout=2.0)


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        ({"role": "voter"}, "not a client's"),
        ({"expires_ms": 1}, "expired"),
        ({"members": ()}, "no member"),
    ],
)
def test_tokens_that_do_not_serve(afar: Afar, changes: dict[str, object], text: str) -> None:
    with pytest.raises(UsageError, match=text):
        Mesh.connect(afar.text(**changes))


def test_a_home_named_like_a_folder_is_no_token(tmp_path: Path) -> None:
    with pytest.raises(Unavailable):
        Mesh.connect(tmp_path)
