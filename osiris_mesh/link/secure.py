"""The asyncio shell of a secured connection: drives a :class:`Session`, then carries a :class:`Link`."""

from __future__ import annotations

import asyncio
import secrets
from typing import Final, Protocol, cast

from osiris_mesh.clock import SYSTEM, Clock
from osiris_mesh.errors import OsirisError, RemoteProtocolError, Unavailable
from osiris_mesh.identity.keys import KeyPair
from osiris_mesh.identity.multiaddr import Multiaddr
from osiris_mesh.identity.peer_id import peer_id
from osiris_mesh.link.aio import Link
from osiris_mesh.link.hello import Hello
from osiris_mesh.link.network import Network, TcpNetwork
from osiris_mesh.link.refusal import expected_key, named, refusal
from osiris_mesh.link.request import Audience, Caller
from osiris_mesh.link.router import Router
from osiris_mesh.link.session import Session, State

__all__ = ["SecureOwner", "SecureProtocol", "connect_tcp", "dial_session"]

_HIGH_WATER: Final = 1 << 18


class SecureOwner(Protocol):
    """Who decides about a connection; called on the loop's thread."""

    def connected(self, protocol: SecureProtocol, host: str) -> bool:
        """Whether a new connection from ``host`` may begin its handshake."""
        ...

    def opened(self, protocol: SecureProtocol) -> Link:
        """Make the link: the handshake is done and both ends said HELLO.

        Raises:
            OsirisError: It is not wanted after all.
        """
        ...

    def ended(self, protocol: SecureProtocol) -> None:
        """The handshake is over: the connection is open, or gone."""
        ...


class SecureProtocol(asyncio.Protocol):
    """One connection.

    Args:
        session: Its core.
        owner: Who decides about it.
        handshake_s: Seconds for the handshake.

    Attributes:
        session: As given.
        host: The other end's address.
        link: The link on it, once open.
        ready: Done when the connection is open, or with the error why it is not.
    """

    def __init__(self, session: Session, owner: SecureOwner, handshake_s: float) -> None:
        loop = asyncio.get_running_loop()
        self.session = session
        self.host = ""
        self.link: Link | None = None
        self.ready: asyncio.Future[Link] = loop.create_future()
        self._owner: SecureOwner | None = owner
        self._handshake_s = handshake_s
        self._timer: asyncio.TimerHandle | None = None
        self._transport: asyncio.Transport | None = None
        self._broken = ""

    # from the transport

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Begin the handshake."""
        # uvloop's transports are no subclass of asyncio.Transport, they only behave like one.
        self._transport = cast("asyncio.Transport", transport)
        self._transport.set_write_buffer_limits(high=_HIGH_WATER)
        peername = transport.get_extra_info("peername")
        self.host = str(peername[0]) if peername else ""
        if self._owner is not None and not self._owner.connected(self, self.host):
            self._end(Unavailable("too many connections are in the handshake", maybe=False))
            self._transport.abort()
            return
        self._timer = asyncio.get_running_loop().call_later(self._handshake_s, self._too_slow)
        self.session.start()
        self._send_outgoing()

    def data_received(self, data: bytes) -> None:
        """Go on with the handshake, or hand on what the packets hold."""
        session = self.session
        try:
            payload = session.receive(data)
        except RemoteProtocolError as error:
            self._break(error.what)
            return
        link = self.link
        if link is None:
            self._send_outgoing()
            if session.state is not State.OPEN:
                return
            link = self._open()
            if link is None:
                return
        if payload:
            link.feed(payload)
        if session.said_goodbye and self._transport is not None:
            self._transport.close()

    def eof_received(self) -> bool:
        """Close; whether that was a goodbye, the session knows."""
        return False

    def pause_writing(self) -> None:
        """The transport holds enough."""
        if self.link is not None:
            self.link.pause()

    def resume_writing(self) -> None:
        """The transport may take more."""
        if self.link is not None:
            self.link.resume()

    def connection_lost(self, exc: Exception | None) -> None:
        """The connection is gone: goodbye, cut, or refused in the handshake."""
        why = self._broken or (str(exc) if exc else "")
        if self.link is not None:
            self.link.lost(why or ("" if self.session.said_goodbye else "the connection was cut"))
        if exc is not None or self._broken:
            self._end(Unavailable(f"the connection broke in the handshake: {why}", maybe=False))
        else:
            self._end(refusal(self.session.state))
        self._transport = None

    # from the link

    def write(self, buffers: list[bytes | memoryview]) -> None:
        """Box and send."""
        if self._transport is not None:
            packets = self.session.seal(buffers)
            if len(packets) == 1:
                self._transport.write(packets[0])
            else:
                self._transport.writelines(packets)

    def close(self) -> None:
        """Say goodbye and close."""
        if self._transport is not None and not self._transport.is_closing():
            farewell = self.session.goodbye()
            if farewell:
                self._transport.write(farewell)
            self._transport.close()

    def abort(self) -> None:
        """Close at once."""
        if self._transport is not None:
            self._transport.abort()

    # inside

    def _send_outgoing(self) -> None:
        if self._transport is not None:
            for message in self.session.outgoing:
                self._transport.write(message)
        self.session.outgoing.clear()

    def _open(self) -> Link | None:
        owner = self._owner
        if owner is None:
            return None
        try:
            self.link = owner.opened(self)
        except OsirisError as error:
            # Both ends have each other's HELLO and find the same error; no more is said.
            self._end(error)
            self.close()
            return None
        self._end(None)
        return self.link

    def _break(self, why: str) -> None:
        """Close without a word: whoever does not verify learns nothing."""
        self._broken = self._broken or why
        if self.link is not None:
            self.link.fail(why)
        elif self._transport is not None:
            self._transport.close()

    def _too_slow(self) -> None:
        self._timer = None
        self._end(Unavailable(f"the handshake took more than {self._handshake_s:g} s", maybe=False))
        self.abort()

    def _end(self, error: OsirisError | None) -> None:
        """Note how the handshake ended, once."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        owner, self._owner = self._owner, None
        if owner is not None:
            owner.ended(self)
        if self.ready.done():
            return
        if error is None and self.link is not None:
            self.ready.set_result(self.link)
        else:
            self.ready.set_exception(error or Unavailable("the connection is gone", maybe=False))
            self.ready.exception()  # an accepted connection has nobody who waits


async def dial_session(
    network: Network,
    address: Multiaddr,
    protocol: SecureProtocol,
    *,
    connect_s: float,
) -> Link:
    """Connect ``protocol`` to ``address`` and return the link.

    Raises:
        Unavailable: Nobody answers there.
        Denied: Whoever answers does not accept us.
        Conflict: It is of another mesh, or of a release too far from ours.
    """
    try:
        try:
            async with asyncio.timeout(connect_s):
                await network.connect(address.host, address.port, lambda: protocol)
        except TimeoutError:
            raise Unavailable(f"nobody answered in {connect_s:g} s", maybe=False) from None
        except OSError as error:
            reason = error.strerror or str(error) or type(error).__name__
            raise Unavailable(f"can't be reached: {reason}", maybe=False) from None
        return await asyncio.shield(protocol.ready)
    except OsirisError as error:
        protocol.abort()
        raise named(error, address) from None
    except BaseException:
        protocol.abort()
        raise


class _Client:
    """The owner of a lone connection: a client's, which is in no mesh itself."""

    def __init__(self, router: Router, clock: Clock) -> None:
        self._router = router
        self._clock = clock

    def connected(self, protocol: SecureProtocol, host: str) -> bool:
        del protocol, host
        return True

    def opened(self, protocol: SecureProtocol) -> Link:
        session = protocol.session
        name = ""
        if session.hello is not None and session.peer_hello is not None:
            session.hello.check(session.peer_hello)
            name = session.peer_hello.name
        caller = Caller(session.peer_key, peer_id(session.peer_key), Audience.MEMBER, name)
        return Link(protocol, self._router, caller, clock=self._clock)

    def ended(self, protocol: SecureProtocol) -> None:
        pass


async def connect_tcp(
    address: Multiaddr,
    key: KeyPair,
    network_key: bytes,
    hello: Hello,
    router: Router | None = None,
    *,
    timeout: float = 5.0,
    network: Network | None = None,
    clock: Clock = SYSTEM,
) -> Link:
    """Make one link to a peer, outside of any :class:`osiris_mesh.link.Links`: for clients.

    Args:
        address: Where, with the peer id that must answer there.
        key: Our own key.
        network_key: The mesh's 32-byte secret.
        hello: What we say of ourselves.
        router: What the peer may call here; nothing if None.
        timeout: Seconds for the connection, and again for the handshake.
        network: TCP if None.
        clock: Time for deadlines.

    Raises:
        Unavailable: Nobody answers there.
        Denied: Whoever answers does not accept us, or is another peer.
        Conflict: It is of another mesh, or of a release too far from ours.
        UsageError: The address names no peer.
    """
    session = Session.client(key, network_key, expected_key(address), secrets.token_bytes(32), lambda: hello)
    protocol = SecureProtocol(session, _Client(router or Router(), clock), timeout)
    return await dial_session(network or TcpNetwork(), address, protocol, connect_s=timeout)
