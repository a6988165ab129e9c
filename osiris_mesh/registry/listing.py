"""Which files a tree holds, and what each was when it was listed: the table behind a remote tree. A core.

A remote is a stranger, so what it calls a file is checked first: only the places of :mod:`osiris_mesh.registry.layout`
are files of the tree, spelt as they are there. Whatever else lies about (a README, ``NS/…``, ``ns/../config.json``, an
absolute path) is no part of it.

The *index* is the list of a tree for those who can't list it themselves, the readers of a static host::

    index.json    {"files":{path:SHA-256 in hex,…},"format":"osiris-registry-index/1"}

It is made by whoever serves the tree, signed by nobody, and no file of the tree: a wrong one hides or delays, as its
host can anyway, and the checkpoint tells.
"""

from __future__ import annotations

import re
from bisect import bisect_left
from collections.abc import Iterable, Mapping
from hashlib import sha256
from typing import Annotated, Final, Literal

import msgspec

from osiris_mesh.errors import RemoteProtocolError, UsageError
from osiris_mesh.registry.layout import CHECKPOINT, CONFIG, NAMES, ROOT
from osiris_mesh.registry.tree import MAX_FILE, MAX_PATH, MAX_PATHS

__all__ = [
    "INDEX",
    "MAX_INDEX",
    "Listing",
    "check_files",
    "digest_of",
    "is_path",
    "read_index",
    "write_index",
]

INDEX: Final = "index.json"
MAX_INDEX: Final = 128 * 1024 * 1024
"""Bytes of an index: a path of common length and a digest, for a million files."""
MAX_CHANGE: Final = 4096
"""Files one publication may write."""
_PLACE: Final = re.compile(
    rf"(?:{re.escape(CONFIG)}|{re.escape(ROOT)}|{CHECKPOINT}|{NAMES}[A-Za-z0-9_][A-Za-z0-9._-]*"
    r"(?:/[A-Za-z0-9_][A-Za-z0-9._-]*){1,2})\Z",
    re.ASCII,
)


def is_path(path: str) -> bool:
    """Say whether a file of a tree may be called so."""
    return len(path) <= MAX_PATH and _PLACE.match(path) is not None


def check_files(files: Mapping[str, bytes]) -> None:
    """Check what a change wants to write.

    Raises:
        UsageError: A path that is no place of the tree, a file too large, or too many of them.
    """
    if len(files) > MAX_CHANGE:
        raise UsageError(f"a publication writes {len(files)} files, more than {MAX_CHANGE}", fix="publish in parts")
    for path, data in files.items():
        if not is_path(path):
            raise UsageError(f"{path[:MAX_PATH]!r} is no place in a registry's tree")
        if len(data) > MAX_FILE:
            raise UsageError(f"{path} would have {len(data)} bytes, more than {MAX_FILE}")


def digest_of(data: bytes) -> str:
    """Return the SHA-256 of a file in hex."""
    return sha256(data).hexdigest()


class Listing:
    """The files of one state of a tree, each with a tag; not changed once made.

    Args:
        files: Path to tag: an object id, a digest.

    Raises:
        RemoteProtocolError: More than :data:`~osiris_mesh.registry.tree.MAX_PATHS`.
    """

    __slots__ = ("_paths", "_tags")

    def __init__(self, files: Iterable[tuple[str, str]] = ()) -> None:
        found = sorted(files)
        if len(found) > MAX_PATHS:
            raise RemoteProtocolError(f"the tree has more than {MAX_PATHS} files")
        # Two lists and a search are a third of a map's memory.
        self._paths = [path for path, _ in found]
        self._tags = [tag for _, tag in found]

    def __len__(self) -> int:
        return len(self._paths)

    def get(self, path: str) -> str | None:
        """Return a file's tag, or None where there is none."""
        at = bisect_left(self._paths, path)
        return self._tags[at] if at < len(self._paths) and self._paths[at] == path else None

    def under(self, prefix: str) -> list[str]:
        """Return the paths that begin with ``prefix``, ascending."""
        if not prefix:
            return list(self._paths)
        # Paths are ASCII: nothing that begins with the prefix stands behind this one.
        return self._paths[bisect_left(self._paths, prefix) : bisect_left(self._paths, prefix + "\x7f")]

    def items(self) -> Iterable[tuple[str, str]]:
        """Return paths and tags, ascending by path."""
        return zip(self._paths, self._tags, strict=True)

    def changed(self, files: Mapping[str, str | None]) -> Listing:
        """Return the listing with some files changed; None: gone."""
        if not files:
            return self
        kept = dict(self.items())
        for path, tag in files.items():
            if tag is None:
                kept.pop(path, None)
            else:
                kept[path] = tag
        return Listing(kept.items())


_Digest = Annotated[str, msgspec.Meta(pattern=r"^[0-9a-f]{64}$(?!\n)", max_length=64)]


class _Index(msgspec.Struct, frozen=True):
    files: dict[str, _Digest]
    format: Literal["osiris-registry-index/1"]


def write_index(files: Iterable[tuple[str, str]]) -> bytes:
    """Return the bytes of an index; the same for the same files.

    Args:
        files: Path and SHA-256 in hex.
    """
    return msgspec.json.encode(_Index(dict(sorted(files)), "osiris-registry-index/1"))


def read_index(data: bytes) -> Listing:
    """Read an index; what is no place of the tree is left out.

    Raises:
        RemoteProtocolError: It is not one, or too large.
    """
    if len(data) > MAX_INDEX:
        raise RemoteProtocolError(f"the index has more than {MAX_INDEX} bytes")
    try:
        index = msgspec.json.decode(data, type=_Index)
    except (msgspec.DecodeError, ValueError, RecursionError) as error:
        raise RemoteProtocolError(f"{INDEX} is not an index of a registry's tree: {error}") from None
    return Listing((path, digest) for path, digest in index.files.items() if is_path(path))
