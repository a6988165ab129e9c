"""``user add update remove list``: who may sign deployments and changes, and in which role."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from osiris_mesh.errors import NotFound, UsageError
from osiris_mesh_cli.control import Controller
from osiris_mesh_cli.session import Session, command, noun, one_of
from osiris_mesh_cli.tables import table

app = noun("Users of the mesh.")

NameArgument = Annotated[str, typer.Argument(metavar="NAME", help="The user's name.")]
RoleOption = Annotated[str, typer.Option("--role", metavar="viewer|developer|operator|admin", help="What he may do.")]


def _users(controller: Controller) -> list[dict[str, Any]]:
    users: list[dict[str, Any]] = controller.ask("user.list")["users"]
    return users


def _find(controller: Controller, name: str) -> dict[str, Any]:
    for user in _users(controller):
        if user["name"] == name:
            return user
    raise NotFound(f"no user is called {name!r}", fix="see: osiris-mesh user list")


def _role(role: str) -> str:
    from osiris_mesh.ledger.kinds import USER_ROLES  # noqa: PLC0415 - only what signs needs it

    return one_of(role, USER_ROLES, "role")


@command(app, example="user add johndoe --role developer\nuser add ci --role developer --key 6f0c…")
def add(
    session: Session,
    name: NameArgument,
    role: RoleOption = "developer",
    key: Annotated[
        str, typer.Option("--key", metavar="HEX", help="His public key; without it a new key is made and printed once.")
    ] = "",
) -> None:
    """Add a user; without --key, make a key for him and print its secret half, once."""
    from osiris_mesh.identity.keys import KeyPair  # noqa: PLC0415 - only what signs needs them
    from osiris_mesh.ledger.kinds import UserAdd  # noqa: PLC0415

    _role(role)
    pair = None if key else KeyPair.generate()
    try:
        public = pair.public if pair else bytes.fromhex(key)
    except ValueError:
        public = b""
    if len(public) != 32:
        raise UsageError("--key is not a public key", fix="64 hexadecimal digits")
    with Controller(session.home) as controller:
        answer = controller.submit(UserAdd(public, name, role))
    value: dict[str, Any] = {"name": name, "role": role, "key": public.hex(), "height": answer["height"]}
    if pair is None:
        session.result({"user": value, **value}, f"added {name} as {role}")
        return
    secret = pair.seed.hex()
    session.say(
        f"added {name} as {role}; the key is a secret and is shown this once: keys/user.key of his home holds it"
    )
    session.result({"user": value, **value, "secret": secret}, secret)


@command(app, example="user update johndoe --role operator")
def update(
    session: Session,
    name: NameArgument,
    role: Annotated[
        str | None, typer.Option("--role", metavar="viewer|developer|operator|admin", help="A new role.")
    ] = None,
    rename: Annotated[str | None, typer.Option("--name", metavar="NAME", help="A new name.")] = None,
) -> None:
    """Give a user another role or name."""
    from osiris_mesh.ledger.kinds import UserUpdate  # noqa: PLC0415 - only what signs needs it

    if role is None and rename is None:
        raise UsageError("nothing to change was given", fix="add --role ROLE or --name NAME")
    with Controller(session.home) as controller:
        user = _find(controller, name)
        new = {"name": rename or user["name"], "role": _role(role) if role else user["role"]}
        answer = controller.submit(UserUpdate(user["key"], new["name"], new["role"]))
    value = {**new, "key": user["key"].hex(), "height": answer["height"]}
    session.result({"user": value, **value}, f"{new['name']} is {new['role']} now")


@command(app, example="user remove johndoe")
def remove(session: Session, name: NameArgument) -> None:
    """Remove a user: nothing he signs from now on counts."""
    from osiris_mesh.ledger.kinds import UserRemove  # noqa: PLC0415 - only what signs needs it

    with Controller(session.home) as controller:
        user = _find(controller, name)
        answer = controller.submit(UserRemove(user["key"]))
    session.result({"name": name, "removed": True, "height": answer["height"]}, f"removed {name}")


@command(app, example="user list", name="list")
def list_(session: Session) -> None:
    """List the users."""
    with Controller(session.home) as controller:
        users = [{**user, "key": user["key"].hex()} for user in _users(controller)]
    rows = [[user["name"], user["role"], user["key"]] for user in users]
    session.result({"users": users}, lambda: table(["NAME", "ROLE", "KEY"], rows))
