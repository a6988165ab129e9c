"""``config set get reset list``: settings of the whole mesh, recorded in the ledger, and of one function.

The ledger keeps any text under any key; which keys there are and what their values may be is
:mod:`osiris_mesh.gateway.config_keys`, and is checked here before anything is signed. What is of one function is part
of its version (:mod:`osiris_mesh_cli.function_config`).
"""

from __future__ import annotations

from typing import Annotated, Any

import typer

from osiris_mesh.errors import NotFound, UsageError
from osiris_mesh_cli import function_config
from osiris_mesh_cli.control import Controller
from osiris_mesh_cli.session import Session, command, noun
from osiris_mesh_cli.tables import table

app = noun("Settings of the mesh, and of one function.")

KeyArgument = Annotated[str, typer.Argument(metavar="KEY", help="For example max_retries; see config list.")]
FunctionOption = Annotated[
    str,
    typer.Option(
        "--function", metavar="NAME", help="Of this function; a change makes a new version with the same code."
    ),
]


def settings_of(controller: Controller) -> dict[str, str]:
    """Return the settings that were set, as written."""
    settings: dict[str, str] = controller.ask("config.list")["settings"]
    return settings


def _row(settings: dict[str, str], key: str) -> dict[str, Any]:
    from osiris_mesh.gateway.config_keys import find, listing  # noqa: PLC0415 - brings the rules of all settings

    for row in listing(settings):
        if row["key"] == key:
            return row
    try:
        known = find(key)
    except UsageError as error:
        raise NotFound(error.what, fix=error.fix) from None
    return {"key": key, "value": known.default, "default": known.default, "is_set": False, "kind": known.kind}


@command(app, example="config set max_retries 3\nconfig set timeout 10s --function math/add", name="set")
def set_(
    session: Session,
    key: KeyArgument,
    value: Annotated[str, typer.Argument(metavar="VALUE", help="Its value.")],
    function: FunctionOption = "",
) -> None:
    """Give a setting a value, on every node."""
    if function:
        function_config.change(session, function, key, value)
        return
    from osiris_mesh.gateway.config_keys import check  # noqa: PLC0415 - only what changes settings needs it
    from osiris_mesh.ledger.kinds import ConfigSet  # noqa: PLC0415 - the same

    check(key, value)
    with Controller(session.home) as controller:
        answer = controller.submit(ConfigSet(key, value))
    session.result({"key": key, "value": value, "height": answer["height"]}, f"{key} = {value}")
    session.next("config list", f"config reset {key}")


@command(app, example="config get max_retries\nconfig get timeout --function math/add --json")
def get(session: Session, key: KeyArgument, function: FunctionOption = "") -> None:
    """Print a setting's value: what was set, else its default."""
    if function:
        function_config.get(session, function, key)
        return
    with Controller(session.home) as controller:
        row = _row(settings_of(controller), key)
    session.result(row, str(row["value"]))


@command(app, example="config reset max_retries\nconfig reset timeout --function math/add\nconfig reset")
def reset(
    session: Session,
    key: Annotated[str, typer.Argument(metavar="KEY", help="All settings if not given.")] = "",
    function: FunctionOption = "",
) -> None:
    """Give a setting, or all, the default again."""
    if function:
        function_config.change(session, function, key, None)
        return
    from osiris_mesh.ledger.kinds import ConfigReset  # noqa: PLC0415 - only what signs needs it

    with Controller(session.home) as controller:
        answer = controller.submit(ConfigReset(key))
        value = _row(settings_of(controller), key)["default"] if key and _is_known(key) else None
    shown = f"{key or 'all settings'}: default" + (f", {value}" if value else "")
    session.result({"key": key or None, "value": value, "height": answer["height"]}, shown)
    session.next("config list")


def _is_known(key: str) -> bool:
    from osiris_mesh.gateway.config_keys import KEYS  # noqa: PLC0415 - only this file needs the rules

    return any(known.covers(key) for known in KEYS)


@command(app, example="config list\nconfig list --function math/add --json", name="list")
def list_(session: Session, function: FunctionOption = "") -> None:
    """List all settings with what holds now, their defaults and what they do."""
    if function:
        function_config.list_all(session, function)
        return
    from osiris_mesh.gateway.config_keys import listing  # noqa: PLC0415 - only this file needs the rules

    with Controller(session.home) as controller:
        settings = settings_of(controller)
    rows = listing(settings)

    def text() -> str:
        cells = [
            [
                row["key"],
                row["value"],
                "set" if row["is_set"] else "default",
                row["default"],
                f"NO EFFECT: {row['problem']}" if row["problem"] else row["means"],
            ]
            for row in rows
        ]
        return table(["KEY", "VALUE", "", "DEFAULT", "WHAT IT DOES"], cells)

    session.result({"settings": settings, "known": rows}, text)
