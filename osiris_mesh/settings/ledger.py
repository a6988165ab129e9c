"""Settings of ``osiris_mesh.ledger``."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["LedgerSettings"]


@dataclass(frozen=True, slots=True)
class LedgerSettings:
    """Settings of the ledger layer."""

    @classmethod
    def preset(cls, _name: str) -> LedgerSettings:
        """Return the section of a preset (one of :data:`osiris_mesh.settings.PRESETS`)."""
        return cls()
