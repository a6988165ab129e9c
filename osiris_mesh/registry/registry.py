"""One registry: names looked up, listed and kept in step, through signatures and memory, whatever its tree is."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping
from dataclasses import dataclass

from osiris_mesh.clock import SYSTEM, Clock
from osiris_mesh.errors import Conflict, NotFound, OsirisError, Unavailable
from osiris_mesh.function.name import FunctionName
from osiris_mesh.identity.keys import KeyPair
from osiris_mesh.registry.believed_tree import index_of
from osiris_mesh.registry.checkpoint import Checkpoint
from osiris_mesh.registry.domain_proofs import Domains
from osiris_mesh.registry.history import read_lines
from osiris_mesh.registry.layout import CHECKPOINT, path_of
from osiris_mesh.registry.record import Record
from osiris_mesh.registry.statement import Statement
from osiris_mesh.registry.tree import Keeping, Tree
from osiris_mesh.registry.trust import Trust
from osiris_mesh.registry.verified import Listed, entries_from_wire, entries_to_wire
from osiris_mesh.registry.writable_tree import CHECKPOINT_TTL_MS, Published, WritableTree

__all__ = ["CHECKPOINT_TTL_MS", "Found", "Published", "Registry", "Synced"]


@dataclass(frozen=True, slots=True)
class Found:
    """A name as a registry has it.

    Attributes:
        record: Its versions.
        tag: State of the tree or of the file.
        age_ms: Time since the tree was last heard of.
        stale: Its checkpoint has expired, so that something newer may be withheld.
        attested: A checkpoint covers exactly these bytes; otherwise signatures and memory alone speak for them.
        data: The history as it was read, whose ``record`` this is.
    """

    record: Record
    tag: str
    age_ms: int
    stale: bool
    attested: bool
    data: bytes


@dataclass(frozen=True, slots=True)
class Synced:
    """What a synchronisation came to.

    Attributes:
        tag: State of the tree.
        changed: Names whose files changed, ascending.
        refused: Names and other files that are not believed, and why.
        names: How many names are believed.
        stale: The checkpoint has expired.
    """

    tag: str
    changed: tuple[str, ...]
    refused: Mapping[str, str]
    names: int
    stale: bool


class Registry(WritableTree):
    """One registry.

    Args:
        tree: Where its files are.
        trust: What this node holds true of it; changed here, saved by whoever made it, when ``trust.changed``.
        clock: The time.
        checkpoint_key: Signs checkpoints of what others signed (:meth:`register`, :meth:`update`); a key that the root
            or any vendor's keys name.
        mirror: Compare the whole tree with its checkpoint; without, only what is asked for is read.
        domains: Asks the domains of vendors that the root does not delegate to; None: nobody does.
    """

    def __init__(
        self,
        tree: Tree,
        trust: Trust,
        clock: Clock = SYSTEM,
        *,
        checkpoint_key: KeyPair | None = None,
        mirror: bool = True,
        domains: Domains | None = None,
    ) -> None:
        super().__init__(tree, trust, clock, checkpoint_key=checkpoint_key, mirror=mirror, domains=domains)
        self._tag = ""

    @property
    def names(self) -> int:
        """How many names were believed at the last synchronisation."""
        return len(self._index)

    @property
    def expires_ms(self) -> int:
        """When its checkpoint ends; 0: none was seen."""
        return self._checkpoint.stale_ms if self._checkpoint is not None else 0

    def known(self, name: str) -> Record | None:
        """Return what a name was believed to be when it was last asked for here; None: not lately. Asks nobody."""
        cached = self._cache.get(path_of(FunctionName.parse(name)))
        return None if cached is None else cached.record

    def lately(self) -> list[Record]:
        """Return the records that were judged lately, some thousands at most. Asks nobody."""
        return [cached.record for cached in self._cache.values()]

    async def lookup(self, name: str | FunctionName) -> Found:
        """Return a name.

        Raises:
            UsageError: Not a name.
            NotFound: This registry surely does not know it.
            CheckFailed: What it says is not believed; ``reason`` says why (see :mod:`osiris_mesh.registry.trust`; also
                ``form`` for what is no record, ``checkpoint`` for what is not the checkpoint's).
            Unavailable: It can't be asked.
        """
        name = FunctionName.parse(name) if isinstance(name, str) else name
        await self._begin()
        blob, attested = await self._file(path_of(name))
        if blob is None:
            if (seen := self.trust.head_of(str(name))) is not None:
                self._refuse("rollback", str(name), f"{name} has vanished from {self.name}", seen[1])
            raise NotFound(f"{self.name} has no {name}", name=str(name))
        record = await self._believed(name, blob)
        age_ms = int((self._clock.monotonic() - self._heard) * 1000)
        return Found(record, blob.tag, age_ms, self.stale, attested, blob.data)

    async def history(self, name: str | FunctionName) -> list[Statement]:
        """Return all statements of a name, proven; raises as :meth:`lookup`."""
        name = FunctionName.parse(name) if isinstance(name, str) else name
        await self.lookup(name)
        blob = await self.tree.read(path_of(name))
        if blob is None:
            raise NotFound(f"{self.name} has no {name}", name=str(name))
        await self._believed(name, blob)
        return read_lines(blob.data, self._proven.read)

    async def list(self, pattern: str = "**", *, limit: int = 1000) -> list[Listed]:
        """Return the names a pattern fits, ascending, of those that were believed at the last synchronisation.

        Args:
            pattern: ``*`` stands for any part of one segment, ``**`` alone for everything.
            limit: Most names returned.

        Raises:
            UsageError: Not a pattern.
            CheckFailed: The tree is not believed.
            Unavailable: It was never had, or is not mirrored.
        """
        if not self._mirror:
            raise Unavailable(f"{self.name} is not mirrored here, so it can't be listed", fix="name the function")
        await self._begin()
        found = self._index.find(pattern, limit)
        entries = (self._entries[path_of(FunctionName.parse(name))].listed for name in found)
        return [entry for entry in entries if entry is not None]

    async def sync(self) -> Synced:
        """Fetch what is new, and compare the whole of it with its checkpoint.

        Raises:
            CheckFailed: The tree is not believed; what was believed before is served on.
            Conflict: The tree's own history was rewritten; the same.
            Unavailable: It can't be reached.
        """
        try:
            tag = await self.tree.refresh()
        except Conflict as error:
            await self._keep_rewritten(error)
            raise
        self._heard = self._clock.monotonic()
        async with self._lock:
            if self._domains is not None:
                self._proven_now |= self._domains.take_news()
            changed: tuple[str, ...] = ()
            if tag != self._tag or self._checkpoint is None or self._proven_now:
                changed = await self._load()
            self._tag, self._proven_now = tag, frozenset()
        await self._begin()
        return Synced(tag, changed, dict(self._refused), len(self._index), self.stale)

    async def _keep_rewritten(self, error: Conflict) -> None:
        """Keep as evidence which head a tree showed that went back, or somewhere else."""
        reason, now = error.details.get("reason"), error.details.get("now")
        if reason not in {"rollback", "rewritten"}:
            return
        lines: list[Statement] = []
        what = error.what
        with contextlib.suppress(OsirisError):
            data = await self.tree.read_at(str(now), CHECKPOINT) if now and isinstance(self.tree, Keeping) else None
            if data:
                # Only looked at: nothing of such a state is ever taken for what was seen.
                lines = [self._proven.read(data.removesuffix(b"\n"))]
                sequence = Checkpoint.from_payload(lines[0].payload).sequence
                seen = self.trust.checkpoint_sequence
                reason = "rollback" if sequence < seen else "history"
                what = f"{what}; its checkpoint is {sequence}, and {seen} was seen"
        self.trust.keep("history" if reason == "rewritten" else reason, "checkpoint", what, self._now_ms(), b"", lines)

    def to_wire(self) -> bytes:
        """Return what was verified of the tree, to be believed after a restart as long as its files are the same.

        It is as good as the place it is kept: private to this node, beside :meth:`Trust.to_wire`.
        """
        return entries_to_wire(self._entries)

    def restore(self, data: bytes) -> None:
        """Take what :meth:`to_wire` gave, before anything is asked.

        Raises:
            RemoteProtocolError: It is something else.
        """
        self._entries = entries_from_wire(data)
        self._index = index_of(self._entries)

    async def close(self) -> None:
        """Close the tree."""
        await self.tree.close()
