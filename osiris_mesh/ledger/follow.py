"""Gets blocks from peers: for nodes that do not vote, and for voters that a snapshot left behind.

Three loops. *Compare*: every few seconds ask some peers for their tips, and whether theirs is the same chain. *Pull*:
while a peer is ahead, ask one for a bounded batch of blocks. *Subscribe*: a node that does not vote keeps one stream
open on which a peer sends each new block. Whatever way a block comes, :meth:`Applier.ingest` checks it against the
chain; a peer that sends a bad one is named in the log and left alone. Which peer to ask and when is
:class:`PullPlan`'s.
"""

from __future__ import annotations

import asyncio
import logging
import random
from typing import TYPE_CHECKING, Final

from osiris_mesh.codec import FRAME, Limits, pack, unpack
from osiris_mesh.errors import OsirisError, RemoteProtocolError
from osiris_mesh.ledger.proposer import Peers
from osiris_mesh.ledger.pull import PullPlan
from osiris_mesh.ledger.replica import BadBlock
from osiris_mesh.ledger.serve import BLOCKS, FOLLOW, TIP
from osiris_mesh.settings.ledger import LedgerSettings

if TYPE_CHECKING:
    from osiris_mesh.ledger.ledger import Ledger

__all__ = ["Follower"]

_log = logging.getLogger(__name__)
_TIP: Final = Limits(size=256, depth=1, count=8)


def _now() -> float:
    return asyncio.get_running_loop().time()


class Follower:
    """Keeps a ledger abreast of its peers.

    Args:
        ledger: The ledger.
        peer: This node's peer id.
        links: Links to other nodes.
        settings: Bounds and pauses.
        rng: Chooses among peers.
    """

    def __init__(self, ledger: Ledger, peer: str, links: Peers, settings: LedgerSettings, rng: random.Random) -> None:
        self._ledger = ledger
        self._peer = peer
        self._links = links
        self._settings = settings
        self._rng = rng
        self._plan = PullPlan(settings)
        self._wake = asyncio.Event()

    def heard(self, peer: str, height: int) -> None:
        """Note that a peer has a block at ``height``."""
        self._plan.heard(peer, height)
        if height > self._ledger.tip.height:
            self._wake.set()

    def wake(self) -> None:
        """Look at once for what is missing."""
        self._wake.set()

    async def run(self) -> None:
        """Follow until cancelled."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self._compare())
            group.create_task(self._pull())
            group.create_task(self._subscribe())

    def _wants(self) -> bool:
        """Whether blocks are taken from peers now: a voter gets them from Raft unless a snapshot left it behind."""
        return self._ledger.failed is None and (self._ledger.target is not None or not self._ledger.voting())

    def _others(self) -> list[str]:
        """Return every node that may have blocks: by the ledger, or linked (a newcomer's ledger names few yet)."""
        nodes = {member.peer for member in self._ledger.state.members.values() if member.role != "client"}
        found = (nodes | set(self._links.peers())) - {self._peer}
        self._plan.keep(found)
        return sorted(found)

    # -- compare

    async def _compare(self) -> None:
        while True:
            await self._ask_tips()
            # Up to a fifth earlier, so that nodes started together do not ask together for ever.
            pause = self._settings.compare_interval_s * (1 - 0.2 * self._rng.random())
            if self._ledger.tip.height == 0:
                pause = min(pause, self._settings.retry_first_s)
            await asyncio.sleep(pause)

    async def _ask_tips(self) -> None:
        ready = self._plan.ready(self._others(), _now())
        chosen = self._rng.sample(ready, min(self._settings.compare_peers, len(ready)))
        await asyncio.gather(*(self._ask_tip(peer) for peer in chosen))

    async def _ask_tip(self, peer: str) -> None:
        mine = self._ledger.tip
        try:
            answer = unpack(await self._call(peer, TIP, {"at": mine.height}), _TIP)
            if not isinstance(answer, dict) or type(answer.get("height")) is not int:
                raise RemoteProtocolError("a tip is not a height and a hash")
        except (OsirisError, OSError, TimeoutError) as error:
            self._plan.failed(peer, _now())
            _log.debug("ledger.tip_failed", extra={"peer_id": peer, "reason": str(error)})
            return
        theirs = answer.get("at")
        if theirs and theirs != mine.hash:
            _log.error("ledger.diverged", extra={"peer_id": peer, "height": mine.height})
            self._plan.bad(peer, _now())
            return
        self._plan.served(peer)
        self.heard(peer, answer["height"])

    async def _call(self, peer: str, method: str, body: dict[str, int]) -> bytes:
        timeout = self._settings.pull_timeout_s
        async with asyncio.timeout(timeout):
            link = await self._links.to(peer)
            return await link.call(method, pack(body), timeout=timeout)

    # -- pull

    async def _pull(self) -> None:
        while True:
            await self._wake.wait()
            self._wake.clear()
            while self._wants():
                now = _now()
                height = self._ledger.tip.height
                peer = self._plan.source(height, now, self._rng)
                if peer is not None:
                    await self._pull_from(peer, height)
                    continue
                pause = self._plan.wake(height, now)
                if pause is None and self._ledger.target is not None:
                    await self._ask_tips()
                    pause = self._settings.retry_first_s
                if pause is None:
                    break
                await asyncio.sleep(max(pause, 0.01))

    async def _pull_from(self, peer: str, height: int) -> None:
        try:
            body = {"from": height + 1, "limit": self._settings.pull_blocks}
            answer = unpack(await self._call(peer, BLOCKS, body), FRAME)
            wires = answer.get("blocks") if isinstance(answer, dict) else None
            if not isinstance(wires, list) or any(type(wire) is not bytes for wire in wires):
                raise RemoteProtocolError("an answer to a pull is not a list of blocks")
            if not wires and self._ledger.tip.height <= height:
                raise RemoteProtocolError("a peer does not have the blocks it said it has")
            if type(answer.get("height")) is int:
                self._plan.heard(peer, answer["height"])
            await self._ingest(wires)
        except (OsirisError, OSError, TimeoutError) as error:
            self._note(peer, error)
        else:
            self._plan.served(peer)

    async def _ingest(self, wires: list[bytes]) -> None:
        for wire in wires:
            if not self._wants():
                return
            self._ledger.ingest([wire])
            # Checking a block takes a while; calls and heartbeats get their turn between two.
            await asyncio.sleep(0)

    def _note(self, peer: str, error: Exception) -> None:
        now = _now()
        if isinstance(error, BadBlock):
            _log.warning("ledger.bad_block", extra={"peer_id": peer, "height": error.height, "check": error.check})
            self._plan.bad(peer, now)
        else:
            _log.debug("ledger.pull_failed", extra={"peer_id": peer, "reason": str(error)})
            self._plan.failed(peer, now)

    # -- subscribe

    async def _subscribe(self) -> None:
        while True:
            ready = self._plan.ready(self._others(), _now())
            if not ready or not self._wants() or self._ledger.target is not None:
                await asyncio.sleep(self._settings.retry_first_s)
                continue
            peer = self._rng.choice(ready)
            try:
                await self._follow(peer)
            except (OsirisError, OSError, TimeoutError) as error:
                self._note(peer, error)

    async def _follow(self, peer: str) -> None:
        async with asyncio.timeout(self._settings.pull_timeout_s):
            link = await self._links.to(peer)
        stream = link.open(FOLLOW, pack({"from": self._ledger.tip.height + 1}))
        try:
            while self._wants():
                wire = await stream.receive()
                if wire is None:
                    raise RemoteProtocolError("a peer ended the stream of its blocks")
                if self._wants():
                    self._ledger.ingest([wire])
                    self._plan.served(peer)
                    await asyncio.sleep(0)
        finally:
            stream.reset(None)
