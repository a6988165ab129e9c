"""The demo, as a newcomer runs it, and as he interrupts it."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from osiris_mesh_cli.demo.sharpness import decode, laplacian_energy
from tests.system.harness import ENVIRONMENT, wait_until

pytestmark = pytest.mark.system


@pytest.fixture
def folder() -> Iterator[Path]:
    # Not tmp_path: a Unix socket's path is at most 107 bytes long.
    with tempfile.TemporaryDirectory(prefix="od-", ignore_cleanup_errors=True) as path:
        yield Path(path)


def demo(folder: Path, *words: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "osiris_mesh_cli", "demo", *words],
        env=ENVIRONMENT | {"TMPDIR": str(folder)},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )


def processes_of(folder: Path) -> list[str]:
    found = []
    for process in psutil.process_iter(["cmdline"]):
        line = " ".join(process.info["cmdline"] or [])
        if str(folder) in line and process.pid != os.getpid():
            found.append(line)
    return found


@pytest.mark.timeout(180)
def test_the_demo_shows_what_it_promises(folder: Path) -> None:
    running = demo(folder, "--json", "--out", str(folder / "pictures"))
    out, err = running.communicate(timeout=150)
    assert running.returncode == 0, err
    figures = json.loads(out)
    assert figures["nodes"] == 3
    assert figures["calls_failed"] == 0
    assert figures["calls_ok"] >= 75
    assert figures["leader_killed"].startswith("12D3KooW")
    assert 0 < figures["recovered_s"] < 5
    assert figures["ledger"]["valid"] is True
    assert figures["ledger"]["identical"] is True
    assert figures["ledger"]["height"] == figures["ledger"]["compared"] >= 6
    assert figures["elapsed_s"] < 60
    before, after = (decode(Path(figures["pictures"][name]).read_bytes()) for name in ("original", "sharpened"))
    assert laplacian_energy(after) > 1.2 * laplacian_energy(before)
    for words in ("created a mesh", "joined with a token", "kill -9", "caught up", "osiris-mesh init"):
        assert words in err
    wait_until(lambda: not processes_of(folder), seconds=10, what="no process of the demo left")


@pytest.mark.timeout(120)
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize("moment", ["created a mesh", "three voters"])
def test_an_interrupted_demo_leaves_no_process_behind(folder: Path, number: int, moment: str) -> None:
    running = demo(folder)
    assert running.stderr is not None
    seen = ""
    while not re.search(moment, seen):
        line = running.stderr.readline()
        assert line, seen
        seen += line
    assert processes_of(folder)
    running.send_signal(number)
    running.communicate(timeout=60)
    # CPython ends itself by SIGINT, which shells show as 130 too, if the interrupt fell into a text that is executed,
    # as dataclasses do while a module is imported: it remembers that as unhandled (run_eval_code_obj in pythonrun.c).
    assert running.returncode in {130, -signal.SIGINT}
    wait_until(lambda: not processes_of(folder), seconds=10, what="no process of the demo left")
