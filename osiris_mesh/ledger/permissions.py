"""Permissions, grants and the built-in roles: what someone may be allowed, in words. A pure core.

A *grant* is ``permission`` or ``permission:pattern``. A pattern limits a permission of functions, or to publish, to
names; ``*`` in it stands for any part of one segment, and a pattern has as many segments as the names it means::

    function.call                     every function
    function.call:team-a/*            the functions of one namespace of this mesh, none of a vendor's
    function.deploy:image-*/sharpen   one name in several namespaces
    function.call:acme.com/*/*        all of one vendor

That one grant reaches no further than another is decided by the same matching: a pattern fits another when it does so
as a text, its stars taken as letters that only a star can stand for.

Everything here gives the same answer on every machine and in every Python version: the ledger's rules are made of it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Final

from osiris_mesh.errors import UsageError

__all__ = [
    "BUILT_IN_ROLES",
    "CLIENT_GRANTS",
    "EVERYTHING",
    "MAX_GRANTS",
    "NOTHING",
    "PERMISSIONS",
    "Grants",
    "check_grant",
    "fits",
]

PERMISSIONS: Final[Mapping[str, str]] = {
    "mesh.read": "status, members, ledger, metrics, doctor, which registries a node asks",
    "function.read": "list, describe, resolve; names of registries, the one in the ledger whole or by pattern",
    "function.call": "call",
    "function.logs": "what a function printed",
    "function.deploy": "publish, activate, deprecate, remove",
    "registry.publish": "write records into the registry that is kept in the ledger",
    "registry.manage": "its root, its settings, the keys of the mesh's own names; take a file away",
    "member.manage": "remove a member, change its role",
    "token.manage": "join and client tokens",
    "config.write": "settings of the mesh, webhooks",
    "node.manage": "stop, drain, leave, sync; which registries a node asks",
    "audit.read": "the audit trail",
    "user.manage": "users, roles, other people's API tokens",
}
"""Every permission and what it covers."""

MAX_GRANTS: Final = 64
"""Grants of one role or one API token."""

_MAX_PATTERN: Final = 384
_ABOUT_NAMES: Final = ("function.", "registry.publish")
_LETTERS: Final = frozenset("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._-*")
_FIX: Final = "a grant looks like function.call or function.call:team-a/*"


def check_grant(text: str) -> str:
    """Return a grant as it is, if it is one.

    Raises:
        UsageError: No such permission, a pattern where none can be, or not a pattern.
    """
    permission, colon, pattern = text.partition(":")
    if permission not in PERMISSIONS:
        raise UsageError(f"there is no permission {permission[:64]!r}", fix=f"there are {', '.join(PERMISSIONS)}")
    if not colon:
        return text
    if not permission.startswith(_ABOUT_NAMES):
        raise UsageError(f"{permission} is not about functions and takes no pattern", fix=_FIX)
    segments = pattern.split("/")
    if len(pattern) > _MAX_PATTERN or len(segments) not in {2, 3} or not all(segments):
        raise UsageError("a pattern has a namespace and a name, and a vendor before them for a vendor's", fix=_FIX)
    if not _LETTERS.issuperset(pattern.replace("/", "")):
        raise UsageError("a pattern has letters and digits, '.', '_', '-' and '*'", fix=_FIX)
    return text


class Grants:
    """A set of grants, ready to be asked.

    Args:
        texts: Its grants.

    Raises:
        UsageError: One is no grant.
    """

    __slots__ = ("_patterns", "_whole", "texts")

    def __init__(self, texts: Iterable[str]) -> None:
        self.texts = tuple(sorted({check_grant(text) for text in texts}))
        self._whole = frozenset(text for text in self.texts if ":" not in text)
        patterns: dict[str, list[tuple[tuple[str, ...], ...]]] = {}
        for text in self.texts:
            permission, colon, pattern = text.partition(":")
            if colon and permission not in self._whole:
                segments = tuple(tuple(segment.split("*")) for segment in pattern.split("/"))
                patterns.setdefault(permission, []).append(segments)
        self._patterns = patterns

    def __repr__(self) -> str:
        return f"Grants({', '.join(self.texts)})"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Grants) and other.texts == self.texts

    def __hash__(self) -> int:
        return hash(self.texts)

    def covers(self, permission: str, subject: str = "") -> bool:
        """Say whether ``permission`` is held: for the function ``subject``, or without limit if there is none.

        Args:
            permission: One of :data:`PERMISSIONS`.
            subject: A function's full name, or a pattern.
        """
        if permission in self._whole:
            return True
        patterns = self._patterns.get(permission)
        if patterns is None or not subject:
            return False
        names = subject.split("/")
        return any(len(pattern) == len(names) and all(map(fits, pattern, names)) for pattern in patterns)

    def some(self, permission: str) -> bool:
        """Say whether ``permission`` is held for anything at all: what a list that is filtered by name asks."""
        return permission in self._whole or permission in self._patterns

    def missing(self, other: Grants) -> str:
        """Return the first grant of ``other`` that reaches further than these, or an empty text.

        A grant that only several of these together would reach counts as missing.
        """
        for text in other.texts:
            permission, _, pattern = text.partition(":")
            if not self.covers(permission, pattern):
                return text
        return ""


def fits(parts: tuple[str, ...], text: str) -> bool:
    """Say whether a segment is these parts with anything between them; in linear time, whatever the pattern."""
    if len(parts) == 1:
        return text == parts[0]
    first, last = parts[0], parts[-1]
    at, end = len(first), len(text) - len(last)
    if at > end or not text.startswith(first) or not text.endswith(last):
        return False
    for part in parts[1:-1]:
        found = text.find(part, at, end)
        if found < 0:
            return False
        at = found + len(part)
    return True


def _ladder(*steps: tuple[str, tuple[str, ...]]) -> dict[str, Grants]:
    held: tuple[str, ...] = ()
    roles = {}
    for role, more in steps:
        held = (*held, *more)
        roles[role] = Grants(held)
    return roles


BUILT_IN_ROLES: Final[Mapping[str, Grants]] = _ladder(
    ("viewer", ("mesh.read", "function.read", "function.logs")),
    ("developer", ("function.call", "function.deploy", "registry.publish")),
    ("operator", ("member.manage", "token.manage", "config.write", "node.manage", "audit.read", "registry.manage")),
    ("admin", ("user.manage",)),
)
"""The roles every mesh has, each with all of the one before."""

NOTHING: Final = Grants(())
EVERYTHING: Final = Grants(PERMISSIONS)
CLIENT_GRANTS: Final = Grants(("function.call", "function.read"))
"""What the bearer of a client token may."""
