"""The settings a node goes by: each value read once when it changes, and what holds where one can't be read. A core.

Faces and ledger check what is set, but a chain may hold what an older or newer version took. Such a value stops
nothing. What holds instead is told by the key alone, never by what this node read before, so that every node of one
version goes by the same whatever it lived through: the default, or, for a key that limits, what allows least.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from osiris_mesh.errors import UsageError
from osiris_mesh.gateway import config_keys

__all__ = ["Held", "InForce", "Unreadable"]

_MAX_WHY = 300


@dataclass(frozen=True, slots=True)
class Unreadable:
    """A value this node can't read.

    Attributes:
        key: The setting.
        why: What is wrong with it.
        holds: The text that holds instead; empty: none.
    """

    key: str
    why: str
    holds: str


class InForce:
    """What holds of the mesh's settings on this node; it remembers only what it has read, and what it told of."""

    def __init__(self) -> None:
        self._set: dict[str, str] = {}
        self._good: dict[str, str] = {}

    def take(self, settings: Mapping[str, str]) -> tuple[dict[str, str], list[Unreadable]]:
        """Take in all settings as they are set now.

        Args:
            settings: Values by key, as the ledger has them.

        Returns:
            The known ones by key, each with a text that can be read, without those whose default holds; and those
            that changed to one that can't be read.
        """
        before, self._set = self._set, dict(settings)
        good: dict[str, str] = {}
        unreadable: list[Unreadable] = []
        for key, text in self._set.items():
            if before.get(key) == text:
                if key in self._good:
                    good[key] = self._good[key]
                continue
            known = config_keys.known(key)
            if known is None:
                continue
            why = _why_not(known, text)
            if not why:
                good[key] = text
                continue
            unreadable.append(Unreadable(key, why[:_MAX_WHY], known.otherwise(key)))
            if known.closed is not None:
                good[key] = known.closed
        self._good = good
        return dict(good), unreadable


class Held:
    """One setting, for whoever asks often: it is read again only when its text is another.

    Args:
        key: The setting.
        default: What it is while it is not set, or can't be read and the key says nothing else.
    """

    __slots__ = ("_default", "_key", "_text", "_value")

    def __init__(self, key: str, default: Any) -> None:
        self._key = key
        self._default = default
        self._text: str | None = None
        self._value = default

    def of(self, settings: Mapping[str, str]) -> Any:
        """Return what it is now."""
        text = settings.get(self._key)
        if text != self._text:
            self._text = text
            good, _ = InForce().take({} if text is None else {self._key: text})
            self._value = config_keys.read(good, self._key) if self._key in good else self._default
        return self._value


def _why_not(known: config_keys.Key, text: str) -> str:
    """Say why a text can't be read; empty if it can."""
    try:
        known.parse(text)
    except UsageError as error:
        return error.what
    except Exception as error:  # noqa: BLE001 - a defect in one setting's reader must not take a node down
        return f"{type(error).__name__}: {error}"
    return ""
