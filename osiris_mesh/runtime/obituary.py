"""Why a worker ended, in words and as an error: pure."""

from __future__ import annotations

import os
import signal
from dataclasses import dataclass
from typing import Final

from osiris_mesh.errors import LimitExceeded, OsirisError, WorkerDied
from osiris_mesh.function.spec import FunctionSpec
from osiris_mesh.runtime.units import format_size
from osiris_mesh.runtime.worker.control import BREEDS, NO_MEMORY

__all__ = ["Exit", "obituary"]

_NEARLY: Final = 0.9


@dataclass(frozen=True, slots=True)
class Exit:
    """How a process ended.

    Attributes:
        status: As of ``waitpid``; None if nobody saw it.
        memory: Most bytes it had in memory.
        stopped: It was ended by the runtime; the reason, or empty.
    """

    status: int | None
    memory: int = 0
    stopped: str = ""


def obituary(spec: FunctionSpec, ended: Exit, stderr: str) -> OsirisError:
    """Return the error for a call whose worker ended under it.

    Args:
        spec: The function.
        ended: How the process ended.
        stderr: The end of what it wrote to standard error.
    """
    name = f"{spec.name}@{spec.version}"
    words = f"; its last words: {stderr.splitlines()[-1][:300]}" if stderr else ""
    if ended.stopped:
        return WorkerDied(f"the worker of {name} was ended: {ended.stopped}", fix="call again", stderr=stderr)
    if ended.status is None:
        return WorkerDied(f"the worker of {name} is gone{words}", fix="call again", stderr=stderr)
    if os.WIFSIGNALED(ended.status):
        number = os.WTERMSIG(ended.status)
        if number == signal.SIGXCPU:
            return LimitExceeded(f"{name} used more processor time than a worker may", limit="processor", stderr=stderr)
        if number == signal.SIGKILL and ended.memory >= _NEARLY * spec.memory:
            return LimitExceeded(
                f"{name} needed more than its {format_size(spec.memory)} of memory and was killed",
                fix="raise it with --memory, or use less",
                limit="memory",
                stderr=stderr,
            )
        try:
            known = signal.Signals(number).name
        except ValueError:
            known = f"signal {number}"
        return WorkerDied(
            f"the worker of {name} was ended by {known}{words}",
            fix="see osiris-mesh logs; call again",
            signal=number,
            stderr=stderr,
        )
    code = os.waitstatus_to_exitcode(ended.status)
    if code == NO_MEMORY:
        return LimitExceeded(
            f"{name} has not the memory for so large a call ({format_size(spec.memory)})",
            fix="raise it with --memory, or send less",
            limit="memory",
            stderr=stderr,
        )
    if code == BREEDS:
        return WorkerDied(
            f"the worker of {name} was ended: the call left processes that start others faster than they can be ended",
            fix="wait for what a call starts, or end it",
            exit_code=code,
            stderr=stderr,
        )
    return WorkerDied(
        f"the worker of {name} ended itself with exit code {code}{words}",
        fix="a function should return or raise; see osiris-mesh logs",
        exit_code=code,
        stderr=stderr,
    )
