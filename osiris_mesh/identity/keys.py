"""Ed25519 key pairs and domain-separated signatures.

Every signature of the project covers ``domain + message``. A domain ends in a zero byte, so that none is a prefix of
another. The handshake alone signs without one, as its specification says.
"""

from __future__ import annotations

import os
import secrets
from enum import Enum
from pathlib import Path
from typing import Final

from nacl import bindings
from nacl.exceptions import CryptoError

from osiris_mesh.errors import Conflict, UsageError

__all__ = ["Domain", "KeyPair", "curve_public", "verify"]

_SEED: Final = 32


class Domain(bytes, Enum):
    """What a signature is for; a signature for one is never valid for another."""

    GOSSIP = b"osiris/gossip/v1\0"
    ENTRY = b"osiris/entry/v1\0"
    BUNDLE = b"osiris/bundle/v1\0"
    TOKEN = b"osiris/token/v1\0"
    SWIM = b"osiris/swim/v1\0"
    ADMISSION = b"osiris/admission/v1\0"
    REGISTRY = b"osiris/registry/v1\0"


class KeyPair:
    """An Ed25519 key pair; its repr shows the public half only.

    Args:
        seed: 32 secret bytes.

    Raises:
        UsageError: ``seed`` has another length.
    """

    __slots__ = ("_secret", "curve_secret", "public")

    def __init__(self, seed: bytes) -> None:
        if len(seed) != _SEED:
            raise UsageError(f"a key seed has {_SEED} bytes, this one {len(seed)}")
        self.public: bytes
        self.public, self._secret = bindings.crypto_sign_seed_keypair(seed)
        self.curve_secret: bytes = bindings.crypto_sign_ed25519_sk_to_curve25519(self._secret)

    def __repr__(self) -> str:
        return f"KeyPair(public={self.public.hex()})"

    @classmethod
    def generate(cls) -> KeyPair:
        """Return a new random key pair."""
        return cls(secrets.token_bytes(_SEED))

    @property
    def seed(self) -> bytes:
        """The 32 secret bytes, for writing them to a key file."""
        return bindings.crypto_sign_ed25519_sk_to_seed(self._secret)

    def sign(self, domain: Domain, message: bytes) -> bytes:
        """Return the 64-byte detached signature of ``domain + message``."""
        return self.sign_bare(domain.value + message)

    def sign_bare(self, message: bytes) -> bytes:
        """Return the 64-byte detached signature of ``message`` itself; for the handshake alone."""
        return bindings.crypto_sign(message, self._secret)[:64]

    @classmethod
    def load(cls, path: Path) -> KeyPair:
        """Read a key file.

        Raises:
            Conflict: The file is readable by others, or is not a key.
        """
        mode = path.stat().st_mode & 0o777
        if mode & 0o077:
            raise Conflict(f"{path} can be read by others (mode {mode:o})", fix=f"chmod 600 {path}")
        try:
            return cls(bytes.fromhex(path.read_text("ascii").strip()))
        except (ValueError, UsageError):
            raise Conflict(f"{path} is not a key file", fix="restore it from a backup, or start a new home") from None

    def save(self, path: Path) -> None:
        """Write a new key file, mode 0600, synced; an existing one is never overwritten.

        Raises:
            Conflict: ``path`` exists.
        """
        try:
            descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        except FileExistsError:
            raise Conflict(f"{path} exists already") from None
        with os.fdopen(descriptor, "w", encoding="ascii") as file:
            file.write(self.seed.hex() + "\n")
            file.flush()
            os.fsync(file.fileno())


def verify(public: bytes, domain: Domain, message: bytes, signature: bytes) -> bool:
    """Say whether ``signature`` is the owner of ``public``'s signature of ``domain + message``."""
    return verify_bare(public, domain.value + message, signature)


def verify_bare(public: bytes, message: bytes, signature: bytes) -> bool:
    """Say whether ``signature`` signs ``message`` itself; for the handshake alone."""
    if len(public) != 32 or len(signature) != 64:
        return False
    try:
        bindings.crypto_sign_open(signature + message, public)
    except (CryptoError, ValueError):
        return False
    return True


def curve_public(public: bytes) -> bytes:
    """Return the X25519 form of an Ed25519 public key.

    Raises:
        UsageError: ``public`` is not a point of the curve.
    """
    try:
        return bindings.crypto_sign_ed25519_pk_to_curve25519(public)
    except (CryptoError, ValueError, TypeError, RuntimeError):
        raise UsageError("not a usable public key") from None
