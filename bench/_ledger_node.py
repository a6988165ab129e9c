"""One voter of the ledger benchmark: links, Raft and ledger as a controller has them, and nothing else.

Reads JSON lines from its input, answers each with one on its output; the first says who the three are.
"""

from __future__ import annotations

import asyncio
import json
import statistics
import sys
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

from osiris_mesh.clock import SYSTEM
from osiris_mesh.identity.keys import KeyPair
from osiris_mesh.identity.multiaddr import Multiaddr
from osiris_mesh.identity.peer_id import peer_id
from osiris_mesh.ledger.entry import Entry
from osiris_mesh.ledger.kinds import ConfigSet, Genesis
from osiris_mesh.ledger.ledger import Ledger
from osiris_mesh.link import Audience, Hello, Links, Router
from osiris_mesh.node.raft_links import RaftLinks
from osiris_mesh.raft.raft import Raft
from osiris_mesh.settings import Settings

MESH = bytes(range(16))
VALUE = "x" * 100


def keys() -> list[KeyPair]:
    """Return the three nodes' keys and the admin's."""
    return [KeyPair(bytes([at + 1]) * 32) for at in range(4)]


class Voter:
    """The node."""

    def __init__(self, folder: Path, at: int) -> None:
        everyone = keys()
        self.key, self.admin = everyone[at], everyone[3]
        self.peers = [peer_id(key.public) for key in everyone[:3]]
        settings = Settings.preset("local")
        members = {key.public: Audience.MEMBER for key in everyone[:3]}
        router = Router()
        self.links = Links(
            self.key, bytes(32), Hello(MESH, name=f"n{at}"), router, admit=members.get, settings=settings.link
        )
        self.raft_links = RaftLinks(router, asyncio.get_running_loop(), lambda _peer: True)
        (folder / "raft").mkdir(parents=True)
        (folder / "ledger").mkdir()
        self.raft = Raft(
            peer=self.peers[at],
            voters=self.peers,
            folder=folder / "raft",
            settings=settings.raft,
            send=self.raft_links.send,
            on_committed=lambda batch: self.ledger.on_committed(batch),  # noqa: PLW0108 - made after it
            take_snapshot=lambda index, term: self.ledger.take_snapshot(index, term),  # noqa: PLW0108 - likewise
            install_snapshot=lambda index, term, data: self.ledger.install_snapshot(data, index, term),
        )
        self.raft_links.attach(self.raft)
        self.ledger = Ledger(
            folder / "ledger",
            MESH,
            public_key=self.key.public,
            raft=self.raft,
            links=self.links,
            settings=settings.ledger,
            clock=SYSTEM,
        )
        self.ledger.register(router)
        self.links.on_up(self.raft_links.link_up)
        self.links.on_down(self.raft_links.link_down)
        self.count = 0

    async def listen(self) -> dict[str, Any]:
        """Open the port."""
        await self.ledger.start()
        (address, *_) = await self.links.listen("127.0.0.1", 0)
        return {"address": str(address)}

    async def begin(self, addresses: list[str]) -> dict[str, Any]:
        """Link to the others and start."""
        for address in map(Multiaddr.parse, addresses):
            if address.peer != peer_id(self.key.public):
                self.links.learn(address.peer, [address])
                await self.links.to(address.peer)
        self.raft.start(self.ledger.applied)
        self.running = asyncio.ensure_future(self.ledger.run())
        return {}

    async def status(self) -> dict[str, Any]:
        """Say who leads."""
        tip = self.ledger.tip
        return {
            "leads": self.raft.status().leader == peer_id(self.key.public),
            "height": tip.height,
            "tip": tip.hash.hex(),
            "entries": self.ledger.entries,
        }

    async def found(self) -> dict[str, Any]:
        """Write the genesis."""
        founders = [[key.public, f"n{at}", []] for at, key in enumerate(keys()[:3])]
        body = Genesis("bench", founders, self.admin.public, "admin")
        receipt = await self.ledger.propose([self._sign(body, self.key)], timeout=10)
        return {"accepted": receipt.outcomes[0].accepted}

    def _sign(self, body: Any, key: KeyPair) -> bytes:
        return Entry.make(body.KIND, body.body(), key, MESH, SYSTEM).bytes

    def _entries(self, count: int) -> list[bytes]:
        start, self.count = self.count, self.count + count
        return [
            self._sign(ConfigSet(f"bench.k{at % 64}", f"{at}{VALUE}"), self.admin) for at in range(start, start + count)
        ]

    async def _one(self, entry: bytes) -> None:
        receipt = await self.ledger.propose([entry], timeout=30)
        if not receipt.outcomes[0].accepted:
            raise RuntimeError(receipt.outcomes[0].reason)

    async def sequential(self, count: int) -> dict[str, Any]:
        """Propose one after the other; microseconds."""
        times = []
        for entry in self._entries(count):
            start = time.perf_counter()
            await self._one(entry)
            times.append((time.perf_counter() - start) * 1e6)
        return {"p50": statistics.median(times)}

    async def wide(self, count: int, at_once: int) -> dict[str, Any]:
        """Keep ``at_once`` proposals under way; a second's worth."""
        waiting = iter(self._entries(count))

        async def work() -> None:
            for entry in waiting:
                await self._one(entry)

        start = time.perf_counter()
        await asyncio.gather(*(work() for _ in range(at_once)))
        return {"per_s": count / (time.perf_counter() - start)}

    async def read(self, count: int) -> dict[str, Any]:
        """Read a setting from the state; microseconds each."""
        times = []
        for _ in range(count):
            start = time.perf_counter_ns()
            self.ledger.state.settings.get("bench.k1")
            times.append((time.perf_counter_ns() - start) / 1000)
        return {"p50": statistics.median(times)}

    async def stop(self) -> dict[str, Any]:
        """End."""
        self.running.cancel()
        await asyncio.gather(self.running, return_exceptions=True)
        await self.raft_links.close()
        await self.raft.stop()
        await self.ledger.close()
        await self.links.close()
        return {}


async def main() -> None:
    """Serve the parent."""
    folder, at = Path(sys.argv[1]), int(sys.argv[2])
    voter = Voter(folder, at)
    loop = asyncio.get_running_loop()
    while line := await loop.run_in_executor(None, sys.stdin.readline):
        request = json.loads(line)
        name = request.pop("do")
        method: Callable[..., Awaitable[dict[str, Any]]] = getattr(voter, name)
        print(json.dumps(await method(**request)), flush=True)
        if name == "stop":
            return


if __name__ == "__main__":
    import uvloop

    uvloop.run(main())
