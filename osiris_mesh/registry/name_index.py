"""Many names, found by pattern in time linear in their letters. A pure core."""

from __future__ import annotations

import re
from bisect import bisect_left
from collections.abc import Iterable
from typing import Final

from osiris_mesh.errors import UsageError

__all__ = ["NameIndex", "compiled"]

_MAX_PATTERN: Final = 384


def compiled(pattern: str) -> re.Pattern[str]:
    """Return an expression that finds the names a pattern fits among lines, in time linear in their length.

    Args:
        pattern: ``*`` stands for any part of one segment, ``**`` alone for everything.

    Raises:
        UsageError: It is too long.
    """
    if len(pattern) > _MAX_PATTERN or "\n" in pattern:
        raise UsageError("a pattern has at most 384 letters", fix="write team/*, acme.com/*/* or **")
    if pattern == "**":
        return re.compile(r"(?m)^.+$")
    return re.compile(f"(?m)^{'/'.join(map(_segment, pattern.split('/')))}$")


def _segment(pattern: str) -> str:
    # Taking the first place where the next part fits is never wrong while a star follows, and what a segment took is
    # never given back: groups are atomic, so nothing is tried twice.
    first, *others = (re.escape(part) for part in re.split(r"\*+", pattern))
    if not others:
        return first
    stars = "".join(rf"(?>[^/\n]*?{part})" for part in others[:-1])
    return rf"(?>{first}{stars}[^/\n]*{others[-1]}(?=/|$))"


class NameIndex:
    """Names in order, some 100 bytes each.

    Args:
        names: Ascending, each once.
    """

    __slots__ = ("_names", "_text")

    def __init__(self, names: list[str]) -> None:
        self._names = names
        self._text: str | None = None

    def __len__(self) -> int:
        return len(self._names)

    def __contains__(self, name: object) -> bool:
        if not isinstance(name, str):
            return False
        at = bisect_left(self._names, name)
        return at < len(self._names) and self._names[at] == name

    def add(self, name: str) -> None:
        """Add a name, if it is not there."""
        at = bisect_left(self._names, name)
        if at == len(self._names) or self._names[at] != name:
            self._names.insert(at, name)
            self._text = None

    def drop(self, names: Iterable[str]) -> None:
        """Take names away, as far as they are there."""
        for name in names:
            at = bisect_left(self._names, name)
            if at < len(self._names) and self._names[at] == name:
                del self._names[at]
                self._text = None

    def find(self, pattern: str, limit: int) -> list[str]:
        """Return names a pattern fits, ascending.

        Args:
            pattern: As :func:`compiled` reads it.
            limit: Names returned at most.

        Raises:
            UsageError: It is no pattern.
        """
        expression = compiled(pattern)
        prefix, star, _ = pattern.partition("*")
        if not star:
            return [pattern] if pattern in self and limit > 0 else []
        if prefix:
            low, high = bisect_left(self._names, prefix), bisect_left(self._names, prefix + "\U0010ffff")
            text = "\n".join(self._names[low:high])
        else:
            # Joined once for many questions: it is as long as the names themselves.
            if self._text is None:
                self._text = "\n".join(self._names)
            text = self._text
        if not text:
            return []
        found: list[str] = []
        for match in expression.finditer(text):
            if len(found) >= limit:
                break
            found.append(match[0])
        return found
