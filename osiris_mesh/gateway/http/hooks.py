"""Webhooks and alert rules: settings of the mesh, by their own names."""

from __future__ import annotations

from typing import Any, Final

from osiris_mesh.gateway import config_keys
from osiris_mesh.gateway.hook_views import alert_rows, find_row, webhook_rows
from osiris_mesh.gateway.http import types
from osiris_mesh.gateway.http.changes import prepare, propose, record
from osiris_mesh.gateway.http.route import Ask
from osiris_mesh.gateway.http.seen import sets_settings, sight_of
from osiris_mesh.ledger.entry import entry_hash
from osiris_mesh.ledger.kinds import ConfigReset, ConfigSet

__all__ = [
    "list_alerts",
    "list_webhooks",
    "remove_alert",
    "remove_webhook",
    "set_alert",
    "set_webhook",
    "test_webhook",
]

_WEBHOOKS: Final = "GET /v1/webhooks lists them"
_ALERTS: Final = "GET /v1/alerts lists them"


def _webhook(ask: Ask) -> str:
    name = ask.names["webhook"]
    find_row(webhook_rows(ask.parts.book.state.settings), name, "webhook", _WEBHOOKS)
    return name


async def list_webhooks(ask: Ask) -> Any:
    """Return the webhooks; their secrets are not shown again, their whole URLs to who may set them."""
    return {"webhooks": webhook_rows(ask.parts.book.state.settings, whole=sets_settings(ask))}


async def set_webhook(ask: Ask) -> types.NewWebhook:
    """Send events to a URL from now on; the secret that signs them is shown in this answer alone."""
    name, body = ask.names["webhook"], ask.body
    keys = {f"webhook.{name}.url": body.url, f"webhook.{name}.events": body.events}
    for key, value in keys.items():
        config_keys.check(key, value)
    entries = prepare(ask, [ConfigSet(key, value) for key, value in keys.items()], body.entries)
    receipt = await propose(ask, entries)
    secret = ask.parts.hooks.webhook_secret(name, entry_hash(entries[0]))
    return types.NewWebhook(name, body.url, body.events, secret, receipt.height)


async def remove_webhook(ask: Ask) -> types.Changed:
    """Send no more events there."""
    name = _webhook(ask)
    changes = [ConfigReset(f"webhook.{name}.url"), ConfigReset(f"webhook.{name}.events")]
    return types.Changed((await record(ask, changes, ask.body.entries)).height)


async def test_webhook(ask: Ask) -> Any:
    """Send a test delivery from this node now."""
    return await ask.parts.hooks.test_webhook(_webhook(ask))


async def list_alerts(ask: Ask) -> Any:
    """Return the alert rules, the built-in ones included, and for what each holds now."""
    firing: dict[str, list[str]] = {}
    sight = sight_of(ask)
    for name, subject in ask.parts.hooks.firing():
        # A subject is a function, or empty for this node.
        if subject and not sight.sees(subject):
            continue
        firing.setdefault(name, []).append(subject)
    rows = alert_rows(ask.parts.book.state.settings)
    return {"alerts": [row | {"firing": firing.get(row["name"], [])} for row in rows]}


async def set_alert(ask: Ask) -> types.Changed:
    """Add a rule, or give one another text."""
    key, rule = f"alert.{ask.names['alert']}", ask.body.rule
    config_keys.check(key, rule)
    return types.Changed((await record(ask, [ConfigSet(key, rule)], ask.body.entries)).height)


async def remove_alert(ask: Ask) -> types.Changed:
    """Remove a rule; a built-in one is switched off."""
    name = ask.names["alert"]
    row = find_row(alert_rows(ask.parts.book.state.settings), name, "alert rule", _ALERTS)
    key = f"alert.{name}"
    change = ConfigSet(key, "off") if row["builtin"] else ConfigReset(key)
    return types.Changed((await record(ask, [change], ask.body.entries)).height)
