"""Ledger entries signed by a program: what a change of the mesh is, byte for byte as docs/protocol/ledger.md has it.

The SDK has the client's half of an entry only: it writes those about functions and reads none.
"""

from __future__ import annotations

import json
import secrets
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from osiris_mesh.codec import pack
from osiris_mesh.errors import Denied, NotFound
from osiris_mesh.identity.home import Home
from osiris_mesh.identity.keys import Domain, KeyPair

__all__ = ["Signer"]

_VERSION: Final = 1
_NONCE: Final = 16


@dataclass(frozen=True, slots=True)
class Signer:
    """Signs for one key in one mesh.

    Attributes:
        mesh_id: 16 bytes.
        key: Whose entries they are.
    """

    mesh_id: bytes
    key: KeyPair = field(repr=False)

    @classmethod
    def of_home(cls, home: Home) -> Signer:
        """Return the signer of a home's user.

        Raises:
            NotFound: The home belongs to no mesh, or has no user key.
        """
        try:
            mesh_id = bytes.fromhex(json.loads(home.mesh_file.read_text("utf-8"))["mesh_id"])
            return cls(mesh_id, KeyPair.load(home.user_key))
        except FileNotFoundError as error:
            raise NotFound(
                f"{error.filename} is not there, so nothing can be signed here",
                fix="act from a home that is in a mesh and whose user may deploy",
            ) from None
        except (ValueError, KeyError, TypeError):
            raise NotFound(f"{home.mesh_file} does not say which mesh this home belongs to") from None

    def sign(self, kind: str, body: Sequence[Any]) -> bytes:
        """Return an entry.

        Args:
            kind: Its kind, such as ``function.publish``.
            body: Fields of the kind, in order.
        """
        now = time.time_ns() // 1_000_000
        payload = pack([_VERSION, self.mesh_id, kind, self.key.public, now, secrets.token_bytes(_NONCE), list(body)])
        return pack([payload, self.key.sign(Domain.ENTRY, payload)])

    def check(self, mesh_id: object) -> None:
        """Refuse to sign for another mesh.

        Raises:
            Denied: ``mesh_id`` is another one.
        """
        if mesh_id != self.mesh_id:
            raise Denied("the controller is of another mesh than this key signs for")
