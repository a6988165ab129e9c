"""Whose functions somebody may know of: the one place that decides it, for everything that speaks of functions. A core.

A function's name is told to whoever holds a permission about functions for that name. Who holds one without a pattern
sees all of them, and nothing is kept from him; all others are *narrowed*, and everything that names another function is
left out, or, where its place must be kept, withheld.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from osiris_mesh.errors import OsirisError
from osiris_mesh.function.spec import FunctionSpec
from osiris_mesh.ledger import kinds
from osiris_mesh.ledger.entry import Entry
from osiris_mesh.ledger.outcome import Outcome, Refused
from osiris_mesh.ledger.permissions import PERMISSIONS
from osiris_mesh.ledger.principal import Principal

__all__ = ["Sight", "named"]

_ABOUT: Final = tuple(permission for permission in PERMISSIONS if permission.startswith("function."))
# Kinds that name no function. A kind that is in neither this nor `named` is not shown to who is narrowed.
_NAMELESS: Final = frozenset(
    {
        "genesis",
        "member.add",
        "member.remove",
        "member.role",
        "token.create",
        "token.revoke",
        "config.set",
        "config.reset",
        "user.add",
        "user.update",
        "user.remove",
        "role.remove",
        "apitoken.revoke",
    }
)
# Refusals whose words quote grants, which have patterns in them; a duplicate quotes the refusal before it.
_QUOTES: Final = frozenset({"grant", "duplicate"})


class Sight:
    """What one principal may know of, at one moment.

    Args:
        principal: Who asks.

    Attributes:
        whole: He may know of every function.
    """

    __slots__ = ("_principal", "whole")

    def __init__(self, principal: Principal) -> None:
        self._principal = principal
        self.whole = any(principal.may(permission) for permission in _ABOUT)

    def sees(self, name: str) -> bool:
        """Say whether he may know of a function.

        Args:
            name: Its full name; a pattern: of all it could mean.
        """
        return self.whole or any(self._principal.may(permission, name) for permission in _ABOUT)

    def grants(self, texts: Iterable[str]) -> bool:
        """Say whether he may know of everything that grants name."""
        return self.whole or all(
            self.sees(pattern) for _, _, pattern in (text.partition(":") for text in texts) if pattern
        )

    def entry(self, entry: Entry | None, outcome: Outcome) -> bool:
        """Say whether he may know what an entry says, and what the ledger said to it.

        Args:
            entry: The entry; None: it is not well-formed.
            outcome: What became of it.
        """
        if self.whole or entry is None:
            return True
        if not outcome.accepted and outcome.code in _QUOTES:
            return False
        if entry.kind in _NAMELESS:
            return True
        try:
            names = named(kinds.read(entry.kind, entry.body))
        except Refused:
            return False
        return names is not None and all(map(self.sees, names))


def named(body: kinds.Body) -> list[str] | None:
    """Return the functions, and the patterns of functions, that an entry names; None: that can't be told."""
    match body:
        case kinds.FunctionPublish(spec=spec):
            try:
                return [FunctionSpec.from_wire(spec).name]
            except OsirisError:
                return None
        case kinds.FunctionActivate(name=name) | kinds.FunctionDeprecate(name=name) | kinds.FunctionRemove(name=name):
            return [name]
        case kinds.ContainerFunctions(functions=functions):
            return [name for name, _, _ in functions]
        case kinds.RoleSet(grants=grants) | kinds.ApiTokenCreate(grants=grants):
            return [pattern for _, _, pattern in (grant.partition(":") for grant in grants) if pattern]
    return [] if body.KIND in _NAMELESS else None
