"""Readings of a node on which everything happens, and the names metrics export from them."""

from __future__ import annotations

from prometheus_client.parser import text_string_to_metric_families

from osiris_mesh.gateway.events import EVENTS
from osiris_mesh.gateway.readings import Demand, Readings, RegistryReading
from osiris_mesh.gossip.load import Load
from osiris_mesh.invoke.meter import Meter


def full(functions: int = 3) -> Readings:
    meter = Meter(limit=10_000)
    for number in range(functions):
        name = f"default/f{number}"
        meter.end(meter.begin(name), 0.0007, ok=True)
        meter.end(meter.begin(name), 70.0, ok=True)
        meter.end(meter.begin(name), 0.1, ok=False)
        meter.begin(name)
    return Readings(
        peer="12D3KooWMe",
        node="n1",
        version="1.2.3",
        calls=meter.tallies,
        demand={f"default/f{number}": Demand(2, 1, 3, 4) for number in range(functions)},
        in_flight=5,
        refused=6,
        load=Load(0.25, 100, 200, 300),
        members={"alive": 3, "dead": 1},
        functions=functions,
        height=12,
        entries=34,
        lag=2,
        quorum=True,
        leads=True,
        voters=3,
        term=4,
        raft={"commit": 20, "applied": 19, "last": 21},
        links=2,
        gossip={"strangers": 1, "ill_health": 2, "queued": 3},
        events=dict.fromkeys(EVENTS, 1),
        readers=1,
        firing={"error-rate": 2},
        webhooks={("ops", "delivered"): 7, ("ops", "failed"): 0},
        webhook_queue={"ops": 1},
        registries={"team": RegistryReading(40, up=True, failures=2, refused=3), "gone": RegistryReading()},
        provider_calls={"answered": 8, "failed": 1},
        resolves={("cache", "ok"): 9, ("registry", "unknown"): 1},
    )


def samples(text: bytes) -> dict[str, set[str]]:
    """Return the sample names of a scrape and the labels each bears."""
    found: dict[str, set[str]] = {}
    for family in text_string_to_metric_families(text.decode()):
        for sample in family.samples:
            found.setdefault(sample.name, set()).update(sample.labels)
    return found


def families(text: bytes) -> dict[str, tuple[str, str]]:
    """Return kind and help of each family, by the name its samples bear (a counter's ends in ``_total``)."""
    found = {}
    helps: dict[str, str] = {}
    for line in text.decode().splitlines():
        if line.startswith("# HELP "):
            _, _, name, words = line.split(" ", 3)
            helps[name] = words
        elif line.startswith("# TYPE "):
            _, _, name, kind = line.split(" ")
            found[name] = (kind, helps[name])
    return found
