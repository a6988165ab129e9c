"""What a publication adds to the lines of a name. A core.

The same thing said again is no publication: a pipeline may run twice.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from msgspec.structs import replace

from osiris_mesh.errors import Conflict, UsageError
from osiris_mesh.function.name import Version
from osiris_mesh.identity.keys import KeyPair
from osiris_mesh.registry.record import Amendment, Binding, Record, read_payload, sign
from osiris_mesh.registry.statement import Statement, make

__all__ = ["appended", "placed", "renewed"]


def placed(
    said: Binding | Amendment, lines: Sequence[Statement], record: Record | None, keys: Sequence[KeyPair]
) -> Statement | None:
    """Give what is said its place after the lines of its name and sign it; None if it is said there already.

    Args:
        said: Its ``sequence`` and ``previous`` do not matter.
        lines: All lines of the name so far.
        record: What they come to; None without any.
        keys: Who signs.

    Raises:
        Conflict: The version is bound already, to something else.
        UsageError: Something is wrong with it, with the path; or the version it amends is not there.
    """
    if _is_known(said, lines, record):
        return None
    previous = lines[-1].digest.hex() if lines else ""
    return sign(replace(said, sequence=len(lines) + 1, previous=previous), keys)


def appended(statement: Statement, lines: Sequence[Statement], record: Record | None) -> Statement | None:
    """Return a statement signed elsewhere if it is the next of its name; None if it is said there already.

    Raises:
        Conflict: It is not the next: somebody else was faster. ``sequence`` and ``previous`` say what would be. Or the
            version is bound already, to something else.
        UsageError: Something is wrong with it, with the path.
    """
    said = read_payload(statement.payload)
    if not isinstance(said, (Binding, Amendment)):
        raise UsageError(f"a {statement.kind} is not kept in a registry", path="type")
    if any(line.digest == statement.digest for line in lines) or _is_known(said, lines, record):
        return None
    sequence, previous = len(lines) + 1, lines[-1].digest.hex() if lines else ""
    if (said.sequence, said.previous) != (sequence, previous):
        raise Conflict(
            f"{said.name} is at sequence {len(lines)} now, and this statement is not the one after",
            fix=f"sign it with sequence {sequence} and previous {previous or 'left out'}",
            sequence=sequence,
            previous=previous,
        )
    return statement


def renewed(
    lines: Sequence[Statement], counts: Callable[[Statement], bool], keys: Sequence[KeyPair]
) -> list[Statement]:
    """Return lines with those that no longer count signed anew; what they say, and their digests, stay."""
    return [line if counts(line) else make(line.payload, keys) for line in lines]


def _is_known(said: Binding | Amendment, lines: Sequence[Statement], record: Record | None) -> bool:
    if isinstance(said, Binding):
        for line in lines:
            if line.kind == "binding" and line.payload["version"] == said.version:
                bound = Binding.from_payload(line.payload)
                if replace(said, sequence=bound.sequence, previous=bound.previous) == bound:
                    return True
                raise Conflict(
                    f"{said.name} {said.version} is bound already, to something else",
                    fix="a version never changes: publish the next one",
                    digest=line.digest.hex(),
                )
        return False
    versions = {} if record is None else record.versions
    for label, text in (said.aliases or {}).items():
        if Version.parse(text) not in versions:
            raise UsageError(f"aliases.{label}: {said.name} has no version {text}", path=f"aliases.{label}")
    same_aliases = said.aliases is None or (
        record is not None and {label: str(version) for label, version in record.aliases.items()} == said.aliases
    )
    if not said.version:
        return same_aliases
    found = versions.get(Version.parse(said.version))
    if found is None:
        raise UsageError(f"version: {said.name} has no version {said.version}", path="version")
    return (
        same_aliases
        and (said.deprecated is None or (said.deprecated or None) == found.deprecated)
        and (said.providers is None or said.providers == found.providers)
    )
