"""``alert add list remove``: rules over figures that publish an event when they hold."""

from __future__ import annotations

from typing import Annotated

import typer

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


@command(app, example="alert list", name="list")
def list_(session: Session) -> None:
    """List the alert rules, the built-in ones included."""
    from osiris_mesh.gateway.hook_views import alert_rows  # noqa: PLC0415 - brings the rules of all settings

    with Controller(session.home) as controller:
        found = alert_rows(settings_of(controller))
    rows = [
        [item["name"], item["rule"], "on" if item["active"] else "off", "built in" if item["builtin"] else ""]
        for item in found
    ]
    session.result({"alerts": found}, lambda: table(["NAME", "RULE", "", ""], rows))


@command(app, example="alert remove slow\nalert remove disk-full")
def remove(session: Session, name: NameArgument) -> None:
    """Remove a rule; a built-in one is switched off (`config reset alert.NAME` brings it back)."""
    from osiris_mesh.gateway.hook_views import alert_rows, find_row  # noqa: PLC0415 - brings the rules of all settings
    from osiris_mesh.ledger.kinds import ConfigReset, ConfigSet  # noqa: PLC0415 - only what signs needs them

    key = f"alert.{name}"
    with Controller(session.home) as controller:
        rule = find_row(alert_rows(settings_of(controller)), name, "alert rule", "see: osiris-mesh alert list")
        answer = controller.submit(ConfigSet(key, "off") if rule["builtin"] else ConfigReset(key))
    session.result({"name": name, "removed": True, "height": answer["height"]}, f"removed {name}")
    session.next("alert list")
