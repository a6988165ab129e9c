"""Who is alive: SWIM's failure detector and dissemination as a core without I/O.

Sources: SWIM (Das, Gupta, Motivala, 2002); Lifeguard (Dadgar, Phillips, Currey, 2018); where they leave things open,
hashicorp/memberlist. Departures: members come from the ledger and from nowhere else, so there is no join and nobody is
forgotten; every claim about an incarnation carries the subject's signature of it (message.py).

One member as another sees it::

    state     on                                                   goes to
    UNKNOWN   its own claim of an incarnation, from whomever        ALIVE
    UNKNOWN   probe failed                                          DEAD (told to nobody: there is no incarnation)
    ALIVE     probe failed; or a claim of SUSPECT, same or newer    SUSPECT, timer starts
    SUSPECT   another accuser                                       SUSPECT, timer shortened
    SUSPECT   timer; or a claim of DEAD, same or newer              DEAD
    any       a newer incarnation                                   ALIVE
    any       its own claim of having left, same or newer           LEFT

One probe::

    start          PING to the target
    probe_timeout  PING_REQ to k others, and PING over the link
    period's end   no ACK from anybody: failed

A member that hears itself SUSPECT, DEAD or LEFT refutes: it signs a higher incarnation and spreads that.
"""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Iterable
from dataclasses import replace
from typing import Final

from osiris_mesh.gossip.awareness import Awareness
from osiris_mesh.gossip.broadcast import Broadcasts, retransmissions
from osiris_mesh.gossip.message import MAX_DATAGRAM_UPDATES, Kind, Message, PeerState, Update
from osiris_mesh.gossip.own import Heard, Own
from osiris_mesh.gossip.probing import Probe, Probing, Relay
from osiris_mesh.gossip.suspicion import Suspicion, least_timeout
from osiris_mesh.gossip.swim_state import Changed, Effect, Member, Send
from osiris_mesh.settings.gossip import GossipSettings

__all__ = ["Swim"]

_LEAVE_FANOUT: Final = 64
_NACK_AFTER: Final = 0.8  # of the probe's timeout, as memberlist does: it must arrive before the asker gives up


class Swim:
    """The core. Every method takes the time (monotonic seconds) and returns effects in order.

    Args:
        me: Our peer id.
        settings: Periods and counts.
        incarnation: To begin with: wall-clock milliseconds, so that a restarted node is newer than what it was.
        prove: Signs an incarnation of ours (message.prove, bound to our key).
        proven: Checks an update's proof (message.proven).
        rng: Choices of whom to probe and ask.
        now: Seconds.
    """

    def __init__(
        self,
        me: str,
        settings: GossipSettings,
        *,
        incarnation: int,
        prove: Callable[[int, bool], bytes],
        proven: Callable[[Update], bool],
        rng: random.Random,
        now: float,
    ) -> None:
        self.me = me
        self.awareness = Awareness(settings.awareness_max)
        self.refused = 0
        """Updates whose proof did not hold."""
        self._settings = settings
        self._own = Own(me, incarnation, prove=prove, proven=proven)
        self._proven = proven
        self._rng = rng
        self._members: dict[str, Member] = {}
        self._ring: list[str] = []
        self._place = 0
        self._broadcasts = Broadcasts()
        self._suspected: set[str] = set()
        self._tell: set[str] = set()
        self._probing = Probing(rng.getrandbits(32))
        self._period_at = now
        self._gossip_at = now
        self._dead_probe_at = now + settings.dead_probe_interval_s
        self._sync_at = now + settings.sync_interval_s * rng.uniform(0.5, 1.0)
        self._effects: list[Effect] = []
        self._broadcasts.put(self._own.claim())

    @property
    def incarnation(self) -> int:
        """Our own incarnation."""
        return self._own.incarnation

    # what the shell asks and tells

    def view(self) -> dict[str, PeerState]:
        """Return what is known about every member but ourselves."""
        return {peer: member.state for peer, member in self._members.items()}

    def state(self, peer: str) -> PeerState | None:
        """Return what is known about one member, None about a stranger."""
        member = self._members.get(peer)
        return None if member is None else member.state

    def set_members(self, peers: Iterable[str], now: float) -> list[Effect]:
        """Take over who is a member by the ledger; newcomers are probed at once, those gone are forgotten."""
        wanted = set(peers) - {self.me}
        for peer in self._members.keys() - wanted:
            self._forget(peer)
        for peer in sorted(wanted - self._members.keys()):
            self._members[peer] = Member()
            # The paper's section 4.3: a newcomer's place in the round is random.
            self._ring.insert(self._rng.randrange(len(self._ring) + 1), peer)
            self._start_probe(peer, now)
        return self._flush()

    def probe(self, peer: str, now: float) -> list[Effect]:
        """Probe a member out of turn, on a hint that something happened to it."""
        member = self._members.get(peer)
        if member is not None and not self._own.leaving:
            self._start_probe(peer, now, anew=True)
        return self._flush()

    def sync(self, peer: str) -> list[Effect]:
        """Exchange views with a member."""
        member = self._members.get(peer)
        if member is not None and not self._own.leaving:
            self._effects.append(Send(peer, self._everything(Kind.SYNC, member), over_link=True))
        return self._flush()

    def leave(self) -> list[Effect]:
        """Say that we stop; nothing is probed from here on."""
        self._own.leave()
        self._probing.clear()
        claim = self._own.claim()
        self._broadcasts.put(claim)
        around = self._some(_LEAVE_FANOUT, {PeerState.ALIVE, PeerState.SUSPECT, PeerState.UNKNOWN})
        for number, peer in enumerate(around):
            message = Message(Kind.GOSSIP, known=self._members[peer].incarnation, updates=(claim,))
            self._effects.append(Send(peer, message))
            if number < self._settings.gossip_fanout:
                self._effects.append(Send(peer, message, over_link=True))
        return self._flush()

    def due(self) -> float:
        """Return when :meth:`tick` has something to do, monotonic seconds; never, once we leave."""
        if self._own.leaving:
            return math.inf
        due = min(self._period_at, self._dead_probe_at, self._sync_at, self._probing.due())
        if self._broadcasts:
            due = min(due, self._gossip_at)
        for peer in self._suspected:
            suspicion = self._members[peer].suspicion
            if suspicion is not None:
                due = min(due, suspicion.deadline - (0 if suspicion.asked else self._settings.probe_interval_s))
        return due

    def tick(self, now: float) -> list[Effect]:
        """Do what is due."""
        if self._own.leaving:
            return self._flush()
        self._forgive(now)
        self._run_probes(now)
        self._run_suspicions(now)
        settings = self._settings
        if now >= self._period_at:
            self._period_at = now + self.awareness.scale(settings.probe_interval_s)
            self._next_probe(now)
        if now >= self._dead_probe_at:
            self._dead_probe_at = now + settings.dead_probe_interval_s
            for peer in self._some(1, {PeerState.DEAD, PeerState.LEFT}):
                self._start_probe(peer, now, quiet=True)
        if now >= self._sync_at:
            self._sync_at = now + settings.sync_interval_s
            for peer in self._some(1, {PeerState.ALIVE}):
                self._effects.append(Send(peer, self._everything(Kind.SYNC, self._members[peer]), over_link=True))
        if self._broadcasts and now >= self._gossip_at:
            self._gossip_at = now + settings.gossip_interval_s
            for peer in self._some(settings.gossip_fanout, {PeerState.ALIVE, PeerState.SUSPECT, PeerState.UNKNOWN}):
                updates = self._updates_for(peer)
                if updates:
                    known = self._members[peer].incarnation
                    self._effects.append(Send(peer, Message(Kind.GOSSIP, known=known, updates=updates)))
        return self._flush()

    def receive(self, sender: str, message: Message, now: float, *, over_link: bool = False) -> list[Effect]:
        """Take an authenticated message from a member; a stranger's is ignored.

        Args:
            sender: Peer id of who sent it.
            message: What it sent.
            now: Monotonic seconds.
            over_link: It came over a link, and an answer goes back the same way.
        """
        member = self._members.get(sender)
        if member is None:
            return self._flush()
        synced = message.kind in {Kind.SYNC, Kind.SYNC_ACK}
        for update in message.updates:
            self._apply(update, sender, now, synced=synced)
        if message.known < self._own.incarnation:
            self._tell.add(sender)
        match message.kind:
            case Kind.PING:
                self._answer(sender, Kind.ACK, message.sequence, over_link=over_link)
            case Kind.PING_REQ:
                self._help(sender, message, now, over_link=over_link)
            case Kind.ACK:
                self._take_ack(sender, message.sequence)
            case Kind.NACK:
                self._probing.nacked(sender, message.sequence)
            case Kind.SYNC if over_link:
                self._effects.append(Send(sender, self._everything(Kind.SYNC_ACK, member), over_link=True))
            case _:
                pass
        return self._flush()

    # probes

    def _next_probe(self, now: float) -> None:
        for _ in range(len(self._ring)):
            if self._place >= len(self._ring):
                self._place = 0
                self._rng.shuffle(self._ring)
            peer = self._ring[self._place]
            self._place += 1
            if self._members[peer].state not in {PeerState.DEAD, PeerState.LEFT}:
                self._start_probe(peer, now)
                return

    def _start_probe(self, peer: str, now: float, *, quiet: bool = False, anew: bool = False) -> None:
        member = self._members[peer]
        settings = self._settings
        probe = self._probing.start(
            peer,
            ask_at=now + self.awareness.scale(settings.probe_timeout_s),
            fail_at=now + self.awareness.scale(settings.probe_interval_s),
            quiet=quiet or member.state in {PeerState.DEAD, PeerState.LEFT},
            anew=anew,
        )
        if probe is not None:
            self._effects.append(Send(peer, self._ping(peer, probe.sequence)))

    def _ping(self, peer: str, sequence: int) -> Message:
        return Message(Kind.PING, sequence, known=self._members[peer].incarnation, updates=self._updates_for(peer))

    def _run_probes(self, now: float) -> None:
        ask, failed, silent = self._probing.step(now)
        for probe in ask:
            self._ask_others(probe)
        for probe in failed:
            self._failed(probe, now)
        for relay in silent:
            self._answer(relay.asker, Kind.NACK, relay.sequence, over_link=False)

    def _ask_others(self, probe: Probe) -> None:
        helpers = self._some(self._settings.indirect_probes, {PeerState.ALIVE}, but=probe.peer)
        probe.helpers.update(helpers)
        for helper in helpers:
            message = Message(
                Kind.PING_REQ,
                probe.sequence,
                target=probe.peer,
                known=self._members[helper].incarnation,
                updates=self._updates_for(helper),
            )
            self._effects.append(Send(helper, message))
        self._effects.append(Send(probe.peer, self._ping(probe.peer, probe.sequence), over_link=True))

    def _failed(self, probe: Probe, now: float) -> None:
        # Lifeguard: helpers that did not even send a NACK mean that the trouble may be ours.
        self.awareness.add(len(probe.helpers) - len(probe.nacks) if probe.helpers else 1)
        member = self._members[probe.peer]
        if member.state is PeerState.UNKNOWN:
            self._set(probe.peer, member, PeerState.DEAD, by=self.me)
        elif member.state is PeerState.ALIVE:
            self._suspect(probe.peer, member, self.me, now)
        elif member.suspicion is not None and member.suspicion.confirm(self.me):
            self._broadcasts.put(Update(PeerState.SUSPECT, probe.peer, member.incarnation, member.proof, self.me))

    def _take_ack(self, sender: str, sequence: int) -> None:
        match self._probing.acked(sender, sequence):
            case Probe(quiet=False):
                self.awareness.add(-1)
            case Relay(asker=asker, sequence=theirs, target=target):
                self._answer(asker, Kind.ACK, theirs, over_link=False, about=target)
            case _:
                pass

    def _help(self, asker: str, message: Message, now: float, *, over_link: bool) -> None:
        target = message.target
        if target == self.me:
            self._answer(asker, Kind.ACK, message.sequence, over_link=over_link)
            return
        if target not in self._members or target == asker:
            return
        settings = self._settings
        sequence = self._probing.relay(
            asker,
            message.sequence,
            target,
            nack_at=now + _NACK_AFTER * settings.probe_timeout_s,
            until=now + settings.probe_interval_s,
        )
        if sequence is not None:
            self._effects.append(Send(target, self._ping(target, sequence)))

    def _answer(self, peer: str, kind: Kind, sequence: int, *, over_link: bool, about: str = "") -> None:
        member = self._members.get(peer)
        if member is None:
            return
        updates = self._updates_for(peer, about=about)
        self._effects.append(Send(peer, Message(kind, sequence, known=member.incarnation, updates=updates), over_link))

    # claims

    def _apply(self, update: Update, sender: str, now: float, *, synced: bool) -> None:
        if update.peer == self.me:
            self._hear(update, sender)
            return
        member = self._members.get(update.peer)
        if member is None or (update.accuser and update.accuser != self.me and update.accuser not in self._members):
            return
        if synced and update.state is PeerState.DEAD and member.state is not PeerState.UNKNOWN:
            # memberlist: a death learnt from a whole view may be old; let the dead have its time to refute.
            update = replace(update, state=PeerState.SUSPECT)
        state = update.state
        if (update.incarnation, state) <= (member.incarnation, member.state):
            same = update.incarnation == member.incarnation and state is member.state is PeerState.SUSPECT
            running = member.suspicion if same and update.proof == member.proof else None
            if running is not None and running.confirm(update.accuser):
                self._broadcasts.put(update)
            return
        if not self._holds(update, member):
            self.refused += 1
            return
        member.incarnation = update.incarnation
        member.proof = update.proof
        if state is PeerState.SUSPECT:
            needed = self._suspect(update.peer, member, update.accuser, now)
            # Some of us look for themselves at once, about twice as many as it takes to confirm: a death is confirmed
            # within a period, and who lives hears of the accusation the sooner.
            if self._rng.random() * len(self._members) < 2 * (needed + 1):
                self._start_probe(update.peer, now)
            return
        member.accuser = update.accuser
        self._set(update.peer, member, state, by=update.accuser or update.peer)
        self._broadcasts.put(update)

    def _holds(self, update: Update, member: Member) -> bool:
        if update.incarnation == member.incarnation and update.state is not PeerState.LEFT:
            # Ed25519 signatures are deterministic: the proof we hold is the only one there is.
            return update.proof == member.proof
        return self._proven(update)

    def _hear(self, update: Update, sender: str) -> None:
        match self._own.hear(update):
            case Heard.OLD:
                self._tell.add(sender)
            case Heard.FORGED:
                self.refused += 1
            case Heard.REFUTED:
                if update.accuser:
                    # Lifeguard: who must refute may well have been slow.
                    self.awareness.add(1)
                self._broadcasts.put(self._own.claim())
                self._tell.add(sender)
            case Heard.KNOWN:
                pass

    def _suspect(self, peer: str, member: Member, accuser: str, now: float) -> int:
        """Begin a suspicion; return how many confirmations end it soonest."""
        settings = self._settings
        count = len(self._members) + 1
        needed = int(settings.suspicion_multiplier) - 2
        if count - 2 < needed:
            needed = 0  # so many independent accusers do not exist
        least = least_timeout(settings.suspicion_multiplier, settings.probe_interval_s, count)
        member.suspicion = Suspicion(accuser, now=now, needed=needed, least=least, most=least * settings.suspicion_max)
        member.accuser = accuser
        self._suspected.add(peer)
        self._broadcasts.put(Update(PeerState.SUSPECT, peer, member.incarnation, member.proof, accuser))
        if member.state is not PeerState.SUSPECT:
            member.state = PeerState.SUSPECT
            self._effects.append(Changed(peer, PeerState.SUSPECT, accuser))
        return needed

    def _run_suspicions(self, now: float) -> None:
        settings = self._settings
        for peer in list(self._suspected):
            member = self._members[peer]
            suspicion = member.suspicion
            if suspicion is None:
                continue
            if not suspicion.asked and now >= suspicion.deadline - settings.probe_interval_s:
                # Its refutation may have passed us by: push alone leaves somebody out now and then. So each member that
                # is about to declare it dead asks it first, by both ways; the answer brings the refutation.
                suspicion.ask(now, settings.probe_timeout_s)
                ping = self._ping(peer, self._probing.number())
                self._effects += [Send(peer, ping), Send(peer, ping, over_link=True)]
            if now >= suspicion.deadline:
                member.accuser = self.me
                self._set(peer, member, PeerState.DEAD, by=self.me)
                self._broadcasts.put(member.claim(peer))

    def _set(self, peer: str, member: Member, state: PeerState, *, by: str) -> None:
        member.suspicion = None
        self._suspected.discard(peer)
        if state is not member.state:
            member.state = state
            self._effects.append(Changed(peer, state, by))

    # what rides along

    def _updates_for(self, peer: str, *, about: str = "") -> tuple[Update, ...]:
        first: list[Update] = []
        member = self._members[peer]
        if member.state in {PeerState.SUSPECT, PeerState.DEAD, PeerState.LEFT} and member.proof:
            # Lifeguard's buddy: who is accused learns of it from the very next message.
            first.append(member.claim(peer))
        if peer in self._tell:
            self._tell.discard(peer)
            first.append(self._own.claim())
        if about:
            other = self._members.get(about)
            if other is not None and other.proof:
                first.append(other.claim(about))
        limit = retransmissions(self._settings.retransmit_multiplier, len(self._members) + 1)
        for update in self._broadcasts.take(MAX_DATAGRAM_UPDATES - len(first), limit):
            if update not in first:
                first.append(update)
        return tuple(first)

    def _everything(self, kind: Kind, receiver: Member) -> Message:
        claims = [self._own.claim()]
        claims += [member.claim(peer) for peer, member in self._members.items() if member.proof]
        return Message(kind, known=receiver.incarnation, updates=tuple(claims))

    def _some(self, count: int, states: set[PeerState], *, but: str = "") -> list[str]:
        fitting = [peer for peer, member in self._members.items() if member.state in states and peer != but]
        return fitting if len(fitting) <= count else self._rng.sample(fitting, count)

    def _forgive(self, now: float) -> None:
        """Time in which this process did not run is no time in which others were silent."""
        late = now - self.due()
        if late <= self._settings.probe_timeout_s:
            return
        self._probing.delay(late)
        for peer in self._suspected:
            suspicion = self._members[peer].suspicion
            if suspicion is not None:
                suspicion.delay(late)

    def _forget(self, peer: str) -> None:
        del self._members[peer]
        self._suspected.discard(peer)
        self._tell.discard(peer)
        self._broadcasts.forget(peer)
        place = self._ring.index(peer)
        self._ring.pop(place)
        if place < self._place:
            self._place -= 1
        self._probing.forget(peer)

    def _flush(self) -> list[Effect]:
        effects, self._effects = self._effects, []
        return effects
