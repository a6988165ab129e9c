"""The audit trail: every change of the mesh with who, what, when and from where, out of the ledger, newest first.

:func:`events` is the pure half: blocks in, events out. :class:`Trail` finds the blocks. A page costs

- the reading of every block of the asked range once, by SQLite, off the loop (about 1 GB/s where the file is cached);
  a range of time or a cursor is found by bisection and costs nothing;
- about 15 µs on the loop, in slices, for each entry of a block that may hold what was asked for.

Both are bounded for one page: it may hold fewer events than asked for and still name the next one.

What nodes say of themselves all the time (``container.functions``) is left out unless that kind is asked for.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final, Protocol

from osiris_mesh.errors import CheckFailed, RemoteProtocolError, UsageError
from osiris_mesh.identity.peer_id import peer_id, public_key
from osiris_mesh.ledger.block import Block
from osiris_mesh.ledger.entry import Entry
from osiris_mesh.ledger.kinds import KINDS, ContainerFunctions, read
from osiris_mesh.ledger.outcome import Outcome, Refused
from osiris_mesh.ledger.records import Named
from osiris_mesh.ledger.search import Search
from osiris_mesh.ledger.state import State
from osiris_mesh.ledger.views import Shown, entry_view, stored_block, subject

__all__ = ["MAX_EVENTS", "Book", "Filter", "Page", "Trail", "events", "read_filter"]

MAX_EVENTS: Final = 1000
"""Events of one page."""

_WINDOW: Final = 65_536
_ROWS: Final = 256
_BYTES: Final = 8 << 20
_MAX_DECODED: Final = 20_000
_SLICE_SECONDS: Final = 0.002
_PAGE_SECONDS: Final = 3.0


@dataclass(frozen=True, slots=True)
class Filter:
    """Which events are asked for; what is empty or None asks nothing.

    Attributes:
        user: Name or public key (hex) of an author, or of the user whose API token was the author.
        kind: A kind, or the beginning of several ending in ``.`` or ``*``: ``function.``.
        subject: Name, key (hex, all of it or its first 16 digits) or peer id of what was changed; or the beginning of
            one, ending in ``*``.
        since_ms: Block time, milliseconds, from here on.
        until_ms: Block time before this.
        accepted: Only what was accepted, or only what was refused.
        before: Only entries with an index below this: :attr:`Page.next` of the page before.
        limit: At most so many events, up to :data:`MAX_EVENTS`.
    """

    user: str = ""
    kind: str = ""
    subject: str = ""
    since_ms: int | None = None
    until_ms: int | None = None
    accepted: bool | None = None
    before: int | None = None
    limit: int = 100

    def __post_init__(self) -> None:
        if self.kind and not any(_is_kind(self.kind, kind) for kind in KINDS):
            raise UsageError(f"no entry is of kind {self.kind[:64]!r}", fix=f"there are {', '.join(KINDS)}")
        if not 1 <= self.limit <= MAX_EVENTS:
            raise UsageError(f"a page has 1 to {MAX_EVENTS} events")


@dataclass(frozen=True, slots=True)
class Page:
    """A page of the trail.

    Attributes:
        events: Newest first, as :func:`events` makes them.
        next: ``before`` of the next page, or None when there is nothing further back.
    """

    events: tuple[dict[str, Any], ...]
    next: int | None


def read_filter(asked: Mapping[str, Any]) -> Filter:
    """Return the filter a request's map describes, by the names of :class:`Filter`; ``refused`` asks for nothing else.

    Raises:
        UsageError: A value of another type, or out of bounds.
    """
    values: dict[str, Any] = {}
    for name, kind in (
        ("user", str), ("kind", str), ("subject", str), ("since_ms", int), ("until_ms", int), ("accepted", bool),
        ("before", int), ("limit", int), ("refused", bool),
    ):  # fmt: skip
        value = asked.get(name)
        if value is not None:
            if type(value) is not kind:
                raise UsageError(f"the request's {name} is not a {kind.__name__}")
            values[name] = value
    if values.pop("refused", False):
        values["accepted"] = False
    return Filter(**values)


def events(block: Block, state: State, wanted: Filter, shown: Shown | None = None) -> Iterator[dict[str, Any]]:
    """Return the events of one block that are asked for, newest first.

    Args:
        block: A block with its outcomes.
        state: Gives names; those of who is gone, too.
        wanted: What is asked for.
        shown: Which entries whoever asks may know of; None: all.

    Returns:
        Maps of JSON types: ``time_ms`` (of the block), ``height``, ``index`` (in the whole log), ``hash`` of the entry;
        ``kind``, ``subject``, ``subject_id``, ``summary``; ``accepted``, ``code``, ``reason``; ``who``, ``who_kind``
        (user, api_token, client, node, or empty), ``author`` (public key) and ``owner`` (name of the user behind an API
        token); ``node`` (peer id of the proposer) and ``node_name``.
    """
    header = block.header
    for at in reversed(range(header.count)):
        entry, outcome, index = block.entries[at], block.outcomes[at], header.first + at
        if wanted.before is not None and index >= wanted.before:
            continue
        if wanted.accepted is not None and outcome.accepted is not wanted.accepted:
            continue
        if shown is not None and not shown(entry, outcome):
            continue
        event = _event(entry, outcome, state, wanted)
        if event is not None:
            yield {
                "time_ms": header.time_ms,
                "height": header.height,
                "index": index,
                "hash": block.hashes[at].hex(),
                "node": _name_of_peer(header.container, state.names),
                "node_id": header.container,
            } | event


def _event(entry: Entry | None, outcome: Outcome, state: State, wanted: Filter) -> dict[str, Any] | None:
    if entry is None:
        if wanted.user or wanted.kind or wanted.subject:
            return None
        return _plain(entry, outcome, state) | {"subject": "", "subject_id": "", "who": "", "who_kind": "", "owner": ""}
    if wanted.kind:
        if not _is_kind(wanted.kind, entry.kind):
            return None
    elif entry.kind == ContainerFunctions.KIND:
        return None
    named = state.names.get(entry.author, Named("", ""))
    owner = state.names.get(named.owner) if named.owner else None
    if wanted.user and wanted.user not in {
        named.name, entry.author.hex(), owner.name if owner else "", named.owner.hex(),
    }:  # fmt: skip
        return None
    try:
        about, about_id = subject(entry, read(entry.kind, entry.body), state.names)
    except Refused:
        about, about_id = "", ""
    if wanted.subject and not any(_like(wanted.subject, text) for text in (about, about_id, about_id[:16])):
        return None
    return _plain(entry, outcome, state) | {
        "subject": about,
        "subject_id": about_id,
        "who": named.name,
        "who_kind": named.kind,
        "owner": owner.name if owner else "",
    }


def _plain(entry: Entry | None, outcome: Outcome, state: State) -> dict[str, Any]:
    view = entry_view(entry, outcome, state, bodies=False)
    return {name: view[name] for name in ("kind", "summary", "accepted", "code", "reason", "author")}


def _like(pattern: str, text: str) -> bool:
    return text.startswith(pattern[:-1]) if pattern.endswith("*") else text == pattern


def _is_kind(pattern: str, kind: str) -> bool:
    return _like(pattern + "*" if pattern.endswith(".") else pattern, kind)


def _name_of_peer(peer: str, names: Mapping[bytes, Named]) -> str:
    named = names.get(public_key(peer))
    return named.name if named is not None else peer


def _needles(wanted: Filter, names: Mapping[bytes, Named]) -> list[list[bytes]]:
    """Return what a block's bytes must contain to hold an event that is asked for."""
    needles: list[list[bytes]] = []
    if wanted.kind:
        needles.append([wanted.kind.rstrip("*").encode()])
    if wanted.user:
        keys = {key for key, named in names.items() if named.name == wanted.user}
        keys |= {key for key, named in names.items() if named.owner and named.owner in keys}
        raw = _hex(wanted.user)
        if raw:
            keys |= {raw, *(key for key, named in names.items() if named.owner == raw)}
        # Nobody of this name: his text stands in no entry's author, and nothing is what is found.
        needles.append(sorted(keys) or [b"\xff" * 33])
    if wanted.subject:
        needles.append(_about(wanted.subject, names))
    return needles


def _about(wanted: str, names: Mapping[bytes, Named]) -> list[bytes]:
    if wanted.endswith("*"):
        # Only names of functions and keys of settings, which these letters tell, surely stand in an entry as they are.
        return [wanted[:-1].encode()] if "/" in wanted or "." in wanted else []
    if wanted == "all":
        return []
    words = [wanted.encode()]
    # Users, tokens and members stand in entries by key or by peer id.
    for key, named in names.items():
        if named.name == wanted:
            words += [key, peer_id(key).encode()]
    try:
        words.append(public_key(wanted))
    except UsageError:
        raw = _hex(wanted)
        words += [raw] if raw else []
    return words


def _hex(text: str) -> bytes:
    try:
        return bytes.fromhex(text) if len(text) >= 16 else b""
    except ValueError:
        return b""


class Book(Protocol):
    """What the trail needs of the ledger; on the loop thread."""

    @property
    def state(self) -> State:
        """Gives names."""
        ...

    @property
    def search(self) -> Search:
        """Finds blocks."""
        ...


class Trail:
    """Finds pages of the trail.

    Args:
        book: The node's ledger.
    """

    def __init__(self, book: Book) -> None:
        self._book = book

    async def page(self, wanted: Filter, shown: Shown | None = None) -> Page:
        """Return a page.

        Args:
            wanted: What is asked for.
            shown: Which entries whoever asks may know of; None: all.

        Raises:
            CheckFailed: The stored chain can't be read.
        """
        loop = asyncio.get_running_loop()
        began = slice_began = loop.time()
        search, needles = self._book.search, _needles(wanted, self._book.state.names)
        low, high = await search.span(before=wanted.before, since_ms=wanted.since_ms, until_ms=wanted.until_ms)
        found: list[dict[str, Any]] = []
        decoded, last = 0, wanted.before
        while high >= low:
            bottom = max(low, high - _WINDOW + 1)
            rows = await search.rows(bottom, high, needles, limit=_ROWS, size=_BYTES)
            for row in rows:
                try:
                    block = stored_block(row)
                except RemoteProtocolError as error:
                    raise CheckFailed(f"block {row.height} is stored here but can't be read: {error.what}") from None
                last = block.header.first
                for event in events(block, self._book.state, wanted, shown):
                    found.append(event)
                    if len(found) == wanted.limit:
                        return Page(tuple(found), event["index"] if event["index"] > 0 else None)
                decoded += block.header.count
                high = row.height - 1
                if decoded >= _MAX_DECODED:
                    return Page(tuple(found), last or None)
                if loop.time() - slice_began > _SLICE_SECONDS:
                    await asyncio.sleep(0)
                    slice_began = loop.time()
            if len(rows) < _ROWS and sum(len(row.wire) for row in rows) < _BYTES:
                high = bottom - 1
            if high >= low and loop.time() - began > _PAGE_SECONDS:
                return Page(tuple(found), await self._index_above(high))
        return Page(tuple(found), None)

    async def _index_above(self, height: int) -> int | None:
        rows = await self._book.search.rows(height + 1, height + 1, (), limit=1, size=1)
        return stored_block(rows[0]).header.first if rows else None
