"""``call``: one call from the command line. Its start-up is its cost: nothing is imported here that it does not use."""

from __future__ import annotations

import re
import time
from typing import Annotated, Any, Final

import typer

from osiris_mesh.errors import UsageError
from osiris_mesh_cli.control import Controller
from osiris_mesh_cli.plain import PlainCommand
from osiris_mesh_cli.session import Session, command, noun
from osiris_mesh_cli.tables import clean
from osiris_mesh_cli.values import argument, dumps, loads, seconds

app = noun("Calls.")
_NEGATIVE: Final = re.compile(r"-(?:\d|\.\d)[\d.eE+-]*\Z", re.ASCII)
# No argument of a process can hold it, so it marks what must not be taken for an option.
_MARK: Final = "\0"


class _Call(PlainCommand):
    """The command, with negative numbers as arguments and not as options."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Parse the words after ``call``."""
        end = args.index("--") if "--" in args else len(args)
        marked = [f"{_MARK}{word}" if _NEGATIVE.match(word) else word for word in args[:end]]
        return super().parse_args(ctx, marked + args[end:])


@command(
    app,
    cls=_Call,
    example="call math/add 2 3\n"
    "call image-processing/sharpen @picture.png --kwargs '{\"strength\": 0.8}' > sharper.json\n"
    "call text/tokens --timeout 2s -- '--this text begins with a dash'\n"
    "call math/add 2 3 --context 'controlled; functions=math/*'",
)
def call(
    session: Session,
    name: Annotated[str, typer.Argument(metavar="NAME", help="namespace/name, name, or name@version.")],
    words: Annotated[
        list[str] | None,
        typer.Argument(metavar="ARGS", help="JSON where it parses as JSON, @file as its bytes, else text."),
    ] = None,
    args: Annotated[str | None, typer.Option("--args", metavar="JSON", help="More arguments, as a JSON array.")] = None,
    kwargs: Annotated[
        str | None, typer.Option("--kwargs", metavar="JSON", help="Arguments by name, as a JSON object.")
    ] = None,
    timeout: Annotated[
        str | None, typer.Option("--timeout", metavar="TIME", help="For the whole call; the function's own if not.")
    ] = None,
    context: Annotated[
        str | None,
        typer.Option("--context", metavar="TEXT", help="Security context that the call, and all it calls, is kept to."),
    ] = None,
) -> None:
    """Call a function and print its result as JSON; what is known about the call goes to stderr."""
    positional = [argument(word.removeprefix(_MARK)) for word in words or []] + _array(args)
    named = _object(kwargs)
    name = name.removeprefix(_MARK)
    limit = None if timeout is None else seconds(timeout.removeprefix(_MARK))
    kept_to = None if context is None else context.removeprefix(_MARK)
    with Controller(session.home) as controller:
        begin = time.perf_counter()
        try:
            with session.busy(f"calling {clean(name)}", plain=False):
                result, facts = controller.mesh.options(timeout=limit, context=kept_to).detailed(
                    name, positional, named
                )
        except TypeError as error:
            # Bound against the signature before anything was sent.
            raise UsageError(str(error), fix=f"see its parameters: osiris-mesh describe {name}") from None
        taken = (time.perf_counter() - begin) * 1000
    session.say(_facts_text(taken, facts))
    session.result(result, lambda: dumps(result))


def _array(text: str | None) -> list[Any]:
    value = [] if text is None else loads(text)
    if not isinstance(value, list):
        raise UsageError("--args is not a JSON array", fix="for example --args '[1, \"two\"]'")
    return value


def _object(text: str | None) -> dict[str, Any]:
    value = {} if text is None else loads(text)
    if not isinstance(value, dict):
        raise UsageError("--kwargs is not a JSON object", fix="for example --kwargs '{\"strength\": 0.8}'")
    return value


def _facts_text(taken_ms: float, facts: dict[str, Any]) -> str:
    words = [f"✓ {taken_ms:.1f} ms"]
    words += [f"{key}={clean(str(facts[key]))}" for key in ("node", "version") if facts.get(key)]
    if "warm" in facts:
        words.append("warm" if facts["warm"] else "cold")
    return " ".join(words)
