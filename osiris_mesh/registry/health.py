"""Whether providers answer: probing those in use, telling others, hearing from them. A shell.

Probed is what was resolved lately, each provider every ``probe_s`` jittered, few at a time. What calls show counts the
same (:meth:`Health.answered`, :meth:`Health.failed`), so a provider that is called often needs no probe. A breaker that
opens or closes is told at once; what was seen is told every ten seconds; others' word that one is down makes this node
probe it itself.
"""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import Callable
from functools import partial
from typing import Final, Protocol

from osiris_mesh.clock import Clock
from osiris_mesh.errors import OsirisError
from osiris_mesh.registry.health_news import MAX_NAMES, MAX_SEEN, HealthNews
from osiris_mesh.registry.placements import Placements
from osiris_mesh.registry.record import Provider
from osiris_mesh.registry.reputation import Reputation
from osiris_mesh.registry.resolver import Resolver
from osiris_mesh.registry.selection import Key, Standings, key_of
from osiris_mesh.registry.statement import read
from osiris_mesh.settings.registry import RegistrySettings

__all__ = ["Health", "Prober"]

_log = logging.getLogger("osiris.registry")
_REPORT_S: Final = 10.0
_TICK_S: Final = 0.5
_JITTER: Final = 0.25
_URGENT: Final = 64
_MAX_MEMBERS: Final = 4096
_MAX_HEARD: Final = 4096
_MAX_BYTES: Final = 48_000
"""Names of one message: a message of gossip is 64 KiB at most unless it is set otherwise."""
_AROUND: Final = 16


class Prober(Protocol):
    """Asks a provider whether it is there."""

    async def probe(self, provider: Provider) -> None:
        """Return when it answers.

        Raises:
            OsirisError: It does not.
        """
        ...


class Health:
    """The health of providers. Run :meth:`run`.

    Args:
        resolver: Says which providers are in use; told which names changed.
        standings: What is known of providers.
        reputation: What others say of them.
        placements: Where they answer now.
        prober: Probes.
        publish: Sends a message's body on the topic ``health`` to all members; must not block.
        settings: Periods and bounds.
        clock: Time.
        rng: Jitter.
        on_state: Called with a provider that is left alone from now on (True), or answers again (False).
    """

    def __init__(
        self,
        resolver: Resolver,
        standings: Standings,
        reputation: Reputation,
        placements: Placements,
        *,
        prober: Prober,
        publish: Callable[[bytes], None],
        settings: RegistrySettings,
        clock: Clock,
        rng: random.Random,
        on_state: Callable[[Provider, bool], None] = lambda _provider, _is_down: None,
    ) -> None:
        self._on_state = on_state
        self._resolver = resolver
        self._standings = standings
        self._reputation = reputation
        self._placements = placements
        self._prober = prober
        self._publish = publish
        self._settings = settings
        self._clock = clock
        self._rng = rng
        self._due: dict[Key, float] = {}
        self._urgent: set[tuple[str, str]] = set()
        self._probing: dict[Key, asyncio.Task[None]] = {}
        self._told: dict[str, tuple[float, float]] = {}
        self._regions: dict[str, str] = {}
        self._heard: dict[str, int] = {}
        self._wake = asyncio.Event()

    def near(self) -> list[str]:
        """Return the members that carry our region's label, by peer id; none without a label."""
        mine = self._settings.region
        return [peer for peer, region in self._regions.items() if region == mine] if mine else []

    # --- what calls show -------------------------------------------------------------------------------------------

    def began(self, provider: Provider) -> bool:
        """Note the start of a call; False: do not make it, the breaker leaves the provider alone. Say how it ended."""
        return self._standings.began(provider, self._clock.monotonic())

    def abandoned(self, provider: Provider) -> None:
        """Note that a call ended without saying anything about the provider: the caller gave up, or was wrong."""
        self._standings.abandoned(provider)

    def answered(self, provider: Provider, seconds: float) -> None:
        """Note that a call was answered, with a value or the function's own error."""
        now = self._clock.monotonic()
        self._reputation.saw(_named(provider), 1, 0, now)
        self._due[key_of(provider)] = now + self._pause()
        if self._standings.answered(provider, seconds, now):
            self._tell_state(provider, is_down=False)

    def failed(self, provider: Provider) -> None:
        """Note that a call was not answered."""
        now = self._clock.monotonic()
        self._reputation.saw(_named(provider), 0, 1, now)
        if self._standings.failed(provider, now):
            _log.warning("provider_left_alone", extra={"provider": provider.id, "endpoint": provider.endpoint})
            self._tell_state(provider, is_down=True)

    # --- news ------------------------------------------------------------------------------------------------------

    def on_news(self, origin: str, body: bytes) -> None:
        """Take in a message of the topic ``health``; must not block, and never fails.

        Args:
            origin: Peer id of the member who signed it.
            body: Its bytes.
        """
        try:
            news = HealthNews.from_wire(body)
        except OsirisError as error:
            _log.warning("health_news_refused", extra={"peer": origin, "error": str(error)})
            return
        if news.region and (origin in self._regions or len(self._regions) < _MAX_MEMBERS):
            self._regions[origin] = news.region
        now, now_ms = self._clock.monotonic(), self._clock.time_ms()
        for name, sequence in news.names:
            self._note(name, sequence)
            self._resolver.questions.heard(name, sequence)
        for name, endpoint, ok, failed in news.seen:
            provider = f"{name} {endpoint}"
            if name != origin:
                self._reputation.heard(provider, origin, ok, failed, now)
        for name, endpoint, _is_down in news.down:
            if len(self._urgent) < _URGENT:
                self._urgent.add((name, endpoint))
                self._wake.set()
        for line in news.placed:
            try:
                if self._placements.accept(read(line), now_ms) is not None:
                    self._standings.moved()
            except OsirisError as error:
                _log.warning("placement_refused", extra={"peer": origin, "error": str(error)})

    def gone(self, peer: str) -> None:
        """Forget what somebody said who is no member any more."""
        self._reputation.gone(peer)
        self._regions.pop(peer, None)

    def tell_names(self, names: dict[str, int]) -> None:
        """Tell all members that names have new statements, by full name and sequence; what was told is not repeated."""
        items = [(name, sequence) for name, sequence in names.items() if self._heard.get(name, 0) < sequence]
        for name, sequence in items:
            self._note(name, sequence)
        first = size = 0
        for place, (name, _) in enumerate(items):
            size += len(name.encode()) + _AROUND
            if place - first == MAX_NAMES or size > _MAX_BYTES:
                self._publish(HealthNews(names=tuple(items[first:place])).to_wire())
                first, size = place, len(name.encode()) + _AROUND
        if items:
            self._publish(HealthNews(names=tuple(items[first:])).to_wire())

    def tell_placement(self, line: bytes) -> None:
        """Tell all members a placement, as its provider signed it."""
        self._placements.accept(read(line), self._clock.time_ms())
        self._standings.moved()
        self._publish(HealthNews(placed=(line,)).to_wire())

    def _note(self, name: str, sequence: int) -> None:
        """Remember what all members were told of a name, by whomever: every node sees a change, one need tell it."""
        said = max(sequence, self._heard.pop(name, 0))
        if len(self._heard) >= _MAX_HEARD:
            del self._heard[next(iter(self._heard))]
        self._heard[name] = said

    # --- probing ---------------------------------------------------------------------------------------------------

    async def run(self) -> None:
        """Probe and report until cancelled."""
        report_at = self._clock.monotonic() + _REPORT_S * self._rng.random()
        try:
            while True:
                now = self._clock.monotonic()
                self._probe_due(now)
                if now >= report_at:
                    report_at = now + _REPORT_S
                    self._report(now)
                self._wake.clear()
                try:
                    async with asyncio.timeout(_TICK_S):
                        await self._wake.wait()
                except TimeoutError:
                    continue
        finally:
            probes = list(self._probing.values())
            for probe in probes:
                probe.cancel()
            await asyncio.gather(*probes, return_exceptions=True)

    def _probe_due(self, now: float) -> None:
        used = {key_of(provider): provider for provider in self._resolver.providers_in_use()}
        for key in [key for key in self._due if key not in used]:
            del self._due[key]
        urgent, self._urgent = self._urgent, set()
        for key, provider in used.items():
            # The first probe of a provider waits its turn, so that a start does not probe everything at once.
            due = self._due.setdefault(key, now + self._settings.probe_s * self._rng.random())
            if (now >= due or key[:2] in urgent) and key not in self._probing:
                if len(self._probing) >= self._settings.probes:
                    if key[:2] in urgent:
                        self._urgent.add((key[0], key[1]))
                    continue
                if not self._standings.began(provider, now):
                    continue
                self._due[key] = now + self._pause()
                task = asyncio.get_running_loop().create_task(self._probe(provider), name=f"probe {provider.id}")
                self._probing[key] = task
                task.add_done_callback(partial(self._probed, key))

    def _probed(self, key: Key, _probe: asyncio.Task[None]) -> None:
        self._probing.pop(key, None)
        if self._urgent:
            self._wake.set()

    async def _probe(self, provider: Provider) -> None:
        began = self._clock.monotonic()
        try:
            async with asyncio.timeout(self._settings.probe_timeout_s):
                await self._prober.probe(provider)
        except (TimeoutError, OsirisError):
            self.failed(provider)
        except asyncio.CancelledError:
            self._standings.abandoned(provider)
            raise
        except Exception:  # noqa: BLE001 - a defect in one endpoint must not end the probes of the others
            _log.exception("probe_failed", extra={"provider": provider.id})
            self.failed(provider)
        else:
            self.answered(provider, self._clock.monotonic() - began)

    def _pause(self) -> float:
        return self._settings.probe_s * self._rng.uniform(1 - _JITTER, 1 + _JITTER)

    def _tell_state(self, provider: Provider, *, is_down: bool) -> None:
        self._on_state(provider, is_down)
        self._publish(HealthNews(down=((provider.id, provider.endpoint, is_down),)).to_wire())

    def _report(self, now: float) -> None:
        """Tell what we saw, as far as it changed by a tenth; and let others' word count here."""
        report = self._reputation.report(now)
        said: list[tuple[str, str, float, float]] = []
        for provider, (ok, failed) in report.items():
            before = self._told.get(provider, (0.0, 0.0))
            if abs(ok - before[0]) + abs(failed - before[1]) > 0.1 * (before[0] + before[1]) and len(said) < MAX_SEEN:
                name, _, endpoint = provider.partition(" ")
                said.append((name, endpoint, ok, failed))
                self._told[provider] = (ok, failed)
        self._told = {provider: counts for provider, counts in self._told.items() if provider in report}
        if said or self._settings.region:
            self._publish(HealthNews(seen=tuple(said), region=self._settings.region).to_wire())
        for used in self._resolver.providers_in_use():
            rate, calls, groups = self._reputation.others(_named(used), now)
            if groups:
                self._standings.believed(key_of(used), rate, calls)


def _named(provider: Provider) -> str:
    """Return what reputation knows a provider by: an id alone could be anybody's."""
    return f"{provider.id} {provider.endpoint}"
