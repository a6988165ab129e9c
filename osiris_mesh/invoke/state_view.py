"""The ledger's state as :class:`osiris_mesh.invoke.resolver.LedgerView` wants it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from osiris_mesh.function.spec import FunctionSpec
from osiris_mesh.ledger.state import State

__all__ = ["StateView"]


class _HasState(Protocol):
    @property
    def state(self) -> State: ...


class StateView:
    """Reads the state a ledger holds at the moment.

    Args:
        ledger: Whatever has the state; asked anew each time, because a snapshot may replace it.
    """

    def __init__(self, ledger: _HasState) -> None:
        self._ledger = ledger

    def active(self, name: str) -> FunctionSpec | None:
        """Return the active version of a function, by full name."""
        record = self._ledger.state.active(name)
        return None if record is None else record.spec

    def versions(self, name: str) -> Sequence[FunctionSpec]:
        """Return all published versions of a function, by full name, in the order of publication."""
        record = self._ledger.state.functions.get(name)
        return () if record is None else [version.spec for version in record.versions.values()]
