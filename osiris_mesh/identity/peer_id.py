"""Peer ids in libp2p's form: base58btc of the identity multihash of the protobuf-encoded Ed25519 public key.

Source: libp2p peer-ids specification, section "Keys". The key is inside the id, so an id is all one needs to
authenticate a peer.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Final

from osiris_mesh.errors import UsageError

__all__ = ["peer_id", "public_key"]

_ALPHABET: Final = "123456789ABCDEFGHJKLMNPQRSTUVWXYZabcdefghijkmnopqrstuvwxyz"
_VALUE: Final = {letter: value for value, letter in enumerate(_ALPHABET)}
# identity multihash (0x00), 36 bytes; protobuf: field 1 (type) = 1 (Ed25519), field 2 (data), 32 bytes
_PREFIX: Final = bytes.fromhex("002408011220")
_MAX_LETTERS: Final = 64


@lru_cache(maxsize=4096)
def peer_id(public: bytes) -> str:
    """Return the peer id of a 32-byte Ed25519 public key."""
    if len(public) != 32:
        raise UsageError(f"a public key has 32 bytes, this one {len(public)}")
    raw = _PREFIX + public
    number = int.from_bytes(raw, "big")
    letters: list[str] = []
    while number:
        number, digit = divmod(number, 58)
        letters.append(_ALPHABET[digit])
    zeros = len(raw) - len(raw.lstrip(b"\0"))
    return "1" * zeros + "".join(reversed(letters))


@lru_cache(maxsize=4096)
def public_key(text: str) -> bytes:
    """Return the public key inside a peer id.

    Raises:
        UsageError: Not a peer id of an Ed25519 key.
    """
    if not 0 < len(text) <= _MAX_LETTERS:
        raise UsageError("not a peer id", fix="a peer id looks like 12D3KooW… and has 52 letters")
    number = 0
    for letter in text:
        value = _VALUE.get(letter)
        if value is None:
            raise UsageError(f"{text!r} is not a peer id", fix="a peer id looks like 12D3KooW… and has 52 letters")
        number = number * 58 + value
    raw = number.to_bytes((number.bit_length() + 7) // 8, "big")
    raw = b"\0" * (len(text) - len(text.lstrip("1"))) + raw
    if len(raw) != len(_PREFIX) + 32 or not raw.startswith(_PREFIX):
        raise UsageError(f"{text!r} is not a peer id", fix="a peer id looks like 12D3KooW… and has 52 letters")
    return raw[len(_PREFIX) :]
