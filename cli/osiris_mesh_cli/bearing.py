"""What join, client and API tokens have in common: how long they live, and how one is named by its id."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

from osiris_mesh.errors import NotFound, UsageError
from osiris_mesh_cli.tables import ago
from osiris_mesh_cli.values import seconds

__all__ = ["expiry_text", "lifetime", "named"]

_MAX_TTL_SECONDS: Final = 10 * 366 * 86_400.0


def lifetime(ttl: str, example: str) -> float:
    """Return the seconds a token is to live.

    Args:
        ttl: What ``--ttl`` was given.
        example: What it may be, for the error.

    Raises:
        UsageError: Not a time, or one no token can live.
    """
    length = seconds(ttl)
    if not 0 < length <= _MAX_TTL_SECONDS:
        raise UsageError(f"--ttl {ttl} is not a time a token can live", fix=f"for example {example}")
    return length


def named(tokens: Sequence[dict[str, Any]], beginning: str, what: str, listing: str) -> dict[str, Any]:
    """Return the one token whose id begins so.

    Args:
        tokens: Their public halves.
        beginning: Of an id, or the whole of it.
        what: What they are called, ``token`` or ``API token``.
        listing: The command that lists them.

    Raises:
        NotFound: None does, or several.
    """
    found = [item for item in tokens if item["id"].startswith(beginning.lower())]
    if len(found) != 1 or not beginning:
        some = f"several {what}s begin" if found else f"no {what} begins"
        raise NotFound(f"{some} with {beginning!r}", fix=f"see: osiris-mesh {listing}")
    return found[0]


def expiry_text(token: dict[str, Any], now: int) -> str:
    """Return how long a token lives yet, for a table."""
    return "revoked" if token["revoked"] else ago(token["expires"], now)
