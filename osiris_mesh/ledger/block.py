"""Commands and blocks: what goes into Raft, and what every node makes of it.

A *command* is one batch of entries, ``[1, proposer's public key, time_ms, [entry bytes…]]``. Its version leaves room
for another form (one signature over a proposer's whole batch). Applied, a command becomes one *block*: the header is
computed on every node alike from the command, its place in Raft's log and the block before it::

    [1, mesh id, height, previous hash, container, first entry index, count, entries root, log size, log root,
     raft term, raft index, time_ms]

``container`` is the proposer's peer id; both roots are RFC 6962 roots whose leaves are entry hashes, the first over the
block's entries, the second over all entries so far; ``time_ms`` is the proposer's clock, never before the block before.
A command that is not of this form, or has no entry, makes no block; an entry that is not well-formed stands in its
block, refused.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields
from hashlib import sha256
from typing import Any, Final

from osiris_mesh.codec import Limits, pack, unpack_canonical
from osiris_mesh.errors import RemoteProtocolError, UsageError
from osiris_mesh.identity.peer_id import public_key
from osiris_mesh.ledger.entry import MAX_ENTRY, MESH_ID_SIZE, Entry
from osiris_mesh.ledger.outcome import Outcome

__all__ = [
    "BLOCK_HASH",
    "GENESIS_PREVIOUS",
    "MAX_BLOCK",
    "MAX_COMMAND",
    "MAX_ENTRIES",
    "Block",
    "Command",
    "Header",
    "Tip",
    "block_hash",
    "read_wire",
]

MAX_ENTRIES: Final = 2048
"""Entries of one command."""

MAX_COMMAND: Final = 512 * 1024
"""Bytes of one command; Raft carries it in one message."""

MAX_BLOCK: Final = MAX_COMMAND + 1024
"""Bytes of one block: its entries fitted a command, beside them stands the header."""

BLOCK_HASH: Final = b"osiris/block-hash/v1\0"
GENESIS_PREVIOUS: Final = bytes(32)
_VERSION: Final = 1
_COMMAND: Final = Limits(size=MAX_COMMAND, depth=2, count=MAX_ENTRIES)
_HEADER: Final = Limits(size=1024, depth=1, count=16)
_WIRE: Final = Limits(size=MAX_BLOCK, depth=2, count=MAX_ENTRIES)
_MAX_INT: Final = 1 << 53


def block_hash(header: bytes) -> bytes:
    """Return the hash of a block, which is that of its header."""
    return sha256(BLOCK_HASH + header).digest()


def _is_count(value: Any) -> bool:
    return type(value) is int and 0 <= value <= _MAX_INT


@dataclass(frozen=True, slots=True)
class Tip:
    """Where a chain stands.

    Attributes:
        height: Of the last block; 0 before the first.
        hash: Of the last block; zeros before the first.
    """

    height: int
    hash: bytes


@dataclass(frozen=True, slots=True)
class Command:
    """One batch of entries.

    Attributes:
        proposer: Public key of the node that put it together.
        time_ms: Its wall clock.
        entries: The entries' bytes, not yet looked into.
    """

    proposer: bytes
    time_ms: int
    entries: tuple[bytes, ...]

    def to_wire(self) -> bytes:
        """Return the bytes that go into Raft.

        Raises:
            UsageError: Nothing in it, or past a bound.
        """
        if not 1 <= len(self.entries) <= MAX_ENTRIES:
            raise UsageError(f"a command has 1 to {MAX_ENTRIES} entries, this one {len(self.entries)}")
        wire = pack([_VERSION, self.proposer, self.time_ms, self.entries])
        if len(wire) > MAX_COMMAND:
            raise UsageError(f"the entries need {len(wire)} bytes in one command, more than {MAX_COMMAND}")
        return wire

    @classmethod
    def from_wire(cls, data: bytes) -> Command:
        """Read a command.

        Raises:
            RemoteProtocolError: Not of the form this version knows.
        """
        value = unpack_canonical(data, _COMMAND)
        if type(value) is not list or len(value) != 4 or type(value[0]) is not int or value[0] != _VERSION:
            raise RemoteProtocolError("not a command of a version known here")
        _, proposer, time_ms, entries = value
        if type(proposer) is not bytes or len(proposer) != 32 or not _is_count(time_ms):
            raise RemoteProtocolError("a command names no proposer or no time")
        return cls(proposer, time_ms, _entries(entries))


def _entries(value: Any) -> tuple[bytes, ...]:
    if type(value) is not list or not value:
        raise RemoteProtocolError("a batch has no entries")
    for entry in value:
        if type(entry) is not bytes or len(entry) > MAX_ENTRY:
            raise RemoteProtocolError("a batch holds something that can't be an entry")
    return tuple(value)


@dataclass(frozen=True, slots=True)
class Header:
    """A block's header; see the layout above.

    Attributes:
        mesh_id: 16 bytes.
        height: From 1.
        previous: Hash of the block before; zeros for the first.
        container: Peer id of the proposer.
        first: Index in the log of the block's first entry, from 0.
        count: Entries in it.
        entries_root: RFC 6962 root over them.
        log_size: Entries up to and with this block.
        log_root: RFC 6962 root over those.
        raft_term: Term of the command.
        raft_index: Its place in Raft's log.
        time_ms: Block time.
    """

    mesh_id: bytes
    height: int
    previous: bytes
    container: str
    first: int
    count: int
    entries_root: bytes
    log_size: int
    log_root: bytes
    raft_term: int
    raft_index: int
    time_ms: int

    def to_wire(self) -> bytes:
        """Return the canonical bytes, which are hashed."""
        return pack([_VERSION, *(getattr(self, name) for name in _HEADER_FIELDS)])

    @classmethod
    def from_wire(cls, data: bytes) -> Header:
        """Read a header; only the form is checked.

        Raises:
            RemoteProtocolError: Not a header of a version known here; the text names the field.
        """
        value = unpack_canonical(data, _HEADER)
        if type(value) is not list or len(value) != 1 + len(_HEADER_FIELDS):
            raise RemoteProtocolError("a header has not thirteen fields")
        if type(value[0]) is not int or value[0] != _VERSION:
            raise RemoteProtocolError("a header's version is not known")
        for name, item in zip(_HEADER_FIELDS, value[1:], strict=True):
            length = _HEADER_BYTES.get(name)
            fits = _is_count(item) if length is None else type(item) is bytes and len(item) == length
            if name == "container":
                fits = _is_peer(item)
            if not fits:
                raise RemoteProtocolError(f"{name} of a header has another type or size")
        return cls(*value[1:])


def _is_peer(value: Any) -> bool:
    if type(value) is not str:
        return False
    try:
        public_key(value)
    except UsageError:
        return False
    return True


_HEADER_FIELDS: Final = tuple(item.name for item in fields(Header))
_HEADER_BYTES: Final = {"mesh_id": MESH_ID_SIZE, "previous": 32, "entries_root": 32, "log_root": 32}


@dataclass(frozen=True, slots=True)
class Block:
    """An applied block.

    Attributes:
        header: Its header.
        hash: Its hash.
        wire: ``[header bytes, [entry bytes…]]``: as it is stored and sent.
        hashes: Hash of each entry.
        entries: Each entry decoded; None where it was not well-formed.
        outcomes: What became of each.
    """

    header: Header
    hash: bytes
    wire: bytes
    hashes: tuple[bytes, ...]
    entries: tuple[Entry | None, ...]
    outcomes: tuple[Outcome, ...]

    @property
    def height(self) -> int:
        """Its height."""
        return self.header.height

    @property
    def tip(self) -> Tip:
        """The chain's tip when this block is the last."""
        return Tip(self.header.height, self.hash)


def wire(header: bytes, entries: Sequence[bytes]) -> bytes:
    """Return the form in which a block is stored and sent."""
    return pack([header, entries])


def read_wire(data: bytes) -> tuple[bytes, tuple[bytes, ...]]:
    """Return a stored or sent block's header bytes and entries; only the form is checked.

    Raises:
        RemoteProtocolError: Not of that form, or past a bound.
    """
    value = unpack_canonical(data, _WIRE)
    if type(value) is not list or len(value) != 2 or type(value[0]) is not bytes:
        raise RemoteProtocolError("a block is not a header and entries")
    return value[0], _entries(value[1])
