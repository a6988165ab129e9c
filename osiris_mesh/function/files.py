"""The files of a function as its author has them: what belongs to it, and what must never leave his machine."""

from __future__ import annotations

import contextlib
import os
import re
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from osiris_mesh.errors import UsageError

__all__ = ["MAX_BYTES", "MAX_FILES", "read_file", "read_folder"]

MAX_BYTES: Final = 64 << 20
"""Bytes of all files of one function."""
MAX_FILES: Final = 4096
_SKIPPED: Final = frozenset({"__pycache__", "node_modules", "dist", "build"})
_KEY = re.compile(rb"\s*[0-9a-fA-F]{64}\s*\Z")
_HOME_FILES: Final = ("keys/node.key", "keys/user.key", "keys/network.key", "run/node.sock", "run/node.lock")


def read_folder(folder: Path) -> dict[str, bytes]:
    """Return what belongs to the function in a folder: content by relative path, with slashes.

    Hidden files, virtual environments, caches and what builds leave behind do not belong to it.

    Raises:
        UsageError: A link, what can't be read or is no regular file, a home, a private key; too many or too large.
    """
    files: dict[str, bytes] = {}
    total = 0
    for path in _walk(folder):
        content = read_file(path, total)
        total += len(content)
        files[path.relative_to(folder).as_posix()] = content
        if len(files) > MAX_FILES:
            raise UsageError(f"{folder} has more than {MAX_FILES} files", fix="deploy a smaller folder")
    return files


def _walk(folder: Path) -> Iterator[Path]:
    """Yield the files of a folder that belong to the function, in order; a link is refused, it could lead anywhere."""
    for parent, folders, names in os.walk(folder, onerror=_unreadable):
        here = Path(parent)
        _refuse_home(here)
        folders[:] = sorted(name for name in folders if _belongs(here / name))
        for path in [*(here / name for name in folders), *(here / name for name in sorted(names))]:
            if path.is_symlink():
                raise UsageError(f"{path} is a symbolic link", fix="put the file itself into the folder")
        yield from (here / name for name in sorted(names) if not name.startswith(".") and not name.endswith(".pyc"))


def _unreadable(error: OSError) -> None:
    raise UsageError(f"{error.filename} can't be read: {error.strerror}") from None


def _refuse_home(folder: Path) -> None:
    """Refuse a node's home, and the folder of its keys: a bundle goes to every node."""
    marks = [folder / name for name in _HOME_FILES] + (
        [*folder.glob("*.key")] if folder.name == "keys" else [*folder.glob("keys/*.key")]
    )
    for mark in marks:
        if os.path.lexists(mark):
            raise UsageError(
                f"{folder} looks like the home of a node: it holds {mark.relative_to(folder)}",
                fix="put the function into a folder of its own",
            )


def _belongs(folder: Path) -> bool:
    name = folder.name
    virtual = (folder / "pyvenv.cfg").exists()
    return not (name.startswith(".") or name in _SKIPPED or name.endswith(".egg-info") or virtual)


def read_file(path: Path, before: int = 0) -> bytes:
    """Read one regular file; never waits, whatever it turns out to be.

    Args:
        path: Which.
        before: Bytes of the same function that were read before it.

    Raises:
        UsageError: It can't be read, is no regular file, too large, or looks like a private key.
    """
    try:
        # A FIFO opens at once this way, and what was looked at is what is read.
        handle = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        with open(handle, "rb") as file:  # noqa: PTH123 - the descriptor, not a path
            status = os.fstat(handle)
            if not stat.S_ISREG(status.st_mode):
                raise _not_regular(path, status.st_mode)
            if before + status.st_size > MAX_BYTES:
                raise UsageError(f"with {path} the function has more than {MAX_BYTES >> 20} MiB")
            content = file.read(status.st_size + 1)[: status.st_size]
    except OSError as error:
        with contextlib.suppress(OSError):
            mode = path.lstat().st_mode
            if not stat.S_ISREG(mode) and not stat.S_ISLNK(mode):
                raise _not_regular(path, mode) from None
        raise UsageError(f"{path} can't be read: {error.strerror}") from None
    if (path.suffix == ".key" or not status.st_mode & 0o077) and _KEY.match(content):
        raise UsageError(f"{path} looks like a private key", fix="keep keys out of the function's folder")
    return content


def _not_regular(path: Path, mode: int) -> UsageError:
    kinds = ((stat.S_ISSOCK, "a socket"), (stat.S_ISFIFO, "a FIFO"), (stat.S_ISDIR, "a folder"))
    what = next((name for fits, name in kinds if fits(mode)), "a device")
    return UsageError(f"{path} is {what}, not a regular file", fix="take it out of the folder")
