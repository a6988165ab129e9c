"""Security contexts: what a principal, a mesh or a single call may reach. A pure core.

A context has a *level* and four *lists*::

    pure         no global function: nothing that a provider outside this mesh answers
    controlled   global functions, as far as the lists allow, but none that asks for ``full``
    full         everything the lists allow

    functions    names that may be called, local ones too
    providers    origins (``scheme://host``) that may be asked
    permissions  permissions that count as held when a function requires them
    trusted      ids of providers that are trusted

A list is a conjunction of *clauses*; a clause is a set of patterns, one of which must fit. ``*`` in a pattern stands
for any part of one segment between slashes, ``**`` alone for everything. A list without clauses limits nothing, a
clause without patterns allows nothing.

:func:`narrow` joins the clauses of two contexts and takes the lower level, so that what it allows is exactly what both
allow: it can't widen, whoever says what in whichever order. Context of the principal, of the mesh (the setting
``registry.context``), of the call (a header) and of the calling function are narrowed into one.

The text form, in settings and headers alike: ``controlled; functions=team-a/*,acme.com/*/*; providers=https://*.acme.com``.
A clause a field; a field may stand several times.
"""

from __future__ import annotations

import enum
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Final
from urllib.parse import urlsplit

from osiris_mesh.errors import Denied, LimitExceeded, UsageError
from osiris_mesh.ledger.permissions import PERMISSIONS, Grants, fits
from osiris_mesh.registry.record import Provider, Requirements

__all__ = [
    "FULL",
    "HEADER",
    "HTTP_HEADER",
    "MAX_TEXT",
    "Clause",
    "Context",
    "Level",
    "Refusal",
    "from_grants",
    "make",
    "matches",
    "may_call",
    "narrow",
    "origin",
    "parse",
]

HEADER: Final = "context"
"""Header of a call that carries a context's text."""
HTTP_HEADER: Final = "Osiris-Context"
"""The same over HTTP."""
MAX_TEXT: Final = 8192
"""Letters a context's text may have."""
MAX_CLAUSES: Final = 32
"""Clauses a list may have."""
MAX_PATTERNS: Final = 128
"""Patterns a clause may have."""
_MAX_PATTERN: Final = 384
_LISTS: Final = ("functions", "providers", "permissions", "trusted")
_LETTERS: Final = frozenset("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._-*/:@[]")
_FIX: Final = (
    "write: pure, controlled or full, then '; functions=…', providers, permissions or trusted, patterns with commas"
)

Clause = tuple[str, ...]
"""Patterns, ascending, each once; one of them must fit."""


class Level(enum.IntEnum):
    """How far a context reaches."""

    PURE = 0
    CONTROLLED = 1
    FULL = 2

    @property
    def text(self) -> str:
        """As it is written."""
        return self.name.lower()


_LEVELS: Final[Mapping[str, Level]] = {level.text: level for level in Level}


@dataclass(frozen=True, slots=True)
class Context:
    """What may be reached.

    Attributes:
        level: How far.
        functions: Clauses about full names.
        providers: Clauses about origins of endpoints.
        permissions: Clauses about permissions that functions require.
        trusted: Clauses about ids of providers.
    """

    level: Level = Level.FULL
    functions: tuple[Clause, ...] = ()
    providers: tuple[Clause, ...] = ()
    permissions: tuple[Clause, ...] = ()
    trusted: tuple[Clause, ...] = ()

    def __str__(self) -> str:
        return self.text()

    def text(self) -> str:
        """Return its one text, which :func:`parse` reads."""
        fields = [f"{name}={','.join(clause)}" for name in _LISTS for clause in getattr(self, name)]
        return "; ".join([self.level.text, *fields])


FULL: Final = Context()
"""Limits nothing."""


@dataclass(frozen=True, slots=True)
class Refusal:
    """Why a call is not allowed.

    Attributes:
        rule: ``level``, ``functions``, ``providers``, ``permissions``, ``trusted``, or ``trusted_providers`` of
            the function's record.
        what: What is refused and by which rule.
        fix: What to do.
    """

    rule: str
    what: str
    fix: str

    def error(self) -> Denied:
        """Return it as an error."""
        return Denied(self.what, fix=self.fix, rule=self.rule)


def make(
    level: Level,
    *,
    functions: Iterable[str] | None = None,
    providers: Iterable[str] | None = None,
    permissions: Iterable[str] | None = None,
    trusted: Iterable[str] | None = None,
) -> Context:
    """Return a context of one clause a list.

    Args:
        level: How far.
        functions: Patterns; None: no limit.
        providers: Patterns; None: no limit.
        permissions: Patterns; None: no limit.
        trusted: Patterns; None: no limit.

    Raises:
        UsageError: A pattern is none.
    """
    given = zip(_LISTS, (functions, providers, permissions, trusted), strict=True)
    return Context(
        level, *(() if patterns is None else _joined(name, (_clause(patterns),)) for name, patterns in given)
    )


@lru_cache(maxsize=4096)
def parse(text: str) -> Context:
    """Read a context's text.

    Raises:
        UsageError: Not one; the text says what is wrong.
    """
    if len(text) > MAX_TEXT:
        raise UsageError(f"a security context has more than {MAX_TEXT} letters", fix="use patterns")
    first, *fields = (field.strip() for field in text.split(";"))
    level = _LEVELS.get(first)
    if level is None:
        raise UsageError(f"{first[:40]!r} is not a level of a security context", fix=_FIX)
    lists: dict[str, list[Clause]] = {name: [] for name in _LISTS}
    for field in fields:
        name, equals, patterns = field.partition("=")
        if name not in lists or not equals:
            raise UsageError(f"{field[:60]!r} is not a field of a security context", fix=_FIX)
        lists[name].append(_clause(item.strip() for item in patterns.split(",") if item.strip()))
    return Context(level, *(_joined(name, clauses) for name, clauses in lists.items()))


def from_grants(grants: Grants) -> Context:
    """Return what a principal's grants let it, and whatever it calls, reach."""
    held = {text.partition(":")[0] for text in grants.texts}
    functions: tuple[Clause, ...] = ()
    if not grants.covers("function.call"):
        prefix = "function.call:"
        functions = (tuple(sorted(text.removeprefix(prefix) for text in grants.texts if text.startswith(prefix))),)
    permissions = () if held >= PERMISSIONS.keys() else (tuple(sorted(held)),)
    return Context(Level.FULL, functions, permissions=permissions)


def narrow(one: Context, other: Context) -> Context:
    """Return what both allow; associative, commutative, idempotent.

    Raises:
        LimitExceeded: It has more than :data:`MAX_CLAUSES` clauses in a list.
    """
    if other is FULL or one == other:
        return one
    if one is FULL:
        return other
    return Context(
        min(one.level, other.level),
        *(_joined(name, (*getattr(one, name), *getattr(other, name))) for name in _LISTS),
    )


def may_call(
    context: Context, name: str, requirements: Requirements | None = None, provider: Provider | None = None
) -> Refusal | None:
    """Say why a call is refused, by the first rule that does; None: it is allowed.

    Args:
        context: Of the caller.
        name: Full name of the function.
        requirements: Of its record; None: it has none.
        provider: Who would answer; None: this mesh itself.
    """
    if not _allowed(context.functions, name):
        return _refused("functions", f"{name} fits no pattern of functions that may be called", context.functions)
    if provider is not None:
        if context.level is Level.PURE:
            return Refusal(
                "level",
                f"{name} is a global function, answered by {provider.id}, and the security context is pure",
                "call from a context that is controlled or full, or deploy the function in this mesh",
            )
        where = origin(provider.endpoint)
        if not _allowed(context.providers, where):
            return _refused("providers", f"{where} fits no pattern of providers that may be asked", context.providers)
        if not _allowed(context.trusted, provider.id):
            return _refused("trusted", f"{provider.id} fits no pattern of trusted providers", context.trusted)
    if requirements is None:
        return None
    needed = _LEVELS[requirements.level]
    if context.level < needed:
        return Refusal(
            "level",
            f"{name} needs a security context of the level {needed.text}, and this one is {context.level.text}",
            "call from a context of that level; who limited it is the principal, the mesh, the call or the caller",
        )
    for permission in requirements.permissions:
        if not _allowed(context.permissions, permission):
            return _refused(
                "permissions", f"{name} requires the permission {permission}, which is not held", context.permissions
            )
    listed = requirements.trusted_providers
    if provider is not None and listed and not any(matches(pattern, provider.id) for pattern in listed):
        return Refusal(
            "trusted_providers",
            f"the record of {name} does not let {provider.id} serve it",
            f"it trusts {', '.join(listed[:8])}",
        )
    return None


@lru_cache(maxsize=4096)
def origin(endpoint: str) -> str:
    """Return ``scheme://host`` of an endpoint, with its port if one is given: what patterns of providers are about."""
    parts = urlsplit(endpoint)
    host = parts.netloc.rpartition("@")[2]
    # A peer id has capital letters, and they count.
    return f"{parts.scheme}://{host if parts.scheme == 'mesh' else host.lower()}"


def matches(pattern: str, text: str) -> bool:
    """Say whether a pattern fits a text."""
    if pattern == "**":
        return True
    segments, found = _segments(pattern), text.split("/")
    return len(segments) == len(found) and all(map(fits, segments, found))


@lru_cache(maxsize=16_384)
def _segments(pattern: str) -> tuple[tuple[str, ...], ...]:
    return tuple(tuple(segment.split("*")) for segment in pattern.split("/"))


def _allowed(clauses: tuple[Clause, ...], text: str) -> bool:
    return all(any(matches(pattern, text) for pattern in clause) for clause in clauses)


def _refused(rule: str, what: str, clauses: tuple[Clause, ...]) -> Refusal:
    shown = "; ".join(", ".join(clause[:8]) or "nothing" for clause in clauses)
    return Refusal(rule, f"the security context refuses the call: {what}", f"its {rule}: {shown[:512]}")


def _clause(patterns: Iterable[str]) -> Clause:
    found = tuple(sorted(set(patterns)))
    if len(found) > MAX_PATTERNS:
        raise UsageError(f"a list of a security context has more than {MAX_PATTERNS} patterns", fix=_FIX)
    for pattern in found:
        if not 0 < len(pattern) <= _MAX_PATTERN or not _LETTERS.issuperset(pattern):
            raise UsageError(f"{pattern[:60]!r} is not a pattern of a security context", fix=_FIX)
    return ("**",) if "**" in found else found


def _joined(name: str, clauses: Iterable[Clause]) -> tuple[Clause, ...]:
    """Return the clauses that are needed: one that holds all patterns of another says nothing more than that one."""
    known = sorted({clause for clause in clauses if clause != ("**",)})
    sets = [frozenset(clause) for clause in known]
    kept = tuple(clause for clause, own in zip(known, sets, strict=True) if not any(other < own for other in sets))
    if len(kept) > MAX_CLAUSES:
        raise LimitExceeded(
            f"a security context has more than {MAX_CLAUSES} different lists of {name}",
            fix="call with fewer contexts of their own on the way",
            limit="context",
        )
    return kept
