"""Ending the processes a call left behind, before its answer goes out and the next call comes in.

The worker gathers its orphans (``PR_SET_CHILD_SUBREAPER``), so whatever a call started is below it: a child, or one as
soon as what stands between has been killed. That there is nothing, which is the rule, is one system call.
"""

from __future__ import annotations

import os
import signal
import threading
import time
from typing import Final, NoReturn

from osiris_mesh.runtime.worker import confine
from osiris_mesh.runtime.worker.control import BREEDS

__all__ = ["Leftovers"]

_PATIENCE_S: Final = 1.0
_PAUSE_S: Final = 0.0005
_CLONES: Final = 0x40000000  # __WALL: children that were told to send no SIGCHLD too
_KNOWS: Final = hasattr(os, "waitid") and os.path.isdir("/proc/self/task")  # noqa: PTH112 - see confine
_LOOK: Final = (os.WEXITED | os.WNOHANG | os.WNOWAIT | _CLONES) if _KNOWS else 0
_REAP: Final = (os.WEXITED | os.WNOHANG | _CLONES) if _KNOWS else 0


class Leftovers:
    """What the calls of one worker leave behind; made in the worker itself.

    With one call at a time everything below the worker is the call's that ends. With several it can't be told whose a
    process is: everything ends whenever no call is left.

    Args:
        several: More than one call at a time.
    """

    def __init__(self, *, several: bool) -> None:
        self._pid = os.getpid()
        self._lock = threading.Lock() if several else None
        self._calls = 0
        confine.gather_orphans()

    def began(self) -> None:
        """Take in that a call begins."""
        if self._lock is not None:
            with self._lock:
                self._calls += 1

    def ended(self) -> None:
        """Take in that a call has ended; returns when nothing of it lives, or ends this process.

        A child that came back out of the function ends here: the answer is its parent's to give.
        """
        if os.getpid() != self._pid:
            os._exit(0)
        if self._lock is None:
            self._clear()
            return
        with self._lock:
            self._calls -= 1
            if not self._calls:
                self._clear()

    def _clear(self) -> None:
        if not _KNOWS:
            return  # the zygote ends them with the worker
        try:
            os.waitid(os.P_ALL, 0, _LOOK)
        except ChildProcessError:
            return
        self._end_all()

    def _end_all(self) -> None:
        until = time.monotonic() + _PATIENCE_S
        while time.monotonic() < until:
            for pid in _children():
                try:
                    os.kill(pid, signal.SIGKILL)
                except OSError:
                    continue
            try:
                while os.waitid(os.P_ALL, 0, _REAP) is not None:
                    pass
            except ChildProcessError:
                return
            time.sleep(_PAUSE_S)
        self._give_up()

    def _give_up(self) -> NoReturn:
        """End this process: its group is killed at once, and the zygote goes on with what left the group."""
        os._exit(BREEDS)


def _children() -> list[int]:
    """Return the ids of this process's children, whichever of its threads started them."""
    found: list[int] = []
    for task in os.listdir("/proc/self/task"):  # noqa: PTH208 - see confine
        try:
            with open(f"/proc/self/task/{task}/children", "rb") as file:  # noqa: PTH123 - see confine
                found += [int(word) for word in file.read().split()]
        except (OSError, ValueError):
            continue
    return found
