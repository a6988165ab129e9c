"""``registry init``: a registry of one's own in one command. Teams with several keepers use ``registry keys``."""

from __future__ import annotations

from typing import Annotated, Any, Final

import typer

from osiris_mesh.errors import NotFound
from osiris_mesh_cli.registry_options import (
    ApiOption,
    BranchOption,
    CaFileOption,
    GatewayOption,
    TokenFileOption,
    ToOption,
)
from osiris_mesh_cli.registry_place import Way, key_folder, opened, run
from osiris_mesh_cli.session import Session, command, noun
from osiris_mesh_cli.values import seconds

app = noun("Beginning.")

_ID_BYTES: Final = 16


@command(
    app,
    name="init",
    example="registry init --to file:///srv/registry --name team\n"
    "registry init --to file:///srv/vendors --key acme --vendor acme.com --json",
)
def init(
    session: Session,
    to: ToOption,
    name: Annotated[str, typer.Option("--name", metavar="NAME", help="Name of the registry, for people.")] = "",
    key: Annotated[
        str, typer.Option("--key", metavar="NAME", help="Key that signs all of it; made if there is none.")
    ] = "owner",
    vendor: Annotated[
        list[str] | None, typer.Option("--vendor", metavar="DOMAIN", help="Vendor whose names it may hold; several.")
    ] = None,
    expires: Annotated[
        str, typer.Option("--expires", metavar="TIME", help="When its root must have been signed anew.")
    ] = "1825d",
    branch: BranchOption = "",
    ca_file: CaFileOption = "",
    token_file: TokenFileOption = "",
    gateway: GatewayOption = None,
    api: ApiOption = "",
) -> None:
    """Begin a registry: its root, the keys for names with and without a vendor, its checkpoint, all by one key.

    Its root's digest is the pin: whoever adds the registry compares it.
    """
    import secrets  # noqa: PLC0415 - only a beginning needs them

    from osiris_mesh.clock import SYSTEM  # noqa: PLC0415
    from osiris_mesh.registry.checkpoint import Config  # noqa: PLC0415
    from osiris_mesh.registry.keyring import found_keys, found_root  # noqa: PLC0415
    from osiris_mesh.registry.keys import Delegation  # noqa: PLC0415
    from osiris_mesh.registry.layout import NO_VENDOR  # noqa: PLC0415

    folder = key_folder(session)
    try:
        owner, made = folder.get(key), False
    except NotFound:
        owner, made = folder.create(key), True
    vendors = sorted({NO_VENDOR, *(vendor or ())})
    root = found_root(
        [owner],
        threshold=1,
        expires_ms=SYSTEM.time_ms() + int(seconds(expires) * 1000),
        delegations={one: Delegation((owner.public.hex(),)) for one in vendors},
    )
    config = Config(secrets.token_hex(_ID_BYTES), name)
    way = Way(to, "", branch, ca_file, token_file, tuple(gateway or ()), api)

    async def carry_out() -> dict[str, Any]:
        async with opened(session, way, anew=True) as place:
            place.registry.trust.pin = root.digest
            done = await place.registry.create(
                config, [owner], root=root, vendor_keys=[found_keys(one, [owner]) for one in vendors]
            )
            return {"source": place.entry.url, "kind": place.entry.kind, "tag": done.tag}

    with session.busy(f"beginning a registry at {to}"):
        value = run(carry_out())
    value |= {
        "registry": config.id,
        "name": name,
        "pin": root.digest.hex(),
        "vendors": vendors,
        "key": key,
        "public": owner.public.hex(),
        "made": made,
    }
    session.result(value, f"begun at {value['source']}\npin  {value['pin']}\nkey  {value['public']} ({key})")
    if made:
        session.say(
            f"whoever has the key {key} has the registry: keep a copy of keys/registry/{key}.key off this machine"
        )
    called = name if name.isascii() and name.islower() and name.isalnum() else "NAME"
    session.next(f"registry add {called} {to} --pin {value['pin']}", f"registry publish PATH --to {to} --key {key}")
