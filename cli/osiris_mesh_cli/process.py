"""Controllers as processes: started in the foreground or detached, and waited for until they are gone.

In the foreground this process *becomes* the controller (exec), so that whoever holds its process id holds the
controller; a short-lived process of its own prints the readiness. Detached, the controller leads a session of its own
and logs to the home.
"""

from __future__ import annotations

import fcntl
import json
import os
import selectors
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

from osiris_mesh.errors import DeadlineExceeded, InternalError, OsirisError, Unavailable
from osiris_mesh.identity.home import Home

__all__ = ["is_held", "process_of", "run_detached", "run_foreground", "spawn", "wait_released"]

_MAX_REPORT: Final = 1 << 20
_POLL: Final = 0.02
_LOG_TAIL: Final = 2048


def _arguments(home: Home, descriptor: int) -> list[str]:
    # -P: a folder the user happens to stand in must not put modules before ours.
    return [sys.executable, "-P", "-m", "osiris_mesh.node", "--home", str(home.path), "--ready-fd", str(descriptor)]


def run_foreground(home: Home, announce: Callable[[dict[str, Any]], None]) -> int:
    """Become the controller of ``home``; returns only if that fails.

    Args:
        home: Prepared by ``init`` or ``join``.
        announce: Called in a process of its own with what the controller reports once it is ready, or with
            ``{"error": …}`` if it can't be.
    """
    sys.stdout.flush()
    sys.stderr.flush()
    read, write = os.pipe()
    first = os.fork()
    if first == 0:
        # A grandchild announces: its parent ends at once, so the controller is left with no child it doesn't know of.
        if os.fork():
            os._exit(0)
        os.close(write)
        # The session's end or a Ctrl-C is the controller's to act on; the pipe's end tells us.
        os.setsid()
        try:
            try:
                report = _read_report(read, deadline=None)
            except OsirisError as error:
                # It was interrupted, or died and said why on the stderr we share.
                report = {"error": error.to_wire()}
            announce(report)
        finally:
            sys.stdout.flush()
            sys.stderr.flush()
            os._exit(0)
    os.waitpid(first, 0)
    os.close(read)
    os.set_inheritable(write, True)  # noqa: FBT003 - the name of the call says it
    os.execv(sys.executable, _arguments(home, write))  # noqa: S606 - an argument vector, no shell


def spawn(home: Home) -> tuple[subprocess.Popen[bytes], int]:
    """Start the controller of ``home`` in a session of its own, logging to the home.

    Returns:
        The process, and the descriptor on which it reports (to be given to :func:`await_ready`).
    """
    home.logs.mkdir(mode=0o700, parents=True, exist_ok=True)
    log = os.open(home.logs / "node.log", os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
    read, write = os.pipe()
    try:
        process = subprocess.Popen(
            _arguments(home, write),
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            pass_fds=(write,),
            start_new_session=True,
        )
    except BaseException:
        os.close(read)
        raise
    finally:
        os.close(log)
        os.close(write)
    return process, read


def await_ready(home: Home, process: subprocess.Popen[bytes], descriptor: int, timeout: float) -> dict[str, Any]:
    """Return what a spawned controller reports when it is ready; a controller that isn't is ended.

    Raises:
        OsirisError: What the controller reported instead, or that it reported nothing in ``timeout`` seconds.
    """
    ready = False
    try:
        report = _read_report(descriptor, time.monotonic() + timeout)
        ready = "error" not in report
    except Unavailable:
        tail = _tail(home.logs / "node.log")
        raise InternalError(f"the controller ended before it was ready: {tail}", fix="see its log") from None
    finally:
        if not ready:
            _end(process)
    if not ready:
        raise OsirisError.from_wire(report["error"])
    return report


def run_detached(home: Home, timeout: float) -> dict[str, Any]:
    """Start the controller of ``home`` and return what it reports when it is ready.

    Raises:
        OsirisError: As :func:`await_ready`.
    """
    process, descriptor = spawn(home)
    report = await_ready(home, process, descriptor, timeout)
    # It outlives us on purpose; nobody here waits for it, and it is no child left unreaped by mistake.
    process.returncode = 0
    return report


def _read_report(descriptor: int, deadline: float | None) -> dict[str, Any]:
    """Read the one JSON line a controller writes, and close the descriptor."""
    data = b""
    with open(descriptor, "rb", buffering=0) as pipe, selectors.DefaultSelector() as selector:
        selector.register(pipe, selectors.EVENT_READ)
        while not data.endswith(b"\n") and len(data) < _MAX_REPORT:
            left = None if deadline is None else deadline - time.monotonic()
            if left is not None and (left <= 0 or not selector.select(left)):
                raise DeadlineExceeded("the controller was not ready in time", fix="see logs/node.log in its home")
            part = pipe.read(65_536)
            if not part:
                break
            data += part
    try:
        report = json.loads(data)
    except ValueError:
        report = None
    if not isinstance(report, dict):
        raise Unavailable("the controller ended before it was ready", fix="see logs/node.log in its home")
    return report


def _end(process: subprocess.Popen[bytes]) -> None:
    if process.poll() is None:
        process.terminate()
        try:
            process.wait(5)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _tail(log: Path) -> str:
    try:
        with log.open("rb") as file:
            file.seek(max(0, log.stat().st_size - _LOG_TAIL))
            lines = file.read().decode("utf-8", "replace").strip().splitlines()
    except OSError:
        lines = []
    return lines[-1] if lines else "it said nothing"


def is_held(home: Home) -> bool:
    """Say whether a process holds the home."""
    try:
        descriptor = os.open(home.lock, os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        return False
    try:
        # Shared, and given back at once: it only asks.
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(descriptor)
    return False


def wait_released(home: Home, timeout: float) -> None:
    """Wait until no process holds the home.

    Raises:
        DeadlineExceeded: One still does after ``timeout`` seconds.
    """
    deadline = time.monotonic() + timeout
    while is_held(home):
        if time.monotonic() > deadline:
            pid = process_of(home).get("pid")
            raise DeadlineExceeded(
                f"the controller of {home.path} has not ended after {timeout:.0f} s",
                fix=f"see its log; to end it by force: kill -9 {pid}" if pid else "see logs/node.log in its home",
            )
        time.sleep(_POLL)


def process_of(home: Home) -> dict[str, Any]:
    """Return what the running controller wrote about its process: pid, peer_id, mesh_id, listen; empty if none did."""
    try:
        value = json.loads(home.process_file.read_text("utf-8"))
    except (OSError, ValueError):
        return {}
    return value if isinstance(value, dict) else {}
