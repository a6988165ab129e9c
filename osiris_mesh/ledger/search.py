"""Looks for blocks in the stored chain that may hold an entry of interest, newest first.

There is no index beside the chain: SQLite goes through the blocks of a range and passes those whose bytes contain what
is looked for, about as fast as memory is read, in a thread and without Python's lock. A block found this way still has
to be decoded: the bytes may stand elsewhere in it. Ranges of time and of entries are found by bisection.
"""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Callable, Sequence
from contextlib import closing
from pathlib import Path
from typing import Final

from osiris_mesh.errors import CheckFailed, RemoteProtocolError
from osiris_mesh.ledger.block import Header, read_wire
from osiris_mesh.ledger.chain import Row, connect

__all__ = ["MAX_NEEDLES", "Search"]

MAX_NEEDLES: Final = 64
"""Alternatives in one condition; a longer list is left out, and what it asks is left to whoever decodes."""


class Search:
    """Reads the stored chain through connections of its own; belongs to the loop thread, works in others.

    Args:
        path: The chain's file.
    """

    def __init__(self, path: Path) -> None:
        self._path = path

    async def span(self, *, before: int | None, since_ms: int | None, until_ms: int | None) -> tuple[int, int]:
        """Return the lowest and the highest height that can hold what is asked for; lowest above highest: none.

        Args:
            before: Entries with an index below this; None: all.
            since_ms: Blocks of this time or later.
            until_ms: Blocks before this time.

        Raises:
            CheckFailed: The chain can't be read.
        """
        return await asyncio.to_thread(self._span, before, since_ms, until_ms)

    def _span(self, before: int | None, since_ms: int | None, until_ms: int | None) -> tuple[int, int]:
        try:
            with closing(connect(self._path, writing=False)) as connection:
                high = connection.execute("SELECT max(height) FROM blocks").fetchone()[0] or 0
                low = 1
                if before is not None:
                    high = _first(connection, low, high, lambda header: header.first >= before) - 1
                if until_ms is not None:
                    high = _first(connection, low, high, lambda header: header.time_ms >= until_ms) - 1
                if since_ms is not None:
                    low = _first(connection, low, high, lambda header: header.time_ms >= since_ms)
        except (sqlite3.Error, RemoteProtocolError) as error:
            raise _unreadable(self._path, error) from None
        return low, high

    async def rows(
        self, low: int, high: int, needles: Sequence[Sequence[bytes]], *, limit: int, size: int
    ) -> list[Row]:
        """Return blocks of a range of heights, newest first.

        Args:
            low: Lowest height.
            high: Highest height.
            needles: Conditions that must all hold: each is a list of byte strings one of which the block contains.
            limit: At most so many blocks.
            size: The list ends with the block that goes past so many bytes.

        Raises:
            CheckFailed: The chain can't be read.
        """
        return await asyncio.to_thread(self._rows, low, high, needles, limit, size)

    def _rows(self, low: int, high: int, needles: Sequence[Sequence[bytes]], limit: int, size: int) -> list[Row]:
        used = [words for words in needles if 0 < len(words) <= MAX_NEEDLES]
        conditions = "".join(" AND (" + " OR ".join(["instr(wire, ?)"] * len(words)) + ")" for words in used)
        found: list[Row] = []
        try:
            with closing(connect(self._path, writing=False)) as connection:
                cursor = connection.execute(
                    "SELECT height, hash, wire, hashes, outcomes FROM blocks "  # noqa: S608 - only question marks are added
                    f"WHERE height BETWEEN ? AND ?{conditions} ORDER BY height DESC LIMIT ?",
                    (low, high, *(word for words in used for word in words), limit),
                )
                for columns in cursor:
                    found.append(Row(*columns))
                    size -= len(found[-1].wire)
                    if size <= 0:
                        break
        except sqlite3.Error as error:
            raise _unreadable(self._path, error) from None
        return found


def _first(connection: sqlite3.Connection, low: int, high: int, reached: Callable[[Header], bool]) -> int:
    """Return the lowest height of a range at which ``reached`` holds, one above the range if nowhere."""
    high += 1
    while low < high:
        middle = (low + high) // 2
        (data,) = connection.execute("SELECT wire FROM blocks WHERE height = ?", (middle,)).fetchone()
        if reached(Header.from_wire(read_wire(data)[0])):
            high = middle
        else:
            low = middle + 1
    return low


def _unreadable(path: Path, error: Exception) -> CheckFailed:
    return CheckFailed(
        f"the ledger at {path} can't be read: {error}", fix="`osiris-mesh ledger verify` names what is damaged"
    )
