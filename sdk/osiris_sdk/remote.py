"""A function of the mesh as a Python callable."""

from __future__ import annotations

import inspect
from typing import Any, Protocol

from osiris_sdk.resolved import Resolved

__all__ = ["RemoteFunction"]


class _Calls(Protocol):
    def call(self, name: str, /, *args: Any, **kwargs: Any) -> Any: ...


class RemoteFunction:
    """Calls one function by name, and looks like it: name, docstring and signature are its own.

    Args:
        calls: What makes the calls; what that returns, the callable returns: a value, or something to await.
        name: Name as it is called, with or without ``@version``.
        resolved: What it was resolved to.
    """

    def __init__(self, calls: _Calls, name: str, resolved: Resolved) -> None:
        self._calls = calls
        self._name = name
        self.__name__ = resolved.signature.name
        self.__qualname__ = resolved.name
        self.__doc__ = resolved.description or None
        self.__signature__: inspect.Signature = resolved.signature.to_inspect()

    def __repr__(self) -> str:
        return f"<function {self.__qualname__} of the mesh>"

    def __call__(self, /, *args: Any, **kwargs: Any) -> Any:
        """Call the function; every argument goes to it."""
        return self._calls.call(self._name, *args, **kwargs)
