"""Entry of ``osiris-mesh`` and ``osiris``: finds the command, runs it, returns its exit code.

Start-up is most of the time a call takes, so a command's module is imported when the command is chosen, and what is
heavy inside it when it is needed.
"""

from __future__ import annotations

import importlib
import os
import sys
from collections.abc import Iterator, MutableMapping
from typing import Any, Final

import typer
from typer.core import TyperGroup
from typer.main import get_command, get_group

from osiris_mesh.errors import InternalError, UsageError
from osiris_mesh_cli.plain import PlainGroup
from osiris_mesh_cli.session import INTERRUPTED, report

__all__ = ["COMMANDS", "main", "root"]

# Command -> the module with it; a noun's module (marked by a trailing dot) is a group of its own.
COMMANDS: Final[dict[str, str]] = {
    "init": "node",
    "join": "node",
    "start": "node",
    "stop": "node",
    "restart": "node",
    "leave": "node",
    "drain": "node",
    "status": "status",
    "sync": "status",
    "doctor": "status",
    "token": "token.",
    "member": "member.",
    "deploy": "function",
    "update": "function",
    "remove": "function",
    "rollback": "function",
    "list": "function",
    "describe": "function",
    "call": "call",
    "logs": "logs",
    "metrics": "logs",
    "ledger": "ledger.",
    "registry": "registry.",
    "config": "config.",
    "user": "user.",
    "role": "role.",
    "apitoken": "apitoken.",
    "audit": "audit",
    "top": "top",
    "monitor": "monitor",
    "events": "events",
    "mcp": "mcp",
    "webhook": "webhook.",
    "alert": "alert.",
    "service": "service.",
    "completion": "completion",
    "demo": "demo",
    "help": "about",
    "version": "about",
}
# typer's own errors share a root that it does not name in public.
_UsageFault: Final[type[Exception]] = typer.BadParameter.__mro__[2]


class _Commands(MutableMapping[str, Any]):
    """The commands by name; one is built, and its module imported, when it is first asked for."""

    def __init__(self) -> None:
        self._built: dict[str, Any] = {}

    def __getitem__(self, name: str) -> Any:
        if name not in self._built:
            file, dot, _ = COMMANDS[name].partition(".")
            app = importlib.import_module(f"osiris_mesh_cli.{file}").app
            group = get_group(app)
            if dot:
                group.name = name
                self._built[name] = group
            else:
                for key, value in group.commands.items():
                    self._built[key] = value
        return self._built[name]

    def __setitem__(self, name: str, value: Any) -> None:
        self._built[name] = value

    def __delitem__(self, name: str) -> None:
        raise TypeError("commands are not taken away")

    def __iter__(self) -> Iterator[str]:
        return iter(COMMANDS)

    def __len__(self) -> int:
        return len(COMMANDS)


class _Root(PlainGroup):
    """The program itself."""

    def __init__(self, **attributes: Any) -> None:
        super().__init__(**attributes)
        self.commands = _Commands()


_app = typer.Typer(
    cls=_Root,
    add_completion=False,
    no_args_is_help=True,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["--help", "-h"], "max_content_width": 100},
    epilog="\b\nFirst steps:\n  osiris-mesh demo           a mesh of three, on this machine, in a minute\n"
    "  osiris-mesh help COMMAND   what a command does, with an example",
)


@_app.callback()
def _program() -> None:
    """A serverless function platform without a centre."""


def root() -> TyperGroup:
    """Return the whole program's command."""
    command = get_command(_app)
    if not isinstance(command, TyperGroup):
        raise TypeError("the program is a group of commands")
    return command


def _usage(fault: Any, *, json: bool) -> int:
    context = getattr(fault, "ctx", None)
    if type(fault).__name__ == "NoArgsIsHelpError" and context is not None:
        sys.stderr.write(context.get_help() + "\n")
        return 2
    path = context.command_path if context is not None else "osiris-mesh"
    text = fault.format_message().rstrip(".")
    text = text[:1].lower() + text[1:]
    if ". Did you mean" in text:
        text, _, hint = text.partition(". Did you mean ")
        error = UsageError(text, fix=f"did you mean {hint}")
    else:
        error = UsageError(text, fix=f"see: {path} --help")
    report(error, json=json)
    return int(getattr(fault, "exit_code", 2))


def main(arguments: list[str] | None = None) -> int:
    """Run one command line and return its exit code.

    Args:
        arguments: Without the program's name; the process's own if None.
    """
    given = sys.argv[1:] if arguments is None else arguments
    if given[:1] == ["--version"]:
        # What everybody tries first on a program he does not know.
        given = ["version", *given[1:]]
    json = "--json" in given[: given.index("--")] if "--" in given else "--json" in given
    if os.environ.get("_OSIRIS_MESH_COMPLETE"):
        from osiris_mesh_cli.completion import enable  # noqa: PLC0415 - only a completing shell needs it

        enable()
    try:
        code = root().main(args=given, prog_name="osiris-mesh", standalone_mode=False)
    except _UsageFault as fault:
        return _usage(fault, json=json)
    except (KeyboardInterrupt, typer.Abort):
        return INTERRUPTED
    except Exception as error:  # noqa: BLE001 - the outermost edge: a defect of ours is said, not thrown at people
        import traceback  # noqa: PLC0415 - only a defect needs it

        traceback.print_exc()
        return report(InternalError(f"{type(error).__name__}: {error}", fix="please report this"), json=json)
    return code if isinstance(code, int) else 0
