"""Checks a stored chain from the first byte to the last, and says what does not hold and where.

Works on the folder alone: a node need not run, and a running one is not disturbed (the file is read through a
connection of its own). Everything that a row says is computed anew from what came before it, so one changed byte in any
column shows. After a damaged block the checks go on where that is possible: hashes always, outcomes only while the
state before them is known.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from contextlib import closing
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

from osiris_mesh.errors import RemoteProtocolError
from osiris_mesh.ledger.block import GENESIS_PREVIOUS, Header, block_hash, read_wire
from osiris_mesh.ledger.chain import FILE_NAME, FORMAT, SCHEMA, Row, connect, unpack_outcomes
from osiris_mesh.ledger.entry import Entry, entry_hash
from osiris_mesh.ledger.merkle import Frontier, tree_root
from osiris_mesh.ledger.outcome import Outcome
from osiris_mesh.ledger.pages import check_pages
from osiris_mesh.ledger.replica import MALFORMED, latest_time
from osiris_mesh.ledger.state import Context, State
from osiris_mesh.ledger.wal import check_log

__all__ = ["MAX_PROBLEMS", "Problem", "VerifyReport", "verify_folder"]

MAX_PROBLEMS: Final = 100
_HASH: Final = 32


@dataclass(frozen=True, slots=True)
class Problem:
    """One thing that does not hold.

    Attributes:
        height: Block it was found at; 0 for the file as a whole.
        entry: Index of the entry in the log, or None when it is not about one entry.
        check: Stable word: file, format, height, wire, hash, header, mesh_id, previous, first, count, entries_root,
            log_size, log_root, raft, time, genesis, entry, hashes, outcome.
        what: Sentence for people.
    """

    height: int
    entry: int | None
    check: str
    what: str


@dataclass(frozen=True, slots=True)
class VerifyReport:
    """What a verification found.

    Attributes:
        valid: Everything holds.
        height: Of the last stored block.
        tip: Its hash as stored; empty of an empty chain.
        entries: How many entries were read.
        problems: What does not hold, in the order of the chain; at most :data:`MAX_PROBLEMS`.
    """

    valid: bool
    height: int
    tip: bytes
    entries: int
    problems: tuple[Problem, ...]

    def view(self) -> dict[str, Any]:
        """Return the report as a map of JSON types."""
        view: dict[str, Any] = {
            "valid": self.valid,
            "height": self.height,
            "tip": self.tip.hex(),
            "entries": self.entries,
            "problems": [asdict(problem) for problem in self.problems],
        }
        if self.problems:
            first = self.problems[0]
            view["bad_height"] = first.height
            view["reason"] = f"{first.check}: {first.what}"
        return view


def verify_folder(folder: Path, mesh_id: bytes | None = None) -> VerifyReport:
    """Check the chain stored in a folder.

    Args:
        folder: The ledger's folder of a node's home.
        mesh_id: The mesh it must be of; None takes the first block's word for it.
    """
    walk = _Walk(mesh_id)
    path = folder / FILE_NAME
    if not path.exists():
        walk.problem("file", f"{path} is not there", height=0)
        return walk.report()
    try:
        with closing(connect(path, writing=False)) as connection:
            # One read transaction: what a running node appends meanwhile is not seen.
            connection.execute("BEGIN")
            _check_format(connection, walk)
            cursor = connection.execute("SELECT height, hash, wire, hashes, outcomes FROM blocks ORDER BY height")
            for found in cursor:
                walk.row(found)
                if len(walk.problems) >= MAX_PROBLEMS:
                    break
            for (line,) in connection.execute("PRAGMA integrity_check(10)"):
                if line != "ok":
                    walk.problem("file", f"{path}: {line}", height=0)
    except (sqlite3.Error, UnicodeDecodeError) as error:
        walk.problem("file", f"{path} can't be read: {error}")
    for what in (*check_pages(path), *check_log(path)):
        walk.problem("file", what, height=0)
    return walk.report()


def _check_format(connection: sqlite3.Connection, walk: _Walk) -> None:
    version = connection.execute("PRAGMA user_version").fetchone()[0]
    if version != FORMAT:
        walk.problem("format", f"the file says it is of format {version}, not {FORMAT}", height=0)
    schema = connection.execute("SELECT type, name, tbl_name, sql FROM sqlite_master").fetchall()
    if schema != [("table", "blocks", "blocks", SCHEMA)]:
        walk.problem("format", "the file's tables are not those of a chain", height=0)


class _Walk:
    """Goes along the chain and keeps what the next block has to fit."""

    def __init__(self, mesh_id: bytes | None) -> None:
        self.problems: list[Problem] = []
        self._mesh_id = mesh_id
        self._height = 0
        self._tip = b""
        self._previous: tuple[bytes, ...] = (GENESIS_PREVIOUS,)
        self._frontier: Frontier | None = Frontier()
        self._raft = (0, 0)
        self._time_ms = self._before_ms = 0
        self._entries = 0
        self._state: State | None = None
        self._state_lost = False

    def report(self) -> VerifyReport:
        """Return what was found."""
        return VerifyReport(not self.problems, self._height, self._tip, self._entries, tuple(self.problems))

    def problem(self, check: str, what: str, *, height: int | None = None, entry: int | None = None) -> None:
        """Note a problem at the block at hand."""
        if len(self.problems) < MAX_PROBLEMS:
            self.problems.append(Problem(self._height if height is None else height, entry, check, what))

    def row(self, found: Sequence[Any]) -> None:
        """Check the next row."""
        expected = self._height + 1
        if type(found[0]) is not int or found[0] < 1:
            self._height = expected
            self.problem("height", f"a row says it is block {found[0]!r}")
            return
        self._height = found[0]
        if any(type(column) is not bytes for column in found[1:]):
            self.problem("file", "a column holds something that is not bytes")
            self._lose()
            return
        row = Row(*found)
        if row.height != expected:
            gone = (
                f"block {expected} is" if row.height == expected + 1 else f"blocks {expected} to {row.height - 1} are"
            )
            self.problem("height", f"{gone} missing")
            self._lose()
        self._tip = row.hash
        try:
            header_bytes, entries = read_wire(row.wire)
        except RemoteProtocolError as error:
            self.problem("wire", error.what)
            self._lose()
            self._previous = (row.hash,)
            return
        self._block(row, header_bytes, entries)

    def _lose(self) -> None:
        """Note that state and tree before the next block are not known."""
        self._state_lost = True
        self._frontier = None
        self._previous = ()

    def _block(self, row: Row, header_bytes: bytes, entries: Sequence[bytes]) -> None:
        before = len(self.problems)
        digest = block_hash(header_bytes)
        if digest != row.hash:
            self.problem("hash", "the block's hash is not that of its header")
        first = self._frontier.size if self._frontier is not None else self._entries
        self._entries += len(entries)
        hashes = [entry_hash(data) for data in entries]
        leaves = self._compare_hashes(row, hashes, first)
        try:
            header = Header.from_wire(header_bytes)
        except RemoteProtocolError as error:
            self.problem("header", error.what)
            header = None
        if header is not None:
            leaves = self._check_header(header, hashes, leaves)
        self._previous = (row.hash, digest)
        self._grow(leaves)
        self._check_outcomes(row, header, entries, first, damaged=len(self.problems) > before)

    def _compare_hashes(self, row: Row, hashes: Sequence[bytes], first: int) -> list[bytes]:
        """Compare the stored hashes of entries with the computed ones; return the stored ones."""
        stored = [row.hashes[at : at + _HASH] for at in range(0, len(row.hashes), _HASH)]
        if len(row.hashes) != len(hashes) * _HASH:
            self.problem("hashes", f"there are hashes of {len(stored)} entries beside {len(hashes)} entries")
            return list(hashes)
        for at, (there, computed) in enumerate(zip(stored, hashes, strict=True)):
            if there != computed:
                self.problem("entry", "the entry's bytes do not have the hash stored beside them", entry=first + at)
        return stored

    def _check_header(self, header: Header, hashes: Sequence[bytes], stored: Sequence[bytes]) -> list[bytes]:
        """Check a header's fields; return the entry hashes that fit its root."""
        if self._mesh_id is None:
            self._mesh_id = header.mesh_id
        if header.mesh_id != self._mesh_id:
            self.problem("mesh_id", "the block is of another mesh")
        if header.height != self._height:
            self.problem("height", f"the header says it is block {header.height}")
        if self._previous and header.previous not in self._previous:
            self.problem("previous", "the header does not name the block before it")
        if header.count != len(hashes):
            self.problem("count", f"the header counts {header.count} entries, there are {len(hashes)}")
        leaves = list(hashes)
        if header.entries_root != tree_root(hashes):
            self.problem("entries_root", "the entries do not have the root in the header")
            # An entry was changed but not its stored hash: the tree goes on with what the header vouches for.
            if header.entries_root == tree_root(stored):
                leaves = list(stored)
        if self._frontier is not None:
            self._check_tree(header, leaves, self._frontier)
        if header.raft_index <= self._raft[1] or header.raft_term < self._raft[0]:
            self.problem("raft", "the place in Raft's log is not behind that of the block before")
        if header.time_ms < self._time_ms:
            self.problem("time", "the block's time is before that of the block before")
        self._raft = (header.raft_term, header.raft_index)
        self._before_ms, self._time_ms = self._time_ms, header.time_ms
        return leaves

    def _check_tree(self, header: Header, leaves: Sequence[bytes], before: Frontier) -> None:
        if header.first != before.size:
            self.problem("first", f"the header says its first entry is {header.first}, it is {before.size}")
        if header.log_size != before.size + len(leaves):
            self.problem("log_size", f"the header says the log has {header.log_size} entries")
        frontier = before.copy()
        for leaf in leaves:
            frontier.append(leaf)
        if header.log_root != frontier.root():
            self.problem("log_root", "the entries so far do not have the log root in the header")

    def _grow(self, leaves: Sequence[bytes]) -> None:
        if self._frontier is not None:
            for leaf in leaves:
                self._frontier.append(leaf)

    def _check_outcomes(
        self,
        row: Row,
        header: Header | None,
        entries: Sequence[bytes],
        first: int,
        *,
        damaged: bool,
    ) -> None:
        stored: tuple[Outcome, ...] = ()
        try:
            stored = unpack_outcomes(row.outcomes, len(entries))
        except RemoteProtocolError as error:
            self.problem("outcome", error.what)
        if damaged or header is None or self._state_lost:
            # Outcomes depend on the state before them; from the first damage on that is not known any more.
            self._state_lost = True
            return
        if self._state is None:
            self._state = State(header.mesh_id)
        context = Context(header.height, header.time_ms)
        self._state.forget(header.time_ms)
        parsed: list[Entry] = []
        for at, data in enumerate(entries):
            try:
                parsed.append(Entry.parse(data))
                outcome = self._state.apply(parsed[-1], context)
            except RemoteProtocolError:
                outcome = MALFORMED
            if self._height == 1 and at == 0 and not outcome.accepted:
                self.problem("genesis", f"the chain does not begin with a valid genesis: {outcome.reason}")
            if stored and (stored[at].accepted, stored[at].code) != (outcome.accepted, outcome.code):
                self.problem(
                    "outcome",
                    f"the entry is stored as {_word(stored[at])}, by the rules it is {_word(outcome)}",
                    entry=first + at,
                )
        if header.time_ms > latest_time(self._before_ms, parsed):
            self.problem("time", "the block's time is more than an hour after that of its newest entry")


def _word(outcome: Outcome) -> str:
    word = "accepted" if outcome.accepted else "refused"
    return f"{word} ({outcome.code})" if outcome.code else word
