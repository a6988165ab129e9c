"""A state to try entries on: it shows what another state holds and keeps what is changed to itself."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, MutableMapping
from typing import Any, Final

from osiris_mesh.ledger.state import State

__all__ = ["draft"]

_GONE: Final = object()


class _Over(MutableMapping[Any, Any]):
    """A map over another one, which it never changes."""

    __slots__ = ("_below", "_own")

    def __init__(self, below: MutableMapping[Any, Any]) -> None:
        self._below = below
        self._own: dict[Any, Any] = {}

    def __getitem__(self, key: Any) -> Any:
        value = self._own.get(key, self)
        if value is self:
            return self._below[key]
        if value is _GONE:
            raise KeyError(key)
        return value

    def __contains__(self, key: object) -> bool:
        value = self._own.get(key, self)
        return key in self._below if value is self else value is not _GONE

    def __setitem__(self, key: Any, value: Any) -> None:
        self._own[key] = value

    def __delitem__(self, key: Any) -> None:
        if key not in self:
            raise KeyError(key)
        self._own[key] = _GONE

    def __iter__(self) -> Iterator[Any]:
        yield from (key for key in self._below if key not in self._own)
        yield from (key for key, value in self._own.items() if value is not _GONE)

    def __len__(self) -> int:
        return sum(1 for _ in self) if self._own else len(self._below)


class _OverSet:
    """A set that only grows, over another one."""

    __slots__ = ("_below", "_own")

    def __init__(self, below: set[Any]) -> None:
        self._below = below
        self._own: set[Any] = set()

    def __contains__(self, item: object) -> bool:
        return item in self._own or item in self._below

    def add(self, item: Any) -> None:
        """Add an item to this one alone."""
        self._own.add(item)


def draft(state: State) -> State:
    """Return a state on which entries can be applied without a trace in ``state``; of use until that one changes.

    It knows of no entry applied before. Nothing is copied.
    """
    over = State(state.mesh_id)
    for name, value in vars(state).items():
        if name in {"_seen", "_authors", "_expiries"}:
            setattr(over, name, deque() if name == "_expiries" else {})
        elif isinstance(value, dict):
            setattr(over, name, _Over(value))
        elif isinstance(value, set):
            setattr(over, name, _OverSet(value))
        else:
            setattr(over, name, value)
    return over
