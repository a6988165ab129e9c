"""What is put right in PySyncObj 0.3.17, all of it, in one place.

The row is that of the table in ``DESIGN.md``; each has its test, ``tests/raft/test_rows.py::test_row_<number>``, which
shows the defect on bare PySyncObj and its absence here. "Paper" is Ongaro and Ousterhout, *In Search of an
Understandable Consensus Algorithm (Extended Version)*, 2014; "thesis" is Ongaro's, 2014.

    row  where below                                          paper or thesis
     1   _append_entries: commit only what was verified       paper, figure 2, AppendEntries 5
     2   merge.py: cut on a conflict only                     paper, figure 2, AppendEntries 3, 4
     3   _install: raises, the node stops                     paper, figure 13
     4   _next_node_idx: term and bounds                      paper, 5.1 (stale messages)
     5   elections.py: once, members only                     paper, 5.2
     6   change_voters: one at a time                         thesis, 4.1, and Ongaro's correction of 2015
     7   journal.py: snapshot and log are one file            paper, 7
     8   journal.py, message.py: entries are tuples           -
     9   journal.py                                           paper, figure 2, persistent state
    10   __applyLogEntries: collects, calls nobody            paper, 5.3
    11   __sendAppendEntries: no chunks at all                -
    12   __tryLogCompaction: journal.py only                  paper, 7
    13   _follow_configuration; learners                      thesis, 4.1, 4.2.1
    14   _follow_configuration; change_voters                 thesis, 4.1, 4.2.2
    15   elections.py                                         thesis, 9.6, 4.2.3
    16   merge.py, _append_entries, _next_node_idx            paper, 5.3 (the optimisation), 5.1
    17   elections.py: settings; reads.py                     thesis, 6.2, 6.4
    18   _install: refuses, answers waiters                   paper, figure 13
    21   ground.py, message.py                                -
    22   _entries_from: bounded slices                        -
    23   progress.py, _send_to                                thesis, 10.2.1

The class bears PySyncObj's name, so that ``self.__name`` here is PySyncObj's private ``name``: Python mangles both to
``_SyncObj__name``. Names with one underscore are ours.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any, Final

from osiris_mesh.raft import elections
from osiris_mesh.raft.configuration import COMMAND, configuration
from osiris_mesh.raft.elections import CANDIDATE, FOLLOWER, LEADER
from osiris_mesh.raft.ground import now, syncobj
from osiris_mesh.raft.journal import Journal
from osiris_mesh.raft.merge import Parted, merge
from osiris_mesh.raft.message import Message, leaps
from osiris_mesh.raft.outbox import Outbox
from osiris_mesh.raft.progress import Progress
from osiris_mesh.raft.status import Committed, Installed
from osiris_mesh.settings import RaftSettings

__all__ = ["CANDIDATE", "FOLLOWER", "LEADER", "SyncObj"]

_FAIL = syncobj.FAIL_REASON
_APPLY_SLICE: Final = 1024


class _NoPoller:
    """There is nothing to poll: messages come from the engine."""

    def poll(self, _timeout: float) -> None:
        """Return at once."""


class SyncObj(elections.SyncObj):
    """PySyncObj, hardened; all calls on one thread.

    Attributes:
        handed_over: What was committed or installed since the owner last emptied it, in order.
        may_append: Says of a command another voter forwards whether this leader takes it into its log.
        round_heard: For each peer the highest read round it echoed in this term (row 17).
    """

    # PySyncObj's private state that is touched here.
    __raftState: Any
    __raftCurrentTerm: Any
    __raftLog: Any
    __raftLeader: Any
    __raftCommitIndex: Any
    __raftLastApplied: Any
    __raftNextIndex: Any
    __raftMatchIndex: Any
    __raftElectionDeadline: Any
    __newAppendEntriesTime: Any
    __lastResponseTime: Any
    __leaderCommitIndex: Any
    __transferInProgress: Any
    __noopIDx: Any
    __selfNode: Any
    __otherNodes: Any
    __readonlyNodes: Any
    __connectedNodes: Any
    __commandsLocalCounter: Any
    __commandsWaitingCommit: Any
    __commandsWaitingReply: Any

    def __init__(self, peer: str, journal: Journal, outbox: Outbox, settings: RaftSettings, rng: random.Random) -> None:
        self._known_configuration: tuple[int, tuple[str, ...]] = (0, ())
        self._progress: dict[Any, Progress] = {}
        self._read_round = 0
        self.round_heard: dict[str, int] = {}
        self.on_read_index: Callable[[Any, Message], None] = lambda _node, _message: None
        self.may_append: Callable[[bytes], bool] = lambda _command: True
        self.handed_over: list[Committed | Installed] = []
        super().__init__(peer, journal, outbox, settings, rng)
        self._poller = _NoPoller()
        # Answers to requests of an earlier life of this process must not match requests of this one.
        self.__commandsLocalCounter = rng.getrandbits(48)
        self.__raftLastApplied = journal.base[1]
        self._follow_configuration()
        if self.voters == (peer,):
            self.__raftElectionDeadline = 0.0

    # What the engine reads.

    @property
    def last_index(self) -> int:
        """Index of the last entry."""
        return int(self.__raftLog[-1][1])

    @property
    def established(self) -> bool:
        """Whether this node leads and has committed an entry of its term (thesis, 6.4)."""
        return bool(self.__raftState == LEADER and self.__raftLastApplied >= self.__noopIDx)

    @property
    def next_deadline(self) -> float:
        """When the next tick is needed though nothing happens."""
        if self.__raftState == LEADER:
            return float(self.__newAppendEntriesTime)
        return float(self.__raftElectionDeadline)

    @property
    def is_alone(self) -> bool:
        """Whether this leader's own disk is a majority, so that another tick commits at once."""
        alone = self.__raftState == LEADER and not self.__otherNodes
        return bool(alone and self.__raftCommitIndex < self.last_index)

    def match_index(self, peer: str) -> int:
        """Return up to where ``peer`` is known to hold this leader's log."""
        return int(self.__raftMatchIndex.get(self.node(peer), 0))

    # Ticks.

    def _onTick(self, timeToWait: float = 0.0) -> None:  # noqa: ARG002, N802, N803 - PySyncObj's names
        self._elections()
        super()._onTick(0.0)

    def _checkCommandsToApply(self) -> None:  # noqa: N802 - PySyncObj's name
        super()._checkCommandsToApply()
        if self.__raftState == LEADER:
            self._send_due()

    # Messages.

    def __onMessageReceived(self, node: Any, message: Message) -> None:  # noqa: N802 - PySyncObj's name
        if not self._heeds(node, message):
            return
        match message["type"]:
            case "append_entries" | "install_snapshot":
                self._append_entries(node, message)
            case "commit":
                self._commit(node, message)
            case "next_node_idx":
                self._next_node_idx(node, message)
            case "request_vote":
                self._request_vote(node, message)
            case "response_vote":
                self._vote(node, message)
            case "pre_vote":
                self._pre_vote(node, message)
            case "pre_vote_answer":
                self._pre_vote_answer(node, message)
            case "apply_command_response":
                self._forwarded(node, message)
            case "apply_command" if self.__raftState == LEADER and not self.may_append(message["command"][1:]):
                refusal = {"type": "apply_command_response", "request_id": message["request_id"]}
                self._outbox.send(node, {**refusal, "error": _FAIL.REQUEST_DENIED})
            case "apply_command" if self.__raftState != LEADER or not self._speaks_with(node):
                refusal = {"type": "apply_command_response", "request_id": message["request_id"]}
                self._outbox.send(node, {**refusal, "error": _FAIL.NOT_LEADER})
            case "read_index" | "read_index_answer":
                self.on_read_index(node, message)
            case "timeout_now" if not self.is_voter:
                pass
            case _:
                super().__onMessageReceived(node, message)

    def _speaks_with(self, node: Any) -> bool:
        return node in self.__otherNodes or node in self.__readonlyNodes

    def _heeds(self, node: Any, message: Message) -> bool:
        """Say whether a message of this kind counts when it comes from ``node``.

        A voter's log may lag behind a change of the voters, so who leads or stands for election need not be in its
        configuration (thesis, 4.2.2). But as long as it hears from a leader, nobody outside can depose that one: who
        was rightly elected is heard as soon as the old leader falls silent. Answers count from whom they were asked.
        """
        if leaps(message, self.__raftCurrentTerm):
            return False
        if node in self.__otherNodes:
            return True
        match message["type"]:
            case "append_entries" | "install_snapshot" | "request_vote":
                return not self.is_voter or node == self.__raftLeader or not self._leader_is_fresh()
            case "next_node_idx" | "read_index":
                return node in self.__readonlyNodes
            case "response_vote" | "pre_vote_answer":
                return False
            case "apply_command_response" | "read_index_answer":
                return not self.is_voter or node == self.__raftLeader
        return True

    def _append_entries(self, node: Any, message: Message) -> None:
        """Paper, figure 2, AppendEntries, and figure 13, InstallSnapshot."""
        term = message["term"]
        if term < self.__raftCurrentTerm:
            # Row 16: PySyncObj says nothing, and a deposed leader goes on until it notices the silence.
            self._answer(node, self.last_index + 1, success=False)
            return
        if term == self.__raftCurrentTerm and (
            self.__raftState == LEADER or (self.__raftLeader is not None and self.__raftLeader != node)
        ):
            return  # there is one leader in a term (paper, 5.2): this is not it
        if term > self.__raftCurrentTerm:
            self.__transferInProgress = False
            self.__setCurrentTerm(term, None)
        self._leader_heard = now()
        self._pre_votes = set()
        if not self.__transferInProgress:
            self._postpone_election()
        if self.__raftLeader != node:
            self.__onLeaderChanged()
            self.__raftLeader = node
        self.__setState(FOLLOWER)
        self.__leaderCommitIndex = message["commit_index"]
        if message["type"] == "append_entries":
            outcome = merge(
                self.__raftLog,
                self.__raftCommitIndex,
                message["prevLogIdx"],
                message["prevLogTerm"],
                message["entries"],
            )
            if isinstance(outcome, Parted):
                self._answer(node, outcome.following, reset=True, round_=message["round"])
                return
            verified = outcome.index
        else:
            verified = self._install(message)
        self._answer(node, verified + 1, success=True, round_=message.get("round", 0))
        # Rows 1 and 2: what lies beyond ``verified`` may be a dead leader's.
        self.__raftCommitIndex = max(self.__raftCommitIndex, min(message["commit_index"], verified))
        self._follow_configuration()

    def _install(self, message: Message) -> int:
        """Take a snapshot if it is ahead of what is committed here; return up to where the logs agree."""
        journal: Journal = self.__raftLog
        index, term = message["index"], message["index_term"]
        if index <= self.__raftCommitIndex:
            return int(self.__raftCommitIndex)  # row 18: never back
        if journal.term_at(index) == term:
            return int(index)  # the log holds all of it: nothing to replace (figure 13, 6)
        journal.install(index, term, message["voters"], message["data"])  # row 3: an error stops the node
        self.__raftCommitIndex = self.__raftLastApplied = index
        self.handed_over.append(Installed(index, term, message["data"]))
        for waiting in sorted(at for at in self.__commandsWaitingCommit if at <= index):
            for _, callback in self.__commandsWaitingCommit.pop(waiting):
                callback(None, _FAIL.UNKNOWN_OUTCOME)  # row 18: skipped, not lost
        return int(index)

    def _commit(self, node: Any, message: Message) -> None:
        """Learn at once what the leader committed, without an answer and without waiting for a heartbeat."""
        if self.__raftState == LEADER or message["term"] != self.__raftCurrentTerm or self.__raftLeader != node:
            return
        journal: Journal = self.__raftLog
        index = message["commit_index"]
        if index > self.__raftCommitIndex and journal.term_at(index) == message["commit_term"]:
            self.__raftCommitIndex = index

    def _answer(
        self, node: Any, following: int, *, success: bool = False, reset: bool = False, round_: int = 0
    ) -> None:
        message = {"type": "next_node_idx", "term": self.__raftCurrentTerm, "next_node_idx": following}
        self._outbox.send(node, {**message, "success": success, "reset": reset, "round": round_})

    def _next_node_idx(self, node: Any, message: Message) -> None:
        """Row 4: an answer counts in the term it was given in, from whom it was asked, about entries that exist."""
        if message["term"] > self.__raftCurrentTerm:
            self._step_down(message["term"])
            return
        if self.__raftState != LEADER or message["term"] != self.__raftCurrentTerm:
            return
        following = message["next_node_idx"]
        if node not in self.__raftMatchIndex or not 1 <= following <= self.last_index + 1:
            return
        self.__lastResponseTime[node] = now()
        self.round_heard[node.id] = max(self.round_heard.get(node.id, 0), message["round"])
        if message["success"]:
            match = self.__raftMatchIndex[node] = max(self.__raftMatchIndex[node], following - 1)
            self.__raftNextIndex[node] = max(self.__raftNextIndex[node], match + 1)
            self._at(node).acknowledged(match)
        elif message["reset"]:
            following = max(following, self.__raftMatchIndex[node] + 1)
            if not self._at(node).probing or following != self.__raftNextIndex[node]:
                self._rewind(node, following)

    def _rewind(self, node: Any, following: int) -> None:
        """Begin again with ``node`` at ``following``: what is under way to it counts no more."""
        self.__raftNextIndex[node] = following
        self._at(node).restart()

    def _at(self, node: Any) -> Progress:
        found = self._progress.get(node)
        if found is None:
            found = self._progress[node] = Progress(self._settings.flight_messages)
        return found

    def _forwarded(self, node: Any, message: Message) -> None:
        """Say at once what became of a command whose entry overtook the answer that names it."""
        journal: Journal = self.__raftLog
        if "error" not in message and message["log_idx"] <= self.__raftLastApplied:
            term = journal.term_at(message["log_idx"]) if message["log_idx"] > journal.base[1] else None
            if term is not None:
                callback = self.__commandsWaitingReply.pop(message["request_id"], None)
                if callback is not None:
                    done = term == message["log_term"]
                    place = (term, message["log_idx"])
                    callback(place if done else None, _FAIL.SUCCESS if done else _FAIL.DISCARDED)
                return
        super().__onMessageReceived(node, message)

    # Sending.

    def __onBecomeLeader(self) -> None:  # noqa: N802 - PySyncObj's name
        self._progress = {}
        self._read_round, self.round_heard = 0, {}
        self._forget_learners()
        super().__onBecomeLeader()

    def __sendAppendEntries(self) -> None:  # noqa: N802 - PySyncObj's name
        """Speak to everyone: heartbeats, with what there is to send."""
        self.__newAppendEntriesTime = now() + self._settings.heartbeat_s
        for node in self.__otherNodes | self.__readonlyNodes:
            if node in self.__connectedNodes:
                self._send_to(node, heartbeat=True)

    def _send_due(self) -> None:
        """Speak to whom there is something new to say."""
        last, commit = self.last_index, self.__raftCommitIndex
        journal: Journal = self.__raftLog
        for node in self.__otherNodes | self.__readonlyNodes:
            if node not in self.__connectedNodes:
                continue
            progress = self._at(node)
            if progress.probing:
                if progress.due:
                    self._send_to(node, heartbeat=True)
                continue
            if self.__raftNextIndex[node] <= last:
                self._send_to(node, heartbeat=False)
            known = min(commit, self.__raftMatchIndex[node])
            term = journal.term_at(known)
            if known > progress.told and term is not None:
                progress.told = known
                notice = {"type": "commit", "term": self.__raftCurrentTerm}
                self._outbox.send(node, {**notice, "commit_index": known, "commit_term": term})

    def _send_to(self, node: Any, *, heartbeat: bool) -> None:
        journal: Journal = self.__raftLog
        progress = self._at(node)
        progress.due = False
        while True:
            following = self.__raftNextIndex[node]
            base, last = journal[0][1], journal[-1][1]
            message: Message = {"term": self.__raftCurrentTerm, "commit_index": self.__raftCommitIndex}
            if following <= base:
                message |= {"index": base, "index_term": journal[0][2], "voters": list(journal.voters_at(base))}
                self._outbox.send(node, {"type": "install_snapshot", **message, "data": journal.snapshot})
                self.__raftNextIndex[node] = base + 1
                progress.probing = True
                return
            entries = [] if progress.full or following > last else self._entries_from(following)
            if not entries and not heartbeat:
                return
            previous = following - 1
            message |= {"prevLogIdx": previous, "prevLogTerm": journal[previous - base][2], "entries": entries}
            self._outbox.send(node, {"type": "append_entries", **message, "round": self._read_round})
            if progress.probing or not entries:
                return
            heartbeat = False
            progress.sent(entries[-1][1], self.__raftCommitIndex)
            self.__raftNextIndex[node] = entries[-1][1] + 1

    def _entries_from(self, index: int) -> list[tuple[bytes, int, int]]:
        """Return the entries of one message: row 22, PySyncObj copies the whole tail to take its first part."""
        journal: Journal = self.__raftLog
        place, size, limit = index - journal[0][1], 0, self._settings.batch_bytes
        entries: list[tuple[bytes, int, int]] = []
        for entry in journal[place : place + _APPLY_SLICE]:
            entries.append(entry)
            size += len(entry[0])
            if size >= limit:
                break
        return entries

    def start_read_round(self) -> int:
        """Return the number peers must echo before a read; the next heartbeats, sent at once, carry it."""
        self._read_round += 1
        self.__sendAppendEntries()
        return self._read_round

    # Applying.

    def __applyLogEntries(self) -> bool:  # noqa: N802 - PySyncObj's name
        """Row 10: collect what is committed; the engine hands it over once the tick is durable."""
        journal: Journal = self.__raftLog
        while self.__raftLastApplied < self.__raftCommitIndex:
            place = self.__raftLastApplied + 1 - journal[0][1]
            count = min(self.__raftCommitIndex - self.__raftLastApplied, _APPLY_SLICE)
            for command, index, term in journal[place : place + count]:
                if command[0] == COMMAND:
                    self.handed_over.append(Committed(index, term, command[1:]))
                for waiting_term, callback in self.__commandsWaitingCommit.pop(index, ()):
                    done = waiting_term == term
                    callback((term, index) if done else None, _FAIL.SUCCESS if done else _FAIL.DISCARDED)
            self.__raftLastApplied += count
        return False

    def __tryLogCompaction(self) -> None:  # noqa: N802 - PySyncObj's name
        """Rows 7 and 12: the engine compacts, log and snapshot in one file."""

    # Rows 6, 13, 14: who votes is what the log says.

    def __parseChangeClusterRequest(self, _command: bytes) -> None:  # noqa: N802 - PySyncObj's name
        """Keep PySyncObj from changing its sets on its own."""

    def _follow_configuration(self) -> None:
        """Make PySyncObj's set of other voters what the latest configuration in the log says."""
        journal: Journal = self.__raftLog
        known = (journal.voters_index, journal.voters)
        if known == self._known_configuration:
            return
        self._known_configuration = known
        others = {self.node(peer) for peer in journal.voters if peer != self.__selfNode.id}
        for node in self.__otherNodes - others - self.__readonlyNodes:
            self._drop(node)
        for node in others - self.__otherNodes - self.__readonlyNodes:
            self._begin_with(node)
        self.__readonlyNodes -= others
        self.__otherNodes = others

    def _begin_with(self, node: Any) -> None:
        self.__raftNextIndex[node] = self.last_index + 1
        self.__raftMatchIndex[node] = 0
        self.__lastResponseTime[node] = now()

    def _drop(self, node: Any) -> None:
        for table in (self.__raftNextIndex, self.__raftMatchIndex, self.__lastResponseTime, self._progress):
            table.pop(node, None)

    def teach(self, peer: str) -> None:
        """Send the log to ``peer`` though it has no vote (thesis, 4.2.1): it must catch up first."""
        node = self.node(peer)
        if node not in self.__otherNodes and node not in self.__readonlyNodes:
            self.__readonlyNodes.add(node)
            self._begin_with(node)
            self._rewind(node, self.last_index + 1)

    def stop_teaching(self, peer: str) -> None:
        """Stop it, unless ``peer`` has become a voter."""
        node = self.node(peer)
        if node in self.__readonlyNodes:
            self.__readonlyNodes.discard(node)
            self._drop(node)

    def _forget_learners(self) -> None:
        for node in list(self.__readonlyNodes):
            self.stop_teaching(node.id)

    @property
    def may_change_voters(self) -> bool:
        """Row 6: the term's no-op and the last change are committed."""
        journal: Journal = self.__raftLog
        return self.established and journal.voters_index <= self.__raftCommitIndex

    def change_voters(self, voters: set[str], callback: Callable[[Any, int], None]) -> None:
        """Append a configuration that differs by one voter from the one in force; in force at once (thesis, 4.1)."""
        journal: Journal = self.__raftLog
        if not self.may_change_voters or len(voters ^ set(journal.voters)) != 1 or self.__selfNode.id not in voters:
            callback(None, _FAIL.REQUEST_DENIED)
            return
        leaving = set(journal.voters) - voters
        index, term = self.last_index + 1, self.__raftCurrentTerm
        journal.add(configuration(voters), index, term)
        self.__commandsWaitingCommit[index].append((term, callback))
        for peer in leaving:
            # Who leaves is told so, else it would wait for a leader that never speaks to it again.
            self.__readonlyNodes.add(self.node(peer))
        self._follow_configuration()
        self._send_due()

    # Connections.

    def __onNodeConnected(self, node: Any) -> None:  # noqa: N802 - PySyncObj's name
        super().__onNodeConnected(node)
        if node in self.__raftNextIndex:
            # What was under way is lost; before the first answer of a term only a guess is possible.
            known = self.__raftMatchIndex[node]
            self._rewind(node, known + 1 if known else self.last_index + 1)
