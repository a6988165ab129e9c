"""Settings of ``osiris_mesh.invoke``."""

from __future__ import annotations

from dataclasses import dataclass

from osiris_mesh.errors import UsageError

__all__ = ["InvokeSettings"]


@dataclass(frozen=True, slots=True)
class InvokeSettings:
    """Settings of the invoke layer.

    Attributes:
        attempts: Places one call is tried at, the first included. More survives more failures at once; every one costs
            time out of the same deadline.
        max_depth: How deep functions may call functions. The outermost call has depth 0; deeper than this is refused.
        max_in_flight: Calls this node works on at a time, queued and forwarded ones included. Past it a call is refused
            as overloaded before anything is looked up, so that memory stays bounded.
        retry_after_ms: What an overloaded answer tells the caller to wait.
        max_metered: Functions counted at a time; the one not called for longest is forgotten first.
    """

    attempts: int = 3
    max_depth: int = 16
    max_in_flight: int = 4096
    retry_after_ms: int = 200
    max_metered: int = 4096

    def __post_init__(self) -> None:
        for name in ("attempts", "max_depth", "max_in_flight", "retry_after_ms", "max_metered"):
            if getattr(self, name) < 1:
                raise UsageError(f"invoke.{name} is {getattr(self, name)}, less than 1")

    @classmethod
    def preset(cls, name: str) -> InvokeSettings:
        """Return the section of a preset (one of :data:`osiris_mesh.settings.PRESETS`)."""
        return cls(retry_after_ms=50) if name == "test" else cls()
