"""One run of one command: which home, for whom to print, and what every command has in common.

Results go to stdout: one JSON document with ``--json``, text for people without. Progress and hints go to stderr, and
nowhere with ``--quiet``. Errors go to stderr always, and with ``--json`` to stdout as well.
"""

from __future__ import annotations

import functools
import inspect
import sys
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Concatenate, Final, ParamSpec

import typer

from osiris_mesh.errors import FunctionError, OsirisError, UsageError
from osiris_mesh.identity.home import Home
from osiris_mesh_cli.plain import PlainCommand, PlainGroup
from osiris_mesh_cli.progress import Busy, hide
from osiris_mesh_cli.tables import clean
from osiris_mesh_cli.values import dumps

__all__ = ["INTERRUPTED", "Session", "command", "noun", "one_of", "report"]

INTERRUPTED: Final = 130
_OURS: Final = ("error:", "fix:", "called:", "next:")
"""How lines begin that commands write of themselves."""
P = ParamSpec("P")

JsonFlag = Annotated[bool, typer.Option("--json", help="Print one JSON document on stdout, nothing else there.")]
HomeOption = Annotated[
    str | None,
    typer.Option("--home", metavar="FOLDER", help="The node to act on; $OSIRIS_HOME or ~/.osiris if not given."),
]
QuietFlag = Annotated[bool, typer.Option("--quiet", "-q", help="No progress and no hints on stderr.")]


@dataclass(frozen=True, slots=True)
class Session:
    """What a command is given.

    Attributes:
        home: The node's folder.
        json: Print for programs.
        quiet: Say nothing but results and errors.
    """

    home: Home
    json: bool = False
    quiet: bool = False

    def result(self, value: Any, text: str | Callable[[], str] = "") -> None:
        """Print the command's one result: ``value`` for programs, ``text`` (or what it returns) for people."""
        if self.json:
            _print(dumps(value))
            return
        shown = text() if callable(text) else text
        if shown:
            _print(shown)

    def say(self, text: str) -> None:
        """Print progress or a hint."""
        if not self.quiet:
            hide()
            sys.stderr.write(text + "\n")
            sys.stderr.flush()

    def next(self, *lines: str) -> None:
        """Name the command, or commands, that are useful now."""
        self.say("next: " + ", or ".join(f"osiris-mesh {line}" for line in lines))

    def busy(self, text: str, *, plain: bool = True) -> AbstractContextManager[object]:
        """Return a context in which ``text`` is shown as soon as it has taken a second.

        Args:
            text: What is being done.
            plain: Say it where there is no terminal too.
        """
        return nullcontext() if self.quiet else Busy(text, plain=plain)


def _print(text: str) -> None:
    hide()
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


def report(error: OsirisError, *, json: bool) -> int:
    """Print an error the way every command does and return its exit code."""
    if isinstance(error, FunctionError) and error.traceback:
        sys.stderr.write(_frames(error.traceback))
        if error.cause:
            sys.stderr.write(_said(f"called: {' -> '.join(error.path)}"))
            sys.stderr.write(_frames(error.cause.get("traceback", "")))
    sys.stderr.write("error: " + _said(error.what))
    if error.fix:
        sys.stderr.write("  fix: " + _said(error.fix))
    sys.stderr.flush()
    if json:
        _print(dumps({"error": error.to_wire()}))
    return error.exit_code


def _said(text: str) -> str:
    """Return what someone else may have written as whole lines that a terminal only shows, all but the first marked."""
    first, *more = text.splitlines() or [""]
    return clean(first.expandtabs()) + "\n" + "".join(f"  | {clean(line.expandtabs())}\n" for line in more)


def _frames(text: str) -> str:
    """Return a traceback as such lines; one that looks like a line of ours is marked too."""
    lines = [clean(line.expandtabs()) for line in text.splitlines() or [""]]
    return "".join(f"  | {line}\n" if line.lstrip().startswith(_OURS) else f"{line}\n" for line in lines)


def noun(text: str) -> typer.Typer:
    """Return an empty group of commands about one noun."""
    return typer.Typer(
        cls=PlainGroup,
        help=text,
        add_completion=False,
        no_args_is_help=True,
        rich_markup_mode=None,
        pretty_exceptions_enable=False,
    )


def command(
    app: typer.Typer, *, example: str, name: str | None = None, cls: type[PlainCommand] = PlainCommand
) -> Callable[[Callable[Concatenate[Session, P], int | None]], Callable[Concatenate[Session, P], int | None]]:
    """Register a command: its options are the function's parameters, its help the docstring.

    The function gets a :class:`Session` first, made of ``--json``, ``--home`` and ``--quiet``, which every command has.
    What it returns is the exit code (None is 0); an :class:`OsirisError` is reported and becomes its exit code.

    Args:
        app: The group it belongs to.
        example: One or more command lines, without the program's name.
        name: Its name, the function's if None.
        cls: Class of the command, where the usual one does not do.
    """

    def register(
        function: Callable[Concatenate[Session, P], int | None],
    ) -> Callable[Concatenate[Session, P], int | None]:
        signature = inspect.signature(function, eval_str=True)
        own = list(signature.parameters.values())[1:]
        shared = [
            inspect.Parameter("json_output", inspect.Parameter.KEYWORD_ONLY, default=False, annotation=JsonFlag),
            inspect.Parameter("home", inspect.Parameter.KEYWORD_ONLY, default=None, annotation=HomeOption),
            inspect.Parameter("quiet", inspect.Parameter.KEYWORD_ONLY, default=False, annotation=QuietFlag),
        ]
        parameters = [item.replace(kind=inspect.Parameter.KEYWORD_ONLY) for item in own] + shared

        @functools.wraps(function)
        def run(*, json_output: bool, home: str | None, quiet: bool, **options: Any) -> None:
            where = Home.default() if home is None else Home(Path(home).expanduser()).absolute()
            session = Session(where, json=json_output, quiet=quiet)
            try:
                code = function(session, **options)  # type: ignore[call-arg]  # parsed by the very same signature
            except OsirisError as error:
                code = report(error, json=json_output)
            if code:
                raise typer.Exit(code)

        run.__signature__ = signature.replace(parameters=parameters)  # type: ignore[attr-defined]
        run.__annotations__ = {item.name: item.annotation for item in parameters}
        lines = "\n".join(f"  osiris-mesh {line}" for line in example.splitlines())
        # \b keeps typer from filling the lines into a paragraph.
        app.command(name, cls=cls, epilog=f"\b\nExample:\n{lines}")(run)
        return function

    return register


def one_of(value: str, choices: tuple[str, ...], what: str) -> str:
    """Return ``value`` if it is one of ``choices``.

    Raises:
        UsageError: It is not.
    """
    if value not in choices:
        raise UsageError(f"{value!r} is not a {what}", fix=f"choose one of {', '.join(choices)}")
    return value
