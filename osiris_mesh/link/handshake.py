"""Secret Handshake (SHS1): mutual authentication, forward secrecy, and no answer to those without the network key.

Source: D. Tarr, "Designing a Secret Handshake: Authenticated Key Exchange as a Capability System"; byte-exact to the
reference implementation's public vectors. Letters as there: A, B are the long-term Ed25519 keys of client and server,
a, b their ephemeral X25519 keys, K the network key, ``·`` X25519, H SHA-256, auth(k, m) HMAC-SHA-512 cut to 32 bytes.
Boxes are secretbox with a zero nonce: each of their keys is used once.

====  =================  =====  =======================================================================
 1    client to server   64 B   ``auth(K, a_p) | a_p``
 2    server to client   64 B   ``auth(K, b_p) | b_p``; the client refuses its own back (reflection)
 3    client to server   112 B  ``box[K | a·b | a·B](sign_A(K | B_p | H(a·b)) | A_p)``
 4    server to client   80 B   ``box[K | a·b | a·B | A·b](sign_B(K | Hm | H(a·b)))``, Hm the content of 3
====  =================  =====  =======================================================================

A pure core: ephemeral keys are arguments, nothing is sent or received here. Every method is called once, in the order
of the table; whatever does not verify raises :class:`RemoteProtocolError`, and the shell closes without a word.
"""

from __future__ import annotations

import hmac
from dataclasses import dataclass, field
from hashlib import sha256
from typing import Final

from nacl import bindings
from nacl.exceptions import CryptoError

from osiris_mesh.errors import RemoteProtocolError, UsageError
from osiris_mesh.identity.keys import KeyPair, curve_public, verify_bare

__all__ = [
    "ACCEPT_SIZE",
    "AUTH_SIZE",
    "HELLO_SIZE",
    "ClientHandshake",
    "ServerHandshake",
    "SessionKeys",
    "session_keys",
]

HELLO_SIZE: Final = 64
AUTH_SIZE: Final = 112
ACCEPT_SIZE: Final = 80
_ZERO_NONCE: Final = bytes(24)


@dataclass(frozen=True, slots=True)
class SessionKeys:
    """What the box stream starts from; its repr shows none of it.

    Attributes:
        send_key: 32 bytes.
        receive_key: 32 bytes.
        send_nonce: 24 bytes, the first one.
        receive_nonce: 24 bytes, the first one.
    """

    send_key: bytes = field(repr=False)
    receive_key: bytes = field(repr=False)
    send_nonce: bytes = field(repr=False)
    receive_nonce: bytes = field(repr=False)


def auth(key: bytes, message: bytes) -> bytes:
    """Return HMAC-SHA-512 of ``message`` under ``key``, its first 32 bytes."""
    return hmac.digest(key, message, "sha512")[:32]


def _hash(*parts: bytes) -> bytes:
    return sha256(b"".join(parts)).digest()


def _shared(secret: bytes, public: bytes) -> bytes:
    try:
        shared = bindings.crypto_scalarmult(secret, public)
    except (CryptoError, ValueError, TypeError, RuntimeError):
        # libsodium refuses points of low order, whose product an attacker would know.
        raise RemoteProtocolError("the peer sent an unusable key") from None
    return shared


def _curve(public: bytes) -> bytes:
    try:
        return curve_public(public)
    except UsageError:
        raise RemoteProtocolError("the peer's key is unusable") from None


def _open_box(box: bytes, key: bytes) -> bytes:
    try:
        return bindings.crypto_secretbox_open_easy(box, _ZERO_NONCE, key)
    except (CryptoError, ValueError):
        raise RemoteProtocolError("the peer's proof does not open") from None


def make_hello(network_key: bytes, ephemeral_public: bytes) -> bytes:
    """Return message 1 or 2."""
    return auth(network_key, ephemeral_public) + ephemeral_public


def check_hello(network_key: bytes, message: bytes) -> bytes:
    """Return the ephemeral key in message 1 or 2.

    Raises:
        RemoteProtocolError: Made under another network key, or no such message.
    """
    if len(message) != HELLO_SIZE:
        raise RemoteProtocolError("a challenge of the wrong size")
    proof, ephemeral = message[:32], message[32:]
    if not hmac.compare_digest(proof, auth(network_key, ephemeral)):
        raise RemoteProtocolError("the peer does not know the network key")
    return ephemeral


def session_keys(
    secret: bytes, network_key: bytes, *, own: bytes, peer: bytes, own_ephemeral: bytes, peer_ephemeral: bytes
) -> SessionKeys:
    """Return the keys of the box stream.

    Args:
        secret: ``S = H(H(K | a·b | a·B | A·b))``.
        network_key: K.
        own: Our long-term public key.
        peer: The peer's.
        own_ephemeral: Our ephemeral public key.
        peer_ephemeral: The peer's.
    """
    return SessionKeys(
        send_key=_hash(secret, peer),
        receive_key=_hash(secret, own),
        send_nonce=auth(network_key, peer_ephemeral)[:24],
        receive_nonce=auth(network_key, own_ephemeral)[:24],
    )


class ClientHandshake:
    """The end that dialled.

    Args:
        key: Its long-term key.
        network_key: K, 32 bytes.
        server: Long-term public key the server must have.
        ephemeral: 32 fresh random bytes, the secret half of the ephemeral key.

    Raises:
        RemoteProtocolError: ``server`` is not a usable key.
    """

    def __init__(self, key: KeyPair, network_key: bytes, server: bytes, ephemeral: bytes) -> None:
        self._key = key
        self._network_key = network_key
        self._server = server
        self._server_curve = _curve(server)
        self._secret = ephemeral
        self.ephemeral = bindings.crypto_scalarmult_base(ephemeral)
        self._peer_ephemeral = b""
        self._ab = b""
        self._ab_hash = b""
        self._mixed = b""
        self._proof = b""

    def hello(self) -> bytes:
        """Return message 1."""
        return make_hello(self._network_key, self.ephemeral)

    def receive_hello(self, message: bytes) -> bytes:
        """Take message 2, return message 3.

        Raises:
            RemoteProtocolError: The server does not know the network key, or sent our own challenge back.
        """
        self._peer_ephemeral = check_hello(self._network_key, message)
        if hmac.compare_digest(self._peer_ephemeral, self.ephemeral):
            raise RemoteProtocolError("our own challenge came back")
        self._ab = _shared(self._secret, self._peer_ephemeral)
        self._ab_hash = _hash(self._ab)
        self._mixed = self._network_key + self._ab + _shared(self._secret, self._server_curve)
        signature = self._key.sign_bare(self._network_key + self._server + self._ab_hash)
        self._proof = signature + self._key.public
        return bindings.crypto_secretbox_easy(self._proof, _ZERO_NONCE, _hash(self._mixed))

    def receive_accept(self, message: bytes) -> SessionKeys:
        """Take message 4: the server proved its key and let us in.

        Raises:
            RemoteProtocolError: It did not.
        """
        if len(message) != ACCEPT_SIZE:
            raise RemoteProtocolError("an acceptance of the wrong size")
        box_key = _hash(self._mixed, _shared(self._key.curve_secret, self._peer_ephemeral))
        signature = _open_box(message, box_key)
        if not verify_bare(self._server, self._network_key + self._proof + self._ab_hash, signature):
            raise RemoteProtocolError("the server's signature does not hold")
        return session_keys(
            sha256(box_key).digest(),
            self._network_key,
            own=self._key.public,
            peer=self._server,
            own_ephemeral=self.ephemeral,
            peer_ephemeral=self._peer_ephemeral,
        )


class ServerHandshake:
    """The end that was dialled.

    Args:
        key: Its long-term key.
        network_key: K, 32 bytes.
        ephemeral: 32 fresh random bytes, the secret half of the ephemeral key.
    """

    def __init__(self, key: KeyPair, network_key: bytes, ephemeral: bytes) -> None:
        self._key = key
        self._network_key = network_key
        self._secret = ephemeral
        self.ephemeral = bindings.crypto_scalarmult_base(ephemeral)
        self._peer_ephemeral = b""
        self._ab_hash = b""
        self._mixed = b""
        self._proof = b""
        self._client = b""

    def receive_hello(self, message: bytes) -> bytes:
        """Take message 1, return message 2.

        Raises:
            RemoteProtocolError: The client does not know the network key.
        """
        self._peer_ephemeral = check_hello(self._network_key, message)
        if hmac.compare_digest(self._peer_ephemeral, self.ephemeral):
            raise RemoteProtocolError("our own challenge came back")
        shared = _shared(self._secret, self._peer_ephemeral)
        self._ab_hash = _hash(shared)
        self._mixed = self._network_key + shared + _shared(self._key.curve_secret, self._peer_ephemeral)
        return make_hello(self._network_key, self.ephemeral)

    def receive_auth(self, message: bytes) -> bytes:
        """Take message 3, return the client's proven public key; whether to let it in is for the caller to decide.

        Raises:
            RemoteProtocolError: The proof does not hold, or is for another server.
        """
        if len(message) != AUTH_SIZE:
            raise RemoteProtocolError("an authentication of the wrong size")
        self._proof = _open_box(message, _hash(self._mixed))
        signature, client = self._proof[:64], self._proof[64:]
        if not verify_bare(client, self._network_key + self._key.public + self._ab_hash, signature):
            raise RemoteProtocolError("the client's signature does not hold")
        self._client = client
        return client

    def accept(self) -> tuple[bytes, SessionKeys]:
        """Let the client in: return message 4 and the keys.

        Raises:
            RemoteProtocolError: The client's key is unusable.
        """
        box_key = _hash(self._mixed, _shared(self._secret, _curve(self._client)))
        signature = self._key.sign_bare(self._network_key + self._proof + self._ab_hash)
        keys = session_keys(
            sha256(box_key).digest(),
            self._network_key,
            own=self._key.public,
            peer=self._client,
            own_ephemeral=self.ephemeral,
            peer_ephemeral=self._peer_ephemeral,
        )
        return bindings.crypto_secretbox_easy(signature, _ZERO_NONCE, box_key), keys
