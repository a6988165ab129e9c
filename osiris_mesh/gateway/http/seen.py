"""What of an answer its bearer may know of."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from osiris_mesh.access.sight import Sight
from osiris_mesh.gateway.http.route import Ask

__all__ = ["rows_seen", "sets_settings", "sight_of"]


def sight_of(ask: Ask) -> Sight:
    """Return what the bearer may know of."""
    return Sight(ask.bearer.principal)


def sets_settings(ask: Ask) -> bool:
    """Say whether the bearer may set settings, and so know what they are set to."""
    return bool(ask.bearer.principal.may("config.write"))


def rows_seen(ask: Ask, rows: Iterable[Mapping[str, Any]], field: str) -> list[Mapping[str, Any]]:
    """Return the rows about functions the bearer may know of, and those about none.

    Args:
        ask: Whose.
        rows: Rows.
        field: Where a row has the function's full name.
    """
    sight = sight_of(ask)
    return [row for row in rows if not row[field] or sight.sees(str(row[field]))]
