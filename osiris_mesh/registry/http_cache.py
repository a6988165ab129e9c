"""Files of an HTTP registry on disk: what was fetched once is not fetched again while it stays the same.

A cache and nothing more: what is damaged is thrown away, and what does not fit goes, the longest unused first.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import sqlite3
import threading
from collections.abc import Callable
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Final, TypeVar

__all__ = ["Cached", "HttpCache"]

_SCHEMA: Final = """
CREATE TABLE IF NOT EXISTS files(
    path TEXT PRIMARY KEY, digest TEXT NOT NULL, etag TEXT NOT NULL, data BLOB NOT NULL, size INTEGER NOT NULL,
    used INTEGER NOT NULL);
CREATE INDEX IF NOT EXISTS by_use ON files(used);
"""
_T = TypeVar("_T")


@dataclass(frozen=True, slots=True)
class Cached:
    """A file as it was fetched.

    Attributes:
        data: Its bytes.
        digest: Their SHA-256 in hex.
        etag: What the host called them; empty: nothing.
    """

    data: bytes
    digest: str
    etag: str

    @classmethod
    def of(cls, data: bytes, etag: str) -> Cached:
        """Return what was just fetched."""
        return cls(data, sha256(data).hexdigest(), etag)


class HttpCache:
    """One registry's files.

    Args:
        path: The database; None: in memory.
        most: Bytes of all files together.
    """

    def __init__(self, path: Path | None, most: int) -> None:
        self._path = path
        self._most = most
        self._lock = threading.Lock()
        self._database: sqlite3.Connection | None = None
        self._size = 0
        self._use = 0

    async def get(self, path: str) -> Cached | None:
        """Return a file as it was kept."""
        return await asyncio.to_thread(self._guarded, lambda database: self._get(database, path))

    async def put(self, path: str, file: Cached) -> None:
        """Keep a file."""
        await asyncio.to_thread(self._guarded, lambda database: self._put(database, path, file))

    async def drop(self, path: str) -> None:
        """Forget a file."""
        await asyncio.to_thread(self._guarded, lambda database: self._drop(database, path))

    async def close(self) -> None:
        """Close the database."""
        await asyncio.to_thread(self._close)

    def _guarded(self, do: Callable[[sqlite3.Connection], _T]) -> _T | None:
        with self._lock:
            try:
                return do(self._opened())
            except sqlite3.DatabaseError:
                # A cache that can't be read is begun anew; a disk that can't be written serves without one.
                self._end()
                with contextlib.suppress(OSError):
                    if self._path is not None:
                        self._path.unlink(missing_ok=True)
                return None
            except OSError:
                return None

    def _opened(self) -> sqlite3.Connection:
        if self._database is None:
            if self._path is not None:
                self._path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
                os.close(os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600))
            database = sqlite3.connect(self._path or ":memory:", check_same_thread=False, isolation_level=None)
            self._database = database
            # What a crash loses is fetched again.
            database.execute("PRAGMA synchronous=OFF")
            database.executescript(_SCHEMA)
            self._size, self._use = database.execute(
                "SELECT coalesce(sum(size), 0), coalesce(max(used), 0) FROM files"
            ).fetchone()
        return self._database

    def _get(self, database: sqlite3.Connection, path: str) -> Cached | None:
        row = database.execute("SELECT data, digest, etag FROM files WHERE path = ?", (path,)).fetchone()
        if row is None:
            return None
        file = Cached(*row)
        if sha256(file.data).hexdigest() != file.digest:
            self._drop(database, path)
            return None
        self._use += 1
        database.execute("UPDATE files SET used = ? WHERE path = ?", (self._use, path))
        return file

    def _put(self, database: sqlite3.Connection, path: str, file: Cached) -> None:
        self._drop(database, path)
        size = len(file.data)
        if size > self._most:
            return
        while self._size + size > self._most:
            (oldest,) = database.execute("SELECT path FROM files ORDER BY used LIMIT 1").fetchone()
            self._drop(database, oldest)
        self._use += 1
        row = (path, file.digest, file.etag, file.data, size, self._use)
        database.execute("INSERT INTO files VALUES (?, ?, ?, ?, ?, ?)", row)
        self._size += size

    def _drop(self, database: sqlite3.Connection, path: str) -> None:
        row = database.execute("DELETE FROM files WHERE path = ? RETURNING size", (path,)).fetchone()
        self._size -= row[0] if row is not None else 0

    def _close(self) -> None:
        with self._lock:
            self._end()

    def _end(self) -> None:
        if self._database is not None:
            self._database.close()
            self._database = None
