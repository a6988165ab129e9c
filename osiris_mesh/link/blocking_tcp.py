"""How a blocking link over TCP comes up: the same :class:`Session`, over a blocking socket."""

from __future__ import annotations

import secrets
import socket
import time

from osiris_mesh.errors import RemoteProtocolError, Unavailable
from osiris_mesh.identity.keys import KeyPair
from osiris_mesh.identity.multiaddr import Multiaddr
from osiris_mesh.identity.peer_id import peer_id
from osiris_mesh.link.hello import Hello
from osiris_mesh.link.refusal import expected_key, named, refusal
from osiris_mesh.link.request import Audience, Caller
from osiris_mesh.link.session import Session, State

__all__ = ["connect"]


def connect(
    address: Multiaddr, key: KeyPair, network_key: bytes, hello: Hello, *, timeout: float
) -> tuple[socket.socket, Caller, Session, bytes]:
    """Connect and shake hands; arguments and errors as :meth:`osiris_mesh.link.BlockingLink.tcp`.

    Returns:
        The socket, who the peer is, the open session, and what the peer sent already for the streams above.
    """
    deadline = time.monotonic() + timeout
    session = Session.client(key, network_key, expected_key(address), secrets.token_bytes(32), lambda: hello)
    try:
        connection = socket.create_connection((address.host, address.port), timeout)
    except OSError as error:
        reason = error.strerror or str(error) or type(error).__name__
        raise Unavailable(f"{address}: can't be reached: {reason}", maybe=False) from None
    try:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        payload = _shake(connection, session, address, deadline)
        name = ""
        if session.hello is not None and session.peer_hello is not None:
            session.hello.check(session.peer_hello)
            name = session.peer_hello.name
    except (OSError, RemoteProtocolError) as error:
        connection.close()
        raise Unavailable(f"{address}: the handshake failed: {error}", maybe=False) from None
    except BaseException:
        connection.close()
        raise
    return connection, Caller(session.peer_key, peer_id(session.peer_key), Audience.MEMBER, name), session, payload


def _shake(connection: socket.socket, session: Session, address: Multiaddr, deadline: float) -> bytes:
    """Bring ``session`` to its open state; return what the peer sent behind its HELLO."""
    session.start()
    payload = b""
    while True:
        for message in session.outgoing:
            connection.sendall(message)
        session.outgoing.clear()
        if session.state is State.OPEN:
            return payload
        left = deadline - time.monotonic()
        if left <= 0:
            raise Unavailable(f"{address}: the handshake took too long", maybe=False)
        connection.settimeout(left)
        # No more than one handshake message, or one packet of a HELLO, is wanted before the link is open.
        data = connection.recv(4096)
        if not data:
            raise named(refusal(session.state), address)
        payload = session.receive(data)
