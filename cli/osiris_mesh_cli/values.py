"""Values between the terminal and the mesh: arguments in, results out, sizes and times.

JSON's types plus bytes. What JSON lacks has a form of its own, so that what is printed is always JSON:
``{"$bytes": "<base64>"}``, and ``{"$float": "nan"}`` (or ``inf``, ``-inf``).
"""

from __future__ import annotations

import base64
import binascii
import json
import math
import re
from pathlib import Path
from typing import Any, Final

from osiris_mesh.errors import UsageError

__all__ = ["argument", "dumps", "from_json", "loads", "seconds", "size", "to_json"]

_MAX_FILE: Final = 256 << 20
_MAX_DEPTH: Final = 128
_BARE: Final = re.compile(r"\d{1,12}(?:\.\d{1,6})?\Z", re.ASCII)
_DAYS: Final = re.compile(r"(\d{1,5})d\Z", re.ASCII)


def _refuse_constant(text: str) -> Any:
    raise ValueError(f"{text} is not JSON")


def loads(text: str) -> Any:
    """Return the value of a JSON text, bytes forms decoded.

    Raises:
        UsageError: Not JSON, nested too deep, or a damaged bytes form.
    """
    try:
        value = json.loads(text, parse_constant=_refuse_constant)
    except (ValueError, RecursionError) as error:
        raise UsageError(f"{_short(text)} is not JSON: {error}", fix="quote it for the shell: '[1, \"two\"]'") from None
    return from_json(value)


def from_json(value: Any, depth: int = 0) -> Any:
    """Return ``value`` with every ``{"$bytes": …}`` and ``{"$float": …}`` in it decoded.

    Raises:
        UsageError: Nested too deep, or such a form is damaged.
    """
    if depth > _MAX_DEPTH:
        raise UsageError(f"the value is nested deeper than {_MAX_DEPTH}")
    if isinstance(value, list):
        return [from_json(item, depth + 1) for item in value]
    if not isinstance(value, dict):
        return value
    if len(value) == 1:
        text = value.get("$bytes")
        if isinstance(text, str):
            try:
                return base64.b64decode(text, validate=True)
            except (binascii.Error, ValueError):
                raise UsageError(f"$bytes holds {_short(text)}, which is not base64") from None
        if value.get("$float") in {"nan", "inf", "-inf"}:
            return float(value["$float"])
    return {key: from_json(item, depth + 1) for key, item in value.items()}


def to_json(value: Any) -> Any:
    """Return ``value`` in JSON's types: bytes and the floats JSON lacks in their own forms."""
    if isinstance(value, (bytes, bytearray, memoryview)):
        return {"$bytes": base64.b64encode(value).decode("ascii")}
    if isinstance(value, float) and not math.isfinite(value):
        return {"$float": repr(value)}
    if isinstance(value, dict):
        return {str(key): to_json(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [to_json(item) for item in value]
    return value


def dumps(value: Any, *, indent: int | None = None) -> str:
    """Return ``value`` as one JSON text."""
    return json.dumps(to_json(value), ensure_ascii=False, allow_nan=False, indent=indent)


def argument(text: str) -> Any:
    """Return the value of one command-line argument: JSON if it parses as JSON, ``@file`` as its bytes, else the text.

    A string that looks like either is given in JSON's quotes: ``'"@home"'``, ``'"42"'``.

    Raises:
        UsageError: The file can't be read or is too large, or a bytes form is damaged.
    """
    if text.startswith("@") and len(text) > 1:
        return _file(Path(text[1:]).expanduser())
    try:
        value = json.loads(text, parse_constant=_refuse_constant)
    except (ValueError, RecursionError):
        return text
    return from_json(value)


def _file(path: Path) -> bytes:
    try:
        length = path.stat().st_size
        if length > _MAX_FILE:
            raise UsageError(f"{path} has {length} bytes, more than the {_MAX_FILE} an argument may have")
        return path.read_bytes()
    except OSError as error:
        raise UsageError(
            f"{path} can't be read: {error.strerror}", fix="a text that starts with @ is given as '\"@text\"'"
        ) from None


def size(text: str) -> int:
    """Return the bytes of ``256MiB``, ``1GB`` or a bare number.

    Raises:
        UsageError: Not a size.
    """
    if text.isascii() and text.isdigit() and len(text) <= 15:
        return int(text)
    from osiris_mesh.runtime.units import parse_size  # noqa: PLC0415 - most commands name no size

    return parse_size(text)


def seconds(text: str) -> float:
    """Return the seconds of ``250ms``, ``1.5s``, ``10m``, ``1h``, ``2d`` or a bare number of seconds.

    Raises:
        UsageError: Not a time.
    """
    if _BARE.match(text):
        return float(text)
    days = _DAYS.match(text)
    if days:
        return int(days[1]) * 86_400.0
    from osiris_mesh.runtime.units import parse_time  # noqa: PLC0415 - most commands name no time

    return parse_time(text) / 1000


def _short(text: str) -> str:
    return repr(text if len(text) <= 60 else text[:57] + "…")
