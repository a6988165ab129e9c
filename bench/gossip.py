"""Gossip among nodes in one process over loopback: how fast an event reaches all, how soon a death is known.

Links are real (TCP, handshake, box stream), membership runs over real UDP. The ceiling is a bare UDP round trip on
loopback between two sockets of the same process. Arguments: nodes (5), events a second offered (1500), seconds (5).

One process does the work of all nodes here, every event being signed once and verified by each other node.
"""

from __future__ import annotations

import asyncio
import random
import statistics
from contextlib import suppress

import uvloop

from osiris_mesh.clock import SYSTEM
from osiris_mesh.gossip import Gossip, PeerState
from osiris_mesh.identity.keys import KeyPair
from osiris_mesh.identity.multiaddr import Multiaddr
from osiris_mesh.identity.peer_id import peer_id
from osiris_mesh.link import Audience, Hello, Links, Router
from osiris_mesh.settings import Settings

SINGLE_EVENTS = 300
UDP_ROUNDS = 2000
TOPIC = "announce"


class Node:
    def __init__(self, key: KeyPair, mesh: Mesh) -> None:
        self.peer = peer_id(key.public)
        self.links = Links(
            key,
            mesh.network_key,
            Hello(mesh_id=bytes(16), name=self.peer[-6:]),
            Router(),
            admit=lambda public: Audience.MEMBER if peer_id(public) in mesh.members else None,
            settings=mesh.settings.link,
        )
        self.gossip = Gossip(
            key,
            self.links,
            router=self.links.router,
            members=lambda: mesh.members,
            settings=mesh.settings.gossip,
            rng=random.Random(self.peer),
        )
        self.task: asyncio.Task[None] | None = None
        self.got: dict[bytes, int] = {}

    async def start(self) -> list[Multiaddr]:
        addresses = await self.links.listen("127.0.0.1", 0)
        assert await self.gossip.bind("127.0.0.1", addresses[0].port), "the port is taken for UDP"
        self.task = asyncio.create_task(self.gossip.run())
        return addresses

    async def stop(self) -> None:
        if self.task is not None:
            self.task.cancel()
            with suppress(asyncio.CancelledError):
                await self.task
            self.task = None
        await self.gossip.close()
        await self.links.close()


class Mesh:
    def __init__(self, count: int) -> None:
        self.settings = Settings.preset("local")
        self.network_key = KeyPair.generate().seed
        self.members: dict[str, list[Multiaddr]] = {}
        keys = [KeyPair.generate() for _ in range(count)]
        self.nodes = [Node(key, self) for key in keys]
        for node in self.nodes:
            self.members[node.peer] = []

    async def start(self) -> None:
        for node in self.nodes:
            self.members[node.peer] = await node.start()
        for index, node in enumerate(self.nodes):
            node.gossip.members_changed()
            for other in self.nodes[:index]:
                await node.links.dial(self.members[other.peer][0])
        await until(lambda: all(self.agree(node, PeerState.ALIVE) for node in self.nodes))

    def agree(self, about: Node, state: PeerState) -> bool:
        return all(node.gossip.view()[about.peer] is state for node in self.nodes if node is not about)

    async def stop(self) -> None:
        for node in self.nodes:
            await node.stop()


async def until(condition, within: float = 30.0) -> float:
    start = SYSTEM.monotonic()
    while not condition():
        assert SYSTEM.monotonic() - start < within, "it did not come about in time"
        await asyncio.sleep(0.001)
    return SYSTEM.monotonic() - start


def percentile(values: list[float], share: float) -> float:
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))]


async def bare_udp() -> float:
    """Return the median round trip between two UDP sockets, milliseconds."""
    loop = asyncio.get_running_loop()
    done: asyncio.Future[None] = loop.create_future()
    times: list[float] = []

    class Echo(asyncio.DatagramProtocol):
        def connection_made(self, transport) -> None:
            self.transport = transport

        def datagram_received(self, data: bytes, addr) -> None:
            self.transport.sendto(data, addr)

    class Ask(Echo):
        started = 0.0

        def ask(self) -> None:
            self.started = SYSTEM.monotonic()
            self.transport.sendto(bytes(300))

        def datagram_received(self, _data: bytes, _addr) -> None:
            times.append(SYSTEM.monotonic() - self.started)
            if len(times) < UDP_ROUNDS:
                self.ask()
            elif not done.done():
                done.set_result(None)

    echo, _ = await loop.create_datagram_endpoint(Echo, local_addr=("127.0.0.1", 0))
    ask, asking = await loop.create_datagram_endpoint(Ask, remote_addr=echo.get_extra_info("sockname"))
    asking.ask()
    await done
    echo.close()
    ask.close()
    return statistics.median(times) * 1000


async def single_events(mesh: Mesh) -> list[float]:
    """Return how long each of some events, one at a time, took to reach all others, milliseconds."""
    loop = asyncio.get_running_loop()
    times: list[float] = []
    arrived: asyncio.Future[float] = loop.create_future()
    expected = [b"", 0]

    def take(_origin: str, body: bytes) -> None:
        assert body == expected[0]
        expected[1] -= 1
        if expected[1] == 0:
            arrived.set_result(SYSTEM.monotonic())

    for node in mesh.nodes:
        node.gossip.on("bench", take)
    for number in range(SINGLE_EVENTS):
        arrived = loop.create_future()
        expected[:] = [b"%0100d" % number, len(mesh.nodes) - 1]
        start = SYSTEM.monotonic()
        mesh.nodes[number % len(mesh.nodes)].gossip.publish("bench", expected[0])
        times.append((await asyncio.wait_for(arrived, 10.0) - start) * 1000)
        await asyncio.sleep(0.002)
    return times


async def burst(mesh: Mesh, rate: int, seconds: float) -> tuple[float, int, float]:
    """Offer ``rate`` events a second for ``seconds``; return events a second, lost deliveries, worst lateness in ms."""
    received = dict.fromkeys(mesh.members, 0)
    late = 0.0

    def taker(peer: str):
        def take(_origin: str, body: bytes) -> None:
            nonlocal late
            received[peer] += 1
            late = max(late, SYSTEM.monotonic() - float(body))

        return take

    for node in mesh.nodes:
        node.gossip.on(TOPIC, taker(node.peer))
    total = int(rate * seconds)
    start = SYSTEM.monotonic()
    sent = 0
    while sent < total:
        due = min(total, int((SYSTEM.monotonic() - start) * rate) + 1)
        while sent < due:
            mesh.nodes[sent % len(mesh.nodes)].gossip.publish(TOPIC, b"%f" % SYSTEM.monotonic())
            sent += 1
        await asyncio.sleep(0.001)
    wanted = total * (len(mesh.nodes) - 1)
    with suppress(AssertionError):
        await until(lambda: sum(received.values()) >= wanted, 10.0)
    elapsed = SYSTEM.monotonic() - start
    return total / elapsed, wanted - sum(received.values()), late * 1000


async def death(mesh: Mesh) -> float:
    """Kill one node without a word; return the seconds until all others know."""
    victim = mesh.nodes[-1]
    await victim.stop()
    return await until(lambda: mesh.agree(victim, PeerState.DEAD))


async def measure(count: int, rate: int, seconds: float) -> dict[str, float | int | str]:
    mesh = Mesh(count)
    await mesh.start()
    try:
        udp = await bare_udp()
        times = await single_events(mesh)
        per_s, lost, late = await burst(mesh, rate, seconds)
        noticed = await death(mesh)
    finally:
        await mesh.stop()
    p50 = statistics.median(times)
    return {
        "nodes": count,
        "event_all_p50_ms": round(p50, 3),
        "event_all_p99_ms": round(percentile(times, 0.99), 3),
        "events_per_s": round(per_s, 1),
        "offered_per_s": rate,
        "lost": lost,
        "burst_late_max_ms": round(late, 1),
        "death_noticed_s": round(noticed, 3),
        "udp_rtt_p50_ms": round(udp, 4),
        "event_ratio": round(p50 / udp, 1),
    }


def run(args: list[str]) -> dict[str, float | int | str]:
    count, rate, seconds = (list(map(float, args)) + [5, 1500, 5][len(args) :])[:3]
    return uvloop.run(measure(int(count), int(rate), seconds))
