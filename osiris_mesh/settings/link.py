"""Settings of ``osiris_mesh.link``."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["LinkSettings"]


@dataclass(frozen=True, slots=True)
class LinkSettings:
    """Settings of the link layer."""

    @classmethod
    def preset(cls, _name: str) -> LinkSettings:
        """Return the section of a preset (one of :data:`osiris_mesh.settings.PRESETS`)."""
        return cls()
