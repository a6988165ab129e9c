"""Values between JSON and the mesh: bytes are ``{"$bytes": "<base64>"}``, floats JSON lacks ``{"$float": "nan"}``.

The same forms as on the command line. Most bodies hold neither, and are passed to the decoder and nothing else.
"""

from __future__ import annotations

import base64
import binascii
import math
from typing import Any, Final

import msgspec

from osiris_mesh.codec import VALUE, unpack
from osiris_mesh.errors import UsageError

__all__ = ["from_json", "packed_to_json", "to_json"]

_MAX_DEPTH: Final = 128
_PLAIN: Final = frozenset({str, int, bool, type(None)})
_FLOATS: Final = {"nan": math.nan, "inf": math.inf, "-inf": -math.inf}
_encode = msgspec.json.Encoder().encode


def from_json(value: Any, depth: int = 0) -> Any:
    """Return a decoded JSON value with every ``{"$bytes": …}`` and ``{"$float": …}`` in it decoded.

    Raises:
        UsageError: Nested too deep, or such a form is damaged.
    """
    kind = type(value)
    if kind is not list and kind is not dict:
        return value
    if depth > _MAX_DEPTH:
        raise UsageError(f"the value is nested deeper than {_MAX_DEPTH}")
    if kind is list:
        return [from_json(item, depth + 1) for item in value]
    if len(value) == 1:
        text = value.get("$bytes")
        if isinstance(text, str):
            try:
                return base64.b64decode(text, validate=True)
            except (binascii.Error, ValueError):
                raise UsageError("a $bytes holds what is not base64") from None
        name = value.get("$float")
        if isinstance(name, str) and name in _FLOATS:
            return _FLOATS[name]
    return {key: from_json(item, depth + 1) for key, item in value.items()}


def to_json(value: Any) -> Any:
    """Return ``value`` in JSON's types; the very same object if it is of them already."""
    kind = type(value)
    if kind in _PLAIN:
        return value
    if kind is float:
        return value if math.isfinite(value) else {"$float": repr(value)}
    if kind is bytes:
        return {"$bytes": base64.b64encode(value).decode("ascii")}
    if kind is dict:
        if _PLAIN.issuperset(map(type, value.values())):
            return value
        return {key: to_json(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        if _PLAIN.issuperset(map(type, value)):
            return value
        return [to_json(item) for item in value]
    return value


def packed_to_json(packed: bytes) -> bytes:
    """Return a packed value as JSON.

    Raises:
        RemoteProtocolError: Not a packed value; whoever made it broke the protocol.
    """
    return _encode(to_json(unpack(packed, VALUE)))
