"""A Kubo daemon for tests: its own repository, offline, on free ports of the loopback."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

START_S = 60.0
SPREAD_FROM = "4KiB"
"""Directories larger than this are spread over many blocks."""


@dataclass(frozen=True)
class Daemon:
    """A running daemon.

    Attributes:
        api: URL of its RPC.
        gateway: URL of its gateway.
        repository: Its folder.
    """

    api: str
    gateway: str
    repository: Path

    def ipfs(self, *words: str, data: bytes = b"") -> str:
        """Run its command line and return what it says."""
        done = subprocess.run(
            ["ipfs", *words], env=_environment(self.repository), input=data, capture_output=True, check=True, timeout=60
        )
        return done.stdout.decode().strip()


def find_ipfs() -> None:
    """Skip the test where there is no Kubo; fail in continuous integration."""
    if shutil.which("ipfs") is None:
        if os.environ.get("CI"):
            pytest.fail("ipfs is not on PATH: .ci/run installs it")
        pytest.skip("needs Kubo: `ipfs` is not on PATH")


def _environment(repository: Path) -> dict[str, str]:
    # Nothing of the user's own node, and no word to anybody.
    return {
        "PATH": os.environ["PATH"],
        "HOME": str(repository),
        "IPFS_PATH": str(repository),
        "IPFS_TELEMETRY": "off",
    }


@contextmanager
def daemon() -> Iterator[Daemon]:
    """Run a daemon."""
    with tempfile.TemporaryDirectory(prefix="kubo-") as folder:
        repository = Path(folder)
        environment = _environment(repository)

        def ipfs(*words: str) -> None:
            subprocess.run(["ipfs", *words], env=environment, capture_output=True, check=True, timeout=60)

        ipfs("init", "--profile", "test", "--empty-repo")
        ipfs("config", "--json", "Addresses.Swarm", "[]")
        ipfs("config", "Import.UnixFSHAMTDirectorySizeThreshold", SPREAD_FROM)
        ipfs("bootstrap", "rm", "--all")
        log = repository / "log"
        with log.open("wb") as output:
            process = subprocess.Popen(
                ["ipfs", "daemon", "--offline"], env=environment, stdout=output, stderr=subprocess.STDOUT
            )
        try:
            deadline = time.monotonic() + START_S
            while "Daemon is ready" not in log.read_text("utf-8"):
                assert process.poll() is None, log.read_text("utf-8")
                assert time.monotonic() < deadline, log.read_text("utf-8")
                time.sleep(0.02)
            _, _, _, _, port = (repository / "api").read_text("ascii").strip().split("/")[:5]
            gateway = (repository / "gateway").read_text("ascii").strip()
            yield Daemon(f"http://127.0.0.1:{port}", gateway, repository)
        finally:
            process.terminate()
            try:
                process.wait(20)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait(20)
