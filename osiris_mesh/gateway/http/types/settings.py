"""Settings of the mesh."""

from __future__ import annotations

from msgspec import Struct

from osiris_mesh.gateway.http.types.shared import Signed, Text

__all__ = ["Setting", "SettingBody", "Settings"]


class Setting(Struct):
    """One setting of the mesh."""

    key: str
    value: str
    default: str
    is_set: bool
    kind: str
    means: str
    problem: str


class Settings(Struct):
    """Every setting: those set, and the known ones that are not."""

    settings: list[Setting]


class SettingBody(Signed, kw_only=True):
    """A setting's value."""

    value: Text
