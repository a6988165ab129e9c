"""Settings of ``osiris_mesh.registry``."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Final, Literal

from osiris_mesh.errors import UsageError

__all__ = ["POLICIES", "Policy", "RegistrySettings"]

Policy = Literal["lowest-cost", "fastest", "highest-availability", "balanced", "custom"]
POLICIES: Final[tuple[Policy, ...]] = ("lowest-cost", "fastest", "highest-availability", "balanced", "custom")


@dataclass(frozen=True, slots=True)
class RegistrySettings:
    """Settings of names: how long answers are believed, what is asked how often, and who is chosen.

    Attributes:
        local_ttl_s: Most seconds this process keeps an answer before it looks again. Longer asks less, and notices
            a new version later.
        regional_ttl_s: Most seconds, since a registry said it, for which an answer of a peer in our region counts.
        global_ttl_s: The same for an answer of a registry's own copy (a clone, a mirror).
        not_found_s: Seconds for which "no registry knows it" is remembered.
        jitter: Share by which every such time is made longer or shorter, so that names do not fall due together.
        refresh_ahead: Share of an answer's time after which using it also asks for a new one, in the background.
        failure_s: Pause after a registry, or a name in all of them, gave no usable answer; doubles each time.
        failure_max_s: Longest such pause.
        stale_after_s: How long a caller waits for a new answer before it gets the old one, marked stale.
        stale_max_s: Age past which an old answer is not served at all.
        lookup_s: Longest time of one question to one registry; a deadline may make it shorter for one caller, and the
            question goes on for the others.
        fetch_s: Seconds between two looks whether a registry has something new, jittered; news from its publisher and
            `registry sync` come at once.
        patience_s: How long the other registries are waited for once one gave a usable answer. Longer lets a slow one
            of higher precedence have its say; shorter answers sooner when one hangs.
        peers_s: Longest time given to the peers of our region, before registries are asked.
        peers_asked: Peers of our region asked about one name at a time.
        cached: Names kept in memory; the one unused for longest goes first. One takes some 6 KiB.
        queries: Questions under way at a time; one more name waits for its turn, bounded by its deadline.
        stored: Names kept on disk for the next start.
        policy: Which provider is tried first.
        chooser: Function of this mesh that puts providers in order when ``policy`` is ``custom``; empty: none.
        chooser_s: Longest time it is given; then the order of ``balanced`` holds.
        breaker_failures: Failures in a row after which a provider is left alone.
        breaker_s: Pause before it is tried again; doubles with each failed try.
        breaker_max_s: Longest such pause.
        half_life_s: Time after which a measurement counts half.
        probe_s: Seconds between two probes of a provider that is in use; jittered by a quarter.
        probe_timeout_s: Longest time of a probe.
        probes: Probes under way at a time.
        providers: Providers remembered with their measurements.
        region: Label of where this node runs; peers with the same are asked before any registry. Empty: no peers.
    """

    local_ttl_s: float = 300.0
    regional_ttl_s: float = 3600.0
    global_ttl_s: float = 86_400.0
    not_found_s: float = 30.0
    jitter: float = 0.1
    refresh_ahead: float = 0.8
    failure_s: float = 5.0
    failure_max_s: float = 300.0
    stale_after_s: float = 1.8
    stale_max_s: float = 30 * 86_400.0
    lookup_s: float = 10.0
    fetch_s: float = 30.0
    patience_s: float = 0.5
    peers_s: float = 0.25
    peers_asked: int = 3
    cached: int = 8192
    queries: int = 256
    stored: int = 1_000_000
    policy: Policy = "balanced"
    chooser: str = ""
    chooser_s: float = 0.5
    breaker_failures: int = 3
    breaker_s: float = 5.0
    breaker_max_s: float = 300.0
    half_life_s: float = 60.0
    probe_s: float = 30.0
    probe_timeout_s: float = 3.0
    probes: int = 8
    providers: int = 4096
    region: str = ""

    def __post_init__(self) -> None:
        for item in fields(self):
            value = getattr(self, item.name)
            if isinstance(value, (int, float)) and value <= 0:
                raise UsageError(f"registry.{item.name} is {value}, not above zero")
        if self.jitter >= 1 or self.refresh_ahead >= 1:
            raise UsageError("registry.jitter and registry.refresh_ahead are shares below 1")
        if self.policy not in POLICIES:
            raise UsageError(f"registry.policy is {self.policy!r}", fix=f"choose one of {', '.join(POLICIES)}")
        if (self.policy == "custom") != bool(self.chooser):
            raise UsageError(
                "registry.chooser and the policy custom belong together",
                fix="name the function that puts providers in order, or choose another policy",
            )
        if not self.local_ttl_s <= self.regional_ttl_s <= self.global_ttl_s:
            raise UsageError("registry.local_ttl_s is at most regional_ttl_s, and that at most global_ttl_s")
        for short, long in (("failure_s", "failure_max_s"), ("breaker_s", "breaker_max_s")):
            if getattr(self, short) > getattr(self, long):
                raise UsageError(f"registry.{short} is more than registry.{long}")

    @classmethod
    def preset(cls, name: str) -> RegistrySettings:
        """Return the section of a preset (one of :data:`osiris_mesh.settings.PRESETS`).

        ``wan``: registries and peers are far away. ``test``: what fails is tried again at once.
        """
        if name == "wan":
            return cls(patience_s=1.5, peers_s=0.75, probe_timeout_s=5.0)
        if name == "test":
            return cls(failure_s=0.2, failure_max_s=2.0, breaker_s=0.2, breaker_max_s=2.0, probe_s=1.0)
        return cls()
