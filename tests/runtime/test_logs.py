from __future__ import annotations

import asyncio
import os
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from osiris_mesh.clock import FakeClock
from osiris_mesh.errors import LimitExceeded, OsirisError, UsageError, WorkerDied
from osiris_mesh.function.spec import FunctionSpec
from osiris_mesh.runtime.capture import Capture
from osiris_mesh.runtime.logs import LogLine, LogStore
from osiris_mesh.runtime.obituary import Exit, obituary
from osiris_mesh.runtime.worker.output import CURRENT_CALL, LineStream
from osiris_mesh.settings.runtime import RuntimeSettings


def line(text: str, time_ms: int = 1) -> LogLine:
    return LogLine(time_ms, "1.0.0", "c1", "out", text)


async def until(condition: Callable[[], object]) -> None:
    async with asyncio.timeout(10):
        while not condition():
            await asyncio.sleep(0.005)


async def test_lines_are_kept_and_found_again(tmp_path: Path) -> None:
    store = LogStore(tmp_path, RuntimeSettings(log_ring=3))
    store.append("maths/add", [line(f"l{number}", number) for number in range(5)])
    assert [one.text for one in store.tail("maths/add")] == ["l2", "l3", "l4"]
    assert [one.text for one in store.tail("maths/add", count=1)] == ["l4"]
    assert [one.text for one in store.tail("maths/add", since_ms=4)] == ["l4"]
    assert store.tail("maths/other") == []
    store.close()
    again = LogStore(tmp_path, RuntimeSettings(log_ring=3))
    assert [one.text for one in again.tail("maths/add")] == ["l2", "l3", "l4"]
    again.close()


async def test_files_are_bounded(tmp_path: Path) -> None:
    store = LogStore(tmp_path, RuntimeSettings(log_file=2000))
    for number in range(200):
        store.append("acme.com/maths/add", [line(f"line {number}")])
    store.close()
    files = sorted(tmp_path.rglob("*.log*"))  # noqa: ASYNC240 - nothing else runs
    assert [file.name for file in files] == ["add.log", "add.log.1"]
    assert all(file.stat().st_size < 2200 for file in files)


@pytest.mark.parametrize("name", ["../../etc/passwd", "a/../b", "", "/x", "a/b/c/d"])
async def test_no_name_leads_out_of_the_folder(tmp_path: Path, name: str) -> None:
    store = LogStore(tmp_path, RuntimeSettings())
    with pytest.raises(UsageError):
        store.append(name, [line("x")])
    store.close()


async def test_following(tmp_path: Path) -> None:
    store = LogStore(tmp_path, RuntimeSettings())
    follower = store.follow("maths/add")
    first = asyncio.ensure_future(anext(follower))
    await asyncio.sleep(0)
    store.append("maths/add", [line("now")])
    assert (await first).text == "now"
    await follower.aclose()
    store.close()


class Reading:
    """A capture on a pipe of its own."""

    def __init__(self, **bounds: int) -> None:
        self.lines: list[LogLine] = []
        reading, self.writing = os.pipe()
        sizes = {"line": 100, "rate": 1 << 30, "tail": 60} | bounds
        self.capture = Capture(reading, "out", "1.0.0", self.take, FakeClock(), **sizes)

    def take(self, lines: Sequence[LogLine]) -> None:
        self.lines += lines

    def texts(self) -> list[tuple[str, str]]:
        return [(one.call, one.text) for one in self.lines]


async def test_whole_lines_with_their_calls() -> None:
    reading = Reading()
    os.write(reading.writing, b"\x1ec7\x1fmarked\nplain\nhalf")
    await until(lambda: len(reading.lines) == 2)
    assert reading.texts() == [("c7", "marked"), ("", "plain")]
    os.write(reading.writing, b" and half\n\xff\n")
    await until(lambda: len(reading.lines) == 4)
    assert reading.texts()[2:] == [("", "half and half"), ("", "\ufffd")]
    os.write(reading.writing, b"last")
    os.close(reading.writing)
    await until(lambda: len(reading.lines) == 5)
    reading.capture.close()
    assert reading.capture.last_words() == "marked\nplain\nhalf and half\n\ufffd\nlast"


async def test_a_long_line_is_cut_once() -> None:
    reading = Reading()
    os.write(reading.writing, b"a" * 150)
    await until(lambda: reading.lines)
    os.write(reading.writing, b"a" * 50_000)
    os.write(reading.writing, b"a\nnext\n")
    await until(lambda: len(reading.lines) > 1)
    assert reading.texts() == [("", "a" * 100), ("", "next")]
    os.close(reading.writing)
    reading.capture.close()


async def test_who_writes_too_fast_waits() -> None:
    reading = Reading(rate=100_000)
    os.set_blocking(reading.writing, False)
    written = 0
    loop = asyncio.get_running_loop()
    began = loop.time()
    while loop.time() - began < 0.3:
        try:
            written += os.write(reading.writing, b"x" * 50 + b"\n")
        except BlockingIOError:
            await asyncio.sleep(0.005)
    assert written < 100_000 * 0.3 + 65_536 * 3  # what is allowed, what the pipe holds, a chunk each way
    os.close(reading.writing)
    reading.capture.close()


def test_a_function_prints_whole_lines_of_its_call() -> None:
    reading, writing = os.pipe()
    stream = LineStream(writing)
    token = CURRENT_CALL.set("c1")
    print("one", "two", file=stream)
    stream.write("half")
    other = CURRENT_CALL.set("c2")
    stream.write("another\n")
    CURRENT_CALL.reset(other)
    stream.write(" done")
    stream.flush()
    stream.buffer.write(b"bytes\n")
    CURRENT_CALL.reset(token)
    print("free", file=stream)
    os.close(writing)
    with os.fdopen(reading, "rb") as file:
        assert file.read() == b"\x1ec1\x1fone two\n\x1ec2\x1fanother\n\x1ec1\x1fhalf done\nbytes\nfree\n"


SPEC = FunctionSpec("maths/add", "1.0.0", b"", "add.py::add", "python3.11", [[], ""], memory=64 << 20)


@pytest.mark.parametrize(
    ("end", "kind", "details"),
    [
        (Exit(3 << 8), WorkerDied, {"exit_code": 3}),
        (Exit(0), WorkerDied, {"exit_code": 0}),
        (Exit(11), WorkerDied, {"signal": 11}),
        (Exit(9, 10 << 20), WorkerDied, {"signal": 9}),
        (Exit(9, 64 << 20), LimitExceeded, {"limit": "memory"}),
        (Exit(71 << 8), LimitExceeded, {"limit": "memory"}),
        (Exit(24), LimitExceeded, {"limit": "processor"}),
        (Exit(None), WorkerDied, {}),
        (Exit(9, 1 << 40, "it was idle"), WorkerDied, {}),
    ],
)
def test_why_a_worker_ended(end: Exit, kind: type[OsirisError], details: dict[str, object]) -> None:
    error = obituary(SPEC, end, "a\nlast words")
    assert type(error) is kind
    assert error.details["stderr"] == "a\nlast words"
    assert details.items() <= error.details.items()
    assert "maths/add@1.0.0" in error.what
