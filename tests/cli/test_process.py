"""Starting and ending controllers: what is read from one that reports, reports an error, or dies without a word."""

from __future__ import annotations

import fcntl
import os
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from osiris_mesh.errors import Conflict, DeadlineExceeded, InternalError
from osiris_mesh.identity.home import Home
from osiris_mesh_cli.process import await_ready, is_held, process_of, wait_released


def start(code: str) -> tuple[subprocess.Popen[bytes], int]:
    read, write = os.pipe()
    process = subprocess.Popen([sys.executable, "-c", code, str(write)], pass_fds=(write,))
    os.close(write)
    return process, read


REPORTS = "import os, sys, time; os.write(int(sys.argv[1]), {line!r}); time.sleep(60)"


@pytest.fixture
def made(home: Path) -> Home:
    made = Home(home)
    made.make()
    return made


def test_a_report_is_returned_and_the_process_lives(made: Home) -> None:
    process, read = start(REPORTS.format(line=b'{"peer_id": "p"}\n'))
    try:
        assert await_ready(made, process, read, 30) == {"peer_id": "p"}
        assert process.poll() is None
    finally:
        process.kill()
        process.wait()


def test_a_reported_error_is_raised_and_the_process_ended(made: Home) -> None:
    line = b'{"error": {"code": "conflict", "what": "the port is taken", "fix": "choose another"}}\n'
    process, read = start(REPORTS.format(line=line))
    with pytest.raises(Conflict, match="the port is taken"):
        await_ready(made, process, read, 30)
    assert process.poll() is not None


@pytest.mark.parametrize("code", ["raise SystemExit(3)", "import os, sys; os.write(int(sys.argv[1]), b'[1]\\n')"])
def test_death_without_a_word_tells_the_last_line_of_the_log(made: Home, code: str) -> None:
    (made.logs / "node.log").write_text("first\nlast words\n")
    process, read = start(code)
    with pytest.raises(InternalError, match="last words"):
        await_ready(made, process, read, 30)
    assert process.poll() is not None


def test_one_that_says_nothing_is_ended_in_time(made: Home) -> None:
    process, read = start("import time; time.sleep(60)")
    with pytest.raises(DeadlineExceeded):
        await_ready(made, process, read, 0.2)
    assert process.poll() is not None


def test_half_a_line_is_no_report(made: Home) -> None:
    process, read = start(REPORTS.format(line=b'{"peer_id": '))
    with pytest.raises(DeadlineExceeded):
        await_ready(made, process, read, 0.2)
    assert process.poll() is not None


def test_a_home_is_held_while_its_lock_is(made: Home) -> None:
    assert not is_held(made)
    descriptor = os.open(made.lock, os.O_RDWR | os.O_CREAT)
    fcntl.flock(descriptor, fcntl.LOCK_EX)
    assert is_held(made)
    assert is_held(made)
    with pytest.raises(DeadlineExceeded, match="has not ended"):
        wait_released(made, 0.1)
    letting_go = threading.Timer(0.1, os.close, [descriptor])
    letting_go.start()
    begin = time.monotonic()
    wait_released(made, 30)
    assert time.monotonic() - begin < 20
    assert not is_held(made)
    letting_go.join()


def test_the_process_to_kill_is_named(made: Home) -> None:
    assert process_of(made) == {}
    made.process_file.write_text("broken")
    assert process_of(made) == {}
    made.process_file.write_text('{"pid": 4711}')
    with made.lock.open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        with pytest.raises(DeadlineExceeded) as caught:
            wait_released(made, 0.05)
    assert "kill -9 4711" in caught.value.fix
