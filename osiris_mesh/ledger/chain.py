"""The stored chain: one SQLite file in WAL mode, one row a block.

Raft's journal is the durable record of what was agreed; the chain is what came of it. So a commit here does not wait
for the disk (``synchronous=NORMAL``): after a power cut the chain may lack its newest blocks, never one in the middle,
and Raft hands the missing commands over again from :attr:`Header.raft_index` of the tip on. :meth:`Chain.sync` is the
point after which Raft may forget.

Columns of ``blocks``: ``height``; ``hash`` of the block; ``wire``, the block as it is sent; ``hashes``, those of its
entries one after the other; ``outcomes``, what became of those entries that were not plainly accepted
(``[[place, accepted, code, reason]…]``) and the SHA-256 of that.
"""

from __future__ import annotations

import os
import sqlite3
import threading
from collections.abc import Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Final

from osiris_mesh.codec import Limits, pack, unpack_canonical
from osiris_mesh.errors import CheckFailed, Conflict, OsirisError, RemoteProtocolError, Unavailable
from osiris_mesh.ledger.block import Block, Header, Tip, read_wire
from osiris_mesh.ledger.outcome import ACCEPTED, Outcome
from osiris_mesh.ledger.pages import PAGE, PageSums, check_pages

__all__ = ["FILE_NAME", "FORMAT", "SCHEMA", "Chain", "Row", "connect", "pack_outcomes", "unpack_outcomes"]

FILE_NAME: Final = "chain.db"
FORMAT: Final = 1
SCHEMA: Final = (
    "CREATE TABLE blocks (height INTEGER PRIMARY KEY, hash BLOB NOT NULL, wire BLOB NOT NULL, "
    "hashes BLOB NOT NULL, outcomes BLOB NOT NULL)"
)
_APPLICATION: Final = 0x6F736931  # "osi1"
_OUTCOMES: Final = Limits(size=1 << 20, depth=2, count=4096)
_DIGEST: Final = 32


@dataclass(frozen=True, slots=True)
class Row:
    """One stored block, as it lies there; nothing is checked."""

    height: int
    hash: bytes
    wire: bytes
    hashes: bytes
    outcomes: bytes


def pack_outcomes(outcomes: Sequence[Outcome]) -> bytes:
    """Return the stored form of a block's outcomes."""
    inner = pack(
        [
            [at, outcome.accepted, outcome.code, outcome.reason]
            for at, outcome in enumerate(outcomes)
            if outcome is not ACCEPTED and outcome != ACCEPTED
        ]
    )
    return inner + sha256(inner).digest()


def unpack_outcomes(data: bytes, count: int) -> tuple[Outcome, ...]:
    """Return the outcomes of a block of ``count`` entries.

    Raises:
        RemoteProtocolError: Damaged.
    """
    inner, digest = data[:-_DIGEST], data[-_DIGEST:]
    if sha256(inner).digest() != digest:
        raise RemoteProtocolError("the stored outcomes do not have their hash")
    outcomes = [ACCEPTED] * count
    for item in unpack_canonical(inner, _OUTCOMES):
        at, accepted, code, reason = item
        outcomes[at] = Outcome(accepted=accepted, reason=reason, code=code)
    return tuple(outcomes)


def connect(path: Path, *, writing: bool) -> sqlite3.Connection:
    """Open the file; a connection that does not write can't, not even copy the log into the file when it is closed.

    Raises:
        sqlite3.Error: It is not there or not a database.
    """
    return sqlite3.connect(
        f"{path.absolute().as_uri()}?mode={'rwc' if writing else 'ro'}",
        uri=True,
        isolation_level=None,
        timeout=5.0,
        check_same_thread=False,
    )


class Chain:
    """The stored chain of one node; belongs to the loop thread but for what says otherwise.

    Args:
        folder: Where the file lies; it exists.

    Raises:
        Conflict: The file is of another format.
        CheckFailed: It is not a database (any more).
    """

    def __init__(self, folder: Path) -> None:
        self.path = folder / FILE_NAME
        self._syncing = threading.Lock()
        changed = check_pages(self.path) if self.path.exists() else []
        if changed:
            raise _damaged(self.path, changed[0])
        self._pages = PageSums(self.path)
        try:
            self._connection = connect(self.path, writing=True)
            self._prepare()
        except sqlite3.Error as error:
            raise _damaged(self.path, str(error)) from None
        _sync_folder(folder)

    def _prepare(self) -> None:
        connection = self._connection
        version = connection.execute("PRAGMA user_version").fetchone()[0]
        if version == 0 and not connection.execute("SELECT 1 FROM sqlite_master").fetchone():
            connection.execute(f"PRAGMA page_size={PAGE}")
            connection.execute(f"PRAGMA application_id={_APPLICATION}")
        connection.execute("PRAGMA journal_mode=WAL")
        connection.execute("PRAGMA synchronous=NORMAL")
        # Moving pages from the log into the file waits for the disk: `sync` does it, off the loop thread.
        connection.execute("PRAGMA wal_autocheckpoint=0")
        connection.execute("PRAGMA cache_size=-4096")
        if version == 0:
            connection.execute("BEGIN IMMEDIATE")
            connection.execute(SCHEMA)
            connection.execute(f"PRAGMA user_version={FORMAT}")
            connection.execute("COMMIT")
        elif version != FORMAT:
            raise Conflict(
                f"{self.path} is of format {version}, this program knows {FORMAT}",
                fix="run the version of osiris-mesh that wrote it, or a newer one",
            )

    def append(self, blocks: Sequence[Block]) -> None:
        """Store blocks that follow the last one, all or none.

        Raises:
            Unavailable: The disk is full, read-only or failing; the text says which.
        """
        rows = [
            (block.height, block.hash, block.wire, b"".join(block.hashes), pack_outcomes(block.outcomes))
            for block in blocks
        ]
        connection = self._connection
        try:
            connection.execute("BEGIN IMMEDIATE")
            try:
                connection.executemany("INSERT INTO blocks VALUES (?, ?, ?, ?, ?)", rows)
                connection.execute("COMMIT")
            except sqlite3.Error:
                if connection.in_transaction:
                    connection.execute("ROLLBACK")
                raise
        except sqlite3.Error as error:
            raise self._not_written(error) from None

    def _not_written(self, error: Exception) -> Unavailable:
        return Unavailable(
            f"the ledger at {self.path} can't be written: {error}",
            fix="free space or repair the disk, then start the node again",
            maybe=True,
        )

    def truncate(self, height: int) -> None:
        """Drop all blocks above a height.

        Raises:
            Unavailable: The disk failed.
        """
        try:
            self._connection.execute("DELETE FROM blocks WHERE height > ?", (height,))
        except sqlite3.Error as error:
            raise self._not_written(error) from None

    def tip(self) -> Tip | None:
        """Return the last block's height and hash, or None of an empty chain."""
        found = self._connection.execute("SELECT height, hash FROM blocks ORDER BY height DESC LIMIT 1").fetchone()
        return Tip(*found) if found else None

    def row(self, height: int) -> Row | None:
        """Return one stored block."""
        found = next(self.rows(height, 1), None)
        return found if found is not None and found.height == height else None

    def rows(self, start: int, limit: int = -1) -> Iterator[Row]:
        """Return stored blocks from a height on, ascending; ``limit`` -1 means all."""
        cursor = self._connection.execute(
            "SELECT height, hash, wire, hashes, outcomes FROM blocks WHERE height >= ? ORDER BY height LIMIT ?",
            (start, limit),
        )
        return (Row(*found) for found in cursor)

    def wires(self, start: int, limit: int, size: int) -> list[bytes]:
        """Return blocks as they are sent, from a height on: at most ``limit``, ending with the one past ``size``."""
        found: list[bytes] = []
        total = 0
        cursor = self._connection.execute(
            "SELECT wire FROM blocks WHERE height >= ? ORDER BY height LIMIT ?", (start, limit)
        )
        for (data,) in cursor:
            found.append(data)
            total += len(data)
            if total >= size:
                break
        cursor.close()
        return found

    def leaves(self) -> list[bytes]:
        """Return the hashes of all entries, in order: the leaves of the log's Merkle tree."""
        found = self._connection.execute("SELECT hashes FROM blocks ORDER BY height")
        return [hashes[at : at + 32] for (hashes,) in found for at in range(0, len(hashes), 32)]

    def find(self, entry_hash: bytes) -> tuple[int, int] | None:
        """Return the height and place of an entry, the first if there are several; looks through the whole chain."""
        cursor = self._connection.execute(
            "SELECT height, hashes FROM blocks WHERE instr(hashes, ?) ORDER BY height", (entry_hash,)
        )
        for height, hashes in cursor:
            for at in range(0, len(hashes), 32):
                if hashes[at : at + 32] == entry_hash:
                    return height, at // 32
        return None

    def tip_at(self, raft_index: int) -> Tip | None:
        """Return the last block whose command is at or before a Raft index; may be called from any thread.

        Raises:
            OsirisError: The chain can't be read.
        """
        try:
            with closing(connect(self.path, writing=False)) as connection:
                return _tip_at(connection, raft_index)
        except (sqlite3.Error, RemoteProtocolError) as error:
            raise _damaged(self.path, str(error)) from None

    def sync(self) -> None:
        """Make what was appended before the call durable; blocks on the disk and may be called from any thread.

        Raises:
            Unavailable: The disk failed.
        """
        try:
            with self._syncing, closing(connect(self.path, writing=False)) as reader:
                for name in (f"{self.path}-wal", str(self.path)):
                    _sync_file(name)
                reader.execute("BEGIN")
                reader.execute("SELECT max(height) FROM blocks").fetchone()
                pages = self._pages.pages_in_log()
                self._pages.forget()
                with closing(connect(self.path, writing=True)) as connection:
                    connection.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchone()
                self._pages.renew(pages)
        except (OSError, sqlite3.Error) as error:
            raise Unavailable(
                f"the ledger at {self.path} can't be made durable: {error}",
                fix="repair the disk, then start the node again",
                maybe=True,
            ) from None

    def close(self) -> None:
        """Close the file; everything is in it then and it is durable.

        Raises:
            Unavailable: The disk failed.
        """
        try:
            with self._syncing:
                pages = self._pages.pages_in_log()
                self._pages.forget()
                try:
                    self._connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
                finally:
                    self._connection.close()
                self._pages.renew(pages)
        except (OSError, sqlite3.Error) as error:
            raise self._not_written(error) from None


def _tip_at(connection: sqlite3.Connection, raft_index: int) -> Tip | None:
    # Heights and Raft indices ascend together, so a binary search by height needs no index of its own.
    low, high = 1, (connection.execute("SELECT max(height) FROM blocks").fetchone()[0] or 0) + 1
    found: Tip | None = None
    while low < high:
        middle = (low + high) // 2
        digest, data = connection.execute("SELECT hash, wire FROM blocks WHERE height = ?", (middle,)).fetchone()
        if Header.from_wire(read_wire(data)[0]).raft_index <= raft_index:
            found, low = Tip(middle, digest), middle + 1
        else:
            high = middle
    return found


def _damaged(path: Path, what: str) -> OsirisError:
    return CheckFailed(
        f"the ledger at {path} is damaged: {what}",
        fix=f"move {path.parent} away and start again: the chain is pulled from the other members",
        check="file",
    )


def _sync_file(name: str) -> None:
    try:
        descriptor = os.open(name, os.O_RDONLY)
    except FileNotFoundError:
        return
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _sync_folder(folder: Path) -> None:
    _sync_file(str(folder))
