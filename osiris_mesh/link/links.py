"""All links of a node: accepts and dials, keeps one live link a member, notices the dead, cuts the removed."""

from __future__ import annotations

import asyncio
import logging
import secrets
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from typing import Final

import ifaddr

from osiris_mesh.clock import SYSTEM, Clock
from osiris_mesh.errors import Denied, OsirisError, Overloaded, Unavailable, UsageError
from osiris_mesh.identity.keys import KeyPair
from osiris_mesh.identity.multiaddr import Multiaddr
from osiris_mesh.identity.peer_id import peer_id
from osiris_mesh.link.address_book import AddressBook
from osiris_mesh.link.aio import Link
from osiris_mesh.link.hello import Facts, Hello, keep
from osiris_mesh.link.mux import MuxLimits
from osiris_mesh.link.network import Listener, Network, TcpNetwork
from osiris_mesh.link.refusal import expected_key
from osiris_mesh.link.request import Audience, Caller
from osiris_mesh.link.router import Router
from osiris_mesh.link.secure import SecureProtocol, dial_session
from osiris_mesh.link.session import Session
from osiris_mesh.settings.link import LinkSettings

__all__ = ["Admit", "Links"]

Admit = Callable[[bytes], Audience | None]
"""The audience of a public key; None refuses it."""

_RETIRED_S: Final = 5.0
_RETIRED_LOOK_S: Final = 0.25
_JOINER_LIMITS: Final = MuxLimits(streams=4, message=1 << 20, buffered=2 << 20, control=64)
_log = logging.getLogger("osiris.link")


@dataclass(slots=True)
class _Entry:
    """What the manager knows of one established link."""

    link: Link
    facts: Facts
    hello: Hello
    since: float
    seen: int = -1
    seen_at: float = 0.0
    retired: bool = False


class Links:
    """All links of a node.

    Args:
        key: The node's key.
        network_key: The mesh's 32-byte secret.
        hello: What the node says of itself; :meth:`listen` adds its addresses.
        router: What peers may call.
        admit: The audience of a public key, asked before message 4 of the handshake and again by :meth:`recheck`; None
            refuses. Must not block.
        network: TCP if None.
        settings: Bounds and times.
        clock: Time for deadlines, keep-alive and back-off.

    Attributes:
        peer: Our own peer id.
        hello: What we say; may be replaced, for links that come later.
        router: As given.
    """

    def __init__(
        self,
        key: KeyPair,
        network_key: bytes,
        hello: Hello,
        router: Router,
        *,
        admit: Admit,
        network: Network | None = None,
        settings: LinkSettings | None = None,
        clock: Clock = SYSTEM,
    ) -> None:
        self.peer = peer_id(key.public)
        self.hello = hello
        self.router = router
        self._key = key
        self._network_key = network_key
        self._admit = admit
        self._network = network or TcpNetwork()
        self._settings = settings or LinkSettings()
        self._clock = clock
        self._book = AddressBook(self._settings.backoff_s, self._settings.backoff_max_s)
        self._listeners: list[Listener] = []
        self._half_open: Counter[str] = Counter()
        self._shaking: set[SecureProtocol] = set()
        self._live: dict[str, Link] = {}
        self._entries: dict[Link, _Entry] = {}
        self._dials: dict[str, asyncio.Task[Link]] = {}
        self._closing: set[asyncio.Task[None]] = set()
        self._on_up: list[Callable[[Link], None]] = []
        self._on_down: list[Callable[[str], None]] = []
        self._keeper: asyncio.TimerHandle | None = None
        self._kept_at = 0.0
        # HELLOs are numbered so that those after a restart are higher.
        self._serial = clock.time_ms() << 20
        self._closed = False

    # what the node does

    async def listen(self, host: str, port: int) -> list[Multiaddr]:
        """Accept links; return where, as others can reach it, and say so in every HELLO from now on.

        Args:
            host: Address or name to bind; empty, ``0.0.0.0`` or ``::`` for all, and then the addresses of this
                machine's interfaces are returned (loopback only if there are no others).
            port: 0 for any free one.

        Raises:
            Conflict: The port is taken.
            UsageError: It can't be bound for another reason.
        """
        listener = await self._network.listen(host or "0.0.0.0", port, self._accept)  # noqa: S104 - the user's wish
        self._listeners.append(listener)
        addresses = [
            Multiaddr(each, bound_port, self.peer)
            for bound_host, bound_port in listener.bound
            for each in _reachable(bound_host)
        ]
        addresses = list(dict.fromkeys(addresses))
        self.hello = replace(self.hello, addresses=tuple(dict.fromkeys((*self.hello.addresses, *addresses))))
        return addresses

    async def dial(self, address: Multiaddr, *, audience: Audience = Audience.MEMBER) -> Link:
        """Make a link to the peer at ``address``; if one to that member is live, or comes meanwhile, that is returned.

        Args:
            address: Where, with its peer id; without one only if that peer is known by :meth:`learn`.
            audience: What the peer counts as when it calls us.

        Raises:
            UsageError: The address names no peer, or this node itself.
            Unavailable: Nobody answers there.
            Denied: Whoever answers does not accept us, or is another peer.
            Conflict: It is of another mesh, or of a release too far from ours.
        """
        if self._closed:
            raise Unavailable("this node is stopping", maybe=False)
        if not address.peer:
            address = Multiaddr(address.host, address.port, self._book.peer_at(address.host, address.port))
        server = expected_key(address)
        if address.peer == self.peer:
            raise UsageError(f"{address} is this node itself", fix="name another member")
        live = self._live.get(address.peer)
        if live is not None:
            return live
        serial = self._next_serial()
        session = Session.client(
            self._key, self._network_key, server, secrets.token_bytes(32), lambda: self.hello.numbered(serial)
        )
        protocol = SecureProtocol(session, _Owner(self, dialled=address, audience=audience), self._settings.handshake_s)
        link = await dial_session(self._network, address, protocol, connect_s=self._settings.connect_s)
        self._book.succeeded(address.peer, address)
        return self._live.get(address.peer, link)

    async def to(self, peer: str) -> Link:
        """Return the live link to ``peer``, or dial its known addresses; callers at the same time share one dial.

        Raises:
            Unavailable: It can't be reached, no address is known, or it could not be reached a moment ago.
            Denied: It does not accept us.
        """
        link = self._live.get(peer)
        if link is not None:
            return link
        task = self._dials.get(peer)
        if task is None:
            if self._closed:
                raise Unavailable("this node is stopping", maybe=False)
            seconds, why = self._book.waiting(peer, self._clock.monotonic())
            if seconds:
                raise Unavailable(
                    f"{peer} could not be reached a moment ago: {why}",
                    maybe=False,
                    retry_after_ms=int(seconds * 1000) + 1,
                )
            task = asyncio.get_running_loop().create_task(self._dial_known(peer))
            self._dials[peer] = task
            task.add_done_callback(lambda done: self._dialled(peer, done))
        return await asyncio.shield(task)

    def peers(self) -> list[str]:
        """Return the members there is a live link to."""
        return list(self._live)

    def get(self, peer: str) -> Link | None:
        """Return a live link to ``peer`` if there is one, whatever its audience."""
        link = self._live.get(peer)
        if link is not None:
            return link
        return next((item for item in self._entries if item.caller.peer == peer and not item.closed), None)

    def links(self) -> list[Link]:
        """Return every established link."""
        return list(self._entries)

    def hello_of(self, link: Link) -> Hello | None:
        """Return what the peer of ``link`` said of itself."""
        entry = self._entries.get(link)
        return entry.hello if entry else None

    def learn(self, peer: str, addresses: Iterable[Multiaddr]) -> None:
        """Note where ``peer`` may accept links."""
        if peer != self.peer:
            self._book.learn(peer, addresses)

    def addresses(self, peer: str) -> list[Multiaddr]:
        """Return where ``peer`` may accept links, best first."""
        return list(self.hello.addresses) if peer == self.peer else self._book.addresses(peer)

    def on_up(self, callback: Callable[[Link], None]) -> None:
        """Call ``callback`` with each link that becomes the live one of a member; must not block or raise."""
        self._on_up.append(callback)

    def on_down(self, callback: Callable[[str], None]) -> None:
        """Call ``callback`` with the peer id when a member has no live link any more; must not block or raise."""
        self._on_down.append(callback)

    def recheck(self) -> None:
        """Ask ``admit`` again for every link: cut those refused at once, change the audience of the others."""
        for entry in list(self._entries.values()):
            link = entry.link
            audience = self._admit(link.caller.public_key)
            if audience is None:
                _log.info("link cut", extra={"peer": link.caller.peer, "why": "no longer admitted"})
                link.fail("the peer is no longer admitted")
            elif audience is not link.caller.audience and not link.closed:
                self._change_audience(entry, audience)

    async def close(self) -> None:
        """Stop accepting, say goodbye on every link and close it."""
        self._closed = True
        for listener in self._listeners:
            listener.close()
        self._listeners.clear()
        if self._keeper is not None:
            self._keeper.cancel()
            self._keeper = None
        for task in list(self._dials.values()):
            task.cancel()
        for protocol in list(self._shaking):
            protocol.abort()
        waits = [link.close() for link in list(self._entries)]
        await asyncio.gather(*waits, *self._dials.values(), *self._closing, return_exceptions=True)

    # connections

    def _accept(self) -> SecureProtocol:
        session = Session.server(
            self._key,
            self._network_key,
            secrets.token_bytes(32),
            lambda: self.hello.numbered(self._next_serial()),
            lambda public: self._admit(public) is not None,
        )
        return SecureProtocol(session, _Owner(self), self._settings.handshake_s)

    def may_shake(self, protocol: SecureProtocol, host: str, *, dialled: bool) -> bool:
        """Whether a new connection may begin its handshake."""
        if self._closed:
            return False
        if not dialled:
            settings = self._settings
            if (
                self._half_open.total() >= settings.half_open
                or self._half_open[host] >= settings.half_open_per_address
                or len(self._entries) >= settings.links
            ):
                return False
            self._half_open[host] += 1
        self._shaking.add(protocol)
        return True

    def shaken(self, protocol: SecureProtocol, *, dialled: bool) -> None:
        """The handshake of a connection is over, one way or the other."""
        if protocol in self._shaking:
            self._shaking.discard(protocol)
            if not dialled:
                self._half_open[protocol.host] -= 1
                if not self._half_open[protocol.host]:
                    del self._half_open[protocol.host]

    def opened(self, protocol: SecureProtocol, *, dialled: bool, audience: Audience | None) -> Link:
        """Make the link of a connection whose handshake is done.

        Raises:
            Conflict: The peer is of another mesh, or of a release too far from ours.
            Denied: It is no longer admitted.
            Overloaded: There are too many links of its kind.
        """
        session = protocol.session
        own, hello, public = session.hello, session.peer_hello, session.peer_key
        if own is None or hello is None:
            raise Unavailable("the handshake is not done", maybe=False)
        own.check(hello)
        if not dialled:
            audience = self._admit(public)
        if audience is None:
            raise Denied("the peer is no longer admitted")
        peer = peer_id(public)
        if audience is not Audience.MEMBER:
            self._check_room(audience, peer)
        caller = Caller(public, peer, audience, hello.name)
        link = Link(protocol, self.router, caller, limits=self._limits(audience), clock=self._clock)
        now = self._clock.monotonic()
        entry = _Entry(link, Facts(dialled, own.serial, hello.serial), hello, now, seen_at=now)
        self._entries[link] = entry
        link.on_close(self._gone)
        self._keep_soon()
        if audience is Audience.MEMBER:
            self._member_up(entry)
        return link

    def _check_room(self, audience: Audience, peer: str) -> None:
        same_key = sum(1 for link in self._entries if link.caller.peer == peer)
        if same_key >= self._settings.links_per_key:
            raise Overloaded(f"{peer} has {same_key} links already", retry_after_ms=1000)
        if audience is Audience.JOINER:
            joiners = sum(1 for link in self._entries if link.caller.audience is Audience.JOINER)
            if joiners >= self._settings.joiners:
                raise Overloaded("too many are joining at a time", retry_after_ms=1000)

    def _limits(self, audience: Audience) -> MuxLimits:
        if audience is Audience.JOINER:
            return _JOINER_LIMITS
        settings = self._settings
        return MuxLimits(streams=settings.streams, message=settings.message, buffered=settings.buffered)

    def _next_serial(self) -> int:
        self._serial += 1
        return self._serial

    # one live link a member

    def _member_up(self, entry: _Entry) -> None:
        link = entry.link
        peer = link.caller.peer
        if entry.hello.addresses:
            self._book.learn(peer, entry.hello.addresses)
        self._book.succeeded(peer, None)
        old = self._live.get(peer)
        if old is not None and not old.closed:
            lower = self._key.public < link.caller.public_key
            stays, crossed = keep(self._entries[old].facts, entry.facts, lower=lower)
            if not stays:
                self._retire(entry, crossed=crossed)
                return
            # The new one stands before the old one goes: the member was never down.
            self._live[peer] = link
            self._retire(self._entries[old], crossed=crossed)
        self._live[peer] = link
        for callback in self._on_up:
            callback(link)

    def _retire(self, entry: _Entry, *, crossed: bool) -> None:
        """Use a link no more: at once if it is dead to the peer, else once what runs on it is done."""
        entry.retired = True
        if crossed:
            self._watch_retired(entry, self._clock.monotonic() + _RETIRED_S)
        else:
            entry.link.fail("the peer made a new link")

    def _watch_retired(self, entry: _Entry, until: float) -> None:
        """Close a retired link when it is idle; the first look comes late enough for calls on their way."""

        def look() -> None:
            if entry.link.closed:
                return
            if entry.link.mux.idle or self._clock.monotonic() >= until:
                task = asyncio.get_running_loop().create_task(entry.link.close())
                self._closing.add(task)
                task.add_done_callback(self._closing.discard)
            else:
                asyncio.get_running_loop().call_later(_RETIRED_LOOK_S, look)

        asyncio.get_running_loop().call_later(_RETIRED_LOOK_S, look)

    def _gone(self, link: Link) -> None:
        self._entries.pop(link, None)
        self._member_down(link)

    def _member_down(self, link: Link) -> None:
        peer = link.caller.peer
        if self._live.get(peer) is link:
            del self._live[peer]
            for callback in self._on_down:
                callback(peer)

    def _change_audience(self, entry: _Entry, audience: Audience) -> None:
        link = entry.link
        was_member = link.caller.audience is Audience.MEMBER
        link.set_caller(replace(link.caller, audience=audience))
        link.mux.limits = self._limits(audience)
        if audience is Audience.MEMBER and not entry.retired:
            self._member_up(entry)
        elif was_member:
            self._member_down(link)

    # dialling

    async def _dial_known(self, peer: str) -> Link:
        addresses = self._book.addresses(peer)
        if not addresses:
            raise Unavailable(f"no address of {peer} is known", maybe=False)
        errors: list[OsirisError] = []
        for address in addresses:
            try:
                return await self.dial(address)
            except OsirisError as error:
                link = self._live.get(peer)
                if link is not None:
                    # It came to us while we dialled.
                    return link
                errors.append(error)
        why = "; ".join(error.what for error in errors)
        self._book.failed(peer, self._clock.monotonic(), why)
        denied = next((error for error in errors if isinstance(error, Denied)), None)
        if denied is not None:
            raise denied
        raise Unavailable(f"{peer} can't be reached: {why}", maybe=False)

    def _dialled(self, peer: str, task: asyncio.Task[Link]) -> None:
        if self._dials.get(peer) is task:
            del self._dials[peer]
        if not task.cancelled():
            task.exception()  # those who waited have it; nobody may have

    # keep-alive

    def _keep_soon(self) -> None:
        if self._keeper is None and not self._closed:
            self._kept_at = self._clock.monotonic()
            self._keeper = asyncio.get_running_loop().call_later(self._settings.keepalive_s / 2, self._keep)

    def _keep(self) -> None:
        self._keeper = None
        settings = self._settings
        now = self._clock.monotonic()
        # After a pause of ours (a suspended machine), what peers sent meanwhile waits unread: nobody is to blame.
        paused = now - self._kept_at > settings.keepalive_s * 1.5
        for entry in list(self._entries.values()):
            link = entry.link
            if entry.seen != link.received or paused:
                entry.seen, entry.seen_at = link.received, now
            elif now - entry.seen_at >= settings.dead_s:
                link.fail(f"nothing came for {settings.dead_s:g} s")
            if now - entry.seen_at >= settings.keepalive_s / 2:
                link.send_ping()
            if link.caller.audience is Audience.JOINER:
                age = now - entry.since
                if age > settings.joiner_s * 10 or (age > settings.joiner_s and link.mux.idle):
                    link.fail("the time to join ran out")
        if self._entries:
            self._keep_soon()


class _Owner:
    """What one connection asks its manager."""

    def __init__(self, links: Links, *, dialled: Multiaddr | None = None, audience: Audience | None = None) -> None:
        self._links = links
        self._dialled = dialled is not None
        self._audience = audience

    def connected(self, protocol: SecureProtocol, host: str) -> bool:
        return self._links.may_shake(protocol, host, dialled=self._dialled)

    def opened(self, protocol: SecureProtocol) -> Link:
        return self._links.opened(protocol, dialled=self._dialled, audience=self._audience)

    def ended(self, protocol: SecureProtocol) -> None:
        self._links.shaken(protocol, dialled=self._dialled)


def _reachable(host: str) -> list[str]:
    """Return the addresses by which a socket bound to ``host`` can be reached."""
    if host not in {"0.0.0.0", "::"}:  # noqa: S104 - compared with, not bound to
        return [host]
    found: list[str] = []
    loopback: list[str] = []
    for adapter in ifaddr.get_adapters():
        for item in adapter.ips:
            if item.is_IPv4 != (host == "0.0.0.0"):  # noqa: S104 - the same
                continue
            address = str(item.ip) if item.is_IPv4 else str(item.ip[0])
            if address.startswith(("169.254.", "fe80:")):
                continue
            (loopback if address == "::1" or address.startswith("127.") else found).append(address)
    return found or loopback
