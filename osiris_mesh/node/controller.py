"""One controller: built from its home, run until told to stop, taken down in order.

Start order, each for the sake of the next: links (the port must be known before anyone hears of it), admission (only a
member has a ledger to follow), ledger, raft (hands over from where the ledger stands), gossip, runtime, invoke, and
last the Unix socket, whose existence means "ready". Stop order is the reverse: no new work, drain, hand over
leadership, close.
"""

from __future__ import annotations

import asyncio
import json
import logging
import os
import random
from collections.abc import Callable
from dataclasses import replace
from typing import Any, Final

import osiris_mesh
from osiris_mesh.access.admission import Doorkeeper
from osiris_mesh.access.gate import Gate
from osiris_mesh.access.policy import Policy
from osiris_mesh.clock import SYSTEM, Clock
from osiris_mesh.errors import Conflict, OsirisError, Unavailable
from osiris_mesh.gateway.building import Builds
from osiris_mesh.gateway.control import Control
from osiris_mesh.gateway.function_methods import FunctionMethods
from osiris_mesh.gateway.hook_methods import HookMethods
from osiris_mesh.gateway.tracing import Tracing, start_tracing
from osiris_mesh.gossip import Gossip, PeerState
from osiris_mesh.identity.home import Home
from osiris_mesh.identity.keys import KeyPair
from osiris_mesh.identity.multiaddr import parse_host_port
from osiris_mesh.identity.peer_id import peer_id
from osiris_mesh.ledger.block import Block
from osiris_mesh.ledger.entry import Entry
from osiris_mesh.ledger.kinds import Body, ContainerFunctions
from osiris_mesh.ledger.ledger import Ledger
from osiris_mesh.ledger.state import State
from osiris_mesh.link import Audience, Hello, Link, Links, Router, TcpNetwork, UnixServer
from osiris_mesh.link.discovery import Discovery, Hint
from osiris_mesh.node.announcer import Announcer
from osiris_mesh.node.belonging import Belonging
from osiris_mesh.node.beyond import Beyond
from osiris_mesh.node.book import Book
from osiris_mesh.node.face import Face
from osiris_mesh.node.functions import Functions
from osiris_mesh.node.hooks import Hooks
from osiris_mesh.node.linker import Linker
from osiris_mesh.node.names import Names
from osiris_mesh.node.neighbours import Neighbours
from osiris_mesh.node.options import NodeOptions, write_private
from osiris_mesh.node.overview import Overview
from osiris_mesh.node.raft_links import RaftLinks
from osiris_mesh.node.tips import Standing, Tips
from osiris_mesh.node.voters import VoterKeeper, Voting
from osiris_mesh.node.web import Web
from osiris_mesh.raft import Raft, RaftStatus
from osiris_mesh.settings import Settings

__all__ = ["Controller"]

_DRAIN_SECONDS: Final = 10.0
_TRANSFER_SECONDS: Final = 2.0
_LEVEL_BLOCKS: Final = 8
_CUT_SECONDS: Final = 0.3
_EXPIRY_SECONDS: Final = 0.5
_log = logging.getLogger(__name__)


class Controller:
    """One node.

    Args:
        home: Its folder, held by this process.
        options: What ``init`` or ``join`` was told.
        clock: Time.
        set_level: Sets what this process logs from; an empty text sets it back.

    Attributes:
        is_ready: It has reported that it is ready.
        settings: Settings of all parts.
    """

    def __init__(
        self,
        home: Home,
        options: NodeOptions,
        clock: Clock = SYSTEM,
        set_level: Callable[[str], None] | None = None,
    ) -> None:
        self.is_ready = False
        self.home = home
        self.options = options
        self._clock = clock
        self.settings = Settings.preset(options.preset)
        self._set_level = set_level
        self._tracing: Tracing | None = None
        self._rng = random.SystemRandom()
        self._key = KeyPair.load(home.node_key)
        self.me = peer_id(self._key.public)
        self.policy = Policy(lambda: self.ledger.state, clock)
        self.web = Web(self, self.policy, clock)
        self.names = Names(self, clock)
        self._stop = asyncio.Event()
        self._failure: OsirisError | None = None
        self._known_members: frozenset[str] = frozenset()
        self.state = "starting"
        self._left = False
        self._leaving = False
        self._drained: asyncio.Task[bool] | None = None
        self.discovery: Discovery | None = None

    # Running.

    async def run(self, stop: asyncio.Event, on_ready: Callable[[dict[str, Any]], None]) -> None:
        """Run until ``stop`` is set, or until something fails that can't be lived with.

        Args:
            stop: Set by a signal or by the control method ``node.stop``.
            on_ready: Called once, with what ``init`` and ``join`` report.

        Raises:
            OsirisError: Why the controller could not start, or had to stop.
        """
        self._stop = stop
        loop = asyncio.get_running_loop()
        router = Router()
        self._belonging = Belonging(self.home, self.me)
        self.network_key, mesh_id = self._belonging.network_key, self._belonging.mesh.mesh_id
        self._links = Links(
            self._key,
            self.network_key,
            Hello(mesh_id, name=self.options.name),
            router,
            admit=lambda public_key: self._gate.audience(public_key),  # noqa: PLW0108 - the gate is made below
            network=TcpNetwork(),
            settings=self.settings.link,
            clock=self._clock,
        )
        self._gate = Gate(
            lambda: self.ledger.state.members,
            lambda: self.ledger.state.tokens,
            lambda: self.neighbours.provisional(),  # noqa: PLW0108 - likewise
            self._clock,
        )
        self._raft_links = RaftLinks(router, loop, lambda peer: self.neighbours.may_vote(peer))  # noqa: PLW0108 - likewise
        self.raft = self._make_raft(loop)
        self.ledger = Ledger(
            self.home.ledger,
            mesh_id,
            public_key=self._key.public,
            raft=self.raft,
            links=self._links,
            settings=self.settings.ledger,
            clock=self._clock,
        )
        self.neighbours = Neighbours(self.me, self._belonging, self.ledger, self._links, self.raft)
        self.ledger.register(router)
        Doorkeeper(self._key, mesh_id, Book(self.ledger), self._clock, router)
        await self.ledger.start()
        try:
            # Everything is served before anybody can connect: what is refused once may not be asked again soon.
            self._build(router)
            await self._listen()
            await self._belonging.join(self._links, self._key, self.options, self.addresses)
            await self._work(on_ready)
        finally:
            self.state = "stopped"
            await self.web.close()
            await self.names.close()
            await self._raft_links.close()
            await self.raft.stop()
            await self.ledger.close()
            await self._links.close()
            if self._tracing is not None:
                await asyncio.to_thread(self._tracing.close)
        if self._left:
            self._belonging.forget()
        if self._failure is not None:
            raise self._failure

    async def _listen(self) -> None:
        host, port = parse_host_port(self.options.listen)
        try:
            self.addresses = await self._links.listen(host, port)
        except OSError as error:
            raise Conflict(
                f"{self.options.listen} can't be listened on: {os.strerror(error.errno or 0)}",
                fix="choose another address with --listen HOST:PORT, or end what uses this one",
            ) from None
        self.web.bind()
        self.names.bind(self.beyond.services)
        chosen = replace(self.options, listen=_listen_text(host, self.addresses[0].port))
        if chosen != self.options:
            self.options = chosen
            chosen.save(self.home)
        self._belonging.introduce(self._links, self.options.seeds)

    def _make_raft(self, loop: asyncio.AbstractEventLoop) -> Raft:
        def changed(status: RaftStatus) -> None:
            try:
                loop.call_soon_threadsafe(self._raft_changed, status)
            except RuntimeError:
                # The loop is closed: the controller is past caring who leads.
                pass

        raft = Raft(
            peer=self.me,
            # Only the founder of a mesh that has no genesis yet may elect itself: whoever lost a log must be told anew.
            voters=[self.me] if self._belonging.mesh.founder else None,
            folder=self.home.raft,
            settings=self.settings.raft,
            send=self._raft_links.send,
            on_committed=lambda batch: self.ledger.on_committed(batch),  # noqa: PLW0108 - the ledger is made later
            take_snapshot=lambda index, term: self.ledger.take_snapshot(index, term),  # noqa: PLW0108 - likewise
            install_snapshot=lambda index, term, data: self.ledger.install_snapshot(data, index, term),
            may_append=lambda command: self.ledger.may_append(command),  # noqa: PLW0108 - likewise
            on_change=changed,
            clock=self._clock,
        )
        self._raft_links.attach(raft)
        return raft

    def _build(self, router: Router) -> None:
        """Make the parts above the ledger; nothing runs yet."""
        self.gossip = Gossip(
            self._key,
            self._links,
            router=router,
            members=self.neighbours.addresses,
            settings=self.settings.gossip,
            clock=self._clock,
            folder=self.home.path,
            functions=lambda: self.functions.loads(),  # noqa: PLW0108 - made below
            room=lambda: self.state == "ready",
        )
        self._tracing = start_tracing(
            self.options.otlp, os.environ, peer=self.me, node=self.options.name, version=osiris_mesh.__version__
        )
        self.tips = Tips(self.gossip, self._standing, self._clock, self._on_tip)
        self.functions = Functions(
            self.home,
            self.me,
            self.ledger,
            self.gossip,
            self._links,
            router=router,
            settings=self.settings,
            clock=self._clock,
            rng=self._rng,
            tracer=self._tracing,
            access=self.policy,
        )
        self.beyond = Beyond(self, self._links, self.functions.contexts, self._clock, self._rng)
        self.beyond.register(router)
        self.functions.invoker.beyond = self.beyond.outside
        self.voters = VoterKeeper(
            self.me,
            self.raft,
            self._links,
            Voting(
                lambda: self.ledger.state.voters(),  # noqa: PLW0108 - the state may be replaced
                self.gossip.alive,
                self._is_level,
            ),
            self._clock,
            router,
        )
        self._linker = Linker(self._links, self.neighbours.wanted, self._clock, self._rng)
        self._announcer = Announcer(
            self.functions.running,
            lambda: self.ledger.state.containers.get(self.me, ()),
            lambda rows: self.sign(ContainerFunctions([list(row) for row in rows])),
            lambda entries: self.ledger.propose(entries, timeout=5.0),
        )
        self.face = Face(self)
        self.hooks = Hooks(self, self._clock, self._rng, self._set_level)
        HookMethods(router, self.hooks.bus, self.hooks)
        self.builds = Builds(self.settings.gateway.builds)
        Control(router, self.face, self.ledger, self.functions)
        FunctionMethods(router, self.ledger, self.functions, self.builds, self._clock)
        self.overview = Overview(
            router,
            status=self.face.status,
            state=lambda: self.ledger.state,
            loads=self.gossip.loads,
            calls=lambda: self.functions.metrics(""),
        )
        self._socket = UnixServer(self.home.socket, router, Audience.LOCAL)
        self._links.on_up(self._link_up)
        self._links.on_down(self._link_down)
        self.ledger.on_block(self._on_block)
        self.gossip.on_change(self._on_peer)

    async def _work(self, on_ready: Callable[[dict[str, Any]], None]) -> None:
        host, _ = parse_host_port(self.options.listen)
        await self.gossip.bind(host, self.addresses[0].port)
        await self.functions.open()
        await self.beyond.open()
        self.raft.start(self.ledger.applied)
        for peer in self._links.peers():
            link = self._links.get(peer)
            if link is not None:
                self._link_up(link)
        async with asyncio.TaskGroup() as group:
            tasks = [
                group.create_task(part, name=name)
                for name, part in (
                    ("ledger", self.ledger.run()),
                    ("gossip", self.gossip.run()),
                    ("tips", self.tips.run()),
                    ("linker", self._linker.run()),
                    ("voters", self.voters.run()),
                    ("functions", self.functions.run()),
                    ("beyond", self.beyond.run()),
                    ("announcer", self._announcer.run()),
                    ("discovery", self._discover()),
                    ("hooks", self.hooks.run()),
                    ("expiry", self._recheck_clients()),
                )
            ]
            try:
                await self._belonging.settle(self.ledger, self._key, self._clock, self.options, self.addresses)
                await self._socket.start()
                self.hooks.begin()
                await self.web.start()
                await self.names.start()
                self.state = "ready"
                self._save_process_file()
                self.is_ready = True
                on_ready(self.face.report())
                await self._stop.wait()
                await self._wind_down()
            finally:
                self.home.process_file.unlink(missing_ok=True)
                await self.web.close()
                await self._socket.close()
                await self.functions.close()
                for task in tasks:
                    task.cancel()

    async def _wind_down(self) -> None:
        self.state = "stopping"
        self.beyond.placing.change("draining")
        await self.web.drain(_DRAIN_SECONDS)
        await self.functions.drain(_DRAIN_SECONDS)
        await self.hand_over()
        self.beyond.placing.change("down")
        self.gossip.leave()

    # What the face does.

    def stop(self) -> None:
        """Begin to stop; once the answer to whoever asked is on its way."""
        asyncio.get_running_loop().call_later(0.02, self._stop.set)

    def is_leaving(self) -> None:
        """Note that this node asks to be removed: the block that does is no surprise."""
        self._leaving = True

    def has_left(self) -> None:
        """Note that this home is no longer of the mesh; its files of the mesh go when everything is closed."""
        self._left = True

    async def hand_over(self) -> None:
        """Hand leadership to another voter, if this node leads and there is one."""
        others = [peer for peer in self.raft.status().voters if peer != self.me and self._links.get(peer) is not None]
        if self.raft.status().role == "leader" and others:
            try:
                await self.raft.transfer(_TRANSFER_SECONDS)
            except OsirisError as error:
                _log.info("leadership could not be handed over: %s", error)

    def sign(self, body: Body) -> Entry:
        """Return an entry signed with the node's key."""
        return Entry.make(body.KIND, body.body(), self._key, self._belonging.mesh.mesh_id, self._clock)

    def _save_process_file(self) -> None:
        write_private(self.home.process_file, json.dumps(self.face.report() | {"pid": os.getpid()}) + "\n")

    async def _discover(self) -> None:
        """Announce this node by mDNS and take hints where other members are; the handshake decides."""
        if self.options.mdns:
            self.discovery = Discovery(self._belonging.mesh.mesh_id, self.me, on_hint=self._on_hint)
            await self.discovery.run(self.addresses)

    async def _recheck_clients(self) -> None:
        """Cut clients whose token has expired: no block says when that is."""
        while True:
            await asyncio.sleep(_EXPIRY_SECONDS)
            if any(link.caller.audience is Audience.CLIENT for link in self._links.links()):
                self._links.recheck()

    def _removed(self) -> None:
        """Stop working for a mesh this node is no longer a member of; the controller stays, so that it can be asked."""
        self.state = "removed"
        _log.warning("this node was removed from the mesh")
        self.beyond.placing.change("down")
        self._drained = asyncio.get_running_loop().create_task(self.functions.drain(_DRAIN_SECONDS), name="removed")

    # What happens.

    def _raft_changed(self, status: RaftStatus) -> None:
        if status.role == "failed":
            self._fail(Unavailable(f"Raft stopped: {status.error}", fix="see the log; then start again", maybe=True))
        elif self.state != "starting":
            self.voters.look()
            self.tips.changed()
            self.hooks.look_leader()

    def _fail(self, error: OsirisError) -> None:
        if self._failure is None:
            self._failure = error
            _log.error("the controller must stop: %s", error)
            self._stop.set()

    def _on_block(self, block: Block, state: State) -> None:
        if self.ledger.failed is not None:
            self._fail(self.ledger.failed)
        self.tips.changed()
        self.voters.look()
        self.functions.look()
        if self.state != "starting":
            self.hooks.on_block(block, state)
        members = frozenset(state.members)
        if members != self._known_members:
            lost, self._known_members = self._known_members - members, members
            if self.me in lost and self.state not in {"stopping", "stopped", "removed"} and not self._leaving:
                self._removed()
            for peer in lost:
                self.tips.forget(peer)
                self.beyond.health.gone(peer)
            self.gossip.members_changed()
            self._linker.look()
            if lost:
                # A moment later, so that one who just left learns that it has from the block itself.
                asyncio.get_running_loop().call_later(_CUT_SECONDS, self._links.recheck)
            else:
                self._links.recheck()

    def _on_tip(self, _peer: str, standing: Standing) -> None:
        if standing.height > self.ledger.tip.height:
            self._linker.look()
        if self.raft.status().role == "leader":
            self.voters.look()

    def _on_hint(self, hint: Hint) -> None:
        if self.neighbours.hinted(hint):
            self._linker.look()

    def _on_peer(self, peer: str, state: PeerState) -> None:
        self.hooks.on_peer(peer, state)
        self.voters.look()
        self.functions.look()

    def _link_up(self, link: Link) -> None:
        if link.caller.audience is Audience.MEMBER:
            self._raft_links.link_up(link)

    def _link_down(self, peer: str) -> None:
        self._raft_links.link_down(peer)
        self._linker.look()

    # What the parts ask.

    def peers_linked(self) -> list[str]:
        """Return the members this node has a link to."""
        return self._links.peers()

    def _is_level(self, peer: str) -> bool:
        standing = self.tips.of(peer)
        return standing is not None and standing.height + _LEVEL_BLOCKS >= self.ledger.tip.height

    def tips_height(self) -> int:
        """Return the highest block any member told of."""
        standings = [self.tips.of(peer) for peer in self.ledger.state.members]
        return max((standing.height for standing in standings if standing is not None), default=0)

    def _standing(self) -> Standing:
        status, tip = self.raft.status(), self.ledger.tip
        return Standing(
            tip.height, tip.hash, status.term, status.leader or "", tuple(status.voters), self._clock.time_ms()
        )


def _listen_text(host: str, port: int) -> str:
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
