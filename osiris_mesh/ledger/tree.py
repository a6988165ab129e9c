"""The registry's tree in the ledger: which files there are, who may write which, and what writing does.

The tree of :mod:`osiris_mesh.registry`: bytes under paths, whose sense readers judge by the signatures in them. What is
decided here is only who may write where, and that nobody's write is lost: every change names the *head* of the file it
was made for, and an entry whose changes do not all fit has no effect. Histories only grow; ``config.json`` and
``checkpoint`` are replaced.

A file's head is SHA-256 over :data:`HEAD`, the head before (nothing for a new file) and the bytes written. So it
names a history and not only bytes, and costs what is written, not what is there.
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from hashlib import sha256
from typing import TYPE_CHECKING, Any, Final

from osiris_mesh.errors import UsageError
from osiris_mesh.function.name import FunctionName
from osiris_mesh.ledger import kinds
from osiris_mesh.ledger.authority import permit, permit_some
from osiris_mesh.ledger.entry import Entry
from osiris_mesh.ledger.outcome import ACCEPTED, UNCHANGED, Outcome, Refused
from osiris_mesh.ledger.records import TreeFile

if TYPE_CHECKING:
    from osiris_mesh.ledger.state import Context, State

__all__ = [
    "HEAD",
    "MAX_TREE_BYTES",
    "MAX_TREE_FILE",
    "MAX_TREE_FILES",
    "PLACE",
    "TREE",
    "head_after",
    "is_replaced",
    "subject_of",
]

MAX_TREE_FILE: Final = 4 * 1024 * 1024
"""Bytes of one file."""
MAX_TREE_FILES: Final = 200_000
MAX_TREE_BYTES: Final = 256 * 1024 * 1024
"""Bytes of all files: every node holds them in memory."""

HEAD: Final = b"osiris/registry-file/v1\0"
PLACE: Final = struct.Struct(">IQ8s")
"""Where a file's bytes come from: their end in the file, the block's height, the entry hash's first 8 bytes."""

_REPLACED: Final = frozenset({"config.json", "checkpoint"})
_ANY: Final = "checkpoint"
_WHOLE: Final = frozenset({"config.json", "root.json", "ns/_/_keys.json"})
_MANAGE: Final = "registry.manage"


def is_replaced(path: str) -> bool:
    """Say whether a file is written anew each time; all others only grow."""
    return path in _REPLACED


def head_after(before: bytes, data: bytes) -> bytes:
    """Return a file's head once ``data`` was written on top of the head ``before`` (empty: there was no file)."""
    return sha256(HEAD + before + data).digest()


def subject_of(path: str) -> str:
    """Return what a permission to write a path must cover, as a function's name or a pattern of names.

    Empty for what concerns the whole tree or the mesh's own names.

    Raises:
        UsageError: The tree has no such path.
    """
    if path in _WHOLE or path == _ANY:
        return ""
    parts = path.split("/")
    if parts[0] == "ns" and len(parts) == 3 and parts[2] == "_keys.json":
        return f"{FunctionName.parse(f'{parts[1]}/any/any').vendor}/*/*"
    if parts[0] == "ns" and len(parts) == 4 and parts[3].endswith(".jsonl"):
        vendor = "" if parts[1] == "_" else f"{parts[1]}/"
        return str(FunctionName.parse(f"{vendor}{parts[2]}/{parts[3].removesuffix('.jsonl')}"))
    raise UsageError(f"the registry's tree has no file {path[:128]!r}")


def _write(state: State, body: kinds.RegistryWrite, entry: Entry, context: Context) -> Outcome:
    author = state.author(entry.author, context.time_ms)
    permit_some(entry.kind, author)
    new: dict[str, TreeFile] = {}
    size = state.tree_bytes
    for path, previous, data in body.changes:
        subject = _subject(path)
        if subject:
            permit(entry.kind, author, subject)
        elif path != _ANY and not author.principal.may(_MANAGE):
            raise Refused("role", f"{path} is for {_MANAGE}; the author is {author}")
        there = state.tree.get(path)
        _must_fit(path, there, previous)
        if there is not None and is_replaced(path) and there.data == data:
            continue
        kept = b"" if there is None or is_replaced(path) else there.data
        if len(kept) + len(data) > MAX_TREE_FILE:
            raise Refused("full", f"{path} would have more than {MAX_TREE_FILE} bytes")
        size += len(kept) + len(data) - (len(there.data) if there is not None else 0)
        places = there.places if kept and there is not None else b""
        place = PLACE.pack(len(kept) + len(data), context.height, entry.hash[:8])
        new[path] = TreeFile(kept + data, head_after(previous, data), places + place)
    if not new:
        return UNCHANGED
    count = state.tree_files + sum(path not in state.tree for path in new)
    if count > MAX_TREE_FILES or size > MAX_TREE_BYTES:
        raise Refused("full", f"the tree holds {MAX_TREE_FILES} files and {MAX_TREE_BYTES} bytes at most")
    for path, file in new.items():
        state.tree[path] = file
    state.tree_bytes, state.tree_files = size, count
    state.tree_height = context.height
    return ACCEPTED


def _remove(state: State, body: kinds.RegistryRemove, entry: Entry, context: Context) -> Outcome:
    permit(entry.kind, state.author(entry.author, context.time_ms))
    _subject(body.path)
    there = state.tree.get(body.path)
    if there is None:
        raise Refused("unknown", f"there is no file {body.path}")
    _must_fit(body.path, there, body.previous)
    del state.tree[body.path]
    state.tree_bytes -= len(there.data)
    state.tree_files -= 1
    state.tree_height = context.height
    return ACCEPTED


def _must_fit(path: str, there: TreeFile | None, previous: bytes) -> None:
    if previous != (there.head if there is not None else b""):
        raise Refused("conflict", f"{path} has changed since it was read; read it again")


def _subject(path: str) -> str:
    try:
        return subject_of(path)
    except UsageError as error:
        raise Refused("body", error.what) from None


TREE: Final[dict[str, Callable[[State, Any, Entry, Context], Outcome]]] = {
    "registry.write": _write,
    "registry.remove": _remove,
}
