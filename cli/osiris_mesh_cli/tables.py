"""What people see: tables that fit the terminal, times and sizes in words.

Texts that come from other machines are shown without control characters: nobody writes to our terminal but us.
"""

from __future__ import annotations

import shutil
import sys
import time
from collections.abc import Sequence
from typing import Final

__all__ = ["ago", "bytes_text", "clean", "pairs", "short_id", "table", "time_text", "width"]

_GAP: Final = 2
_NARROWEST: Final = 6


def clean(text: str) -> str:
    """Return ``text`` with everything that is not printable written as an escape."""
    if text.isprintable():
        return text
    return "".join(letter if letter.isprintable() else letter.encode("unicode_escape").decode() for letter in text)


def width() -> int:
    """Return the columns there are; a pipe or a file has as many as one likes."""
    return shutil.get_terminal_size().columns if sys.stdout.isatty() else 1 << 16


def _fit(widths: list[int], room: int) -> list[int]:
    """Return ``widths`` with the widest columns cut until they fill at most ``room``, none below the narrowest."""
    widths = list(widths)
    over = sum(widths) + _GAP * (len(widths) - 1) - room
    while over > 0:
        widest = max(range(len(widths)), key=widths.__getitem__)
        if widths[widest] <= _NARROWEST:
            break
        others = [value for index, value in enumerate(widths) if index != widest]
        # Down to the next widest at once, so that this ends after a few steps whatever the widths are.
        target = max(_NARROWEST, widths[widest] - over, min(widths[widest] - 1, max(others, default=0)))
        over -= widths[widest] - target
        widths[widest] = target
    return widths


def _cell(text: str, room: int) -> str:
    return text if len(text) <= room else text[: room - 1] + "…"


def table(heads: Sequence[str], rows: Sequence[Sequence[object]], *, columns: int | None = None) -> str:
    """Return a table without frames; columns of numbers stand to the right.

    Args:
        heads: One title a column.
        rows: Cells; None is shown as ``-``.
        columns: Letters a line may have; the terminal's if None.
    """
    cells = [["-" if cell is None else clean(str(cell)) for cell in row] for row in rows]
    numbers = [
        bool(rows) and all(isinstance(row[index], (int, float)) and not isinstance(row[index], bool) for row in rows)
        for index in range(len(heads))
    ]
    widths = [max(len(line[index]) for line in [list(heads), *cells]) for index in range(len(heads))]
    widths = _fit(widths, width() if columns is None else columns)

    def line(parts: Sequence[str]) -> str:
        shown = [
            _cell(part, room).rjust(room) if right else _cell(part, room).ljust(room)
            for part, room, right in zip(parts, widths, numbers, strict=True)
        ]
        return (" " * _GAP).join(shown).rstrip()

    return "\n".join([line(heads), *(line(row) for row in cells)])


def pairs(items: Sequence[tuple[str, object]]) -> str:
    """Return lines ``name  value``, the values in one column; items whose value is None are left out."""
    shown = [(name, clean(str(value))) for name, value in items if value is not None]
    room = max((len(name) for name, _ in shown), default=0)
    return "\n".join(f"{name.ljust(room)}  {value}".rstrip() for name, value in shown)


def short_id(peer: str) -> str:
    """Return the end of a peer id, where ids differ (all begin alike)."""
    return f"…{peer[-8:]}" if len(peer) > 12 else peer


def time_text(time_ms: int) -> str:
    """Return a wall clock time in this machine's zone, to the second."""
    return time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(time_ms / 1000))


def ago(time_ms: int, now_ms: int) -> str:
    """Return how long ago, or in how long, in the largest fitting unit."""
    distance = abs(now_ms - time_ms) // 1000
    for unit, length in (("d", 86_400), ("h", 3600), ("m", 60)):
        if distance >= length:
            text = f"{distance // length}{unit}"
            break
    else:
        text = f"{distance}s"
    return f"{text} ago" if time_ms <= now_ms else f"in {text}"


def bytes_text(count: int) -> str:
    """Return a size in the largest fitting binary unit."""
    value = float(count)
    for unit in ("B", "KiB", "MiB", "GiB"):
        if value < 1024:
            return f"{value:.0f} {unit}" if unit == "B" or value == int(value) else f"{value:.1f} {unit}"
        value /= 1024
    return f"{value:.1f} TiB"
