"""Real controllers for benchmarks: separate processes, homes in a temporary folder, loopback only."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

COMMAND_S = 120.0


class Nodes:
    """Homes of one mesh and the commands that act on them."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.homes: list[Path] = []

    def command(self, home: Path, *words: str) -> dict[str, Any]:
        """Run one command of the command line on a home and return its JSON."""
        done = subprocess.run(
            [sys.executable, "-m", "osiris_mesh_cli", *words, "--json", "--home", str(home)],
            capture_output=True,
            text=True,
            timeout=COMMAND_S,
            check=False,
        )
        if done.returncode:
            raise RuntimeError(f"{' '.join(words)} ended with {done.returncode}: {done.stderr.strip()}")
        answer: dict[str, Any] = json.loads(done.stdout)
        return answer

    def start(self) -> Path:
        """Start one more node and return its home."""
        home = self.folder / f"n{len(self.homes)}"
        at = ("--listen", "127.0.0.1:0", "--no-mdns", "--detach")
        if self.homes:
            token = self.command(self.homes[0], "token", "create")["token"]
            self.homes.append(home)
            self.command(home, "join", token, *at)
        else:
            self.homes.append(home)
            self.command(home, "init", *at)
        return home

    def deploy(self, source: str, function: str, *options: str) -> str:
        """Deploy one function at the first node; return its full name."""
        path = self.folder / f"{function}.py"
        path.write_text(source, "utf-8")
        name = f"bench/{function}"
        self.command(self.homes[0], "deploy", f"{path}::{function}", "--name", name, *options)
        return name

    def stop(self) -> None:
        """Stop all nodes."""
        for home in reversed(self.homes):
            try:
                self.command(home, "stop")
            except (RuntimeError, subprocess.TimeoutExpired) as error:
                print(f"bench: {error}", file=sys.stderr)


@contextmanager
def nodes() -> Iterator[Nodes]:
    """A mesh that is gone at the end."""
    # Short, because a socket's path must fit into 108 bytes.
    folder = Path(tempfile.mkdtemp(prefix="osb-"))
    mesh = Nodes(folder)
    try:
        yield mesh
    finally:
        mesh.stop()
        shutil.rmtree(folder, ignore_errors=True)


def until(holds: Callable[[], object], seconds: float = 30.0) -> bool:
    """Wait until ``holds`` is true; whether it came to be in time."""
    end = time.monotonic() + seconds
    while not holds():
        if time.monotonic() > end:
            return False
        time.sleep(0.05)
    return True
