"""The settings of one function: the limits and grants of its active version, as people write them. A core.

A version never changes, so a change here is a new version with the same code; whoever deploys the file again deploys
what the file says.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final

from osiris_mesh.errors import NotFound, UsageError
from osiris_mesh.function.spec import FunctionSpec
from osiris_mesh.runtime.units import format_size, parse_size, parse_time

__all__ = ["FIELDS", "Field", "default", "find", "parsed", "rows"]


def _number(text: str) -> int:
    if not (text.isascii() and text.isdigit()) or len(text) > 9:
        raise UsageError(f"{text!r} is not a number")
    return int(text)


def _flag(text: str) -> bool:
    if text not in {"true", "false"}:
        raise UsageError(f"{text!r} is neither true nor false")
    return text == "true"


def _time(text: str) -> int:
    # As everywhere on the command line, a bare number is seconds.
    return parse_time(f"{text}s" if text[-1:].isdigit() else text)


def _size(text: str) -> int:
    return parse_size(f"{text}B" if text[-1:].isdigit() else text)


def _time_text(value: int) -> str:
    return f"{value / 1000:g}s"


def _word(value: object) -> str:
    return str(value).lower()


@dataclass(frozen=True, slots=True)
class Field:
    """One setting of a function.

    Attributes:
        field: Its name in the specification.
        means: What it does.
        parse: Reads a value; raises :class:`UsageError`.
        text: Writes one.
    """

    field: str
    means: str
    parse: Callable[[str], int | bool]
    text: Callable[[Any], str]


FIELDS: Final[Mapping[str, Field]] = {
    "timeout": Field("timeout_ms", "Longest time of one call.", _time, _time_text),
    "memory": Field("memory", "Memory a worker may use.", _size, format_size),
    "concurrency": Field("concurrency", "Calls one instance works on at a time.", _number, _word),
    "min": Field("min_instances", "Instances kept warm in the mesh.", _number, _word),
    "max": Field("max_instances", "Most instances on one node.", _number, _word),
    "idle": Field("idle_ms", "An instance above the minimum stops after so long without a call.", _time, _time_text),
    "idempotent": Field("idempotent", "A call may be repeated, so it is retried elsewhere.", _flag, _word),
    "network": Field("network", "The function may use the network.", _flag, _word),
}
"""Every setting of a function by its key."""


def find(key: str) -> Field:
    """Return what is known of a key.

    Raises:
        NotFound: A function has no such setting.
    """
    if key not in FIELDS:
        raise NotFound(f"a function has no setting {key[:80]!r}", fix=f"there are {', '.join(FIELDS)}")
    return FIELDS[key]


def default(field: Field) -> Any:
    """Return a setting's default, as the specification has it."""
    return FunctionSpec.__dataclass_fields__[field.field].default


def parsed(changes: Mapping[str, str | None]) -> dict[str, int | bool]:
    """Return fields of the specification and their new values.

    Args:
        changes: By key; None gives a setting its default again.

    Raises:
        NotFound: A function has no such setting.
        UsageError: Not a value of it.
    """
    values: dict[str, int | bool] = {}
    for key, text in changes.items():
        field = find(key)
        try:
            values[field.field] = default(field) if text is None else field.parse(text)
        except UsageError as error:
            raise UsageError(
                f"{key} can't be that: {error.what}", fix=f"for example: {field.text(default(field))}"
            ) from None
    return values


def rows(described: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return key, value, default, is_set and meaning of every setting of a function.

    Args:
        described: What ``function.describe`` says of it.

    Raises:
        NotFound: No version of it is active.
    """
    if not described.get("limits"):
        raise NotFound(f"{described['name']} has no active version", fix="activate one first, with a rollback to it")
    now = {**described["limits"], "idempotent": described["idempotent"], "network": described["network"]}
    return [
        {
            "key": key,
            "value": field.text(now[field.field]),
            "default": field.text(default(field)),
            "is_set": now[field.field] != default(field),
            "means": field.means,
        }
        for key, field in FIELDS.items()
    ]
