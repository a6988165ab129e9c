"""Values between Python and ``osiris.v1.Value``."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from osiris_mesh.errors import UsageError
from osiris_mesh.gateway.grpc.osiris_pb2 import Value

__all__ = ["fields_of", "from_value", "to_value"]

# A message of this depth is what every protobuf parser takes by its default (100), two levels each.
_DEPTH: Final = 45
_SMALLEST, _LARGEST = -(1 << 63), (1 << 63) - 1


def from_value(value: Value, depth: int = 0) -> Any:
    """Return what a message stands for; one that says nothing stands for None.

    Raises:
        UsageError: Nested too deep.
    """
    kind = value.WhichOneof("kind")
    match kind:
        case None | "null":
            return None
        case "list":
            _check(depth)
            return [from_value(item, depth + 1) for item in value.list.items]
        case "map":
            _check(depth)
            return {key: from_value(item, depth + 1) for key, item in value.map.fields.items()}
    return getattr(value, kind)


def to_value(value: Any, depth: int = 0) -> Value:
    """Return the message for a value.

    Raises:
        UsageError: Nested too deep, or an integer past 63 bits and a sign.
    """
    if value is None:
        return Value(null=True)
    if isinstance(value, bool):
        return Value(boolean=value)
    if isinstance(value, int):
        if not _SMALLEST <= value <= _LARGEST:
            raise UsageError(f"{value} is past 64 bits with a sign", fix="ask for the result as json or msgpack")
        return Value(integer=value)
    if isinstance(value, float):
        return Value(number=value)
    if isinstance(value, str):
        return Value(text=value)
    if isinstance(value, bytes):
        return Value(data=value)
    _check(depth)
    found = Value()
    if isinstance(value, Mapping):
        found.map.SetInParent()
        for key, item in value.items():
            found.map.fields[key].CopyFrom(to_value(item, depth + 1))
    else:
        found.list.SetInParent()
        found.list.items.extend(to_value(item, depth + 1) for item in value)
    return found


def fields_of(fields: Mapping[str, Value]) -> dict[str, Any]:
    """Return what a map of messages stands for."""
    return {key: from_value(item) for key, item in fields.items()}


def _check(depth: int) -> None:
    if depth >= _DEPTH:
        raise UsageError(f"the value is nested deeper than {_DEPTH}", fix="send and ask for msgpack")
