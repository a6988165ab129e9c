"""``alert add list remove``: rules over figures that publish an event when they hold."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from osiris_mesh.errors import NotFound
from osiris_mesh_cli.config import settings_of
from osiris_mesh_cli.control import Controller
from osiris_mesh_cli.session import Session, command, noun
from osiris_mesh_cli.tables import table

app = noun("Alert rules.")

NameArgument = Annotated[str, typer.Argument(metavar="NAME", help="Small letters, digits, _ and -.")]


@command(
    app, example="alert add slow 'function.mean_ms >= 500ms for 5m'\nalert add busy 'node.cpu >= 90% for 10m' --json"
)
def add(
    session: Session,
    name: NameArgument,
    rule: Annotated[str, typer.Argument(metavar="RULE", help="FIGURE > NUMBER [for TIME]; figures: docs/events.md.")],
) -> None:
    """Add a rule, or change one; alert.firing and alert.resolved are published by each node that sees it hold."""
    from osiris_mesh.gateway.config_keys import check  # noqa: PLC0415 - only what changes settings needs it
    from osiris_mesh.ledger.kinds import ConfigSet  # noqa: PLC0415 - the same

    key = f"alert.{name}"
    check(key, rule)
    with Controller(session.home) as controller:
        answer = controller.submit(ConfigSet(key, rule))
    session.result({"name": name, "rule": rule, "height": answer["height"]}, f"{name}: {rule}")
    session.next("alert list", "webhook add NAME URL --events alert.*")


def _alerts(settings: dict[str, str]) -> list[dict[str, Any]]:
    from osiris_mesh.gateway.config_keys import DEFAULT_RULES, alert_rules  # noqa: PLC0415 - only this file needs them

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


@command(app, example="alert list", name="list")
def list_(session: Session) -> None:
    """List the alert rules, the built-in ones included."""
    with Controller(session.home) as controller:
        found = _alerts(settings_of(controller))
    rows = [
        [item["name"], item["rule"], "on" if item["active"] else "off", "built in" if item["builtin"] else ""]
        for item in found
    ]
    session.result({"alerts": found}, lambda: table(["NAME", "RULE", "", ""], rows))


@command(app, example="alert remove slow\nalert remove disk-full")
def remove(session: Session, name: NameArgument) -> None:
    """Remove a rule; a built-in one is switched off (`config reset alert.NAME` brings it back)."""
    from osiris_mesh.gateway.config_keys import DEFAULT_RULES  # noqa: PLC0415 - only this file needs them
    from osiris_mesh.ledger.kinds import ConfigReset, ConfigSet  # noqa: PLC0415 - only what signs needs them

    key = f"alert.{name}"
    with Controller(session.home) as controller:
        if name not in {item["name"] for item in _alerts(settings_of(controller))}:
            raise NotFound(f"no alert rule is called {name!r}", fix="see: osiris-mesh alert list")
        answer = controller.submit(ConfigSet(key, "off") if name in DEFAULT_RULES else ConfigReset(key))
    session.result({"name": name, "removed": True, "height": answer["height"]}, f"removed {name}")
    session.next("alert list")
