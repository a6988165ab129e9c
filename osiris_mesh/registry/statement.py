r"""A statement: one line of canonical JSON, a payload and who signed it.

::

    {"payload":{"type":…},"signatures":[{"key":hex,"signature":hex},…]}

The form is RFC 8785's and no other: integers only (at most 2^53 - 1 either way), no byte to spare, signatures in
ascending order of their keys and each key once. So a statement has one line, and a flipped byte makes another or none.
A signature covers ``osiris/registry/v1\0`` and the canonical payload; the *digest* is SHA-256 of these same bytes, so
that it names what was said, whoever signed it.

:func:`read` also proves every signature. Whether a key may say what it says is decided by
:mod:`osiris_mesh.registry.trust`; here nobody is believed.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from hashlib import sha256
from itertools import pairwise
from typing import Any, Final

import msgspec
import rfc8785

from osiris_mesh.codec import Limits, pack, unpack_canonical
from osiris_mesh.errors import RemoteProtocolError, UsageError
from osiris_mesh.identity.keys import Domain, KeyPair, verify

__all__ = [
    "LINE_LIMITS",
    "MAX_LINE",
    "MAX_SIGNATURES",
    "Statement",
    "canonical",
    "make",
    "merge",
    "parse",
    "read",
]

MAX_LINE: Final = 64 * 1024
"""Bytes of one statement, without the line's end."""
MAX_SIGNATURES: Final = 16
LINE_LIMITS: Final = Limits(size=MAX_LINE, depth=16, count=1024)
# The msgpack form stands two containers deeper than its payload, whose own depth is bounded as the line's.
_WIRE_LIMITS: Final = Limits(size=MAX_LINE, depth=LINE_LIMITS.depth + 2, count=1024)
_BEGIN: Final = b'{"payload":'
_MIDDLE: Final = b',"signatures":['
_LARGEST: Final = (1 << 53) - 1
_HEX: Final = frozenset("0123456789abcdef")


@dataclass(frozen=True, slots=True)
class Statement:
    """What somebody said.

    Attributes:
        payload: The map that is signed; ``type`` says what it is.
        signatures: ``(public key, signature)``, ascending by key.
        digest: SHA-256 of what is signed, 32 bytes.
        line: The canonical bytes, without the line's end.
    """

    payload: dict[str, Any]
    signatures: tuple[tuple[bytes, bytes], ...]
    digest: bytes
    line: bytes

    @property
    def kind(self) -> str:
        """The payload's ``type``."""
        return str(self.payload["type"])

    @property
    def keys(self) -> frozenset[bytes]:
        """Public keys of the signers; proven only if :func:`read` or :func:`make` gave the statement."""
        return frozenset(key for key, _ in self.signatures)

    def prove(self) -> None:
        """Check every signature.

        Raises:
            RemoteProtocolError: One is not its key's signature of the payload.
        """
        # What is signed stands in the line as it is; after it there is nothing but hexadecimal.
        message = self.line[len(_BEGIN) : self.line.rindex(_MIDDLE)]
        for key, signature in self.signatures:
            if not verify(key, Domain.REGISTRY, message, signature):
                raise RemoteProtocolError(f"a statement's signature by {key.hex()} is wrong")

    def to_wire(self) -> bytes:
        """Return the msgpack form, ``[payload, [[key, signature]…]]``, keys of maps in canonical order."""
        return pack([_ordered(self.payload), [list(item) for item in self.signatures]])

    @classmethod
    def from_wire(cls, data: bytes) -> Statement:
        """Read what :meth:`to_wire` gave, with every signature proven.

        Raises:
            RemoteProtocolError: Another form, or a signature is wrong.
        """
        value = unpack_canonical(data, _WIRE_LIMITS)
        if not (isinstance(value, list) and len(value) == 2 and isinstance(value[1], list)):
            raise RemoteProtocolError("a statement is not of the form [payload, signatures]")
        payload, signatures = value
        for item in signatures:
            if not (isinstance(item, list) and len(item) == 2 and all(type(part) is bytes for part in item)):
                raise RemoteProtocolError("a signature is not of the form [key, signature]")
        _check_payload(payload)
        statement = _built(payload, tuple((item[0], item[1]) for item in signatures))
        if statement.to_wire() != data:
            raise RemoteProtocolError("a statement's msgpack form is not the canonical one")
        statement.prove()
        return statement


def canonical(value: Any) -> bytes:
    """Return the RFC 8785 bytes of a value made of maps, lists, texts, integers, booleans and null.

    Raises:
        UsageError: It holds something else, or an integer past 2^53 - 1.
    """
    _check_value(value, UsageError)
    try:
        return rfc8785.dumps(value)
    except (ValueError, RecursionError) as error:
        raise UsageError(f"the statement has no canonical form: {error}") from None


def make(payload: dict[str, Any], keys: Sequence[KeyPair]) -> Statement:
    """Sign a payload.

    Args:
        payload: A map with ``type``; checked here for its form alone.
        keys: Who signs; at least one, none twice.

    Raises:
        UsageError: The payload has no canonical form, the line is too long, or the keys too many or not distinct.
    """
    message = canonical(payload)
    signatures = tuple(sorted((key.public, key.sign(Domain.REGISTRY, message)) for key in keys))
    try:
        _check_payload(payload)
        return _built(payload, signatures)
    except RemoteProtocolError as error:
        raise UsageError(error.what) from None


def merge(statements: Sequence[Statement]) -> Statement:
    """Return one statement with the signatures of all, for keys that live on different machines.

    Raises:
        UsageError: They do not say the same, or there is none, or too many signatures in all.
    """
    if not statements or any(item.digest != statements[0].digest for item in statements):
        raise UsageError("the statements to merge do not say the same", fix="sign the same payload with every key")
    signatures = {key: signature for item in statements for key, signature in item.signatures}
    try:
        return _built(statements[0].payload, tuple(sorted(signatures.items())))
    except RemoteProtocolError as error:
        raise UsageError(error.what) from None


def parse(line: bytes) -> Statement:
    """Read a line's form without proving its signatures: for lines proven before, known by their SHA-256.

    Raises:
        RemoteProtocolError: Too long, not canonical, unknown or missing fields, too many signatures, one signer twice.
    """
    if len(line) > MAX_LINE:
        raise RemoteProtocolError(f"a statement of {len(line)} bytes is longer than the {MAX_LINE} allowed")
    try:
        value = msgspec.json.decode(line)
    except (msgspec.DecodeError, ValueError, RecursionError):
        raise RemoteProtocolError("a statement is not JSON") from None
    if not isinstance(value, dict) or value.keys() != {"payload", "signatures"}:
        raise RemoteProtocolError("a statement does not have the fields payload and signatures, and no other")
    payload, items = value["payload"], value["signatures"]
    _check_payload(payload)
    if not isinstance(items, list):
        raise RemoteProtocolError("a statement's signatures are not a list")
    signatures: list[tuple[bytes, bytes]] = []
    for item in items:
        if not isinstance(item, dict) or item.keys() != {"key", "signature"}:
            raise RemoteProtocolError("a signature does not have the fields key and signature, and no other")
        signatures.append((_hex(item["key"], 32), _hex(item["signature"], 64)))
    statement = _built(payload, tuple(signatures))
    if statement.line != line:
        raise RemoteProtocolError("a statement is not in the canonical form of RFC 8785")
    return statement


def read(line: bytes) -> Statement:
    """Read a line and prove every signature in it.

    Raises:
        RemoteProtocolError: As :func:`parse`, or a signature is wrong.
    """
    statement = parse(line)
    statement.prove()
    return statement


def _built(payload: dict[str, Any], signatures: tuple[tuple[bytes, bytes], ...]) -> Statement:
    if not 1 <= len(signatures) <= MAX_SIGNATURES:
        raise RemoteProtocolError(f"a statement has {len(signatures)} signatures, not 1 to {MAX_SIGNATURES}")
    keys = [key for key, _ in signatures]
    if any(len(key) != 32 or len(signature) != 64 for key, signature in signatures):
        raise RemoteProtocolError("a key or signature has the wrong length")
    if any(first >= second for first, second in pairwise(keys)):
        raise RemoteProtocolError("a statement's signers are not in ascending order, each once")
    try:
        message = rfc8785.dumps(payload)
    except (ValueError, RecursionError):
        raise RemoteProtocolError("a statement has no canonical form") from None
    body = b",".join(
        b'{"key":"%b","signature":"%b"}' % (key.hex().encode(), signature.hex().encode())
        for key, signature in signatures
    )
    line = _BEGIN + message + _MIDDLE + body + b"]}"
    if len(line) > MAX_LINE:
        raise RemoteProtocolError(f"a statement of {len(line)} bytes is longer than the {MAX_LINE} allowed")
    return Statement(payload, signatures, sha256(Domain.REGISTRY.value + message).digest(), line)


def _check_payload(payload: Any) -> None:
    if not isinstance(payload, dict) or not isinstance(payload.get("type"), str):
        raise RemoteProtocolError("a statement's payload is not a map with a type")
    _check_value(payload, RemoteProtocolError)


def _check_value(value: Any, error: type[UsageError | RemoteProtocolError]) -> None:
    """Refuse what has no canonical form with integers alone, level by level rather than by recursion."""
    level: list[Any] = [value]
    for _ in range(LINE_LIMITS.depth + 1):
        below: list[Any] = []
        for item in level:
            kind = type(item)
            if kind is dict:
                if not all(type(key) is str for key in item):
                    raise error("a statement has a map key that is no text")
                below += item.values()
            elif kind is list:
                below += item
            elif kind is int:
                if not -_LARGEST <= item <= _LARGEST:
                    raise error("a statement holds an integer past 2^53 - 1")
            elif kind is not str and kind is not bool and item is not None:
                raise error(
                    f"a statement holds a {kind.__name__}",
                )
        if not below:
            return
        level = below
    raise error(f"a statement is nested deeper than {LINE_LIMITS.depth}")


def _hex(text: Any, size: int) -> bytes:
    if type(text) is not str or len(text) != 2 * size or not _HEX.issuperset(text):
        raise RemoteProtocolError(f"a key or signature is not {2 * size} lower-case hexadecimal digits")
    return bytes.fromhex(text)


def _ordered(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _ordered(value[key]) for key in sorted(value, key=lambda key: key.encode("utf-16-be"))}
    if isinstance(value, list):
        return [_ordered(item) for item in value]
    return value
