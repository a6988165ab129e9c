"""Usage on disk: one SQLite file of the node, written in a thread, a batch at a time.

A call is counted in memory, which costs microseconds; every few seconds the sums are added to the file in one
transaction. What is lost when the machine dies is one interval; what is lost when writing fails is nothing, because the
batch goes back to memory.
"""

from __future__ import annotations

import asyncio
import logging
import sqlite3
from collections.abc import Mapping
from contextlib import closing
from pathlib import Path
from typing import Any, Final

from osiris_mesh.clock import Clock
from osiris_mesh.errors import CheckFailed
from osiris_mesh.registry.metering import DAY_MS, OTHERS, Key, Row, Usage, select

__all__ = ["Metering"]

_INTERVAL_S: Final = 5.0
_KEEP_DAYS: Final = 400
_MOST_ROWS: Final = 2_000_000
_log = logging.getLogger(__name__)
_SCHEMA: Final = """
CREATE TABLE IF NOT EXISTS usage (
    day INTEGER NOT NULL, provider TEXT NOT NULL, caller TEXT NOT NULL, function TEXT NOT NULL, currency TEXT NOT NULL,
    calls INTEGER NOT NULL, errors INTEGER NOT NULL, cost_micros INTEGER NOT NULL, time_us INTEGER NOT NULL,
    PRIMARY KEY (day, provider, caller, function, currency)
) WITHOUT ROWID
"""
_ADD: Final = """
INSERT INTO usage VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)
ON CONFLICT DO UPDATE SET calls = calls + excluded.calls, errors = errors + excluded.errors,
    cost_micros = cost_micros + excluded.cost_micros, time_us = time_us + excluded.time_us
"""


class Metering:
    """Counts calls of providers and keeps the sums.

    Args:
        file: SQLite file; its folder is there, 0700.
        clock: Wall clock.
        keep_days: Days after which sums are forgotten.
        limit: Rows the file may have; beyond, callers and functions of the new ones are told together.
    """

    def __init__(self, file: Path, clock: Clock, *, keep_days: int = _KEEP_DAYS, limit: int = _MOST_ROWS) -> None:
        self._file = file
        self._clock = clock
        self._keep_days = keep_days
        self._limit = limit
        self._usage = Usage()
        self._writing = asyncio.Lock()
        self._most = 0

    async def start(self) -> None:
        """Open the file, or make it.

        Raises:
            CheckFailed: It is damaged.
        """
        try:
            await asyncio.to_thread(self._prepare)
        except sqlite3.DatabaseError as error:
            raise CheckFailed(
                f"the usage file {self._file} is damaged: {error}",
                fix="move it away; a new one is made, and its sums begin anew",
            ) from None

    def add(self, **call: Any) -> None:
        """Count one call; see :meth:`osiris_mesh.registry.metering.Usage.add`. Touches no disk."""
        self._usage.add(self._clock.time_ms(), **call)

    async def run(self) -> None:
        """Write sums down every few seconds, until cancelled."""
        while True:
            await asyncio.sleep(_INTERVAL_S)
            try:
                await self.flush()
            except sqlite3.Error as error:
                _log.warning("usage could not be written down", extra={"why": str(error)})

    async def flush(self) -> None:
        """Write down what was counted.

        Raises:
            sqlite3.Error: It could not be written; nothing is lost.
        """
        async with self._writing:
            rows = self._usage.take()
            work = asyncio.ensure_future(asyncio.to_thread(self._write, rows))
            try:
                # The thread can't be called back: who is cancelled waits until it is known what became of the rows.
                await asyncio.shield(work)
            except asyncio.CancelledError:
                await asyncio.wait([work])
                raise
            finally:
                if work.done() and work.exception() is not None:
                    self._usage.merge(rows)

    async def rows(
        self, *, provider: str = "", caller: str = "", since_day: int = 0, until_day: int = 1 << 40
    ) -> list[tuple[Key, Row]]:
        """Return sums, those not yet written down included; see :func:`osiris_mesh.registry.metering.select`."""
        async with self._writing:
            stored = await asyncio.to_thread(self._read, provider, caller, since_day, until_day)
            found = dict(stored)
            for key, row in self._usage.rows().items():
                found[key] = found.get(key, Row()) + row
        return select(found.items(), provider=provider, caller=caller, since_day=since_day, until_day=until_day)

    async def close(self) -> None:
        """Write down what is left."""
        await self.flush()

    # In a thread.

    def _connect(self) -> sqlite3.Connection:
        return sqlite3.connect(self._file, timeout=10.0, isolation_level=None)

    def _prepare(self) -> None:
        new = not self._file.exists()
        with closing(self._connect()) as base:
            base.execute("PRAGMA journal_mode = WAL")
            base.execute(_SCHEMA)
            (self._most,) = base.execute("SELECT count(*) FROM usage").fetchone()
        if new:
            self._file.chmod(0o600)

    def _write(self, rows: Mapping[Key, Row]) -> None:
        oldest = self._clock.time_ms() // DAY_MS - self._keep_days
        with closing(self._connect()) as base:
            base.execute("PRAGMA synchronous = NORMAL")
            base.execute("BEGIN IMMEDIATE")
            base.execute("DELETE FROM usage WHERE day < ?", (oldest,))
            if self._most + len(rows) > self._limit:
                # At most so many were known; only now is it worth counting them all.
                (self._most,) = base.execute("SELECT count(*) FROM usage").fetchone()
                if self._most + len(rows) > self._limit:
                    rows = _rougher(rows)
            base.executemany(
                _ADD,
                [
                    (key.day, key.provider, key.caller, key.function, key.currency,
                     row.calls, row.errors, row.cost_micros, row.time_us)
                    for key, row in rows.items()
                ],
            )  # fmt: skip
            base.execute("COMMIT")
        self._most += len(rows)

    def _read(self, provider: str, caller: str, since: int, until: int) -> list[tuple[Key, Row]]:
        with closing(self._connect()) as base:
            found = base.execute(
                "SELECT * FROM usage WHERE day >= ? AND day < ? "
                "AND (? = '' OR provider = ?) AND (? = '' OR caller = ?)",
                (since, until, provider, provider, caller, caller),
            ).fetchall()
        return [(Key(*row[:5]), Row(*row[5:])) for row in found]


def _rougher(rows: Mapping[Key, Row]) -> dict[Key, Row]:
    found: dict[Key, Row] = {}
    for key, row in rows.items():
        rough = Key(key.day, key.provider, OTHERS, OTHERS, key.currency)
        found[rough] = found.get(rough, Row()) + row
    return found
