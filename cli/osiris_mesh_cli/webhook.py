"""``webhook add list remove test``: where events are sent."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from osiris_mesh_cli.config import settings_of
from osiris_mesh_cli.control import Controller
from osiris_mesh_cli.session import Session, command, noun
from osiris_mesh_cli.tables import table

app = noun("Webhooks: events of the mesh sent to a URL, signed.")

NameArgument = Annotated[str, typer.Argument(metavar="NAME", help="Small letters, digits, _ and -.")]


@command(
    app,
    example="webhook add pager https://hooks.example.org/osiris --events node.lost,quorum.lost\n"
    "webhook add local http://127.0.0.1:9000/ --json",
)
def add(
    session: Session,
    name: NameArgument,
    url: Annotated[str, typer.Argument(metavar="URL", help="https, or http to this very machine.")],
    events: Annotated[
        str, typer.Option("--events", metavar="NAMES", help="Names or patterns, comma-separated; see docs/events.md.")
    ] = "*",
) -> None:
    """Send events to a URL from now on, and print the secret that signs them, once; given again, a new one."""
    from osiris_mesh.gateway.config_keys import check  # noqa: PLC0415 - only what changes settings needs it
    from osiris_mesh.ledger.entry import entry_hash  # noqa: PLC0415 - the same
    from osiris_mesh.ledger.kinds import ConfigSet  # noqa: PLC0415 - the same

    keys = {f"webhook.{name}.url": url, f"webhook.{name}.events": events}
    for key, value in keys.items():
        check(key, value)
    with Controller(session.home) as controller:
        entries = controller.sign(ConfigSet(key, value) for key, value in keys.items())
        answer = controller.record(entries)
        secret = controller.ask("webhook.secret", {"name": name, "entry": entry_hash(entries[0])})["secret"]
    session.say(f"{name}: {events} to {url}; the secret checks Osiris-Signature (docs/webhooks.md)")
    shown = {"name": name, "url": url, "events": events, "secret": secret, "height": answer["height"]}
    session.result(shown, secret)
    session.next(f"webhook test {name}", "webhook list")


@command(app, example="webhook list", name="list")
def list_(session: Session) -> None:
    """List the webhooks; their secrets are not shown again."""
    from osiris_mesh.gateway.hook_views import webhook_rows  # noqa: PLC0415 - brings the rules of all settings

    with Controller(session.home) as controller:
        found = webhook_rows(settings_of(controller))
    rows = [[item["name"], item["url"], item["events"], "" if item["active"] else "NO EFFECT"] for item in found]
    session.result({"webhooks": found}, lambda: table(["NAME", "URL", "EVENTS", ""], rows))
    if not found:
        session.next("webhook add NAME URL")


def _known(controller: Controller, name: str) -> dict[str, Any]:
    from osiris_mesh.gateway.hook_views import find_row, webhook_rows  # noqa: PLC0415 - as above

    return find_row(webhook_rows(settings_of(controller)), name, "webhook", "see: osiris-mesh webhook list")


@command(app, example="webhook remove pager")
def remove(session: Session, name: NameArgument) -> None:
    """Send no more events there."""
    from osiris_mesh.ledger.kinds import ConfigReset  # noqa: PLC0415 - only what signs needs it

    with Controller(session.home) as controller:
        _known(controller, name)
        answer = controller.submit(ConfigReset(f"webhook.{name}.url"), ConfigReset(f"webhook.{name}.events"))
    session.result({"name": name, "removed": True, "height": answer["height"]}, f"removed {name}")
    session.next("webhook list")


@command(app, example="webhook test local")
def test(session: Session, name: NameArgument) -> int:
    """Send a test delivery from this node now; exit code 1 if it is not answered with success."""
    with Controller(session.home) as controller:
        hook = _known(controller, name)
        with session.busy(f"sending to {hook['url']}"):
            value = controller.ask("webhook.test", {"name": name}, timeout=30)
    came = f"answered {value['status']}" if value.get("status") else str(value.get("detail") or "no answer")
    session.result({"name": name, "url": hook["url"], **value}, f"{name}: {came}")
    if value["ok"]:
        session.next("events -f")
    else:
        session.say("fix: see that the URL is right, that it answers 2xx within 10 s, and what its own log says")
    return 0 if value["ok"] else 1
