"""Many membership cores, one fake clock, one lossy network, one seed."""

from __future__ import annotations

import hashlib
import heapq
import random
from collections.abc import Callable, Iterable
from functools import lru_cache

from osiris_mesh.gossip.message import Message, PeerState, Update
from osiris_mesh.gossip.swim import Swim
from osiris_mesh.gossip.swim_state import Changed, Send
from osiris_mesh.identity.keys import KeyPair
from osiris_mesh.identity.peer_id import peer_id, public_key
from osiris_mesh.settings import GossipSettings

DELAY = 0.001


@lru_cache(maxsize=1024)
def name(number: int) -> str:
    return peer_id(KeyPair(number.to_bytes(32, "big")).public)


def fake_proof(peer: str, incarnation: int, *, left: bool) -> bytes:
    """As unforgeable as a test needs, and a hundred times quicker than a signature."""
    return hashlib.blake2b(public_key(peer) + incarnation.to_bytes(8, "big") + bytes([left])).digest()


def fake_proven(update: Update) -> bool:
    return update.proof == fake_proof(update.peer, update.incarnation, left=update.state is PeerState.LEFT)


class FakeMesh:
    """``count`` members; datagrams are lost with ``loss``, links work whenever both ends run.

    Attributes:
        told: For every node, the (time, peer, state) it was told of by its core, in order.
    """

    def __init__(self, count: int, *, settings: GossipSettings, seed: int = 0, loss: float = 0.0) -> None:
        self.now = 0.0
        self.rng = random.Random(seed)
        self.loss = loss
        self.links = True
        self.settings = settings
        self.names = [name(number) for number in range(count)]
        self.cut: set[frozenset[str]] = set()
        self.paused: dict[str, float] = {}
        self.told: dict[str, list[tuple[float, str, PeerState]]] = {peer: [] for peer in self.names}
        self.sent = 0
        self.through_codec = False
        self.nodes: dict[str, Swim] = {}
        self._events: list[tuple[float, int, Callable[[], None]]] = []
        self._order = 0
        self._scheduled: dict[str, float] = {}
        self._lives: dict[str, int] = dict.fromkeys(self.names, 0)
        for peer in self.names:
            self.start(peer)

    def start(self, peer: str, incarnation: int = 0) -> None:
        self._lives[peer] += 1
        node = Swim(
            peer,
            self.settings,
            incarnation=incarnation or 1 + int(self.now * 1000),
            prove=lambda number, left: fake_proof(peer, number, left=left),
            proven=fake_proven,
            rng=random.Random(self.rng.random()),
            now=self.now,
        )
        self.nodes[peer] = node
        self._scheduled.pop(peer, None)
        self.effects(peer, node.set_members(self.names, self.now))

    def kill(self, peer: str, *, links_tell: bool = False) -> None:
        """End a node at once; with ``links_tell`` the others see their links go down."""
        del self.nodes[peer]
        if links_tell:
            for other, node in self.nodes.items():
                self.effects(other, node.probe(peer, self.now))

    def pause(self, peer: str, seconds: float) -> None:
        self.paused[peer] = self.now + seconds

    def partition(self, left: Iterable[str], right: Iterable[str]) -> None:
        self.cut |= {frozenset((one, other)) for one in left for other in right}

    def run(self, seconds: float, until: Callable[[], bool] = lambda: False) -> bool:
        """Let time pass; True as soon as ``until`` holds."""
        end = self.now + seconds
        while self._events and self._events[0][0] <= end:
            self.now, _, event = heapq.heappop(self._events)
            event()
            if until():
                return True
        self.now = end
        return until()

    def at(self, when: float, event: Callable[[], None]) -> None:
        self._order += 1
        heapq.heappush(self._events, (max(when, self.now), self._order, event))

    def effects(self, peer: str, effects: list[Send | Changed]) -> None:
        for effect in effects:
            if isinstance(effect, Changed):
                self.told[peer].append((self.now, effect.peer, effect.state))
            else:
                self._send(peer, effect)
        self._wake(peer)

    def agree(self, about: str, state: PeerState) -> bool:
        return all(node.state(about) is state for peer, node in self.nodes.items() if peer != about)

    def ever(self, state: PeerState) -> list[tuple[str, float, str]]:
        return [(peer, at, about) for peer, told in self.told.items() for at, about, what in told if what is state]

    def _wake(self, peer: str) -> None:
        due = max(self.nodes[peer].due(), self.paused.get(peer, 0.0))
        if due < float("inf") and self._scheduled.get(peer) != due:
            self._scheduled[peer] = due
            self.at(due, lambda: self._tick(peer, due))

    def _tick(self, peer: str, due: float) -> None:
        if peer not in self.nodes or self._scheduled.get(peer) != due:
            return
        del self._scheduled[peer]
        if self.paused.get(peer, 0.0) > self.now:
            self._wake(peer)
            return
        self.effects(peer, self.nodes[peer].tick(self.now))

    def _send(self, sender: str, send: Send) -> None:
        self.sent += 1
        lost = not self.links if send.over_link else self.rng.random() < self.loss
        if lost or frozenset((sender, send.peer)) in self.cut:
            return
        message = Message.decode(send.message.encode()) if self.through_codec else send.message
        delay = DELAY * self.rng.uniform(0.5, 1.5)
        self.at(self.now + delay, lambda: self._arrive(sender, send.peer, message, send.over_link))

    def _arrive(self, sender: str, peer: str, message: Message, over_link: bool) -> None:
        if peer not in self.nodes:
            return
        if self.paused.get(peer, 0.0) > self.now:
            self.at(self.paused[peer], lambda: self._arrive(sender, peer, message, over_link))
            return
        self.effects(peer, self.nodes[peer].receive(sender, message, self.now, over_link=over_link))
