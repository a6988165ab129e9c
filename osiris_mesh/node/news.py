"""What of a node's doings is news: from states as they come to events. A core: time is an argument.

Everything here remembers what it saw last and returns an event only where that changed.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Final

from osiris_mesh.gateway.events import Event
from osiris_mesh.gossip.message import PeerState
from osiris_mesh.identity.peer_id import peer_id
from osiris_mesh.ledger.block import Block
from osiris_mesh.ledger.entry import Entry
from osiris_mesh.ledger.kinds import FunctionActivate, FunctionRemove, MemberAdd, MemberRemove, read
from osiris_mesh.ledger.state import State

__all__ = ["News"]

_WITHOUT_QUORUM: Final = 5.0
"""Seconds without a leader that an election may take before it is news."""
_RECENT_MS: Final = 60_000
"""Blocks older than this are history being caught up with, not news."""
_FULL_EVERY: Final = 60.0
_KINDS: Final = frozenset({MemberAdd.KIND, MemberRemove.KIND, FunctionActivate.KIND, FunctionRemove.KIND})


class News:
    """News of one node.

    Args:
        now: Monotonic seconds.
    """

    def __init__(self, now: float) -> None:
        self._lost: set[str] = set()
        self._leader = ""
        self._alone_since: float | None = now
        self._quorum_lost = False
        self._members: dict[str, str] = {}
        self._active: dict[str, str | None] = {}
        self._running: dict[tuple[str, str], int] = {}
        self._refused: dict[str, tuple[int, float]] = {}

    def peer(self, peer: str, name: str, state: PeerState) -> list[Event]:
        """Take in what gossip knows of a member now."""
        fields = {"peer": peer, "node": name}
        if state is PeerState.DEAD and peer not in self._lost:
            self._lost.add(peer)
            return [Event("node.lost", fields)]
        if state is PeerState.ALIVE and peer in self._lost:
            self._lost.discard(peer)
            return [Event("node.back", fields)]
        if state is PeerState.LEFT:
            self._lost.discard(peer)
        return []

    def leadership(self, leader: str, term: int, now: float) -> list[Event]:
        """Take in who leads; empty: nobody a majority follows. Ask again within a second or so while nobody does."""
        events: list[Event] = []
        if not leader:
            if self._alone_since is None:
                self._alone_since = now
            if not self._quorum_lost and now - self._alone_since >= _WITHOUT_QUORUM:
                self._quorum_lost = True
                events.append(Event("quorum.lost", {"term": term}))
            return events
        if self._quorum_lost:
            self._quorum_lost = False
            seconds = round(now - (now if self._alone_since is None else self._alone_since), 1)
            events.append(Event("quorum.back", {"leader": leader, "term": term, "seconds": seconds}))
        self._alone_since = None
        if leader != self._leader:
            if self._leader:
                events.append(Event("leader.changed", {"leader": leader, "before": self._leader, "term": term}))
            self._leader = leader
        return events

    def know(self, state: State) -> None:
        """Take in the ledger's state as it was when this node started: none of it is news."""
        self._members = {member.peer: member.name for member in state.members.values()}
        self._active = {record.name: record.active for record in state.functions.values()}

    def block(self, block: Block, state: State, time_ms: int) -> list[Event]:
        """Take in a block that was just applied.

        Args:
            block: The block.
            state: The state after it.
            time_ms: This node's wall clock.
        """
        events: list[Event] = []
        for entry, outcome in zip(block.entries, block.outcomes, strict=True):
            if entry is not None and entry.kind in _KINDS and outcome.accepted and not outcome.code:
                events += self._entry(entry, block.height, state)
        return events if time_ms - block.header.time_ms <= _RECENT_MS else []

    def _entry(self, entry: Entry, height: int, state: State) -> list[Event]:
        match read(entry.kind, entry.body):
            case MemberAdd(public_key=key, name=name):
                peer = peer_id(key)
                if peer in self._members:
                    return []
                self._members[peer] = name
                member = state.members.get(peer)
                role = member.role if member else ""
                return [Event("member.added", {"peer": peer, "node": name, "role": role, "height": height})]
            case MemberRemove(peer=peer):
                name = self._members.pop(peer, "")
                self._lost.discard(peer)
                return [Event("member.removed", {"peer": peer, "node": name, "height": height})]
            case FunctionActivate(name=function, version=version):
                before, self._active[function] = self._active.get(function), version
                user = state.users.get(entry.author)
                fields = {
                    "function": function,
                    "version": version,
                    "before": before,
                    "author": user.name if user else entry.author.hex()[:16],
                    "height": height,
                }
                return [Event("deploy.done", fields)] if before != version else []
            case FunctionRemove(name=function, version=""):
                self._active.pop(function, None)
        return []

    def running(self, rows: Iterable[tuple[str, str, int]]) -> list[Event]:
        """Take in what runs here: name, version, instances."""
        now = {(name, version): instances for name, version, instances in rows if instances}
        before, self._running = self._running, now
        return [
            *(
                Event("function.started", {"function": name, "version": version, "instances": now[name, version]})
                for name, version in now
                if (name, version) not in before
            ),
            *(
                Event("function.stopped", {"function": name, "version": version})
                for name, version in before
                if (name, version) not in now
            ),
        ]

    def refused(self, counts: Mapping[str, int], now: float) -> list[Event]:
        """Take in how many calls were refused for want of room since the start, by function; "" is the node itself."""
        events: list[Event] = []
        for name, count in counts.items():
            told, when = self._refused.get(name, (0, -_FULL_EVERY))
            if count < told:
                # The function's pool was let go of and made anew.
                told = 0
            if count > told and now - when >= _FULL_EVERY:
                events.append(Event("queue.full", {"function": name, "refused": count - told}))
                told, when = count, now
            self._refused[name] = (told, when)
        for name in self._refused.keys() - counts.keys():
            del self._refused[name]
        return events
