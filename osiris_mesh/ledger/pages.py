"""A checksum of every page of the database file, in a file beside it.

The chain's hashes prove what the rows say. They can't prove the bytes SQLite does not use: gaps in pages, counters in
its header. With these checksums one changed byte anywhere in the file shows.

In WAL mode the database file changes only when the log is copied into it (a checkpoint), and only we do that. So::

    note the pages in the log -> remove the checksums, durably -> checkpoint -> sum those pages -> write the checksums

A crash in between leaves no checksums, which means "not known", never wrong ones; the next start makes them anew once
the chain itself was found to hold. While the pages are noted a reader holds the log at its present end, so that no page
beyond that is copied.
"""

from __future__ import annotations

import os
import sys
import time
import zlib
from array import array
from collections.abc import Iterable
from hashlib import sha256
from pathlib import Path
from typing import Final

__all__ = ["PAGE", "PageSums", "check_pages"]

PAGE: Final = 4096
_MAGIC: Final = b"osiris pages v1\n"
_DIGEST: Final = 32
_WAL_HEADER: Final = 32
_FRAME_HEADER: Final = 24
_TRIES: Final = 6
_PAUSE_S: Final = 0.05


def _sums_path(database: Path) -> Path:
    return database.with_suffix(".pages")


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _encode(sums: array[int]) -> bytes:
    little = sums if sys.byteorder == "little" else array("I", sums)
    if little is not sums:
        little.byteswap()
    body = _MAGIC + little.tobytes()
    return body + sha256(body).digest()


def _decode(data: bytes) -> array[int] | None:
    body, digest = data[:-_DIGEST], data[-_DIGEST:]
    if not body.startswith(_MAGIC) or sha256(body).digest() != digest or (len(body) - len(_MAGIC)) % 4:
        return None
    sums = array("I")
    sums.frombytes(body[len(_MAGIC) :])
    if sys.byteorder != "little":
        sums.byteswap()
    return sums


class PageSums:
    """Keeps the checksums of one database file; used by one thread at a time.

    Args:
        database: The file; its pages have :data:`PAGE` bytes.
    """

    def __init__(self, database: Path) -> None:
        self._database = database
        self._path = _sums_path(database)
        self._sums: array[int] | None = None
        if self._path.exists():
            self._sums = _decode(self._path.read_bytes())

    def pages_in_log(self) -> set[int]:
        """Return the numbers of all pages in the write-ahead log, of former rounds too."""
        found: set[int] = set()
        try:
            with self._database.with_name(self._database.name + "-wal").open("rb") as log:
                size = os.fstat(log.fileno()).st_size
                for at in range(_WAL_HEADER, size - _FRAME_HEADER + 1, _FRAME_HEADER + PAGE):
                    found.add(int.from_bytes(os.pread(log.fileno(), 4, at), "big"))
        except FileNotFoundError:
            pass
        return found

    def forget(self) -> None:
        """Remove the checksums, durably, before the file changes."""
        if self._path.exists():
            self._path.unlink()
            _sync_folder(self._path.parent)

    def renew(self, pages: Iterable[int]) -> None:
        """Write the checksums after these pages (from 1) may have changed; of all pages if none were known."""
        with self._database.open("rb") as file:
            count = os.fstat(file.fileno()).st_size // PAGE
            changed = set(pages)
            sums = self._sums
            if sums is None:
                sums, changed = array("I"), set(range(1, count + 1))
            changed.update(range(len(sums) + 1, count + 1))
            del sums[count:]
            sums.extend([0] * (count - len(sums)))
            for page in changed:
                if 1 <= page <= count:
                    sums[page - 1] = zlib.crc32(os.pread(file.fileno(), PAGE, (page - 1) * PAGE))
        self._sums = sums
        fresh = self._path.with_suffix(".new")
        with fresh.open("wb") as file:
            file.write(_encode(sums))
            file.flush()
            os.fsync(file.fileno())
        fresh.replace(self._path)
        _sync_folder(self._path.parent)


def check_pages(database: Path) -> list[str]:
    """Return what is wrong with the bytes of the file, as sentences; empty if nothing, or if no checksums are kept now.

    A node that runs may renew the checksums meanwhile; a difference counts only if they are the same after the look.
    """
    path = _sums_path(database)
    for _ in range(_TRIES):
        before = _read(path)
        if before is not None:
            found = _compare(database, before)
            if not found or _read(path) == before:
                return found
        elif not _may_be_renewing(database):
            return []
        time.sleep(_PAUSE_S)
    return []


def _may_be_renewing(database: Path) -> bool:
    log = database.with_name(database.name + "-wal")
    return log.exists() and log.stat().st_size > 0


def _read(path: Path) -> bytes | None:
    try:
        return path.read_bytes()
    except FileNotFoundError:
        return None


def _compare(database: Path, stored: bytes) -> list[str]:
    sums = _decode(stored)
    if sums is None:
        return [f"{_sums_path(database).name}, the checksums of {database.name}, is damaged"]
    found: list[str] = []
    size = database.stat().st_size
    if size != len(sums) * PAGE:
        found.append(f"{database.name} has {size} bytes, it had {len(sums) * PAGE}")
    with database.open("rb") as file:
        for at, known in enumerate(sums):
            if zlib.crc32(file.read(PAGE)) != known:
                found.append(f"{database.name} has changed between byte {at * PAGE} and {(at + 1) * PAGE - 1}")
    return found
