"""A view that is refreshed in place until Ctrl-C, on a terminal; anywhere else, and with ``--once``, shown once."""

from __future__ import annotations

import shutil
import sys
import time
from collections.abc import Callable
from typing import Annotated, Any, Final

import typer

from osiris_mesh.errors import UsageError
from osiris_mesh_cli.session import Session
from osiris_mesh_cli.values import seconds

__all__ = ["IntervalOption", "OnceFlag", "live"]

OnceFlag = Annotated[bool, typer.Option("--once", help="Show it once; without a terminal and with --json always so.")]
IntervalOption = Annotated[str, typer.Option("--interval", metavar="TIME", help="Time between two looks.")]

_SHORTEST: Final = 0.1
_LONGEST: Final = 3600.0
# The alternate screen, so that what was in the terminal before is there again afterwards.
_ENTER: Final = "\x1b[?1049h\x1b[?25l"
_LEAVE: Final = "\x1b[?25h\x1b[?1049l"
_HOME: Final = "\x1b[H"
_LINE_END: Final = "\x1b[K\n"
_BELOW: Final = "\x1b[J"

Sample = dict[str, Any]


def live(
    session: Session,
    sample: Callable[[], Sample],
    shape: Callable[[Sample, Sample], Sample],
    text: Callable[[Sample], str],
    *,
    once: bool,
    interval: str,
) -> None:
    """Show samples until Ctrl-C, or one of them.

    Args:
        session: The run.
        sample: Takes one; has ``time_ms``, its moment.
        shape: What is shown, of the sample before the latest and the latest: rates are made of both.
        text: That for people.
        once: Two samples are taken, an interval apart, and shown once.
        interval: Time between two samples.

    Raises:
        UsageError: Not a time to wait.
    """
    pause = seconds(interval)
    if not _SHORTEST <= pause <= _LONGEST:
        raise UsageError(f"--interval {interval} is not between 100ms and 1h", fix="for example --interval 2s")
    before = sample()
    if once or session.json or not sys.stdout.isatty():
        time.sleep(min(pause, 1.0))
        value = shape(before, sample())
        session.result(value, lambda: text(value))
        return
    sys.stdout.write(_ENTER)
    last = ""
    try:
        while True:
            time.sleep(pause)
            latest = sample()
            last = text(shape(before, latest))
            before = latest
            rows = shutil.get_terminal_size().lines - 1
            lines = [*last.splitlines()[:rows], "Ctrl-C ends"] if rows > 1 else []
            sys.stdout.write(_HOME + _LINE_END.join(lines) + "\x1b[K" + _BELOW)
            sys.stdout.flush()
    except KeyboardInterrupt:
        # It is how this ends; what was last seen stays in the terminal.
        pass
    finally:
        sys.stdout.write(_LEAVE + (last + "\n" if last else ""))
        sys.stdout.flush()
