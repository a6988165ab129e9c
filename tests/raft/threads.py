"""Real Rafts, threads and files in one process; packets handed over directly, links cut at will."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

from osiris_mesh.raft import Committed, Raft, RaftStatus
from osiris_mesh.settings import RaftSettings

TEST = RaftSettings.preset("test")


async def until(condition: Callable[[], bool], *, within: float = 10.0, what: str = "") -> None:
    """Poll ``condition`` until it holds."""
    deadline = time.monotonic() + within
    while not condition():
        assert time.monotonic() < deadline, what or "a condition did not come true in time"
        await asyncio.sleep(0.005)


class Node:
    """One Raft and what it was given."""

    def __init__(self, mesh: Mesh, peer: str, voters: Sequence[str] | None, settings: RaftSettings) -> None:
        self.mesh, self.peer, self.voters, self.settings = mesh, peer, voters, settings
        self.committed: list[Committed] = []
        self.installed: list[tuple[int, int, bytes]] = []
        self.changes: list[RaftStatus] = []
        self.raft: Raft = None  # type: ignore[assignment]

    def start(self, *, applied: int = 0) -> None:
        self.raft = Raft(
            peer=self.peer,
            voters=self.voters,
            folder=self.mesh.folder / self.peer,
            settings=self.settings,
            send=self._send,
            on_committed=self.committed.extend,
            take_snapshot=lambda index, term: f"{index}/{term}".encode(),
            install_snapshot=lambda index, term, data: self.installed.append((index, term, data)),
            on_change=self.changes.append,
        )
        self.raft.start(applied)
        for other in self.mesh.nodes.values():
            if other is not self and other.running and self.mesh.joined(self.peer, other.peer):
                self.raft.peer_up(other.peer)
                other.raft.peer_up(self.peer)

    @property
    def running(self) -> bool:
        return self.raft is not None and self.raft.status().role not in {"stopped", "failed"}

    @property
    def commands(self) -> list[bytes]:
        return [item.command for item in self.committed]

    def _send(self, peer: str, packet: bytes) -> None:
        other = self.mesh.nodes.get(peer)
        if other is not None and other.running and self.mesh.joined(self.peer, peer):
            other.raft.deliver(self.peer, packet)

    async def stop(self) -> None:
        await self.raft.stop()
        for other in self.mesh.nodes.values():
            if other is not self and other.running:
                other.raft.peer_down(self.peer)


class Mesh:
    """Nodes that reach each other unless cut."""

    def __init__(self, folder: Path, settings: RaftSettings = TEST) -> None:
        self.folder, self.settings = folder, settings
        self.nodes: dict[str, Node] = {}
        self.cuts: set[frozenset[str]] = set()

    def add(self, peer: str, voters: Sequence[str] | None, *, start: bool = True) -> Node:
        node = self.nodes[peer] = Node(self, peer, voters, self.settings)
        if start:
            node.start()
        return node

    def form(self, *peers: str) -> list[Node]:
        return [self.add(peer, peers) for peer in peers]

    def joined(self, one: str, other: str) -> bool:
        return frozenset((one, other)) not in self.cuts

    def cut(self, peer: str, others: Iterable[str]) -> None:
        for other in others:
            self.cuts.add(frozenset((peer, other)))
            self.nodes[peer].raft.peer_down(other)
            self.nodes[other].raft.peer_down(peer)

    def heal(self) -> None:
        for pair in self.cuts:
            one, other = pair
            self.nodes[one].raft.peer_up(other)
            self.nodes[other].raft.peer_up(one)
        self.cuts = set()

    def leader(self) -> Node | None:
        leading = [node for node in self.nodes.values() if node.running and node.raft.status().role == "leader"]
        return max(leading, key=lambda node: node.raft.status().term, default=None)

    async def elected(self, *, other_than: Node | None = None) -> Node:
        await until(lambda: self.leader() not in {None, other_than}, what="no leader was elected")
        node = self.leader()
        assert node is not None
        return node

    async def close(self) -> None:
        for node in self.nodes.values():
            if node.raft is not None:
                await node.raft.stop()
