"""Settings of ``osiris_mesh.invoke``."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["InvokeSettings"]


@dataclass(frozen=True, slots=True)
class InvokeSettings:
    """Settings of the invoke layer."""

    @classmethod
    def preset(cls, _name: str) -> InvokeSettings:
        """Return the section of a preset (one of :data:`osiris_mesh.settings.PRESETS`)."""
        return cls()
