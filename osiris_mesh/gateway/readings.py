"""What a node can say of itself at one moment: what metrics are made of and alert rules look at. A core."""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

from osiris_mesh.gossip.load import Load
from osiris_mesh.invoke.meter import Tally

__all__ = ["Demand", "Rates", "Readings", "RegistryReading", "figures"]

WINDOW_SECONDS: Final = 60.0
"""Over which rates are taken."""
_FEWEST_CALLS: Final = 5


@dataclass(frozen=True, slots=True)
class Demand:
    """What runs of one function on this node, all its versions together.

    Attributes:
        instances: Warm instances.
        in_flight: Calls they work on.
        queued: Calls that wait for one.
        refused: Calls refused because too many waited, since the start.
    """

    instances: int = 0
    in_flight: int = 0
    queued: int = 0
    refused: int = 0


@dataclass(frozen=True, slots=True)
class RegistryReading:
    """One registry this node asks.

    Attributes:
        names: Names in it that are believed.
        up: The last fetch went well.
        failures: Fetches that failed, since the start.
        refused: Things it said that were refused, since the start.
    """

    names: int = 0
    up: bool = False
    failures: int = 0
    refused: int = 0


@dataclass(frozen=True, slots=True)
class Readings:
    """One moment of a node.

    Attributes:
        peer: Its peer id.
        node: Its name.
        version: Of the software.
        calls: Tallies of calls that came to this node, by function; read, never changed.
        forgotten: Those of functions the meter let go of, together.
        demand: What runs here, by function.
        in_flight: Calls this node works on, forwarded ones included.
        refused: Calls it refused because it had too much under way.
        load: Its resources; None before the first sample.
        members: Members by state: alive, suspect, dead, left, unknown.
        functions: Functions in the ledger.
        height: Height of its newest block.
        entries: Entries in its ledger.
        lag: Blocks it is behind.
        quorum: Writes can succeed, as far as it knows.
        leads: It leads.
        voters: Voters in force, as far as it knows.
        term: Raft term.
        raft: Indexes of its log: ``commit``, ``applied``, ``last``.
        links: Members it has a link to.
        gossip: Counters of gossip.
        events: Events published, by name.
        readers: Readers of events.
        firing: Subjects for which an alert fires, by alert.
        webhooks: Deliveries by webhook and outcome.
        webhook_queue: Deliveries that wait, by webhook.
        registries: The registries it asks, by name.
        provider_calls: Calls of providers, by outcome.
        resolves: Names looked up for calls beyond the mesh, by source and outcome.
    """

    peer: str
    node: str
    version: str
    calls: Mapping[str, Tally] = field(default_factory=dict)
    forgotten: Tally = field(default_factory=Tally)
    demand: Mapping[str, Demand] = field(default_factory=dict)
    in_flight: int = 0
    refused: int = 0
    load: Load | None = None
    members: Mapping[str, int] = field(default_factory=dict)
    functions: int = 0
    height: int = 0
    entries: int = 0
    lag: int = 0
    quorum: bool = False
    leads: bool = False
    voters: int = 0
    term: int = 0
    raft: Mapping[str, int] = field(default_factory=dict)
    links: int = 0
    gossip: Mapping[str, int] = field(default_factory=dict)
    events: Mapping[str, int] = field(default_factory=dict)
    readers: int = 0
    firing: Mapping[str, int] = field(default_factory=dict)
    webhooks: Mapping[tuple[str, str], int] = field(default_factory=dict)
    webhook_queue: Mapping[str, int] = field(default_factory=dict)
    registries: Mapping[str, RegistryReading] = field(default_factory=dict)
    provider_calls: Mapping[str, int] = field(default_factory=dict)
    resolves: Mapping[tuple[str, str], int] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class _Count:
    calls: int
    errors: int
    seconds: float


class Rates:
    """What the counters of functions became in the last minute. Keeps one sample a look."""

    def __init__(self) -> None:
        self._samples: deque[tuple[float, dict[str, _Count]]] = deque()

    def look(self, calls: Mapping[str, Tally], now: float) -> dict[str, dict[str, float]]:
        """Take in the counters and return error rate, calls a second and mean milliseconds, by figure and function."""
        samples = self._samples
        counts = {name: _Count(tally.calls, tally.errors, tally.seconds) for name, tally in calls.items()}
        # The oldest sample kept is the newest of those at least a window old: the window is never shorter than it says.
        while len(samples) > 1 and now - samples[1][0] >= WINDOW_SECONDS:
            samples.popleft()
        values: dict[str, dict[str, float]] = {
            "function.error_rate": {},
            "function.calls_per_s": {},
            "function.mean_ms": {},
        }
        if samples:
            since, before = samples[0]
            for name, count in counts.items():
                _rate(name, before.get(name, _Count(0, 0, 0.0)), count, now - since, values)
        samples.append((now, counts))
        return values


def _rate(name: str, before: _Count, count: _Count, seconds: float, values: dict[str, dict[str, float]]) -> None:
    if count.calls < before.calls:
        # The meter forgot the function in between and counts it anew.
        before = _Count(0, 0, 0.0)
    calls, errors = count.calls - before.calls, count.errors - before.errors
    if calls <= 0 or seconds <= 0:
        return
    values["function.calls_per_s"][name] = calls / seconds
    if calls >= _FEWEST_CALLS:
        values["function.error_rate"][name] = errors / calls
    values["function.mean_ms"][name] = (count.seconds - before.seconds) * 1000 / calls


def figures(readings: Readings, rates: Mapping[str, Mapping[str, float]]) -> dict[str, Mapping[str, float]]:
    """Return the value of every figure of :data:`osiris_mesh.gateway.alerts.FIGURES` that has one now."""
    values: dict[str, Mapping[str, float]] = dict(rates)
    values["queue.depth"] = {name: float(demand.queued) for name, demand in readings.demand.items()}
    values["members.dead"] = {"": float(readings.members.get("dead", 0))}
    values["ledger.lag"] = {"": float(readings.lag)}
    load = readings.load
    if load is not None:
        values["node.cpu"] = {"": load.cpu}
        values["node.memory"] = {"": load.memory}
        values["node.disk_free"] = {"": float(load.disk_free)}
    return values
