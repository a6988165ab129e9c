"""Real controllers as separate processes, each with a home of its own, driven through the command line."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

T = TypeVar("T")

ENVIRONMENT = {
    key: value
    for key, value in os.environ.items()
    if key in {"PATH", "HOME", "LANG", "TMPDIR", "CI"}
    or key.startswith(("UV_", "PIP_", "SSL_", "XDG_"))
    or key.lower().endswith("_proxy")
}


@dataclass
class Answer:
    """What one command said."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        return json.loads(self.out)


def wait_until(probe: Callable[[], T], *, seconds: float = 30.0, what: str = "") -> T:
    """Poll ``probe`` until it returns something true; a failing assertion counts as "not yet"."""
    deadline = time.monotonic() + seconds
    while True:
        try:
            result = probe()
        except AssertionError:
            if time.monotonic() > deadline:
                raise
        else:
            if result:
                return result
            assert time.monotonic() < deadline, f"not within {seconds} s: {what or probe}"
        time.sleep(0.02)


@dataclass
class Node:
    """One home, and the controller that runs in it (or does not)."""

    home: Path
    process: subprocess.Popen[str] | None = None
    report: dict[str, Any] = field(default_factory=dict)

    def run(self, *words: str, timeout: float = 60.0) -> Answer:
        """Run one command of the command line on this home."""
        done = subprocess.run(
            [sys.executable, "-m", "osiris_mesh_cli", *words],
            env=ENVIRONMENT | {"OSIRIS_HOME": str(self.home)},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=timeout,
            check=False,
        )
        return Answer(done.returncode, done.stdout, done.stderr)

    def ok(self, *words: str, timeout: float = 60.0) -> Any:
        """Run one command with ``--json``, which must succeed, and return its document."""
        answer = self.run(*words, "--json", timeout=timeout)
        assert answer.code == 0, f"{words}: exit {answer.code}\n{answer.out}\n{answer.err}"
        return answer.json

    def launch(self, *words: str) -> dict[str, Any]:
        """Start ``init``, ``join`` or ``start`` detached; remember the controller's process."""
        self.report = self.ok(*words, "--detach")
        return self.report

    @property
    def pid(self) -> int:
        return int(json.loads((self.home / "run" / "node.json").read_text())["pid"])

    def kill(self, number: int = signal.SIGKILL) -> None:
        """Kill this home's own controller."""
        os.kill(self.pid, number)

    def gone(self) -> bool:
        try:
            os.kill(self.pid, 0)
        except (ProcessLookupError, FileNotFoundError):
            return True
        return False

    def status(self) -> dict[str, Any]:
        return self.ok("status")


class Mesh:
    """Some nodes, all ended at the end by their own process ids."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.nodes: list[Node] = []

    def home(self) -> Node:
        node = Node(self.folder / f"n{len(self.nodes)}")
        self.nodes.append(node)
        return node

    def init(self, *words: str) -> Node:
        node = self.home()
        node.launch("init", "--listen", "127.0.0.1:0", "--no-mdns", "--preset", "local", "--dns", "off", *words)
        return node

    def join(self, via: Node, *words: str) -> Node:
        node = self.home()
        token = via.run("token", "create", "--grant", "operator").out.strip()
        node.launch("join", token, "--listen", "127.0.0.1:0", "--no-mdns", "--preset", "local", "--dns", "off", *words)
        return node

    def form(self, count: int) -> list[Node]:
        """Make a mesh of ``count`` nodes and wait until all that may vote do."""
        first = self.init()
        nodes = [first, *(self.join(first) for _ in range(count - 1))]
        voters = min(count if count % 2 else count - 1, 5)

        def settled() -> bool:
            states = [node.status() for node in nodes]
            heights = {state["height"] for state in states}
            return len(heights) == 1 and all(
                len(state["members"]) == count
                and sum(member["voter"] for member in state["members"]) == voters
                and state["leader"]
                and state["quorum"]
                for state in states
            )

        wait_until(settled, what=f"{count} members, {voters} voters, one height")
        return nodes

    def close(self) -> None:
        for node in self.nodes:
            with contextlib.suppress(FileNotFoundError, ProcessLookupError, ValueError):
                os.kill(node.pid, signal.SIGKILL)
        wait_until(lambda: all(node.gone() for node in self.nodes), seconds=10, what="all controllers gone")


def write_function(folder: Path, name: str, source: str) -> Path:
    """Write one function's file."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{name}.py"
    path.write_text(source)
    return path
