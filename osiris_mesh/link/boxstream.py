"""Box stream: the encrypted, authenticated, ordered bytes that follow the handshake.

Source: D. Tarr, "Designing a Secret Handshake", section on the bulk encryption; byte-exact to the reference
implementation (``pull-box-stream``). A packet is a header box, ``secretbox(length u16 big-endian | body's MAC)``, of 34
bytes, then the body's ciphertext without its MAC. The nonce counts up by two, big-endian: the header is boxed with n,
the body with n + 1. *Goodbye* is a header of 18 zero bytes; a connection that ends without it was cut, never closed.

A pure core. Replayed, reordered, changed or cut packets do not open, because the nonce counts on.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from nacl import bindings
from nacl.exceptions import CryptoError

from osiris_mesh.errors import LocalProtocolError, RemoteProtocolError
from osiris_mesh.link.handshake import SessionKeys

__all__ = ["BIG_BODY", "HEADER_SIZE", "SMALL_BODY", "BoxOpener", "BoxSealer", "make_boxes"]

HEADER_SIZE: Final = 34
SMALL_BODY: Final = 4096
"""Largest body the reference implementation takes."""
BIG_BODY: Final = 65_535
"""Largest body once both ends said that they take it."""

_GOODBYE: Final = bytes(18)
_NONCES: Final = 1 << 192
# Bodies up to here are copied into one piece with their header, larger ones written as a piece of their own.
_JOIN_BELOW: Final = 4096


class BoxSealer:
    """The sending half.

    Args:
        key: 32 bytes.
        nonce: The first one, 24 bytes.

    Attributes:
        max_body: Bytes of one body; raised from :data:`SMALL_BODY` once the peer is known to take more.
    """

    __slots__ = ("_closed", "_key", "_nonce", "max_body")

    def __init__(self, key: bytes, nonce: bytes) -> None:
        self._key = key
        self._nonce = int.from_bytes(nonce, "big")
        self._closed = False
        self.max_body = SMALL_BODY

    def __repr__(self) -> str:
        return "BoxSealer()"

    def seal(self, buffers: Iterable[bytes | memoryview]) -> list[bytes | memoryview]:
        """Return what to write for the bytes of ``buffers``, in as few packets as their bodies allow.

        Raises:
            LocalProtocolError: After :meth:`goodbye`.
        """
        if self._closed:
            raise LocalProtocolError("data after goodbye")
        out: list[bytes | memoryview] = []
        limit = self.max_body
        parts: list[bytes | memoryview] = []
        room = limit
        for buffer in buffers:
            rest = buffer
            while len(rest) > room:
                view = memoryview(rest)
                parts.append(view[:room])
                self._packet(b"".join(parts), out)
                parts.clear()
                rest, room = view[room:], limit
            if rest:
                parts.append(rest)
                room -= len(rest)
        if parts:
            self._packet(b"".join(parts), out)
        return out

    def goodbye(self) -> bytes:
        """Return the last packet.

        Raises:
            LocalProtocolError: The second time.
        """
        if self._closed:
            raise LocalProtocolError("goodbye said twice")
        self._closed = True
        return bindings.crypto_secretbox_easy(_GOODBYE, self._next(), self._key)

    def _next(self) -> bytes:
        nonce = self._nonce
        self._nonce = (nonce + 1) % _NONCES
        return nonce.to_bytes(24, "big")

    def _packet(self, body: bytes, out: list[bytes | memoryview]) -> None:
        header_nonce = self._next()
        boxed = bindings.crypto_secretbox_easy(body, self._next(), self._key)
        header = len(body).to_bytes(2, "big") + boxed[:16]
        sealed = bindings.crypto_secretbox_easy(header, header_nonce, self._key)
        if len(body) <= _JOIN_BELOW:
            out.append(sealed + boxed[16:])
        else:
            out.append(sealed)
            out.append(memoryview(boxed)[16:])


class BoxOpener:
    """The receiving half.

    Args:
        key: 32 bytes.
        nonce: The first one, 24 bytes.

    Attributes:
        max_body: Bytes of the largest body accepted; as for the sealer.
        ended: Goodbye was received.
    """

    __slots__ = ("_body_size", "_input", "_key", "_mac", "_nonce", "_start", "ended", "max_body")

    def __init__(self, key: bytes, nonce: bytes) -> None:
        self._key = key
        self._nonce = int.from_bytes(nonce, "big")
        self._input = bytearray()
        self._start = 0  # what is before it in the input was opened
        self._body_size = -1  # -1: the next thing is a header
        self._mac = b""
        self.ended = False
        self.max_body = SMALL_BODY

    def __repr__(self) -> str:
        return "BoxOpener()"

    def feed(self, data: bytes | memoryview) -> None:
        """Take bytes from the peer; :meth:`next_body` opens them."""
        if self._start:
            del self._input[: self._start]
            self._start = 0
        self._input += data

    def next_body(self) -> bytes | None:
        """Return the next body, or None until more bytes come or after goodbye.

        Raises:
            RemoteProtocolError: What came does not open, is larger than allowed, or follows goodbye.
        """
        held, start = self._input, self._start
        if self.ended:
            if len(held) > start:
                raise RemoteProtocolError("data behind the peer's goodbye")
            return None
        if self._body_size < 0:
            if len(held) - start < HEADER_SIZE:
                return None
            header = self._open(bytes(held[start : start + HEADER_SIZE]))
            start = self._start = start + HEADER_SIZE
            if header == _GOODBYE:
                self.ended = True
                return self.next_body()
            size = int.from_bytes(header[:2], "big")
            if not 0 < size <= self.max_body:
                raise RemoteProtocolError(f"a packet of {size} bytes, outside 1 to {self.max_body}")
            self._body_size, self._mac = size, header[2:]
        size = self._body_size
        if len(held) - start < size:
            return None
        with memoryview(held) as view:
            box = b"".join((self._mac, view[start : start + size]))
        self._start = start + size
        self._body_size = -1
        return self._open(box)

    def check_end(self) -> None:
        """Check that the connection ended where it may.

        Raises:
            RemoteProtocolError: It was cut: there was no goodbye.
        """
        if not self.ended:
            raise RemoteProtocolError("the connection was cut")

    def _open(self, box: bytes) -> bytes:
        nonce = self._nonce
        self._nonce = (nonce + 1) % _NONCES
        try:
            return bindings.crypto_secretbox_open_easy(box, nonce.to_bytes(24, "big"), self._key)
        except (CryptoError, ValueError):
            raise RemoteProtocolError("a packet does not open") from None


def make_boxes(keys: SessionKeys) -> tuple[BoxSealer, BoxOpener]:
    """Return both halves for the keys of a handshake."""
    return BoxSealer(keys.send_key, keys.send_nonce), BoxOpener(keys.receive_key, keys.receive_nonce)
