"""Linearizable reads without a clock to trust (thesis, 6.4): row 17.

The leader notes its commit index once an entry of its own term is committed, numbers a *round*, and sends the number
with its next messages; a majority that echoes it in this term proves that nobody else led when the index was noted.
Reads that come together share a round. A follower asks the leader for the index. Whoever has applied the index may then
read.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any

from osiris_mesh.errors import Unavailable
from osiris_mesh.raft.elections import LEADER
from osiris_mesh.raft.ground import now
from osiris_mesh.raft.message import Message
from osiris_mesh.raft.outbox import Outbox
from osiris_mesh.raft.overrides import SyncObj
from osiris_mesh.raft.request import Read, Request
from osiris_mesh.settings import RaftSettings

__all__ = ["ReadRounds"]

_MOST_FROM_PEERS = 4096


class ReadRounds:
    """Reads under way on one node.

    Args:
        peer: This node.
        raft: Its Raft.
        outbox: For questions to the leader, and answers.
        settings: How long a peer's question is kept.
        rng: First number of this life's questions, so that answers to an earlier life's match none.
        settle: Called with a read of this node and its outcome.
    """

    def __init__(
        self,
        peer: str,
        raft: SyncObj,
        outbox: Outbox,
        settings: RaftSettings,
        rng: random.Random,
        settle: Callable[[Request, Any], None],
    ) -> None:
        self._peer = peer
        self._raft = raft
        self._outbox = outbox
        self._settings = settings
        self._settle = settle
        self._number = rng.getrandbits(48)
        self._reads: list[Read] = []
        raft.on_read_index = self._on_message

    def add(self, read: Read) -> None:
        """Take a read of this node."""
        self._reads.append(read)

    def take_all(self) -> list[Read]:
        """Give up all reads of this node."""
        reads, self._reads = self._reads, []
        return [read for read in reads if read.origin is None]

    def advance(self, time: float) -> None:
        """Begin a round for new reads, and answer those whose round is confirmed."""
        if not self._reads:
            return
        starting: list[Read] = []
        waiting: list[Read] = []
        for read in self._reads:
            if time > read.deadline:
                self._give_up(read)
            elif not (self._lead(read, starting) if self._raft.state == LEADER else self._follow(read)):
                waiting.append(read)
        self._reads = waiting
        if starting:
            number = self._raft.start_read_round()
            for read in starting:
                read.round, read.index = number, self._raft.raftCommitIndex
            if self._confirmed(number):
                for read in starting:
                    self._answer(read)
                self._reads = [read for read in self._reads if read not in starting]

    def _lead(self, read: Read, starting: list[Read]) -> bool:
        """Whether ``read`` is done with."""
        if read.term != self._raft.raftCurrentTerm:
            read.term, read.round = self._raft.raftCurrentTerm, 0
        if not read.round:
            if self._raft.established:
                starting.append(read)
            return False
        if self._confirmed(read.round):
            self._answer(read)
            return True
        return False

    def _follow(self, read: Read) -> bool:
        """Whether ``read`` is done with: a peer's question is none of a follower's."""
        if read.origin is not None:
            return True
        leader = self._raft.leader
        if leader is not None and (not read.number or read.term != self._raft.raftCurrentTerm):
            self._number += 1
            read.number, read.term, read.round = self._number, self._raft.raftCurrentTerm, 0
            self._outbox.send(self._raft.node(leader), {"type": "read_index", "request_id": read.number})
        return False

    def _confirmed(self, number: int) -> bool:
        heard, voters = self._raft.round_heard, self._raft.voters
        return 2 * sum(voter == self._peer or heard.get(voter, 0) >= number for voter in voters) > len(voters)

    def _answer(self, read: Read) -> None:
        if read.origin is None:
            self._settle(read, read.index)
        else:
            answer = {"type": "read_index_answer", "request_id": read.number, "index": read.index}
            self._outbox.send(self._raft.node(read.origin), answer)

    def _give_up(self, read: Read) -> None:
        if read.origin is None:
            self._settle(read, Unavailable("no leader confirmed the read in time", maybe=False))

    def _on_message(self, node: Any, message: Message) -> None:
        if message["type"] == "read_index":
            if len(self._reads) < _MOST_FROM_PEERS:
                deadline = now() + 2 * self._settings.quorum_s
                self._reads.append(Read(deadline, origin=node.id, number=message["request_id"]))
            return
        for read in self._reads:
            if read.origin is None and read.number == message["request_id"]:
                self._reads.remove(read)
                self._settle(read, message["index"])
                return
