"""Whom to connect to: a home's controller, or a mesh from afar with a client token."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from osiris_mesh.errors import UsageError
from osiris_mesh.identity.home import Home

__all__ = ["LocalTarget", "Target", "TokenTarget", "read_target"]


@dataclass(frozen=True, slots=True)
class LocalTarget:
    """The controller of a home on this machine."""

    socket: Path


@dataclass(frozen=True, slots=True)
class TokenTarget:
    """Any member named in a client token; the repr shows nothing of it."""

    text: str

    def __repr__(self) -> str:
        return "TokenTarget(osm1…)"


Target = LocalTarget | TokenTarget


def read_target(target: str | os.PathLike[str] | None, home: str | os.PathLike[str] | None) -> Target:
    """Return what ``Mesh.connect`` was told to connect to.

    Args:
        target: None, a home's folder, or a client token.
        home: A home's folder, said by name.

    Raises:
        UsageError: Both, or an HTTP address, which this version does not serve.
    """
    if target is not None and home is not None:
        raise UsageError("a target and a home were both given", fix="give one of them")
    where = target if home is None else home
    if where is None:
        return LocalTarget(Home.default().socket)
    text = os.fspath(where)
    if text.startswith(("http://", "https://")):
        raise UsageError(
            "the HTTP gateway is not part of this version",
            fix="connect to a home on this machine, or with a client token: osiris-mesh token create --role client",
        )
    if text.startswith("osm1"):
        return TokenTarget(text)
    return LocalTarget(Home(Path(text).expanduser()).absolute().socket)
