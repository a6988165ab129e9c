"""Gossip of one node: who is alive, what they say, how loaded they are."""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Final

from osiris_mesh.clock import SYSTEM, Clock
from osiris_mesh.errors import RemoteProtocolError
from osiris_mesh.gossip.fanout import MAX_ONWARD, Fanout
from osiris_mesh.gossip.load import TOPIC as LOAD_TOPIC
from osiris_mesh.gossip.load import FunctionLoad, Load, LoadTable
from osiris_mesh.gossip.membership import LinksView, Membership
from osiris_mesh.gossip.message import PeerState
from osiris_mesh.gossip.monitor import ResourceMonitor
from osiris_mesh.gossip.outbox import Parcel
from osiris_mesh.gossip.topic import TopicMessage, Topics, policy_of
from osiris_mesh.identity.keys import KeyPair
from osiris_mesh.identity.multiaddr import Multiaddr
from osiris_mesh.identity.peer_id import peer_id, public_key
from osiris_mesh.link import Audience, Link, Router
from osiris_mesh.settings.gossip import GossipSettings

__all__ = ["Gossip"]

_RELAYS: Final = 2
"""Peers asked to pass a message on to a member we have no link to; two, so that one may fail."""
_LOOK_SECONDS: Final = 1.0
_log = logging.getLogger("osiris.gossip")


class Gossip:
    """Gossip of one node. Belongs to the loop it is first used on; no method blocks.

    Args:
        key: The node's key.
        links: The node's links; somebody else keeps them up.
        router: Where ``gossip.swim`` and ``gossip.message`` are registered, for members alone.
        members: The nodes that are members by the ledger, by peer id, with their addresses; asked once a second and
            after :meth:`members_changed`. Nobody else counts, whatever is gossiped.
        settings: Periods and bounds.
        clock: Time.
        rng: Choices of whom to probe, ask and relay through.
        folder: A path on the file system whose free space is published; None publishes no load.
        functions: Demand for functions on this node, by digest.
        room: Whether this node takes new instances.

    Attributes:
        loads: The newest load of every member, ourselves included.
        me: Our peer id.
    """

    def __init__(
        self,
        key: KeyPair,
        links: LinksView,
        *,
        router: Router,
        members: Callable[[], Mapping[str, Sequence[Multiaddr]]],
        settings: GossipSettings,
        clock: Clock = SYSTEM,
        rng: random.Random | None = None,
        folder: Path | None = None,
        functions: Callable[[], Mapping[bytes, FunctionLoad]] = dict,
        room: Callable[[], bool] = lambda: True,
    ) -> None:
        self.me = peer_id(key.public)
        self.loads = LoadTable()
        self._links = links
        self._members = members
        self._settings = settings
        self._clock = clock
        self._rng = rng or random.Random()  # noqa: S311 - it spreads load; nothing secret depends on it
        self._monitor = ResourceMonitor(folder) if folder is not None else None
        self._functions = functions
        self._room = room
        self._known: frozenset[str] = frozenset()
        self._handlers: dict[str, list[Callable[[str, bytes], None]]] = {}
        self._on_change: list[Callable[[str, PeerState], None]] = []
        self._latest: dict[str, TopicMessage] = {}
        self._wake = asyncio.Event()
        self._topics = Topics(key, sequence=clock.time_ms() * 1000, max_body=settings.message_bytes)
        self._fanout = Fanout(router, settings, self._on_parcel)
        self._membership = Membership(
            key,
            links,
            router=router,
            settings=settings,
            clock=clock,
            rng=self._rng,
            on_change=self._changed,
        )
        links.on_up(self._link_up)
        links.on_down(self._link_down)
        self.on(LOAD_TOPIC, self._on_load)

    @property
    def port(self) -> int:
        """The UDP port; 0 if membership goes over links alone."""
        return self._membership.port

    async def bind(self, host: str, port: int) -> bool:
        """Bind the UDP socket on the links' address and TCP port; call it once the links listen.

        Returns:
            False if that port is taken for UDP; membership then goes over links alone, which is slower, not wrong.
        """
        return await self._membership.bind(host, port)

    async def run(self) -> None:
        """Work until cancelled; then :meth:`close`."""
        self._look()
        self._membership.start()
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(self._watch_members(), name="gossip members")
                if self._monitor is not None:
                    group.create_task(self._publish_load(self._monitor), name="gossip load")
        finally:
            await self.close()

    async def close(self) -> None:
        """Close the socket and send nothing more; for who bound and never ran."""
        self._membership.close()
        await self._fanout.close()

    def leave(self) -> None:
        """Tell the others that this node stops, and does not fail; call it before the links close."""
        self._membership.leave()

    def members_changed(self) -> None:
        """Look again at who is a member: the ledger has changed it."""
        self._wake.set()

    def publish(self, topic: str, body: bytes) -> None:
        """Send a message to every live member; to ourselves it is not delivered.

        A member without a link to us gets it through two that have one. A message waits in each peer's bounded queue;
        see :data:`osiris_mesh.gossip.topic.POLICIES` for which topics are urgent and which keep the newest alone.

        Raises:
            UsageError: The topic's name or the body's size is out of bounds.
        """
        message = self._topics.publish(topic, body, self._clock.time_ms())
        if policy_of(topic).latest:
            self._latest[topic] = message
        fanout = self._fanout
        linked = [peer for peer in fanout.linked() if peer in self._known]
        onward = self._relays(linked) if len(linked) < len(self._known) else {}
        plain = Parcel(message)
        for peer in linked:
            targets = onward.get(peer)
            fanout.send(peer, Parcel(message, tuple(targets)) if targets else plain)

    def on(self, topic: str, callback: Callable[[str, bytes], None]) -> None:
        """Call ``callback`` with the origin and body of every message on ``topic`` that counts; it must not block."""
        self._handlers.setdefault(topic, []).append(callback)

    def alive(self, peer: str) -> bool:
        """Say whether a member counts as alive: a suspected one does until its time to refute is over (SWIM, 4.2)."""
        return self._membership.state(peer) in {PeerState.ALIVE, PeerState.SUSPECT}

    def view(self) -> dict[str, PeerState]:
        """Return what is known about every member, ourselves included."""
        return self._membership.view()

    def on_change(self, callback: Callable[[str, PeerState], None]) -> None:
        """Call ``callback`` with peer id and state whenever what is known about a member changes."""
        self._on_change.append(callback)

    def counters(self) -> dict[str, int]:
        """Return what was dropped, and why, since the start."""
        waiting = self._fanout.waiting().values()
        return {
            **self._membership.counters(),
            **{f"message_{reason}": count for reason, count in self._topics.refused.items()},
            "queue_dropped": self._fanout.dropped + sum(dropped for _, dropped in waiting),
            "queued": sum(count for count, _ in waiting),
        }

    # members and links

    async def _watch_members(self) -> None:
        while True:
            try:
                async with asyncio.timeout(_LOOK_SECONDS):
                    await self._wake.wait()
            except TimeoutError:
                pass
            self._wake.clear()
            self._look()

    def _look(self) -> None:
        members = self._members()
        self._known = frozenset(members) - {self.me}
        self._topics.set_members(members)
        self._membership.set_members(members)
        self.loads.keep(members)
        for peer in [peer for peer in self._fanout.linked() if peer not in self._known]:
            self._fanout.down(peer)
        for peer in self._known - set(self._fanout.linked()):
            link = self._links.get(peer)
            if link is not None and not link.closed:
                self._link_up(link)

    def _link_up(self, link: Link) -> None:
        peer = link.caller.peer
        if link.caller.audience is not Audience.MEMBER or peer not in self._known:
            # Not by our ledger yet; the next look takes it up.
            return
        self._fanout.up(link, [Parcel(message) for message in self._latest.values()])
        self._membership.link_up(peer)

    def _link_down(self, peer: str) -> None:
        link = self._links.get(peer)
        if link is not None and not link.closed:
            return
        self._fanout.down(peer)
        if peer in self._known:
            self._membership.link_down(peer)

    def _changed(self, peer: str, state: PeerState) -> None:
        _log.info("member changed", extra={"member": peer, "state": state.name.lower()})
        if state in {PeerState.DEAD, PeerState.LEFT}:
            self.loads.forget(peer)
        for callback in self._on_change:
            self._run_callback(callback, peer, state)

    # messages

    def _relays(self, linked: list[str]) -> dict[str, list[bytes]]:
        """Choose who passes a message on to those we have no link to."""
        able = [peer for peer in linked if self._membership.state(peer) is PeerState.ALIVE]
        onward: dict[str, list[bytes]] = {}
        if not able:
            return onward
        for peer in self._known.difference(linked):
            if self.alive(peer):
                for relay in self._rng.sample(able, min(_RELAYS, len(able))):
                    targets = onward.setdefault(relay, [])
                    if len(targets) < MAX_ONWARD:
                        targets.append(public_key(peer))
        return onward

    def _on_parcel(self, sender: str, raw: bytes, onward: list[bytes]) -> None:
        message = self._topics.receive(raw, sender)
        if message is None:
            return
        for public in onward:
            # One hop and no further: the list is not signed, and what we pass on carries none.
            peer = peer_id(public)
            if peer in self._known and peer not in {sender, message.origin}:
                self._fanout.send(peer, Parcel(message))
        for callback in self._handlers.get(message.topic, ()):
            self._run_callback(callback, message.origin, message.body)

    def _run_callback(self, callback: Callable[..., None], *arguments: object) -> None:
        try:
            callback(*arguments)
        except Exception:  # noqa: BLE001 - a listener's defect must not stop delivery to the others
            _log.exception("a gossip callback failed")

    # load

    async def _publish_load(self, monitor: ResourceMonitor) -> None:
        settings = self._settings
        published: Load | None = None
        published_at = 0.0
        while True:
            now = self._clock.monotonic()
            load = replace(monitor.sample(), functions=dict(self._functions()), room=self._room())
            self.loads.put(self.me, load, now)
            due = now - published_at >= settings.load_refresh_s
            if published is None or due or load.differs(published, settings.load_change):
                self.publish(LOAD_TOPIC, load.encode())
                published, published_at = load, now
            await asyncio.sleep(settings.load_interval_s)

    def _on_load(self, origin: str, body: bytes) -> None:
        try:
            load = Load.decode(body)
        except RemoteProtocolError as error:
            _log.debug("%s published a wrong load: %s", origin, error)
            return
        if self._membership.state(origin) not in {PeerState.DEAD, PeerState.LEFT}:
            self.loads.put(origin, load, self._clock.monotonic())
