"""Seeded storms: see simulator.py for what is checked. ``OSIRIS_RAFT_SEEDS=100:2000`` runs others."""

from __future__ import annotations

import os

import pytest

from osiris_mesh.raft.request import Change
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


def test_who_was_removed_keeps_quiet() -> None:
    sim = Simulation(5, voters=3, faults=Faults())
    assert sim.run_for(5.0, until=lambda: sim.leader() is not None)
    leader = sim.leader()
    assert leader is not None
    assert leader.engine is not None
    removed = next(peer for peer in sim.hosts if peer != leader.peer)
    # Cut off while it is removed, it can't know; back again, it must not disturb those who stayed.
    sim.cut = {(one, other) for one in sim.hosts for other in sim.hosts if removed in {one, other}}
    sim.ask(leader, Change(sim.clock.monotonic() + 5.0, remove=removed))
    assert sim.run_for(5.0, until=lambda: removed not in sim.voters())
    sim.run_for(3.0)
    term = leader.engine.raft.raftCurrentTerm
    sim.cut.clear()
    sim.run_for(5.0)
    assert sim.leader() is leader
    assert leader.engine.raft.raftCurrentTerm == term


def test_one_of_two_that_is_lost_stops_writes_and_its_return_resumes_them() -> None:
    sim = Simulation(6, voters=2, faults=Faults())
    assert sim.run_for(5.0, until=lambda: sim.leader() is not None)
    leader = sim.leader()
    assert leader is not None
    other = next(host for host in sim.hosts.values() if host is not leader)
    other.crash(losing_power=True)
    waiting = sim.propose(leader, within=30.0)
    assert not sim.run_for(3.0, until=lambda: waiting.command in sim.acknowledged)
    assert leader.engine is not None
    assert not leader.engine.status().quorum
    other.start()
    assert sim.run_for(5.0, until=lambda: waiting.command in sim.acknowledged)
