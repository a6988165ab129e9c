"""The one grammar of names and versions, and the one way from a name to a path.

A name is ``namespace/name`` or ``vendor.tld/namespace/name``; a name without a slash lives in ``default``. Parts are
ASCII: a letter or digit, then letters, digits, ``_``, ``-`` or (between two of these) ``.``; a vendor is a domain
with a dot. A version is ``MAJOR.MINOR.PATCH`` of Semantic Versioning 2.0.0, with an optional pre-release.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import lru_cache, total_ordering
from typing import Final

from osiris_mesh.errors import UsageError

__all__ = ["DEFAULT_NAMESPACE", "FunctionName", "Version", "qualified"]

DEFAULT_NAMESPACE: Final = "default"
_PART = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9_-]|\.(?=[A-Za-z0-9])){0,62}\Z")
_VENDOR = re.compile(r"(?=.{1,253}\Z)[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?(?:\.[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?)+\Z")
_VERSION = re.compile(
    r"(0|[1-9]\d{0,8})\.(0|[1-9]\d{0,8})\.(0|[1-9]\d{0,8})"
    r"(?:-((?:0|[1-9]\d{0,8}|\d*[A-Za-z-][0-9A-Za-z-]*)(?:\.(?:0|[1-9]\d{0,8}|\d*[A-Za-z-][0-9A-Za-z-]*))*))?\Z",
    re.ASCII,
)
_FIX = "a name looks like namespace/name, of letters, digits, _ and -"


@dataclass(frozen=True, slots=True, order=True)
class FunctionName:
    """A function's full name.

    Attributes:
        vendor: Domain of the vendor, or empty for a name of this mesh.
        namespace: Namespace.
        name: The function in it.
    """

    vendor: str
    namespace: str
    name: str

    def __str__(self) -> str:
        return f"{self.vendor}/{self.namespace}/{self.name}" if self.vendor else f"{self.namespace}/{self.name}"

    @classmethod
    def parse(cls, text: str) -> FunctionName:
        """Read a name.

        Raises:
            UsageError: Not a name.
        """
        if len(text) > 384:
            raise UsageError("the name is longer than 384 letters", fix=_FIX)
        parts = text.split("/")
        if len(parts) == 1:
            parts = [DEFAULT_NAMESPACE, *parts]
        vendor = ""
        if len(parts) == 3:
            vendor, *parts = parts
            if not _VENDOR.match(vendor):
                raise UsageError(f"{text!r}: {vendor!r} is not a domain", fix="a vendor looks like acme.com")
        if len(parts) != 2 or not all(_PART.match(part) for part in parts):
            raise UsageError(f"{text!r} is not a function's name", fix=_FIX)
        return cls(vendor, parts[0], parts[1])


@lru_cache(maxsize=65_536)
def qualified(text: str) -> str:
    """Return the full name for what a user typed: ``add`` becomes ``default/add``.

    Raises:
        UsageError: Not a name.
    """
    return str(FunctionName.parse(text))


@total_ordering
@dataclass(frozen=True, slots=True)
class Version:
    """A semantic version, in the order of section 11 of Semantic Versioning 2.0.0."""

    major: int
    minor: int
    patch: int
    pre: str = ""

    def __str__(self) -> str:
        core = f"{self.major}.{self.minor}.{self.patch}"
        return f"{core}-{self.pre}" if self.pre else core

    def __lt__(self, other: Version) -> bool:
        return self._key() < other._key()

    def _key(self) -> tuple[object, ...]:
        # A version without a pre-release comes after all its pre-releases; numbers come before words.
        pre = [(0, int(word), "") if word.isdigit() else (1, 0, word) for word in self.pre.split(".") if word]
        return (self.major, self.minor, self.patch, not pre, tuple(pre))

    @classmethod
    def parse(cls, text: str) -> Version:
        """Read a version.

        Raises:
            UsageError: Not one.
        """
        match = _VERSION.match(text) if len(text) <= 128 else None
        if match is None:
            raise UsageError(f"{text!r} is not a version", fix="a version looks like 1.4.2 or 2.0.0-rc.1")
        return cls(int(match[1]), int(match[2]), int(match[3]), match[4] or "")

    def next_patch(self) -> Version:
        """Return the version to give the next change that names none."""
        return Version(self.major, self.minor, self.patch if self.pre else self.patch + 1)
