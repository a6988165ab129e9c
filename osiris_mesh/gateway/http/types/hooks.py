"""Webhooks and alert rules."""

from __future__ import annotations

from typing import Annotated

from msgspec import Meta, Struct

from osiris_mesh.gateway.http.types.shared import Signed, Text

__all__ = ["Alert", "AlertBody", "Alerts", "NewWebhook", "Webhook", "WebhookBody", "WebhookTested", "Webhooks"]


class Webhook(Struct):
    """Where events are sent."""

    name: str
    url: str
    events: str
    active: Annotated[bool, Meta(description="False: what is set can't be read, or there are too many.")]


class Webhooks(Struct):
    """The webhooks."""

    webhooks: list[Webhook]


class WebhookBody(Signed, kw_only=True):
    """Which events are to be sent where."""

    url: Annotated[Text, Meta(description="https, or http to the sending node's own machine.")]
    events: Annotated[Text, Meta(description="Names or patterns, separated by commas.")] = "*"


class NewWebhook(Struct):
    """The webhook; ``secret`` signs its deliveries and is shown in this answer alone."""

    name: str
    url: str
    events: str
    secret: str
    height: int


class WebhookTested(Struct):
    """What became of a test delivery."""

    ok: bool
    status: int | None
    detail: str


class Alert(Struct):
    """A rule, and for what it holds now."""

    name: str
    rule: str
    builtin: bool
    active: bool
    firing: Annotated[
        list[str], Meta(description="Functions it holds for, as this node sees it; an empty text is this node.")
    ]


class Alerts(Struct):
    """The alert rules."""

    alerts: list[Alert]


class AlertBody(Signed, kw_only=True):
    """The text of a rule."""

    rule: Annotated[Text, Meta(description="`FIGURE > NUMBER [for TIME]`, or `off`.")]
