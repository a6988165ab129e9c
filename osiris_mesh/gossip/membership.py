"""The shell around the membership core: UDP first, the link where UDP gets no answer, one timer."""

from __future__ import annotations

import asyncio
import logging
import random
import secrets
from collections.abc import Callable, Mapping, Sequence
from typing import Final, Protocol

from osiris_mesh.clock import Clock
from osiris_mesh.errors import OsirisError, RemoteProtocolError
from osiris_mesh.gossip.boxes import Boxes
from osiris_mesh.gossip.datagram import Datagrams
from osiris_mesh.gossip.message import Message, PeerState, prove, proven
from osiris_mesh.gossip.swim import Swim
from osiris_mesh.gossip.swim_state import Changed, Effect, Send
from osiris_mesh.identity.keys import KeyPair
from osiris_mesh.identity.multiaddr import Multiaddr
from osiris_mesh.identity.peer_id import peer_id
from osiris_mesh.link import Audience, Link, Reply, Request, Router
from osiris_mesh.settings.gossip import GossipSettings

__all__ = ["METHOD", "LinksView", "Membership"]

METHOD: Final = "gossip.swim"
_NUMBER: Final = 8
_MAX_LINK_CALLS: Final = 256
_SHORTEST_TIMER: Final = 0.001
_log = logging.getLogger("osiris.gossip")


class LinksView(Protocol):
    """What gossip needs of a node's links; all of it on the loop's thread, nothing blocks."""

    def get(self, peer: str) -> Link | None:
        """Return the live link to ``peer``, if there is one."""
        ...

    def addresses(self, peer: str) -> Sequence[Multiaddr]:
        """Return where ``peer`` was last known to answer."""
        ...

    def on_up(self, callback: Callable[[Link], None]) -> None:
        """Call ``callback`` with every link that comes up from now on."""
        ...

    def on_down(self, callback: Callable[[str], None]) -> None:
        """Call ``callback`` with the peer id whenever a peer's link went down."""
        ...


class Membership:
    """Runs the membership core on the running loop.

    Args:
        key: This node's key.
        links: Its links.
        router: Where ``gossip.swim`` is registered.
        settings: Periods and counts.
        clock: Time.
        rng: Whom to probe and ask.
        on_change: Called with peer id and state whenever what is known about a member changes; must not raise.
    """

    def __init__(
        self,
        key: KeyPair,
        links: LinksView,
        *,
        router: Router,
        settings: GossipSettings,
        clock: Clock,
        rng: random.Random,
        on_change: Callable[[str, PeerState], None],
    ) -> None:
        self.me = peer_id(key.public)
        self._links = links
        self._settings = settings
        self._clock = clock
        self._on_change = on_change
        self._members: Mapping[str, Sequence[Multiaddr]] = {}
        self._swim = Swim(
            self.me,
            settings,
            incarnation=clock.time_ms(),
            prove=lambda incarnation, left: prove(key, incarnation, left=left),
            proven=proven,
            rng=rng,
            now=clock.monotonic(),
        )
        self._boxes = Boxes(key, session=secrets.token_bytes(8), number=clock.time_ms() * 1000)
        self._datagrams = Datagrams(self._boxes, addresses=self._addresses, on_message=self._on_datagram)
        self._timer: asyncio.TimerHandle | None = None
        self._timer_at = float("inf")
        self._running = False
        self._link_calls = 0
        router.direct(METHOD, self._serve, allow=Audience.MEMBER)

    @property
    def port(self) -> int:
        """The UDP port, 0 if there is none."""
        return self._datagrams.port

    async def bind(self, host: str, port: int) -> bool:
        """Bind the UDP socket; without it, or if that fails, membership goes over links alone."""
        return await self._datagrams.bind(host, port)

    def start(self) -> None:
        """Begin to probe."""
        self._running = True
        self._arm()

    def leave(self) -> None:
        """Tell the others that this node stops; it probes nobody from here on."""
        self._perform(self._swim.leave())

    def close(self) -> None:
        """Stop at once."""
        self._running = False
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self._datagrams.close()

    def set_members(self, members: Mapping[str, Sequence[Multiaddr]]) -> None:
        """Take over who is a member by the ledger, and where."""
        for peer in self._members.keys() - members.keys():
            self._datagrams.forget(peer)
        self._members = members
        self._boxes.set_members(members)
        self._perform(self._swim.set_members(members, self._clock.monotonic()))

    def state(self, peer: str) -> PeerState | None:
        """Return what is known about a member; of ourselves, that we live."""
        return PeerState.ALIVE if peer == self.me else self._swim.state(peer)

    def view(self) -> dict[str, PeerState]:
        """Return what is known about every member, ourselves included."""
        return {self.me: PeerState.ALIVE, **self._swim.view()}

    def link_up(self, peer: str) -> None:
        """Compare notes with a peer whose link came up; one of the two ends does it for both."""
        # It may have come back with another port; its own datagrams will say.
        self._datagrams.forget(peer)
        if self.me < peer:
            self._perform(self._swim.sync(peer))

    def link_down(self, peer: str) -> None:
        """Probe a peer whose link went down, now rather than when its turn comes."""
        if self._swim.state(peer) is not PeerState.LEFT:
            self._perform(self._swim.probe(peer, self._clock.monotonic()))

    def counters(self) -> dict[str, int]:
        """Return what was dropped, and why."""
        boxes = self._boxes
        return {
            "strangers": boxes.strangers,
            "replays": boxes.replays,
            "broken": boxes.broken,
            "unproven": self._swim.refused,
            "ill_health": self._swim.awareness.score,
        }

    # effects

    def _perform(self, effects: list[Effect]) -> None:
        for effect in effects:
            if isinstance(effect, Changed):
                self._on_change(effect.peer, effect.state)
            elif effect.over_link:
                self._over_link(effect.peer, effect.message)
            else:
                self._datagram(effect)
        if self._running:
            self._arm()

    def _datagram(self, send: Send) -> None:
        if not self._datagrams.send(send.peer, send.message.encode()):
            self._over_link(send.peer, send.message)

    def _over_link(self, peer: str, message: Message) -> None:
        link = self._links.get(peer)
        if link is None or link.closed or self._link_calls >= _MAX_LINK_CALLS:
            return

        def done(answer: bytes | OsirisError) -> None:
            self._link_calls -= 1
            if type(answer) is bytes and answer:
                try:
                    self._feed_link(peer, answer)
                except RemoteProtocolError as error:
                    _log.debug("%s answered %s wrongly: %s", peer, METHOD, error)

        try:
            link.begin(METHOD, self._frame(message), done, timeout=self._settings.probe_interval_s, urgent=True)
        except OsirisError:
            return
        self._link_calls += 1

    def _frame(self, message: Message) -> bytes:
        return self._boxes.next_number().to_bytes(_NUMBER, "big") + message.encode()

    # what comes in

    def _on_datagram(self, peer: str, data: bytes) -> None:
        try:
            message = Message.decode(data)
        except RemoteProtocolError as error:
            _log.debug("%s sent a wrong datagram: %s", peer, error)
            return
        self._perform(self._swim.receive(peer, message, self._clock.monotonic()))

    def _feed_link(self, peer: str, frame: bytes) -> list[Effect]:
        """Feed a frame that came over the link and carry out all but the answer, which is returned.

        Raises:
            RemoteProtocolError: Not a frame.
        """
        if len(frame) < _NUMBER:
            raise RemoteProtocolError("a membership frame is too short")
        message = Message.decode(frame[_NUMBER:])
        if not self._boxes.came_over_link(peer, int.from_bytes(frame[:_NUMBER], "big")):
            return []
        effects = self._swim.receive(peer, message, self._clock.monotonic(), over_link=True)
        answers = [
            effect for effect in effects if isinstance(effect, Send) and effect.over_link and effect.peer == peer
        ]
        self._perform([effect for effect in effects if effect not in answers])
        return list(answers)

    def _serve(self, request: Request, reply: Reply) -> None:
        for answer in self._feed_link(request.caller.peer, request.body):
            if isinstance(answer, Send):
                reply.send(self._frame(answer.message))
                return
        reply.send(b"")

    def _addresses(self, peer: str) -> Sequence[Multiaddr]:
        return [*self._links.addresses(peer), *self._members.get(peer, ())]

    # the timer

    def _arm(self) -> None:
        due = self._swim.due()
        if due == self._timer_at and self._timer is not None:
            return
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self._timer_at = due
        if due != float("inf"):
            delay = max(_SHORTEST_TIMER, due - self._clock.monotonic())
            self._timer = asyncio.get_running_loop().call_later(delay, self._tick)

    def _tick(self) -> None:
        self._timer = None
        if self._running:
            self._perform(self._swim.tick(self._clock.monotonic()))
