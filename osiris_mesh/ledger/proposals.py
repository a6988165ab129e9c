"""Proposals under way on this node: which wait for a command, and which for their block.

States of a proposal: *waiting* (in the queue) -> *sent* (in a command given to Raft, or to a voter) -> *done* when
every entry of it stands in a block applied here. A failed send puts it back to *waiting*: an entry that is committed
twice has one effect, so trying again is always safe.

A pure core: the shell gives it proposals, sent commands' failures and applied blocks, and takes batches.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from typing import Final

from osiris_mesh.errors import OsirisError, UsageError
from osiris_mesh.ledger.block import MAX_COMMAND, MAX_ENTRIES, Block
from osiris_mesh.ledger.entry import Entry
from osiris_mesh.ledger.outcome import Outcome, Receipt

__all__ = ["Proposal", "Proposals"]

_COMMAND_OVERHEAD: Final = 128
_ENTRY_OVERHEAD: Final = 5


class Proposal:
    """Entries that someone waits for.

    Args:
        entries: Decoded entries, their signatures checked.
        since: Loop time at which it came.
        deadline: Loop time at which nobody waits any more.
        on_done: Called once, with the receipt.
        on_failed: Called once instead, when trying again would not help.

    Attributes:
        size: Bytes it takes in a command.
        hindrance: Why the last attempt found nobody to agree, or None.
        maybe: It was sent at least once without a definite failure, so it may take effect.
        done: Nobody waits for it any more.
    """

    __slots__ = (
        "_left",
        "_on_done",
        "_on_failed",
        "_outcomes",
        "deadline",
        "done",
        "entries",
        "height",
        "hindrance",
        "maybe",
        "since",
        "size",
    )

    def __init__(
        self,
        entries: Sequence[Entry],
        since: float,
        deadline: float,
        on_done: Callable[[Receipt], None],
        on_failed: Callable[[OsirisError], None],
    ) -> None:
        self.entries = tuple(entries)
        self.since = since
        self.deadline = deadline
        self.hindrance: OsirisError | None = None
        self.size = sum(len(entry.bytes) + _ENTRY_OVERHEAD for entry in self.entries)
        self.maybe = False
        self.done = False
        self.height = 0
        self._outcomes: list[Outcome | None] = [None] * len(self.entries)
        self._left = len(self.entries)
        self._on_done = on_done
        self._on_failed = on_failed

    def settle(self, at: int, height: int, outcome: Outcome) -> None:
        """Note what became of entry ``at``; the first outcome counts."""
        if self.done or self._outcomes[at] is not None:
            return
        self._outcomes[at] = outcome
        self._left -= 1
        self.height = max(self.height, height)
        if self._left == 0:
            self.done = True
            self._on_done(Receipt(self.height, tuple(outcome for outcome in self._outcomes if outcome is not None)))

    def fail(self, error: OsirisError) -> None:
        """Tell who waits that it will not be."""
        if not self.done:
            self.done = True
            self._on_failed(error)


class Proposals:
    """All proposals of this node.

    Attributes:
        entries: How many entries wait in all of them.
    """

    def __init__(self) -> None:
        self._queue: deque[Proposal] = deque()
        self._by_hash: dict[bytes, list[tuple[Proposal, int]]] = {}
        self.entries = 0

    def add(self, proposal: Proposal) -> None:
        """Take up a proposal; :meth:`queue` or the shell sends it.

        Raises:
            UsageError: It does not fit one command.
        """
        if len(proposal.entries) > MAX_ENTRIES or proposal.size + _COMMAND_OVERHEAD > MAX_COMMAND:
            raise UsageError(
                f"{len(proposal.entries)} entries of {proposal.size} bytes do not fit one block",
                fix=f"propose at most {MAX_ENTRIES} entries and {MAX_COMMAND} bytes at a time",
            )
        self.entries += len(proposal.entries)
        for at, entry in enumerate(proposal.entries):
            self._by_hash.setdefault(entry.hash, []).append((proposal, at))

    def drop(self, proposal: Proposal) -> None:
        """Forget a proposal nobody waits for any more; what was sent of it may take effect."""
        self.entries -= len(proposal.entries)
        proposal.done = True
        for entry in proposal.entries:
            waiting = self._by_hash.get(entry.hash)
            if waiting is not None:
                left = [place for place in waiting if place[0] is not proposal]
                if left:
                    self._by_hash[entry.hash] = left
                else:
                    del self._by_hash[entry.hash]

    def queue(self, proposal: Proposal) -> None:
        """Let the next command take it."""
        self._queue.append(proposal)

    def batch(self) -> list[Proposal]:
        """Take as many queued proposals as fit one command, in order."""
        taken: list[Proposal] = []
        count, size = 0, _COMMAND_OVERHEAD
        while self._queue:
            proposal = self._queue[0]
            if not proposal.done:
                count += len(proposal.entries)
                size += proposal.size
                if count > MAX_ENTRIES or size > MAX_COMMAND:
                    break
                taken.append(proposal)
            self._queue.popleft()
        return taken

    def fail(self, error: OsirisError) -> None:
        """Fail everything under way."""
        for waiting in list(self._by_hash.values()):
            for proposal, _ in waiting:
                proposal.fail(error)

    @property
    def queued(self) -> bool:
        """Whether anything waits for a command."""
        return bool(self._queue)

    def settle(self, block: Block) -> None:
        """Note an applied block."""
        by_hash = self._by_hash
        if not by_hash:
            return
        for entry_hash, outcome in zip(block.hashes, block.outcomes, strict=True):
            waiting = by_hash.pop(entry_hash, None)
            if waiting is not None:
                for proposal, at in waiting:
                    proposal.settle(at, block.height, outcome)

    def known(self, entry_hash: bytes) -> Entry | None:
        """Return an entry that was proposed here, and whose signature was checked then."""
        waiting = self._by_hash.get(entry_hash)
        if not waiting:
            return None
        proposal, at = waiting[0]
        return proposal.entries[at]
