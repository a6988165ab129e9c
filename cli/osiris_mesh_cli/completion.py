"""``completion bash|zsh|fish``: the script that lets a shell complete commands and options."""

from __future__ import annotations

from typing import Annotated, Final

import typer

from osiris_mesh_cli.session import Session, command, noun, one_of

app = noun("Shell completion.")

VARIABLE: Final = "_OSIRIS_MESH_COMPLETE"
SHELLS: Final = ("bash", "zsh", "fish")
_WHERE: Final = {
    "bash": "osiris-mesh completion bash > ~/.local/share/bash-completion/completions/osiris-mesh",
    "zsh": "osiris-mesh completion zsh > ~/.zfunc/_osiris-mesh  (with fpath+=~/.zfunc before compinit)",
    "fish": "osiris-mesh completion fish > ~/.config/fish/completions/osiris-mesh.fish",
}


def enable() -> None:
    """Let the program answer a shell that asks for completions: :data:`VARIABLE` is set in its environment."""
    from typer.completion import completion_init  # type: ignore[attr-defined]  # noqa: PLC0415 - only a shell asks

    completion_init()


@command(app, example="completion bash\ncompletion zsh\ncompletion fish", name="completion")
def completion(
    session: Session,
    shell: Annotated[str, typer.Argument(metavar="bash|zsh|fish", help="Which shell.")],
    program: Annotated[str, typer.Option("--program", metavar="NAME", help="Name you type: osiris-mesh or osiris.")] = (
        "osiris-mesh"
    ),
) -> None:
    """Print the completion script of a shell; what to do with it goes to stderr."""
    from typer.completion import get_completion_script  # type: ignore[attr-defined]  # noqa: PLC0415 - used here alone

    one_of(shell, SHELLS, "shell that can be completed")
    one_of(program, ("osiris-mesh", "osiris"), "name of this program")
    script = get_completion_script(prog_name=program, complete_var=VARIABLE, shell=shell)
    session.result({"shell": shell, "program": program, "script": script}, script)
    session.say(f"keep it: {_WHERE[shell].replace('osiris-mesh', program)}")
