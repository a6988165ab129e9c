"""Views that are refreshed, and what is shown while something takes long."""

from __future__ import annotations

import io
import os
import pty
import signal
import subprocess
import sys
import threading
import time
from typing import Any

import pytest

from osiris_mesh.identity.home import Home
from osiris_mesh_cli.progress import Busy, hide
from osiris_mesh_cli.top import rate
from tests.cli.conftest import Line
from tests.cli.fake import FakeController

NODE = {"peer_id": "p1", "name": "ada", "state": "alive", "leader": True, "voter": True, "cpu": 0.25, "memory": 0.5}
NODE |= {"memory_used": 1, "memory_total": 2, "disk_free": 1 << 30, "instances": 1, "in_flight": 0, "queued": 0}
GONE = {
    **NODE,
    "peer_id": "p2",
    "name": "grace",
    "state": "dead",
    "leader": False,
    "cpu": None,
    "memory": None,
    "disk_free": None,
}


class Overview:
    """A node with one function that is called ten times between two looks."""

    def __init__(self) -> None:
        self.calls = 0

    def __call__(self, _body: dict[str, Any]) -> dict[str, Any]:
        self.calls += 10
        row = {"name": "math/add", "version": "1.0.0", "nodes": 1, "instances": 1, "in_flight": 2, "queued": 3}
        row |= {"calls": self.calls, "errors": 1, "mean_us": 1500.0, "p50_us": 1250.0, "p99_us": 4900.0}
        facts = {"mesh_id": "", "name": "lab", "peer_id": "p1", "leader": "p1", "term": 1, "height": 7, "quorum": True}
        return facts | {"nodes": [NODE, GONE], "functions": [row]}


METHODS: dict[str, Any] = {"function.describe": lambda body: {"name": body["name"], "containers": {"p1": 1}}}


@pytest.mark.parametrize(
    ("before", "after", "span", "expected"),
    [(0, 10, 1000, 10.0), (10, 10, 1000, 0.0), (5, 10, 2000, 2.5), (10, 4, 1000, 4.0), (0, 1, 0, 1000.0)],
)
def test_rates(before: int, after: int, span: int, expected: float) -> None:
    assert rate(before, after, span) == expected


def test_top_and_monitor_show_one_sample_where_there_is_no_terminal(line: Line) -> None:
    with FakeController(Home(line.home), METHODS | {"node.overview": Overview()}):
        value = line("top", "--interval", "100ms", "--json").json
        (row,) = value["functions"]
        assert (row["calls"], row["errors_per_s"]) == (20, 0.0)
        assert 50 < row["calls_per_s"] <= 100
        assert [node["name"] for node in value["nodes"]] == ["ada", "grace"]
        shown = line("top", "--once", "--interval", "100ms").out
        assert "\x1b" not in shown
        assert "25%" in shown
        assert "math/add" in shown
        one = line("monitor", "math/add", "--interval", "100ms", "--json").json
        assert (one["name"], one["containers"]) == ("math/add", {"ada": 1})
        assert "1.50 ms" in line("monitor", "math/add", "--interval", "100ms").out
        assert line("monitor", "math/none").code == 3
        assert line("top", "--interval", "1ms").code == 2


def test_top_is_refreshed_in_place_on_a_terminal_until_ctrl_c(line: Line) -> None:
    with FakeController(Home(line.home), METHODS | {"node.overview": Overview()}):
        near, far = pty.openpty()
        running = subprocess.Popen(
            [sys.executable, "-m", "osiris_mesh_cli", "top", "--interval", "100ms", "--home", str(line.home)],
            stdin=subprocess.DEVNULL,
            stdout=far,
            stderr=subprocess.PIPE,
            env=os.environ | {"COLUMNS": "120", "LINES": "30"},
        )
        os.close(far)
        heard = b""
        try:
            deadline = time.monotonic() + 20
            while heard.count(b"\x1b[H") < 3 and time.monotonic() < deadline:
                heard += os.read(near, 65_536)
            running.send_signal(signal.SIGINT)
            with os.fdopen(near, "rb", buffering=0) as rest:
                try:
                    while part := rest.read(65_536):
                        heard += part
                except OSError:
                    # The other end is closed: that is how a terminal says so.
                    pass
            _, err = running.communicate(timeout=10)
        finally:
            running.kill()
            running.wait()
    assert (running.returncode, err) == (0, b"")
    assert heard.startswith(b"\x1b[?1049h")
    assert heard.count(b"\x1b[H") >= 3
    # The screen of before is back, the cursor too, and what was last seen stays.
    after = heard.rpartition(b"\x1b[?1049l")[2]
    assert b"math/add" in after
    assert b"\x1b[?25h" in heard


class Terminal(io.StringIO):
    """A terminal that tells when it was written to."""

    def __init__(self) -> None:
        super().__init__()
        self.written = threading.Event()

    def isatty(self) -> bool:
        return True

    def write(self, text: str) -> int:
        count = super().write(text)
        self.written.set()
        return count


def test_what_is_quick_says_nothing() -> None:
    terminal = Terminal()
    with Busy("working", stream=terminal, delay=30):
        pass
    assert terminal.getvalue() == ""


def test_what_takes_long_is_shown_in_place_and_taken_away() -> None:
    terminal = Terminal()
    with Busy("working", stream=terminal, delay=0.0):
        assert terminal.written.wait(10)
        hide()
        assert terminal.getvalue().endswith("\r\x1b[K")
        terminal.written.clear()
        assert terminal.written.wait(10)
    shown = terminal.getvalue()
    assert "working … 0 s" in shown
    assert "\n" not in shown
    assert shown.endswith("\r\x1b[K")


@pytest.mark.parametrize(("plain", "said"), [(True, "working …\n"), (False, "")])
def test_without_a_terminal_it_is_said_once(plain: bool, said: str) -> None:
    stream = io.StringIO()
    with Busy("working", stream=stream, delay=0.0, plain=plain) as busy:
        busy._thread.join(10)
    assert stream.getvalue() == said
