"""The benchmark's mesh, as a test: gossip over real TCP links with handshake and boxes, and real UDP."""

from __future__ import annotations

import asyncio

import pytest

from bench.gossip import Mesh, until
from osiris_mesh.gossip import PeerState
from osiris_mesh.gossip.boxes import Boxes
from osiris_mesh.gossip.datagram import Datagrams
from osiris_mesh.identity.keys import KeyPair
from osiris_mesh.identity.multiaddr import Multiaddr
from osiris_mesh.identity.peer_id import peer_id


async def test_events_reach_all_and_a_death_is_noticed_in_three_seconds() -> None:
    mesh = Mesh(3)
    try:
        await mesh.start()
        got: list[tuple[str, bytes]] = []
        for node in mesh.nodes:
            node.gossip.on("announce", lambda origin, body: got.append((origin, body)))
        source, victim = mesh.nodes[0], mesh.nodes[2]
        source.gossip.publish("announce", b"event")
        await until(lambda: len(got) == 2)
        assert got == [(source.peer, b"event")] * 2
        await victim.stop()
        assert await until(lambda: mesh.agree(victim, PeerState.DEAD)) < 3.0
    finally:
        await mesh.stop()


@pytest.mark.parametrize("host", ["127.0.0.1", "::1"])
async def test_datagrams_over_both_families_and_by_name(host: str) -> None:
    keys = [KeyPair.generate(), KeyPair.generate()]
    one, other = (peer_id(key.public) for key in keys)
    got: asyncio.Queue[tuple[str, bytes]] = asyncio.Queue()
    where: dict[str, list[Multiaddr]] = {one: [], other: []}
    sockets = []
    for index, key in enumerate(keys):
        boxes = Boxes(key, session=bytes([index] * 8), number=1)
        boxes.set_members([one, other])
        sockets.append(
            Datagrams(
                boxes,
                addresses=lambda peer: where[peer],
                on_message=lambda peer, message: got.put_nowait((peer, message)),
            )
        )
    try:
        for each in sockets:
            if not await each.bind(host, 0):
                pytest.skip(f"{host} can't be bound here")
        assert not sockets[0].send(other, b"nowhere to go")
        where[other] = [
            Multiaddr("2001:db8::1" if host == "127.0.0.1" else "host.invalid", 0),
            Multiaddr(host, sockets[1].port),
        ]
        assert sockets[0].send(other, b"there")
        async with asyncio.timeout(5):
            assert await got.get() == (one, b"there")
            assert sockets[1].send(one, b"back"), "the address it came from is known now"
            assert await got.get() == (other, b"back")
            if host == "127.0.0.1":
                where[other] = [Multiaddr("localhost", sockets[1].port)]
                sockets[0].forget(other)
                while not sockets[0].send(other, b"by name"):
                    await asyncio.sleep(0.001)
                assert await got.get() == (one, b"by name")
    finally:
        for each in sockets:
            each.close()
