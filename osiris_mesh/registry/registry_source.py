"""One registry as the resolver asks it, and what keeps it in step: fetching, saving what was seen, telling. A shell.

The resolver reads what is here already; fetching goes on beside it, so a registry that is slow to fetch is not slow to
ask. What changed is looked up anew, what was revoked is forgotten, and what was seen of the registry is on the disk
before the next fetch.
"""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import Callable, Sequence
from typing import Final

from osiris_mesh.clock import Clock
from osiris_mesh.errors import CheckFailed, OsirisError, RemoteProtocolError
from osiris_mesh.function.name import FunctionName
from osiris_mesh.registry.federation import Answer
from osiris_mesh.registry.history import Signers, chain_of, follow, read_lines
from osiris_mesh.registry.memory import Memory
from osiris_mesh.registry.questions import Questions
from osiris_mesh.registry.record import Record
from osiris_mesh.registry.registry import Registry
from osiris_mesh.registry.statement import parse, read

__all__ = ["Keeper", "RegistrySource", "restore"]

_log = logging.getLogger("osiris.registry")
_FILES: Final = "/files"
"""What the key of a registry's verified files ends with, beside that of its trust."""
_JITTER: Final = 0.2
_LONGEST_S: Final = 300.0
_MANY: Final = 1000
"""Changed names told one by one; past it, everything is asked for anew."""


class RegistrySource:
    """A registry, as :class:`osiris_mesh.registry.asking.Source` says.

    Args:
        registry: The registry.
        clock: Time.
    """

    def __init__(self, registry: Registry, clock: Clock) -> None:
        self.registry = registry
        self._clock = clock

    async def ask(self, name: str) -> Answer:
        """See :meth:`osiris_mesh.registry.asking.Source.ask`."""
        registry = self.registry
        found = await registry.lookup(name)
        chain, signers = chain_of(read_lines(found.data, parse))
        return Answer(registry.name, found.record, None, found.stale, found.age_ms, chain, found.data, signers)

    def holds(self, record: Record) -> bool:
        """See :meth:`osiris_mesh.registry.asking.Source.holds`."""
        name = FunctionName.parse(record.name)
        standing = self.registry.trust.keys_of(name.vendor)
        if standing is None:
            return True
        if any(bound.digest in standing.revoked_records for bound in record.versions.values()):
            return False
        return self._signed(name, [bound.line for bound in record.versions.values()])

    def accepts(self, name: str, lines: bytes) -> bool:
        """See :meth:`osiris_mesh.registry.asking.Source.accepts`."""
        full = FunctionName.parse(name)
        return self.registry.trust.keys_of(full.vendor) is not None and self._signed(full, lines.splitlines())

    def verify(self, name: str, lines: bytes) -> tuple[Record, tuple[bytes, ...], Signers]:
        """Verify a history a peer passed on, as if this registry had said it; nothing is remembered of it.

        Raises:
            CheckFailed: It is not signed by those who may, is no history, or is older or other than what was seen.
            RemoteProtocolError: It is no history at all.
        """
        full = FunctionName.parse(name)
        trust = self.registry.trust
        statements = read_lines(lines, read)
        now_ms = self._clock.time_ms()
        for statement in statements:
            trust.check(full, statement, now_ms)
        standing = trust.keys_of(full.vendor)
        record = follow(full, statements, standing.revoked_records if standing is not None else frozenset())
        seen = trust.head_of(name)
        if seen is not None and (len(statements) < seen[0] or statements[seen[0] - 1].digest != seen[1]):
            raise CheckFailed(f"{name} is older or other than what was seen of it", reason="rollback", name=name)
        return record, *chain_of(statements)

    def _signed(self, name: FunctionName, lines: list[bytes]) -> bool:
        now_ms = self._clock.time_ms()
        try:
            for line in lines:
                self.registry.trust.check(name, parse(line), now_ms)
        except (CheckFailed, RemoteProtocolError):
            return False
        return bool(lines)


class Keeper:
    """Keeps one registry in step. Run :meth:`run` beside the resolver.

    Args:
        registry: The registry; its trust was restored by :func:`restore`.
        memory: Where what was seen of it is kept; None: nowhere.
        questions: Told what changed.
        every: Seconds between two fetches, jittered by a fifth; after a failure longer, up to 5 min.
        clock: Time.
        rng: Jitter.
        tell: Told which names have statements that were not there at the fetch before, with their sequences; must not
            block.
    """

    def __init__(
        self,
        registry: Registry,
        memory: Memory | None,
        questions: Questions,
        *,
        every: float,
        clock: Clock,
        rng: random.Random,
        tell: Callable[[dict[str, int]], None] = lambda _names: None,
    ) -> None:
        self._tell = tell
        self.failed = ""
        """Why the last fetch failed; empty: it did not."""
        self.failures = 0
        """Fetches that failed."""
        self._registry = registry
        self._memory = memory
        self._questions = questions
        self._every = every
        self._clock = clock
        self._rng = rng
        self._wake = asyncio.Event()
        self._saving = asyncio.Lock()

    def fetch(self) -> None:
        """Fetch now: somebody says there is something new."""
        self._wake.set()

    async def run(self) -> None:
        """Fetch again and again, until cancelled; then save what was seen."""
        failures = 0
        try:
            while True:
                try:
                    await self.once()
                    failures = 0
                except OsirisError:
                    failures += 1
                    _log.warning("registry_not_in_step", extra={"registry": self._registry.name, "error": self.failed})
                    await self._save()
                except Exception as error:  # noqa: BLE001 - a defect met once must not end the fetching of a registry
                    failures += 1
                    self.failed = f"{type(error).__name__}: {error}"
                    self.failures += 1
                    _log.exception("registry_defect", extra={"registry": self._registry.name})
                pause = min(self._every * 2.0 ** min(failures, 16), max(_LONGEST_S, self._every))
                self._wake.clear()
                try:
                    async with asyncio.timeout(pause * self._rng.uniform(1 - _JITTER, 1 + _JITTER)):
                        await self._wake.wait()
                except TimeoutError:
                    continue
        finally:
            await self._save()

    async def once(self) -> None:
        """Fetch what is new, tell of it, and save what was seen.

        Raises:
            OsirisError: It can't be reached, or is not believed.
        """
        # At the first fetch everything is new here, and to nobody else.
        is_first = self._registry.expires_ms == 0
        try:
            synced = await self._registry.sync()
        except OsirisError as error:
            # Whoever asked is told; so is who looks at the list of registries later.
            self.failed = str(error)
            self.failures += 1
            raise
        if self.failed:
            self.failed = ""
            self._questions.registry_back()
        if len(synced.changed) <= _MANY:
            for name in synced.changed:
                self._questions.forget(name)
        else:
            self._questions.doubt()
        self._questions.recheck()
        if not is_first:
            self._tell_changed(synced.changed)
        await self._save(files=bool(synced.changed))

    def _tell_changed(self, names: Sequence[str]) -> None:
        """Tell of changed names, of so many at most: past that, the others' own fetches do."""
        heads = {name: self._registry.trust.head_of(name) for name in names[:_MANY]}
        if told := {name: head[0] for name, head in heads.items() if head is not None}:
            try:
                self._tell(told)
            except OsirisError as error:
                _log.warning("names_not_told", extra={"registry": self._registry.name, "error": str(error)})

    async def _save(self, *, files: bool = False) -> None:
        trust, memory = self._registry.trust, self._memory
        if memory is None:
            return
        try:
            # One after the other: what was seen earlier must not be written over what was seen since.
            async with self._saving:
                if trust.changed:
                    trust.changed = False
                    await memory.keep_trust(self._registry.name, await asyncio.to_thread(trust.keeping()))
                if files:
                    wire = await asyncio.to_thread(self._registry.to_wire)
                    await memory.keep_trust(self._registry.name + _FILES, wire)
        except OsirisError as error:
            trust.changed = True
            _log.error("trust_not_kept", extra={"registry": self._registry.name, "error": str(error)})


async def restore(registry: Registry, memory: Memory) -> None:
    """Give a registry back what was verified of its files, before it is asked; what is damaged is verified anew.

    Its trust comes before it: ``Trust.from_wire(await memory.trust(name))`` makes the registry.

    Raises:
        Unavailable: The memory can't be read.
    """
    try:
        data = await memory.trust(registry.name + _FILES)
        if data is not None:
            await asyncio.to_thread(registry.restore, data)
    except (CheckFailed, RemoteProtocolError) as error:
        _log.warning("verified_files_damaged", extra={"registry": registry.name, "error": str(error)})
