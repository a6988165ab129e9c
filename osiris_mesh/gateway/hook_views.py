"""Webhooks and alert rules as the settings of a mesh have them, in maps of JSON types. A core."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from osiris_mesh.errors import NotFound
from osiris_mesh.gateway.config_keys import DEFAULT_RULES, alert_rules, webhooks
from osiris_mesh.ledger.values import told

__all__ = ["alert_rows", "find_row", "webhook_rows"]


def webhook_rows(settings: Mapping[str, str], *, whole: bool = True) -> list[dict[str, Any]]:
    """Return the webhooks, by name: ``name``, ``url``, ``events`` and whether events really go there.

    Args:
        settings: Of the mesh.
        whole: For somebody who may set them; else of the URL scheme and host alone.
    """
    live = webhooks(settings)
    names = sorted(
        key[len("webhook.") : -len(".url")] for key in settings if key.startswith("webhook.") and key.endswith(".url")
    )
    return [
        {
            "name": name,
            "url": settings[key] if whole else told(key, settings[key]),
            "events": settings.get(f"webhook.{name}.events", "*"),
            "active": name in live,
        }
        for name, key in ((name, f"webhook.{name}.url") for name in names)
    ]


def alert_rows(settings: Mapping[str, str]) -> list[dict[str, Any]]:
    """Return the alert rules, the built-in ones included, by name: ``name``, ``rule``, ``builtin`` and ``active``."""
    live = alert_rules(settings)
    names = sorted({*DEFAULT_RULES, *(key.removeprefix("alert.") for key in settings if key.startswith("alert."))})
    return [
        {
            "name": name,
            "rule": settings.get(f"alert.{name}", DEFAULT_RULES.get(name, "")),
            "builtin": name in DEFAULT_RULES,
            "active": name in live,
        }
        for name in names
    ]


def find_row(rows: list[dict[str, Any]], name: str, what: str, fix: str) -> dict[str, Any]:
    """Return the row of this name.

    Args:
        rows: Of webhooks or alert rules.
        name: Which.
        what: What it would be, for the error.
        fix: What shows those there are.

    Raises:
        NotFound: None is called so.
    """
    for row in rows:
        if row["name"] == name:
            return row
    raise NotFound(f"no {what} is called {name[:80]!r}", fix=fix)
