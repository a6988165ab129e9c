"""What is known of a name, and finding it out: one question at a time, from disk, from peers, from registries. A shell.

Callers wait for a question, each with its own deadline; nobody's deadline ends it for the others.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import math
import random
from collections.abc import Sequence
from dataclasses import replace
from typing import Final, Protocol

from osiris_mesh.clock import Clock
from osiris_mesh.errors import DeadlineExceeded, NotFound, OsirisError, Overloaded, Unavailable
from osiris_mesh.registry.asking import Asker
from osiris_mesh.registry.cache import Ask, Cache, Entry, Tier
from osiris_mesh.registry.federation import Answer, Equivocation, Step, Verdict
from osiris_mesh.registry.memory import Kept, Memory, record_of
from osiris_mesh.registry.record import Binding, Record
from osiris_mesh.settings.registry import RegistrySettings

__all__ = ["MARGIN_S", "Neighbours", "Questions", "unknown"]

MARGIN_S: Final = 0.02
"""So much before a deadline an old answer is taken, for the way back."""
_log = logging.getLogger("osiris.registry")
_SCOPES: Final = {"local": Tier.LOCAL, "regional": Tier.REGIONAL, "global": Tier.GLOBAL}
_MAX_EVIDENCE: Final = 256
_PER_SLOT: Final = 4
"""Questions that may wait for one that is under way."""


class Neighbours(Protocol):
    """The peers that carry our region's label."""

    async def ask(self, name: str, order: Sequence[str], *, deadline: float) -> Answer | None:
        """Return what a peer holds of a full name, verified as if its registry had said it; None: nothing of use.

        Args:
            name: Full name.
            order: Registries asked about it, the highest precedence first.
            deadline: Monotonic seconds.
        """
        ...


class Questions:
    """Answers by full name. Belongs to one loop.

    Args:
        asker: Asks the registries.
        settings: Times and bounds.
        memory: What survives a restart; None: nothing does.
        neighbours: Peers of our region; None: there are none.
        clock: Time.
        rng: Jitter.
    """

    def __init__(
        self,
        asker: Asker,
        *,
        settings: RegistrySettings,
        memory: Memory | None,
        neighbours: Neighbours | None,
        clock: Clock,
        rng: random.Random,
    ) -> None:
        self._asker = asker
        self._settings = settings
        self._memory = memory
        self._neighbours = neighbours
        self._clock = clock
        self._cache: Cache[Answer] = Cache(settings, rng)
        self._flights: dict[str, asyncio.Task[None]] = {}
        self._doubted: set[str] = set()
        self._doubted_ms = 0
        self._slots = asyncio.Semaphore(settings.queries)
        self._why: dict[str, Verdict] = {}
        self._evidence: list[Equivocation] = []
        self._closed = False

    def __len__(self) -> int:
        return len(self._flights)

    @property
    def evidence(self) -> tuple[Equivocation, ...]:
        """Contradictions between registries, oldest first, at most 256."""
        return tuple(self._evidence)

    async def close(self) -> None:
        """End all questions; the memory is the caller's to close."""
        self._closed = True
        flights = list(self._flights.values())
        for flight in flights:
            flight.cancel()
        await asyncio.gather(*flights, return_exceptions=True)

    def peek(self, name: str) -> Entry[Answer] | None:
        """Return what is cached of a name, however old."""
        return self._cache.peek(name)

    def ahead(self, name: str, now: float) -> None:
        """Ask for a name whose answer is fresh and soon will not be, in the background; never fails."""
        if self._cache.look(name, now).ask is Ask.AHEAD:
            with contextlib.suppress(Overloaded):
                self._take_off(name)

    async def entry(self, name: str, deadline: float) -> tuple[Entry[Answer], bool]:
        """Return what is known of a name and whether that is stale, having asked if need be.

        Raises:
            NotFound: No registry knows the name.
            Unavailable: No registry gave a usable answer, and nothing is known from before.
            DeadlineExceeded: There was no answer in time.
            Overloaded: Too many questions are under way.
        """
        now = self._clock.monotonic()
        look = self._cache.look(name, now)
        entry = look.entry
        if look.ask is Ask.AHEAD:
            with contextlib.suppress(Overloaded):
                self._take_off(name)
        if entry is not None and look.fresh:
            return self._positive(entry), False
        if look.ask is Ask.FAILING:
            entry = entry or await self._recall_within(name, deadline)
            if entry is not None and self._may_serve(entry):
                return entry, self._clock.monotonic() >= entry.fresh_until
            raise self._failure(name, look.wait)
        flight = self._flights.get(name) or self._take_off(name)
        # An old answer is worth waiting a little for a new one, not longer.
        for until in (min(now + self._settings.stale_after_s, deadline - MARGIN_S), deadline):
            left = until - self._clock.monotonic()
            if left > 0 and not flight.done():
                await asyncio.wait({flight}, timeout=left)
            if flight.done():
                return self._landed(name)
            old = self._cache.peek(name)
            if old is not None and self._may_serve(old):
                return old, True
        raise _late(name)

    async def ask_anew(self, name: str, deadline: float) -> tuple[Entry[Answer], bool, tuple[Step, ...]]:
        """Ask the registries whatever is known; return also who said what. Errors as of :meth:`entry`."""
        flight = self._flights.get(name)
        if flight is None:
            self._cache.begin(name)
            flight = self._take_off(name, anew=True)
        left = deadline - self._clock.monotonic()
        if left > 0:
            await asyncio.wait({flight}, timeout=left)
        if not flight.done():
            raise _late(name)
        entry, stale = self._landed(name)
        verdict = self._why.get(name)
        return entry, stale, verdict.why if verdict is not None else ()

    async def held(self, name: str) -> Kept | None:
        """Return the history this node holds of a full name, for peers; None: nothing it may pass on."""
        entry = self._cache.peek(name)
        if self._memory is None or entry is None or entry.value is None or entry.value.record is None:
            return None
        if _scope(entry.value.record) is Tier.LOCAL or not self._may_serve(entry):
            return None
        return await self._memory.get(name)

    # --- news ------------------------------------------------------------------------------------------------------

    def heard(self, name: str, sequence: int) -> bool:
        """Take in that a name has a statement of this sequence; True: ours is older, and is no longer believed."""
        entry = self._cache.peek(name)
        if entry is None:
            return False
        record = entry.value.record if entry.value is not None else None
        if record is not None and record.sequence >= sequence:
            return False
        return self._cache.invalidate(name, self._clock.monotonic())

    def recheck(self) -> list[str]:
        """Forget every answer that holds no more: keys or statements were revoked. Return the names."""
        gone = self._cache.revoke_where(self._is_revoked)
        for name in gone:
            if self._memory is not None:
                self._memory.forget(name)
        return gone

    def registry_back(self) -> None:
        """Ask again about everything that failed: a registry was added, changed or came back."""
        self._cache.retry_all()

    def forget(self, name: str) -> None:
        """Believe what is known of a name no longer: who asks next gets a new answer, or the old one as stale."""
        if (
            not self._cache.invalidate(name, self._clock.monotonic())
            and self._memory is not None
            and name in self._memory
        ):
            # What is on the disk alone was said before this, too.
            self._doubted.add(name)
        self._cache.retry(name)

    def doubt(self) -> None:
        """Believe nothing that is known by now any longer: too much changed to say what."""
        self._doubted_ms = self._clock.time_ms()
        for name in self._cache.names():
            self._cache.invalidate(name, self._clock.monotonic())

    # --- within ----------------------------------------------------------------------------------------------------

    def _landed(self, name: str) -> tuple[Entry[Answer], bool]:
        now = self._clock.monotonic()
        entry = self._cache.peek(name)
        if entry is not None and now < entry.fresh_until:
            return self._positive(entry), False
        if entry is not None and entry.value is not None and self._may_serve(entry):
            return entry, True
        raise self._failure(name, 0.0)

    @staticmethod
    def _positive(entry: Entry[Answer]) -> Entry[Answer]:
        if entry.value is None:
            raise unknown(entry.name)
        return entry

    def _may_serve(self, entry: Entry[Answer]) -> bool:
        """Say whether an old answer may be served; one that is revoked is forgotten."""
        if self._clock.monotonic() >= entry.dead_at or entry.value is None:
            return False
        if self._is_revoked(entry.value):
            self._cache.revoke(entry.name)
            if self._memory is not None:
                self._memory.forget(entry.name)
            return False
        return True

    def _is_revoked(self, answer: Answer) -> bool:
        source = self._asker.source(answer.registry)
        # A registry that was removed is believed no longer.
        return source is None or (answer.record is not None and not source.holds(answer.record))

    def _failure(self, name: str, wait: float) -> OsirisError:
        verdict = self._why.get(name)
        steps = verdict.why if verdict is not None else ()
        said = "; ".join(f"{step.registry}: {step.why}" for step in steps[:4]) or "no registry is there to be asked"
        return Unavailable(
            f"what {name} is can't be found out now: {said}",
            fix="see: osiris-mesh registry list",
            name=name,
            maybe=False,
            retry_after_ms=int(wait * 1000),
            why=[step.to_json() for step in steps],
        )

    def _take_off(self, name: str, *, anew: bool = False) -> asyncio.Task[None]:
        """Begin a question the cache counts as begun; the one under way, if its answer was settled just now."""
        under_way = self._flights.get(name)
        if under_way is not None and not under_way.done():
            return under_way
        if self._closed or len(self._flights) >= _PER_SLOT * self._settings.queries:
            self._cache.given_up(name)
            raise Overloaded(
                f"{len(self._flights)} names are being asked for already", fix="ask again soon", retry_after_ms=500
            )
        flight = asyncio.get_running_loop().create_task(self._question(name, anew=anew), name=f"resolve {name}")
        self._flights[name] = flight
        flight.add_done_callback(lambda done: self._over(name, done))
        return flight

    def _over(self, name: str, flight: asyncio.Task[None]) -> None:
        # One that has ended may have been followed by another before this is called.
        if self._flights.get(name) is flight:
            del self._flights[name]
            self._cache.given_up(name)
        if not flight.cancelled() and (error := flight.exception()) is not None:
            _log.error("question_failed", extra={"function": name}, exc_info=error)

    async def _question(self, name: str, *, anew: bool) -> None:
        """Find out what a name is: from disk, from peers, from registries."""
        async with self._slots:
            entry = self._cache.peek(name)
            if entry is None:
                entry = await self._recall(name)
                if entry is not None and not anew and self._clock.monotonic() < entry.fresh_until:
                    return
            before = entry.value if entry is not None else None
            verdict = None if anew else await self._ask_peers(name, before)
            if verdict is not None:
                self._settle(name, verdict, Tier.REGIONAL)
                return
            verdict, back = await self._asker.ask(name, before)
            if back:
                self._cache.retry_all()
            self._settle(name, verdict, Tier.GLOBAL)

    async def _ask_peers(self, name: str, before: Answer | None) -> Verdict | None:
        if self._neighbours is None:
            return None
        order = self._asker.federation.order(name)
        deadline = self._clock.monotonic() + self._settings.peers_s
        answer: Answer | None = None
        with contextlib.suppress(TimeoutError, OsirisError):
            async with asyncio.timeout(self._settings.peers_s):
                answer = await self._neighbours.ask(name, order, deadline=deadline)
        # A peer's answer counts only in the name of the registry that would have the last word here.
        if answer is None or answer.record is None or not order or answer.registry != order[0]:
            return None
        left = min(_ttl(answer.record), self._settings.regional_ttl_s) - answer.age_ms / 1000
        older = before is not None and before.record is not None and before.record.sequence > answer.record.sequence
        if left <= 0 or answer.stale or older:
            return None
        verdict = self._asker.judge(name, [answer], before)
        return verdict if verdict.answer is not None else None

    def _settle(self, name: str, verdict: Verdict, tier: Tier) -> None:
        now, now_ms = self._clock.monotonic(), self._clock.time_ms()
        self._why.pop(name, None)
        while len(self._why) >= self._settings.cached:
            del self._why[next(iter(self._why))]
        self._why[name] = verdict
        for found in verdict.evidence:
            if found not in self._evidence:
                _log.error("registries_contradict", extra={"function": name, "registry": found.registry})
                self._evidence = [*self._evidence, found][-_MAX_EVIDENCE:]
        answer = verdict.answer
        if verdict.missing:
            self._cache.missing(name, now, source="")
        elif answer is None or answer.record is None:
            self._cache.failed(name, now)
        else:
            if self._memory is not None and answer.lines:
                said_ms = now_ms - answer.age_ms
                self._memory.put(Kept(name, answer.registry, said_ms, verdict.stale, answer.lines))
            self._keep(name, replace(answer, lines=b""), now, now_ms, tier=tier, believed=not verdict.stale, ends=True)

    def _keep(
        self, name: str, answer: Answer, now: float, now_ms: int, *, tier: Tier, believed: bool, ends: bool
    ) -> Entry[Answer]:
        record = answer.record
        assert record is not None  # noqa: S101 - asked for by every caller
        ends_ms = [bound.binding.valid_until_ms for bound in record.versions.values()]
        valid = math.inf if not ends_ms or 0 in ends_ms else (max(ends_ms) - now_ms) / 1000
        return self._cache.found(
            name,
            answer,
            now,
            source=f"peer {answer.registry}" if tier is Tier.REGIONAL else answer.registry,
            tier=tier,
            scope=_scope(record),
            ttl=_ttl(record),
            age=answer.age_ms / 1000,
            valid=valid,
            believed=believed,
            ends=ends,
        )

    async def _recall_within(self, name: str, deadline: float) -> Entry[Answer] | None:
        try:
            async with asyncio.timeout(max(deadline - MARGIN_S - self._clock.monotonic(), 0.0)):
                return await self._recall(name)
        except TimeoutError:
            return None

    async def _recall(self, name: str) -> Entry[Answer] | None:
        """Take what was kept of a name from the disk into the cache."""
        if self._memory is None or name not in self._memory:
            return None
        try:
            kept = await self._memory.get(name)
            if kept is None:
                return None
            record, chain, signers = record_of(name, kept.data)
        except OsirisError as error:
            _log.warning("history_damaged", extra={"function": name, "error": str(error)})
            return None
        already = self._cache.peek(name)
        if already is not None:
            return already
        now, now_ms = self._clock.monotonic(), self._clock.time_ms()
        answer = Answer(kept.registry, record, None, kept.stale, max(now_ms - kept.said_ms, 0), chain, b"", signers)
        if self._is_revoked(answer):
            self._memory.forget(name)
            return None
        believed = not kept.stale and name not in self._doubted and kept.said_ms > self._doubted_ms
        self._doubted.discard(name)
        return self._keep(name, answer, now, now_ms, tier=Tier.LOCAL, believed=believed, ends=False)


def _newest(record: Record) -> Binding | None:
    return max((bound.binding for bound in record.versions.values()), key=lambda said: said.sequence, default=None)


def _ttl(record: Record) -> float:
    newest = _newest(record)
    return float(newest.ttl_s) if newest is not None else 60.0


def _scope(record: Record) -> Tier:
    newest = _newest(record)
    return _SCOPES[newest.scope] if newest is not None else Tier.LOCAL


def unknown(name: str) -> NotFound:
    """Return the error for a name nobody knows."""
    return NotFound(f"no function is called {name}, here or in any registry", fix="see: osiris-mesh list", name=name)


def _late(name: str) -> DeadlineExceeded:
    return DeadlineExceeded(f"no registry said what {name} is in time", fix="ask with a later deadline", name=name)
