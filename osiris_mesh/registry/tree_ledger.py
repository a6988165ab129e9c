"""A registry in the mesh's own ledger: read from the state every node has, written by entries its users sign.

Reading asks nobody: the ledger brings what is new by itself. Writing proposes ``registry.write`` entries, each of which
names the heads of the files it was made for, so that a publisher who was overtaken is refused and starts over. The node
itself has no right to write: the caller brings a signer. See ``osiris_mesh/ledger/tree.py``.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, Protocol

from osiris_mesh.clock import Clock
from osiris_mesh.errors import (
    Conflict,
    DeadlineExceeded,
    Denied,
    NotFound,
    OsirisError,
    Overloaded,
    Unavailable,
    UsageError,
)
from osiris_mesh.identity.keys import KeyPair
from osiris_mesh.ledger.block import MAX_COMMAND, Block
from osiris_mesh.ledger.entry import MAX_ENTRY, Entry
from osiris_mesh.ledger.kinds import RegistryRemove, RegistryWrite
from osiris_mesh.ledger.outcome import Outcome, Receipt
from osiris_mesh.ledger.records import TreeFile
from osiris_mesh.ledger.shapes import MAX_CHANGES, MAX_PIECE
from osiris_mesh.ledger.state import State
from osiris_mesh.ledger.tree import PLACE, head_after, is_replaced, subject_of
from osiris_mesh.registry.listing import Listing
from osiris_mesh.registry.tree import MAX_FILE, Blob, Change

__all__ = ["Book", "Place", "Signer", "TreeLedger", "key_signer", "writes"]

_TURNS: Final = 100
_SECONDS: Final = 30.0
# What an entry has beside its changes, and a change beside its path and bytes.
_ENTRY_ROOM: Final = 1024
_CHANGE_ROOM: Final = 64
_LAST: Final = "checkpoint"

Signer = Callable[[str, list[Any]], Awaitable[bytes]]
"""Returns the bytes of an entry of a kind with these fields, signed by a user or API token of the mesh."""


class Book(Protocol):
    """What is needed of the ledger (:class:`osiris_mesh.ledger.ledger.Ledger`)."""

    @property
    def state(self) -> State:
        """What the entries so far amount to."""
        ...

    def block(self, height: int) -> Block:
        """Return a stored block."""
        ...

    async def propose(self, entries: Sequence[bytes], *, timeout: float) -> Receipt:
        """Put entries into one block and return once it is applied here."""
        ...


@dataclass(frozen=True, slots=True)
class Place:
    """Which entry brought bytes of a file.

    Attributes:
        start: The first of them, from 0.
        end: One past the last.
        height: Height of the block.
        index: The entry's index in the whole ledger, as ``ledger show`` and ``ledger proof`` count.
        hash: The entry's hash.
    """

    start: int
    end: int
    height: int
    index: int
    hash: bytes


def key_signer(key: KeyPair, mesh_id: bytes, clock: Clock) -> Signer:
    """Return a signer that has the key at hand.

    Args:
        key: A user's or an API token's.
        mesh_id: The mesh's 16 bytes.
        clock: Gives the entries' time.
    """

    async def sign(kind: str, body: list[Any]) -> bytes:
        return Entry.make(kind, body, key, mesh_id, clock).bytes

    return sign


def writes(files: Mapping[str, bytes], there: Callable[[str], TreeFile | None]) -> list[RegistryRemove | RegistryWrite]:
    """Return the entries that bring files to these bytes, in their order; none for what is so already.

    One entry where they fit, so that all of it happens or nothing. More are in the order in which each leaves a tree
    that verifies: what signs before what is signed, a long history line by line, and the checkpoint last. A history
    that does not go on from what is there (its lines were signed anew) is taken away first; that takes registry.manage.

    Args:
        files: Bytes by path.
        there: What a path holds now.

    Raises:
        UsageError: The tree has no such path, a file is empty, or it or a line is too large.
    """
    entries: list[list[list[Any]]] = []
    room: list[int] = []
    heads: dict[str, bytes] = {}
    removed: list[RegistryRemove | RegistryWrite] = []
    for path in sorted(files, key=lambda path: (path == _LAST, path.endswith(".jsonl"), path)):
        file = there(path)
        subject_of(path)
        if file is not None and not is_replaced(path) and not files[path].startswith(file.data):
            removed.append(RegistryRemove(path, file.head))
            file = None
        heads[path] = file.head if file is not None else b""
        first = 0
        for piece in _pieces(path, files[path], file):
            size = len(path) + len(piece) + _CHANGE_ROOM
            # Pieces of one file go into entries one after the other, and the checkpoint into the last of all.
            at = max(first, len(entries) - 1)
            if at >= len(entries) or room[at] < size or len(entries[at]) >= MAX_CHANGES:
                at = len(entries)
                entries.append([])
                room.append(MAX_ENTRY - _ENTRY_ROOM)
            entries[at].append([path, heads[path], piece])
            room[at] -= size
            heads[path] = head_after(heads[path], piece)
            first = at + 1
    return removed + [RegistryWrite(sorted(changes)) for changes in entries]


def _pieces(path: str, data: bytes, there: TreeFile | None) -> list[bytes]:
    if not data:
        raise UsageError(f"{path} would be empty")
    if len(data) > MAX_FILE:
        raise UsageError(f"{path} has {len(data)} bytes, more than the {MAX_FILE} allowed")
    old = there.data if there is not None else b""
    if data == old:
        return []
    if is_replaced(path):
        if len(data) > MAX_PIECE:
            raise UsageError(f"{path} has {len(data)} bytes, more than the {MAX_PIECE} of one entry")
        return [data]
    pieces: list[bytes] = []
    at = len(old)
    while len(data) - at > MAX_PIECE:
        end = data.rfind(b"\n", at, at + MAX_PIECE) + 1
        if end <= at:
            raise UsageError(f"a line of {path} is longer than the {MAX_PIECE} bytes of one entry")
        pieces.append(data[at:end])
        at = end
    return [*pieces, data[at:]]


class TreeLedger:
    """A registry in the mesh's own ledger; all methods belong to the loop thread.

    Args:
        name: What the user calls it.
        ledger: The ledger of this node.
        signer: Signs what is published; None: this registry is only read here.
    """

    kind = "ledger"

    def __init__(self, name: str, ledger: Book, *, signer: Signer | None = None) -> None:
        self.name = name
        self._ledger = ledger
        self._signer = signer

    async def read(self, path: str) -> Blob | None:
        """As :meth:`osiris_mesh.registry.tree.Reader.read`; the tag is the file's head."""
        return _blob(self._ledger.state.tree.get(path))

    async def paths(self, prefix: str = "") -> list[str]:
        """As :meth:`osiris_mesh.registry.tree.Reader.paths`."""
        tree = self._ledger.state.tree
        return sorted(path for path in tree if path.startswith(prefix)) if prefix else sorted(tree)

    async def tags(self) -> Listing:
        """As :meth:`osiris_mesh.registry.tree.Tagged.tags`: heads."""
        return _heads(self._ledger.state)

    async def refresh(self) -> str:
        """As :meth:`osiris_mesh.registry.tree.Tree.refresh`; the tag is the height of the last change."""
        return str(self._ledger.state.tree_height)

    async def publish(self, change: Change, message: str) -> str:  # noqa: ARG002 - an entry says itself what it does
        """As :meth:`osiris_mesh.registry.tree.Tree.publish`.

        What does not fit one entry (127 KiB in all, 96 KiB of one file, 256 files) takes effect entry by entry, each of
        them whole.

        Raises:
            Conflict: Overtaken too often, or the tree is full.
            Denied: There is no signer, or the ledger does not let it write there.
            Unavailable: The ledger can't be written now; ``maybe`` says whether it may have happened.
            UsageError: What is to be written has no place in the tree.
        """
        for _ in range(_TURNS):
            reader = _Reader(self._ledger)
            bodies = writes(await change(reader), reader.file)
            if not bodies or await self._write(bodies):
                return await self.refresh()
        raise Conflict(f"the registry {self.name} was changed by somebody else again and again", fix="publish again")

    async def remove(self, path: str) -> str:
        """Take a file away, to be published anew; return the tree's tag. For repair, and for ``registry.manage``.

        Raises:
            NotFound: There is no such file.
            Conflict: It was changed in this moment.
            Denied: There is no signer, or the ledger does not let it.
            Unavailable: The ledger can't be written now.
        """
        file = self._ledger.state.tree.get(path)
        if file is None:
            raise NotFound(f"the registry {self.name} has no file {path[:256]}")
        body = RegistryRemove(path, file.head)
        if not await self._propose([await self._sign(body.KIND, body.body())]):
            raise Conflict(f"{path} was changed in this moment", fix="look at it again")
        return await self.refresh()

    def places(self, path: str) -> list[Place]:
        """Return which entries a file's bytes came with, in their order.

        Raises:
            NotFound: There is no such file.
            CheckFailed: A block can't be read.
        """
        file = self._ledger.state.tree.get(path)
        if file is None:
            raise NotFound(f"the registry {self.name} has no file {path[:256]}")
        found: list[Place] = []
        start = 0
        for end, height, digest in PLACE.iter_unpack(file.places):
            block = self._ledger.block(height)
            at = next(at for at, entry in enumerate(block.hashes) if entry.startswith(digest))
            found.append(Place(start, end, height, block.header.first + at, block.hashes[at]))
            start = end
        return found

    async def close(self) -> None:
        """Nothing is held."""

    async def _write(self, bodies: Sequence[RegistryRemove | RegistryWrite]) -> bool:
        """Propose entries, as many at a time as one block takes; False: somebody was faster."""
        batch: list[bytes] = []
        size = 0
        done = False
        for body in bodies:
            entry = await self._sign(body.KIND, body.body())
            if batch and size + len(entry) > MAX_COMMAND - _ENTRY_ROOM:
                if not await self._propose(batch):
                    if done:
                        raise _in_part(self.name)
                    return False
                batch, size, done = [], 0, True
            batch.append(entry)
            size += len(entry) + _CHANGE_ROOM
        if not await self._propose(batch):
            if done:
                raise _in_part(self.name)
            return False
        return True

    async def _sign(self, kind: str, body: list[Any]) -> bytes:
        if self._signer is None:
            raise Denied(f"nobody signs for the registry {self.name} here", fix="publish with a user's key")
        return await self._signer(kind, body)

    async def _propose(self, entries: Sequence[bytes]) -> bool:
        try:
            receipt = await self._ledger.propose(entries, timeout=_SECONDS)
        except (DeadlineExceeded, Overloaded) as error:
            raise Unavailable(error.what, fix=error.fix, maybe=bool(error.details.get("maybe"))) from None
        refused = [outcome for outcome in receipt.outcomes if not outcome.accepted]
        if any(outcome.code != "conflict" for outcome in refused):
            raise _refusal(self.name, next(outcome for outcome in refused if outcome.code != "conflict"))
        if refused and len(refused) < len(entries):
            raise _in_part(self.name)
        return not refused


def _refusal(name: str, outcome: Outcome) -> OsirisError:
    text = f"the ledger refuses this for the registry {name}: {outcome.reason}"
    if outcome.code in {"role", "author", "signature", "mesh"}:
        return Denied(
            text, fix="publish as somebody who has registry.publish for the name (registry.manage to rewrite)"
        )
    return UsageError(text) if outcome.code in {"body", "kind", "time"} else Conflict(text, code=outcome.code)


def _in_part(name: str) -> Conflict:
    # To call the change again on top of half of what it wrote is for nobody to do unasked.
    return Conflict(
        f"somebody wrote to the registry {name} between the entries of a publication; part of it is there",
        fix="look at what is there and publish the rest",
    )


def _blob(file: TreeFile | None) -> Blob | None:
    return Blob(file.data, file.head.hex()) if file is not None else None


def _heads(state: State) -> Listing:
    return Listing((path, file.head.hex()) for path, file in state.tree.items())


class _Reader:
    """What a change reads: each file as it was when it was read first, so that what is written fits what was read."""

    def __init__(self, ledger: Book) -> None:
        self._ledger = ledger
        self._read: dict[str, TreeFile | None] = {}

    def file(self, path: str) -> TreeFile | None:
        if path not in self._read:
            self._read[path] = self._ledger.state.tree.get(path)
        return self._read[path]

    async def read(self, path: str) -> Blob | None:
        return _blob(self.file(path))

    async def paths(self, prefix: str = "") -> list[str]:
        return sorted(path for path in self._ledger.state.tree if path.startswith(prefix))

    async def tags(self) -> Listing:
        return _heads(self._ledger.state)
