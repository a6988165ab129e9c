"""Which meshes announce themselves near here; hints only, nothing of it is trusted."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["Near", "meshes_near"]


@dataclass(frozen=True, slots=True)
class Near:
    """A mesh that was announced.

    Attributes:
        mark: The announced hash of its id, hexadecimal.
        addresses: Where members said they answer.
    """

    mark: str
    addresses: tuple[str, ...]


def meshes_near(timeout: float) -> list[Near]:
    """Listen for announcements for ``timeout`` seconds."""
    raise NotImplementedError
