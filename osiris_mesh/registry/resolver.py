"""From a name to a version and those who answer it: this mesh, what is cached, the region, registries. A shell.

:meth:`Resolver.resolve_now` is the hot path: no await, no lock, a few dictionary look-ups, the security context and the
order of providers included. It answers what is fresh and nothing else; :meth:`Resolver.resolve` answers everything, in
time or with an error. One question a name is under way at a time, and nobody's deadline ends it for the others.
"""

from __future__ import annotations

import asyncio
import logging
import math
import random
from collections.abc import Callable
from types import TracebackType
from typing import Final, Literal, Self

from osiris_mesh.clock import SYSTEM, Clock
from osiris_mesh.errors import OsirisError
from osiris_mesh.function.name import Version
from osiris_mesh.function.reference import Reference, reference
from osiris_mesh.function.spec import FunctionSpec
from osiris_mesh.registry.asking import Asker
from osiris_mesh.registry.cache import Entry, Tier
from osiris_mesh.registry.context import FULL, Context, may_call
from osiris_mesh.registry.federation import Answer, Step
from osiris_mesh.registry.memory import Kept, Memory
from osiris_mesh.registry.placements import Placements
from osiris_mesh.registry.questions import MARGIN_S, Neighbours, Questions, unknown
from osiris_mesh.registry.record import Provider
from osiris_mesh.registry.resolution import LOCAL, LocalFunctions, Ready, Resolution, allowed, find_local
from osiris_mesh.registry.selection import Chooser, Key, Ranking, Standings, custom, key_of, rank
from osiris_mesh.registry.versions import meant, valid_until_ms
from osiris_mesh.settings.registry import Policy, RegistrySettings

__all__ = ["Resolver"]

_log = logging.getLogger("osiris.registry")
_SCOPES: Final = {"local": Tier.LOCAL, "regional": Tier.REGIONAL, "global": Tier.GLOBAL}
_RANKED_S: Final = 0.25
"""For so long an order of providers is used without looking at measurements again."""
_MAX_READY: Final = 8192
_NO_STEPS: Final[tuple[Step, ...]] = ()


class Resolver:
    """Resolves names. Belongs to one loop.

    Attributes:
        questions: What is known of names, and news about them.

    Args:
        local: The functions of this mesh.
        asker: Asks the registries.
        settings: Times and bounds.
        standings: What is known of providers.
        placements: Where they answer now.
        memory: What survives a restart; None: nothing does.
        neighbours: Peers of our region; None: there are none.
        chooser: The function that orders providers, for the policy ``custom``.
        policy: Which provider is tried first, as it is now; empty, or None: the settings' own.
        clock: Time.
        rng: Jitter and turns.
    """

    def __init__(
        self,
        local: LocalFunctions,
        asker: Asker,
        *,
        settings: RegistrySettings,
        standings: Standings,
        placements: Placements,
        memory: Memory | None = None,
        neighbours: Neighbours | None = None,
        chooser: Chooser | None = None,
        policy: Callable[[], Policy | Literal[""]] | None = None,
        clock: Clock = SYSTEM,
        rng: random.Random | None = None,
    ) -> None:
        self._local = local
        self._asker = asker
        self._settings = settings
        self._standings = standings
        self._placements = placements
        self._memory = memory
        self._neighbours = neighbours
        self._chooser = chooser
        self._policy = policy
        self._clock = clock
        self._rng = rng or random.Random()  # noqa: S311 - it spreads load; nothing secret depends on it
        self.questions = Questions(
            asker, settings=settings, memory=memory, neighbours=neighbours, clock=clock, rng=self._rng
        )
        self._ready: dict[str, Ready] = {}
        self._specs: dict[str, tuple[FunctionSpec, Resolution]] = {}

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    async def close(self) -> None:
        """End all questions; the memory is the caller's to close."""
        await self.questions.close()

    # --- resolving -------------------------------------------------------------------------------------------------

    def resolve_now(self, text: str, now: float, context: Context = FULL) -> Resolution | None:
        """Return what a reference comes to, if that is known and fresh; None: use :meth:`resolve`. Never waits.

        Args:
            text: Name, with or without ``@version``.
            now: Monotonic seconds.
            context: What the caller may reach.

        Raises:
            UsageError: Not a reference.
            Denied: The context does not allow it; the rule is in the details.
        """
        ready = self._ready.get(text)
        if ready is None:
            return self._first(text, now, context)
        wanted = ready.wanted
        if wanted.is_active:
            if self._local.active(wanted.name) is not None:
                return self._first(text, now, context)
        elif not wanted.label and find_local(self._local, wanted) is not None:
            return self._first(text, now, context)
        entry = ready.entry
        if now >= entry.fresh_until or now >= ready.until:
            del self._ready[text]
            return self._first(text, now, context)
        if now >= entry.ahead_at:
            self.questions.ahead(entry.name, now)
        entry.used = True
        known = ready.orders.get(id(context))
        if known is not None and now < known[2] and known[3] == self._standings.generation:
            return ready.resolution(known[1].next(self._rng), now)
        ranking = self._rank(ready, now, context)
        return None if ranking is None else ready.resolution(ranking.next(self._rng), now)

    async def resolve(
        self, text: str, *, deadline: float, context: Context = FULL, explain: bool = False
    ) -> Resolution:
        """Return what a reference comes to.

        Args:
            text: Name, with or without ``@version``.
            deadline: Monotonic seconds by which there is an answer or an error.
            context: What the caller may reach.
            explain: Ask the registries anew, whatever is cached, and say who said what.

        Raises:
            UsageError: Not a reference.
            NotFound: No registry knows the name, or no version is meant.
            Denied: The context does not allow it.
            Unavailable: No registry gave a usable answer, and nothing is known from before.
            DeadlineExceeded: There was no answer in time.
            Overloaded: Too many questions are under way.
        """
        now = self._clock.monotonic()
        if not explain:
            found = self.resolve_now(text, now, context)
            if found is not None:
                return found
        wanted = reference(text)
        spec = find_local(self._local, wanted)
        if spec is not None:
            why = (Step(LOCAL, f"version {spec.version}", "holds", "functions of this mesh come first"),)
            return self._of_spec(text, spec, context, why if explain else _NO_STEPS)
        steps = _NO_STEPS
        if explain:
            entry, stale, steps = await self.questions.ask_anew(wanted.name, deadline)
        else:
            entry, stale = await self.questions.entry(wanted.name, deadline)
        ready = self._make(text, wanted, entry, self._clock.monotonic())
        order = await self._order(ready, context, deadline)
        return ready.resolution(order, self._clock.monotonic(), stale=stale, why=steps)

    def names(self, pattern: str, limit: int) -> list[str]:
        """Return names known from this or an earlier run that a pattern fits; does not block.

        Raises:
            UsageError: Not a pattern.
        """
        return [] if self._memory is None else self._memory.names(pattern, limit)

    async def held(self, name: str) -> Kept | None:
        """Return the history this node holds of a full name, for peers; None: nothing it may pass on."""
        return await self.questions.held(name)

    def providers_in_use(self) -> list[Provider]:
        """Return the providers of what was resolved lately and is fresh, each once."""
        now, now_ms = self._clock.monotonic(), self._clock.time_ms()
        found: dict[Key, Provider] = {}
        for ready in list(self._ready.values()):
            if now < ready.entry.fresh_until and ready.entry.used:
                for provider in ready.bound.providers:
                    placed, *_ = self._placements.of(provider, now_ms)
                    found[key_of(placed)] = placed
        return list(found.values())

    # --- the hot path's slower half --------------------------------------------------------------------------------

    def _first(self, text: str, now: float, context: Context) -> Resolution | None:
        """Answer the first call of a reference, and every call of a function of this mesh."""
        wanted = reference(text)
        spec = find_local(self._local, wanted)
        if spec is not None:
            return self._of_spec(text, spec, context, _NO_STEPS)
        entry = self.questions.peek(wanted.name)
        if entry is None or now >= entry.fresh_until:
            return None
        if entry.value is None:
            raise unknown(wanted.name)
        if now >= entry.ahead_at:
            self.questions.ahead(wanted.name, now)
        ready = self._make(text, wanted, entry, now)
        ranking = self._rank(ready, now, context)
        return None if ranking is None else ready.resolution(ranking.next(self._rng), now)

    def _of_spec(self, text: str, spec: FunctionSpec, context: Context, why: tuple[Step, ...]) -> Resolution:
        if context is not FULL:
            refusal = may_call(context, spec.name)
            if refusal is not None:
                raise refusal.error()
        known = self._specs.get(text)
        if known is not None and known[0] is spec and not why:
            return known[1]
        found = Resolution(spec.name, Version.parse(spec.version), (), LOCAL, spec=spec, why=why)
        if not why:
            if len(self._specs) >= _MAX_READY:
                self._specs.clear()
            self._specs[text] = (spec, found)
        return found

    def _make(self, text: str, wanted: Reference, entry: Entry[Answer], now: float) -> Ready:
        answer = entry.value
        if answer is None or answer.record is None:
            raise unknown(wanted.name)
        now_ms = self._clock.time_ms()
        version = meant(answer.record, wanted, now_ms)
        changes_ms = valid_until_ms(answer.record, now_ms)
        until = now + (changes_ms - now_ms) / 1000 if changes_ms else math.inf
        ready = Ready(wanted, entry, answer.record, answer.record.versions[version], version, until)
        if now < entry.fresh_until:
            if len(self._ready) >= _MAX_READY:
                self._ready.clear()
            self._ready[text] = ready
        return ready

    def _may_ask(self, ready: Ready, context: Context) -> tuple[list[Provider], float]:
        """Return the providers a context allows, where they answer now, and until when that holds."""
        bound = ready.bound
        kept = allowed(context, ready.wanted.name, bound.binding.requirements, bound.providers)
        now_ms = self._clock.time_ms()
        placed: list[Provider] = []
        for provider in kept:
            moved, state, left_ms = self._placements.of(provider, now_ms)
            if moved is not provider:
                # It moved by its own word; where to is checked like where it was.
                if may_call(context, ready.wanted.name, bound.binding.requirements, moved) is not None:
                    moved = provider
                self._standings.said(key_of(moved), state, self._clock.monotonic() + left_ms / 1000)
            placed.append(moved)
        return placed, self._clock.monotonic() + _RANKED_S

    def _policy_now(self) -> Policy:
        return (self._policy() if self._policy is not None else "") or self._settings.policy

    def _rank(self, ready: Ready, now: float, context: Context) -> Ranking | None:
        """Return the order of providers for a context, worked out anew; None: a function of the mesh has to say it."""
        if self._chooser is not None and self._policy_now() == "custom" and ready.bound.providers:
            return None
        placed, until = self._may_ask(ready, context)
        before = ready.orders.get(id(context))
        rotation = before[1].rotation if before is not None else None
        ranking = rank(placed, self._policy_now(), self._standings, self._rng, now=now, rotation=rotation)
        ready.remember(context, ranking, until, self._standings.generation)
        return ranking

    async def _order(self, ready: Ready, context: Context, deadline: float) -> tuple[Provider, ...]:
        now = self._clock.monotonic()
        ranking = self._rank(ready, now, context)
        if ranking is not None:
            return ranking.next(self._rng)
        placed, _ = self._may_ask(ready, context)
        chosen = rank(placed, "custom", self._standings, self._rng, now=now)
        if self._chooser is not None and len(placed) > 1:
            until = min(deadline - MARGIN_S, now + self._settings.chooser_s)
            known = [self._standings.standing(provider, now) for provider in placed]
            try:
                async with asyncio.timeout(max(until - now, 0.0)):
                    ids = list(await self._chooser.order(ready.wanted.name, known, deadline=until))
                order = custom(placed, lambda _known: ids, self._standings, now=now)
                chosen = Ranking((tuple(order),))
            except (TimeoutError, OsirisError) as error:
                _log.warning("chooser_failed", extra={"function": ready.wanted.name, "error": str(error)})
        # So that the function of the mesh is asked now and then, not at every call.
        ready.remember(context, chosen, now + 4 * _RANKED_S, self._standings.generation)
        return chosen.next(self._rng)
