"""``registry add list remove order sync``: which registries this node asks, in which order.

The other commands about registries stand in files of their own. Where no controller runs, the home's list is changed
here; a controller keeps its own.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from osiris_mesh.errors import Conflict, Unavailable, UsageError
from osiris_mesh_cli import (
    registry_amend,
    registry_ask,
    registry_begin,
    registry_credential,
    registry_export,
    registry_keys,
    registry_market,
    registry_publish,
)
from osiris_mesh_cli.control import Controller
from osiris_mesh_cli.registry_options import (
    ApiOption,
    BranchOption,
    CaFileOption,
    GatewayOption,
    PinOption,
    TokenFileOption,
)
from osiris_mesh_cli.registry_place import Way, opened, roster_of, run
from osiris_mesh_cli.session import Session, command, noun
from osiris_mesh_cli.tables import table

if TYPE_CHECKING:
    from osiris_mesh.registry.roster import Entry, Roster

app = noun("Registries: one name for a function, anywhere, signed and verified.")

_FETCH_SECONDS = 130.0

NameArgument = Annotated[str, typer.Argument(metavar="NAME", help="What the registry is called here.")]


@command(
    app,
    example="registry add team file:///srv/registry\n"
    "registry add vendors file:///srv/vendors --route 'acme.com/*/*' --first",
)
def add(
    session: Session,
    name: NameArgument,
    url: Annotated[
        str,
        typer.Argument(
            metavar="URL", help="git+https://, git+ssh://, git+file://, https://, ipfs://, ipns://, file://."
        ),
    ],
    pin: PinOption = "",
    route: Annotated[
        list[str] | None,
        typer.Option("--route", metavar="PATTERN", help="Names it alone is asked about, like acme.com/*/*; several."),
    ] = None,
    first: Annotated[bool, typer.Option("--first", help="Before all others; else after them.")] = False,
    branch: BranchOption = "",
    ca_file: CaFileOption = "",
    token_file: TokenFileOption = "",
    gateway: GatewayOption = None,
    api: ApiOption = "",
    renew_key: Annotated[
        str,
        typer.Option("--renew-key", metavar="FILE", help="Key this node renews its checkpoint with, before it ends."),
    ] = "",
) -> None:
    """Have this node ask a registry, once it was fetched and is believed; the same once more changes nothing.

    Without --pin the root that is seen first is believed and shown: compare it with what its owner says.
    """
    from osiris_mesh.registry.roster import Entry  # noqa: PLC0415 - only this makes one

    way = Way(url, pin, branch, ca_file, token_file, tuple(gateway or ()), api)
    options = dict(way.options())
    if renew_key:
        from osiris_mesh.identity.keys import KeyPair  # noqa: PLC0415 - seldom given

        path = Path(renew_key).expanduser().absolute()
        if not path.is_file():
            raise UsageError(f"{path} is no file", fix="give the key's file: osiris-mesh registry keys list")
        KeyPair.load(path)
        options["renew_key"] = str(path)
    entry = Entry(name, url, pin, tuple(route or ()), tuple(sorted(options.items()))).check()
    with session.busy(f"fetching {url}"):
        value = _with_controller(
            session,
            lambda controller: dict(
                controller.ask("registry.add", {"entry": entry.to_json(), "first": first}, timeout=_FETCH_SECONDS)[
                    "registry"
                ]
            ),
            lambda: _add_here(session, entry, way, first=first),
        )
    root = str(value.get("pin") or "")
    session.result(value, f"{name}  {url}\nroot  {root or 'none: vendors are proven by their domains'}")
    if root and not pin:
        session.say("this root was seen first and is believed from now on: ask the registry's owner whether it is his")
    session.next("registry find '**'", "registry list")


@command(app, example="registry list\nregistry list --json", name="list")
def list_(session: Session) -> None:
    """List the registries this node asks, the one whose word counts most first."""
    value = _with_controller(
        session,
        lambda controller: controller.ask("registry.list"),
        lambda: {"registries": [entry.to_json() for entry in roster_of(session).entries]},
    )
    session.result(value, lambda: _registries_text(value["registries"]))
    if not value["registries"]:
        session.next("registry add NAME URL", "registry init --to URL")


@command(app, example="registry remove team")
def remove(session: Session, name: NameArgument) -> None:
    """Ask a registry no more, and forget what was seen of it."""
    _with_controller(
        session,
        lambda controller: controller.ask("registry.remove", {"name": name}),
        lambda: _edit(session, lambda roster: roster.remove(name)),
    )
    session.result({"name": name, "removed": True}, f"removed {name}")
    session.next("registry list")


@command(app, example="registry order vendors team")
def order(
    session: Session,
    names: Annotated[list[str], typer.Argument(metavar="NAME…", help="The first of all first; the others follow.")],
) -> None:
    """Give registries precedence: where several have a name, the first one's word counts."""
    value = _with_controller(
        session,
        lambda controller: controller.ask("registry.order", {"names": names}),
        lambda: _edit(session, lambda roster: roster.reorder(names)),
    )
    session.result(value, lambda: " ".join(str(one["name"]) for one in value["registries"]))
    session.next("registry list")


@command(app, example="registry sync\nregistry sync team --json")
def sync(
    session: Session,
    name: Annotated[str, typer.Argument(metavar="NAME", help="Which registry; all of them if not given.")] = "",
) -> int:
    """Fetch what is new now, and verify it; the controller does so by itself now and then."""
    with session.busy("fetching"), Controller(session.home) as controller:
        value = controller.ask("registry.sync", {"name": name}, timeout=_FETCH_SECONDS * 2)
    session.result(value, lambda: _registries_text(value["registries"]))
    failed = [one for one in value["registries"] if not one.get("ok", True)]
    for one in failed:
        session.say(f"{one['name']}: {one.get('error')}")
    if failed:
        session.next("registry evidence")
    return 6 if failed else 0


def _registries_text(registries: list[dict[str, Any]]) -> str:
    rows = [
        [
            one["name"],
            one["kind"],
            one["url"],
            one.get("names"),
            _state(one),
            (one.get("pin") or "")[:16] or None,
            " ".join(one.get("routes") or ()) or "all names",
        ]
        for one in registries
    ]
    return table(["NAME", "KIND", "URL", "NAMES", "STATE", "ROOT", "ASKED ABOUT"], rows)


def _state(one: dict[str, Any]) -> str | None:
    if "ok" not in one:
        return None
    return "failing" if not one["ok"] else "stale" if one.get("stale") else "fresh"


def _with_controller(
    session: Session, ask: Callable[[Controller], dict[str, Any]], alone: Callable[[], dict[str, Any]]
) -> dict[str, Any]:
    """Ask the controller, or do it here where none runs for this home."""
    if session.home.socket.exists():
        with Controller(session.home) as controller:
            return ask(controller)
    return alone()


def _edit(session: Session, change: Callable[[Roster], Roster]) -> dict[str, Any]:
    """Change the list of a home without a controller."""
    from osiris_mesh.node.options import write_private  # noqa: PLC0415 - only who changes the list needs them
    from osiris_mesh.node.prepare import hold  # noqa: PLC0415

    with hold(session.home):
        before = roster_of(session)
        after = change(before)
        if after is not before:
            write_private(session.home.path / "registries.json", after.to_text())
    return {"changed": after is not before, "registries": [entry.to_json() for entry in after.entries]}


def _add_here(session: Session, entry: Entry, way: Way, *, first: bool) -> dict[str, Any]:
    if entry.kind == "ledger":
        raise Unavailable(
            "the registry in the ledger is reached through a controller", fix="osiris-mesh start", maybe=False
        )

    async def fetch() -> dict[str, Any]:
        async with opened(session, way) as place:
            await place.look()
            trust = place.registry.trust
            if trust.pin is None and entry.pin:
                raise Conflict(f"{entry.url} has no root, so none can be pinned", fix="leave --pin out")
            return {
                "id": trust.registry,
                "pin": trust.pin.hex() if trust.pin else "",
                "ok": True,
                "error": "",
                "stale": place.registry.stale,
                "checkpoint": trust.checkpoint_sequence,
                "evidence": len(trust.evidence),
            }

    found = run(fetch())
    changed = _edit(session, lambda roster: roster.add(entry, first=first))
    return entry.to_json() | found | {"changed": changed["changed"]}


for _part in (registry_begin, registry_publish, registry_amend, registry_export, registry_ask):
    app.registered_commands.extend(_part.app.registered_commands)
app.add_typer(registry_keys.app, name="keys")
app.add_typer(registry_credential.app, name="credential")
app.add_typer(registry_market.app, name="market")
