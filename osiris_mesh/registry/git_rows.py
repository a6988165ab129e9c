"""What git lists of trees: ``-z``, so that no name is quoted. A core.

Links, submodules and folders are no files; a name that is no place of a registry's tree is passed over.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from osiris_mesh.registry.listing import is_path

__all__ = ["read_difference", "read_tree"]

_FILE: Final = b"100644 blob "
_EXECUTABLE: Final = b"100755 blob "


def read_tree(data: bytes) -> Iterator[tuple[str, str]]:
    """Read ``ls-tree -z``: mode, type, object id, path."""
    for row in data.split(b"\0"):
        head, _, name = row.partition(b"\t")
        if head.startswith((_FILE, _EXECUTABLE)):
            path = name.decode("ascii", "replace")
            if is_path(path):
                yield path, head[len(_FILE) :].decode("ascii")


def read_difference(data: bytes) -> Iterator[tuple[str, str | None]]:
    """Read ``diff-tree -z --raw``: a row of modes, object ids and status, then the path."""
    rows = data.split(b"\0")
    for head, name in zip(rows[::2], rows[1::2], strict=False):
        path = name.decode("ascii", "replace")
        if is_path(path):
            _, mode, _, oid, _ = head.decode("ascii").split(" ")
            yield path, oid if mode in {"100644", "100755"} else None
