"""``config … --function``: settings of one function (:mod:`osiris_mesh.gateway.function_keys` has which there are)."""

from __future__ import annotations

from typing import Any

from osiris_mesh.function.name import qualified
from osiris_mesh.gateway import function_keys
from osiris_mesh.gateway.function_keys import FIELDS
from osiris_mesh_cli.control import Controller
from osiris_mesh_cli.session import Session
from osiris_mesh_cli.tables import table

__all__ = ["change", "defaults", "get", "list_all"]


def defaults() -> list[dict[str, str]]:
    """Return key, default and meaning of every setting of a function."""
    return [
        {"key": key, "default": field.text(function_keys.default(field)), "means": field.means}
        for key, field in FIELDS.items()
    ]


def _rows(session: Session, name: str) -> list[dict[str, Any]]:
    with Controller(session.home) as controller:
        return function_keys.rows(controller.ask("function.describe", {"name": name}))


def list_all(session: Session, name: str) -> None:
    """Carry out ``config list --function``."""
    rows = _rows(session, name)
    cells = [[row["key"], row["value"], row["default"], row["means"]] for row in rows]
    session.result(
        {"function": qualified(name), "settings": {row["key"]: row["value"] for row in rows}, "known": rows},
        lambda: table(["KEY", "VALUE", "DEFAULT", "WHAT IT DOES"], cells),
    )


def get(session: Session, name: str, key: str) -> None:
    """Carry out ``config get --function``."""
    function_keys.find(key)
    (row,) = [row for row in _rows(session, name) if row["key"] == key]
    session.result({"function": qualified(name), **row}, row["value"])


def change(session: Session, name: str, key: str, value: str | None) -> None:
    """Carry out ``config set --function``, and ``config reset --function`` (no value; all without key)."""
    from osiris_mesh_cli.deployment import redeploy  # noqa: PLC0415 - only a change builds

    full = qualified(name)
    fields = {key: function_keys.find(key)} if key else dict(FIELDS)
    limits = function_keys.parsed(dict.fromkeys(fields, value))
    with Controller(session.home) as controller:
        done = redeploy(controller, full, limits, say=session.say, busy=session.busy)
    shown = ", ".join(f"{one} = {field.text(limits[field.field])}" for one, field in fields.items())
    facts = {"key": key or None, "value": fields[key].text(limits[fields[key].field]) if key else None}
    became = f"version {done['version']} is active" if done["changed"] else "unchanged"
    session.result({"function": full, **facts, **done}, f"{full}: {shown}; {became}")
    if done["changed"]:
        session.say("the file does not know: say so there as well, or its next deployment undoes this")
    session.next(f"config list --function {full}", f"rollback {full}")
