"""Blocks of files and directories, decoded and checked. A pure core.

Source: the IPLD specification of DAG-PB and the UnixFS specification. A block is a file (its bytes, or the ids and
sizes of its parts), a directory (names and ids), or one node of a directory that is spread over many blocks by the hash
of the name (a HAMT). Anything else is refused: symbolic links, metadata, other hash functions.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from osiris_mesh.errors import RemoteProtocolError
from osiris_mesh.registry.ipfs_cid import DAG_PB, RAW, Cid, read_varint
from osiris_mesh.registry.ipfs_protobuf import fields, octets, unsigned

__all__ = ["MAX_BLOCK", "Block", "Directory", "File", "Link", "Shard", "name_hash", "read_block"]

MAX_BLOCK: Final = 2 * 1024 * 1024
"""Bytes of one block: what IPFS nodes send each other at most."""

_RAW, _DIRECTORY, _FILE, _SHARD = 0, 1, 2, 5
_MURMUR3: Final = 0x22
_MAX_FANOUT: Final = 1024
_MAX_NAME: Final = 255
_MASK: Final = (1 << 64) - 1


@dataclass(frozen=True, slots=True)
class Link:
    """What an entry of a directory leads to.

    Attributes:
        cid: Its content id.
        size: Bytes of all blocks below, by the word of whoever made it: told on, used for nothing.
    """

    cid: Cid
    size: int


@dataclass(frozen=True, slots=True)
class File:
    """A file, or a part of one.

    Attributes:
        size: Bytes, those of its parts included.
        data: Those in this block.
        parts: ``(id, bytes)`` of the others, in order.
    """

    size: int
    data: bytes
    parts: tuple[tuple[Cid, int], ...] = ()


@dataclass(frozen=True, slots=True)
class Directory:
    """A directory in one block.

    Attributes:
        entries: By name.
    """

    entries: dict[str, Link]


@dataclass(frozen=True, slots=True)
class Shard:
    """One node of a directory that is spread over many blocks.

    Attributes:
        bits: Bits of the hash of a name that say which slot it is in.
        slots: Of each occupied slot the name and its content, or an empty name and the next node.
    """

    bits: int
    slots: dict[int, tuple[str, Link]]


Block = File | Directory | Shard
_Named = tuple[str, Link]


def read_block(cid: Cid, data: bytes) -> Block:
    """Decode a block whose bytes were checked against its id.

    Raises:
        RemoteProtocolError: It is not of the kinds known here, or contradicts itself.
    """
    if len(data) > MAX_BLOCK:
        raise RemoteProtocolError(f"a block has more than {MAX_BLOCK} bytes")
    if cid.codec == RAW:
        return File(len(data), data)
    if cid.codec != DAG_PB:
        raise RemoteProtocolError(f"a block with codec 0x{cid.codec:x} is no file and no directory")
    links, body = _read_node(data)
    return _read_unixfs(links, body)


def _read_node(data: bytes) -> tuple[list[_Named], bytes]:
    links: list[_Named] = []
    body: bytes | None = None
    for number, value in fields(data):
        if number == 2 and body is None:
            links.append(_read_link(octets(value)))
        elif number == 1 and body is None:
            body = octets(value)
        else:
            raise RemoteProtocolError("a block's fields are not links and then data")
    if body is None:
        raise RemoteProtocolError("a block has no data")
    return links, body


def _read_link(data: bytes) -> _Named:
    cid: Cid | None = None
    name = ""
    last = size = 0
    for number, value in fields(data):
        if number <= last or number > 3:
            raise RemoteProtocolError("a link's fields are not id, name and size")
        last = number
        if number == 1:
            cid = Cid.from_bytes(octets(value))
        elif number == 2:
            name = _name(octets(value))
        else:
            size = unsigned(value)
    if cid is None:
        raise RemoteProtocolError("a link has no content id")
    return name, Link(cid, size)


def _name(data: bytes) -> str:
    if len(data) > _MAX_NAME + 4:
        raise RemoteProtocolError("a link's name is too long")
    try:
        return data.decode()
    except UnicodeDecodeError:
        raise RemoteProtocolError("a link's name is not UTF-8") from None


def _read_unixfs(links: Sequence[_Named], body: bytes) -> Block:
    kind = size = hash_kind = fanout = -1
    data = b""
    sizes: list[int] = []
    for number, value in fields(body):
        match number:
            case 1:
                kind = unsigned(value)
            case 2:
                data = octets(value)
            case 3:
                size = unsigned(value)
            case 4 if isinstance(value, bytes):
                sizes.extend(_packed(value))
            case 4:
                sizes.append(unsigned(value))
            case 5:
                hash_kind = unsigned(value)
            case 6:
                fanout = unsigned(value)
            case 7 | 8:
                pass  # mode and time: of no interest here
            case _:
                raise RemoteProtocolError(f"a file or directory has the unknown field {number}")
    if kind in {_FILE, _RAW}:
        return _file(links, data, sizes, size)
    if kind == _DIRECTORY:
        return Directory(_entries(links))
    if kind == _SHARD:
        return _shard(links, hash_kind, fanout)
    raise RemoteProtocolError(f"a block of UnixFS type {kind} is no file and no directory")


def _packed(data: bytes) -> list[int]:
    numbers, at = [], 0
    while at < len(data):
        number, at = read_varint(data, at)
        numbers.append(number)
    return numbers


def _file(links: Sequence[_Named], data: bytes, sizes: Sequence[int], size: int) -> File:
    total = len(data) + sum(sizes)
    if len(sizes) != len(links) or size not in {-1, total}:
        raise RemoteProtocolError("a file is not as long as its parts")
    # Empty parts are what a file that was written over may have; nobody has to look at them.
    return File(total, data, tuple((link.cid, part) for (_, link), part in zip(links, sizes, strict=True) if part))


def _checked(name: str) -> str:
    if not name or name in {".", ".."} or "/" in name or "\0" in name or len(name.encode()) > _MAX_NAME:
        raise RemoteProtocolError(f"{name[:64]!r} is no name in a directory")
    return name


def _entries(links: Sequence[_Named]) -> dict[str, Link]:
    entries = {_checked(name): link for name, link in links}
    if len(entries) != len(links):
        raise RemoteProtocolError("a directory has a name twice")
    return entries


def _shard(links: Sequence[_Named], hash_kind: int, fanout: int) -> Shard:
    if hash_kind != _MURMUR3:
        raise RemoteProtocolError(f"a directory is spread by the unknown hash function 0x{max(hash_kind, 0):x}")
    if not 8 <= fanout <= _MAX_FANOUT or fanout & (fanout - 1):
        raise RemoteProtocolError(f"a directory is spread over {fanout} slots, which is no power of two from 8 to 1024")
    width = len(f"{fanout - 1:X}")
    slots: dict[int, tuple[str, Link]] = {}
    for label, link in links:
        slot = _slot(label[:width], width)
        if slot >= fanout or slot in slots:
            raise RemoteProtocolError("a slot of a spread directory is not there, or twice")
        name = label[width:]
        slots[slot] = (_checked(name) if name else "", link)
    return Shard(fanout.bit_length() - 1, slots)


def _slot(text: str, width: int) -> int:
    if len(text) != width or not set(text) <= set("0123456789ABCDEF"):
        raise RemoteProtocolError("an entry of a spread directory has no slot")
    return int(text, 16)


def name_hash(name: str) -> int:
    """Return the 64 bits that place a name in a spread directory: the first half of MurmurHash3 x64 128, seed 0.

    Source: A. Appleby's public-domain MurmurHash3. It protects nothing: a content id does that.
    """
    data = name.encode()
    first = second = 0
    whole = len(data) // 16 * 16
    for at in range(0, whole, 16):
        first ^= _mix_first(int.from_bytes(data[at : at + 8], "little"))
        first = (_rotate(first, 27) + second) & _MASK
        first = (first * 5 + 0x52DCE729) & _MASK
        second ^= _mix_second(int.from_bytes(data[at + 8 : at + 16], "little"))
        second = (_rotate(second, 31) + first) & _MASK
        second = (second * 5 + 0x38495AB5) & _MASK
    tail = data[whole:]
    second ^= _mix_second(int.from_bytes(tail[8:], "little"))
    first ^= _mix_first(int.from_bytes(tail[:8], "little"))
    first ^= len(data)
    second ^= len(data)
    first = (first + second) & _MASK
    second = (second + first) & _MASK
    return (_finish(first) + _finish(second)) & _MASK


def _rotate(value: int, by: int) -> int:
    return (value << by | value >> (64 - by)) & _MASK


def _mix_first(value: int) -> int:
    return _rotate(value * 0x87C37B91114253D5 & _MASK, 31) * 0x4CF5AD432745937F & _MASK


def _mix_second(value: int) -> int:
    return _rotate(value * 0x4CF5AD432745937F & _MASK, 33) * 0x87C37B91114253D5 & _MASK


def _finish(value: int) -> int:
    value ^= value >> 33
    value = value * 0xFF51AFD7ED558CCD & _MASK
    value ^= value >> 33
    value = value * 0xC4CEB9FE1A85EC53 & _MASK
    return value ^ value >> 33
