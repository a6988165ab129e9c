"""The file below the journal.

Three promises the journal builds on: ``append`` then ``sync`` makes bytes durable; ``replace`` swaps the whole content
or nothing, durable when it returns; an error of ``sync`` is never tried again, because the kernel may have dropped the
pages that failed (what PostgreSQL met in 2018, "fsyncgate"). Directories are synced whenever a name in them changes.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Final, Protocol

from osiris_mesh.errors import CheckFailed

__all__ = ["FileStorage", "Storage"]

_MAX_BYTES: Final = 1 << 31
# fdatasync leaves out the file's times; platforms without it have fsync alone.
_sync = getattr(os, "fdatasync", os.fsync)


class Storage(Protocol):
    """What the journal needs of a disk; used by one thread."""

    def load(self) -> bytes | None:
        """Return the whole content, or None if nothing was ever stored."""
        ...

    def append(self, data: bytes) -> None:
        """Write ``data`` at the end; not durable before :meth:`sync`."""
        ...

    def sync(self) -> None:
        """Return once everything appended is durable."""
        ...

    def replace(self, data: bytes) -> None:
        """Make ``data`` the whole content, atomically and durably."""
        ...

    def truncate(self, size: int) -> None:
        """Cut the content to ``size`` bytes, durably."""
        ...

    def close(self) -> None:
        """Release the file."""
        ...


class FileStorage:
    """A file in a folder of its own.

    Args:
        folder: Made with mode 0700 if it does not exist; its parent must.
        name: Name of the file.
    """

    def __init__(self, folder: Path, name: str = "raft.log") -> None:
        self._folder = folder
        self._path = folder / name
        self._file: int | None = None

    def load(self) -> bytes | None:
        """Return the whole content, or None if the file does not exist.

        Raises:
            CheckFailed: The file is larger than any journal of ours.
        """
        if not self._folder.is_dir():
            self._folder.mkdir(mode=0o700)
            _sync_folder(self._folder.parent)
        self._path.with_suffix(".new").unlink(missing_ok=True)
        if not self._path.exists():
            return None
        self._open()
        size = self._path.stat().st_size
        if size > _MAX_BYTES:
            raise CheckFailed(f"the raft log {self._path} has {size} bytes, more than {_MAX_BYTES}")
        return self._path.read_bytes()

    def append(self, data: bytes) -> None:
        """Write ``data`` at the end."""
        _write(self._open(), data)

    def sync(self) -> None:
        """Return once everything appended is durable."""
        _sync(self._open())

    def replace(self, data: bytes) -> None:
        """Write a new file beside the old one, sync it, rename it over and sync the folder."""
        beside = self._path.with_suffix(".new")
        file = os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
        try:
            _write(file, data)
            os.fsync(file)
        finally:
            os.close(file)
        self.close()
        beside.replace(self._path)
        _sync_folder(self._folder)
        self._open()

    def truncate(self, size: int) -> None:
        """Cut the file to ``size`` bytes."""
        file = self._open()
        os.ftruncate(file, size)
        os.fsync(file)

    def close(self) -> None:
        """Close the file; another call opens it again."""
        if self._file is not None:
            os.close(self._file)
            self._file = None

    def _open(self) -> int:
        if self._file is None:
            self._file = os.open(self._path, os.O_RDWR | os.O_APPEND | os.O_CLOEXEC)
        return self._file


def _write(file: int, data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[os.write(file, view) :]


def _sync_folder(folder: Path) -> None:
    file = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(file)
    finally:
        os.close(file)
