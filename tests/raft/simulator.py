"""Many voters in one thread: fake time, a hostile network, disks that lose what was not synced, one seed.

The checks are Raft's own (paper, figure 3) and what our callers are promised:

    election safety          one leader a term
    log matching             same index and term in two logs: the same up to there
    leader completeness      a leader's log holds everything committed before
    state machine safety     every owner was given the same commands in the same order, without gaps, each once
    durability               what was acknowledged is committed under its (term, index), for ever
    definite refusals        what was surely not done never is
    linearizable reads       a read's index is not before anything acknowledged when it was asked for
"""

from __future__ import annotations

import heapq
import random
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from typing import Any

from osiris_mesh.clock import FakeClock
from osiris_mesh.errors import OsirisError
from osiris_mesh.raft.engine import Engine
from osiris_mesh.raft.message import decode, encode
from osiris_mesh.raft.overrides import LEADER
from osiris_mesh.raft.request import Change, Proposal, Read, Transfer
from osiris_mesh.raft.status import Committed
from osiris_mesh.settings import RaftSettings

SETTINGS = replace(RaftSettings.preset("test"), compact_entries=40, keep_entries=8, flight_messages=4)


class MemoryStorage:
    """A disk; :meth:`power_loss` takes away what was not synced, or leaves a torn part of it."""

    def __init__(self) -> None:
        self.durable: bytes | None = None
        self.written = b""

    def load(self) -> bytes | None:
        return self.durable

    def append(self, data: bytes) -> None:
        self.written += data

    def sync(self) -> None:
        self.durable = (self.durable or b"") + self.written
        self.written = b""

    def replace(self, data: bytes) -> None:
        self.durable, self.written = data, b""

    def truncate(self, size: int) -> None:
        assert self.durable is not None
        self.durable = self.durable[:size]

    def close(self) -> None:
        pass

    def power_loss(self, rng: random.Random) -> None:
        if self.written and self.durable is not None:
            self.durable += self.written[: rng.randrange(len(self.written))]
        self.written = b""


@dataclass(frozen=True)
class Faults:
    """How bad the network and the nodes are; probabilities per packet or per second."""

    drop: float = 0.0
    duplicate: float = 0.0
    delay: tuple[float, float] = (0.001, 0.01)
    late: float = 0.0  # probability of a delay of up to 1.5 s: reordering across elections
    partitions: float = 0.0
    crashes: float = 0.0
    power_losses: float = 0.0  # crash in the middle of a step, before the sync
    changes: float = 0.0
    transfers: float = 0.0
    campaigns: float = 0.0  # a voter stands for election for no reason, and nobody protects the leader
    unreliable_links: bool = True  # links come and go without notice; else as TCP: in order, with notice


class Host:
    """One node: its disk, its owner's state, and its engine while it runs."""

    def __init__(self, sim: Simulation, peer: str, voters: Iterable[str] | None) -> None:
        self.sim, self.peer = sim, peer
        self.voters = list(voters) if voters is not None else None
        self.storage = MemoryStorage()
        self.given: list[Committed] = []
        self.engine: Engine | None = None
        self.timer: object = None
        self.life = 0

    @property
    def applied(self) -> int:
        return self.given[-1].index if self.given else 0

    def start(self) -> None:
        sim = self.sim
        self.life += 1
        self.engine = Engine(
            peer=self.peer,
            voters=self.voters,
            storage=self.storage,
            settings=sim.settings,
            applied=self.applied,
            clock=sim.clock,
            rng=random.Random(sim.rng.getrandbits(32)),
            take_snapshot=lambda index, _term: None if sim.rng.random() < 0.3 else b"%d" % index,
        )
        for other in sim.hosts.values():
            if other is not self and other.engine is not None:
                self.engine.connect(other.peer)
                other.engine.connect(self.peer)
        self.run()

    def crash(self, *, losing_power: bool) -> None:
        assert self.engine is not None
        self.engine = None
        if losing_power:
            self.storage.power_loss(self.sim.rng)
        else:
            self.storage.sync()
        # The owner may keep less than it was given: it asks again from there on.
        if self.given and self.sim.rng.random() < 0.5:
            del self.given[self.sim.rng.randrange(len(self.given)) :]
        for other in self.sim.hosts.values():
            if other.engine is not None:
                other.engine.disconnect(self.peer)

    def run(self) -> None:
        """One step, with what follows from it."""
        engine = self.engine
        if engine is None:
            return
        if self.sim.faults.power_losses and self.sim.rng.random() < self.sim.faults.power_losses / 2000:
            original = self.storage.sync

            def cut() -> None:
                self.storage.sync = original  # type: ignore[method-assign]
                raise PowerLoss

            self.storage.sync = cut  # type: ignore[method-assign]
        try:
            packets = engine.step()
        except PowerLoss:
            self.crash(losing_power=True)
            self.sim.later(self.sim.rng.uniform(0.05, 0.5), self.start)
            return
        self.storage.__dict__.pop("sync", None)
        for item in engine.handed_over:
            self.sim.handed_over(self, item)
        engine.handed_over = []
        for request in engine.settled:
            self.sim.settled(request)
        engine.settled = []
        for peer, packet in packets:
            self.sim.send(self, peer, packet)
        self.sim.observe(self)
        due = max(engine.next_deadline, self.sim.clock.monotonic()) + 1e-4
        token = self.timer = object()
        self.sim.at(due, lambda: self.run() if self.timer is token else None)


class PowerLoss(Exception):
    """Raised by a disk in the middle of a step."""


class Simulation:
    """All hosts, the network and the checks."""

    def __init__(self, seed: int, voters: int, faults: Faults, settings: RaftSettings = SETTINGS) -> None:
        self.rng = random.Random(seed)
        self.clock = FakeClock(start=1000.0)
        self.faults, self.settings = faults, settings
        self.events: list[tuple[float, int, Callable[[], Any]]] = []
        self.count = 0
        self.steps = 0
        self.hosts: dict[str, Host] = {}
        self.cut: set[tuple[str, str]] = set()
        self.last_sent: dict[tuple[str, str], float] = {}
        self.leaders: dict[int, str] = {}
        self.history: dict[int, Committed] = {}
        self.order: list[int] = []
        self.acknowledged: dict[bytes, tuple[int, int]] = {}
        self.refused: set[bytes] = set()
        self.proposed = 0
        self.reads = 0
        names = [f"p{number}" for number in range(voters)]
        for name in names:
            self.hosts[name] = Host(self, name, names)
        self.spare = len(names)
        for host in self.hosts.values():
            host.start()

    # Time.

    def at(self, when: float, what: Callable[[], Any]) -> None:
        self.count += 1
        heapq.heappush(self.events, (when, self.count, what))

    def later(self, seconds: float, what: Callable[[], Any]) -> None:
        self.at(self.clock.monotonic() + seconds, what)

    def run_for(self, seconds: float, *, until: Callable[[], bool] | None = None) -> bool:
        end = self.clock.monotonic() + seconds
        while self.events and self.events[0][0] <= end:
            when, _, what = heapq.heappop(self.events)
            self.clock.advance(max(0.0, when - self.clock.monotonic()))
            what()
            if until is not None and until():
                return True
        self.clock.advance(end - self.clock.monotonic())
        return until is not None and until()

    # The network.

    def send(self, sender: Host, peer: str, packet: bytes) -> None:
        rng, faults = self.rng, self.faults
        copies = [packet]
        if rng.random() < faults.duplicate:
            # A forwarded command sent twice is committed twice; what carries our packets must not do that.
            again = [message for message in decode(packet) if message["type"] != "apply_command"]
            copies.extend(encode(again))
        for copy in copies:
            if (sender.peer, peer) in self.cut or rng.random() < faults.drop:
                continue
            delay = rng.uniform(*faults.delay)
            if rng.random() < faults.late:
                delay = rng.uniform(0.05, 1.5)
            when = self.clock.monotonic() + delay
            if not faults.unreliable_links:
                when = max(when, self.last_sent.get((sender.peer, peer), 0.0))
                self.last_sent[sender.peer, peer] = when
            self.at(when, lambda copy=copy: self.arrive(sender.peer, peer, copy))

    def arrive(self, sender: str, peer: str, packet: bytes) -> None:
        host = self.hosts.get(peer)
        if host is not None and host.engine is not None:
            host.engine.receive(sender, decode(packet))
            host.run()

    # What happens at random.

    def mischief(self, period: float = 0.05) -> None:
        rng, faults = self.rng, self.faults

        def happens(rate: float) -> bool:
            return rng.random() < rate * period

        running = [host for host in self.hosts.values() if host.engine is not None]
        if happens(faults.partitions):
            self.cut = set()
            names = list(self.hosts)
            for one in names:
                for other in names:
                    if one != other and rng.random() < 0.3:
                        self.cut.add((one, other))
                        if rng.random() < 0.5:
                            self.cut.add((other, one))
            self.later(rng.uniform(0.2, 1.5), self.cut.clear)
        if happens(faults.crashes) and running:
            host = rng.choice(running)
            host.crash(losing_power=rng.random() < 0.5)
            self.later(rng.uniform(0.05, 1.0), lambda: host.start() if host.engine is None else None)
        leaders = [host for host in running if host.engine is not None and host.engine.raft.state == LEADER]
        if running and happens(faults.campaigns):
            engine = rng.choice(running).engine
            if engine is not None and engine.raft.state != LEADER:
                engine.raft._SyncObj__raftElectionDeadline = 0.0
                engine.raft._SyncObj__transferInProgress = True
        if leaders and happens(faults.transfers):
            self.ask(rng.choice(leaders), Transfer(self.clock.monotonic() + 1.0))
        if leaders and happens(faults.changes):
            leader = rng.choice(leaders)
            assert leader.engine is not None
            voters = leader.engine.raft.voters
            outside = [host.peer for host in running if host.peer not in voters]
            if len(voters) >= 5 or (len(voters) > 1 and rng.random() < 0.4):
                self.ask(leader, Change(self.clock.monotonic() + 1.0, remove=rng.choice(voters)))
            elif outside and rng.random() < 0.7:
                self.ask(leader, Change(self.clock.monotonic() + 1.0, add=rng.choice(outside)))
            elif len(self.hosts) < 8:
                newcomer = Host(self, f"p{self.spare}", None)
                self.spare += 1
                self.hosts[newcomer.peer] = newcomer
                newcomer.start()
        self.later(period, lambda: self.mischief(period))

    def load(self, per_second: float) -> None:
        running = [host for host in self.hosts.values() if host.engine is not None]
        if running:
            self.propose(self.rng.choice(running))
            if self.rng.random() < 0.1:
                self.read(self.rng.choice(running))
        self.later(self.rng.expovariate(per_second), lambda: self.load(per_second))

    def propose(self, host: Host, within: float = 1.0) -> Proposal:
        self.proposed += 1
        command = b"%d" % self.proposed
        proposal = Proposal(self.clock.monotonic() + within, command=command)
        self.ask(host, proposal)
        self.later(within, lambda: self.give_up(proposal))
        return proposal

    def read(self, host: Host) -> None:
        newest = max((index for _, index in self.acknowledged.values()), default=0)
        self.ask(host, Read(self.clock.monotonic() + 1.0, owner=newest))

    def give_up(self, proposal: Proposal) -> None:
        """The caller's time ran out, as in the shell."""
        if proposal.outcome is None and proposal.claim():
            self.refused.add(proposal.command)

    def ask(self, host: Host, request: Proposal | Change | Transfer | Read) -> None:
        if host.engine is not None:
            host.engine.submit(request)
            host.run()

    # The checks.

    def handed_over(self, host: Host, item: Any) -> None:
        if not isinstance(item, Committed):
            # The owner pulls the chain up to there from peers.
            assert item.snapshot == b"%d" % item.index
            known = [self.history[index] for index in sorted(self.history) if index <= item.index]
            assert known
            assert known[-1].index == item.index
            assert known[-1].term == item.term
            assert len(known) >= len(host.given), "a snapshot took the owner back"
            host.given = known
            return
        earlier = self.history.setdefault(item.index, item)
        assert earlier == item, f"two histories: {earlier} and {item}"
        assert not host.given or host.given[-1].index < item.index, "handed over twice, or out of order"
        host.given.append(item)

    def settled(self, request: Any) -> None:
        if isinstance(request, Read) and isinstance(request.outcome, int):
            self.reads += 1
            assert request.outcome >= request.owner, "a read missed what was acknowledged before it began"
        if not isinstance(request, Proposal):
            return
        if isinstance(request.outcome, OsirisError):
            if request.outcome.details.get("maybe") is False:
                self.refused.add(request.command)
            return
        self.acknowledged[request.command] = request.outcome

    def observe(self, host: Host) -> None:
        engine = host.engine
        assert engine is not None
        self.steps += 1
        raft, journal = engine.raft, engine.journal
        if raft.state == LEADER:
            term = raft.raftCurrentTerm
            new = term not in self.leaders
            assert self.leaders.setdefault(term, host.peer) == host.peer, f"two leaders in term {term}"
            if new:
                for index, item in self.history.items():
                    if index > journal.base[1]:
                        assert journal.term_at(index) == item.term, "a leader lacks a committed entry"
        assert raft.raftLastApplied <= raft.raftCommitIndex <= raft.last_index

    def check_logs(self) -> None:
        """Log matching, pair by pair, and gaps in what owners were given."""
        running = [host.engine.journal for host in self.hosts.values() if host.engine is not None]
        for one in running:
            for other in running:
                start = max(one.base[1], other.base[1])
                end = min(one[-1][1], other[-1][1])
                agree = [
                    one[index - one.base[1]] == other[index - other.base[1]]
                    if index > start
                    else one.term_at(index) == other.term_at(index)
                    for index in range(start, end + 1)
                    if one.term_at(index) == other.term_at(index)
                ]
                assert all(agree)
                terms = [one.term_at(index) == other.term_at(index) for index in range(start, end + 1)]
                assert terms == sorted(terms, reverse=True), "logs agree again after they parted"
        order = sorted(self.history)
        for host in self.hosts.values():
            assert [item.index for item in host.given] == order[: len(host.given)], f"a gap at {host.peer}"

    def check_acknowledged(self) -> None:
        by_command: dict[bytes, list[tuple[int, int]]] = {}
        for item in self.history.values():
            by_command.setdefault(item.command, []).append((item.term, item.index))
        for command, place in self.acknowledged.items():
            assert place in by_command.get(command, []), f"{command!r} was acknowledged at {place} and is not there"
        for command in self.refused:
            assert command not in by_command, f"{command!r} was surely not done, and is"

    def settle_down(self) -> None:
        """Heal everything; a leader must come, take a command, and bring every voter to the same state."""
        self.faults = Faults()
        self.cut.clear()
        for host in list(self.hosts.values()):
            if host.engine is None:
                host.start()
            for other in self.hosts.values():
                if other is not host and other.engine is not None and host.engine is not None:
                    host.engine.connect(other.peer)
                    other.engine.connect(host.peer)
        assert self.run_for(20.0, until=lambda: self.leader() is not None), "no leader within 20 s of peace"
        for _ in range(20):
            leader = self.leader()
            if leader is None:
                self.run_for(0.5)
                continue
            last = self.propose(leader, within=5.0)
            if self.run_for(5.0, until=lambda last=last: last.command in self.acknowledged):
                break
        else:
            raise AssertionError("nothing was committed in peace")
        voters = self.voters()

        def level() -> bool:
            return all(any(item.command == last.command for item in self.hosts[peer].given) for peer in voters)

        assert self.run_for(10.0, until=level), "a voter did not catch up"
        self.check_logs()
        self.check_acknowledged()

    def leader(self) -> Host | None:
        leading = [host for host in self.hosts.values() if host.engine is not None and host.engine.raft.established]
        return max(leading, key=lambda host: host.engine.raft.raftCurrentTerm if host.engine else 0, default=None)

    def voters(self) -> tuple[str, ...]:
        leader = self.leader()
        assert leader is not None
        assert leader.engine is not None
        return leader.engine.raft.voters
