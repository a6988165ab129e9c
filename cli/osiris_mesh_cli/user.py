"""``user add update remove list``: who may sign deployments and changes, and in which role."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated, Any, Final

import typer

from osiris_mesh.errors import Conflict, NotFound, OsirisError, UsageError
from osiris_mesh_cli.control import Controller
from osiris_mesh_cli.session import Session, command, noun, one_of
from osiris_mesh_cli.tables import table

app = noun("Users of the mesh.")

NameArgument = Annotated[str, typer.Argument(metavar="NAME", help="The user's name.")]
RoleOption = Annotated[
    str, typer.Option("--role", metavar="ROLE", help="What he may do: viewer, developer, operator, admin or your own.")
]
_KEY_BYTES: Final = 32
_NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,62}\Z")


def users_of(controller: Controller) -> list[dict[str, Any]]:
    """Return the users; keys are bytes."""
    users: list[dict[str, Any]] = controller.ask("user.list")["users"]
    return users


def find_user(controller: Controller, name: str) -> dict[str, Any]:
    """Return the user of that name.

    Raises:
        NotFound: Nobody has it.
    """
    for user in users_of(controller):
        if user["name"] == name:
            return user
    raise NotFound(f"no user is called {name!r}", fix="see: osiris-mesh user list")


def known_role(controller: Controller, role: str) -> str:
    """Return a role's name, if there is such a role.

    Raises:
        UsageError: There is none.
    """
    roles = tuple(str(item["name"]) for item in controller.ask("role.list")["roles"])
    return one_of(role, roles, "role")


@command(app, example="user add johndoe --role developer\nuser add ci --role developer --key ./ci.pub")
def add(
    session: Session,
    name: NameArgument,
    role: RoleOption = "developer",
    key: Annotated[
        str,
        typer.Option(
            "--key",
            metavar="FILE|PUBLIC",
            help="His key file, or his public key in hex; a key file is made if not given.",
        ),
    ] = "",
) -> None:
    """Add a user; without --key, make a key for him: a file that he keeps as keys/user.key of his home."""
    from osiris_mesh.ledger.kinds import UserAdd  # noqa: PLC0415 - only what signs needs it

    with Controller(session.home) as controller:
        known_role(controller, role)
        public, made = (_public(key), None) if key else _new_key(controller, session, name)
        try:
            answer = controller.submit(UserAdd(public, name, role))
        except OsirisError as error:
            if made is not None and error.details.get("maybe") is not True:
                made.unlink()
            raise
    value: dict[str, Any] = {"name": name, "role": role, "key": public.hex(), "height": answer["height"]}
    if made is not None:
        value["key_file"] = str(made)
    session.result(
        {"user": value, **value}, f"added {name} as {role}" + (f"; his key, a secret, is {made}" if made else "")
    )
    if made is not None:
        session.say("give it to him over a safe channel: it is keys/user.key (mode 0600) of his home")
    session.next("user list", f"apitoken create --user {name}")


def _new_key(controller: Controller, session: Session, name: str) -> tuple[bytes, Path]:
    """Make a key file for a user of this home's making.

    Raises:
        Conflict: There is one, and it is a user's.
        UsageError: The name can't be a file's.
    """
    from osiris_mesh.identity.keys import KeyPair  # noqa: PLC0415 - only what makes keys needs it

    if not _NAME.match(name):
        raise UsageError(f"{name!r} can't name a user", fix="use up to 63 letters, digits, _ . and -")
    path = session.home.path / "keys" / "users" / f"{name}.key"
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    if path.exists():
        if KeyPair.load(path).public in {user["key"] for user in users_of(controller)}:
            raise Conflict(f"{path} is the key of a user already", fix=f"use it: --key {path}")
        # Of a user who was removed: it means nothing any longer, and never will again.
        path.unlink()
    pair = KeyPair.generate()
    pair.save(path)
    return pair.public, path


def _public(text: str) -> bytes:
    """Return the public key that ``--key`` names: in hexadecimal, or in a file that holds it or its secret half.

    Raises:
        UsageError: It names none.
    """
    fix = "give 64 hexadecimal digits, a file with them, or a key file (mode 0600)"
    try:
        public = bytes.fromhex(text)
    except ValueError:
        public = b""
    if len(public) == _KEY_BYTES:
        return public
    path = Path(text).expanduser()
    from osiris_mesh.identity.keys import KeyPair  # noqa: PLC0415 - only what signs needs it

    try:
        if path.suffix == ".pub":
            public = bytes.fromhex(path.read_text("ascii").strip()[: 2 * _KEY_BYTES + 1])
        else:
            public = KeyPair.load(path).public
    except FileNotFoundError:
        raise UsageError(f"--key {text!r} is neither a public key nor a file", fix=fix) from None
    except (OSError, ValueError):
        raise UsageError(f"{path} can't be read as a key", fix=fix) from None
    if len(public) != _KEY_BYTES:
        raise UsageError(f"{path} holds no public key", fix=fix)
    return public


@command(app, example="user update johndoe --role operator")
def update(
    session: Session,
    name: NameArgument,
    role: Annotated[str | None, typer.Option("--role", metavar="ROLE", help="A new role.")] = None,
    rename: Annotated[str | None, typer.Option("--name", metavar="NAME", help="A new name.")] = None,
) -> None:
    """Give a user another role or name."""
    from osiris_mesh.ledger.kinds import UserUpdate  # noqa: PLC0415 - only what signs needs it

    if role is None and rename is None:
        raise UsageError("nothing to change was given", fix="add --role ROLE or --name NAME")
    with Controller(session.home) as controller:
        user = find_user(controller, name)
        new = {"name": rename or user["name"], "role": known_role(controller, role) if role else user["role"]}
        answer = controller.submit(UserUpdate(user["key"], new["name"], new["role"]))
    value = {**new, "key": user["key"].hex(), "height": answer["height"]}
    session.result({"user": value, **value}, f"{new['name']} is {new['role']} now")
    session.next("user list")


@command(app, example="user remove johndoe")
def remove(session: Session, name: NameArgument) -> None:
    """Remove a user: nothing he signs from now on counts."""
    from osiris_mesh.ledger.kinds import UserRemove  # noqa: PLC0415 - only what signs needs it

    with Controller(session.home) as controller:
        user = find_user(controller, name)
        answer = controller.submit(UserRemove(user["key"]))
    session.result({"name": name, "removed": True, "height": answer["height"]}, f"removed {name}")
    session.next("user list")


@command(app, example="user list", name="list")
def list_(session: Session) -> None:
    """List the users."""
    with Controller(session.home) as controller:
        users = [{**user, "key": user["key"].hex()} for user in users_of(controller)]
    rows = [[user["name"], user["role"], user["key"]] for user in users]
    session.result({"users": users}, lambda: table(["NAME", "ROLE", "KEY"], rows))
