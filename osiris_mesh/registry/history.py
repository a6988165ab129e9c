"""From the lines of a name to its versions, or the reason why not.

A history is whole or refused: sequences from 1 without gaps, each line naming the digest of the one before, each
version bound once. A revoked statement keeps its place and has no effect.
"""

from __future__ import annotations

from collections.abc import Callable, Container, Sequence
from functools import lru_cache
from types import MappingProxyType
from typing import Final

from osiris_mesh.errors import CheckFailed, RemoteProtocolError, UsageError
from osiris_mesh.function.name import FunctionName, Version
from osiris_mesh.registry.record import Amendment, Binding, Provider, Record, VersionRecord, read_payload
from osiris_mesh.registry.statement import Statement, read

__all__ = ["MAX_LINES", "Signers", "chain_of", "follow", "join_lines", "read_lines"]

MAX_LINES: Final = 4096
"""Statements the history of one name may have."""

Signers = tuple[frozenset[bytes], ...]
"""Keys that signed each statement of a history, oldest first."""


def read_lines(data: bytes, reader: Callable[[bytes], Statement] = read) -> list[Statement]:
    """Split a file into statements.

    Args:
        data: The file: every line ends in one newline, none is empty.
        reader: :func:`osiris_mesh.registry.statement.read`, or one that knows lines it proved before.

    Raises:
        RemoteProtocolError: Not so; the text says which line.
    """
    if not data:
        return []
    if not data.endswith(b"\n"):
        raise RemoteProtocolError("the last line has no end: the file is cut off")
    if data.count(b"\n") > MAX_LINES:
        raise RemoteProtocolError(f"a history has more than {MAX_LINES} lines")
    statements: list[Statement] = []
    for number, line in enumerate(data[:-1].split(b"\n"), 1):
        try:
            statements.append(reader(line))
        except RemoteProtocolError as error:
            raise RemoteProtocolError(f"line {number}: {error.what}") from None
    return statements


def join_lines(statements: Sequence[Statement]) -> bytes:
    """Return the file for these statements."""
    return b"".join(statement.line + b"\n" for statement in statements)


def chain_of(statements: Sequence[Statement]) -> tuple[tuple[bytes, ...], Signers]:
    """Return the digests of statements, and who signed each."""
    return tuple(item.digest for item in statements), tuple(_once(item.keys) for item in statements)


@lru_cache(maxsize=1024)
def _once(keys: frozenset[bytes]) -> frozenset[bytes]:
    """Return one object for equal sets: most histories of a vendor have the same signer throughout."""
    return keys


def follow(name: FunctionName, statements: Sequence[Statement], revoked: Container[bytes] = frozenset()) -> Record:
    """Return what a history comes to. Who signed the statements is for the caller to check.

    Args:
        name: Whose history it is.
        statements: All of it, oldest first.
        revoked: Digests of statements without effect.

    Raises:
        CheckFailed: It is no history of this name; ``reason`` is ``history`` or ``equivocation``, ``line`` which line.
    """
    full = str(name)
    versions: dict[Version, VersionRecord] = {}
    aliases: dict[str, Version] = {}
    bound: set[Version] = set()
    gone: set[bytes] = set()
    previous = ""
    for place, statement in enumerate(statements, 1):
        try:
            said = read_payload(statement.payload)
        except UsageError as error:
            raise _broken(full, place, error.what) from None
        if not isinstance(said, (Binding, Amendment)):
            raise _broken(full, place, f"is a {statement.kind}")
        if said.name != full:
            raise _broken(full, place, f"is about {said.name}")
        if said.sequence != place or said.previous != previous:
            raise _broken(full, place, "does not follow from the line before")
        previous = statement.digest.hex()
        if statement.digest in revoked:
            # Without effect, and without harm: whatever a stolen key bound or amended here. Only its number is used up.
            gone.add(statement.digest)
            if isinstance(said, Binding):
                bound.add(Version.parse(said.version))
        elif isinstance(said, Binding):
            version = Version.parse(said.version)
            if version in bound:
                raise _broken(full, place, f"binds version {version} a second time", "equivocation")
            bound.add(version)
            versions[version] = VersionRecord(said, None, said.providers, statement.digest, statement.line)
        else:
            _check_bound(said, bound, full, place)
            _amend(said, versions, aliases)
    if not statements:
        raise CheckFailed(f"the history of {full} is empty", reason="history")
    return Record(
        full,
        MappingProxyType(dict(sorted(versions.items()))),
        len(statements),
        statements[-1].digest,
        MappingProxyType({label: version for label, version in sorted(aliases.items()) if version in versions}),
        frozenset(gone),
    )


def _check_bound(said: Amendment, bound: Container[Version], full: str, place: int) -> None:
    for text in [said.version, *(said.aliases or {}).values()]:
        if text and Version.parse(text) not in bound:
            raise _broken(full, place, f"amends version {text}, which is not bound before it")


def _amend(said: Amendment, versions: dict[Version, VersionRecord], aliases: dict[str, Version]) -> None:
    if said.aliases is not None:
        aliases.clear()
        aliases.update((label, Version.parse(version)) for label, version in said.aliases.items())
    if not said.version:
        return
    version = Version.parse(said.version)
    old = versions.get(version)
    if old is None:
        return
    deprecated = old.deprecated if said.deprecated is None else said.deprecated or None
    providers: tuple[Provider, ...] = old.providers if said.providers is None else said.providers
    versions[version] = VersionRecord(old.binding, deprecated, providers, old.digest, old.line)


def _broken(full: str, place: int, what: str, reason: str = "history") -> CheckFailed:
    return CheckFailed(f"{full}: line {place} {what}", reason=reason, name=full, line=place)
