"""How a call is made, apart from what it is given."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from osiris_mesh.errors import UsageError

__all__ = ["Choose", "Options"]

Choose = Callable[[Sequence[dict[str, Any]]], Sequence[str]]
"""Orders providers: gets :attr:`osiris_sdk.Resolved.providers`, returns ids, the one to be asked first first."""


@dataclass(frozen=True, slots=True)
class Options:
    """Options of calls.

    Attributes:
        timeout: Seconds for the whole call, looking the name up included; None leaves it to the function's own limit.
        idempotent: The call may be repeated elsewhere if a node dies under it, whatever the function says of itself.
        version: Which version: ``1.4.2``, ``1.4``, ``^1.4``, ``~1.4.2``; empty for the active one.
        context: Security context that the call, and whatever it calls, is kept to: ``pure``, ``controlled`` or
            ``full``, then patterns, as in ``controlled; functions=team-a/*``. It only narrows what may be reached.
        choose: Orders the providers of a function of a registry: see :data:`Choose`; None leaves it to the controller.

    Raises:
        UsageError: A time that is not positive, or a version inside which a name ends.
    """

    timeout: float | None = None
    idempotent: bool = False
    version: str = ""
    context: str = ""
    choose: Choose | None = None

    def __post_init__(self) -> None:
        if self.timeout is not None and not self.timeout > 0:
            raise UsageError(f"a timeout of {self.timeout} s leaves no time", fix="give a positive number of seconds")
        if "@" in self.version or "/" in self.version:
            raise UsageError(f"{self.version!r} is not a version", fix="for example 1.4.2 or ^1.4")

    def full(self, name: str) -> str:
        """Return the name as it is sent, with the version behind it.

        Raises:
            UsageError: The version is said twice.
        """
        if not self.version:
            return name
        if "@" in name:
            raise UsageError(f"{name!r} and the option version={self.version!r} both name a version")
        return f"{name}@{self.version}"
