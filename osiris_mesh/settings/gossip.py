"""Settings of ``osiris_mesh.gossip``."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["GossipSettings"]


@dataclass(frozen=True, slots=True)
class GossipSettings:
    """Settings of the gossip layer."""

    @classmethod
    def preset(cls, _name: str) -> GossipSettings:
        """Return the section of a preset (one of :data:`osiris_mesh.settings.PRESETS`)."""
        return cls()
