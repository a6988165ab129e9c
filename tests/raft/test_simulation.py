"""Seeded storms: see simulator.py for what is checked. ``OSIRIS_RAFT_SEEDS=100:2000`` runs others."""

from __future__ import annotations

import os

import pytest

from tests.raft.simulator import Faults, Simulation

STORMS = {
    "links": Faults(partitions=0.5, crashes=0.4, unreliable_links=False),
    "datagrams": Faults(drop=0.05, duplicate=0.1, late=0.03, partitions=0.3),
    "crashes": Faults(drop=0.01, late=0.01, crashes=1.5, power_losses=10.0, transfers=0.3, campaigns=1.0),
    "elections": Faults(
        drop=0.1, duplicate=0.3, delay=(0.001, 0.04), late=0.1, partitions=1.5, crashes=0.5, campaigns=8.0
    ),
    "members": Faults(
        drop=0.02, duplicate=0.05, late=0.03, partitions=1.0, crashes=0.5, power_losses=2.0, changes=8.0, campaigns=3.0
    ),
}
_first, _, _end = os.environ.get("OSIRIS_RAFT_SEEDS", "0:12").partition(":")


@pytest.mark.parametrize("storm", sorted(STORMS))
@pytest.mark.parametrize("seed", range(int(_first), int(_end)))
def test_storm(seed: int, storm: str) -> None:
    sim = Simulation(
        seed, voters=(1, 2, 3, 5)[seed % 4] if storm == "members" else (3, 5)[seed % 2], faults=STORMS[storm]
    )
    sim.mischief()
    sim.load(per_second=60)
    for _ in range(4):
        sim.run_for(1.0)
        sim.check_logs()
        sim.check_acknowledged()
    sim.settle_down()
    assert len(sim.history) > 0
