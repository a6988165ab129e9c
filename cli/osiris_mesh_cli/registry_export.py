"""``registry export``: a registry's files for a static web server, verified, with the index that readers ask for."""

from __future__ import annotations

from hashlib import sha256
from pathlib import Path
from typing import Annotated, Any

import typer

from osiris_mesh.errors import Conflict
from osiris_mesh_cli.registry_options import (
    ApiOption,
    BranchOption,
    CaFileOption,
    GatewayOption,
    PinOption,
    TokenFileOption,
)
from osiris_mesh_cli.registry_place import Opened, Way, opened, run
from osiris_mesh_cli.session import Session, command, noun

app = noun("Exporting.")


@command(app, example="registry export ./public --from file:///srv/registry")
def export(
    session: Session,
    folder: Annotated[str, typer.Argument(metavar="FOLDER", help="What the web server serves; made if not there.")],
    from_: Annotated[str, typer.Option("--from", metavar="URL|NAME", help="Registry: its URL, or its name here.")],
    pin: PinOption = "",
    branch: BranchOption = "",
    ca_file: CaFileOption = "",
    token_file: TokenFileOption = "",
    gateway: GatewayOption = None,
    api: ApiOption = "",
) -> None:
    """Copy a registry, verified, to where a static web server serves it as https://…; run it again after changes."""
    way = Way(from_, pin, branch, ca_file, token_file, tuple(gateway or ()), api)
    place = Path(folder).expanduser().absolute()

    async def carry_out() -> dict[str, Any]:
        async with opened(session, way) as source:
            await source.look()
            files = await _files(source)
            await _write(place, files)
            return {
                "source": source.entry.url,
                "folder": str(place),
                "files": len(files),
                "pin": (source.registry.trust.pin or b"").hex(),
                "stale": source.registry.stale,
            }

    with session.busy(f"copying {from_}"):
        value = run(carry_out())
    session.result(value, f"{value['folder']}  {value['files']} files of {value['source']}")
    session.next(
        f"registry add NAME https://HOST/PATH --pin {value['pin']}" if value["pin"] else "registry add NAME URL"
    )


async def _files(source: Opened) -> dict[str, bytes]:
    """Return all files of a registry that was looked at, as its checkpoint has them."""
    from osiris_mesh.registry.checkpoint import Checkpoint, root_of  # noqa: PLC0415 - only this copies a registry
    from osiris_mesh.registry.layout import CHECKPOINT  # noqa: PLC0415
    from osiris_mesh.registry.statement import parse  # noqa: PLC0415
    from osiris_mesh.registry.verified import is_file  # noqa: PLC0415

    tree = source.registry.tree
    files: dict[str, bytes] = {}
    for path in await tree.paths():
        blob = await tree.read(path) if is_file(path) or path == CHECKPOINT else None
        if blob is not None:
            files[path] = blob.data
    head = Checkpoint.from_payload(parse(files[CHECKPOINT].removesuffix(b"\n")).payload)
    if root_of({path: sha256(data).digest() for path, data in files.items()}).hex() != head.root:
        raise Conflict(f"{source.entry.url} changed while it was copied", fix="try again")
    return files


async def _write(folder: Path, files: dict[str, bytes]) -> None:
    from collections.abc import Mapping  # noqa: PLC0415 - only this copies a registry

    from osiris_mesh.registry.listing import INDEX, digest_of, write_index  # noqa: PLC0415
    from osiris_mesh.registry.tree import Reader  # noqa: PLC0415
    from osiris_mesh.registry.tree_folder import FolderTree  # noqa: PLC0415

    async def change(_reader: Reader) -> Mapping[str, bytes]:
        return files

    await FolderTree("export", folder).publish(change, "export")
    beside = folder / f".{INDEX}.new"
    try:
        beside.write_bytes(write_index({path: digest_of(data) for path, data in files.items()}.items()))
        beside.replace(folder / INDEX)
    except OSError as error:
        raise Conflict(f"{folder / INDEX} can't be written: {error.strerror}", fix="is the disk full?") from None
