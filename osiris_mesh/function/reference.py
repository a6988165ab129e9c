"""What a caller may write to mean one version of a function: ``name`` or ``name@versions``.

=============  ==================================================================
written        means
=============  ==================================================================
``name``       the active version
``@1.4.2``     exactly that one
``@1.4``       the highest 1.4.x; ``@1`` the highest 1.x
``@^1.4``      the highest with the same leftmost number that is not zero, at least 1.4.0
``@~1.4.2``    the highest 1.4.x, at least 1.4.2
``@latest``    the highest of all
``@label``     the version its registry gives that label to
=============  ==================================================================

Pre-releases are met by their exact version alone, or by a label.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Final

from osiris_mesh.function.name import Version, qualified

__all__ = ["Reference", "reference"]

_PART: Final = re.compile(r"([\^~]?)(0|[1-9]\d{0,8})(?:\.(0|[1-9]\d{0,8}))?(?:\.(0|[1-9]\d{0,8}))?\Z", re.ASCII)
_LABEL: Final = re.compile(r"[a-z][a-z0-9-]{0,62}\Z")
_LOWEST: Final = Version(0, 0, 0)
_PAST_ALL: Final = Version(1_000_000_000, 0, 0)


@dataclass(frozen=True, slots=True)
class Reference:
    """A function and which of its versions.

    Attributes:
        name: Full name.
        low: Lowest version that will do; None means the active one, or the one with ``label``.
        below: First version that will not do any more; None means ``low`` exactly.
        label: Label of the version; empty without one.
    """

    name: str
    low: Version | None = None
    below: Version | None = None
    label: str = ""

    @property
    def is_active(self) -> bool:
        """Only the name was written: the active version is meant."""
        return self.low is None and not self.label

    def admits(self, version: Version) -> bool:
        """Say whether ``version`` will do; for a label, none does: ask who gives labels."""
        low, below = self.low, self.below
        if low is None:
            return False
        return version == low if below is None else not version.pre and low <= version < below

    def highest(self, versions: Iterable[Version]) -> Version | None:
        """Return the highest of ``versions`` that will do, or None."""
        return max((version for version in versions if self.admits(version)), default=None)


@lru_cache(maxsize=16_384)
def reference(text: str) -> Reference:
    """Read a reference.

    Raises:
        UsageError: Not one.
    """
    name, at, wanted = text.partition("@")
    name = qualified(name)
    if not at:
        return Reference(name)
    if wanted == "latest":
        return Reference(name, _LOWEST, _PAST_ALL)
    if _LABEL.match(wanted):
        return Reference(name, label=wanted)
    match = _PART.match(wanted) if len(wanted) <= 64 else None
    if match is None or (match[1] == "" and match[4] is not None):
        return Reference(name, Version.parse(wanted))
    sign, given = match[1], [int(part) for part in match.groups()[1:] if part is not None]
    low = _version(given)
    if sign == "^":
        # The leftmost number that is not zero stays; when all given are zero, the last given one.
        fixed = next((place for place, number in enumerate(given) if number), len(given) - 1)
    elif sign == "~":
        fixed = min(len(given) - 1, 1)
    else:
        fixed = len(given) - 1
    return Reference(name, low, _version([*given[:fixed], given[fixed] + 1]))


def _version(numbers: Sequence[int]) -> Version:
    major, minor, patch = [*numbers, 0, 0][:3]
    return Version(major, minor, patch)
