"""A directory with new files in it, as the blocks that have to be stored: the opposite of reading. A pure core.

Built here and not by the node that stores it, so that a publisher knows what his name will point at before he lets it,
and the same files have the same id whoever publishes them. Files are as ``ipfs add --cid-version 1`` makes them: one
block up to 256 KiB, else parts of that size. A directory whose links need more than 256 KiB is spread over many blocks
by the hash of the name (fanout 256); one that is spread stays so.
"""

from __future__ import annotations

from collections.abc import Generator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final, TypeVar

from osiris_mesh.errors import RemoteProtocolError
from osiris_mesh.registry import ipfs_protobuf as protobuf
from osiris_mesh.registry.ipfs_cid import DAG_PB, RAW, Cid
from osiris_mesh.registry.ipfs_unixfs import Directory, File, Link, Shard, name_hash, read_block
from osiris_mesh.registry.ipfs_walk import Walk

__all__ = ["EMPTY", "EMPTY_BLOCK", "SPREAD_FROM", "build"]

T = TypeVar("T")

SPREAD_FROM: Final = 256 * 1024
"""Bytes of links from which on a directory is spread."""
EMPTY_BLOCK: Final = bytes.fromhex("0a020801")
EMPTY: Final = Cid.of(DAG_PB, EMPTY_BLOCK)
"""The directory with nothing in it."""

_PART: Final = 256 * 1024
_DIRECTORY, _FILE, _SHARD = 1, 2, 5
_MURMUR3: Final = 0x22
_BITS: Final = 8
_HASH_BITS: Final = 64
_DEPTH: Final = 16

_Blocks = dict[Cid, bytes]
_Changes = dict[str, "Link | _Changes"]


@dataclass(slots=True)
class _Node:
    """One node of a spread directory that is being changed."""

    bits: int
    slots: dict[int, tuple[str, Link] | _Node] = field(default_factory=dict)


def build(base: Cid | None, files: Mapping[str, bytes], spread_from: int = SPREAD_FROM) -> Walk[tuple[Cid, _Blocks]]:
    """Return the id of a directory that has these files beside those of another, and its new blocks.

    Args:
        base: The other, or None for an empty one.
        files: Bytes by path; no path goes through another.
        spread_from: As :data:`SPREAD_FROM`.

    Raises:
        RemoteProtocolError: A block of the other can't be read, or a file stands where a directory is to be.
    """
    blocks: _Blocks = {}
    changes: _Changes = {}
    for path, data in files.items():
        *folders, name = path.split("/")
        at = changes
        for folder in folders:
            below = at.setdefault(folder, {})
            if not isinstance(below, dict):
                raise RemoteProtocolError(f"{path[:256]} goes through a file")
            at = below
        if name in at:
            raise RemoteProtocolError(f"{path[:256]} is a file and a directory")
        at[name] = _file(data, blocks)
    link = yield from _Builder(blocks, spread_from).update(base, changes, _DEPTH)
    return link.cid, blocks


def _file(data: bytes, blocks: _Blocks) -> Link:
    if len(data) <= _PART:
        return _put(RAW, data, 0, blocks)
    parts = [_put(RAW, data[at : at + _PART], 0, blocks) for at in range(0, len(data), _PART)]
    body = protobuf.field(1, _FILE) + protobuf.field(3, len(data))
    body += b"".join(protobuf.field(4, part.size) for part in parts)
    return _put_node([("", part) for part in parts], body, blocks)


def _put(codec: int, data: bytes, below: int, blocks: _Blocks) -> Link:
    cid = Cid.of(codec, data)
    blocks[cid] = data
    return Link(cid, len(data) + below)


def _put_node(links: Sequence[tuple[str, Link]], body: bytes, blocks: _Blocks) -> Link:
    data = b"".join(protobuf.field(2, _link(name, link)) for name, link in links) + protobuf.field(1, body)
    return _put(DAG_PB, data, sum(link.size for _, link in links), blocks)


def _link(name: str, link: Link) -> bytes:
    return protobuf.field(1, link.cid.to_bytes()) + protobuf.field(2, name.encode()) + protobuf.field(3, link.size)


class _Builder:
    """Changes directories from the leaves up; new blocks are put aside."""

    def __init__(self, blocks: _Blocks, spread_from: int) -> None:
        self._blocks = blocks
        self._spread_from = spread_from

    def update(self, cid: Cid | None, changes: _Changes, depth: int) -> Walk[Link]:
        if not depth:
            raise RemoteProtocolError("directories are nested too deep")
        block = (yield from self._read(cid)) if cid is not None else Directory({})
        if isinstance(block, File):
            raise RemoteProtocolError("a file stands where a directory is to be")
        top = _opened(block) if isinstance(block, Shard) else None
        entries = dict(block.entries) if isinstance(block, Directory) else {}
        for name, change in changes.items():
            if isinstance(change, Link):
                link = change
            else:
                old = entries.get(name) if top is None else (yield from self._found(top, name))
                link = yield from self.update(old.cid if old is not None else None, change, depth - 1)
            if top is None:
                entries[name] = link
            else:
                yield from self._insert(top, name, link, name_hash(name), _HASH_BITS)
        if top is None and sum(map(_weight, entries.items())) > self._spread_from:
            top = _Node(_BITS)
            for name, link in entries.items():
                yield from self._insert(top, name, link, name_hash(name), _HASH_BITS)
        if top is not None:
            return self._put_shard(top)
        ordered = sorted(entries.items(), key=lambda entry: entry[0].encode())
        return _put_node(ordered, protobuf.field(1, _DIRECTORY), self._blocks)

    def _read(self, cid: Cid) -> Walk[File | Directory | Shard]:
        (data,) = yield [cid]
        return read_block(cid, data)

    def _open(self, cid: Cid) -> Walk[_Node]:
        block = yield from self._read(cid)
        if not isinstance(block, Shard):
            raise RemoteProtocolError("a node of a spread directory is something else")
        return _opened(block)

    def _found(self, node: _Node, name: str) -> Generator[Sequence[Cid], Sequence[bytes], Link | None]:
        digest, left = name_hash(name), _HASH_BITS
        while True:
            left -= node.bits
            if left < 0:
                raise RemoteProtocolError("a directory is spread deeper than its hashes reach")
            slot = digest >> left & ((1 << node.bits) - 1)
            there = node.slots.get(slot)
            if isinstance(there, tuple) and not there[0]:
                there = node.slots[slot] = yield from self._open(there[1].cid)
            if isinstance(there, _Node):
                node = there
                continue
            return there[1] if there is not None and there[0] == name else None

    def _insert(self, node: _Node, name: str, link: Link, digest: int, left: int) -> Walk[None]:
        while True:
            left -= node.bits
            if left < 0:
                raise RemoteProtocolError("a directory is spread deeper than its hashes reach")
            slot = digest >> left & ((1 << node.bits) - 1)
            there = node.slots.get(slot)
            if isinstance(there, tuple) and not there[0]:
                there = node.slots[slot] = yield from self._open(there[1].cid)
            if there is None or (isinstance(there, tuple) and there[0] == name):
                node.slots[slot] = (name, link)
                return
            if isinstance(there, tuple):
                # Two names in one slot: both go one level down.
                other, kept = there
                below = _Node(node.bits)
                yield from self._insert(below, other, kept, name_hash(other), left)
                there = node.slots[slot] = below
            node = there

    def _put_shard(self, node: _Node) -> Link:
        fanout = 1 << node.bits
        width = len(f"{fanout - 1:X}")
        links: list[tuple[str, Link]] = []
        occupied = 0
        for slot, there in sorted(node.slots.items()):
            occupied |= 1 << slot
            name, link = ("", self._put_shard(there)) if isinstance(there, _Node) else there
            links.append((f"{slot:0{width}X}{name}", link))
        body = (
            protobuf.field(1, _SHARD)
            + protobuf.field(2, occupied.to_bytes((occupied.bit_length() + 7) // 8, "big"))
            + protobuf.field(5, _MURMUR3)
            + protobuf.field(6, fanout)
        )
        return _put_node(links, body, self._blocks)


def _opened(block: Shard) -> _Node:
    return _Node(block.bits, dict(block.slots.items()))


def _weight(entry: tuple[str, Link]) -> int:
    name, link = entry
    return len(name.encode()) + len(link.cid.to_bytes())
