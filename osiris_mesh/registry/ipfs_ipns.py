"""Records of IPNS: who says, with which key, where a name points now. A pure core.

Source: the IPNS Record and Protocol specification. What counts is the DAG-CBOR document under the second signature; the
fields beside it, kept for old readers, must say the same. Ed25519 keys alone, which are inside the name itself.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final

import cbor2

from osiris_mesh.errors import RemoteProtocolError
from osiris_mesh.identity.keys import verify_bare
from osiris_mesh.registry.ipfs_cid import IpnsName
from osiris_mesh.registry.ipfs_protobuf import fields, octets, unsigned

__all__ = ["MAX_RECORD", "IpnsRecord", "read_record"]

MAX_RECORD: Final = 10 * 1024
"""Bytes of a record, as the specification has it."""

_SIGNED: Final = b"ipns-signature:"
_TIME: Final = re.compile(r"(\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d)(?:\.(\d{1,9}))?Z\Z", re.ASCII)
_VALUE, _SIGNATURE_1, _KIND, _VALIDITY, _SEQUENCE, _TTL, _KEY, _SIGNATURE_2, _DATA = range(1, 10)
_MAX_SEQUENCE: Final = 1 << 63
_PLAIN: Final = frozenset({bytes, int, str, bool, float, type(None)})
_KEYS: Final = {"Value", "Validity", "ValidityType", "Sequence", "TTL"}
_KEY_PREFIX: Final = bytes.fromhex("08011220")


@dataclass(frozen=True, slots=True)
class IpnsRecord:
    """A record whose signature holds.

    Attributes:
        value: Where the name points: ``/ipfs/…`` or ``/ipns/…``.
        sequence: Goes up with every change.
        until_ns: Nanoseconds of Unix time from which on it is worth nothing.
        ttl_ms: How long it may be cached.
        data: The record's bytes.
    """

    value: str
    sequence: int
    until_ns: int
    ttl_ms: int
    data: bytes

    def expired(self, now_ms: int) -> bool:
        """Say whether it is worth nothing any more."""
        return self.until_ns <= now_ms * 1_000_000

    @property
    def rank(self) -> tuple[int, int]:
        """Of two records of a name the one of the higher rank counts: the later, or the one that holds longer."""
        return self.sequence, self.until_ns


def read_record(name: IpnsName, data: bytes) -> IpnsRecord:
    """Read and verify a record; whether it has expired is for the caller to ask.

    Raises:
        RemoteProtocolError: It is not of the form, or not signed by the name's key.
    """
    if len(data) > MAX_RECORD:
        raise RemoteProtocolError(f"a pointer's record has more than {MAX_RECORD} bytes")
    found: dict[int, int | bytes] = {}
    for number, value in fields(data):
        if number in found or not _VALUE <= number <= _DATA:
            raise RemoteProtocolError("a pointer's record has a field twice, or one that is not known")
        found[number] = value
    document, signature = octets(found.get(_DATA, b"")), octets(found.get(_SIGNATURE_2, b""))
    key = octets(found.get(_KEY, _KEY_PREFIX + name.public))
    if key != _KEY_PREFIX + name.public or not document:
        raise RemoteProtocolError("a pointer's record is of another key, or has no document")
    if not verify_bare(name.public, _SIGNED + document, signature):
        raise RemoteProtocolError("a pointer's record is not signed by the name's key")
    said = _read_document(document)
    for number, part in ((_VALUE, "Value"), (_VALIDITY, "Validity")):
        if octets(found.get(number, b"")) not in {b"", said[part]}:
            raise RemoteProtocolError(f"a pointer's record says two things about {part}")
    for number, part in ((_KIND, "ValidityType"), (_SEQUENCE, "Sequence"), (_TTL, "TTL")):
        if number in found and unsigned(found[number]) != said[part]:
            raise RemoteProtocolError(f"a pointer's record says two things about {part}")
    try:
        value, until = said["Value"].decode("ascii"), said["Validity"].decode("ascii")
    except UnicodeDecodeError:
        raise RemoteProtocolError("a pointer's record has letters that are not ASCII") from None
    return IpnsRecord(value, said["Sequence"], _nanoseconds(until), said["TTL"] // 1_000_000, data)


def _read_document(data: bytes) -> dict[str, Any]:
    """Decode the signed document; only its author can make it strange, and even he gets no other types than these."""
    try:
        value: dict[str, Any] = cbor2.loads(data, max_depth=2, allow_indefinite=False, allow_duplicate_keys=False)
        same = type(value) is dict and cbor2.dumps(value, canonical=True) == data
    except (cbor2.CBORError, ValueError, TypeError, OverflowError, RecursionError) as error:
        raise RemoteProtocolError(f"a pointer's document is not DAG-CBOR: {type(error).__name__}") from None
    if not same:
        raise RemoteProtocolError("a pointer's document is not in DAG-CBOR's one form")
    if not all(type(key) is str and type(item) in _PLAIN for key, item in value.items()):
        raise RemoteProtocolError("a pointer's document has a value of a kind that is not expected")
    if not _KEYS.issubset(value):
        raise RemoteProtocolError("a pointer's document lacks a field")
    if not all(type(value[part]) is bytes for part in ("Value", "Validity")):
        raise RemoteProtocolError("a pointer's document has a text of another type")
    if not all(type(value[part]) is int and 0 <= value[part] < _MAX_SEQUENCE for part in ("Sequence", "TTL")):
        raise RemoteProtocolError("a pointer's document has a number of another type")
    if type(value["ValidityType"]) is not int or value["ValidityType"] != 0:
        raise RemoteProtocolError("a pointer's validity is not an expiry")
    return value


def _nanoseconds(text: str) -> int:
    match = _TIME.match(text)
    if match is None:
        raise RemoteProtocolError("a pointer's expiry is not a time in UTC")
    try:
        moment = datetime.fromisoformat(match[1]).replace(tzinfo=UTC)
    except ValueError:
        raise RemoteProtocolError("a pointer's expiry is not a time in UTC") from None
    return int(moment.timestamp()) * 1_000_000_000 + int((match[2] or "0").ljust(9, "0"))
