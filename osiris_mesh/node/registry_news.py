"""What is to be told of registries: what they said that was refused, and that a checkpoint ends soon. A core."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from osiris_mesh.registry.registry import CHECKPOINT_TTL_MS
from osiris_mesh.registry.trust import Evidence

__all__ = ["RENEW_MS", "RegistryNews", "RegistryState", "problems_of"]

RENEW_MS: Final = CHECKPOINT_TTL_MS // 2
"""A checkpoint is renewed, or its end is told, when no more than this is left of it."""
_AGAIN_MS: Final = 24 * 3_600_000
_AT_ONCE: Final = 16
_HOUR_MS: Final = 3_600_000
_MAX_WHAT: Final = 300


@dataclass(frozen=True, slots=True)
class RegistryState:
    """How a registry stands.

    Attributes:
        name: What the user calls it.
        url: Where it is.
        failed: Why it could not be fetched, or opened; empty: it could.
        expires_ms: When its checkpoint ends; 0: none was seen.
        renews: This node renews it.
        evidence: What was refused, oldest first.
    """

    name: str
    url: str
    failed: str = ""
    expires_ms: int = 0
    renews: bool = False
    evidence: tuple[Evidence, ...] = ()


class RegistryNews:
    """Tells each thing once; what was refused before this node started is no news."""

    def __init__(self) -> None:
        self._seen: dict[str, frozenset[tuple[str, str, bytes]]] = {}
        self._told: dict[str, tuple[int, int]] = {}

    def look(self, states: Sequence[RegistryState], now_ms: int) -> list[tuple[str, Mapping[str, Any]]]:
        """Return events to publish: name and fields.

        Args:
            states: All registries as they are.
            now_ms: The time.
        """
        events: list[tuple[str, Mapping[str, Any]]] = []
        for state in states:
            keys = {_key(item): item for item in state.evidence}
            seen = self._seen.get(state.name)
            fresh = [] if seen is None else [item for key, item in keys.items() if key not in seen]
            self._seen[state.name] = frozenset(keys)
            events += [
                (
                    "registry.refused",
                    {
                        "registry": state.name,
                        "reason": item.reason,
                        "about": item.subject[:_MAX_WHAT],
                        "what": item.what[:_MAX_WHAT],
                    },
                )
                for item in fresh[-_AT_ONCE:]
            ]
            if _ends_soon(state, now_ms) and self._is_due(state, now_ms):
                hours = max(state.expires_ms - now_ms, 0) // _HOUR_MS
                events.append(("registry.stale_soon", {"registry": state.name, "hours": hours, "fix": _renew(state)}))
        names = {state.name for state in states}
        self._seen = {name: keys for name, keys in self._seen.items() if name in names}
        self._told = {name: told for name, told in self._told.items() if name in names}
        return events

    def _is_due(self, state: RegistryState, now_ms: int) -> bool:
        expires_ms, told_ms = self._told.get(state.name, (0, 0))
        if expires_ms == state.expires_ms and now_ms < told_ms + _AGAIN_MS:
            return False
        self._told[state.name] = (state.expires_ms, now_ms)
        return True


def problems_of(states: Sequence[RegistryState], now_ms: int) -> list[tuple[str, str, str]]:
    """Return what is wrong with registries, worst first in each: name, what, and what to do."""
    found: list[tuple[str, str, str]] = []
    for state in states:
        if state.failed:
            fix = f"osiris-mesh registry sync {state.name} tries it now"
            found.append((state.name, state.failed[:_MAX_WHAT], fix))
        if state.evidence:
            newest = state.evidence[-1]
            what = f"{len(state.evidence)} things it said were refused, the last: {newest.what[:_MAX_WHAT]}"
            found.append((state.name, what, f"osiris-mesh registry evidence {state.name}, and ask its owner"))
        if state.expires_ms and now_ms >= state.expires_ms:
            found.append((state.name, "its checkpoint has ended, so newer things may be withheld", _renew(state)))
        elif _ends_soon(state, now_ms):
            hours = (state.expires_ms - now_ms) // _HOUR_MS
            found.append((state.name, f"its checkpoint ends in {hours} h, and nobody has renewed it", _renew(state)))
    return found


def _ends_soon(state: RegistryState, now_ms: int) -> bool:
    # Who renews it may be a little late, and tries again: that is no news before half of the rest is gone.
    left = RENEW_MS // 2 if state.renews else RENEW_MS * 9 // 10
    return bool(state.expires_ms) and now_ms >= state.expires_ms - left


def _renew(state: RegistryState) -> str:
    return f"whoever keeps it signs a new one: osiris-mesh registry renew --to {state.url} --key NAME"


def _key(item: Evidence) -> tuple[str, str, bytes]:
    return item.reason, item.subject, b"".join(item.lines[-1:]) or item.what.encode("utf-8")
