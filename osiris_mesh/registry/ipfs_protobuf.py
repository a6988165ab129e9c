"""The part of protobuf's encoding that blocks and pointers of IPFS use. A pure core.

Source: "Protocol Buffers: Encoding". Narrower: numbers in the shortest form and below 2^63, no groups, no fixed widths.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from osiris_mesh.errors import RemoteProtocolError
from osiris_mesh.registry.ipfs_cid import read_varint, varint

__all__ = ["field", "fields", "octets", "unsigned"]

_NUMBER: Final = 0
_BYTES: Final = 2


def fields(data: bytes) -> Iterator[tuple[int, int | bytes]]:
    """Yield every field's number and value, as they come.

    Raises:
        RemoteProtocolError: Not of this encoding.
    """
    at = 0
    while at < len(data):
        key, at = read_varint(data, at)
        number, kind = key >> 3, key & 7
        value, at = read_varint(data, at)
        if kind == _NUMBER:
            yield number, value
        elif kind == _BYTES:
            if value > len(data) - at:
                raise RemoteProtocolError("a field is cut off")
            yield number, data[at : at + value]
            at += value
        else:
            raise RemoteProtocolError(f"a field of kind {kind} is not expected")


def field(number: int, value: int | bytes) -> bytes:
    """Return one field."""
    if isinstance(value, int):
        return varint(number << 3 | _NUMBER) + varint(value)
    return varint(number << 3 | _BYTES) + varint(len(value)) + value


def octets(value: int | bytes) -> bytes:
    """Return a field's value that must be bytes.

    Raises:
        RemoteProtocolError: It is a number.
    """
    if isinstance(value, int):
        raise RemoteProtocolError("a field is a number where bytes are expected")
    return value


def unsigned(value: int | bytes) -> int:
    """Return a field's value that must be a number.

    Raises:
        RemoteProtocolError: It is bytes.
    """
    if isinstance(value, bytes):
        raise RemoteProtocolError("a field is bytes where a number is expected")
    return value
