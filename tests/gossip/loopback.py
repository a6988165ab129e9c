"""Several Gossip shells in one process: real UDP sockets on loopback, real links over socket pairs."""

from __future__ import annotations

import asyncio
import random
import socket
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from types import TracebackType

from osiris_mesh.gossip import Gossip, PeerState
from osiris_mesh.identity.keys import KeyPair
from osiris_mesh.identity.multiaddr import Multiaddr
from osiris_mesh.identity.peer_id import peer_id
from osiris_mesh.link.aio import Link
from osiris_mesh.link.request import Audience, Caller
from osiris_mesh.link.router import Router
from osiris_mesh.link.unix import link_over
from osiris_mesh.settings import GossipSettings


class PairLinks:
    """The part of Links that gossip sees."""

    def __init__(self) -> None:
        self.live: dict[str, Link] = {}
        self._up: list[Callable[[Link], None]] = []
        self._down: list[Callable[[str], None]] = []

    def get(self, peer: str) -> Link | None:
        return self.live.get(peer)

    def addresses(self, peer: str) -> Sequence[Multiaddr]:
        return ()

    def on_up(self, callback: Callable[[Link], None]) -> None:
        self._up.append(callback)

    def on_down(self, callback: Callable[[str], None]) -> None:
        self._down.append(callback)

    def add(self, link: Link) -> None:
        peer = link.caller.peer
        self.live[peer] = link

        def gone(lost: Link) -> None:
            if self.live.get(peer) is lost:
                del self.live[peer]
                for callback in self._down:
                    callback(peer)

        link.on_close(gone)
        for callback in self._up:
            callback(link)


class Node:
    def __init__(self, mesh: Loopback, key: KeyPair) -> None:
        self.key = key
        self.peer = peer_id(key.public)
        self.router = Router()
        self.links = PairLinks()
        self.changes: list[tuple[float, str, PeerState]] = []
        self.gossip = Gossip(
            key,
            self.links,
            router=self.router,
            members=mesh.members,
            settings=mesh.settings,
            rng=random.Random(len(mesh.nodes)),
            folder=mesh.folder,
        )
        loop = asyncio.get_running_loop()
        self.gossip.on_change(lambda peer, state: self.changes.append((loop.time(), peer, state)))
        self.task: asyncio.Task[None] | None = None

    @property
    def caller(self) -> Caller:
        return Caller(self.key.public, self.peer, Audience.MEMBER)


class Loopback:
    """``count`` nodes, each linked to each."""

    def __init__(
        self, count: int, *, settings: GossipSettings, folder: Path | None = None, udp: bool = True, links: bool = True
    ) -> None:
        self.settings = settings
        self.folder = folder
        self.udp = udp
        self.nodes: list[Node] = []
        self._count = count
        self._linked = links

    def members(self) -> dict[str, list[Multiaddr]]:
        return {node.peer: [Multiaddr("127.0.0.1", node.gossip.port, node.peer)] for node in self.nodes}

    async def __aenter__(self) -> Loopback:
        for _ in range(self._count):
            self.nodes.append(Node(self, KeyPair.generate()))
        for node in self.nodes:
            if self.udp:
                assert await node.gossip.bind("127.0.0.1", 0)
        for node in self.nodes:
            node.task = asyncio.create_task(node.gossip.run())
        if self._linked:
            for index, one in enumerate(self.nodes):
                for other in self.nodes[index + 1 :]:
                    await self.link(one, other)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for node in list(self.nodes):
            await self.kill(node)

    async def link(self, one: Node, other: Node) -> None:
        left, right = socket.socketpair()
        first = await link_over(left, one.router, other.caller)
        second = await link_over(right, other.router, one.caller)
        one.links.add(first)
        other.links.add(second)

    async def cut(self, one: Node, other: Node) -> None:
        link = one.links.get(other.peer)
        if link is not None:
            await link.close()

    async def kill(self, node: Node) -> None:
        """End a node without a word."""
        if node.task is not None:
            node.task.cancel()
            with suppress(asyncio.CancelledError):
                await node.task
            node.task = None
        await node.gossip.close()
        for link in list(node.links.live.values()):
            await link.close()

    def agree(self, about: Node, state: PeerState) -> bool:
        return all(
            node.gossip.view().get(about.peer) is state
            for node in self.nodes
            if node is not about and node.task is not None
        )

    def all_alive(self) -> bool:
        return all(self.agree(node, PeerState.ALIVE) for node in self.nodes if node.task is not None)


async def eventually(condition: Callable[[], bool], *, within: float = 10.0) -> float:
    """Wait until ``condition`` holds; return the seconds it took."""
    loop = asyncio.get_running_loop()
    start = loop.time()
    while not condition():
        assert loop.time() - start < within, "it did not come about in time"
        await asyncio.sleep(0.002)
    return loop.time() - start
