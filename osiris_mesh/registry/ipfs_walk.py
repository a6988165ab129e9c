"""Ways through blocks: to a file by its path, through a file's parts, over all names. A pure core.

Each is a generator that yields the ids of the blocks it needs next and is sent their bytes, in the same order, checked
by whoever fetched them; its value is the answer. So the same code serves gateways, a cache and a test's dictionary.
"""

from __future__ import annotations

from collections.abc import Generator, Sequence
from functools import lru_cache
from operator import itemgetter
from typing import Final, TypeVar

from osiris_mesh.errors import RemoteProtocolError
from osiris_mesh.registry.ipfs_cid import RAW, Cid
from osiris_mesh.registry.ipfs_unixfs import Block, Directory, File, Shard, name_hash, read_block

__all__ = ["Walk", "find", "list_files", "read_file"]

T = TypeVar("T")
Walk = Generator[Sequence[Cid], Sequence[bytes], T]

_MAX_DEPTH: Final = 16
_BATCH: Final = 32
_HASH_BITS: Final = 64
_KEPT: Final = 64 * 1024


def find(root: Cid, path: str) -> Walk[Cid | None]:
    """Find what stands under a path; None: surely nothing.

    Args:
        root: A directory.
        path: Names joined by ``/``.

    Raises:
        RemoteProtocolError: A block on the way can't be read.
    """
    at = root
    for name in path.split("/"):
        found = yield from _entry(at, name)
        if found is None:
            return None
        at = found
    return at


def _entry(at: Cid, name: str) -> Walk[Cid | None]:
    """Find a name in a directory, following the bits of its hash where the directory is spread."""
    digest, left = name_hash(name), _HASH_BITS
    while True:
        (data,) = yield [at]
        block = _known_block(at, data) if len(data) <= _KEPT else read_block(at, data)
        if isinstance(block, File):
            return None
        if isinstance(block, Directory):
            there = block.entries.get(name) if left == _HASH_BITS else None
            return there.cid if there is not None else None
        left -= block.bits
        if left < 0:
            raise RemoteProtocolError("a directory is spread deeper than its hashes reach")
        slot = block.slots.get(digest >> left & ((1 << block.bits) - 1))
        if slot is None or slot[0]:
            return slot[1].cid if slot is not None and slot[0] == name else None
        at = slot[1].cid


@lru_cache(maxsize=256)
def _known_block(cid: Cid, data: bytes) -> Block:
    """Decode a directory that names are looked for in again and again; nobody changes what this gives."""
    return read_block(cid, data)


def read_file(cid: Cid, limit: int) -> Walk[bytes | None]:
    """Return a file's bytes; None: it is a directory.

    Args:
        cid: The file.
        limit: Bytes it may have.

    Raises:
        RemoteProtocolError: It has more, a block can't be read, or a part is not as long as the file says.
    """
    (data,) = yield [cid]
    block = read_block(cid, data)
    if not isinstance(block, File):
        return None
    if block.size > limit:
        raise RemoteProtocolError(f"a file has {block.size} bytes, more than the {limit} allowed")
    return (yield from _gather(block, _MAX_DEPTH))


def _gather(file: File, depth: int) -> Walk[bytes]:
    if file.parts and not depth:
        raise RemoteProtocolError("a file's parts are nested too deep")
    pieces = [file.data]
    for start in range(0, len(file.parts), _BATCH):
        batch = file.parts[start : start + _BATCH]
        blocks = yield [cid for cid, _ in batch]
        for (cid, size), data in zip(batch, blocks, strict=True):
            part = read_block(cid, data)
            if not isinstance(part, File) or part.size != size:
                raise RemoteProtocolError("a part of a file is not as long as the file says")
            pieces.append((yield from _gather(part, depth - 1)))
    return b"".join(pieces)


def list_files(root: Cid, prefix: str, limit: int) -> Walk[list[tuple[str, Cid]]]:
    """Return all files whose paths begin with ``prefix``, ascending by path.

    Directories that no such path leads through are not entered.

    Args:
        root: A directory.
        prefix: The beginning of paths, not necessarily whole names.
        limit: Files and directories to go through at most.

    Raises:
        RemoteProtocolError: There are more, they are nested too deep, or a block can't be read.
    """
    found: list[tuple[str, Cid]] = []
    waiting: list[tuple[str, Cid, int]] = [("", root, _MAX_DEPTH)]
    passed = 0
    while waiting:
        batch = [waiting.pop() for _ in range(min(_BATCH, len(waiting)))]
        blocks = yield [cid for _, cid, _ in batch]
        for (path, cid, depth), data in zip(batch, blocks, strict=True):
            passed += 1
            block = read_block(cid, data)
            if isinstance(block, File):
                if path.startswith(prefix):
                    found.append((path, cid))
                continue
            if not depth:
                raise RemoteProtocolError("directories are nested too deep")
            for name, entry in _children(block):
                # A node of a spread directory stands for the same directory.
                below = f"{path}/{name}" if path and name else path or name
                if not _leads_to(below, prefix):
                    continue
                if name and entry.codec == RAW:
                    passed += 1
                    if below.startswith(prefix):
                        found.append((below, entry))
                else:
                    waiting.append((below, entry, depth - 1))
            if passed + len(waiting) > limit:
                raise RemoteProtocolError(f"the tree has more than {limit} files")
    return sorted(found, key=itemgetter(0))


def _children(block: Directory | Shard) -> list[tuple[str, Cid]]:
    named = block.entries.items() if isinstance(block, Directory) else block.slots.values()
    return [(name, link.cid) for name, link in named]


def _leads_to(path: str, prefix: str) -> bool:
    return path.startswith(prefix) or prefix.startswith(f"{path}/") or not path
