"""One node's copy of the ledger: a pure core that turns commands, or a peer's blocks, into blocks and state.

Both ways end in the same place: :meth:`Replica.apply` computes the header from a command, :meth:`Replica.follow`
computes it anew from what a peer sent and refuses the block unless the two are the same. Nothing has changed when a
block is refused. Every entry's authority is checked in either case.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from typing import Final

from osiris_mesh.errors import CheckFailed, RemoteProtocolError
from osiris_mesh.identity.peer_id import peer_id
from osiris_mesh.ledger.block import (
    GENESIS_PREVIOUS,
    Block,
    Command,
    Header,
    Tip,
    block_hash,
    read_wire,
    wire,
)
from osiris_mesh.ledger.entry import Entry, entry_hash
from osiris_mesh.ledger.merkle import Frontier, tree_root
from osiris_mesh.ledger.outcome import Outcome
from osiris_mesh.ledger.state import WINDOW_MS, Context, State

__all__ = ["MALFORMED", "BadBlock", "Replica", "latest_time"]


def _nothing(_entry_hash: bytes) -> Entry | None:
    return None


class BadBlock(RemoteProtocolError):
    """A block does not follow from the chain before it.

    Attributes:
        check: Stable word for what did not hold.
        height: Of the block that should have come.
    """

    def __init__(self, check: str, height: int, what: str) -> None:
        super().__init__(f"block {height} is refused: {what}", check=check, height=height)
        self.check = check
        self.height = height


class Replica:
    """Chain position and state.

    Args:
        mesh_id: The mesh's 16 bytes.

    Attributes:
        state: What the entries so far amount to.
        tip: The last block.
        frontier: Merkle tree over all entries' hashes.
        raft_term: Term of the last block's command.
        raft_index: Index of the last block's command.
        time_ms: The last block's time.
    """

    def __init__(self, mesh_id: bytes) -> None:
        self.mesh_id = mesh_id
        self.state = State(mesh_id)
        self.tip = Tip(0, GENESIS_PREVIOUS)
        self.frontier = Frontier()
        self.raft_term = 0
        self.raft_index = 0
        self.time_ms = 0

    def apply(
        self, term: int, index: int, data: bytes, known: Callable[[bytes], Entry | None] = _nothing
    ) -> Block | None:
        """Apply a committed command.

        Args:
            term: Its Raft term.
            index: Its Raft index.
            data: The command's bytes.
            known: Gives an entry by its hash if this program has decoded it and checked its signature before.

        Returns:
            The new block, or None when the command makes none: it is not well-formed, it was applied before, or there
            is no genesis and it does not begin with one.

        Raises:
            CheckFailed: The block could not be read back; nothing has changed.
        """
        if index <= self.raft_index:
            return None
        try:
            command = Command.from_wire(data)
        except RemoteProtocolError:
            return None
        hashes = tuple(map(entry_hash, command.entries))
        checked = [known(digest) for digest in hashes]
        parsed = [entry or _parse(raw) for entry, raw in zip(checked, command.entries, strict=True)]
        time_ms = min(max(self.time_ms, command.time_ms), latest_time(self.time_ms, parsed))
        if not self._may_begin(parsed[0], time_ms):
            return None
        header, frontier = self._header(peer_id(command.proposer), hashes, term, index, time_ms)
        header_bytes = _stored_form(header)
        trusted = [entry is not None for entry in checked]
        return self._append(
            header, block_hash(header_bytes), wire(header_bytes, command.entries), hashes, parsed, trusted, frontier
        )

    def follow(self, data: bytes, *, unsigned: Collection[int] | None = None) -> Block | None:
        """Apply a block that a peer sent, or that was stored.

        Args:
            data: The block's wire form.
            unsigned: For a block that this node stored: which entries were refused for their signature; the others'
                signatures held then and are not checked again. None for a peer's block: all are checked.

        Returns:
            The block, or None when the chain has one of its height already.

        Raises:
            BadBlock: It does not follow from the chain; nothing has changed.
        """
        height = self.tip.height + 1
        try:
            header_bytes, entries = read_wire(data)
            given = Header.from_wire(header_bytes)
        except RemoteProtocolError as error:
            raise BadBlock("form", height, error.what) from None
        if given.height < height:
            return None
        if given.height > height:
            raise BadBlock("height", height, f"it says it is block {given.height}")
        if given.raft_index <= self.raft_index or given.raft_term < self.raft_term:
            raise BadBlock("raft", height, "its place in Raft's log is not behind the block before")
        if given.time_ms < self.time_ms:
            raise BadBlock("time", height, "its time is before that of the block before")
        hashes = tuple(map(entry_hash, entries))
        header, frontier = self._header(given.container, hashes, given.raft_term, given.raft_index, given.time_ms)
        if header != given:
            raise BadBlock(*_difference(given, header))
        parsed = [_parse(raw) for raw in entries]
        if given.time_ms > latest_time(self.time_ms, parsed):
            raise BadBlock("time", height, "its time is more than an hour after that of its newest entry")
        if not self._may_begin(parsed[0], given.time_ms):
            raise BadBlock("genesis", height, "the chain does not begin with a valid genesis")
        trusted = [unsigned is not None and at not in unsigned for at in range(len(entries))]
        return self._append(header, block_hash(header_bytes), data, hashes, parsed, trusted, frontier)

    def _may_begin(self, first: Entry | None, time_ms: int) -> bool:
        """Say whether a block may come now: the very first one begins with an accepted genesis."""
        if self.tip.height:
            return True
        # Tried on an empty state of its own, so that a refusal changes nothing here.
        return first is not None and State(self.mesh_id).apply(first, Context(1, time_ms)).accepted

    def _header(
        self, container: str, hashes: Sequence[bytes], term: int, index: int, time_ms: int
    ) -> tuple[Header, Frontier]:
        frontier = self.frontier.copy()
        for digest in hashes:
            frontier.append(digest)
        header = Header(
            mesh_id=self.mesh_id,
            height=self.tip.height + 1,
            previous=self.tip.hash,
            container=container,
            first=self.frontier.size,
            count=len(hashes),
            entries_root=tree_root(hashes),
            log_size=frontier.size,
            log_root=frontier.root(),
            raft_term=term,
            raft_index=index,
            time_ms=time_ms,
        )
        return header, frontier

    def _append(
        self,
        header: Header,
        digest: bytes,
        data: bytes,
        hashes: tuple[bytes, ...],
        parsed: Sequence[Entry | None],
        trusted: Sequence[bool],
        frontier: Frontier,
    ) -> Block:
        context = Context(header.height, header.time_ms)
        state = self.state
        state.forget(header.time_ms)
        outcomes = tuple(
            MALFORMED if entry is None else state.apply(entry, context, trusted=known)
            for entry, known in zip(parsed, trusted, strict=True)
        )
        self.tip = Tip(header.height, digest)
        self.frontier = frontier
        self.raft_term, self.raft_index, self.time_ms = header.raft_term, header.raft_index, header.time_ms
        return Block(header, digest, data, hashes, tuple(parsed), outcomes)


MALFORMED: Final = Outcome(accepted=False, reason="the bytes are not a well-formed entry", code="malformed")


def _stored_form(header: Header) -> bytes:
    """Return a computed header's bytes, once this program is seen to read them."""
    data = header.to_wire()
    try:
        Header.from_wire(data)
    except RemoteProtocolError as error:
        raise CheckFailed(
            f"block {header.height} could not be read back, so it is not stored: {error.what}",
            fix="a voter sent what can't be: term and index in `status` of all voters show which",
            height=header.height,
        ) from None
    return data


def latest_time(before: int, entries: Sequence[Entry | None]) -> int:
    """Return the latest time a block may have, whatever its proposer's clock says.

    A moment after all its entries are too old: past that, a later time refuses nothing more in this block and only
    makes the entries of blocks to come look old.

    Args:
        before: Time of the block before.
        entries: The block's entries; None where one is not well-formed.
    """
    newest = max((entry.time_ms for entry in entries if entry is not None), default=None)
    return before if newest is None else max(before, newest + WINDOW_MS + 1)


def _parse(raw: bytes) -> Entry | None:
    try:
        return Entry.parse(raw)
    except RemoteProtocolError:
        return None


def _difference(given: Header, computed: Header) -> tuple[str, int, str]:
    """Return the first field in which a header differs from what it should be."""
    for name in ("mesh_id", "previous", "first", "count", "entries_root", "log_size", "log_root"):
        if getattr(given, name) != getattr(computed, name):
            return name, computed.height, f"its {name.replace('_', ' ')} is not what follows from the chain"
    return "header", computed.height, "its header is not what follows from the chain"
