"""Who someone is to the mesh, and what he may: the answer of :meth:`osiris_mesh.ledger.state.State.principal`."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final, Literal

from osiris_mesh.ledger.permissions import NOTHING, Grants

__all__ = ["NEVER", "NOBODY", "Principal"]

NEVER: Final = 1 << 62
"""A time that never comes, milliseconds."""

PrincipalKind = Literal["user", "api_token", "client", "node", "nobody"]


@dataclass(frozen=True, slots=True)
class Principal:
    """Whoever holds one key, at one moment.

    Attributes:
        kind: ``user``, ``api_token``, ``client``, ``node`` or ``nobody``.
        name: The user's, token's, client's or node's name; empty of nobody.
        owner: Public key of the user behind it: its own for a user, its owner's for an API token; else empty.
        grants: What he holds, for an API token of himself.
        limits: For an API token what its owner holds: a permission counts only where both hold it. Else None.
        until_ms: Wall clock from which on it is another, or nobody, if nothing else changes before.
    """

    kind: PrincipalKind
    name: str = ""
    owner: bytes = b""
    grants: Grants = NOTHING
    limits: Grants | None = None
    until_ms: int = field(default=NEVER, compare=False)

    def may(self, permission: str, subject: str = "") -> bool:
        """Say whether he has a permission.

        Args:
            permission: One of :data:`osiris_mesh.ledger.permissions.PERMISSIONS`.
            subject: Full name of the function it is about. Without one the permission must be held without a limit to
                names; what lists functions asks :meth:`may_some` and then for each name.
        """
        return self.grants.covers(permission, subject) and (
            self.limits is None or self.limits.covers(permission, subject)
        )

    def may_some(self, permission: str) -> bool:
        """Say whether he has a permission for anything at all."""
        return self.grants.some(permission) and (self.limits is None or self.limits.some(permission))

    def missing(self, wanted: Grants) -> str:
        """Return the first grant of ``wanted`` that reaches further than what he holds, or an empty text."""
        return self.grants.missing(wanted) or (self.limits.missing(wanted) if self.limits is not None else "")


NOBODY: Final = Principal("nobody")
