"""A signed entry: the unit of what the ledger records.

Layout: ``[payload, signature]``, the signature in :attr:`Domain.ENTRY` over the exact payload bytes; payload
``[1, mesh id, kind, author, time_ms, nonce, body]`` with the body an array in the order of its kind's fields
(:mod:`osiris_mesh.ledger.kinds`). Only integers, bytes, UTF-8 texts and arrays of them, in the shortest form: bytes
whose decoding encodes to other bytes are refused. The entry's hash covers the stored bytes, signature included.
"""

from __future__ import annotations

import builtins
import secrets
from collections.abc import Sequence
from dataclasses import dataclass
from hashlib import sha256
from typing import Any, Final

from osiris_mesh.clock import Clock
from osiris_mesh.codec import Limits, pack, unpack_canonical
from osiris_mesh.errors import RemoteProtocolError, UsageError
from osiris_mesh.identity.keys import Domain, KeyPair, verify

__all__ = ["ENTRY_HASH", "MAX_ENTRY", "MESH_ID_SIZE", "Entry", "entry_hash"]

MAX_ENTRY: Final = 128 * 1024
"""Bytes of one entry: a function's specification of the largest size and room beside it."""

ENTRY_HASH: Final = b"osiris/entry-hash/v1\0"
MESH_ID_SIZE: Final = 16
_VERSION: Final = 1
_NONCE: Final = 16
_OUTER: Final = Limits(size=MAX_ENTRY, depth=1, count=2)
_INNER: Final = Limits(size=MAX_ENTRY, depth=6, count=4096)
_MAX_TIME: Final = 1 << 53


def entry_hash(data: bytes) -> bytes:
    """Return the hash of an entry's stored bytes; defined for any bytes, malformed ones too."""
    return sha256(ENTRY_HASH + data).digest()


@dataclass(frozen=True, slots=True)
class Entry:
    """One entry, decoded; whether its signature holds is asked with :meth:`holds`.

    Attributes:
        kind: What it records, one of :data:`osiris_mesh.ledger.kinds.KINDS`.
        author: Public key that signed it.
        nonce: 16 random bytes: two entries are never the same by accident.
        time_ms: The author's wall clock, milliseconds.
        body: Fields of the kind, in order.
        mesh_id: The mesh it is for.
        payload: The exact signed bytes.
        signature: 64 bytes.
        hash: SHA-256 of :data:`ENTRY_HASH` and ``bytes``.
        bytes: The stored form.
    """

    kind: str
    author: builtins.bytes
    nonce: builtins.bytes
    time_ms: int
    body: list[Any]
    mesh_id: builtins.bytes
    payload: builtins.bytes
    signature: builtins.bytes
    hash: builtins.bytes
    bytes: builtins.bytes

    @classmethod
    def make(
        cls,
        kind: str,
        body: Sequence[Any],
        key: KeyPair,
        mesh_id: builtins.bytes,
        clock: Clock,
        *,
        nonce: builtins.bytes | None = None,
    ) -> Entry:
        """Sign a new entry.

        Args:
            kind: Its kind.
            body: Fields of the kind, in order; the classes of ``kinds`` give them with ``body()``.
            key: The author's key.
            mesh_id: The mesh.
            clock: Gives the entry's time.
            nonce: 16 bytes; random when not given.

        Raises:
            UsageError: Larger than :data:`MAX_ENTRY`, or a value that has no msgpack form.
        """
        if nonce is None:
            nonce = secrets.token_bytes(_NONCE)
        payload = pack([_VERSION, mesh_id, kind, key.public, clock.time_ms(), nonce, list(body)])
        data = pack([payload, key.sign(Domain.ENTRY, payload)])
        if len(data) > MAX_ENTRY:
            raise UsageError(f"the {kind} entry has {len(data)} bytes, more than the {MAX_ENTRY} allowed")
        try:
            return cls.parse(data)
        except RemoteProtocolError as error:
            raise UsageError(f"the {kind} entry can't be made: {error.what}") from None

    @classmethod
    def parse(cls, data: builtins.bytes) -> Entry:
        """Read an entry; its signature is not checked here.

        Raises:
            RemoteProtocolError: Not an entry, not in the shortest form, or of a version this program does not know.
        """
        outer = unpack_canonical(data, _OUTER)
        if type(outer) is not list or len(outer) != 2 or type(outer[0]) is not bytes or type(outer[1]) is not bytes:
            raise RemoteProtocolError("an entry is not a payload and a signature")
        payload, signature = outer
        inner = unpack_canonical(payload, _INNER)
        if type(inner) is not list or len(inner) != 7:
            raise RemoteProtocolError("an entry's payload has not seven fields")
        version, mesh_id, kind, author, time_ms, nonce, body = inner
        if type(version) is not int or version != _VERSION:
            raise RemoteProtocolError("an entry's version is not known")
        if not (
            type(mesh_id) is bytes
            and len(mesh_id) == MESH_ID_SIZE
            and type(kind) is str
            and len(kind) <= 64
            and type(author) is bytes
            and len(author) == 32
            and type(time_ms) is int
            and 0 <= time_ms <= _MAX_TIME
            and type(nonce) is bytes
            and len(nonce) == _NONCE
            and type(body) is list
            and len(signature) == 64
        ):
            raise RemoteProtocolError("a field of an entry has another type or size")
        return cls(kind, author, nonce, time_ms, body, mesh_id, payload, signature, entry_hash(data), data)

    def holds(self) -> bool:
        """Say whether the signature is the author's."""
        return verify(self.author, Domain.ENTRY, self.payload, self.signature)
