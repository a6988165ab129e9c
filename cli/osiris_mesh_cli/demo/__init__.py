"""``demo``: a whole mesh on this machine, put through the loss of its leader, and checked."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from osiris_mesh_cli.session import Session, command, noun

app = noun("See it work.")


@command(app, example="demo\ndemo --json --out ./pictures")
def demo(
    session: Session,
    out: Annotated[
        Path | None,
        typer.Option("--out", metavar="FOLDER", help="Where the two pictures go; a new folder if not given."),
    ] = None,
    keep: Annotated[bool, typer.Option("--keep", help="Leave the three nodes' folders for a look inside.")] = False,
) -> int:
    """Run three nodes here, deploy and call a function, kill the leader, and check that nothing was lost.

    Exit code 0 only if every call was answered right and the three ledgers are identical.
    """
    from osiris_mesh_cli.demo.story import tell  # noqa: PLC0415 - starts processes; nothing else needs it

    return tell(session, out=out, keep=keep)
