"""Whole Gossip shells over loopback."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from osiris_mesh.codec import pack
from osiris_mesh.errors import Denied, OsirisError, RemoteProtocolError, UsageError
from osiris_mesh.gossip import Load, PeerState
from osiris_mesh.gossip.message import Kind, Message
from osiris_mesh.link.request import Audience
from osiris_mesh.settings import GossipSettings
from tests.gossip.loopback import Loopback, eventually

TEST = GossipSettings.preset("test")


async def test_all_come_to_know_all_and_a_killed_one_is_noticed() -> None:
    async with Loopback(3, settings=TEST) as mesh:
        await eventually(mesh.all_alive)
        victim = mesh.nodes[1]
        await mesh.kill(victim)
        took = await eventually(lambda: mesh.agree(victim, PeerState.DEAD))
        assert took < 3.0
        assert not mesh.nodes[0].gossip.alive(victim.peer)
        assert mesh.nodes[0].gossip.alive(mesh.nodes[2].peer)
        assert mesh.nodes[0].gossip.alive(mesh.nodes[0].peer)


@pytest.mark.parametrize(("udp", "links"), [(True, False), (False, True)], ids=["only UDP", "only links"])
async def test_one_way_of_talking_is_enough(udp: bool, links: bool) -> None:
    async with Loopback(3, settings=TEST, udp=udp, links=links) as mesh:
        await eventually(mesh.all_alive)
        victim = mesh.nodes[2]
        await mesh.kill(victim)
        await eventually(lambda: mesh.agree(victim, PeerState.DEAD))


async def test_who_leaves_is_not_dead() -> None:
    async with Loopback(3, settings=TEST) as mesh:
        await eventually(mesh.all_alive)
        leaver = mesh.nodes[0]
        leaver.gossip.leave()
        await eventually(lambda: mesh.agree(leaver, PeerState.LEFT))
        await mesh.kill(leaver)
        assert not [state for node in mesh.nodes for _, _, state in node.changes if state is PeerState.DEAD]


async def test_a_message_reaches_all_once_and_in_order() -> None:
    async with Loopback(5, settings=TEST) as mesh:
        await eventually(mesh.all_alive)
        got: dict[str, list[tuple[str, bytes]]] = {node.peer: [] for node in mesh.nodes}
        for node in mesh.nodes:
            node.gossip.on("announce", lambda origin, body, peer=node.peer: got[peer].append((origin, body)))
        source = mesh.nodes[3]
        bodies = [b"%d" % number for number in range(300)]
        for body in bodies:
            source.gossip.publish("announce", body)
        others = [node.peer for node in mesh.nodes if node is not source]
        await eventually(lambda: all(len(got[peer]) >= 300 for peer in others))
        assert all(got[peer] == [(source.peer, body) for body in bodies] for peer in others)
        assert got[source.peer] == []
        assert all(node.gossip.counters()["queue_dropped"] == 0 for node in mesh.nodes)


async def test_a_member_without_a_link_gets_it_through_others() -> None:
    async with Loopback(4, settings=TEST) as mesh:
        await eventually(mesh.all_alive)
        source, cut_off = mesh.nodes[0], mesh.nodes[1]
        await mesh.cut(source, cut_off)
        await eventually(lambda: source.peer not in cut_off.links.live and cut_off.peer not in source.links.live)
        got: list[bytes] = []
        cut_off.gossip.on("announce", lambda _, body: got.append(body))
        await eventually(lambda: source.gossip.alive(cut_off.peer))
        source.gossip.publish("announce", b"round about")
        await eventually(lambda: got == [b"round about"])
        source.gossip.publish("announce", b"again")
        await eventually(lambda: len(got) == 2)
        assert got == [b"round about", b"again"], "two relays, one delivery"


async def test_a_link_that_comes_up_brings_the_newest_of_latest_wins_topics() -> None:
    async with Loopback(2, settings=TEST, links=False) as mesh:
        one, other = mesh.nodes
        got: list[bytes] = []
        other.gossip.on("tip", lambda _, body: got.append(body))
        await eventually(mesh.all_alive)
        for height in (b"1", b"2", b"3"):
            one.gossip.publish("tip", height)
        await mesh.link(one, other)
        await eventually(lambda: got == [b"3"])


async def test_load_is_published_and_forgotten_with_its_node(tmp_path: Path) -> None:
    async with Loopback(3, settings=TEST, folder=tmp_path) as mesh:
        watcher, victim = mesh.nodes[0], mesh.nodes[2]
        await eventually(lambda: len(watcher.gossip.loads) == 3)
        load = watcher.gossip.loads.get(victim.peer)
        assert load is not None
        assert load.memory_total > load.memory_used > 0
        assert load.disk_free > 0
        await mesh.kill(victim)
        await eventually(lambda: watcher.gossip.loads.get(victim.peer) is None)


async def test_a_callback_that_fails_disturbs_nobody(caplog: pytest.LogCaptureFixture) -> None:
    async with Loopback(2, settings=TEST) as mesh:
        await eventually(mesh.all_alive)
        got: list[bytes] = []
        mesh.nodes[1].gossip.on("announce", lambda _, body: {}[body])
        mesh.nodes[1].gossip.on("announce", lambda _, body: got.append(body))
        mesh.nodes[0].gossip.publish("announce", b"x")
        await eventually(lambda: got == [b"x"])
        assert "a gossip callback failed" in caplog.text


async def test_a_removed_members_messages_do_not_count() -> None:
    async with Loopback(3, settings=TEST) as mesh:
        await eventually(mesh.all_alive)
        removed = mesh.nodes[2]
        got: list[bytes] = []
        for node in mesh.nodes[:2]:
            node.gossip.on("announce", lambda _, body: got.append(body))
        mesh.nodes.remove(removed)
        try:
            for node in mesh.nodes:
                node.gossip.members_changed()
            await eventually(lambda: all(removed.peer not in node.gossip.view() for node in mesh.nodes))
            removed.gossip.publish("announce", b"from outside")
            mesh.nodes[0].gossip.publish("announce", b"from inside")
            await eventually(lambda: b"from inside" in got)
            await eventually(lambda: mesh.nodes[0].gossip.counters()["message_stranger"] > 0)
            assert got == [b"from inside"]
        finally:
            await mesh.kill(removed)


async def test_methods_are_for_members_alone() -> None:
    async with Loopback(1, settings=TEST) as mesh:
        methods = mesh.nodes[0].router.methods()
        assert methods == {"gossip.swim": Audience.MEMBER, "gossip.message": Audience.MEMBER}


@pytest.mark.parametrize(
    "body", [b"", b"\0" * 7, b"\0" * 8, b"\0" * 8 + b"\xc1", b"\0" * 8 + pack([1, 9, 0, b"", 0, []])]
)
async def test_a_wrong_swim_call_is_answered_with_an_error(body: bytes) -> None:
    async with Loopback(2, settings=TEST) as mesh:
        await eventually(mesh.all_alive)
        link = mesh.nodes[0].links.live[mesh.nodes[1].peer]
        with pytest.raises(RemoteProtocolError):
            await link.call("gossip.swim", body, timeout=2.0)
        assert mesh.all_alive()


@pytest.mark.parametrize(
    "body", [b"\xc1", pack({}), pack([1]), pack([[b"", [b"short"]]]), pack([[b"", [bytes(32)] * 17]])]
)
async def test_a_wrong_message_frame_ends_its_stream_and_no_more(body: bytes) -> None:
    async with Loopback(2, settings=TEST) as mesh:
        await eventually(mesh.all_alive)
        link = mesh.nodes[0].links.live[mesh.nodes[1].peer]
        stream = link.open("gossip.message", body)
        with pytest.raises(OsirisError):
            await stream.receive()
        got: list[bytes] = []
        mesh.nodes[1].gossip.on("announce", lambda _, data: got.append(data))
        mesh.nodes[0].gossip.publish("announce", b"still here")
        await eventually(lambda: got == [b"still here"])


async def test_strangers_datagrams_change_nothing() -> None:
    async with Loopback(2, settings=TEST) as mesh:
        await eventually(mesh.all_alive)
        target = mesh.nodes[0].gossip
        transport, _ = await asyncio.get_running_loop().create_datagram_endpoint(
            asyncio.DatagramProtocol, remote_addr=("127.0.0.1", target.port)
        )
        try:
            for size in (0, 1, 40, 41, 100, 1300, 9000):
                transport.sendto(bytes(size))
            transport.sendto(Message(Kind.PING, 1).encode())
            counters = target.counters
            await eventually(lambda: counters()["strangers"] >= 2 and counters()["broken"] >= 3)
            assert mesh.all_alive()
        finally:
            transport.close()


async def test_publish_refuses_what_is_out_of_bounds() -> None:
    async with Loopback(1, settings=TEST) as mesh:
        gossip = mesh.nodes[0].gossip
        for topic, body in (("", b""), ("x" * 65, b""), ("tïp", b""), ("tip", bytes(TEST.message_bytes + 1))):
            with pytest.raises(UsageError):
                gossip.publish(topic, body)


async def test_a_taken_udp_port_is_no_failure() -> None:
    async with Loopback(1, settings=TEST) as mesh:
        taken = mesh.nodes[0].gossip.port
        async with Loopback(1, settings=TEST, udp=False) as second:
            assert not await second.nodes[0].gossip.bind("127.0.0.1", taken)
            assert second.nodes[0].gossip.port == 0


def test_public_names() -> None:
    assert isinstance(Load().functions, dict)
    assert Denied.exit_code == 5
