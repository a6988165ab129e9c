"""Files and folders that appear whole or not at all, and may be read by those who should."""

from __future__ import annotations

import os
import secrets
from pathlib import Path

__all__ = ["open_to_read", "sync_folder", "write_whole"]


def sync_folder(folder: Path) -> None:
    """Make the names in ``folder`` durable."""
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def write_whole(path: Path, data: bytes, *, mode: int = 0o600) -> None:
    """Write ``path`` so that after a crash it is either absent (or as before) or has all of ``data``; blocks."""
    part = path.parent / f".{path.name}.{secrets.token_hex(8)}"
    handle = os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, mode)
    try:
        with open(handle, "wb") as file:  # noqa: PTH123 - the descriptor, not a path
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        part.replace(path)
    except BaseException:
        part.unlink(missing_ok=True)
        raise
    sync_folder(path.parent)


def open_to_read(folder: Path) -> None:
    """Let any user read, and nobody change, what is in ``folder``; a function may have a user id of its own."""
    for parent, _, names in os.walk(folder):
        Path(parent).chmod(0o755)
        for name in names:
            (Path(parent) / name).chmod(0o444)
