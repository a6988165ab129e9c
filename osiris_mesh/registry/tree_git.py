"""A tree in a Git repository: any remote the user's ``git`` can reach.

What is read is always the clone, whatever happens to the remote; :meth:`GitTree.refresh` brings it up to date. Who may
push decides nothing: the lines' signatures do. So what git shows besides is evidence:

| the branch | then |
|---|---|
| descends from the commit seen last | it is read from now on |
| is an ancestor of it, or is gone | Conflict, ``reason`` ``rollback`` |
| is neither | Conflict, ``reason`` ``rewritten`` |
| holds a file with the marks of an unfinished merge | reading that file is a Conflict, ``reason`` ``merge`` |

After a rollback or a rewrite the last good state goes on being read until an operator accepts the new one
(:meth:`GitTree.accept`); both are kept, and :meth:`GitTree.read_at` reads either.

Publishers of one process are served together: their changes become one commit, made one on top of the other. Across
processes the remote's branch is the judge: who comes second fetches, has his changes made anew, and tries again.
"""

from __future__ import annotations

import asyncio
import random
import re
from collections.abc import Mapping, Sequence
from hashlib import sha1
from pathlib import Path
from typing import Final

from osiris_mesh.clock import SYSTEM, Clock
from osiris_mesh.errors import Conflict, OsirisError, Unavailable
from osiris_mesh.registry.batching import Batching, Overlay, Publication, make, message_of
from osiris_mesh.registry.git_clone import Clone
from osiris_mesh.registry.git_command import Remote, check_branch
from osiris_mesh.registry.listing import Listing
from osiris_mesh.registry.tree import Blob, Change

__all__ = ["GitTree"]

_MERGE: Final = re.compile(rb"^(?:<{7} |={7}$|>{7} )", re.MULTILINE)
_TIDY: Final = 64
_EMPTY: Final = "0" * 40


class GitTree:
    """A registry's tree in a branch of a repository.

    Args:
        name: What the user calls the registry.
        url: See :meth:`~osiris_mesh.registry.git_command.Remote.parse`.
        folder: Where the clone is kept; nobody else's.
        branch: Which branch.
        prefixes: Parts of the tree that are wanted ahead, ``ns/acme.com/`` for example; empty: all of it.
        author: ``Name <address>`` of the commits.
        seconds: Longest time of one exchange with the remote.
        publish_s: Longest time of a publication with all its races.
        clock: For the commits' time.
        rng: For the pauses after a lost race.

    Raises:
        UsageError: The URL or the branch is not one.
    """

    kind: Final = "git"

    def __init__(
        self,
        name: str,
        url: str,
        folder: Path,
        *,
        branch: str = "main",
        prefixes: Sequence[str] = (),
        author: str = "Osiris Mesh <registry@osiris.invalid>",
        seconds: float = 60.0,
        publish_s: float = 120.0,
        clock: Clock = SYSTEM,
        rng: random.Random | None = None,
    ) -> None:
        self._name = name
        self._remote = Remote.parse(url)
        self._clone = Clone(folder, self._remote, check_branch(branch), prefixes=prefixes, seconds=seconds)
        self._author = re.sub(r"[\n\0]", " ", author)
        self._clock = clock
        self._head: str | None = None
        self._listing: Listing | None = None
        self._taken = 0
        self._opening = asyncio.Lock()
        self._changing = asyncio.Lock()
        self._batching = Batching(self._remote.shown, self._attempt, publish_s, rng)

    def __repr__(self) -> str:
        return f"GitTree({self._name!r}, {self._remote.shown!r})"

    @property
    def name(self) -> str:
        """See :class:`~osiris_mesh.registry.tree.Tree`."""
        return self._name

    # Reading.

    async def read(self, path: str) -> Blob | None:
        """Return a file of the last good state.

        Raises:
            Unavailable: The repository was never fetched, or the file is too large or damaged.
            Conflict: The file holds an unfinished merge; ``reason`` is ``merge``.
        """
        listing = await self._opened()
        return await self._read(listing, self._head or _EMPTY, path)

    async def _read(self, listing: Listing, commit: str, path: str) -> Blob | None:
        oid = listing.get(path)
        if oid is None:
            return None
        return self._blob(await self._clone.blob(oid, path), commit, path)

    async def read_many(self, paths: Sequence[str]) -> list[Blob | None]:
        """Return the first files of these, of the last good state; raises as :meth:`read`."""
        listing = await self._opened()
        return await self._read_many(listing, self._head or _EMPTY, paths)

    async def _read_many(self, listing: Listing, commit: str, paths: Sequence[str]) -> list[Blob | None]:
        wanted = [(oid, path) for path in paths if (oid := listing.get(path)) is not None]
        data = iter(await self._clone.blobs(wanted) if wanted else ())
        found: list[Blob | None] = []
        for path in paths:
            if listing.get(path) is None:
                found.append(None)
                continue
            one = next(data, None)
            if one is None:
                break
            found.append(self._blob(one, commit, path))
        return found

    def _blob(self, data: bytes, commit: str, path: str) -> Blob:
        # A statement's line begins with a brace.
        if _MERGE.search(data):
            raise Conflict(
                f"{path} of {self._remote.shown} at {commit[:12]} holds an unfinished merge",
                fix="whoever merged it there must choose, line by line",
                reason="merge",
                path=path,
                commit=commit,
            )
        return Blob(data, commit)

    async def paths(self, prefix: str = "") -> list[str]:
        """Return paths of the last good state.

        Raises:
            Unavailable: The repository was never fetched.
        """
        return (await self._opened()).under(prefix)

    async def tags(self) -> Listing:
        """Return the files of the last good state with their object ids: what did not change has the same.

        Raises:
            Unavailable: The repository was never fetched.
        """
        return await self._opened()

    async def read_at(self, commit: str, path: str) -> bytes | None:
        """Return a file as it is in a commit that is kept (see :meth:`evidence`), merge marks and all.

        Raises:
            Unavailable: The clone does not have it.
        """
        await self._open()
        if commit != self._head and commit not in await self._clone.evidence():
            raise Unavailable(f"{commit[:64]!r} is not a commit kept of {self._remote.shown}", maybe=False)
        oid = (await self._clone.listing(commit)).get(path)
        return None if oid is None else await self._clone.blob(oid, path)

    async def evidence(self) -> list[str]:
        """Return the commits that rewrote the history, and those they replaced once accepted."""
        await self._open()
        return await self._clone.evidence()

    async def _open(self) -> None:
        """Read what an earlier run left."""
        if self._listing is not None:
            return
        async with self._opening:
            if self._listing is None:
                head = await self._clone.open()
                if head is not None:
                    listing = await self._clone.listing(head)
                    self._head, self._listing = head, listing

    async def _opened(self) -> Listing:
        if self._listing is None:
            await self._open()
        if self._listing is None:
            raise Unavailable(f"{self._remote.shown} was never fetched", fix="is it reachable?", maybe=False)
        return self._listing

    # Fetching.

    async def refresh(self) -> str:
        """Fetch; return the commit that is read now (zeros: the branch has none yet).

        Raises:
            Unavailable: The remote can't be reached.
            RemoteProtocolError: It has more files than a tree may have, or a tree git can't read.
            Conflict: Its history was rewritten: ``reason``, ``seen`` (the commit read on) and ``now`` say how.
        """
        await self._open()
        async with self._changing:
            return await self._refresh()

    async def _refresh(self) -> str:
        old = self._head
        unproven = ""
        try:
            new = await self._clone.fetch(shallow=old is None)
        except Unavailable as error:
            if old is None or error.details.get("reason") not in {"time", "size"}:
                raise
            # Perhaps it was the whole of another history: its last commit alone is enough to say so.
            new, unproven = await self._clone.fetch(shallow=True), error.what
            if new is not None and new != old and not await self._clone.descends(new, old):
                await self._refuse(old, new, "rewritten", f"cannot be shown to follow from it ({unproven})")
        if new is None:
            if old is not None:
                await self._refuse(old, "", "rollback", "is gone")
            self._listing = self._listing or Listing()
            return _EMPTY
        if new == old:
            return new
        if old is None:
            await self._take(new, await self._clone.listing(new))
        elif await self._clone.descends(new, old):
            listing = await self._opened()
            changes = await self._clone.changes(old, new)
            await self._take(new, await asyncio.to_thread(listing.changed, changes))
        elif await self._clone.descends(old, new):
            await self._refuse(old, new, "rollback", "went back to a commit before it")
        else:
            await self._refuse(old, new, "rewritten", "does not follow from it")
        return new

    async def _take(self, commit: str, listing: Listing) -> None:
        await self._clone.accept(commit)
        self._head, self._listing = commit, listing
        self._taken += 1
        if self._taken % _TIDY == 0:
            await self._clone.tidy()

    async def _refuse(self, old: str, new: str, reason: str, how: str) -> None:
        if new:
            await self._clone.keep(new)
        raise Conflict(
            f"the history of {self._remote.shown} was rewritten: the commit seen last is {old[:12]}, the branch {how}",
            fix="ask who keeps the registry; what was seen goes on being read. If the new history is meant to be: "
            f"osiris-mesh registry remove {self.name}, and add it anew",
            reason=reason,
            seen=old,
            now=new,
        )

    async def accept(self, commit: str) -> None:
        """Read a rewritten history from now on: an operator's decision. What was read before is kept as evidence.

        Raises:
            Unavailable: The commit is not among the evidence.
        """
        await self._open()
        async with self._changing:
            if commit not in await self._clone.evidence():
                raise Unavailable(f"{commit[:64]!r} is not a commit kept of {self._remote.shown}", maybe=False)
            if self._head is not None:
                await self._clone.keep(self._head)
            await self._take(commit, await self._clone.listing(commit))

    # Publishing.

    async def publish(self, change: Change, message: str) -> str:
        """Commit and push; return the commit that holds the change. See :class:`~osiris_mesh.registry.tree.Tree`.

        Raises:
            Conflict: Lost races for too long, or the history was rewritten.
            Denied: The remote does not let us.
            Unavailable: It can't be reached; ``maybe`` says whether it may have happened.
            Overloaded: Too many publications wait.
            UsageError: What the change wants to write is no part of a tree.
        """
        return await self._batching.publish(change, message)

    async def _attempt(self, batch: Sequence[Publication]) -> None:
        await self._open()
        async with self._changing:
            await self._refresh()
            head, below = self._head, await self._opened()
            tag = head or _EMPTY
            overlay = Overlay(_State(self, below, tag), tag, _object_id)
            made = await make(batch, overlay)
            # Publishing something twice makes no commit.
            files = {path: data for path, data in overlay.files.items() if below.get(path) != _object_id(data)}
            if files:
                seconds = self._clock.time_ms() // 1000
                tag = await self._clone.commit(head, files, message_of(made), author=self._author, seconds=seconds)
                await self._push(tag, below, files)
        for each in made:
            if not each.done.done():
                each.done.set_result(tag)

    async def _push(self, commit: str, below: Listing, files: Mapping[str, bytes]) -> None:
        try:
            await self._clone.push(commit)
        except Unavailable as error:
            # The line may have broken after the remote took it.
            try:
                await self._refresh()
            except OsirisError:
                raise error from None
            if self._head is None or not await self._clone.descends(self._head, commit):
                raise Unavailable(error.what, fix=error.fix, maybe=False) from None
            return
        marks = {path: _object_id(data) for path, data in files.items()}
        await self._take(commit, await asyncio.to_thread(below.changed, marks))

    async def close(self) -> None:
        """End what runs; publications that wait fail."""
        await self._batching.close()
        await self._clone.close()


class _State:
    """One commit of a tree as a change reads it."""

    def __init__(self, tree: GitTree, listing: Listing, commit: str) -> None:
        self._tree, self._listing, self._commit = tree, listing, commit

    async def read(self, path: str) -> Blob | None:
        return await self._tree._read(self._listing, self._commit, path)  # noqa: SLF001 - the tree's own half

    async def read_many(self, paths: Sequence[str]) -> list[Blob | None]:
        return await self._tree._read_many(self._listing, self._commit, paths)  # noqa: SLF001 - the tree's own half

    async def paths(self, prefix: str = "") -> list[str]:
        return self._listing.under(prefix)

    async def tags(self) -> Listing:
        return self._listing


def _object_id(data: bytes) -> str:
    # git's own name for a file; signatures, not this, say who wrote it.
    return sha1(b"blob %d\0" % len(data) + data, usedforsecurity=False).hexdigest()
