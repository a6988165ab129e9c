"""Settings of ``osiris_mesh.raft``."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["RaftSettings"]


@dataclass(frozen=True, slots=True)
class RaftSettings:
    """Settings of the raft layer."""

    @classmethod
    def preset(cls, _name: str) -> RaftSettings:
        """Return the section of a preset (one of :data:`osiris_mesh.settings.PRESETS`)."""
        return cls()
