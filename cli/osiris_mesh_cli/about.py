"""``help`` and ``version``."""

from __future__ import annotations

from typing import Annotated

import typer

from osiris_mesh.errors import UsageError
from osiris_mesh_cli.session import Session, command, noun

app = noun("About the program.")


@command(app, example="help\nhelp token create", name="help")
def help_(
    session: Session,
    words: Annotated[list[str] | None, typer.Argument(metavar="COMMAND", help="The command.")] = None,
) -> None:
    """Say what the commands are, or what one of them does."""
    from osiris_mesh_cli.main import root  # noqa: PLC0415 - main imports this module when it is chosen

    here = root()
    context = here.make_context("osiris-mesh", [], resilient_parsing=True)
    for word in words or []:
        commands = getattr(context.command, "commands", {})
        if word not in commands:
            from difflib import get_close_matches  # noqa: PLC0415 - only a typing error needs it

            near = get_close_matches(word, list(commands), n=1)
            raise UsageError(
                f"no command is called {word!r}", fix=f"did you mean {near[0]!r}?" if near else "see: help"
            )
        context = commands[word].make_context(word, [], parent=context, resilient_parsing=True)
    text = context.get_help()
    session.result({"help": text}, text)


@command(app, example="version --json")
def version(session: Session) -> None:
    """Print the versions of the program and of what it runs on."""
    import platform  # noqa: PLC0415 - this command alone needs it
    from importlib import metadata  # noqa: PLC0415 - the same

    number = metadata.version("osiris-mesh")
    session.result(
        {"version": number, "python": platform.python_version(), "platform": platform.platform(terse=True)},
        f"osiris-mesh {number} (Python {platform.python_version()}, {platform.system()} {platform.machine()})",
    )
