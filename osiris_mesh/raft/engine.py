"""One voter without thread, socket or asyncio: feed it, then :meth:`Engine.step` it.

A step is the whole protocol of durability (DESIGN.md, "Tick"):

    messages and requests in -> PySyncObj's tick -> one sync of the journal -> messages out -> committed handed over

so that no vote, acknowledgement or answer leaves before it is durable, and no command reaches the ledger before this
node's own log holds it. The thread of :mod:`osiris_mesh.raft.raft` drives it, and so does the simulator of the tests.
"""

from __future__ import annotations

import random
from collections import deque
from collections.abc import Callable, Sequence
from typing import Any, Final

from osiris_mesh.clock import Clock
from osiris_mesh.errors import Conflict, Denied, OsirisError, Unavailable
from osiris_mesh.raft.configuration import COMMAND, MAX_VOTERS
from osiris_mesh.raft.ground import syncobj, use_clock
from osiris_mesh.raft.journal import Journal
from osiris_mesh.raft.message import MAX_SNAPSHOT, Message, encode
from osiris_mesh.raft.outbox import Outbox
from osiris_mesh.raft.overrides import CANDIDATE, LEADER, SyncObj
from osiris_mesh.raft.reads import ReadRounds
from osiris_mesh.raft.request import Change, Proposal, Read, Request, Transfer
from osiris_mesh.raft.status import Committed, Installed, RaftStatus
from osiris_mesh.raft.storage import Storage
from osiris_mesh.settings import RaftSettings

__all__ = ["Engine"]

_FAIL = syncobj.FAIL_REASON
# Definite failures of one attempt: the command is in no log, or its place went to another; trying again is safe.
_TRY_AGAIN: Final = frozenset({_FAIL.NOT_LEADER, _FAIL.MISSING_LEADER, _FAIL.DISCARDED, _FAIL.QUEUE_FULL})
_FEED_BYTES: Final = 4 << 20
_CAUGHT_UP: Final = 64
_SNAPSHOT_RETRY_S: Final = 1.0


class Engine:
    """The state and the rules of one voter; all calls on one thread.

    Args:
        peer: This node's peer id.
        voters: The configuration to begin with if nothing is stored.
        storage: Where the journal is kept.
        settings: Times and bounds.
        applied: The owner has everything up to this index.
        clock: Where the time is read.
        rng: Election times; seeded in simulations.
        take_snapshot: See :class:`osiris_mesh.raft.Raft`.
        may_append: See there.

    Attributes:
        handed_over: Committed commands and installed snapshots of the last step, in order; the owner takes them.
        settled: Requests with an outcome since the last step; the owner takes them.

    Raises:
        CheckFailed: What is stored is damaged.
    """

    def __init__(
        self,
        *,
        peer: str,
        voters: Sequence[str] | None,
        storage: Storage,
        settings: RaftSettings,
        applied: int,
        clock: Clock,
        rng: random.Random,
        take_snapshot: Callable[[int, int], bytes | None],
        may_append: Callable[[bytes], bool] = lambda _command: True,
    ) -> None:
        self._peer = peer
        self._settings = settings
        self._clock = clock
        self._take_snapshot = take_snapshot
        use_clock(clock.monotonic)
        self.journal = Journal(storage, voters)
        self._outbox = Outbox()
        self.raft = SyncObj(peer, self.journal, self._outbox, settings, rng)
        self.raft.may_append = may_append
        self.handed_over: list[Committed | Installed] = []
        self.settled: list[Request] = []
        self._inbox: deque[tuple[str, Message]] = deque()
        self._proposals: deque[Proposal] = deque()
        self._change: Change | None = None
        self._transfer: Transfer | None = None
        self._reads = ReadRounds(peer, self.raft, self._outbox, settings, rng, self._settle)
        self._leaving: dict[str, tuple[int, float]] = {}
        self._floor = applied
        self._last_command = (0, 0)
        self._snapshot: tuple[int, bytes] | None = None
        self._ask_snapshot_at = float("-inf")
        base = self.journal.base
        if applied < base[1] and self.journal.snapshot:
            # It was installed, and the node died before its owner had caught up with it.
            self.handed_over.append(Installed(base[1], base[2], self.journal.snapshot))

    # In.

    def receive(self, peer: str, messages: Sequence[Message]) -> None:
        """Take decoded messages of a peer; they count at the next step."""
        self._inbox.extend((peer, message) for message in messages)

    def connect(self, peer: str) -> None:
        """Note that ``peer`` can be reached."""
        use_clock(self._clock.monotonic)
        self._outbox.connect(self.raft.node(peer))

    def disconnect(self, peer: str) -> None:
        """Note that messages to ``peer`` and from it are lost."""
        use_clock(self._clock.monotonic)
        self._outbox.disconnect(self.raft.node(peer))

    def submit(self, request: Request) -> None:
        """Take a request; its outcome is settled by this step or a later one."""
        match request:
            case Proposal():
                self._proposals.append(request)
            case Change():
                self._begin_change(request)
            case Transfer():
                self._begin_transfer(request)
            case Read():
                self._reads.add(request)
            case _:
                raise TypeError(f"Raft can't do a {type(request).__name__}")

    # One step.

    def step(self) -> list[tuple[str, bytes]]:
        """Do all there is to do; return the packets to send, durable in what they say.

        Raises:
            OSError: The disk failed; the node must stop.
            OsirisError: Histories have parted or a defect showed; the node must stop.
        """
        use_clock(self._clock.monotonic)
        packets: list[tuple[str, bytes]] = []
        again = True
        while again:
            inbox, self._inbox = self._inbox, deque()
            for peer, message in inbox:
                self._outbox._onMessageReceived(self.raft.node(peer), message)  # noqa: SLF001 - PySyncObj's way in
            self._feed()
            self._advance_change()
            self._advance_transfer()
            self._reads.advance(self._clock.monotonic())
            self.raft.doTick(0.0)
            self.journal.sync()
            # A leader without peers commits by its own disk: the next round finds the entries durable.
            again = self.raft.is_alone
        for peer, messages in self._outbox.take().items():
            packets.extend((peer, packet) for packet in encode(messages))
        self._take_over()
        self._compact()
        return packets

    @property
    def next_deadline(self) -> float:
        """Monotonic seconds at which :meth:`step` is due though nothing comes in."""
        return self.raft.next_deadline

    @property
    def waiting(self) -> int:
        """Proposals that wait for a leader."""
        return len(self._proposals)

    def status(self) -> RaftStatus:
        """Return where this node stands."""
        raft = self.raft
        if raft.state == LEADER:
            role = "leader"
        elif not raft.is_voter:
            role = "passive"
        else:
            role = "candidate" if raft.state == CANDIDATE else "follower"
        return RaftStatus(
            role=role,
            leader=raft.leader,
            term=raft.raftCurrentTerm,
            commit_index=raft.raftCommitIndex,
            applied_index=raft.raftLastApplied,
            last_index=raft.last_index,
            voters=raft.voters,
            quorum=raft.leader is not None,
        )

    def abandon(self, error: OsirisError, *, sure: OsirisError) -> list[Request]:
        """End all requests: ``sure`` for those that were never acted on, ``error`` for the others; return them."""
        waiting: list[Request] = [*self._proposals, *self._reads.take_all()]
        waiting.extend(request for request in (self._change, self._transfer) if request is not None)
        for request in waiting:
            self._settle(request, sure if request.claim() else error)
        self._proposals.clear()
        self._change = self._transfer = None
        settled, self.settled = self.settled, []
        return settled

    def close(self) -> None:
        """Release the journal's file."""
        self.raft.destroy()

    # Proposals.

    def _feed(self) -> None:
        """Give PySyncObj the commands a leader can take now; bounded, so that one sync stays short."""
        if self.raft.leader is None:
            self._refuse_leaderless()
            return
        if self._transfer is not None:
            return
        room = _FEED_BYTES
        while self._proposals and room > 0:
            proposal = self._proposals.popleft()
            if not proposal.claim():
                continue
            proposal.waiting_since = None
            room -= len(proposal.command) + 64
            self.raft._applyCommand(proposal.command, self._answer_to(proposal), COMMAND)  # noqa: SLF001 - PySyncObj's way in

    def _refuse_leaderless(self) -> None:
        """Refuse what has found no leader for too long: its caller shall not wait for what won't come."""
        now = self._clock.monotonic()
        waiting = self._proposals
        for proposal in waiting:
            if proposal.waiting_since is None:
                proposal.waiting_since = now
        while waiting and now - (waiting[0].waiting_since or now) >= self._settings.leaderless_s:
            proposal = waiting.popleft()
            if proposal.claim():
                self._settle(proposal, self._no_quorum())

    def _no_quorum(self) -> Unavailable:
        voters = self.raft.voters
        reached = [voter for voter in voters if voter == self._peer or self._outbox.is_up(voter)]
        return Unavailable(
            f"there is no quorum: {len(reached)} of {len(voters)} voters can be reached from here",
            fix="see `status`: a majority of the voters must be running and reach each other",
            maybe=False,
            why="quorum",
            reachable=len(reached),
            voters=len(voters),
        )

    def _answer_to(self, proposal: Proposal) -> Callable[[Any, int], None]:
        def answer(place: Any, failure: int) -> None:
            if failure == _FAIL.SUCCESS:
                self._settle(proposal, place)
            elif failure in _TRY_AGAIN:
                proposal.give_back()
                self._proposals.append(proposal)
            elif failure == _FAIL.REQUEST_DENIED:
                self._settle(proposal, Denied("the leader does not take this command", fix="check this node's clock"))
            else:
                self._settle(proposal, _unknown(failure))

        return answer

    def _settle(self, request: Request, outcome: Any) -> None:
        request.settle(outcome)
        self.settled.append(request)

    # Voters.

    def _begin_change(self, change: Change) -> None:
        if not change.claim():
            return
        voters = self.raft.voters
        peer = change.add or change.remove or ""
        if self.raft.state != LEADER:
            self._settle(change, Unavailable("this node does not lead", fix="ask the leader", maybe=False))
        elif (change.add is not None) == (peer in voters):
            self._settle(change, None)
        elif self._change is not None and self._clock.monotonic() <= self._change.deadline:
            self._settle(change, Conflict("another change of the voters is under way", fix="wait for it"))
        elif change.remove == self._peer:
            self._settle(change, Conflict("the leader can't remove itself", fix="hand leadership over first"))
        elif change.add and len(voters) >= MAX_VOTERS:
            self._settle(change, Conflict(f"there are {MAX_VOTERS} voters already"))
        else:
            if self._change is not None:
                self._end_change(self._change, _late(self._change))
            self._change = change
            self._leaving.pop(peer, None)
            if change.add:
                change.goal = self.raft.last_index
                self.raft.teach(change.add)

    def _advance_change(self) -> None:
        now = self._clock.monotonic()
        for peer, (index, until) in list(self._leaving.items()):
            if self.raft.match_index(peer) >= index or now > until or self.raft.state != LEADER:
                del self._leaving[peer]
                self.raft.stop_teaching(peer)
        change = self._change
        if change is None:
            return
        if now > change.deadline or (self.raft.state != LEADER and not change.appended):
            self._end_change(change, _late(change))
            return
        if change.appended:
            return
        voters = set(self.raft.voters)
        if change.add:
            held = self.raft.match_index(change.add)
            ready = held >= change.goal and held + _CAUGHT_UP >= self.raft.last_index and self._outbox.is_up(change.add)
            voters.add(change.add)
        else:
            ready = True
            voters.discard(change.remove or "")
        if not (ready and self.raft.may_change_voters):
            return
        change.appended = self.raft.last_index + 1

        def committed(place: Any, failure: int) -> None:
            if failure == _FAIL.SUCCESS:
                self._end_change(change, place and None)
            else:
                self._end_change(change, Unavailable("another leader took over", maybe=failure != _FAIL.DISCARDED))

        if change.remove:
            self._leaving[change.remove] = (change.appended, now + 2 * self._settings.quorum_s)
        self.raft.change_voters(voters, committed)

    def _end_change(self, change: Change, outcome: Any) -> None:
        if self._change is change:
            self._change = None
            if change.add and outcome is not None:
                self.raft.stop_teaching(change.add)
        self._settle(change, outcome)

    # Leadership.

    def _begin_transfer(self, transfer: Transfer) -> None:
        if not transfer.claim():
            return
        others = [voter for voter in self.raft.voters if voter != self._peer and self._outbox.is_up(voter)]
        if self.raft.state != LEADER:
            self._settle(transfer, Unavailable("this node does not lead", fix="ask the leader", maybe=False))
        elif self._transfer is not None:
            self._settle(transfer, Conflict("leadership is being handed over already"))
        elif not others or (transfer.to is not None and transfer.to not in others):
            self._settle(transfer, Unavailable("no other voter can be reached that could lead", maybe=False))
        else:
            transfer.term = self.raft.raftCurrentTerm
            transfer.to = transfer.to or max(others, key=lambda voter: (self.raft.match_index(voter), voter))
            self._transfer = transfer

    def _advance_transfer(self) -> None:
        transfer = self._transfer
        if transfer is None:
            return
        now = self._clock.monotonic()
        leader = self.raft.leader
        if self.raft.raftCurrentTerm > transfer.term and leader is not None:
            self._transfer = None
            if leader == self._peer:
                self._settle(transfer, Unavailable("this node was elected again", fix="try again", maybe=False))
            else:
                self._settle(transfer, leader)
        elif now > transfer.deadline:
            self._transfer = None
            self._settle(transfer, Unavailable(f"{transfer.to} did not take over in time", fix="try again", maybe=True))
        elif now - transfer.asked_at > self._settings.election_min_s and self.raft.state == LEADER:

            def sent(_place: Any, failure: int) -> None:
                if failure == _FAIL.SUCCESS:
                    transfer.asked_at = now

            # Denied until the target holds all of the log; asked again as acknowledgements come in.
            self.raft.transferLeadership(self.raft.node(str(transfer.to)), sent)

    # Handing over, and compaction.

    def _take_over(self) -> None:
        for item in self.raft.handed_over:
            if isinstance(item, Installed):
                self._snapshot = None
                self._last_command = (0, 0)
                self._floor = max(self._floor, item.index)
                self.handed_over.append(item)
                continue
            self._last_command = (item.index, item.term)
            if item.index > self._floor:
                self.handed_over.append(item)
        self.raft.handed_over.clear()

    def _compact(self) -> None:
        """Ask for a snapshot when the log is long; use it once enough entries follow it to help a peer catch up."""
        journal, settings = self.journal, self._settings
        if self._snapshot is not None:
            index, snapshot = self._snapshot
            if journal[-1][1] - index >= settings.keep_entries or journal.bytes_held > 2 * settings.compact_bytes:
                self._snapshot = None
                journal.compact(index, snapshot)
            return
        if len(journal) <= settings.compact_entries and journal.bytes_held <= settings.compact_bytes:
            return
        now = self._clock.monotonic()
        index, term = self._last_command
        if now < self._ask_snapshot_at or index <= journal.base[1]:
            return
        taken = self._take_snapshot(index, term)
        if taken is None:
            self._ask_snapshot_at = now + _SNAPSHOT_RETRY_S
        elif not 0 < len(taken) <= MAX_SNAPSHOT:
            raise ValueError(f"take_snapshot returned {len(taken)} bytes, not 1 to {MAX_SNAPSHOT}")
        else:
            self._snapshot = (index, taken)


def _late(change: Change) -> Unavailable:
    return Unavailable("the voters were not changed in time, or this node lost the lead", maybe=change.appended > 0)


def _unknown(failure: int) -> Unavailable:
    skipped = failure == _FAIL.UNKNOWN_OUTCOME
    why = "a snapshot covers its place in the log" if skipped else "the leader it was sent to was lost"
    return Unavailable(
        f"it is not known whether the command was committed: {why}",
        fix="look whether it took effect before sending it again",
        maybe=True,
    )
