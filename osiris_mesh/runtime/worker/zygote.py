"""The zygote: a clean interpreter that imports one function, then forks a worker whenever it is told to.

It holds one socket to the controller and nothing else. It ends when that socket closes, and so does all that descends
from it: orphans gather below it, and its namespace, where it has one, ends with it.
"""

from __future__ import annotations

import contextlib
import gc
import os
import select
import signal
import socket
import sys
import time
import traceback
from collections.abc import Mapping
from typing import Any, Final, NoReturn

from osiris_mesh.runtime.worker import confine
from osiris_mesh.runtime.worker.answer import Answers
from osiris_mesh.runtime.worker.control import NO_MEMORY, Inbox, frame
from osiris_mesh.runtime.worker.failure import Frames, describe
from osiris_mesh.runtime.worker.leftovers import Leftovers
from osiris_mesh.runtime.worker.load import load
from osiris_mesh.runtime.worker.output import LineStream
from osiris_mesh.runtime.worker.serve import serve

__all__ = ["main"]

_STACK: Final = 8 << 20
_BROKEN: Final = 70
_END_S: Final = 0.3


def main(descriptor: int) -> None:
    """Live as a zygote.

    The ``start`` message has: ``name`` of the function in the mesh, ``code``, ``roots``, ``site``, ``kit``, ``scratch``
    (folders), ``file`` and ``function`` to load, ``concurrency``, ``memory`` and ``import_memory`` (bytes), ``user``
    (id to become, 0 for none), ``limits`` (see :func:`osiris_mesh.runtime.worker.confine.limit`).

    Args:
        descriptor: The socket to the controller.
    """
    control = socket.socket(fileno=descriptor)
    inbox = Inbox(control)
    messages: list[dict[str, Any]] = []
    while not messages:
        received = inbox.receive()
        if received is None:
            os._exit(0)
        messages += received
    start = messages.pop(0)
    confine.become(start["user"])
    confine.give_up_privileges()
    confine.die_with_parent()
    confine.limit(start["limits"])
    confine.hide()
    streams = (LineStream(1), LineStream(2))
    sys.stdout, sys.stderr = streams
    os.chdir(start["scratch"])
    confine.limit_memory(start["memory"] + start["import_memory"])
    frames = Frames(start["code"], start["site"], start["kit"])
    began = time.monotonic()
    try:
        function = load(start["code"], start["roots"], start["site"], start["file"], start["function"])
        answers = Answers(function, start["name"], frames, start["memory"], streams)
        if answers.is_async:
            import asyncio  # noqa: F401, PLC0415 - once, here, instead of in every worker
    except BaseException as error:  # noqa: BLE001 - whatever an import raises belongs to the caller
        wire = describe(error, frames, f"importing {start['name']}", start["memory"]).to_wire()
        for stream in streams:
            stream.flush()
        control.sendall(frame("failed", error=wire))
        os._exit(1)
    for stream in streams:
        stream.flush()
    gc.collect()
    gc.freeze()  # or the first collection in each worker would copy every page
    control.sendall(frame("ready", import_ms=int((time.monotonic() - began) * 1000)))
    _Zygote(control, inbox, start, answers).live(messages)


class _Zygote:
    """The forking half of a zygote's life."""

    def __init__(self, control: socket.socket, inbox: Inbox, start: Mapping[str, Any], answers: Answers) -> None:
        self._control = control
        self._inbox = inbox
        self._start = start
        self._answers = answers
        self._workers: dict[int, int] = {}  # pid -> number
        self._wake, wakes = os.pipe()
        for descriptor in (self._wake, wakes):
            os.set_blocking(descriptor, False)
        # After the function's imports, which may have set handlers of their own.
        signal.signal(signal.SIGCHLD, lambda *_: None)
        signal.set_wakeup_fd(wakes, warn_on_full_buffer=False)
        self._wakes = wakes

    def live(self, messages: list[dict[str, Any]]) -> NoReturn:
        """Do what the controller says until it is gone."""
        poller = select.poll()
        poller.register(self._control, select.POLLIN)
        poller.register(self._wake, select.POLLIN)
        self._obey(messages)
        while True:
            for descriptor, _ in poller.poll():
                if descriptor == self._wake:
                    with contextlib.suppress(BlockingIOError):
                        os.read(self._wake, 4096)
                    self._reap()
                    continue
                received = self._inbox.receive()
                if received is None:
                    self._end()
                self._obey(received)

    def _obey(self, messages: list[dict[str, Any]]) -> None:
        for message in messages:
            if message["kind"] == "fork":
                self._fork(message["number"])
            elif message["kind"] == "kill":
                for pid, number in self._workers.items():
                    if number == message["number"]:
                        _kill(pid)

    def _fork(self, number: int) -> None:
        descriptors = self._inbox.descriptors[:3]
        del self._inbox.descriptors[:3]
        try:
            pid = os.fork()
        except OSError as error:
            self._say(frame("unforked", number=number, reason=error.strerror or str(error)))
        else:
            if pid == 0:
                self._become_worker(number, *descriptors)
            self._workers[pid] = number
            self._say(frame("forked", number=number))
        for descriptor in descriptors:
            os.close(descriptor)

    def _become_worker(self, number: int, link: int, output: int, errors: int) -> NoReturn:
        code = _BROKEN
        try:
            os.setpgid(0, 0)  # not a session: that costs a scheduling group, a millisecond
            confine.die_with_parent()
            signal.set_wakeup_fd(-1)
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            os.dup2(output, 1)
            os.dup2(errors, 2)
            self._control.close()
            for descriptor in (self._wake, self._wakes, output, errors):
                os.close(descriptor)
            folder = f"{self._start['scratch']}/{number}"
            os.mkdir(folder, 0o700)  # noqa: PTH102 - see confine
            os.chdir(folder)
            os.environ["HOME"] = os.environ["TMPDIR"] = folder
            concurrency = self._start["concurrency"]
            confine.limit_memory(self._start["memory"] + (_STACK * concurrency if concurrency > 1 else 0))
            self._answers.leftovers = Leftovers(several=concurrency > 1)
            serve(socket.socket(fileno=link), self._answers, concurrency)
            code = 0
        except MemoryError:
            code = NO_MEMORY  # a call too large to be received
        except BaseException:  # noqa: BLE001 - the outermost edge of a process
            with contextlib.suppress(BaseException):
                os.write(2, traceback.format_exc().encode("utf-8", "replace")[-4096:])
        finally:
            os._exit(code)

    def _reap(self) -> None:
        """Report workers that ended, and end what they left behind."""
        ended = False  # a process whose children are this one's now
        while (dead := self._next_dead()) is not None:
            pid, status, usage = dead
            number = self._workers.pop(pid, None)
            ended = True
            if number is not None:
                _remove(f"{self._start['scratch']}/{number}")
                self._say(frame("exited", number=number, status=status, memory=usage.ru_maxrss * 1024))
        if ended:
            self._sweep()

    def _next_dead(self) -> tuple[int, int, Any] | None:
        """Return process id, status and usage of a child that ended, its group ended with it; None if there is none."""
        try:
            if not hasattr(os, "waitid"):  # macOS: the group is ended a moment after the id is free
                pid, status, usage = os.wait4(-1, os.WNOHANG)
                if pid in self._workers:
                    _kill(pid)
                return (pid, status, usage) if pid else None
            found = os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)
            if found is None:
                return None
            if found.si_pid in self._workers:
                _kill(found.si_pid)  # its group, while its id is still its own
            return os.wait4(found.si_pid, 0)
        except ChildProcessError:
            return None

    def _sweep(self) -> None:
        """End processes that left their worker's group: their parent is this process now."""
        try:
            with open(f"/proc/self/task/{os.getpid()}/children", "rb") as file:  # noqa: PTH123 - see confine
                children = [int(word) for word in file.read().split()]
        except (OSError, ValueError):
            return
        for pid in children:
            if pid not in self._workers:
                with contextlib.suppress(ProcessLookupError, PermissionError):
                    os.kill(pid, signal.SIGKILL)

    def _say(self, message: bytes) -> None:
        try:
            self._control.sendall(message)
        except OSError:
            self._end()

    def _end(self) -> NoReturn:
        for pid in self._workers:
            _kill(pid)
        # Whoever is killed leaves its children to this process, so more than once.
        until = time.monotonic() + _END_S
        self._workers.clear()
        with contextlib.suppress(ChildProcessError):
            while time.monotonic() < until:
                self._sweep()
                while os.waitpid(-1, os.WNOHANG)[0]:
                    pass
                time.sleep(0.001)
        os._exit(0)


def _kill(pid: int) -> None:
    for kill in (os.killpg, os.kill):
        with contextlib.suppress(ProcessLookupError, PermissionError):
            kill(pid, signal.SIGKILL)


def _remove(folder: str) -> None:
    """Remove a folder and all in it; what can't be removed stays until the sandbox ends."""
    with contextlib.suppress(OSError):
        with os.scandir(folder) as entries:
            for entry in entries:
                if entry.is_dir(follow_symlinks=False):
                    _remove(entry.path)
                else:
                    with contextlib.suppress(OSError):
                        os.unlink(entry.path)  # noqa: PTH108 - see confine
        os.rmdir(folder)  # noqa: PTH106 - see confine
