"""Settings of one function: the limits and grants of its active version.

A version never changes, so a change here is a new version with the same code. Whoever deploys the file again deploys
what the file says.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final

from osiris_mesh.errors import NotFound, UsageError
from osiris_mesh.function.name import qualified
from osiris_mesh_cli.control import Controller
from osiris_mesh_cli.session import Session
from osiris_mesh_cli.tables import bytes_text, table
from osiris_mesh_cli.values import seconds, size

__all__ = ["FIELDS", "Field", "change", "defaults", "get", "list_all"]


def _number(text: str) -> int:
    if not (text.isascii() and text.isdigit()) or len(text) > 9:
        raise UsageError(f"{text!r} is not a number")
    return int(text)


def _flag(text: str) -> bool:
    if text not in {"true", "false"}:
        raise UsageError(f"{text!r} is neither true nor false")
    return text == "true"


def _milliseconds(text: str) -> int:
    return round(seconds(text) * 1000)


def _time_text(value: int) -> str:
    return f"{value / 1000:g}s"


@dataclass(frozen=True, slots=True)
class Field:
    """One setting of a function.

    Attributes:
        field: Its name in the specification.
        means: What it does.
        parse: Reads a value; raises :class:`UsageError`.
        text: Writes one.
    """

    field: str
    means: str
    parse: Callable[[str], int | bool]
    text: Callable[[Any], str]


def _word(value: object) -> str:
    return str(value).lower()


FIELDS: Final[Mapping[str, Field]] = {
    "timeout": Field("timeout_ms", "Longest time of one call.", _milliseconds, _time_text),
    "memory": Field("memory", "Memory a worker may use.", size, lambda value: bytes_text(value).replace(" ", "")),
    "concurrency": Field("concurrency", "Calls one instance works on at a time.", _number, _word),
    "min": Field("min_instances", "Instances kept warm in the mesh.", _number, _word),
    "max": Field("max_instances", "Most instances on one node.", _number, _word),
    "idle": Field(
        "idle_ms", "An instance above the minimum stops after so long without a call.", _milliseconds, _time_text
    ),
    "idempotent": Field("idempotent", "A call may be repeated, so it is retried elsewhere.", _flag, _word),
    "network": Field("network", "The function may use the network.", _flag, _word),
}


def _known(key: str) -> Field:
    if key not in FIELDS:
        raise NotFound(f"a function has no setting {key!r}", fix=f"there are {', '.join(FIELDS)}")
    return FIELDS[key]


def _default(field: Field) -> Any:
    from osiris_mesh.function.spec import FunctionSpec  # noqa: PLC0415 - only this file asks for defaults

    return FunctionSpec.__dataclass_fields__[field.field].default


def defaults() -> list[dict[str, str]]:
    """Return key, default and meaning of every setting of a function."""
    return [{"key": key, "default": field.text(_default(field)), "means": field.means} for key, field in FIELDS.items()]


def _rows(session: Session, name: str) -> list[dict[str, Any]]:
    with Controller(session.home) as controller:
        described = controller.ask("function.describe", {"name": name})
    if not described.get("limits"):
        raise NotFound(f"{described['name']} has no active version", fix=f"osiris-mesh rollback {name} --to VERSION")
    now = {**described["limits"], "idempotent": described["idempotent"], "network": described["network"]}
    return [
        {
            "key": key,
            "value": field.text(now[field.field]),
            "default": field.text(_default(field)),
            "is_set": now[field.field] != _default(field),
            "means": field.means,
        }
        for key, field in FIELDS.items()
    ]


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
    _known(key)
    (row,) = [row for row in _rows(session, name) if row["key"] == key]
    session.result({"function": qualified(name), **row}, row["value"])


def change(session: Session, name: str, key: str, value: str | None) -> None:
    """Carry out ``config set --function``, and ``config reset --function`` (no value; all without key)."""
    from osiris_mesh_cli.deployment import redeploy  # noqa: PLC0415 - only a change builds

    full = qualified(name)
    fields = {key: _known(key)} if key else dict(FIELDS)
    limits = {
        field.field: _default(field) if value is None else _parsed(key, field, value) for field in fields.values()
    }
    with Controller(session.home) as controller:
        done = redeploy(controller, full, limits, say=session.say, busy=session.busy)
    shown = ", ".join(f"{one} = {field.text(limits[field.field])}" for one, field in fields.items())
    facts = {"key": key or None, "value": fields[key].text(limits[fields[key].field]) if key else None}
    became = f"version {done['version']} is active" if done["changed"] else "unchanged"
    session.result({"function": full, **facts, **done}, f"{full}: {shown}; {became}")
    if done["changed"]:
        session.say("the file does not know: say so there as well, or its next deployment undoes this")
    session.next(f"config list --function {full}", f"rollback {full}")


def _parsed(key: str, field: Field, value: str) -> int | bool:
    try:
        return field.parse(value)
    except UsageError as error:
        raise UsageError(
            f"{key} can't be that: {error.what}", fix=f"for example: {field.text(_default(field))}"
        ) from None
