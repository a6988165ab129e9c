"""The file behind :mod:`osiris_mesh.registry.memory`: SQLite, used by one thread.

Every row carries the SHA-256 of what it holds. A file that is no database any more is set aside under ``.damaged`` and
begun anew. SQLite's log is synced when it is moved into the file, not at every commit; the trust in registries is
synced at once, since it keeps out what is old.
"""

from __future__ import annotations

import logging
import sqlite3
from collections.abc import Sequence
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Final

from osiris_mesh.errors import CheckFailed

__all__ = ["Kept", "MemoryFile"]

_log = logging.getLogger("osiris.registry")
_FORMAT: Final = 1
_SCHEMA: Final = """
CREATE TABLE IF NOT EXISTS names (
    id INTEGER PRIMARY KEY, name TEXT NOT NULL UNIQUE, registry TEXT NOT NULL,
    said_ms INTEGER NOT NULL, stale INTEGER NOT NULL
) STRICT;
CREATE TABLE IF NOT EXISTS histories (id INTEGER PRIMARY KEY, sum BLOB NOT NULL, data BLOB NOT NULL) STRICT;
CREATE TABLE IF NOT EXISTS trust (registry TEXT PRIMARY KEY, sum BLOB NOT NULL, data BLOB NOT NULL) STRICT;
"""


@dataclass(frozen=True, slots=True)
class Kept:
    """A history as it is kept.

    Attributes:
        name: Full name.
        registry: Who said so.
        said_ms: When, milliseconds of Unix time.
        stale: The registry was not up to date.
        data: The lines, as in the registry's tree.
    """

    name: str
    registry: str
    said_ms: int
    stale: bool
    data: bytes


class MemoryFile:
    """The file; every method blocks.

    Args:
        path: Where it is; its folder exists.
        limit: Names kept; past it those said longest ago go first.
    """

    def __init__(self, path: Path, limit: int) -> None:
        self._path = path
        self._limit = limit
        self._count = 0
        self._connection: sqlite3.Connection | None = None

    def open(self) -> list[str]:
        """Open or make it; return the names kept, ascending."""
        try:
            return self._load()
        except sqlite3.DatabaseError as error:
            if isinstance(error, sqlite3.OperationalError):
                raise
            aside = self._path.with_name(self._path.name + ".damaged")
            _log.error(
                "registry_memory_damaged", extra={"path": str(self._path), "aside": str(aside), "error": str(error)}
            )
            if self._connection is not None:
                self._connection.close()
            self._path.replace(aside)
            for ending in ("-wal", "-shm"):
                self._path.with_name(self._path.name + ending).unlink(missing_ok=True)
            return self._load()

    def _load(self) -> list[str]:
        if not self._path.exists():
            self._path.touch(mode=0o600)
        self._connection = connection = sqlite3.connect(
            self._path, isolation_level=None, check_same_thread=False, timeout=5.0
        )
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("PRAGMA synchronous = NORMAL")
        connection.execute("PRAGMA cache_size = -4096")
        (version,) = connection.execute("PRAGMA user_version").fetchone()
        if version not in {0, _FORMAT}:
            raise sqlite3.OperationalError(f"format {version} is another version's")
        connection.executescript(_SCHEMA)
        connection.execute(f"PRAGMA user_version = {_FORMAT}")
        names = [name for (name,) in connection.execute("SELECT name FROM names ORDER BY name")]
        self._count = len(names)
        return names

    def _opened(self) -> sqlite3.Connection:
        if self._connection is None:
            raise sqlite3.OperationalError("it is closed")
        return self._connection

    def get(self, name: str) -> Kept | None:
        """Return what is kept of a name; None: nothing, or it is damaged."""
        row = (
            self._opened()
            .execute(
                "SELECT registry, said_ms, stale, sum, data FROM names JOIN histories USING (id) WHERE name = ?",
                (name,),
            )
            .fetchone()
        )
        if row is None:
            return None
        registry, said_ms, stale, total, data = row
        if sha256(data).digest() != total:
            _log.warning("history_damaged", extra={"function": name})
            return None
        return Kept(name, registry, said_ms, bool(stale), data)

    def put(self, batch: Sequence[Kept]) -> list[str]:
        """Write a batch in one transaction; no data takes a name away. Return names that are no longer kept."""
        connection = self._opened()
        gone: list[str] = []
        connection.execute("BEGIN IMMEDIATE")
        try:
            for kept in batch:
                if not kept.data:
                    connection.execute(
                        "DELETE FROM histories WHERE id = (SELECT id FROM names WHERE name = ?)", (kept.name,)
                    )
                    connection.execute("DELETE FROM names WHERE name = ?", (kept.name,))
                    gone.append(kept.name)
                    continue
                (number,) = connection.execute(
                    "INSERT INTO names (name, registry, said_ms, stale) VALUES (?, ?, ?, ?)"
                    " ON CONFLICT (name) DO UPDATE SET registry = excluded.registry, said_ms = excluded.said_ms,"
                    " stale = excluded.stale RETURNING id",
                    (kept.name, kept.registry, kept.said_ms, int(kept.stale)),
                ).fetchone()
                connection.execute(
                    "INSERT OR REPLACE INTO histories (id, sum, data) VALUES (?, ?, ?)",
                    (number, sha256(kept.data).digest(), kept.data),
                )
            (count,) = connection.execute("SELECT count(*) FROM names").fetchone() if self._full(batch) else (0,)
            if count > self._limit:
                old = connection.execute(
                    "SELECT id, name FROM names ORDER BY said_ms LIMIT ?", (count - self._limit,)
                ).fetchall()
                connection.executemany("DELETE FROM histories WHERE id = ?", [(number,) for number, _ in old])
                connection.executemany("DELETE FROM names WHERE id = ?", [(number,) for number, _ in old])
                gone += [name for _, name in old]
                count = self._limit
            self._count = count or self._count
            connection.execute("COMMIT")
        except BaseException:
            if connection.in_transaction:
                connection.execute("ROLLBACK")
            raise
        return gone

    def trust(self, registry: str) -> bytes | None:
        """Return what was seen of a registry; CheckFailed if it is damaged."""
        row = self._opened().execute("SELECT sum, data FROM trust WHERE registry = ?", (registry,)).fetchone()
        if row is None:
            return None
        total, data = row
        if sha256(data).digest() != total:
            raise CheckFailed(
                f"what was seen of the registry {registry} is damaged on the disk",
                fix="remove the registry and add it again, with the digest of its root",
                registry=registry,
            )
        return bytes(data)

    def keep_trust(self, registry: str, data: bytes) -> None:
        """Keep what was seen of a registry, synced; no data forgets it."""
        connection = self._opened()
        connection.execute("PRAGMA synchronous = FULL")
        try:
            if data:
                connection.execute(
                    "INSERT OR REPLACE INTO trust (registry, sum, data) VALUES (?, ?, ?)",
                    (registry, sha256(data).digest(), data),
                )
            else:
                connection.execute("DELETE FROM trust WHERE registry = ?", (registry,))
        finally:
            connection.execute("PRAGMA synchronous = NORMAL")

    def forget(self, registry: str) -> list[str]:
        """Keep nothing of a registry: neither what was seen of it nor what it said. Return names no longer kept."""
        connection = self._opened()
        connection.execute("PRAGMA synchronous = FULL")
        connection.execute("BEGIN IMMEDIATE")
        try:
            rows = connection.execute("SELECT id, name FROM names WHERE registry = ?", (registry,)).fetchall()
            connection.executemany("DELETE FROM histories WHERE id = ?", [(number,) for number, _ in rows])
            connection.execute("DELETE FROM names WHERE registry = ?", (registry,))
            # What else is kept of it stands under its name and a slash, which is in no registry's name.
            below = f"{registry}/"
            connection.execute(
                "DELETE FROM trust WHERE registry = ? OR substr(registry, 1, ?) = ?", (registry, len(below), below)
            )
            connection.execute("COMMIT")
        finally:
            if connection.in_transaction:
                connection.execute("ROLLBACK")
            connection.execute("PRAGMA synchronous = NORMAL")
        return [name for _, name in rows]

    def close(self) -> None:
        """Close it."""
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.close()

    def _full(self, batch: Sequence[Kept]) -> bool:
        # An upper bound, so that the rows are counted only near the limit.
        self._count += len(batch)
        return self._count > self._limit
