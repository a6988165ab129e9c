"""One secured connection from its first byte to goodbye: handshake, box stream, HELLO; the core both shells drive.

======  ==========  ======================================  ========  ======================
end     state       on                                      goes to   sends
======  ==========  ======================================  ========  ======================
client  start       :meth:`start`                           hello     message 1
client  hello       message 2                               accept    message 3
client  accept      message 4                               greet     HELLO, boxed
server  start       :meth:`start`                           hello     nothing
server  hello       message 1                               auth      message 2
server  auth        message 3, and ``admit`` says yes       greet     message 4, HELLO boxed
both    greet       the peer's HELLO                        open      nothing
both    open        bodies                                  open      bodies
both    any         what does not verify                    broken    nothing, ever
======  ==========  ======================================  ========  ======================

Nothing is parsed before it is authenticated; until ``open`` at most one message of the handshake or one HELLO is held.
"""

from __future__ import annotations

import enum
from collections.abc import Callable

from osiris_mesh.errors import LocalProtocolError, RemoteProtocolError
from osiris_mesh.identity.keys import KeyPair
from osiris_mesh.link.boxstream import BIG_BODY, BoxOpener, BoxSealer, make_boxes
from osiris_mesh.link.handshake import ACCEPT_SIZE, AUTH_SIZE, HELLO_SIZE, ClientHandshake, ServerHandshake, SessionKeys
from osiris_mesh.link.hello import BIG_BODIES, MAX_HELLO, Hello

__all__ = ["Session", "State"]


class State(enum.Enum):
    """Where a session stands."""

    START = "start"
    HELLO = "hello"
    AUTH = "auth"
    ACCEPT = "accept"
    GREET = "greet"
    OPEN = "open"
    BROKEN = "broken"


_SIZE = {State.HELLO: HELLO_SIZE, State.AUTH: AUTH_SIZE, State.ACCEPT: ACCEPT_SIZE}


class Session:
    """One end of one connection. Made by :meth:`client` or :meth:`server`.

    Attributes:
        state: Where it stands.
        peer_key: The peer's public key; proven from ``greet`` on.
        peer_hello: What the peer said of itself, from ``open`` on.
        hello: What we say.
        outgoing: What to write, in order; the shell empties it.
    """

    def __init__(self, hello: Callable[[], Hello]) -> None:
        self.state = State.START
        self.peer_key = b""
        self.peer_hello: Hello | None = None
        self.hello: Hello | None = None
        self.outgoing: list[bytes] = []
        self._make_hello = hello
        self._client: ClientHandshake | None = None
        self._server: ServerHandshake | None = None
        self._admit: Callable[[bytes], bool] = lambda _key: False
        self._input = bytearray()
        self._sealer: BoxSealer | None = None
        self._opener: BoxOpener | None = None

    @classmethod
    def client(
        cls, key: KeyPair, network_key: bytes, server: bytes, ephemeral: bytes, hello: Callable[[], Hello]
    ) -> Session:
        """Return the end that dials.

        Args:
            key: Our key.
            network_key: K.
            server: Public key the other end must prove.
            ephemeral: 32 fresh random bytes.
            hello: Asked once, when it is sent.

        Raises:
            RemoteProtocolError: ``server`` is not a usable key.
        """
        session = cls(hello)
        session._client = ClientHandshake(key, network_key, server, ephemeral)
        session.peer_key = server
        return session

    @classmethod
    def server(
        cls,
        key: KeyPair,
        network_key: bytes,
        ephemeral: bytes,
        hello: Callable[[], Hello],
        admit: Callable[[bytes], bool],
    ) -> Session:
        """Return the end that was dialled.

        Args:
            key: Our key.
            network_key: K.
            ephemeral: 32 fresh random bytes.
            hello: Asked once, when it is sent.
            admit: Whether to let a proven public key in; asked once, before message 4.
        """
        session = cls(hello)
        session._server = ServerHandshake(key, network_key, ephemeral)
        session._admit = admit
        return session

    def start(self) -> None:
        """Begin."""
        if self.state is not State.START:
            raise LocalProtocolError("a session starts once")
        if self._client is not None:
            self.outgoing.append(self._client.hello())
        self.state = State.HELLO

    def receive(self, data: bytes | memoryview) -> bytes:
        """Take bytes from the peer; return what they carried for the streams above, which may be nothing.

        Raises:
            RemoteProtocolError: What came does not verify, or the peer is not to be let in; the shell closes silently.
        """
        try:
            if self._opener is not None:
                self._opener.feed(data)
            else:
                self._input += data
                while self.state in _SIZE and len(self._input) >= _SIZE[self.state]:
                    size = _SIZE[self.state]
                    message = bytes(self._input[:size])
                    del self._input[:size]
                    self._step(message)
                if self._opener is None:
                    return b""
            return self._open()
        except RemoteProtocolError:
            self.state = State.BROKEN
            raise

    def seal(self, buffers: list[bytes | memoryview]) -> list[bytes | memoryview]:
        """Return what to write for ``buffers`` of the streams above."""
        assert self._sealer is not None  # noqa: S101 - shells seal in state open only
        return self._sealer.seal(buffers)

    def goodbye(self) -> bytes:
        """Return the last packet; nothing if there is nobody to say it to."""
        return b"" if self._sealer is None or self.state is State.BROKEN else self._sealer.goodbye()

    @property
    def said_goodbye(self) -> bool:
        """Whether the peer closed as it should."""
        return self._opener is not None and self._opener.ended

    def _step(self, message: bytes) -> None:
        if self._client is not None:
            if self.state is State.HELLO:
                self.outgoing.append(self._client.receive_hello(message))
                self.state = State.ACCEPT
            else:
                self._greet(self._client.receive_accept(message))
        elif self._server is not None:
            if self.state is State.HELLO:
                self.outgoing.append(self._server.receive_hello(message))
                self.state = State.AUTH
            else:
                self.peer_key = self._server.receive_auth(message)
                if not self._admit(self.peer_key):
                    raise RemoteProtocolError("the peer is not admitted")
                accept, keys = self._server.accept()
                self.outgoing.append(accept)
                self._greet(keys)

    def _greet(self, keys: SessionKeys) -> None:
        self._client = None
        self._server = None
        self._sealer, self._opener = make_boxes(keys)
        self.hello = self._make_hello()
        wire = self.hello.to_wire()
        self.outgoing.append(b"".join(self._sealer.seal([len(wire).to_bytes(4, "big") + wire])))
        self.state = State.GREET
        self._opener.feed(bytes(self._input))
        self._input = bytearray()

    def _open(self) -> bytes:
        opener = self._opener
        assert opener is not None  # noqa: S101 - set by _greet, which every caller has passed
        body = opener.next_body()
        while body is not None and self.state is State.GREET:
            self._input += body
            if not self._take_hello():
                body = opener.next_body()
                continue
            body = bytes(self._input)
            self._input = bytearray()
        if body is None:
            return b""
        following = opener.next_body()
        if following is None:
            return body
        bodies = [body]
        while following is not None:
            bodies.append(following)
            following = opener.next_body()
        return b"".join(bodies)

    def _take_hello(self) -> bool:
        held = self._input
        if len(held) < 4:
            return False
        size = int.from_bytes(held[:4], "big")
        if not 0 < size <= MAX_HELLO:
            raise RemoteProtocolError(f"a HELLO of {size} bytes, outside 1 to {MAX_HELLO}")
        if len(held) < 4 + size:
            return False
        self.peer_hello = Hello.from_wire(bytes(held[4 : 4 + size]))
        del held[: 4 + size]
        self.state = State.OPEN
        if self.hello is not None and BIG_BODIES in self.hello.features and BIG_BODIES in self.peer_hello.features:
            for half in (self._sealer, self._opener):
                if half is not None:
                    half.max_body = BIG_BODY
        return True
