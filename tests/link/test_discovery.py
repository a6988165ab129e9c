"""mDNS: what is read is bounded; two nodes on loopback find each other; without multicast nothing fails."""

from __future__ import annotations

import asyncio
import secrets
import socket
import subprocess
import sys
from contextlib import asynccontextmanager, suppress

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from osiris_mesh.identity.keys import KeyPair
from osiris_mesh.identity.multiaddr import Multiaddr
from osiris_mesh.identity.peer_id import peer_id
from osiris_mesh.link import discovery
from osiris_mesh.link.discovery import Discovery, Hint, browse, check_multicast, mesh_mark, read_hint

# Other tests may be announcing on this machine at the same time: nobody else has these.
PEER = peer_id(KeyPair.generate().public)
OTHER = peer_id(KeyPair.generate().public)
MESH = secrets.token_bytes(16)
GOOD = {b"v": b"1", b"m": mesh_mark(MESH).encode(), b"p": PEER.encode()}
LOOPBACK = ["127.0.0.1"]


def test_a_good_announcement_is_a_hint() -> None:
    assert read_hint(GOOD, ["192.0.2.1", "2001:db8::1"], 7411) == Hint(
        mesh_mark(MESH), PEER, (Multiaddr("192.0.2.1", 7411, PEER), Multiaddr("2001:db8::1", 7411, PEER))
    )


def test_the_mark_does_not_tell_the_mesh_id() -> None:
    assert mesh_mark(b"m" * 16) == "829562cf0eccd67c4af624189885c6a9"
    assert mesh_mark(b"m" * 16) != mesh_mark(b"n" * 16)


@pytest.mark.parametrize(
    ("change", "hosts", "port"),
    [
        ({b"v": b"2"}, ["192.0.2.1"], 7411),
        ({b"v": None}, ["192.0.2.1"], 7411),
        ({b"m": b"short"}, ["192.0.2.1"], 7411),
        ({b"m": b"Z" * 32}, ["192.0.2.1"], 7411),
        ({b"m": "é".encode() * 16}, ["192.0.2.1"], 7411),
        ({b"p": b"nobody"}, ["192.0.2.1"], 7411),
        ({b"p": b"1" * 70_000}, ["192.0.2.1"], 7411),
        ({b"p": None}, ["192.0.2.1"], 7411),
        ({b"x": b"y" * 513}, ["192.0.2.1"], 7411),
        ({}, [], 7411),
        ({}, ["fe80::1%eth0"], 7411),
        ({}, ["fe80::1"], 7411),
        ({}, ["224.0.0.251"], 7411),
        ({}, ["0.0.0.0"], 7411),  # noqa: S104 - it is refused
        ({}, ["host.example"], 7411),
        ({}, ["192.0.2.1"], 0),
        ({}, ["192.0.2.1"], None),
        ({}, ["192.0.2.1"], 65_536),
    ],
)
def test_what_is_wrong_is_no_hint(change: dict[bytes, bytes | None], hosts: list[str], port: int | None) -> None:
    assert read_hint({**GOOD, **change}, hosts, port) is None


def test_addresses_are_bounded() -> None:
    hint = read_hint(GOOD, [f"192.0.2.{number}" for number in range(200)], 7411)
    assert hint is not None
    assert len(hint.addresses) == 8


@settings(max_examples=100, deadline=None)
@given(
    st.dictionaries(st.sampled_from([b"v", b"m", b"p", b"z"]), st.none() | st.binary(max_size=600)),
    st.lists(st.text(max_size=40) | st.sampled_from(["192.0.2.1", "::1"]), max_size=40),
    st.none() | st.integers(),
)
def test_anything_else_is_none_or_a_bounded_hint(
    change: dict[bytes, bytes | None], hosts: list[str], port: int | None
) -> None:
    hint = read_hint({**GOOD, **change}, hosts, port)
    assert hint is None or (0 < len(hint.addresses) <= 8 and len(hint.mark) == 32 and len(hint.peer) <= 64)


@asynccontextmanager
async def running(peer: str, port: int, mesh: bytes = MESH):
    hints: asyncio.Queue[Hint] = asyncio.Queue()
    node = Discovery(mesh, peer, on_hint=hints.put_nowait)
    task = asyncio.create_task(node.run([Multiaddr("127.0.0.1", port, peer)]))
    try:
        yield node, hints
    finally:
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task


async def multicast_or_skip() -> None:
    problem = await check_multicast(interface="127.0.0.1")
    if problem:
        pytest.skip(problem)


async def test_two_nodes_find_each_other_on_loopback() -> None:
    await multicast_or_skip()
    async with running(PEER, 7411) as (_, seen_by_first), running(OTHER, 7412) as (_, seen_by_second):
        async with asyncio.timeout(15):
            first, second = await seen_by_first.get(), await seen_by_second.get()
    assert first == Hint(mesh_mark(MESH), OTHER, (Multiaddr("127.0.0.1", 7412, OTHER),))
    assert second == Hint(mesh_mark(MESH), PEER, (Multiaddr("127.0.0.1", 7411, PEER),))


async def test_a_look_around_sees_every_mesh_and_a_member_only_its_own() -> None:
    await multicast_or_skip()
    async with running(PEER, 7411) as (_, hints), running(OTHER, 7412, b"n" * 16) as (other, _):
        found: dict[str, Hint] = {}
        async with asyncio.timeout(20):
            while not {PEER, OTHER} <= found.keys():
                found |= {hint.peer: hint for hint in (await browse(1.0, interfaces=LOOPBACK)).hints}
        assert found[PEER].mark != found[OTHER].mark
        assert other.problem == ""
        assert hints.empty()


async def test_a_look_around_without_anybody_says_so() -> None:
    await multicast_or_skip()
    found = await browse(0.3, interfaces=LOOPBACK)
    assert not [hint for hint in found.hints if hint.mark == mesh_mark(MESH)]
    assert found.problem == ""


async def test_without_multicast_nothing_raises_and_the_reason_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise OSError(19, "No such device")

    @asynccontextmanager
    async def impossible(_interfaces: object):
        refuse()
        yield

    monkeypatch.setattr(discovery, "_opened", impossible)
    async with running(PEER, 7411) as (node, _):
        async with asyncio.timeout(5):
            while node.problem == "not started":
                await asyncio.sleep(0)
        assert node.problem == "no multicast: No such device"
    assert await browse(5.0) == discovery.Browsed((), "no multicast: No such device")
    monkeypatch.setattr(socket.socket, "setsockopt", refuse)
    assert await check_multicast() == "no multicast: No such device"


def test_zeroconf_is_imported_only_when_used() -> None:
    code = "import sys, osiris_mesh.link.discovery; sys.exit('zeroconf' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False, timeout=60).returncode == 0
