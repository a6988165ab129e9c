"""What one IPFS registry keeps on disk: verified blocks, bounded, and how far its pointer was seen.

One SQLite file, used from one thread of its own. Blocks are checked against their ids again whenever they are read, so
that a damaged disk costs a fetch and nothing else. The pointer's row is what refuses a rollback after a restart.
"""

from __future__ import annotations

import asyncio
import sqlite3
from collections import OrderedDict
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Final, TypeVar

from osiris_mesh.errors import Conflict, OsirisError, Unavailable
from osiris_mesh.registry.ipfs_cid import Cid

__all__ = ["BlockStore", "Seen"]

T = TypeVar("T")

_APPLICATION: Final = 0x6F736966
_MEMORY: Final = 8 * 1024 * 1024
_HOT: Final = 64 * 1024
_TABLES: Final = """
CREATE TABLE IF NOT EXISTS blocks(id BLOB PRIMARY KEY, data BLOB NOT NULL, used INTEGER NOT NULL);
CREATE INDEX IF NOT EXISTS blocks_used ON blocks(used);
CREATE TABLE IF NOT EXISTS pointers(
    pointer TEXT PRIMARY KEY, name TEXT NOT NULL, sequence INTEGER NOT NULL, until_ns TEXT NOT NULL, root BLOB NOT NULL
);
"""


@dataclass(frozen=True, slots=True)
class Seen:
    """How far a pointer was seen.

    Attributes:
        name: The name of IPNS it came to, or empty: it is fixed content.
        sequence: The highest; 0 without a name.
        until_ns: Until when that record holds, nanoseconds of Unix time; 0: without end.
        root: Where it points.
    """

    name: str
    sequence: int
    until_ns: int
    root: Cid


class BlockStore:
    """Blocks and pointers of one registry; methods belong to the loop thread, the file to a thread of its own.

    Args:
        path: The file; made when it is not there.
        limit: Bytes of blocks it may hold; the longest unused make room.
    """

    def __init__(self, path: Path, limit: int) -> None:
        self._path = path
        self._limit = limit
        self._thread = ThreadPoolExecutor(1, "ipfs-store")
        self._connection: sqlite3.Connection | None = None
        self._size = 0
        self._turn = 0
        self._hot: OrderedDict[bytes, bytes] = OrderedDict()
        self._hot_size = 0
        self._closed = False

    async def get(self, cids: Sequence[Cid]) -> dict[Cid, bytes]:
        """Return those of these blocks that are here and whole."""
        found = {cid: self._hot[cid.digest] for cid in cids if cid.digest in self._hot}
        for cid in found:
            self._hot.move_to_end(cid.digest)
        missing = [cid for cid in cids if cid not in found]
        if missing:
            for cid, data in (await self._run(lambda connection: self._get(connection, missing))).items():
                found[cid] = data
                self._warm(cid, data)
        return found

    async def put(self, blocks: Sequence[tuple[Cid, bytes]]) -> None:
        """Keep blocks that were checked."""
        for cid, data in blocks:
            self._warm(cid, data)
        await self._run(lambda connection: self._put(connection, blocks))

    async def seen(self, pointer: str) -> Seen | None:
        """Return how far a pointer was seen, or None if never."""
        return await self._run(lambda connection: self._seen(connection, pointer))

    async def remember(self, pointer: str, seen: Seen) -> None:
        """Keep how far a pointer was seen."""
        row = (pointer, seen.name, seen.sequence, str(seen.until_ns), seen.root.to_bytes())
        await self._run(lambda connection: self._remember(connection, row))

    async def close(self) -> None:
        """Close the file."""
        if self._closed:
            return
        self._closed = True
        await asyncio.get_running_loop().run_in_executor(self._thread, self._shut)
        self._thread.shutdown(wait=False)

    # -- in the file's thread

    async def _run(self, work: Callable[[sqlite3.Connection], T]) -> T:
        if self._closed:
            raise Unavailable(f"{self._path.name} is closed", maybe=False)
        return await asyncio.get_running_loop().run_in_executor(self._thread, self._guarded, work)

    def _guarded(self, work: Callable[[sqlite3.Connection], T]) -> T:
        try:
            connection = self._connection or self._open()
            with connection:
                return work(connection)
        except sqlite3.Error as error:
            raise self._broken(error) from None

    def _open(self) -> sqlite3.Connection:
        connection = sqlite3.connect(self._path)
        try:
            (application,) = connection.execute("PRAGMA application_id").fetchone()
            if application not in {0, _APPLICATION}:
                raise Conflict(f"{self._path} is another program's file", fix="move it away")
            connection.execute("PRAGMA journal_mode = WAL")
            connection.execute("PRAGMA synchronous = NORMAL")
            connection.execute(f"PRAGMA application_id = {_APPLICATION}")
            connection.executescript(_TABLES)
            self._size, turn = connection.execute("SELECT total(length(data)), max(used) FROM blocks").fetchone()
        except (sqlite3.Error, OsirisError):
            connection.close()
            raise
        self._turn = (turn or 0) + 1
        self._connection = connection
        return connection

    def _broken(self, error: sqlite3.Error) -> OsirisError:
        if isinstance(error, sqlite3.DatabaseError) and not isinstance(error, sqlite3.OperationalError):
            return Conflict(
                f"the blocks kept in {self._path} can't be read: {error}",
                fix="move the file away; everything in it is fetched again, but older pointers are no longer refused",
            )
        return Unavailable(f"the disk failed for {self._path}: {error}", maybe=False)

    def _get(self, connection: sqlite3.Connection, cids: Sequence[Cid]) -> dict[Cid, bytes]:
        found: dict[Cid, bytes] = {}
        for cid in cids:
            row = connection.execute("SELECT data FROM blocks WHERE id = ?", (cid.digest,)).fetchone()
            if row is None:
                continue
            if cid.holds(row[0]):
                found[cid] = row[0]
                connection.execute("UPDATE blocks SET used = ? WHERE id = ? AND used < ?", self._used(cid))
            else:
                self._size -= len(row[0])
                connection.execute("DELETE FROM blocks WHERE id = ?", (cid.digest,))
        return found

    def _used(self, cid: Cid) -> tuple[int, bytes, int]:
        # One write a start and block: reading again does not make a write each time.
        return self._turn, cid.digest, self._turn

    def _put(self, connection: sqlite3.Connection, blocks: Sequence[tuple[Cid, bytes]]) -> None:
        for cid, data in blocks:
            added = connection.execute("INSERT OR IGNORE INTO blocks VALUES (?, ?, ?)", (cid.digest, data, self._turn))
            self._size += len(data) if added.rowcount else 0
        if self._size > self._limit:
            self._make_room(connection)

    def _make_room(self, connection: sqlite3.Connection) -> None:
        goal = self._limit * 9 // 10
        rows = connection.execute("SELECT id, length(data) FROM blocks ORDER BY used, rowid").fetchall()
        for digest, size in rows:
            if self._size <= goal:
                break
            connection.execute("DELETE FROM blocks WHERE id = ?", (digest,))
            self._size -= size

    def _seen(self, connection: sqlite3.Connection, pointer: str) -> Seen | None:
        row = connection.execute(
            "SELECT name, sequence, until_ns, root FROM pointers WHERE pointer = ?", (pointer,)
        ).fetchone()
        return Seen(row[0], row[1], int(row[2]), Cid.from_bytes(row[3])) if row is not None else None

    def _remember(self, connection: sqlite3.Connection, row: tuple[str, str, int, str, bytes]) -> None:
        connection.execute("INSERT OR REPLACE INTO pointers VALUES (?, ?, ?, ?, ?)", row)

    def _shut(self) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    # -- in memory

    def _warm(self, cid: Cid, data: bytes) -> None:
        if len(data) > _HOT:
            return
        known = self._hot.pop(cid.digest, None)
        self._hot_size += len(data) - (len(known) if known is not None else 0)
        self._hot[cid.digest] = data
        while self._hot_size > _MEMORY:
            _, dropped = self._hot.popitem(last=False)
            self._hot_size -= len(dropped)
