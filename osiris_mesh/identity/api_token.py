"""API tokens: ``osa1`` and base64url of 32 random bytes.

The bytes are the seed of an Ed25519 key. Its public half is in the ledger with owner, grants and expiry; what is handed
to a program is the text, shown once. So the ledger holds nothing that lets anyone in, and an entry signed with the key
is checked by every node like any other author's.
"""

from __future__ import annotations

import base64
import binascii
import secrets
from dataclasses import dataclass, field
from functools import cached_property
from typing import Final

from osiris_mesh.errors import UsageError
from osiris_mesh.identity.keys import KeyPair

__all__ = ["ApiToken"]

_PREFIX: Final = "osa1"
_SEED: Final = 32
_LETTERS: Final = len(_PREFIX) + 43
_FIX: Final = "create a new one with: osiris-mesh apitoken create"


@dataclass(frozen=True)
class ApiToken:
    """One API token.

    Attributes:
        seed: 32 random bytes, the seed of :attr:`key`.
    """

    seed: bytes = field(repr=False)

    @classmethod
    def generate(cls) -> ApiToken:
        """Return a new random token."""
        return cls(secrets.token_bytes(_SEED))

    @cached_property
    def key(self) -> KeyPair:
        """The key whose public half is in the ledger."""
        return KeyPair(self.seed)

    @property
    def id(self) -> str:
        """Name of the token for people: the first 16 hex digits of its public key."""
        return self.key.public.hex()[:16]

    def text(self) -> str:
        """Return the form that is handed to a program."""
        return _PREFIX + base64.urlsafe_b64encode(self.seed).decode("ascii").rstrip("=")

    @classmethod
    def parse(cls, text: str) -> ApiToken:
        """Read a token; whether it counts, the ledger says.

        Raises:
            UsageError: Not a token, or not all of it.
        """
        if len(text) != _LETTERS or not text.startswith(_PREFIX) or not text.isascii():
            raise UsageError(f"this is not an API token: one starts with osa1 and has {_LETTERS} letters", fix=_FIX)
        try:
            token = cls(base64.b64decode(text[len(_PREFIX) :] + "=", altchars=b"-_", validate=True))
        except (binascii.Error, ValueError):
            raise UsageError("the API token is damaged", fix=_FIX) from None
        # The last letter holds two bits more than the seed; a token has one spelling.
        if token.text() != text:
            raise UsageError("the API token is damaged", fix=_FIX)
        return token
