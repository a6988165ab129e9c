"""``config set get reset list``: settings of the whole mesh, recorded in the ledger."""

from __future__ import annotations

from typing import Annotated

import typer

from osiris_mesh.errors import NotFound
from osiris_mesh_cli.control import Controller
from osiris_mesh_cli.session import Session, command, noun
from osiris_mesh_cli.tables import table

app = noun("Settings of the mesh.")

KeyArgument = Annotated[str, typer.Argument(metavar="KEY", help="For example max_retries.")]


def _settings(controller: Controller) -> dict[str, str]:
    settings: dict[str, str] = controller.ask("config.list")["settings"]
    return settings


@command(app, example="config set max_retries 3", name="set")
def set_(
    session: Session, key: KeyArgument, value: Annotated[str, typer.Argument(metavar="VALUE", help="Its value.")]
) -> None:
    """Give a setting a value, on every node."""
    from osiris_mesh.ledger.kinds import ConfigSet  # noqa: PLC0415 - only what signs needs it

    with Controller(session.home) as controller:
        answer = controller.submit(ConfigSet(key, value))
    session.result({"key": key, "value": value, "height": answer["height"]}, f"{key} = {value}")


@command(app, example="config get max_retries")
def get(session: Session, key: KeyArgument) -> None:
    """Print a setting's value."""
    with Controller(session.home) as controller:
        settings = _settings(controller)
    if key not in settings:
        raise NotFound(f"no setting {key!r} was set", fix="see: osiris-mesh config list")
    session.result({"key": key, "value": settings[key]}, settings[key])


@command(app, example="config reset max_retries\nconfig reset")
def reset(
    session: Session,
    key: Annotated[str, typer.Argument(metavar="KEY", help="All settings if not given.")] = "",
) -> None:
    """Give a setting, or all, the default again."""
    from osiris_mesh.ledger.kinds import ConfigReset  # noqa: PLC0415 - only what signs needs it

    with Controller(session.home) as controller:
        answer = controller.submit(ConfigReset(key))
    session.result({"key": key or None, "value": None, "height": answer["height"]}, f"{key or 'all settings'}: default")


@command(app, example="config list", name="list")
def list_(session: Session) -> None:
    """List the settings that were set."""
    with Controller(session.home) as controller:
        settings = _settings(controller)
    session.result({"settings": settings}, lambda: table(["KEY", "VALUE"], sorted(settings.items())))
