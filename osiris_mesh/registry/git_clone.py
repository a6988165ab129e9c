"""A bare, shallow clone of one branch: everything a registry asks of git, with plumbing alone.

::

    fetch     refs/heads/<branch> of the remote  ->  refs/osiris/fetched
    accept    a fetched commit that descends from the last one, or the first  ->  refs/osiris/head
    evidence  commits that rewrote the history  ->  refs/osiris/evidence/<commit>, kept from being collected
    commit    fast-import on top of a commit, never touching a work tree or an index

The first fetch takes one commit; later ones take what came since, which also proves that the new descends from the old.
Reading is one long-living ``git cat-file --batch``, which may not reach the remote. With ``prefixes`` the clone is
partial as well: files elsewhere are fetched when they are asked for, if the remote can serve so; otherwise it has all.
"""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import os
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

from osiris_mesh.errors import Denied, LimitExceeded, RemoteProtocolError, Unavailable
from osiris_mesh.registry.batching import Moved
from osiris_mesh.registry.git_command import Done, Remote, run
from osiris_mesh.registry.git_config import CONFIG, PARTIAL
from osiris_mesh.registry.git_reader import BlobReader
from osiris_mesh.registry.git_rows import read_difference, read_tree
from osiris_mesh.registry.layout import NAMES
from osiris_mesh.registry.listing import Listing
from osiris_mesh.registry.tree import MAX_PATHS

__all__ = ["Clone"]

_HEAD: Final = "refs/osiris/head"
_FETCHED: Final = "refs/osiris/fetched"
_EVIDENCE: Final = "refs/osiris/evidence/"
_MAX_EVIDENCE: Final = 16
_LOCAL: Final = 60.0
_READ: Final = 10.0
_LARGEST_PACK: Final = 2 << 30
_LOCK: Final = "osiris-mesh"
_SLACK: Final = 64 << 10
_LISTED: Final = 512 << 20
_OID: Final = re.compile(r"[0-9a-f]{40}\Z")
_RACES: Final = (
    "fetch first", "non-fast-forward", "stale info", "failed to update ref", "cannot lock ref", "incorrect old value",
    "reference already exists", "failed to lock", "remote ref updated since checkout",
)  # fmt: skip
_DENIALS: Final = (
    "authentication failed", "could not read username", "could not read password", "permission denied",
    "permission to", "access denied", "not allowed", "unauthorized", "forbidden", "error: 403", "error: 401",
    "hook declined", "protected branch", "read-only", "not authorized", "denied to",
)  # fmt: skip


class Clone:
    """One clone. Its methods that fetch, accept, commit or push are not to be called at the same time.

    Args:
        folder: Where it is, or will be; nobody else writes there.
        remote: Of what.
        branch: Which branch.
        prefixes: Parts of the tree whose files are fetched ahead; empty: all.
        seconds: Longest time of one exchange with the remote.
        largest_pack: Bytes one fetch may bring.
    """

    def __init__(
        self,
        folder: Path,
        remote: Remote,
        branch: str,
        *,
        prefixes: Sequence[str] = (),
        seconds: float = 60.0,
        largest_pack: int = _LARGEST_PACK,
    ) -> None:
        self._folder = folder
        self._remote = remote
        self._ref = f"refs/heads/{branch}"
        self._prefixes = tuple(prefixes)
        self._seconds = seconds
        self._largest_pack = largest_pack
        self._absent: set[str] = set()
        self._reader = BlobReader(folder, remote.shown)
        self._fetching = asyncio.Lock()
        self._bringing = asyncio.Lock()
        self._held: int | None = None

    # The clone itself.

    async def open(self) -> str | None:
        """Create what is not there; return the commit accepted last.

        Raises:
            Unavailable: There is no git, or it can't write here.
        """
        await asyncio.to_thread(self._hold)
        if not (self._folder / "HEAD").exists():
            done = await self._run(["init", "--quiet", "--bare", "--template=", str(self._folder)])
            self._check(done, "create a clone")
        await asyncio.to_thread(self._write_config)
        head = await self.resolve(_HEAD)
        if head is not None and self._prefixes:
            await self._find_absent(head)
        return head

    def _hold(self) -> None:
        """Keep other programs out, and clear up after one that died."""
        if self._held is not None:
            return
        try:
            self._folder.mkdir(parents=True, exist_ok=True, mode=0o700)
            self._folder.chmod(0o700)
            held = os.open(self._folder / _LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except OSError as error:
            raise Unavailable(f"no clone can be kept in {self._folder}: {error.strerror}", maybe=False) from None
        try:
            fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            os.close(held)
            raise Unavailable(
                f"the clone in {self._folder} is in use by another program",
                fix="stop that, or keep this clone elsewhere",
                maybe=False,
            ) from None
        self._held = held
        self._sweep()

    def _write_config(self) -> None:
        url = self._remote.url.replace("\\", "\\\\").replace('"', '\\"')
        text = CONFIG.format(url=url, format=1 if self._prefixes else 0) + (PARTIAL if self._prefixes else "")
        temporary = self._folder / "config.new"
        # The URL may hold a password.
        with open(os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w") as file:  # noqa: PTH123
            file.write(text)
        temporary.replace(self._folder / "config")

    async def resolve(self, ref: str) -> str | None:
        """Return the commit a ref of ours names."""
        done = await self._run(["rev-parse", "--quiet", "--verify", f"{ref}^{{commit}}"])
        text = done.out.decode("ascii", "replace").strip()
        return text if done.code == 0 and _OID.match(text) else None

    async def close(self) -> None:
        """End the reading process and let other programs in."""
        await self._reader.close()
        held, self._held = self._held, None
        if held is not None:
            os.close(held)

    # Fetching.

    async def fetch(self, *, shallow: bool) -> str | None:
        """Fetch the branch and return its commit; None: the remote has no such branch.

        Args:
            shallow: That commit alone, without what was before.

        Raises:
            Unavailable: The remote can't be reached; ``reason`` is ``time`` or ``size`` if it gave too much.
        """
        arguments = ["fetch", "--quiet", "--no-tags", "--no-write-fetch-head", "--no-auto-maintenance"]
        arguments += ["--no-recurse-submodules", "--no-show-forced-updates"]
        arguments += ["--depth=1"] if shallow else []
        arguments += ["--filter=blob:none"] if self._prefixes else []
        done = await self._online([*arguments, "--", "origin", f"+{self._ref}:{_FETCHED}"])
        if done.code and "couldn't find remote ref" in done.complaint:
            return None
        if done.code and "index-pack" in done.complaint and self._is_full():
            raise Unavailable(
                f"one fetch of {self._remote.shown} has more than {self._largest_pack >> 20} MiB",
                maybe=False,
                reason="size",
            )
        self._check(done, "fetch from")
        tip = await self.resolve(_FETCHED)
        if tip is None:
            raise Unavailable(f"{self._ref} of {self._remote.shown} is not a commit", maybe=False)
        return tip

    def _is_full(self) -> bool:
        """Say whether a fetch ended at the limit of a file: the file lies there, half done."""
        sizes = [path.stat().st_size for path in self._folder.glob("objects/pack/tmp_*")]
        self._sweep()
        return max(sizes, default=0) >= self._largest_pack - _SLACK

    async def _online(self, arguments: Sequence[str], data: bytes = b"") -> Done:
        async with self._fetching:
            try:
                return await run(
                    arguments,
                    self._folder,
                    seconds=self._seconds,
                    data=data,
                    offline=False,
                    largest_file=self._largest_pack,
                )
            except BaseException:
                await asyncio.to_thread(self._sweep)
                raise

    def _sweep(self) -> None:
        """Remove what a fetch that was ended, or a program that died, left half done."""
        for pattern in ("objects/pack/tmp_*", "objects/pack/.tmp*", "*.lock", "refs/osiris/*.lock", "objects/tmp_*"):
            for path in self._folder.glob(pattern):
                with contextlib.suppress(OSError):
                    path.unlink()

    async def descends(self, young: str, old: str) -> bool:
        """Say whether ``young`` is ``old`` or comes after it, as far as the clone knows."""
        if young == old:
            return True
        done = await self._run(["merge-base", "--is-ancestor", old, young])
        if done.code not in {0, 1}:
            self._check(done, "compare commits in the clone of")
        return done.code == 0

    async def accept(self, commit: str) -> None:
        """Make a commit the one that is read, now and after a restart; and bring the files read ahead."""
        if self._prefixes:
            await self._find_absent(commit)
            listing = await self.listing(commit)
            wanted = [oid for path, oid in listing.items() if oid in self._absent and self._is_ahead(path)]
            await self._bring(wanted)
        self._check(await self._run(["update-ref", _HEAD, commit]), "write into the clone of")

    async def tidy(self) -> None:
        """Pack what many fetches left, if there is much of it; not done in time, it is done another time."""
        with contextlib.suppress(Unavailable):
            await run(["gc", "--auto", "--quiet"], self._folder, seconds=_LOCAL)

    def _is_ahead(self, path: str) -> bool:
        return not path.startswith(NAMES) or path.startswith(self._prefixes)

    async def _find_absent(self, commit: str) -> None:
        done = await self._run(
            ["rev-list", "--objects", "--no-object-names", "--missing=print", f"{commit}^{{tree}}"], most=_LISTED
        )
        self._check(done, "read the clone of")
        self._absent = {line[1:] for line in done.out.decode("ascii", "replace").splitlines() if line[:1] == "?"}

    async def _bring(self, oids: Sequence[str]) -> None:
        if not oids:
            return
        arguments = ["-c", "fetch.negotiationAlgorithm=noop", "fetch", "--quiet", "--no-tags", "--no-write-fetch-head"]
        arguments += [
            "--no-auto-maintenance",
            "--no-recurse-submodules",
            "--filter=blob:none",
            "--stdin",
            "--",
            "origin",
        ]
        data = "".join(f"{oid}\n" for oid in oids).encode()
        self._check(await self._online(arguments, data), "fetch from")
        self._absent.difference_update(oids)

    # Evidence.

    async def keep(self, commit: str) -> None:
        """Keep a commit that rewrote the history; the oldest of too many goes."""
        kept = await self.evidence()
        for old in kept[: max(0, len(kept) + 1 - _MAX_EVIDENCE)] if commit not in kept else ():
            await self._run(["update-ref", "-d", _EVIDENCE + old])
        self._check(await self._run(["update-ref", _EVIDENCE + commit, commit]), "write into the clone of")

    async def evidence(self) -> list[str]:
        """Return the commits kept, by commit time, oldest first."""
        done = await self._run(
            ["for-each-ref", "--sort=committerdate", "--format=%(objectname)", _EVIDENCE.rstrip("/")]
        )
        return [line for line in done.out.decode("ascii", "replace").split() if _OID.match(line)]

    # Reading.

    async def listing(self, commit: str) -> Listing:
        """Return the files of a commit with their object ids; links, submodules and strange names are left out.

        Raises:
            RemoteProtocolError: Too many, or not a tree git reads.
        """
        try:
            done = await self._run(["ls-tree", "-r", "-z", "--full-tree", commit], most=_LISTED, seconds=_READ)
        except LimitExceeded:
            raise RemoteProtocolError(f"the tree of {self._remote.shown} has more than {MAX_PATHS} files") from None
        if done.code:
            raise RemoteProtocolError(f"the tree of {self._remote.shown} can't be read: {self._said(done)}")
        return await asyncio.to_thread(lambda: Listing(read_tree(done.out)))

    async def changes(self, old: str, new: str) -> dict[str, str | None]:
        """Return what differs in the files of a commit from another's: path to object id, None for gone."""
        arguments = ["diff-tree", "-r", "-z", "--raw", "--no-renames", "--full-index", "--no-ext-diff", old, new]
        done = await self._run(arguments, most=_LISTED, seconds=_READ)
        if done.code:
            raise RemoteProtocolError(f"the tree of {self._remote.shown} can't be read: {self._said(done)}")
        return await asyncio.to_thread(lambda: dict(read_difference(done.out)))

    async def blob(self, oid: str, path: str) -> bytes:
        """Return a file's bytes.

        Raises:
            Unavailable: It is not here and can't be fetched, or it is larger than a file may be.
        """
        return (await self.blobs([(oid, path)]))[0]

    async def blobs(self, wanted: Sequence[tuple[str, str]]) -> list[bytes]:
        """Return the first of these files; see :meth:`BlobReader.blobs`; raises as :meth:`blob`."""
        if any(oid in self._absent for oid, _ in wanted):
            async with self._bringing:
                if absent := [oid for oid, _ in wanted if oid in self._absent]:
                    await self._bring(absent)
        return await self._reader.blobs(wanted)

    # Writing.

    async def commit(
        self, parent: str | None, files: Mapping[str, bytes], message: str, *, author: str, seconds: int
    ) -> str:
        """Make a commit and return its id; no ref names it but one of ours.

        Args:
            parent: On top of which; None: the first.
            files: What differs.
            message: Why.
            author: ``Name <address>``.
            seconds: Unix time.
        """
        ref = "refs/osiris/made"
        who = f"{author} {seconds} +0000".encode()
        said = message.encode()
        # "reset" first: the ref may stand on an earlier attempt.
        parts = [
            b"reset %s\n\ncommit %s\nmark :1\n" % (ref.encode(), ref.encode()),
            b"author %s\ncommitter %s\n" % (who, who),
        ]
        parts.append(b"data %d\n%s\n" % (len(said), said))
        if parent is not None:
            parts.append(b"from %s\n" % parent.encode())
        for path, content in sorted(files.items()):
            parts.append(b"M 100644 inline %s\ndata %d\n%s\n" % (path.encode(), len(content), content))
        parts.append(b"\nget-mark :1\ndone\n")
        done = await self._run(["fast-import", "--quiet", "--done", "--force"], data=b"".join(parts))
        self._check(done, "write into the clone of")
        made = done.out.decode("ascii", "replace").strip()
        if not _OID.match(made):
            raise Unavailable(f"the clone of {self._remote.shown} did not take a commit", maybe=False)
        return made

    async def push(self, commit: str) -> None:
        """Put a commit onto the remote's branch, if it follows from what is there.

        Raises:
            Moved: It does not, any longer.
            Denied: The remote does not let us.
            Unavailable: It can't be reached; ``maybe`` says whether it may have happened.
        """
        arguments = ["push", "--porcelain", "--quiet", "--no-verify", "--no-signed", "--no-follow-tags", "--", "origin"]
        done = await self._online([*arguments, f"{commit}:{self._ref}"])
        if not done.code:
            return
        lines = done.out.decode("utf-8", "replace").splitlines()
        refusal = next((line for line in lines if line[:1] == "!"), "")
        low = f"{refusal}\n{done.complaint}".lower()
        said = self._clean(refusal.partition("\t")[2].partition("\t")[2])
        if refusal and any(reason in refusal for reason in _RACES):
            raise Moved(f"{self._ref} of {self._remote.shown} moved: {said}")
        if refusal or any(reason in low for reason in _DENIALS):
            # What a hook said stands in the complaint.
            raise Denied(
                f"{self._remote.shown} does not take the publication: {self._said(done)} {said}".strip(),
                fix="see whether your credentials may push to this branch",
            )
        raise Unavailable(f"git can't push to {self._remote.shown}: {self._said(done)}", maybe=True)

    # Commands.

    async def _run(
        self, arguments: Sequence[str], *, data: bytes = b"", most: int = 1 << 20, seconds: float = _LOCAL
    ) -> Done:
        return await run(arguments, self._folder, seconds=seconds, data=data, most=most)

    def _said(self, done: Done) -> str:
        return self._clean(done.complaint) or f"it ended with {done.code}"

    def _clean(self, text: str) -> str:
        # What a remote says is text of a stranger, and may be meant for a terminal.
        said = "".join(letter if letter.isprintable() else " " for letter in self._remote.mask(text))
        return " ".join(said.split())[-1000:]

    def _check(self, done: Done, what: str) -> None:
        if done.code:
            raise Unavailable(
                f"git can't {what} {self._remote.shown}: {self._said(done)}",
                fix="try git ls-remote with this URL: it uses the same credentials",
                maybe=False,
            )
