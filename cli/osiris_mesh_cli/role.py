"""``role list set remove``: what users may do, by role."""

from __future__ import annotations

import shlex
from typing import Annotated, Any

import typer

from osiris_mesh.errors import NotFound, UsageError
from osiris_mesh_cli.control import Controller
from osiris_mesh_cli.plain import PlainCommand
from osiris_mesh_cli.session import Session, command, noun
from osiris_mesh_cli.tables import table

app = noun("Roles: sets of grants that users have.")

NameArgument = Annotated[str, typer.Argument(metavar="NAME", help="The role's name.")]
GrantOption = Annotated[
    list[str] | None,
    typer.Option(
        "--grant", "-g", metavar="GRANT", help="PERMISSION or PERMISSION:PATTERN; several may be given. See role list."
    ),
]


class GrantsCommand(PlainCommand):
    """A command whose grants are options: words that stand alone are told apart from a mistyped name."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Return what is left, which is nothing."""
        ctx.allow_extra_args = True
        given = list(args)
        alone: list[str] = super().parse_args(ctx, args)
        if alone and not ctx.resilient_parsing:
            kept = list(given)
            for word in alone:
                kept.remove(word)
            grants = [part for word in alone for part in ("-g", word)]
            ctx.fail(
                f"grants are given with --grant or -g, and {shlex.join(alone)} stands alone. "
                f"Did you mean {shlex.join([*ctx.command_path.split(), *kept, *grants])}"
            )
        return alone


def roles_of(controller: Controller) -> list[dict[str, Any]]:
    """Return all roles: name, grants, builtin."""
    roles: list[dict[str, Any]] = controller.ask("role.list")["roles"]
    return roles


def grants_of(controller: Controller, role: str) -> list[str]:
    """Return the grants of a role; none if there is no such role."""
    return next((list(item["grants"]) for item in roles_of(controller) if item["name"] == role), [])


def checked_grants(grants: list[str]) -> list[str]:
    """Return grants in the order in which they are signed.

    Raises:
        UsageError: One is none, or there are none.
    """
    from osiris_mesh.ledger.permissions import Grants  # noqa: PLC0415 - only what signs needs it

    if not grants:
        raise UsageError(
            "no grant was given", fix="for example -g mesh.read -g 'function.call:team-a/*'; see: osiris-mesh role list"
        )
    return list(Grants(part.strip() for grant in grants for part in grant.split(",") if part.strip()).texts)


@command(app, example="role list\nrole list --json", name="list")
def list_(session: Session) -> None:
    """List the roles with what they may, and the permissions there are."""
    from osiris_mesh.ledger.permissions import PERMISSIONS  # noqa: PLC0415 - this command alone shows them

    with Controller(session.home) as controller:
        roles = roles_of(controller)

    def text() -> str:
        rows = [[role["name"], "built in" if role["builtin"] else "", " ".join(role["grants"])] for role in roles]
        return f"{table(['ROLE', '', 'MAY'], rows)}\n\n{table(['PERMISSION', 'COVERS'], list(PERMISSIONS.items()))}"

    session.result({"roles": roles, "permissions": dict(PERMISSIONS)}, text)


@command(
    app,
    example="role set caller --grant function.read --grant 'function.call:math/*'",
    name="set",
    cls=GrantsCommand,
)
def set_(session: Session, name: NameArgument, grant: GrantOption = None) -> None:
    """Make a role, or give it other grants; everybody who has it may do that from now on."""
    from osiris_mesh.ledger.kinds import RoleSet  # noqa: PLC0415 - only what signs needs it

    grants = checked_grants(grant or [])
    with Controller(session.home) as controller:
        answer = controller.submit(RoleSet(name, grants))
    value = {"name": name, "grants": grants, "builtin": False, "height": answer["height"]}
    session.result(value, f"{name} may {' '.join(grants)}")
    session.next(f"user add SOMEBODY --role {name}", "role list")


@command(app, example="role remove caller")
def remove(session: Session, name: NameArgument) -> None:
    """Remove a role that nobody has."""
    from osiris_mesh.ledger.kinds import RoleRemove  # noqa: PLC0415 - only what signs needs it

    with Controller(session.home) as controller:
        if name not in {role["name"] for role in roles_of(controller)}:
            raise NotFound(f"no role is called {name!r}", fix="see: osiris-mesh role list")
        answer = controller.submit(RoleRemove(name))
    session.result({"name": name, "removed": True, "height": answer["height"]}, f"removed {name}")
    session.next("role list")
