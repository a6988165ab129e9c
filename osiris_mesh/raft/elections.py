"""Who may lead: the part of our PySyncObj that votes, stands for election, and notices that a leader is gone.

Row 5 (paper, 5.2): one vote of each voter in each term. Row 15 (thesis, 9.6 and 4.2.3): before it raises its term, a
node asks whether it would be elected (*pre-vote*), and nobody votes while a leader is fresh, except after a handover
(thesis, 3.10).

    silence of a leader for the election time          -> forget it, ask all voters: pre-vote
    a majority would vote                              -> PySyncObj's own candidacy: term + 1, request_vote
    not a voter                                        -> wait on, for ever
    timeout_now of the leader                          -> candidacy at once, marked as a handover
    the link to the leader broke                       -> as silence, but soon

The class bears PySyncObj's name, so that ``self.__name`` here is PySyncObj's private ``name``: Python mangles both to
``_SyncObj__name``. Names with one underscore are ours.
"""

from __future__ import annotations

import random
from typing import Any, Final

from osiris_mesh.raft.ground import now, syncobj
from osiris_mesh.raft.journal import Journal
from osiris_mesh.raft.message import Message
from osiris_mesh.raft.outbox import Outbox, Peer
from osiris_mesh.settings import RaftSettings

__all__ = ["CANDIDATE", "FOLLOWER", "LEADER", "SyncObj"]

FOLLOWER: Final = 0
CANDIDATE: Final = 1
LEADER: Final = 2


class SyncObj(syncobj.SyncObj):  # type: ignore[misc]  # PySyncObj has no types
    """PySyncObj with safe and quiet elections."""

    # PySyncObj's private state that is touched here.
    __raftState: Any
    __raftCurrentTerm: Any
    __raftLog: Any
    __raftLeader: Any
    __raftElectionDeadline: Any
    __transferInProgress: Any
    __votedForNodeId: Any
    __selfNode: Any
    __otherNodes: Any

    def __init__(self, peer: str, journal: Journal, outbox: Outbox, settings: RaftSettings, rng: random.Random) -> None:
        self._rng = rng
        self._nodes: dict[str, Peer] = {}
        self._settings = settings
        self._outbox = outbox
        self._leader_heard = float("-inf")
        self._pre_votes: set[str] = set()
        self._pre_vote_round = 0
        self._pre_vote_won = False
        self._votes: set[str] = set()
        conf = syncobj.SyncObjConf(
            autoTick=False,
            journalFile=journal,
            raftMinTimeout=settings.election_min_s,
            raftMaxTimeout=settings.election_max_s,
            appendEntriesPeriod=settings.heartbeat_s,
            connectionTimeout=settings.election_max_s,
            leaderFallbackTimeout=settings.quorum_s,  # row 17
            commandsQueueSize=0,
            commandsWaitLeader=True,
            dynamicMembershipChange=False,  # rows 13, 14: the configuration comes from the log
            fullDumpFile=None,
            useFork=False,  # row 22
        )
        super().__init__(self.node(peer), [], conf, transport=outbox)

    def node(self, peer: str) -> Peer:
        """Return the one object that stands for ``peer``."""
        found = self._nodes.get(peer)
        if found is None:
            found = self._nodes[peer] = Peer(peer)
        return found

    @property
    def state(self) -> int:
        """FOLLOWER, CANDIDATE or LEADER."""
        return int(self.__raftState)

    @property
    def leader(self) -> str | None:
        """Peer id of the leader heard from."""
        return None if self.__raftLeader is None else str(self.__raftLeader.id)

    @property
    def voters(self) -> tuple[str, ...]:
        """The configuration in force."""
        journal: Journal = self.__raftLog
        return journal.voters

    @property
    def is_voter(self) -> bool:
        """Whether this node is in it."""
        return self.__selfNode.id in self.voters

    # Standing for election.

    def __generateRaftTimeout(self) -> float:  # noqa: N802 - PySyncObj's name
        low, high = self._settings.election_min_s, self._settings.election_max_s
        return low + (high - low) * self._rng.random()

    def _postpone_election(self) -> None:
        self.__raftElectionDeadline = now() + self.__generateRaftTimeout()

    # Row 15: nobody stands for election who could not win, or who would depose a leader that lives.

    def _elections(self) -> None:
        self._outbox.by_transfer = False
        if self.__raftState == LEADER or self.__raftElectionDeadline >= now():
            return
        if not self.is_voter:
            self._postpone_election()
            self._forget_leader()
            return
        if self.__transferInProgress:
            self._outbox.by_transfer = True
            return
        if self._pre_vote_won:
            self._pre_vote_won = False
            return
        self._postpone_election()
        self._forget_leader()
        self._pre_vote_round += 1
        self._pre_votes = {self.__selfNode.id}
        for node in self.__otherNodes:
            self._outbox.send(node, self._candidacy("pre_vote", self.__raftCurrentTerm + 1))
        if self._is_majority(self._pre_votes):
            self.__raftElectionDeadline = 0.0

    def _candidacy(self, kind: str, term: int) -> Message:
        last = self.__raftLog[-1]
        return {
            "type": kind,
            "term": term,
            "last_log_index": last[1],
            "last_log_term": last[2],
            "round": self._pre_vote_round,
        }

    def _is_majority(self, peers: set[str]) -> bool:
        voters = self.voters
        return 2 * sum(peer in peers for peer in voters) > len(voters)

    def _leader_is_fresh(self) -> bool:
        heard = now() - self._leader_heard < self._settings.election_min_s
        return bool(heard or self.__raftState == LEADER)

    def _forget_leader(self) -> None:
        if self.__raftLeader is not None:
            self.__raftLeader = None
            self._leader_heard = float("-inf")
            self.__onLeaderChanged()

    def _pre_vote(self, node: Any, message: Message) -> None:
        last = self.__raftLog[-1]
        granted = (
            not self._leader_is_fresh()
            and message["term"] > self.__raftCurrentTerm
            and (message["last_log_term"], message["last_log_index"]) >= (last[2], last[1])
        )
        answer = {"type": "pre_vote_answer", "term": self.__raftCurrentTerm}
        self._outbox.send(node, {**answer, "round": message["round"], "granted": granted})

    def _pre_vote_answer(self, node: Any, message: Message) -> None:
        if self.__raftState == LEADER or self._leader_is_fresh():
            return
        if message["term"] > self.__raftCurrentTerm:
            # Its term would never be reached by pre-votes alone.
            self._step_down(message["term"])
        elif message["granted"] and message["round"] == self._pre_vote_round and self._pre_votes:
            self._pre_votes.add(node.id)
            if self._is_majority(self._pre_votes):
                self._pre_votes = set()
                self._pre_vote_won = True
                self.__raftElectionDeadline = 0.0

    def _step_down(self, term: int) -> None:
        """Paper, 5.1: a later term makes a follower of anyone."""
        self.__setCurrentTerm(term, None)
        self.__setState(FOLLOWER)
        self._forget_leader()
        self._postpone_election()

    # Voting.

    def _request_vote(self, node: Any, message: Message) -> None:
        if self._leader_is_fresh() and not message["transfer"]:
            return
        if message["term"] == self.__raftCurrentTerm and self.__votedForNodeId == node.id:
            # It asks again: our answer was lost.
            self._outbox.send(node, {"type": "response_vote", "term": message["term"]})
            return
        super().__onMessageReceived(node, message)

    def _vote(self, node: Any, message: Message) -> None:
        """Row 5: one vote of each voter in each term."""
        if self.__raftState != CANDIDATE or message["term"] != self.__raftCurrentTerm:
            return
        if node in self.__otherNodes and node.id not in self._votes:
            self._votes.add(node.id)
            super().__onMessageReceived(node, message)

    def __setCurrentTerm(self, term: int, vote: str | None) -> None:  # noqa: N802 - PySyncObj's name
        if term != self.__raftCurrentTerm:
            self._votes = set()
            self._pre_votes = set()
            self._pre_vote_won = False
        super().__setCurrentTerm(term, vote)

    # Links.

    def __onNodeDisconnected(self, node: Any) -> None:  # noqa: N802 - PySyncObj's name
        super().__onNodeDisconnected(node)
        if node == self.__raftLeader and self.__raftState != LEADER:
            # A link that breaks says sooner than silence that the leader died; a pre-vote finds out at no cost.
            self._leader_heard = float("-inf")
            soon = now() + self._settings.heartbeat_s * (0.5 + self._rng.random())
            self.__raftElectionDeadline = min(self.__raftElectionDeadline, soon)
            self.__onLeaderChanged()
