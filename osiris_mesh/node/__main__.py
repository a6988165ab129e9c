"""``python -m osiris_mesh.node --home HOME [--ready-fd N]``: run one controller until it is told to stop.

With ``--ready-fd`` one JSON line is written to that descriptor: what ``init`` and ``join`` report once the controller
is ready, or ``{"error": …}`` if it can't be.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import gc
import json
import logging
import os
import signal
import sys
from pathlib import Path
from typing import Any, Final

import uvloop

from osiris_mesh.errors import InternalError, OsirisError
from osiris_mesh.identity.home import Home
from osiris_mesh.node import allocator
from osiris_mesh.node.controller import Controller
from osiris_mesh.node.options import NodeOptions
from osiris_mesh.node.prepare import hold
from osiris_mesh.telemetry import Logging, start_logging

# The Raft thread and the loop hand work to each other many times a write; Python's default of 5 ms is an age to that.
_SWITCH_SECONDS: Final = 0.0005
_log = logging.getLogger("osiris_mesh.node")


def _report(descriptor: int, value: dict[str, Any]) -> None:
    if descriptor < 0:
        return
    with contextlib.suppress(OSError), os.fdopen(descriptor, "w", encoding="utf-8") as file:
        file.write(json.dumps(value) + "\n")


async def _run(home: Home, ready: int) -> int:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stop.set)
    options = NodeOptions.load(home)
    own = os.environ.get("OSIRIS_LOG", "info")
    with _logging(home, options.name, own) as logs:
        controller = Controller(home, options, set_level=lambda level: logs.set_level(level or own))
        return await _control(controller, stop, ready)


def _logging(home: Home, name: str, level: str) -> Logging:
    """Log to stderr, or, where stderr is the home's own log file, to that with bounded size."""
    path = home.logs / "node.log"
    try:
        detached = os.path.samestat(path.stat(), os.fstat(2))
    except OSError:
        detached = False
    return start_logging(node=name, level=level, file=path if detached else None)


async def _control(controller: Controller, stop: asyncio.Event, ready: int) -> int:

    def announce(report: dict[str, Any]) -> None:
        # What start-up made lives on; the collector need not look at it again and again.
        gc.collect()
        gc.freeze()
        allocator.give_back()
        _report(ready, report)

    failure: OsirisError | None = None
    try:
        await controller.run(stop, on_ready=announce)
    except* OsirisError as group:
        failure = _first(group)
    if failure is None:
        return 0
    if controller.is_ready:
        _log.error("the controller stopped: %s", failure)
    else:
        _report(ready, {"error": failure.to_wire()})
        _say(failure)
    return failure.exit_code


def _say(error: OsirisError) -> None:
    sys.stderr.write(f"error: {error.what}\n" + (f"  fix: {error.fix}\n" if error.fix else ""))


def _first(group: BaseExceptionGroup[OsirisError]) -> OsirisError:
    error: BaseException = group
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    assert isinstance(error, OsirisError)  # noqa: S101 - the group was split by this class
    return error


def main() -> int:
    """Run one controller; the exit code is an :class:`OsirisError`'s, or 0."""
    parser = argparse.ArgumentParser(prog="python -m osiris_mesh.node", description=__doc__)
    parser.add_argument("--home", type=Path, default=Home.default().path)
    parser.add_argument("--ready-fd", type=int, default=-1)
    arguments = parser.parse_args()
    home = Home(arguments.home).absolute()
    os.umask(0o077)
    if arguments.ready_fd >= 0:
        os.set_inheritable(arguments.ready_fd, False)  # noqa: FBT003 - the name of the call says it
    sys.setswitchinterval(_SWITCH_SECONDS)
    allocator.keep_freed()
    try:
        with hold(home):
            return uvloop.run(_run(home, arguments.ready_fd))
    except OsirisError as error:
        _report(arguments.ready_fd, {"error": error.to_wire()})
        _say(error)
        return error.exit_code
    except Exception as error:  # noqa: BLE001 - the outermost edge of the process: say it, then end
        _log.exception("the controller failed")
        _report(arguments.ready_fd, {"error": InternalError(f"the controller failed: {error}").to_wire()})
        return 1


if __name__ == "__main__":
    sys.exit(main())
