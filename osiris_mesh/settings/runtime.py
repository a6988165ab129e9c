"""Settings of ``osiris_mesh.runtime``."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["RuntimeSettings"]


@dataclass(frozen=True, slots=True)
class RuntimeSettings:
    """Settings of the runtime layer."""

    @classmethod
    def preset(cls, _name: str) -> RuntimeSettings:
        """Return the section of a preset (one of :data:`osiris_mesh.settings.PRESETS`)."""
        return cls()
