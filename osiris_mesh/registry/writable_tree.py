"""Writing to a registry: each publication is its lines and a new checkpoint, in one change of the tree.

The change looks at the newest state first and compares it with its checkpoint: nobody signs for what he would not
believe. What would not be believed afterwards is not written.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from hashlib import sha256
from typing import Final

from osiris_mesh.clock import Clock
from osiris_mesh.errors import CheckFailed, Conflict, RemoteProtocolError, UsageError
from osiris_mesh.function.name import FunctionName
from osiris_mesh.identity.keys import KeyPair
from osiris_mesh.registry.believed_tree import BelievedTree, is_whole
from osiris_mesh.registry.checkpoint import Checkpoint, Config, root_of
from osiris_mesh.registry.domain_proofs import Domains
from osiris_mesh.registry.history import join_lines, read_lines
from osiris_mesh.registry.keys import KeysStanding
from osiris_mesh.registry.layout import CHECKPOINT, CONFIG, NO_VENDOR, ROOT, keys_path, name_at, path_of, vendor_at
from osiris_mesh.registry.publication import appended, placed, renewed
from osiris_mesh.registry.record import Amendment, Binding, Record, sign
from osiris_mesh.registry.statement import Statement, read
from osiris_mesh.registry.tree import Blob, Reader, Tree
from osiris_mesh.registry.trust import Trust
from osiris_mesh.registry.verified import Entry, is_file

__all__ = ["CHECKPOINT_TTL_MS", "Published", "WritableTree"]

CHECKPOINT_TTL_MS: Final = 7 * 86_400_000
"""How long a checkpoint holds; whoever keeps the registry renews it within that time."""

_LEDGER: Final = "ledger"
"""Kind of the tree whose other files nobody can cut off unseen."""

_NextOf = Callable[[Sequence[Statement], Record | None], Statement | None]


@dataclass(frozen=True, slots=True)
class Published:
    """What a publication came to.

    Attributes:
        changed: Something was written; False: all of it was there already.
        tag: State of the tree.
        statements: What was written; without a change, nothing.
    """

    changed: bool
    tag: str
    statements: tuple[Statement, ...] = ()


class _Draft:
    """A publication being made: the newest state, compared with its checkpoint, and what is to be written."""

    def __init__(self, reader: Reader, entries: dict[str, Entry], before: int) -> None:
        self.reader = reader
        self.entries = entries
        self.before = before
        self.edits: dict[str, bytes] = {}
        self.said: list[Statement] = []

    async def read(self, path: str) -> bytes:
        if path in self.edits:
            return self.edits[path]
        blob = await self.reader.read(path)
        return blob.data if blob else b""


class WritableTree(BelievedTree):
    """A believed tree that can be written.

    Args:
        tree: See :class:`osiris_mesh.registry.believed_tree.BelievedTree`, as for the others.
        trust: See there.
        clock: See there.
        checkpoint_key: Signs checkpoints where no other key is given; one that the root or any vendor's keys name.
        mirror: See there.
    """

    def __init__(
        self,
        tree: Tree,
        trust: Trust,
        clock: Clock,
        *,
        checkpoint_key: KeyPair | None,
        mirror: bool,
        domains: Domains | None = None,
    ) -> None:
        super().__init__(tree, trust, clock, mirror=mirror, domains=domains)
        self._checkpoint_key = checkpoint_key

    async def publish(
        self, said: Sequence[Binding | Amendment], keys: Sequence[KeyPair], *, message: str = ""
    ) -> Published:
        """Sign and publish, all in one change of the tree; what is there already is passed over.

        Args:
            said: Bindings and amendments; their ``sequence`` and ``previous`` do not matter.
            keys: Keys of their vendor; the first signs the checkpoint too.
            message: For people.

        Raises:
            Conflict: A version is bound already, to something else; or too many races were lost.
            UsageError: Something is wrong with it, with the path.
            CheckFailed: The keys may not, or the tree is not what its checkpoint says.
            Denied: The remote does not let us write.
            Unavailable: It can't be reached; ``maybe`` says whether it may have happened.
        """

        async def edit(draft: _Draft) -> None:
            for item in said:
                await self._append(draft, FunctionName.parse(item.name), _placing(item, keys))

        text = message or f"publish {', '.join(item.name for item in said[:8])}"
        return await self._change(edit, keys[:1], text)

    async def register(self, statement: Statement) -> Published:
        """Publish a binding signed elsewhere, the next of its name (else Conflict); raises as :meth:`publish`."""
        return await self._take("binding", statement)

    async def update(self, statement: Statement) -> Published:
        """Publish an amendment signed elsewhere; raises as :meth:`register`."""
        return await self._take("amendment", statement)

    async def publish_keys(
        self, statement: Statement, keys: Sequence[KeyPair] = (), *, renew: bool = False
    ) -> Published:
        """Publish the next version of a vendor's keys.

        Args:
            statement: As :mod:`osiris_mesh.registry.keyring` makes it.
            keys: Sign the checkpoint, and lines with ``renew``; the registry's own checkpoint key without.
            renew: Sign those lines of the vendor anew that would no longer count. Look at them before: what a stolen
                key said is to be revoked in the same version.

        Raises:
            Conflict: Another version is the newest.
            CheckFailed: Not signed by those who may, or lines would no longer count and are not renewed.
            UsageError, Denied, Unavailable: As :meth:`publish`.
        """
        vendor = str(statement.payload.get("vendor"))

        async def edit(draft: _Draft) -> None:
            path = keys_path(vendor)
            lines = read_lines(await draft.read(path), self._proven.read)
            if any(line.line == statement.line for line in lines):
                return
            now_ms = self._now_ms()
            standing = self.trust.weigh_keys(vendor, [*lines, statement], now_ms)
            draft.edits[path] = join_lines([*lines, statement])
            draft.said.append(statement)
            await self._renew(draft, vendor, standing, keys if renew else ())

        return await self._change(edit, keys[:1], f"keys of {vendor}")

    async def publish_root(self, statement: Statement, keys: Sequence[KeyPair] = ()) -> Published:
        """Publish the next root; arguments and errors as :meth:`publish_keys`."""

        async def edit(draft: _Draft) -> None:
            lines = read_lines(await draft.read(ROOT), self._proven.read)
            if any(line.line == statement.line for line in lines):
                return
            trial = Trust(self.trust.pin, first_use=True)
            trial.accept_roots([*lines, statement], self._now_ms())
            draft.edits[ROOT] = join_lines([*lines, statement])
            draft.said.append(statement)

        return await self._change(edit, keys[:1], "root")

    async def renew(self, keys: Sequence[KeyPair] = ()) -> Published:
        """Sign a new checkpoint over the same files, so that they do not become stale; raises as :meth:`publish`."""

        async def edit(draft: _Draft) -> None:
            draft.edits[CHECKPOINT] = b""

        return await self._change(edit, keys[:1], "renew the checkpoint")

    async def create(
        self,
        config: Config,
        keys: Sequence[KeyPair],
        *,
        root: Statement | None = None,
        vendor_keys: Sequence[Statement] = (),
    ) -> Published:
        """Begin a registry in an empty tree.

        Args:
            config: Its id and name.
            keys: The first signs the checkpoint.
            root: The first root; without one, vendors must be proven by their domains.
            vendor_keys: First versions of vendors' keys.

        Raises:
            Conflict: There is a registry already.
            CheckFailed, UsageError, Denied, Unavailable: As :meth:`publish`.
        """
        now_ms = self._now_ms()
        trial = Trust(self.trust.pin, first_use=True)
        trial.accept_roots([root] if root else [], now_ms)
        for statement in vendor_keys:
            (trial if root else self.trust).weigh_keys(str(statement.payload.get("vendor")), [statement], now_ms)

        async def edit(draft: _Draft) -> None:
            if root is not None and self.trust.pin is None:
                self.trust.pin = root.digest
            draft.edits[CONFIG] = config.to_bytes()
            if root is not None:
                draft.edits[ROOT] = join_lines([root])
            for statement in vendor_keys:
                draft.edits[keys_path(str(statement.payload.get("vendor")))] = join_lines([statement])

        return await self._change(edit, keys[:1], f"begin registry {config.name or config.id}", create=config)

    async def _take(self, kind: str, statement: Statement) -> Published:
        if statement.kind != kind:
            raise UsageError(f"this statement is a {statement.kind}, not a {kind}", path="type")
        statement = read(statement.line)
        name = FunctionName.parse(str(statement.payload.get("name")))

        async def edit(draft: _Draft) -> None:
            await self._append(draft, name, lambda lines, record: appended(statement, lines, record))

        return await self._change(edit, (), f"{kind} {name}")

    async def _append(
        self,
        draft: _Draft,
        name: FunctionName,
        next_of: _NextOf,
    ) -> None:
        path = path_of(name)
        lines = read_lines(await draft.read(path), self._proven.read)
        now_ms = self._now_ms()
        self._standing(name.vendor, await draft.reader.read(keys_path(name.vendor)))
        record = self.trust.accept_history(name, lines, now_ms) if lines and path not in draft.edits else None
        if record is None and lines:
            record = self.trust.weigh_history(name, lines, now_ms)
        statement = next_of(lines, record)
        if statement is None:
            return
        # What would not be believed is not written: the vendor's keys, the place, the size, all of it.
        self.trust.weigh_history(name, [*lines, statement], now_ms)
        draft.edits[path] = join_lines([*lines, statement])
        draft.said.append(statement)

    async def _renew(self, draft: _Draft, vendor: str, standing: KeysStanding, keys: Sequence[KeyPair]) -> None:
        now_ms = self._now_ms()
        for path in [
            path for path in draft.entries if (name := name_at(path)) and (name.vendor or NO_VENDOR) == vendor
        ]:
            name = name_at(path)
            if name is None:
                continue
            signers = standing.signers(name.namespace, now_ms)

            def counts(line: Statement, signers: frozenset[bytes] = signers) -> bool:
                needed = standing.keys.record_threshold
                return line.digest in standing.revoked_records or len(line.keys & signers) >= needed

            lines = read_lines(await draft.read(path), self._proven.read)
            if all(map(counts, lines)):
                continue
            fresh = renewed(lines, counts, keys) if keys else lines
            if not all(map(counts, fresh)):
                raise CheckFailed(
                    f"{name} has lines that these keys would no longer cover",
                    fix="renew them with a key that stays, or revoke them",
                    reason="threshold",
                    name=str(name),
                )
            draft.edits[path] = join_lines(fresh)

    async def _change(
        self,
        edit: Callable[[_Draft], Awaitable[None]],
        keys: Sequence[KeyPair],
        message: str,
        *,
        create: Config | None = None,
    ) -> Published:
        signer = keys[0] if keys else self._checkpoint_key
        if signer is None:
            raise UsageError(
                "nobody is there to sign the checkpoint", fix="give a key, or name this node's in the root"
            )
        made: list[_Draft] = []

        async def change(reader: Reader) -> Mapping[str, bytes]:
            made.clear()
            draft = await self._drafted(reader, create=create)
            made.append(draft)
            await edit(draft)
            if draft.edits:
                await self._check_signer(draft, signer)
                await self._seal(draft, signer, create.id if create else self.trust.registry)
            return draft.edits

        async with self._lock:
            tag = await self.tree.publish(change, message)
            draft = made[0]
            if not draft.edits:
                return Published(changed=False, tag=tag)
            await self._take_over(draft, tag)
            return Published(changed=True, tag=tag, statements=tuple(draft.said))

    async def _drafted(self, reader: Reader, *, create: Config | None) -> _Draft:
        """Look at the newest state; nobody signs a checkpoint over what he would not believe."""
        checkpoint = await reader.read(CHECKPOINT)
        if create is not None:
            if checkpoint is not None or any(map(is_file, await reader.paths())):
                raise Conflict(f"{self.name} is a registry already", fix="publish to it, or choose an empty place")
            return _Draft(reader, {}, 0)
        await self._load_head(reader)
        entries = await self._walk(reader)
        try:
            accepted = await self._accept_checkpoint(reader, checkpoint)
            if not await is_whole(entries, accepted):
                raise self._kept("checkpoint", CHECKPOINT, f"{self.name} is not what its checkpoint says")
        except CheckFailed:
            if self.tree.kind != _LEDGER:
                raise
            # There whoever may publish anything can spoil the head, but blocks keep other files from being cut off.
            # Seconds are more than any registry has had publications, whichever of them this program has seen.
            return _Draft(reader, entries, max(self.trust.checkpoint_sequence, self._now_ms() // 1000))
        return _Draft(reader, entries, accepted.sequence)

    async def _check_signer(self, draft: _Draft, signer: KeyPair) -> None:
        """Refuse a key whose checkpoint nobody would believe once this publication's roots and keys are in force."""
        trust, now_ms = self.trust, self._now_ms()
        if any(path == ROOT or vendor_at(path) for path in draft.edits):
            trust = self.trust.newcomer()
            trust.accept_roots(read_lines(await draft.read(ROOT), self._proven.read), now_ms)
            for path in {*draft.entries, *draft.edits}:
                if (vendor := vendor_at(path)) is None:
                    continue
                try:
                    trust.accept_keys(vendor, read_lines(await draft.read(path), self._proven.read), now_ms)
                except (CheckFailed, UsageError, RemoteProtocolError):
                    # What a vendor publishes himself has to hold; another one's trouble is not his.
                    if path in draft.edits:
                        raise
        if not trust.may_sign_checkpoint(signer.public, now_ms):
            raise CheckFailed(
                f"{signer.public.hex()} may not sign the checkpoint of {self.name}",
                fix="give a key of a vendor first that stays in use, or one the root names",
                reason="threshold",
            )

    async def _seal(self, draft: _Draft, signer: KeyPair, registry: str) -> None:
        for path, data in draft.edits.items():
            if path != CHECKPOINT:
                draft.entries[path] = Entry(sha256(data).digest())
        now_ms = self._now_ms()
        digests = {path: entry.digest for path, entry in draft.entries.items()}
        root = await asyncio.to_thread(root_of, digests)
        statement = sign(
            Checkpoint(
                registry=registry,
                sequence=draft.before + 1,
                root=root.hex(),
                files=len(draft.entries),
                time_ms=now_ms,
                expires_ms=now_ms + CHECKPOINT_TTL_MS,
            ),
            [signer],
        )
        draft.edits[CHECKPOINT] = statement.line + b"\n"

    async def _take_over(self, draft: _Draft, tag: str) -> None:
        """Believe what was published by reading it as anybody would."""
        self._heard = self._clock.monotonic()
        after = _Overlaid(draft)
        await self._load_head(after)
        for path in draft.edits:
            if (vendor := vendor_at(path)) is not None:
                await self._try_vendor(after, vendor)
        self._checkpoint = await self._accept_checkpoint(after, await after.read(CHECKPOINT))
        for path, data in draft.edits.items():
            if path in draft.entries:
                shown = await self._shown(after, path, Blob(data, tag))
                before = draft.entries[path]
                draft.entries[path] = Entry(before.digest, before.tag, shown)
        self._failed = None
        await self._adopt(draft.entries)


class _Overlaid:
    """The state after a publication, as a reader."""

    def __init__(self, draft: _Draft) -> None:
        self._draft = draft

    async def read(self, path: str) -> Blob | None:
        data = self._draft.edits.get(path)
        return await self._draft.reader.read(path) if data is None else Blob(data, "")

    async def paths(self, prefix: str = "") -> list[str]:
        return sorted(path for path in {*self._draft.entries, CHECKPOINT} if path.startswith(prefix))


def _placing(said: Binding | Amendment, keys: Sequence[KeyPair]) -> _NextOf:
    return lambda lines, record: placed(said, lines, record, keys)
