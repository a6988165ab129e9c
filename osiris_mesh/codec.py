"""Strict msgpack: every message, entry and stored record of the project passes through here.

Source: the MessagePack specification. Narrower than it: no extension types, no map keys but strings (and none twice),
no trailing bytes, bounded size, depth and count. :func:`unpack_canonical` also demands the shortest form, by encoding
again and comparing, which is what makes a stored byte string and its hash unique.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import Any

import msgpack

from osiris_mesh.errors import RemoteProtocolError, UsageError

__all__ = ["FRAME", "VALUE", "Limits", "pack", "unpack", "unpack_canonical"]


@dataclass(frozen=True, slots=True)
class Limits:
    """Bounds that hold before anything is allocated.

    Attributes:
        size: Bytes of the whole encoding.
        depth: Containers inside containers; the outermost counts as 1.
        count: Items of one array or pairs of one map.
    """

    size: int
    depth: int = 16
    count: int = 65_536


FRAME = Limits(size=1 << 20)
"""Protocol messages: 1 MiB."""

VALUE = Limits(size=1 << 28, depth=128, count=1 << 24)
"""Arguments and results of functions: 256 MiB."""


def pack(value: Any) -> bytes:
    """Return ``value`` in msgpack's shortest form.

    Raises:
        UsageError: ``value`` holds something that is neither a JSON type nor bytes, or an integer past 64 bits.
    """
    try:
        packed: bytes = msgpack.packb(value, use_bin_type=True)
    except (TypeError, ValueError, OverflowError) as error:
        raise UsageError(f"the value can't be sent: {error}", fix="use JSON types and bytes") from None
    return packed


def _pairs(pairs: list[tuple[Any, Any]]) -> dict[str, Any]:
    result: dict[str, Any] = {}
    for key, value in pairs:
        if type(key) is not str:
            raise RemoteProtocolError("a map key is not a string")
        result[key] = value
    if len(result) != len(pairs):
        raise RemoteProtocolError("a map has the same key twice")
    return result


def _refuse_extension(_code: int, _data: bytes) -> Any:
    raise RemoteProtocolError("extension types are not accepted")


def unpack(data: bytes | bytearray | memoryview, limits: Limits = FRAME) -> Any:
    """Return the one value in ``data``; arrays come back as lists.

    Raises:
        RemoteProtocolError: Not msgpack, past a bound, an extension type, a key that is no string, or trailing bytes.
    """
    size = len(data)
    if size > limits.size:
        raise RemoteProtocolError(f"{size} bytes are more than the {limits.size} allowed")
    try:
        value = msgpack.unpackb(
            data,
            raw=False,
            strict_map_key=False,
            object_pairs_hook=_pairs,
            ext_hook=_refuse_extension,
            timestamp=0,
            max_ext_len=0,
            # Room is made for what a header announces, so it may announce no more than the bytes can hold.
            max_array_len=min(limits.count, size),
            max_map_len=min(limits.count, size // 2),
        )
    except RemoteProtocolError:
        raise
    except (ValueError, TypeError, RecursionError, struct.error, msgpack.exceptions.UnpackException) as error:
        raise RemoteProtocolError(f"not a valid message: {type(error).__name__}") from None
    if isinstance(value, (list, dict)):
        _check_depth(value, limits.depth)
    return value


def _check_depth(value: list[Any] | dict[str, Any], depth: int) -> None:
    """Refuse nesting past ``depth``; looks into containers only, level by level."""
    level: list[Any] = [value]
    for _ in range(depth):
        below: list[Any] = []
        for container in level:
            for item in container.values() if type(container) is dict else container:
                kind = type(item)
                if kind is list or kind is dict:
                    below.append(item)
        if not below:
            return
        level = below
    raise RemoteProtocolError(f"nested deeper than {depth}")


def unpack_canonical(data: bytes, limits: Limits = FRAME) -> Any:
    """Return the one value in ``data`` if encoding it again gives the same bytes.

    Raises:
        RemoteProtocolError: As :func:`unpack`, or the encoding is not the shortest form.
    """
    value = unpack(data, limits)
    if pack(value) != bytes(data):
        raise RemoteProtocolError("not in the shortest form")
    return value
