"""What a registry's shell keeps of a tree once verified: the files it has seen whole, lines it has proven. A core."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from hashlib import sha256
from typing import Any, Final

from osiris_mesh.codec import Limits, pack, unpack
from osiris_mesh.errors import RemoteProtocolError
from osiris_mesh.registry.layout import CONFIG, NAMES, NO_VENDOR, ROOT, name_at, vendor_at
from osiris_mesh.registry.record import Record
from osiris_mesh.registry.statement import Statement, parse, read

__all__ = ["Entry", "Listed", "ProvenLines", "entries_from_wire", "entries_to_wire", "is_file", "listed"]

_MAX_PROVEN: Final = 262_144
_SHOWN: Final = 160
_LIMITS: Final = Limits(size=1 << 28, depth=6, count=1 << 20)
_WIRE: Final = 1


@dataclass(frozen=True, slots=True)
class Listed:
    """A name in a list.

    Attributes:
        name: Full name.
        version: Highest version that is neither a pre-release nor deprecated; else the highest there is; empty: none.
        deprecated: That version is deprecated.
        description: First letters of what it does, at most 160.
        sequence: Sequence of the name's last statement.
    """

    name: str
    version: str
    deprecated: bool
    description: str
    sequence: int


@dataclass(frozen=True, slots=True)
class Entry:
    """A file of the tree as it was verified.

    Attributes:
        digest: SHA-256 of the file.
        tag: What the tree called that state of the file; empty if it has no tags.
        listed: The name, if it is one's history and that holds.
    """

    digest: bytes
    tag: str = ""
    listed: Listed | None = None


class ProvenLines:
    """Reads lines, and proves each signature once: a line proven before is known by its SHA-256.

    Args:
        limit: Lines remembered; the oldest are forgotten first.
    """

    def __init__(self, limit: int = _MAX_PROVEN) -> None:
        self._limit = limit
        self._known: dict[bytes, None] = {}

    def read(self, line: bytes) -> Statement:
        """Read a line with its signatures proven; raises as :func:`osiris_mesh.registry.statement.read`."""
        digest = sha256(line).digest()
        if digest in self._known:
            return parse(line)
        statement = read(line)
        while len(self._known) >= self._limit:
            del self._known[next(iter(self._known))]
        self._known[digest] = None
        return statement


def is_file(path: str) -> bool:
    """Say whether a path belongs to the tree and so to its checkpoint."""
    return path in {CONFIG, ROOT} or name_at(path) is not None or vendor_at(path) is not None


def listed(record: Record) -> Listed:
    """Return a name as a list shows it."""
    best = max(
        record.versions.items(), key=lambda item: (item[1].deprecated is None, not item[0].pre, item[0]), default=None
    )
    if best is None:
        return Listed(record.name, "", deprecated=False, description="", sequence=record.sequence)
    version, found = best
    return Listed(
        record.name, str(version), found.deprecated is not None, found.binding.description[:_SHOWN], record.sequence
    )


def entries_to_wire(entries: Mapping[str, Entry]) -> bytes:
    """Return entries for keeping."""
    return pack([_WIRE, [_row(path, entry) for path, entry in entries.items()]])


def entries_from_wire(data: bytes) -> dict[str, Entry]:
    """Read what :func:`entries_to_wire` gave.

    Raises:
        RemoteProtocolError: It is something else.
    """
    value = unpack(data, _LIMITS)
    try:
        version, rows = value
        if version != _WIRE:
            raise RemoteProtocolError("what was kept of a registry's files has another format")
        return dict(_entry(row) for row in rows)
    except (TypeError, ValueError) as error:
        raise RemoteProtocolError(f"what was kept of a registry's files is damaged: {type(error).__name__}") from None


def _row(path: str, entry: Entry) -> list[Any]:
    shown = entry.listed
    if shown is None:
        return [path, entry.digest, entry.tag]
    return [path, entry.digest, entry.tag, shown.version, shown.deprecated, shown.description, shown.sequence]


def _entry(row: Iterable[Any]) -> tuple[str, Entry]:
    path, digest, tag, *rest = row
    if type(path) is not str or type(digest) is not bytes or len(digest) != 32 or type(tag) is not str:
        raise TypeError("not a file")
    if not rest:
        return path, Entry(digest, tag)
    version, deprecated, description, sequence = rest
    # Not parsed again: it was when it was verified, and a hundred thousand of them are waited for.
    name = path.removeprefix(NAMES).removeprefix(f"{NO_VENDOR}/").removesuffix(".jsonl")
    if (type(version), type(deprecated), type(description), type(sequence)) != (str, bool, str, int):
        raise TypeError("not a name")
    return path, Entry(digest, tag, Listed(name, version, deprecated, description, sequence))
