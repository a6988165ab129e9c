"""The demo's nodes: controllers as child processes, each with a home of its own on loopback."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final, TypeVar

from osiris_mesh.errors import DeadlineExceeded, OsirisError
from osiris_mesh.identity.home import Home
from osiris_mesh_cli.control import Controller
from osiris_mesh_cli.process import await_ready, spawn

__all__ = ["DemoNode", "poll"]

T = TypeVar("T")
_READY_SECONDS: Final = 30.0
_POLL: Final = 0.05


def poll(probe: Callable[[], T | None], seconds: float, what: str) -> T:
    """Ask ``probe`` until it returns something that is true; an error of the mesh counts as "not yet".

    Raises:
        DeadlineExceeded: It did not within ``seconds``.
    """
    deadline = time.monotonic() + seconds
    last = ""
    while True:
        try:
            value = probe()
        except OsirisError as error:
            value, last = None, f": {error}"
        if value:
            return value
        if time.monotonic() > deadline:
            raise DeadlineExceeded(f"{what}: not within {seconds:.0f} s{last}")
        time.sleep(_POLL)


class DemoNode:
    """One node.

    Args:
        folder: Where its home is made.
        name: Its name.
    """

    def __init__(self, folder: Path, name: str) -> None:
        self.name = name
        self.home = Home(folder / name)
        self.peer = ""
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Run the controller of the prepared home and wait until it is ready."""
        self._process, descriptor = spawn(self.home)
        report = await_ready(self.home, self._process, descriptor, _READY_SECONDS)
        self.peer = str(report["peer_id"])

    def kill(self) -> None:
        """Kill the controller with SIGKILL, as a power cut would."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()

    def ask(self, method: str, body: dict[str, Any] | None = None, *, timeout: float = 5.0) -> dict[str, Any]:
        """Call a control method of this node."""
        with Controller(self.home) as controller:
            return controller.ask(method, body, timeout=timeout)

    def begin_end(self) -> None:
        """Tell the controller to stop."""
        if self._process is not None and self._process.poll() is None:
            self._process.terminate()

    def end(self, seconds: float) -> None:
        """Wait until the controller has ended, and kill it if it does not within ``seconds``."""
        if self._process is None:
            return
        try:
            self._process.wait(max(0.1, seconds))
        except subprocess.TimeoutExpired:
            self.kill()
