"""One node's ledger: what the rest of the controller sees of it.

Raft hands committed commands over on its own thread (:meth:`Ledger.on_committed`); :class:`Applier` applies and stores
them on the loop thread. A node that does not vote gets the same blocks from peers (:class:`Follower`). Proposals leave
through :class:`Proposer`. Failure cases are in ``DESIGN.md``.
"""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Final

from osiris_mesh.clock import Clock
from osiris_mesh.codec import Limits, pack, unpack_canonical
from osiris_mesh.errors import CheckFailed, NotFound, OsirisError, RemoteProtocolError, Unavailable, UsageError
from osiris_mesh.identity.peer_id import peer_id
from osiris_mesh.ledger import views
from osiris_mesh.ledger.applier import Applier, Committed
from osiris_mesh.ledger.block import GENESIS_PREVIOUS, Block, Command, Tip
from osiris_mesh.ledger.chain import Chain
from osiris_mesh.ledger.draft import draft
from osiris_mesh.ledger.entry import Entry
from osiris_mesh.ledger.follow import Follower
from osiris_mesh.ledger.kinds import Genesis
from osiris_mesh.ledger.outcome import Outcome, Receipt
from osiris_mesh.ledger.proposals import Proposal
from osiris_mesh.ledger.proposer import Consensus, Peers, Proposer
from osiris_mesh.ledger.rebuild import rebuild
from osiris_mesh.ledger.search import Search
from osiris_mesh.ledger.serve import serve
from osiris_mesh.ledger.state import AHEAD_MS, Context, State
from osiris_mesh.ledger.verify import verify_folder
from osiris_mesh.link.router import Router
from osiris_mesh.settings.ledger import LedgerSettings

__all__ = ["Ledger"]

_log = logging.getLogger(__name__)
_SNAPSHOT: Final = Limits(size=128, depth=1, count=2)
_FRESH_SECONDS: Final = 1.0
_LOOK_SECONDS: Final = 0.005


class Ledger:
    """The ledger of one node; all methods belong to the loop thread unless they say otherwise.

    Args:
        folder: Where the chain is stored; it exists.
        mesh_id: The mesh's 16 bytes.
        public_key: This node's key; the ``container`` of the blocks it proposes.
        raft: The engine.
        links: Links to other nodes; None on a node that is alone.
        settings: Bounds and pauses.
        clock: Gives the time of commands.
        rng: Chooses among peers; a new one if not given.
    """

    def __init__(
        self,
        folder: Path,
        mesh_id: bytes,
        *,
        public_key: bytes,
        raft: Consensus,
        links: Peers | None,
        settings: LedgerSettings,
        clock: Clock,
        rng: random.Random | None = None,
    ) -> None:
        self.settings = settings
        self.clock = clock
        self._folder = folder
        self._mesh_id = mesh_id
        peer = peer_id(public_key)
        self._proposer = Proposer(
            peer=peer,
            public_key=public_key,
            raft=raft,
            peers=links,
            voters=self._voters,
            settings=settings,
            clock=clock,
        )
        self._follower: Follower | None = None
        if links is not None:
            self._follower = Follower(self, peer, links, settings, rng or random.Random())  # noqa: S311 - which peer to ask is no secret
            self._proposer.on_height = self._follower.heard
        self._applier: Applier | None = None
        self._callbacks: list[Callable[[Block, State], None]] = []
        self._loop: asyncio.AbstractEventLoop | None = None
        # Raft indices that both threads see: handed to us (Raft's writes it), durable here (the loop's writes it).
        self._handed = 0
        self._synced = 0
        self._sync_wanted = asyncio.Event()

    # -- life

    async def start(self) -> None:
        """Open the chain and rebuild the state from it; afterwards :attr:`applied` is what Raft must start from.

        Raises:
            CheckFailed: The stored chain does not hold; the text says where and what to do.
            Conflict: It is of another format.
            Unavailable: The disk failed.
        """
        chain = Chain(self._folder)
        try:
            replica = rebuild(chain, self._mesh_id)
            chain.sync()
        except BaseException:
            chain.close()
            raise
        proposals = self._proposer.proposals
        applier = Applier(
            chain,
            replica,
            known=proposals.known,
            on_applied=proposals.settle,
            callbacks=self._callbacks,
            settings=self.settings,
        )
        applier.on_stop = self._stopped
        self._handed = self._synced = applier.applied
        self._loop = asyncio.get_running_loop()
        self._applier = applier

    async def run(self) -> None:
        """Follow peers and make what is applied durable from time to time, until cancelled."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self._sync_often())
            if self._follower is not None:
                group.create_task(self._follower.run())

    async def close(self) -> None:
        """Stop and close the chain; what waits fails with ``Unavailable``."""
        applier, self._applier = self._applier, None
        if applier is None:
            return
        applier.stop(Unavailable("the ledger is closing", fix="start the node again", maybe=True))
        await self._proposer.close()
        applier.chain.close()

    def register(self, router: Router) -> None:
        """Serve ``ledger.propose``, ``ledger.tip``, ``ledger.blocks`` and ``ledger.follow``."""
        serve(self, router)

    def _voters(self) -> list[str]:
        return self.state.voters()

    def _open(self) -> Applier:
        if self._applier is None:
            raise Unavailable("the ledger is not open", fix="start the node", maybe=False)
        return self._applier

    def _stopped(self, error: OsirisError) -> None:
        level = logging.ERROR if self._applier is not None else logging.DEBUG
        _log.log(level, "ledger.stopped", extra={"reason": str(error)})
        self._proposer.proposals.fail(error)

    async def _sync_often(self) -> None:
        while True:
            try:
                async with asyncio.timeout(self.settings.sync_interval_s):
                    await self._sync_wanted.wait()
            except TimeoutError:
                pass
            self._sync_wanted.clear()
            await self.sync()

    async def sync(self) -> None:
        """Make what is applied durable, so that Raft may compact its journal up to there."""
        applier = self._open()
        applied = applier.applied
        if applied <= self._synced or applier.failed is not None:
            return
        try:
            await asyncio.to_thread(applier.chain.sync)
        except OsirisError as error:
            applier.stop(error)
        else:
            self._synced = applied

    # -- reading

    @property
    def state(self) -> State:
        """What the entries so far amount to; another object after :meth:`start` and after a repair: don't keep it."""
        return self._open().replica.state

    @property
    def tip(self) -> Tip:
        """The last block applied here."""
        return self._open().replica.tip

    @property
    def search(self) -> Search:
        """Finds blocks by what they contain."""
        return Search(self._open().chain.path)

    @property
    def applied(self) -> int:
        """Raft index of the last command applied here: Raft hands over from the next on."""
        return self._open().applied

    @property
    def time_ms(self) -> int:
        """Time of the last block."""
        return self._open().replica.time_ms

    @property
    def entries(self) -> int:
        """How many entries the chain holds."""
        return self._open().replica.frontier.size

    @property
    def target(self) -> Tip | None:
        """The block a snapshot says the chain must get to by pulling, or None."""
        return self._open().target

    @property
    def failed(self) -> OsirisError | None:
        """Why this ledger has stopped, or None."""
        return self._open().failed

    @property
    def news(self) -> asyncio.Event:
        """An event that is set when the next block has been applied; each block has a new one."""
        return self._open().news

    def voting(self) -> bool:
        """Say whether this node is a voter now."""
        return self._proposer.voting()

    def block(self, height: int) -> Block:
        """Return a stored block with its outcomes.

        Raises:
            NotFound: The chain here does not have it.
            CheckFailed: What is stored can't be read.
        """
        row = self._open().chain.row(height)
        if row is None:
            raise NotFound(f"there is no block {height} here", fix=f"the chain here has blocks 1 to {self.tip.height}")
        try:
            return views.stored_block(row)
        except RemoteProtocolError as error:
            raise _unreadable(height, error) from None

    def log(self, start: int, limit: int, shown: views.Shown | None = None) -> list[dict[str, Any]]:
        """Return blocks as maps of JSON types, ascending from height ``start``; from 0 or below, the last ones.

        ``shown`` says which entries are not withheld, as :func:`osiris_mesh.ledger.views.block_view` has it.

        Raises:
            CheckFailed: What is stored can't be read.
        """
        first = start if start > 0 else max(1, self.tip.height - limit + 1)
        found = []
        for row in self._open().chain.rows(first, limit):
            try:
                found.append(views.block_view(views.stored_block(row), self.state, shown=shown))
            except RemoteProtocolError as error:
                raise _unreadable(row.height, error) from None
        return found

    def show(self, height: int, shown: views.Shown | None = None) -> dict[str, Any]:
        """Return one block as a map of JSON types, with every field of every entry that ``shown`` lets through.

        Raises:
            NotFound: The chain here does not have it.
            CheckFailed: What is stored can't be read.
        """
        return views.block_view(self.block(height), self.state, bodies=True, shown=shown)

    async def verify(self) -> dict[str, Any]:
        """Check the whole stored chain (:func:`osiris_mesh.ledger.verify.verify_folder`), off the loop thread.

        Returns:
            valid, height, tip, entries, problems[{height, entry, check, what}]; when not valid also bad_height and
            reason, of the first problem.
        """
        await self.sync()
        report = await asyncio.to_thread(verify_folder, self._folder, self._mesh_id)
        return report.view()

    def wires(self, start: int, limit: int, size: int) -> list[bytes]:
        """Return blocks as they are sent, from a height on: at most ``limit``, ending with the one past ``size``."""
        return self._open().chain.wires(start, limit, size)

    def hash_at(self, height: int) -> bytes | None:
        """Return the hash of the block at a height, or None if it is not here."""
        return self._open().hash_at(height)

    def on_block(self, callback: Callable[[Block, State], None]) -> None:
        """Call ``callback`` after each applied and stored block, in order; what it raises is logged."""
        self._callbacks.append(callback)

    async def wait_for(self, height: int, timeout: float) -> None:
        """Return once the block at ``height`` is applied here.

        Raises:
            DeadlineExceeded: It is not, after ``timeout`` seconds.
            OsirisError: The ledger has stopped.
        """
        await self._open().wait_for(height, timeout)

    # -- writing

    async def propose(self, entries: Sequence[bytes], *, timeout: float) -> Receipt:
        """Put entries into the ledger, all into one block, and return once that block is applied here.

        Trying again with the same bytes is always safe within the hour: an entry has one effect.

        Args:
            entries: Signed entries' bytes.
            timeout: Seconds.

        Raises:
            UsageError: An entry is not well-formed, for another mesh, not signed by its author, or they are too many.
            Overloaded: Too many wait already.
            DeadlineExceeded: Not done in time; ``maybe`` says whether it may be done all the same.
            Unavailable: The ledger has stopped, or there is no genesis yet.
        """
        self._open().check()
        parsed = [self._check_entry(data) for data in entries]
        if not parsed:
            raise UsageError("nothing is proposed")
        if self.tip.height == 0 and parsed[0].kind != Genesis.KIND and self.voting():
            raise Unavailable("this mesh has no genesis yet", fix="try again in a moment", maybe=False)
        refused = await self._surely_refused(parsed, timeout)
        rest = [entry for at, entry in enumerate(parsed) if at not in refused]
        if not rest:
            return Receipt(self.tip.height, tuple(refused.values()))
        receipt = await self._proposer.propose(rest, timeout=timeout, begin=self._settle_known)
        if not refused:
            return receipt
        others = iter(receipt.outcomes)
        return Receipt(receipt.height, tuple(refused.get(at) or next(others) for at in range(len(parsed))))

    async def _surely_refused(self, entries: Sequence[Entry], timeout: float) -> dict[int, Outcome]:
        """Return by position the entries that need no block to be refused; only a voter can be sure of any."""
        refused = self._try(entries)
        if not refused or not self.voting():
            return {}
        try:
            async with asyncio.timeout(min(timeout, _FRESH_SECONDS)):
                await self._catch_up()
        except (TimeoutError, Unavailable):
            # What they are now can't be known: the block will say.
            return {}
        return self._try(entries)

    def _try(self, entries: Sequence[Entry]) -> dict[int, Outcome]:
        """Return by position what would be refused now, were a block to come."""
        if self.tip.height == 0:
            return {}
        state = draft(self.state)
        context = Context(self.tip.height + 1, max(self.time_ms, self.clock.time_ms()))
        refused = {}
        for at, entry in enumerate(entries):
            if self.state.first_outcome(entry.hash) is None:
                outcome = state.apply(entry, context, trusted=True)
                if not outcome.accepted:
                    refused[at] = outcome
        return refused

    async def _catch_up(self) -> None:
        """Return once everything is applied here that anybody was told is committed."""
        raft = self._proposer.raft
        index = await raft.read_index(timeout=_FRESH_SECONDS)
        while raft.status().applied_index < index or self.applied < self._handed:
            self._open().check()
            await asyncio.sleep(_LOOK_SECONDS)

    def _settle_known(self, proposal: Proposal) -> None:
        for at, entry in enumerate(proposal.entries):
            first = self.state.first_outcome(entry.hash)
            if first is not None:
                proposal.settle(at, *first)

    def _check_entry(self, data: bytes) -> Entry:
        try:
            entry = Entry.parse(data)
        except RemoteProtocolError as error:
            raise UsageError(f"an entry is not well-formed: {error.what}") from None
        if entry.mesh_id != self._mesh_id:
            raise UsageError("an entry is for another mesh")
        if not entry.holds():
            raise UsageError("an entry is not signed by the author it names")
        return entry

    def ingest(self, wires: Sequence[bytes]) -> int:
        """Apply blocks that a peer sent; a voter takes them only while a snapshot tells it to.

        Returns:
            How many were applied.

        Raises:
            BadBlock: One does not follow from the chain; those before it are applied.
            OsirisError: The ledger has stopped.
        """
        applier = self._open()
        if applier.target is None and self.voting():
            return 0
        return applier.ingest(wires)

    # -- what Raft calls, on its own thread

    def on_committed(self, batch: Sequence[Committed]) -> None:
        """Take committed commands, in order and without gaps; returns at once."""
        if batch:
            self._handed = batch[-1].index
            self._call(Applier.take, list(batch))

    def may_append(self, command: bytes) -> bool:
        """Say, for a leader, whether another voter's command may be agreed on: well-formed, and of no time to come."""
        try:
            read = Command.from_wire(command)
        except RemoteProtocolError:
            return False
        return read.time_ms <= self.clock.time_ms() + AHEAD_MS

    def take_snapshot(self, index: int, _term: int = 0) -> bytes | None:
        """Return where the ledger stood when the command at ``index`` was applied, ``[height, block hash]``.

        Returns:
            None while what was handed over up to there is not applied and durable; it will be soon.
        """
        applier = self._applier
        if applier is None:
            return None
        if self._synced < min(index, self._handed):
            if self._loop is not None and not self._loop.is_closed():
                self._loop.call_soon_threadsafe(self._sync_wanted.set)
            return None
        tip = applier.chain.tip_at(index) or Tip(0, GENESIS_PREVIOUS)
        return pack([tip.height, tip.hash])

    def install_snapshot(self, data: bytes, index: int, _term: int = 0) -> None:
        """Learn that commands up to ``index`` will not be handed over: their blocks are pulled from peers.

        Commands handed over afterwards wait until the chain has the snapshot's block with the snapshot's hash.

        Raises:
            RemoteProtocolError: Not such a snapshot.
        """
        value = unpack_canonical(data, _SNAPSHOT)
        if type(value) is not list or [type(item) for item in value] != [int, bytes] or len(value[1]) != 32:
            raise RemoteProtocolError("a snapshot is not a height and a block hash")
        self._handed = max(self._handed, index)
        self._call(self._aim, Tip(value[0], value[1]), index)

    def _aim(self, applier: Applier, target: Tip, index: int) -> None:
        applier.aim(target, index)
        if self._follower is not None:
            self._follower.wake()

    def _call(self, work: Callable[..., None], *args: Any) -> None:
        """Run ``work(applier, *args)`` on the loop thread."""
        loop = self._loop
        if loop is None:
            raise Unavailable("the ledger was not started", maybe=False)
        try:
            loop.call_soon_threadsafe(self._deliver, work, args)
        except RuntimeError:
            # The loop is closed: the node is stopping, and what was committed is handed over again at the next start.
            _log.info("ledger.closed")

    def _deliver(self, work: Callable[..., None], args: tuple[Any, ...]) -> None:
        if self._applier is not None:
            work(self._applier, *args)


def _unreadable(height: int, error: OsirisError) -> CheckFailed:
    return CheckFailed(
        f"block {height} is stored here but can't be read: {error.what}",
        fix="`osiris-mesh ledger verify` names what is damaged",
        height=height,
    )
