"""The settings a node goes by: each value read once when it changes, the last good one if the new one can't be. A core.

Faces and ledger check what is set, but a chain may hold what an older or newer version took. Such a value stops
nothing: the node goes on with what it could read last, or the default, and says so.
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
        kept: The text that holds instead; None: the default does.
    """

    key: str
    why: str
    kept: str | None


class InForce:
    """What holds of the mesh's settings on this node."""

    def __init__(self) -> None:
        self._set: dict[str, str] = {}
        self._good: dict[str, str] = {}

    def take(self, settings: Mapping[str, str]) -> tuple[dict[str, str], list[Unreadable]]:
        """Take in all settings as they are set now.

        Args:
            settings: Values by key, as the ledger has them.

        Returns:
            The known ones by key, each with a text that can be read; and those that changed to one that can't.
        """
        before, self._set = self._set, dict(settings)
        good: dict[str, str] = {}
        unreadable: list[Unreadable] = []
        for key, text in self._set.items():
            kept = self._good.get(key)
            if before.get(key) == text:
                why = ""
            else:
                known, why = _read(key, text)
                if not known:
                    continue
                kept = kept if why else text
            if why:
                unreadable.append(Unreadable(key, why[:_MAX_WHY], kept))
            if kept is not None:
                good[key] = kept
        self._good = good
        return dict(good), unreadable


class Held:
    """One setting, for whoever asks often: it is read again only when its text is another.

    Args:
        key: The setting.
        default: What it is while it is not set.
    """

    __slots__ = ("_default", "_in_force", "_key", "_text", "_value")

    def __init__(self, key: str, default: Any) -> None:
        self._key = key
        self._default = default
        self._in_force = InForce()
        self._text: str | None = None
        self._value = default

    def of(self, settings: Mapping[str, str]) -> Any:
        """Return what it is now."""
        text = settings.get(self._key)
        if text != self._text:
            self._text = text
            good, _ = self._in_force.take({} if text is None else {self._key: text})
            self._value = config_keys.read(good, self._key) if self._key in good else self._default
        return self._value


def _read(key: str, text: str) -> tuple[bool, str]:
    """Say whether the key is known, and why its text can't be read, if it can't."""
    known = config_keys.known(key)
    if known is None:
        return False, ""
    try:
        known.parse(text)
    except UsageError as error:
        return True, error.what
    except Exception as error:  # noqa: BLE001 - a defect in one setting's reader must not take a node down
        return True, f"{type(error).__name__}: {error}"
    return True, ""
