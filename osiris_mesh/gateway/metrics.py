"""``/metrics`` for Prometheus: everything is read when it is scraped, nothing is counted on the path of a call.

Names start with ``osiris_``, units are base units, and labels are bounded: the first 200 functions this node ever
showed keep their own rows, all others stand together as ``other``. docs/metrics.md lists every name.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final

from osiris_mesh.gateway.events import EVENTS
from osiris_mesh.gateway.readings import Demand, Readings
from osiris_mesh.invoke.meter import BOUNDS, Tally

if TYPE_CHECKING:
    from prometheus_client.metrics_core import Metric

__all__ = ["CONTENT_TYPE", "MAX_FUNCTIONS", "OTHER", "Metrics"]

CONTENT_TYPE: Final = "text/plain; version=0.0.4; charset=utf-8"
MAX_FUNCTIONS: Final = 200
"""Functions with rows of their own."""
OTHER: Final = "other"
"""Stands for all other functions; no function's full name is a single word."""
_GAUGES: Final = {"ill_health", "queued"}
_STATES: Final = ("alive", "suspect", "dead", "left", "unknown")


class Metrics:
    """Metrics of one node; a collector in the sense of prometheus_client.

    Args:
        read: Returns the readings of this moment; called once a scrape, on the loop.
    """

    def __init__(self, read: Callable[[], Readings]) -> None:
        self._read = read
        self._named: set[str] = set()

    async def scrape(self, sees: Callable[[str], bool] | None = None) -> tuple[str, bytes]:
        """Return :data:`CONTENT_TYPE` and all metrics in Prometheus' text format.

        Args:
            sees: Says whether a function may have a row of its own, by name; the rest stand in ``other``: sums stay.

        Readings are taken at once, on the loop. The text, 400 KB for 200 functions, is made in a thread, so that calls
        get their turn meanwhile.
        """
        return CONTENT_TYPE, await asyncio.to_thread(_format, list(self.collect(sees)))

    def render(self, sees: Callable[[str], bool] | None = None) -> bytes:
        """Return the same text at once, for those who have no loop."""
        return _format(list(self.collect(sees)))

    def collect(self, sees: Callable[[str], bool] | None = None) -> Iterator[Metric]:
        """Yield what Prometheus is told of this node, from one reading."""
        now = self._read()
        yield from self._calls(now, sees)
        yield from self._demand(now, sees)
        yield from _node(now)
        yield from _mesh(now)
        yield from _spread(now)
        yield from _hooks(now)
        yield from _beyond(now)

    def _label(self, name: str, sees: Callable[[str], bool] | None) -> str:
        """Return the label of a function; once it has one of its own it keeps it, so that no counter goes back."""
        if sees is not None and not sees(name):
            return OTHER
        if name in self._named:
            return name
        if len(self._named) < MAX_FUNCTIONS:
            self._named.add(name)
            return name
        return OTHER

    def _calls(self, now: Readings, sees: Callable[[str], bool] | None) -> Iterator[Metric]:
        from prometheus_client.metrics_core import HistogramMetricFamily  # noqa: PLC0415 - as in _Scrape

        rows: dict[str, Tally] = {}
        for name, tally in (*now.calls.items(), ("", now.forgotten)):
            label = self._label(name, sees) if name else OTHER
            row = rows.setdefault(label, Tally())
            row.add(tally)
            row.in_flight += tally.in_flight
        if not rows[OTHER].calls and len(now.calls) <= len(rows) - 1:
            del rows[OTHER]
        yield _counter(
            "osiris_function_calls",
            "Calls that came to this node and ended, errors included.",
            ["function"],
            {(name,): row.calls for name, row in rows.items()},
        )
        yield _counter(
            "osiris_function_errors",
            "Of these, calls that ended with an error of the function or of the mesh.",
            ["function"],
            {(name,): row.errors for name, row in rows.items()},
        )
        yield _gauge(
            "osiris_function_calls_in_flight",
            "Calls that came to this node and have not ended.",
            ["function"],
            {(name,): row.in_flight for name, row in rows.items()},
        )
        times = HistogramMetricFamily(
            "osiris_function_call_duration_seconds",
            "Time of calls that came to this node and ended, errors included, wherever they ran.",
            labels=["function"],
        )
        for name, row in rows.items():
            times.add_metric([name], _cumulated(row.buckets), row.seconds)
        yield times

    def _demand(self, now: Readings, sees: Callable[[str], bool] | None) -> Iterator[Metric]:
        rows: dict[str, Demand] = {}
        for name, demand in now.demand.items():
            label = self._label(name, sees)
            row = rows.get(label, Demand())
            rows[label] = Demand(
                row.instances + demand.instances,
                row.in_flight + demand.in_flight,
                row.queued + demand.queued,
                row.refused + demand.refused,
            )
        for metric, help_text, field in (
            ("osiris_function_instances", "Warm instances on this node.", "instances"),
            ("osiris_function_running_calls", "Calls instances on this node work on.", "in_flight"),
            ("osiris_function_queued_calls", "Calls that wait for an instance on this node.", "queued"),
        ):
            yield _gauge(metric, help_text, ["function"], {(name,): getattr(row, field) for name, row in rows.items()})
        yield _counter(
            "osiris_function_refused_calls",
            "Calls refused because too many waited for an instance on this node.",
            ["function"],
            {(name,): row.refused for name, row in rows.items()},
        )


class _Scrape:
    """One scrape: what was read on the loop, and what the process says of itself."""

    def __init__(self, found: Sequence[Metric]) -> None:
        self._found = found

    def collect(self) -> Iterator[Metric]:
        from prometheus_client import ProcessCollector  # noqa: PLC0415 - its library takes 30 ms to import

        yield from ProcessCollector(namespace="osiris", registry=None).collect()
        yield from self._found


def _format(found: Sequence[Metric]) -> bytes:
    from prometheus_client.exposition import generate_latest  # noqa: PLC0415 - as above

    return generate_latest(_Scrape(found))


def _node(now: Readings) -> Iterator[Metric]:
    yield _gauge(
        "osiris_node_info",
        "Always 1; the labels say who this is.",
        ["peer_id", "node", "version"],
        {(now.peer, now.node, now.version): 1},
    )
    yield _gauge(
        "osiris_calls_in_flight", "Calls this node works on, forwarded ones included.", [], {(): now.in_flight}
    )
    yield _counter(
        "osiris_calls_refused", "Calls refused because this node had too much under way.", [], {(): now.refused}
    )
    load = now.load
    if load is not None:
        yield _gauge("osiris_node_cpu_ratio", "Share of the machine's processors in use.", [], {(): load.cpu})
        yield _gauge("osiris_node_memory_used_bytes", "Memory of the machine in use.", [], {(): load.memory_used})
        yield _gauge("osiris_node_memory_total_bytes", "Memory of the machine.", [], {(): load.memory_total})
        yield _gauge("osiris_node_disk_free_bytes", "Free space where the node's home lies.", [], {(): load.disk_free})
        yield _gauge("osiris_node_room", "1 if this node takes new instances.", [], {(): int(load.room)})


def _mesh(now: Readings) -> Iterator[Metric]:
    yield _gauge(
        "osiris_mesh_members",
        "Members by state, as this node knows them; clients are unknown.",
        ["state"],
        {(state,): now.members.get(state, 0) for state in _STATES},
    )
    yield _gauge("osiris_mesh_functions", "Functions in the ledger.", [], {(): now.functions})
    yield _gauge("osiris_mesh_quorum", "1 if writes can succeed, as far as this node knows.", [], {(): int(now.quorum)})
    yield _gauge("osiris_mesh_voters", "Voters in force, as far as this node knows.", [], {(): now.voters})
    yield _gauge("osiris_ledger_height", "Height of the newest block here.", [], {(): now.height})
    yield _counter("osiris_ledger_entries", "Entries in the ledger here.", [], {(): now.entries})
    yield _gauge(
        "osiris_ledger_lag_blocks", "Blocks this node is behind the highest any member tells of.", [], {(): now.lag}
    )
    yield _gauge("osiris_raft_leader", "1 if this node leads.", [], {(): int(now.leads)})
    yield _gauge("osiris_raft_term", "Raft's term.", [], {(): now.term})
    yield _gauge(
        "osiris_raft_index",
        "Last entry of this node's Raft log that is committed, applied, or there at all.",
        ["place"],
        {(place,): now.raft.get(place, 0) for place in ("commit", "applied", "last")},
    )


def _spread(now: Readings) -> Iterator[Metric]:
    yield _gauge("osiris_links", "Members this node has a link to.", [], {(): now.links})
    yield _counter(
        "osiris_gossip_dropped",
        "Gossip messages dropped, by reason.",
        ["reason"],
        {(reason,): count for reason, count in now.gossip.items() if reason not in _GAUGES},
    )
    yield _gauge(
        "osiris_gossip_queued_messages", "Gossip messages that wait to be sent.", [], {(): now.gossip.get("queued", 0)}
    )
    yield _gauge(
        "osiris_gossip_ill_health",
        "How badly this node itself does in gossip: 0 is well (Lifeguard's awareness).",
        [],
        {(): now.gossip.get("ill_health", 0)},
    )


def _hooks(now: Readings) -> Iterator[Metric]:
    yield _counter(
        "osiris_events",
        "Events published on this node, by name.",
        ["event"],
        {(name,): now.events.get(name, 0) for name in EVENTS},
    )
    yield _gauge("osiris_event_readers", "Readers that follow events of this node.", [], {(): now.readers})
    yield _gauge(
        "osiris_alerts_firing",
        "Subjects for which an alert rule fires on this node.",
        ["alert"],
        {(alert,): count for alert, count in now.firing.items()},
    )
    yield _counter(
        "osiris_webhook_deliveries",
        "Deliveries of webhooks by this node: delivered, failed, dropped, and tries that had to be repeated.",
        ["webhook", "outcome"],
        {(name, outcome): count for (name, outcome), count in now.webhooks.items()},
    )
    yield _gauge(
        "osiris_webhook_queued_deliveries",
        "Deliveries of webhooks that wait on this node.",
        ["webhook"],
        {(name,): count for name, count in now.webhook_queue.items()},
    )


def _beyond(now: Readings) -> Iterator[Metric]:
    rows = {(name,): row for name, row in now.registries.items()}
    yield _gauge(
        "osiris_registry_up",
        "1 if the last fetch of a registry went well.",
        ["registry"],
        {name: int(row.up) for name, row in rows.items()},
    )
    yield _gauge(
        "osiris_registry_names",
        "Names in a registry that are believed.",
        ["registry"],
        {name: row.names for name, row in rows.items()},
    )
    yield _counter(
        "osiris_registry_fetch_failures",
        "Fetches of a registry that failed.",
        ["registry"],
        {name: row.failures for name, row in rows.items()},
    )
    yield _counter(
        "osiris_registry_refused",
        "Things a registry said that were refused: rollbacks, contradictions, signatures; each time they were said.",
        ["registry"],
        {name: row.refused for name, row in rows.items()},
    )
    yield _counter(
        "osiris_resolve",
        "Names looked up for calls beyond this mesh: local, known and fresh (cache), or asked for (registry).",
        ["source", "outcome"],
        {(source, outcome): count for (source, outcome), count in now.resolves.items()},
    )
    yield _counter(
        "osiris_provider_calls",
        "Calls providers were asked: answered, failed, abandoned, or left_alone by their breaker.",
        ["outcome"],
        {(outcome,): count for outcome, count in now.provider_calls.items()},
    )


def _cumulated(buckets: Iterable[int]) -> list[Any]:
    rows: list[tuple[str, float]] = []
    total = 0
    for bound, count in zip((*map(str, BOUNDS), "+Inf"), buckets, strict=True):
        total += count
        rows.append((bound, float(total)))
    return rows


def _gauge(name: str, text: str, labels: list[str], rows: Mapping[tuple[str, ...], float]) -> Metric:
    from prometheus_client.metrics_core import GaugeMetricFamily  # noqa: PLC0415 - as in _Scrape

    family = GaugeMetricFamily(name, text, labels=labels)
    for row, value in rows.items():
        family.add_metric(list(row), value)
    return family


def _counter(name: str, text: str, labels: list[str], rows: Mapping[tuple[str, ...], float]) -> Metric:
    """Return a counter; the format puts ``_total`` behind its name."""
    from prometheus_client.metrics_core import CounterMetricFamily  # noqa: PLC0415 - as in _Scrape

    family = CounterMetricFamily(name, text, labels=labels)
    for row, value in rows.items():
        family.add_metric(list(row), value)
    return family
