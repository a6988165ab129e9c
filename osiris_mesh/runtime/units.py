"""Sizes and times as people write them: ``256MiB``, ``1.5s``, ``10m``."""

from __future__ import annotations

import re
from fractions import Fraction
from typing import Final

from osiris_mesh.errors import UsageError

__all__ = ["format_size", "format_time", "parse_size", "parse_time"]

_NUMBER = re.compile(r"(\d{1,12}(?:\.\d{1,6})?) ?([A-Za-z]{1,3})\Z", re.ASCII)
_SIZES: Final = {"B": 1, "kB": 10**3, "MB": 10**6, "GB": 10**9, "KiB": 1 << 10, "MiB": 1 << 20, "GiB": 1 << 30}
_TIMES: Final = {"ms": 1, "s": 1000, "m": 60_000, "h": 3_600_000}


def _parse(text: object, units: dict[str, int], what: str, example: str) -> int:
    match = _NUMBER.match(text) if isinstance(text, str) else None
    unit = units.get(match[2]) if match else None
    if match is None or unit is None:
        known = ", ".join(units)
        raise UsageError(f"{text!r} is not a {what}", fix=f"write it like {example}; units are {known}")
    value = Fraction(match[1]) * unit
    if value.denominator != 1:
        raise UsageError(f"{text!r} is finer than a {what} can be", fix=f"the smallest unit is 1{next(iter(units))}")
    return int(value)


def parse_size(text: str) -> int:
    """Return the bytes of a size such as ``256MiB``.

    Raises:
        UsageError: Not a number with a unit, or not a whole number of bytes.
    """
    return _parse(text, _SIZES, "size", "256MiB")


def parse_time(text: str) -> int:
    """Return the milliseconds of a time such as ``1.5s``, ``10m`` or ``250ms``.

    Raises:
        UsageError: Not a number with a unit, or not a whole number of milliseconds.
    """
    return _parse(text, _TIMES, "time", "1.5s")


def format_size(size: int) -> str:
    """Return ``size`` bytes in the largest binary unit that divides it."""
    for unit in ("GiB", "MiB", "KiB"):
        if size and size % _SIZES[unit] == 0:
            return f"{size // _SIZES[unit]}{unit}"
    return f"{size}B"


def format_time(milliseconds: int) -> str:
    """Return ``milliseconds`` in the largest unit that divides it."""
    for unit in ("h", "m", "s"):
        if milliseconds and milliseconds % _TIMES[unit] == 0:
            return f"{milliseconds // _TIMES[unit]}{unit}"
    return f"{milliseconds}ms"
