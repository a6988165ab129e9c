"""Routes of what is set for the whole mesh: settings, webhooks, alert rules."""

from __future__ import annotations

from typing import Final

from osiris_mesh.gateway.http import hooks, people, types
from osiris_mesh.gateway.http.route import CHANGE_ERRORS, Route

__all__ = ["SETTINGS_ROUTES"]

SETTINGS_ROUTES: Final[tuple[Route, ...]] = (
    Route("GET", "/v1/config", "mesh.read", people.list_settings, types.Settings, "The settings of the mesh."),
    Route("GET", "/v1/config/{key}", "mesh.read", people.setting, types.Setting, "One setting.", errors=(404,)),
    Route(
        "PUT",
        "/v1/config/{key}",
        "config.write",
        people.set_setting,
        types.Changed,
        "Give a setting a value, on every node.",
        types.SettingBody,
        errors=CHANGE_ERRORS,
    ),
    Route(
        "DELETE",
        "/v1/config/{key}",
        "config.write",
        people.reset_setting,
        types.Changed,
        "Give a setting its default again.",
        types.Signed,
        errors=CHANGE_ERRORS,
    ),
    Route(
        "DELETE",
        "/v1/config",
        "config.write",
        people.reset_settings,
        types.Changed,
        "Give every setting its default again.",
        types.Signed,
        errors=CHANGE_ERRORS,
    ),
    # Webhooks and alert rules.
    Route("GET", "/v1/webhooks", "mesh.read", hooks.list_webhooks, types.Webhooks, "Where events are sent."),
    Route(
        "PUT",
        "/v1/webhooks/{webhook}",
        "config.write",
        hooks.set_webhook,
        types.NewWebhook,
        "Send events to a URL; the secret that signs them is shown in this answer alone.",
        types.WebhookBody,
        errors=CHANGE_ERRORS,
    ),
    Route(
        "DELETE",
        "/v1/webhooks/{webhook}",
        "config.write",
        hooks.remove_webhook,
        types.Changed,
        "Send no more events there.",
        types.Signed,
        errors=CHANGE_ERRORS,
    ),
    Route(
        "POST",
        "/v1/webhooks/{webhook}/test",
        "config.write",
        hooks.test_webhook,
        types.WebhookTested,
        "Send a test delivery from this node, now.",
        errors=(404,),
    ),
    Route("GET", "/v1/alerts", "mesh.read", hooks.list_alerts, types.Alerts, "The alert rules, and what fires."),
    Route(
        "PUT",
        "/v1/alerts/{alert}",
        "config.write",
        hooks.set_alert,
        types.Changed,
        "Add an alert rule, or change one.",
        types.AlertBody,
        errors=CHANGE_ERRORS,
    ),
    Route(
        "DELETE",
        "/v1/alerts/{alert}",
        "config.write",
        hooks.remove_alert,
        types.Changed,
        "Remove an alert rule; a built-in one is switched off.",
        types.Signed,
        errors=CHANGE_ERRORS,
    ),
)
