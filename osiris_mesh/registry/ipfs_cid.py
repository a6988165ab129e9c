"""Content ids: which bytes are meant, so that whoever sends them need not be believed. A pure core.

Source: the Multiformats specifications of CID (versions 0 and 1), multihash, multibase and unsigned-varint. Narrower:
SHA-256 and, for up to 128 bytes, the identity; base32, base36 and base58btc; varints in the shortest form.
"""

from __future__ import annotations

from dataclasses import dataclass
from hashlib import sha256
from typing import Final

from osiris_mesh.errors import RemoteProtocolError, UsageError

__all__ = ["DAG_PB", "LIBP2P_KEY", "RAW", "Cid", "IpnsName", "read_varint", "varint"]

RAW: Final = 0x55
DAG_PB: Final = 0x70
LIBP2P_KEY: Final = 0x72
_IDENTITY: Final = 0x00
_SHA256: Final = 0x12
_MAX_IDENTITY: Final = 128
_MAX_VARINT: Final = 9
_MAX_TEXT: Final = 320
_CODECS: Final = frozenset({RAW, DAG_PB, LIBP2P_KEY})
# Protobuf of an Ed25519 public key: field 1 (type) = 1, field 2 (data), 32 bytes.
_KEY_PREFIX: Final = bytes.fromhex("08011220")
_BASES: Final[dict[str, str]] = {
    "b": "abcdefghijklmnopqrstuvwxyz234567",
    "k": "0123456789abcdefghijklmnopqrstuvwxyz",
    "z": "123456789ABCDEFGHJKLMNPQRSTUVWXYZabcdefghijkmnopqrstuvwxyz",
}
_FIX: Final = "a content id looks like bafy… or Qm…"
_NAME_FIX: Final = "a name looks like k51…; `ipfs key gen --type ed25519` makes one"


def varint(value: int) -> bytes:
    """Return an unsigned varint."""
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)


def read_varint(data: bytes, at: int = 0) -> tuple[int, int]:
    """Return an unsigned varint and where it ends.

    Raises:
        RemoteProtocolError: It is cut off, longer than nine bytes, or not in the shortest form.
    """
    value = shift = 0
    for step in range(_MAX_VARINT):
        if at + step >= len(data):
            raise RemoteProtocolError("a number is cut off")
        byte = data[at + step]
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            if step and not byte:
                raise RemoteProtocolError("a number is not in its shortest form")
            return value, at + step + 1
        shift += 7
    raise RemoteProtocolError("a number is longer than nine bytes")


@dataclass(frozen=True, slots=True)
class Cid:
    """A content id.

    Attributes:
        version: 0 or 1.
        codec: :data:`RAW`, :data:`DAG_PB` or :data:`LIBP2P_KEY`.
        digest: SHA-256, 32 bytes; with ``inline`` the content itself.
        inline: The hash is the identity.
    """

    version: int
    codec: int
    digest: bytes
    inline: bool = False

    @classmethod
    def of(cls, codec: int, data: bytes) -> Cid:
        """Return the version 1 id of a block."""
        return cls(1, codec, sha256(data).digest())

    @classmethod
    def from_bytes(cls, data: bytes) -> Cid:
        """Read the binary form; nothing may follow.

        Raises:
            RemoteProtocolError: Not a content id of the kinds known here.
        """
        if len(data) == 34 and data[:2] == b"\x12\x20":
            return cls(0, DAG_PB, bytes(data[2:]))
        version, at = read_varint(data)
        if version != 1:
            raise RemoteProtocolError(f"a content id of version {version} is not known")
        codec, at = read_varint(data, at)
        if codec not in _CODECS:
            raise RemoteProtocolError(f"a content id with codec 0x{codec:x} is not known")
        digest, inline = _read_multihash(data[at:])
        return cls(1, codec, digest, inline)

    @classmethod
    def parse(cls, text: str) -> Cid:
        """Read what a user or a gateway wrote.

        Raises:
            UsageError: Not a content id of the kinds known here.
        """
        bare = len(text) == 46 and text.startswith("Qm")
        try:
            cid = cls.from_bytes(_decode(text, "z") if bare else _decode(text[1:], text[:1]))
        except RemoteProtocolError as error:
            raise UsageError(f"{text[:80]!r} is not a content id: {error.what}", fix=_FIX) from None
        if cid.version == 0 and not bare:
            raise UsageError(f"{text[:80]!r} is not a content id: version 0 has no base letter", fix=_FIX)
        return cid

    @property
    def multihash(self) -> bytes:
        """The multihash."""
        return varint(_IDENTITY if self.inline else _SHA256) + varint(len(self.digest)) + self.digest

    def to_bytes(self) -> bytes:
        """Return the binary form."""
        return self.multihash if self.version == 0 else varint(1) + varint(self.codec) + self.multihash

    def holds(self, data: bytes) -> bool:
        """Say whether these are the bytes that are meant."""
        return data == self.digest if self.inline else sha256(data).digest() == self.digest

    def __str__(self) -> str:
        if self.version == 0:
            return _encode(self.to_bytes(), "z")
        return "b" + _encode(self.to_bytes(), "b")


def _read_multihash(data: bytes) -> tuple[bytes, bool]:
    function, at = read_varint(data)
    size, at = read_varint(data, at)
    digest = bytes(data[at:])
    if len(digest) != size:
        raise RemoteProtocolError("a hash is not as long as it says")
    if function == _SHA256 and size == 32:
        return digest, False
    if function == _IDENTITY and size <= _MAX_IDENTITY:
        return digest, True
    raise RemoteProtocolError(f"hash function 0x{function:x} of {size} bytes is not accepted")


@dataclass(frozen=True, slots=True)
class IpnsName:
    """The name of a mutable pointer: an Ed25519 public key.

    Attributes:
        public: The key, 32 bytes.
    """

    public: bytes

    @classmethod
    def parse(cls, text: str) -> IpnsName:
        """Read a name in any of its forms: ``k51…``, ``bafz…`` or a peer id.

        Raises:
            UsageError: Not a name, or not one of an Ed25519 key.
        """
        try:
            if text.startswith(("12D3KooW", "Qm")):
                codec, (digest, inline) = LIBP2P_KEY, _read_multihash(_decode(text, "z"))
            else:
                cid = Cid.parse(text)
                codec, digest, inline = cid.codec, cid.digest, cid.inline
        except (RemoteProtocolError, UsageError) as error:
            raise UsageError(f"{text[:80]!r} is not a name of IPNS: {error.what}", fix=_NAME_FIX) from None
        if codec != LIBP2P_KEY or not inline or len(digest) != 36 or not digest.startswith(_KEY_PREFIX):
            raise UsageError(f"{text[:80]!r} is not the name of an Ed25519 key", fix=_NAME_FIX)
        return cls(digest[4:])

    @property
    def cid(self) -> Cid:
        """The name as a content id."""
        return Cid(1, LIBP2P_KEY, _KEY_PREFIX + self.public, inline=True)

    def __str__(self) -> str:
        return "k" + _encode(self.cid.to_bytes(), "k")


def _encode(data: bytes, base: str) -> str:
    letters = _BASES[base]
    if base == "b":
        # Five bits a letter from the left, unlike the others, which write one large number.
        spare = -len(data) * 8 % 5
        number, count = int.from_bytes(data, "big") << spare, (len(data) * 8 + spare) // 5
        return "".join(letters[number >> 5 * place & 31] for place in reversed(range(count)))
    number = int.from_bytes(data, "big")
    text: list[str] = []
    while number:
        number, digit = divmod(number, len(letters))
        text.append(letters[digit])
    zeros = len(data) - len(data.lstrip(b"\0"))
    return letters[0] * zeros + "".join(reversed(text))


def _decode(text: str, base: str) -> bytes:
    if not 0 < len(text) <= _MAX_TEXT:
        raise RemoteProtocolError(f"it has not 1 to {_MAX_TEXT} letters")
    if base not in _BASES:
        raise RemoteProtocolError("it begins with no base known here")
    letters = _BASES[base]
    number = 0
    for letter in text:
        digit = letters.find(letter)
        if digit < 0:
            raise RemoteProtocolError(f"it has the letter {letter!r}")
        number = number * len(letters) + digit
    if base == "b":
        size, spare = divmod(len(text) * 5, 8)
        if spare >= 5 or number & ((1 << spare) - 1):
            raise RemoteProtocolError("it ends in bits that mean nothing")
        return (number >> spare).to_bytes(size, "big")
    zeros = len(text) - len(text.lstrip(letters[0]))
    return bytes(zeros) + number.to_bytes((number.bit_length() + 7) // 8, "big")
