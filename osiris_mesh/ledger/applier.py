"""Applies committed commands, or peers' blocks, and stores what comes of them: the one writer of replica and chain.

States::

    applying   commands are applied as they come, in slices of the loop's time
    aiming     a snapshot named a block the chain does not have: commands wait until that block was pulled from peers
               and has the snapshot's hash (a voter takes peers' blocks in this state only)
    stopped    the disk failed, the chain contradicts what was agreed, or the node is closing; nothing is applied

All of it runs on the loop thread.
"""

from __future__ import annotations

import asyncio
import heapq
import logging
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from itertools import count
from typing import Final, Protocol

from osiris_mesh.errors import (
    CheckFailed,
    DeadlineExceeded,
    InternalError,
    OsirisError,
    RemoteProtocolError,
    Unavailable,
)
from osiris_mesh.ledger.block import GENESIS_PREVIOUS, Block, Command, Tip
from osiris_mesh.ledger.chain import Chain
from osiris_mesh.ledger.entry import Entry, entry_hash
from osiris_mesh.ledger.rebuild import rebuild
from osiris_mesh.ledger.replica import BadBlock, Replica
from osiris_mesh.ledger.state import State
from osiris_mesh.settings.ledger import LedgerSettings

__all__ = ["Applier", "Committed"]

_log = logging.getLogger(__name__)
_LARGE: Final = 8192
"""Bytes of a command from which on its signatures are checked in slices before it is applied."""
_FIX: Final = "`osiris-mesh ledger verify` says more; with the ledger folder moved away it is pulled from the others"


class Committed(Protocol):
    """A command that Raft committed."""

    @property
    def index(self) -> int:
        """Its place in Raft's log."""

    @property
    def term(self) -> int:
        """Its term."""

    @property
    def command(self) -> bytes:
        """Its bytes."""


class Applier:
    """The writing half of a node's ledger.

    Args:
        chain: The stored chain.
        replica: Rebuilt from it.
        known: Gives an entry by its hash if it was decoded and its signature checked here before.
        on_applied: Called with each applied and stored block, before the callbacks.
        callbacks: Called after each applied and stored block, in order; what they raise is logged.
        settings: Bounds and pauses.

    Attributes:
        replica: Chain position and state.
        applied: Raft index of the last command whose effect is in the state.
        target: The block the chain must get to by pulling, or None.
        failed: Why nothing is applied any more, or None.
        on_stop: Called once with that reason.
    """

    def __init__(
        self,
        chain: Chain,
        replica: Replica,
        *,
        known: Callable[[bytes], Entry | None],
        on_applied: Callable[[Block], None],
        callbacks: Sequence[Callable[[Block, State], None]],
        settings: LedgerSettings,
    ) -> None:
        self.chain = chain
        self.replica = replica
        self.applied = replica.raft_index
        self.target: Tip | None = None
        self.failed: OsirisError | None = None
        self.on_stop: Callable[[OsirisError], None] = lambda _error: None
        self._known = known
        self._on_applied = on_applied
        self._settings = settings
        self._target_index = 0
        self._target_from = 0
        self._commands: deque[Committed] = deque()
        self._bytes = 0
        self._drain_due = False
        self._ahead_of: Committed | None = None
        self._ahead: dict[bytes, Entry] = {}
        self._ahead_left: Iterator[bytes] = iter(())
        self._waiters: list[tuple[int, int, asyncio.Future[None]]] = []
        self._ticket = count()
        self._news = asyncio.Event()
        self._callbacks = callbacks

    # -- what Raft hands over

    def take(self, batch: Sequence[Committed]) -> None:
        """Take committed commands, in order."""
        if self.failed is not None:
            return
        self._commands.extend(batch)
        self._bytes += sum(len(item.command) for item in batch)
        if self._bytes > self._settings.held_bytes:
            self.stop(
                Unavailable(
                    f"{self._bytes} bytes of committed commands wait for blocks from peers",
                    fix="start the node again: what is committed is handed over anew",
                    maybe=True,
                )
            )
            return
        self._schedule()

    def aim(self, target: Tip, index: int) -> None:
        """Let commands wait until the chain has the block a snapshot names.

        Args:
            target: The block.
            index: Raft index of the snapshot: what it covers is not handed over.
        """
        tip = self.replica.tip
        if target.height <= tip.height:
            if self.hash_at(target.height) != target.hash:
                self.stop(CheckFailed(f"block {target.height} here is not the one the voters agreed on", fix=_FIX))
            self.applied = max(self.applied, index)
            return
        self.target, self._target_index, self._target_from = target, index, tip.height
        _log.info("ledger.behind", extra={"height": tip.height, "target": target.height})

    def _schedule(self) -> None:
        if not self._drain_due and self._commands and self.target is None and self.failed is None:
            self._drain_due = True
            asyncio.get_running_loop().call_soon(self._drain)

    def _drain(self) -> None:
        """Apply commands for one slice of time."""
        self._drain_due = False
        if self.target is not None or self.failed is not None:
            return
        try:
            self._apply_slice(asyncio.get_running_loop().time() + self._settings.apply_slice_s)
        except OsirisError as error:
            self.stop(error)
        except Exception as error:  # noqa: BLE001 - a loop callback's edge: a defect must stop the ledger, not half apply
            _log.exception("ledger.defect")
            self.stop(InternalError(f"a committed command could not be applied: {type(error).__name__}: {error}"))
        self._schedule()

    def _apply_slice(self, until: float) -> None:
        loop = asyncio.get_running_loop()
        blocks: list[Block] = []
        applied = self.applied
        while self._commands:
            if len(self._commands[0].command) > _LARGE and not self._check_ahead(self._commands[0], until):
                break
            item = self._commands.popleft()
            self._bytes -= len(item.command)
            block = self.replica.apply(item.term, item.index, item.command, self._checked)
            applied = max(applied, item.index)
            if block is not None:
                blocks.append(block)
            if loop.time() >= until:
                break
        if blocks:
            self.chain.append(blocks)
        self.applied = applied
        self._tell(blocks)

    def _check_ahead(self, item: Committed, until: float) -> bool:
        """Check signatures of a large command's entries for one slice of time; whether all are done.

        Signatures are most of the work of applying; done in one go, a full block would keep calls waiting.
        """
        if self._ahead_of is not item:
            self._ahead_of = item
            self._ahead = {}
            try:
                self._ahead_left = iter(Command.from_wire(item.command).entries)
            except RemoteProtocolError:
                self._ahead_left = iter(())
        loop = asyncio.get_running_loop()
        for data in self._ahead_left:
            digest = entry_hash(data)
            if self._known(digest) is None:
                try:
                    entry = Entry.parse(data)
                except RemoteProtocolError:
                    continue
                if entry.holds():
                    self._ahead[digest] = entry
            if loop.time() >= until:
                return False
        return True

    def _checked(self, digest: bytes) -> Entry | None:
        return self._known(digest) or self._ahead.get(digest)

    # -- what peers send

    def ingest(self, wires: Sequence[bytes]) -> int:
        """Apply blocks that a peer sent; those the chain has already are passed over.

        Returns:
            How many were applied.

        Raises:
            BadBlock: One does not follow from the chain; those before it are applied.
            OsirisError: The ledger has stopped.
        """
        self.check()
        blocks: list[Block] = []
        bad: BadBlock | None = None
        try:
            for data in wires:
                if self.target is not None and self.replica.tip.height >= self.target.height:
                    break
                block = self.replica.follow(data)
                if block is not None:
                    blocks.append(block)
        except BadBlock as error:
            bad = error
        if blocks:
            self._store_followed(blocks)
        if bad is not None:
            raise bad
        return len(blocks)

    def _store_followed(self, blocks: list[Block]) -> None:
        target = self.target
        if target is not None and self.replica.tip.height == target.height and self.replica.tip != target:
            self._undo()
            raise BadBlock("snapshot", target.height, "it is not the block the snapshot names")
        try:
            self.chain.append(blocks)
        except OsirisError as error:
            self.stop(error)
            raise
        self.applied = max(self.applied, self.replica.raft_index)
        if target is not None and self.replica.tip == target:
            self.target = None
            self.applied = max(self.applied, self._target_index)
            _log.info("ledger.caught_up", extra={"height": target.height})
        self._tell(blocks)
        self._schedule()

    def _undo(self) -> None:
        """Forget what was pulled towards a target that turned out to be another chain's."""
        _log.error("ledger.forked", extra={"height": self.replica.tip.height, "back_to": self._target_from})
        self.chain.truncate(self._target_from)
        self.replica = rebuild(self.chain, self.replica.mesh_id)
        self.applied = self.replica.raft_index

    # -- who waits

    @property
    def news(self) -> asyncio.Event:
        """An event that is set when the next block has been applied; each block has a new one."""
        return self._news

    async def wait_for(self, height: int, timeout: float) -> None:
        """Return once the block at ``height`` is applied.

        Raises:
            DeadlineExceeded: It is not, after ``timeout`` seconds.
            OsirisError: The ledger has stopped.
        """
        if self.replica.tip.height >= height:
            return
        self.check()
        waiter: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        heapq.heappush(self._waiters, (height, next(self._ticket), waiter))
        try:
            async with asyncio.timeout(timeout):
                await waiter
        except TimeoutError:
            raise DeadlineExceeded(
                f"block {height} did not arrive here in {timeout:g} s; the chain stands at {self.replica.tip.height}",
                fix="check the links to other members with: osiris-mesh doctor",
            ) from None

    def _tell(self, blocks: Sequence[Block]) -> None:
        state = self.replica.state
        for block in blocks:
            self._on_applied(block)
            for callback in self._callbacks:
                try:
                    callback(block, state)
                except Exception:  # noqa: BLE001 - the edge of a subscriber's own work: its defect is not the ledger's
                    _log.exception("ledger.subscriber", extra={"height": block.height})
        if not blocks:
            return
        height = self.replica.tip.height
        while self._waiters and self._waiters[0][0] <= height:
            waiter = heapq.heappop(self._waiters)[2]
            if not waiter.done():
                waiter.set_result(None)
        news, self._news = self._news, asyncio.Event()
        news.set()

    # -- the end

    def check(self) -> None:
        """Raise why the ledger has stopped, if it has.

        Raises:
            OsirisError: It has.
        """
        if self.failed is not None:
            raise self.failed

    def stop(self, error: OsirisError) -> None:
        """Apply nothing any more; whoever waits gets ``error``."""
        if self.failed is not None:
            return
        self.failed = error
        self._commands.clear()
        self._bytes = 0
        for _, _, waiter in self._waiters:
            if not waiter.done():
                waiter.set_exception(error)
        self._waiters.clear()
        self._news.set()
        self.on_stop(error)

    def hash_at(self, height: int) -> bytes | None:
        """Return the hash of the block at a height, or None if it is not here."""
        if height == 0:
            return GENESIS_PREVIOUS
        row = self.chain.row(height)
        return row.hash if row is not None else None
