"""What calls beyond the mesh came to, counted for metrics. A core."""

from __future__ import annotations

from collections import Counter
from typing import Final

from osiris_mesh.errors import Denied, NotFound, OsirisError
from osiris_mesh.registry.resolution import Resolution

__all__ = ["PROVIDER_OUTCOMES", "RESOLVE_OUTCOMES", "SOURCES", "BeyondTallies"]

SOURCES: Final = ("local", "cache", "registry")
"""Where a name was found: in this mesh, known and fresh, or by asking."""
RESOLVE_OUTCOMES: Final = ("ok", "unknown", "denied", "failed")
PROVIDER_OUTCOMES: Final = ("answered", "failed", "abandoned", "left_alone")


class BeyondTallies:
    """Counters of one node; belongs to the loop.

    Attributes:
        resolved: Names looked up, by source and outcome.
        calls: Calls of providers, by outcome.
    """

    def __init__(self) -> None:
        self.resolved: Counter[tuple[str, str]] = Counter()
        self.calls: Counter[str] = Counter()

    def found(self, found: Resolution, source: str) -> None:
        """Count a name that was found; one of this mesh is ``local`` whoever found it."""
        self.resolved["local" if found.spec is not None else source, "ok"] += 1

    def missed(self, error: OsirisError, source: str) -> None:
        """Count a name that was not found."""
        outcome = "unknown" if isinstance(error, NotFound) else "denied" if isinstance(error, Denied) else "failed"
        self.resolved[source, outcome] += 1

    def by_source(self) -> dict[tuple[str, str], int]:
        """Return the names looked up by source and outcome, zeros included."""
        return {(source, each): self.resolved[source, each] for source in SOURCES for each in RESOLVE_OUTCOMES}

    def by_outcome(self) -> dict[str, int]:
        """Return the calls of providers by outcome, zeros included."""
        return {each: self.calls[each] for each in PROVIDER_OUTCOMES}
