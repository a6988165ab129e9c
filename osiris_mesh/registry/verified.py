"""What a registry's shell keeps of a tree once verified: the files it has seen whole, lines it has proven. A core."""

from __future__ import annotations

from collections.abc import Mapping
from hashlib import sha256
from typing import Final

import msgspec

from osiris_mesh.errors import RemoteProtocolError
from osiris_mesh.registry.layout import CONFIG, NAMES, NO_VENDOR, ROOT, name_at, vendor_at
from osiris_mesh.registry.record import Record
from osiris_mesh.registry.statement import Statement, parse, read

__all__ = ["Entry", "Listed", "ProvenLines", "entries_from_wire", "entries_to_wire", "is_file", "listed"]

_MAX_PROVEN: Final = 262_144
_SHOWN: Final = 160
_MAX_KEPT: Final = 1 << 28
_DIGEST: Final = 32
_WIRE: Final = 1


class Listed(msgspec.Struct, frozen=True, gc=False):
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


class Entry(msgspec.Struct, frozen=True, gc=False):
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


class _Row(msgspec.Struct, frozen=True, gc=False, array_like=True, omit_defaults=True, forbid_unknown_fields=True):
    """An entry as it is kept: an array, which ends after ``tag`` where the file is no name's."""

    path: str
    digest: bytes
    tag: str
    version: str | None = None
    deprecated: bool = False
    description: str = ""
    sequence: int = 0


_decoder: Final = msgspec.msgpack.Decoder(tuple[int, list[_Row]])
_encoder: Final = msgspec.msgpack.Encoder()


def entries_to_wire(entries: Mapping[str, Entry]) -> bytes:
    """Return entries for keeping."""
    return _encoder.encode((_WIRE, [_row(path, entry) for path, entry in entries.items()]))


def entries_from_wire(data: bytes) -> dict[str, Entry]:
    """Read what :func:`entries_to_wire` gave.

    Raises:
        RemoteProtocolError: It is something else.
    """
    if len(data) > _MAX_KEPT:
        raise RemoteProtocolError(f"what was kept of a registry's files has {len(data)} bytes, more than {_MAX_KEPT}")
    try:
        version, rows = _decoder.decode(data)
    except (msgspec.DecodeError, ValueError, RecursionError) as error:
        raise RemoteProtocolError(f"what was kept of a registry's files is damaged: {type(error).__name__}") from None
    if version != _WIRE or any(len(row.digest) != _DIGEST for row in rows):
        raise RemoteProtocolError("what was kept of a registry's files has another format")
    return {row.path: _entry(row) for row in rows}


def _row(path: str, entry: Entry) -> _Row:
    shown = entry.listed
    if shown is None:
        return _Row(path, entry.digest, entry.tag)
    return _Row(path, entry.digest, entry.tag, shown.version, shown.deprecated, shown.description, shown.sequence)


def _entry(row: _Row) -> Entry:
    if row.version is None:
        return Entry(row.digest, row.tag)
    # Not parsed again: it was when it was verified, and a hundred thousand of them are waited for.
    name = row.path.removeprefix(NAMES).removeprefix(f"{NO_VENDOR}/").removesuffix(".jsonl")
    return Entry(row.digest, row.tag, Listed(name, row.version, row.deprecated, row.description, row.sequence))
