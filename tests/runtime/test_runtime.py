"""Real processes: what a function can do, and what that means for its caller, its neighbours and the controller."""

from __future__ import annotations

import asyncio
import contextlib
import os
import select
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from osiris_mesh.codec import pack
from osiris_mesh.errors import (
    DeadlineExceeded,
    FunctionError,
    LimitExceeded,
    NotFound,
    OsirisError,
    Overloaded,
    RemoteProtocolError,
    UsageError,
    WorkerDied,
)
from osiris_mesh.link import Audience, Request, Router
from osiris_mesh.runtime import Runtime
from tests.runtime.conftest import Bench, make_runtime


async def until(condition: Callable[[], object], seconds: float = 10.0) -> None:
    async with asyncio.timeout(seconds):
        while not condition():
            await asyncio.sleep(0.01)


class Witness:
    """Handles on the processes that live below this one now."""

    def __init__(self) -> None:
        self._handles = [os.pidfd_open(pid) for pid in sorted(descendants())]
        assert self._handles

    async def all_end(self) -> None:
        poller = select.poll()
        for handle in self._handles:
            poller.register(handle, select.POLLIN)
        await until(lambda: len(poller.poll(0)) == len(self._handles))
        for handle in self._handles:
            os.close(handle)


_others: set[int] = set()
"""Processes below this one that a test found, and so did not make."""


@pytest.fixture(autouse=True)
def only_my_own() -> None:
    _others.clear()
    _others.update(descendants())


def descendants() -> set[int]:
    """Return the ids of all processes below this one that live and that this test made."""
    parents: dict[int, int] = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                fields = (entry / "stat").read_text().rpartition(")")[2].split()
            except OSError:
                continue
            if fields[0] != "Z":
                parents[int(entry.name)] = int(fields[1])
    found = {os.getpid()}
    while more := {pid for pid, parent in parents.items() if parent in found and pid not in found}:
        found |= more
    return found - {os.getpid()} - _others


# what comes back


async def test_a_value(bench: Bench) -> None:
    spec = bench.deploy("def add(a, b=2):\n    return a + b\n")
    assert await bench.call(spec, 1) == 3
    assert await bench.call(spec, 1, b=5) == 6
    assert await bench.call(spec, "a", "b") == "ab"


@pytest.mark.parametrize("concurrency", [1, 3])
async def test_an_async_function(bench: Bench, concurrency: int) -> None:
    source = """
        import asyncio
        async def later(x):
            await asyncio.sleep(0.01)
            if x == "wrong":
                raise ValueError(x)
            return x
    """
    spec = bench.deploy(source, concurrency=concurrency)
    values = [1, "two", None, [3.5, {"k": b"v"}], True]
    assert await asyncio.gather(*(bench.call(spec, value) for value in values)) == values
    with pytest.raises(FunctionError, match="ValueError: wrong"):
        await bench.call(spec, "wrong")


async def test_large_values_go_through_whole(bench: Bench) -> None:
    spec = bench.deploy("def turn(data):\n    return data[::-1]\n")
    data = os.urandom(3_000_000)
    assert await bench.call(spec, data) == data[::-1]


async def test_an_exception_with_its_own_frames(bench: Bench) -> None:
    source = """
        class Unhappy(Exception):
            pass

        def inner(x):
            raise Unhappy(f"no {x}")

        def outer(x):
            try:
                inner(x)
            except Unhappy as error:
                raise KeyError("outer") from error
    """
    with pytest.raises(FunctionError) as caught:
        await bench.call(bench.deploy(source, function="outer"), 7)
    error = caught.value
    assert (error.type, error.message) == ("KeyError", "'outer'")
    assert 'File "code.py", line 6, in inner' in error.traceback
    assert "code.Unhappy: no 7" in error.traceback
    assert "direct cause" in error.traceback
    assert "osiris" not in error.traceback
    assert str(bench.folder) not in error.traceback


@pytest.mark.parametrize(
    ("body", "kind", "message"),
    [
        ("sys.exit(3)", "SystemExit", "3"),
        ("raise KeyboardInterrupt", "KeyboardInterrupt", ""),
        ("raise GeneratorExit('x')", "GeneratorExit", "x"),
        ("return {1, 2}", "TypeError", "the result is of type 'set', which can't be sent"),
        ("return {'a': [1, object()]}", "TypeError", "the result is of type 'object' at ['a'][1], which can't be sent"),
        ("return {1: 2}", "TypeError", "the result has a key of type 'int' at its top, not a text"),
        ("return 1 << 70", "TypeError", None),
        ("return f", "TypeError", "the result is of type 'function', which can't be sent"),
        ("return f()", "RecursionError", None),
        ("raise type('Odd', (Exception,), {'__str__': lambda self: 1 / 0})", "code.Odd", None),
        ("raise ExceptionGroup('many', [ValueError(1), OSError(2)])", "ExceptionGroup", "many (2 sub-exceptions)"),
        ("raise ValueError('x' * 1_000_000)", "ValueError", "x" * 4096),
    ],
)
async def test_what_a_function_can_raise(bench: Bench, body: str, kind: str, message: str | None) -> None:
    spec = bench.deploy(f"import sys\ndef f():\n    {body}\n")
    with pytest.raises(FunctionError) as caught:
        await bench.call(spec)
    assert caught.value.type == kind
    if message is not None:
        assert caught.value.message == message
    # The worker took no harm: the same one answers again.
    before = bench.runtime.here(spec).instances
    with pytest.raises(FunctionError):
        await bench.call(spec)
    assert bench.runtime.here(spec).instances == before == 1


async def test_a_result_nested_without_end(bench: Bench) -> None:
    spec = bench.deploy("def f():\n    x = []\n    x.append(x)\n    return x\n")
    with pytest.raises(FunctionError, match="nested deeper"):
        await bench.call(spec)


async def test_a_body_that_is_none(bench: Bench) -> None:
    spec = bench.deploy("def f(): ...\n")
    for body in (b"", b"\xc1", pack([1]), pack({"a": 1}), pack([[], {}]) + b"\0"):
        with pytest.raises(OsirisError) as caught:
            await bench.runtime.run(spec, body, deadline=None)
        assert not isinstance(caught.value, WorkerDied)
    assert await bench.call(spec) is None


# what goes wrong


@pytest.mark.parametrize(
    ("source", "kind", "words"),
    [
        ("1 / 0\ndef f(): ...\n", FunctionError, "ZeroDivisionError"),
        ("import nothing_like_this\ndef f(): ...\n", FunctionError, "nothing_like_this"),
        ("import os\ndef f(): ...\nos._exit(4)\n", WorkerDied, "exit code 4"),
        ("import sys\ndef f(): ...\nsys.exit('bye')\n", FunctionError, "SystemExit"),
        ("def f(): ...\ndel f\n", FunctionError, "defines no function"),
        ("def f(): ...\nx = bytearray(4 << 30)\n", LimitExceeded, "memory"),
    ],
)
async def test_an_import_that_fails(bench: Bench, source: str, kind: type[OsirisError], words: str) -> None:
    spec = bench.deploy(source)
    results = await asyncio.gather(*(bench.call(spec) for _ in range(3)), return_exceptions=True)
    for result in results:
        assert isinstance(result, kind)
        assert words in str(result)


async def test_an_import_that_hangs(new_runtime: Callable[..., Runtime], tmp_path: Path) -> None:
    async with new_runtime(start_timeout_s=0.5) as runtime:
        bench = Bench(tmp_path, runtime)
        spec = bench.deploy("import time\ndef f(): ...\ntime.sleep(600)\n")
        with pytest.raises(LimitExceeded, match=r"took longer than 0.5 s") as caught:
            await bench.call(spec)
        assert caught.value.details["limit"] == "start"
        await until(lambda: not descendants())


async def test_an_import_that_hangs_ends_with_the_controllers_patience(bench: Bench) -> None:
    spec = bench.deploy("import time\ndef f(): ...\ntime.sleep(600)\n")
    task = asyncio.ensure_future(bench.call(spec))
    await until(lambda: len(descendants()) >= bench.processes)
    witness = Witness()
    await bench.runtime.close()
    await witness.all_end()
    with pytest.raises(OsirisError):
        await task


async def test_a_failed_start_is_tried_again_after_the_pause(bench: Bench) -> None:
    spec = bench.deploy("1 / 0\ndef f(): ...\n")
    with pytest.raises(FunctionError):
        await bench.call(spec)
    with pytest.raises(FunctionError):  # at once, from memory
        await bench.call(spec)
    pool = bench.runtime._pools[spec.digest]
    first = pool.core._counter
    async with asyncio.timeout(10):
        while pool.core._counter == first:
            with pytest.raises(FunctionError):
                await bench.call(spec)


@pytest.mark.parametrize("concurrency", [1, 2])
async def test_a_function_that_ends_its_process(bench: Bench, concurrency: int) -> None:
    source = """
        import os, sys
        def f(code):
            print("about to go", file=sys.stderr)
            os._exit(code)
    """
    spec = bench.deploy(source, concurrency=concurrency)
    with pytest.raises(WorkerDied) as caught:
        await bench.call(spec, 5)
    assert caught.value.details["exit_code"] == 5
    assert caught.value.details["stderr"] == "about to go"
    with pytest.raises(WorkerDied, match="exit code 0"):
        await bench.call(spec, 0)


async def test_a_function_that_is_killed(bench: Bench) -> None:
    spec = bench.deploy("import os\ndef f(number):\n    os.kill(os.getpid(), number)\n")
    with pytest.raises(WorkerDied, match="SIGKILL"):
        await bench.call(spec, 9)
    with pytest.raises(WorkerDied, match="SIGSEGV") as caught:
        await bench.call(spec, 11)
    assert caught.value.details["signal"] == 11


async def test_a_memory_bomb(bench: Bench) -> None:
    source = """
        def f(size):
            return len(bytearray(size))
        """
    spec = bench.deploy(source, memory="64MiB")
    assert await bench.call(spec, 32 << 20) == 32 << 20
    with pytest.raises(LimitExceeded) as caught:
        await bench.call(spec, 100 << 20)
    assert caught.value.details["limit"] == "memory"
    assert await bench.call(spec, 32 << 20) == 32 << 20


async def test_a_slow_memory_bomb(bench: Bench) -> None:
    source = """
        def f():
            held = []
            while True:
                held.append(bytearray(1 << 20))
    """
    with pytest.raises(LimitExceeded) as caught:
        await bench.call(bench.deploy(source, memory="32MiB"))
    assert caught.value.details["limit"] == "memory"


async def test_past_its_deadline(bench: Bench) -> None:
    spec = bench.deploy("import time\ndef f(seconds):\n    time.sleep(seconds)\n    return 1\n", max=1)
    assert await bench.call(spec, 0) == 1
    began = time.monotonic()
    with pytest.raises(DeadlineExceeded):
        await bench.call(spec, 600, within=0.2)
    assert time.monotonic() - began < 2
    assert await bench.call(spec, 0, within=10) == 1  # another worker: the one that sleeps was ended


async def test_past_its_own_limit(bench: Bench) -> None:
    spec = bench.deploy("import time\ndef f(seconds):\n    time.sleep(seconds)\n", timeout="200ms")
    with pytest.raises(DeadlineExceeded, match="200ms") as caught:
        await bench.call(spec, 600)
    assert caught.value.details["limit_ms"] == 200


async def test_past_the_deadline_beside_others(bench: Bench) -> None:
    source = """
        import time
        def f(seconds):
            time.sleep(seconds)
            return seconds
    """
    spec = bench.deploy(source, concurrency=2, max=1)
    await bench.call(spec, 0)
    late = asyncio.ensure_future(bench.call(spec, 600, within=0.2))
    fine = asyncio.ensure_future(bench.call(spec, 1.0))
    with pytest.raises(DeadlineExceeded):
        await late
    assert await fine == 1.0
    assert await bench.call(spec, 0, within=10) == 0


async def test_a_caller_that_gives_up(bench: Bench) -> None:
    spec = bench.deploy("import time\ndef f(seconds):\n    time.sleep(seconds)\n", max=1)
    await bench.call(spec, 0)
    task = asyncio.ensure_future(bench.call(spec, 600))
    await until(lambda: bench.runtime.here(spec).in_flight == 1)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    await bench.call(spec, 0, within=10)


# many at a time


async def test_calls_beside_each_other(bench: Bench) -> None:
    spec = bench.deploy("import os\ndef f(x):\n    return [x, os.getpid()]\n", max=3)
    results = await asyncio.gather(*(bench.call(spec, number) for number in range(60)))
    assert [result[0] for result in results] == list(range(60))
    assert 1 <= len({result[1] for result in results}) <= 3


async def test_threads_share_an_instance(bench: Bench) -> None:
    source = """
        import os, threading
        gate = threading.Barrier(4)
        def f():
            gate.wait(20)
            return os.getpid()
    """
    spec = bench.deploy(source, concurrency=4, max=1)
    assert len(set(await asyncio.gather(*(bench.call(spec) for _ in range(4))))) == 1


async def test_a_full_queue_says_so(new_runtime: Callable[..., Runtime], tmp_path: Path) -> None:
    async with new_runtime(queue=2) as runtime:
        bench = Bench(tmp_path, runtime)
        spec = bench.deploy("import time\ndef f():\n    time.sleep(600)\n", max=1)
        waiting = [asyncio.ensure_future(bench.call(spec))]
        await until(lambda: runtime.here(spec).in_flight == 1)
        waiting += [asyncio.ensure_future(bench.call(spec)) for _ in range(2)]
        await until(lambda: runtime.here(spec).queued == 2)
        with pytest.raises(Overloaded) as caught:
            await bench.call(spec)
        assert caught.value.details["retry_after_ms"] > 0
        for task in waiting:
            task.cancel()
        await asyncio.gather(*waiting, return_exceptions=True)


async def test_waiting_no_longer_than_the_deadline(bench: Bench) -> None:
    spec = bench.deploy("import time\ndef f(s):\n    time.sleep(s)\n", max=1)
    await bench.call(spec, 0)
    busy = asyncio.ensure_future(bench.call(spec, 600))
    await until(lambda: bench.runtime.here(spec).in_flight == 1)
    with pytest.raises(DeadlineExceeded, match="no instance"):
        await bench.call(spec, 0, within=0.1)
    assert bench.runtime.here(spec).queued == 0
    busy.cancel()
    await asyncio.gather(busy, return_exceptions=True)


async def test_the_dead_take_only_their_own_call_with_them(bench: Bench) -> None:
    spec = bench.deploy("import os\ndef f(x):\n    return x if x else os._exit(1)\n", max=2)
    results = await asyncio.gather(*(bench.call(spec, number % 5) for number in range(25)), return_exceptions=True)
    for number, result in enumerate(results):
        if number % 5:
            assert result == number % 5
        else:
            assert isinstance(result, WorkerDied)


# what a function prints


async def test_noise_never_touches_the_protocol(bench: Bench) -> None:
    source = """
        import os, sys
        def f(n):
            for number in range(n):
                print("line", number)
            os.write(1, b"raw\\n")
            sys.stderr.write("without an end")
            sys.stdout.buffer.write(b"\\x00\\xff\\n")
            os.system("echo from a child")
            return n
    """
    spec = bench.deploy(source)
    assert await bench.call(spec, 50) == 50
    logs = bench.runtime.logs
    await until(lambda: len(logs.tail(spec.name, 1000)) >= 54)
    lines = logs.tail(spec.name, 1000)
    assert [one.text for one in lines if one.call == "c1" and one.stream == "out"] == [f"line {n}" for n in range(50)]
    assert [(one.call, one.text) for one in lines if one.stream == "err"] == [("c1", "without an end")]
    assert [one.text for one in lines if not one.call] == ["raw", "\0\ufffd", "from a child"]
    assert {one.version for one in lines} == {spec.version}


async def test_closed_streams_do_no_harm(bench: Bench) -> None:
    source = """
        import os, sys
        def f():
            print("x", end="")
            os.closerange(1, 3)
            sys.stdout = None
            return 1
    """
    spec = bench.deploy(source)
    assert await bench.call(spec) == 1
    assert await bench.call(spec) == 1


# what stays behind


async def test_children_end_with_their_worker(bench: Bench) -> None:
    source = """
        import os, time
        def f(detach):
            if os.fork() == 0:
                if detach:
                    os.setsid()
                    if os.fork():
                        os._exit(0)
                time.sleep(600)
                os._exit(0)
            return os.getpid()
    """
    spec = bench.deploy(source, idle="10ms")
    await bench.call(spec, 0)
    await bench.call(spec, 1)
    await until(lambda: bench.runtime.here(spec).instances == 0)
    pool = bench.runtime._pools[spec.digest]
    assert pool._zygote is not None
    process = pool._zygote._process
    assert process is not None
    # The zygote and what wraps it are left, nothing else.
    await until(lambda: len(descendants()) <= bench.processes)
    assert process.pid in descendants()


@pytest.mark.parametrize("concurrency", [1, 4])
@pytest.mark.parametrize("kind", ["child", "orphan", "session", "unreaped"])
async def test_children_end_with_their_call(bench: Bench, kind: str, concurrency: int) -> None:
    source = """
        import os, time
        def f(kind):
            if os.fork() == 0:
                if kind == "unreaped":
                    os._exit(0)
                if kind == "session":
                    os.setsid()
                if kind in ("orphan", "session") and os.fork():
                    os._exit(0)
                time.sleep(600)
                os._exit(0)
            if kind in ("orphan", "session"):
                os.wait()
            return os.getpid()
    """
    spec = bench.deploy(source, concurrency=concurrency)
    # Its answer is the proof: nobody is left by then, so the same worker goes on, however often.
    workers = {await bench.call(spec, kind) for _ in range(20)}
    assert len(workers) == 1
    assert len(descendants()) == bench.processes + 1


async def test_a_child_that_comes_back_answers_nothing(bench: Bench) -> None:
    source = """
        import os
        def f(x):
            if os.fork():
                os.wait()
                return x
            return "child"
    """
    spec = bench.deploy(source)
    assert [await bench.call(spec, x) for x in range(5)] == list(range(5))


async def test_children_that_breed_end_their_worker(bench: Bench) -> None:
    source = """
        import os
        def f(breed):
            if breed and os.fork() == 0:
                while True:  # each lives only to start the next
                    try:
                        if os.fork():
                            os._exit(0)
                    except OSError:
                        pass
            return "fine"
    """
    spec = bench.deploy(source)
    with contextlib.suppress(WorkerDied):  # whoever is faster
        assert await bench.call(spec, 1) == "fine"
    assert await bench.call(spec, 0) == "fine"
    await until(lambda: len(descendants()) <= bench.processes + 1)


async def test_what_ran_beside_a_call_is_left_alone(bench: Bench) -> None:
    source = """
        import subprocess, time
        def f(seconds):
            return subprocess.run(["sleep", str(seconds)]).returncode
    """
    spec = bench.deploy(source, concurrency=4, max=1)
    long = asyncio.ensure_future(bench.call(spec, 0.5))
    await until(lambda: bench.runtime.here(spec).in_flight == 1)
    assert await bench.call(spec, 0) == 0
    assert await long == 0


@pytest.mark.parametrize("sandbox", ["auto", "off"])
async def test_closing_leaves_no_process(new_runtime: Callable[..., Runtime], tmp_path: Path, sandbox: str) -> None:
    source = """
        import os, time
        def f(seconds):
            if os.fork() == 0:
                os.setsid()
                if os.fork() == 0:
                    os.setsid()
                time.sleep(600)
            time.sleep(seconds)
    """
    async with new_runtime(sandbox=sandbox) as runtime:
        bench = Bench(tmp_path, runtime)
        spec = bench.deploy(source)
        task = asyncio.ensure_future(bench.call(spec, 600))
        await until(lambda: runtime.here(spec).in_flight == 1)
        await until(lambda: len(descendants()) >= bench.processes + 3)
        witness = Witness()
        await runtime.close()
        await witness.all_end()
        with pytest.raises(WorkerDied):
            await task
    assert not (tmp_path / "home" / "run" / "functions").exists()


async def test_a_killed_zygote_takes_its_workers_and_is_replaced(bench: Bench) -> None:
    spec = bench.deploy("import time\ndef f(s):\n    time.sleep(s)\n    return 1\n")
    task = asyncio.ensure_future(bench.call(spec, 600))
    await until(lambda: bench.runtime.here(spec).in_flight == 1)
    zygote = bench.runtime._pools[spec.digest]._zygote
    assert zygote is not None
    assert zygote._process is not None
    witness = Witness()
    zygote._process.kill()
    with pytest.raises(WorkerDied):
        await task
    await witness.all_end()
    assert await bench.call(spec, 0) == 1


async def test_a_worker_that_stops_its_own_parent_is_ended_all_the_same(bench: Bench) -> None:
    source = """
        import os, signal, time
        def f(stop):
            if stop:
                os.kill(os.getppid(), signal.SIGSTOP)
                time.sleep(600)
            return 1
    """
    spec = bench.deploy(source)
    await bench.call(spec, 0)
    witness = Witness()
    with pytest.raises(DeadlineExceeded):
        await bench.call(spec, 1, within=0.3)
    await witness.all_end()
    assert await bench.call(spec, 0) == 1


async def test_what_was_published_decides(bench: Bench) -> None:
    spec = bench.deploy("def f(): ...\n", network=True)
    with pytest.raises(UsageError, match="published as something else"):
        await bench.call(replace(spec, network=False))


async def test_a_call_too_large_for_the_memory(bench: Bench) -> None:
    spec = bench.deploy("def f(data):\n    return len(data)\n", memory="16MiB")
    with pytest.raises(LimitExceeded) as caught:
        await bench.call(spec, bytes(100 << 20))
    assert caught.value.details["limit"] == "memory"
    assert await bench.call(spec, bytes(1 << 20)) == 1 << 20


async def test_a_warm_call_needs_no_task(bench: Bench) -> None:
    spec = bench.deploy("def f(x):\n    return x\n", max=1)
    answers: list[object] = []
    body = pack([[7], {}])
    assert bench.runtime.begin_warm(spec, body, answers.append, deadline=None) is None
    await bench.call(spec, 1)
    run = bench.runtime.begin_warm(spec, body, answers.append, deadline=None)
    assert run is not None
    assert bench.runtime.begin_warm(spec, body, answers.append, deadline=None) is None  # it is busy
    await until(lambda: answers)
    assert answers == [pack(7)]
    run.cancel()  # too late: nothing happens
    assert await bench.call(spec, 2) == 2


async def test_each_worker_has_a_folder_of_its_own(bench: Bench) -> None:
    source = """
        import os, tempfile
        def f(leave):
            with open("note", "w") as file:
                file.write("x")
            assert tempfile.gettempdir() == os.getcwd()
            if leave:
                os._exit(0)
            return os.getcwd()
    """
    spec = bench.deploy(source)
    first = await bench.call(spec, 0)
    with pytest.raises(WorkerDied):
        await bench.call(spec, 1)
    assert await bench.call(spec, 0) != first


async def test_idle_instances_stop(bench: Bench) -> None:
    spec = bench.deploy("def f(): ...\n", idle="20ms")
    await bench.call(spec)
    await until(lambda: bench.runtime.here(spec).instances == 0)
    assert bench.runtime.loads() == {}
    await bench.call(spec)


async def test_wanted_instances_are_kept(bench: Bench) -> None:
    spec = bench.deploy("import os\ndef f():\n    os._exit(1)\n", idle="20ms")
    bench.runtime.reconcile({spec.digest: 2})
    await until(lambda: bench.runtime.here(spec).instances == 2)
    with pytest.raises(WorkerDied):
        await bench.call(spec)
    await until(lambda: bench.runtime.here(spec).instances == 2)
    assert bench.runtime.specs() == {spec.digest: spec}
    assert bench.runtime.loads()[spec.digest].instances == 2
    bench.runtime.reconcile({})
    await until(lambda: bench.runtime.here(spec).instances == 0)


async def test_draining(bench: Bench) -> None:
    spec = bench.deploy("import time\ndef f(s):\n    time.sleep(s)\n    return s\n")
    task = asyncio.ensure_future(bench.call(spec, 0.3))
    await until(lambda: bench.runtime.here(spec).in_flight == 1)
    drained = asyncio.ensure_future(bench.runtime.drain(time.monotonic() + 20))
    await asyncio.sleep(0)
    with pytest.raises(Overloaded, match="draining"):
        await bench.call(spec, 0)
    assert await drained
    assert await task == 0.3


async def test_a_drain_has_a_deadline(bench: Bench) -> None:
    spec = bench.deploy("import time\ndef f():\n    time.sleep(600)\n")
    task = asyncio.ensure_future(bench.call(spec))
    await until(lambda: bench.runtime.here(spec).in_flight == 1)
    assert not await bench.runtime.drain(time.monotonic() + 0.1)
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


async def test_a_bundle_nobody_has(bench: Bench) -> None:
    spec = bench.deploy("def f(): ...\n")
    bench.runtime.library.remove(spec.digest)
    with pytest.raises(NotFound):
        await bench.call(spec)


# calls of a function's own


async def test_a_function_calls_a_function(tmp_path: Path) -> None:
    router = Router()
    seen: list[Request] = []

    async def call(request: Request) -> bytes:
        seen.append(request)
        resume = runtime.pause(request.caller)
        try:
            return await runtime.run(spec, pack([[request.headers["name"]], {}]), deadline=None, headers={"depth": 1})
        finally:
            resume()

    router.unary("call", call, allow=Audience.FUNCTION)
    async with make_runtime(tmp_path, router) as runtime:
        bench = Bench(tmp_path, runtime)
        source = """
            import os
            from osiris_mesh.codec import unpack
            from osiris_sdk.inside import current
            def f(x):
                if x == "outer":
                    from osiris_sdk.inside import _current
                    link = _current.get().link
                    answer = link.call("call", b"", timeout=20, headers={"name": "inner"})
                    return ["outer", *unpack(answer)]
                return [x, os.getpid()]
        """
        spec = bench.deploy(source, max=1)
        outer, inner, _ = await bench.call(spec, "outer")
        assert (outer, inner) == ("outer", "inner")
    (request,) = seen
    assert request.caller.audience is Audience.FUNCTION
    assert request.caller.name.startswith("fn/f@0.1.0#")


async def test_a_function_reaches_nothing_else(bench: Bench) -> None:
    source = """
        def f(method):
            from osiris_sdk.inside import _current
            _current.get().link.call(method, b"", timeout=5)
    """
    spec = bench.deploy(source)
    for method in ("node.stop", "library.get", "call.run"):
        with pytest.raises(FunctionError, match="Denied"):
            await bench.call(spec, method)


async def test_bytes_that_follow_no_protocol_end_the_worker(bench: Bench) -> None:
    source = """
        def f():
            from osiris_sdk.inside import _current
            _current.get().link._socket.send(b"\\xff" * 100)
            import time
            time.sleep(600)
    """
    with pytest.raises(WorkerDied):
        await bench.call(bench.deploy(source))


# deploy-time tests


async def test_mock_data(bench: Bench) -> None:
    source = """
        # /// script
        # [[tool.osiris.function.test]]
        # name = "sum"
        # args = [1]
        # kwargs = { b = 2 }
        # expect = 3
        # [[tool.osiris.function.test]]
        # args = ["x"]
        # raises = "TypeError"
        # [[tool.osiris.function.test]]
        # name = "wrong"
        # args = [1, 1]
        # expect = 3
        # [[tool.osiris.function.test]]
        # name = "dies"
        # args = [-1, 0]
        # expect = 3
        # ///
        import os
        def f(a, b=1):
            if a == -1:
                os._exit(1)
            return a + b
    """
    spec = bench.deploy(source)
    report = await bench.runtime.run_tests(spec.digest)
    assert not report.ok
    assert [(test.name, test.ok) for test in report.tests] == [
        ("sum", True),
        ("test 2", True),
        ("wrong", False),
        ("dies", False),
    ]
    assert (report.tests[2].expected, report.tests[2].got) == ("3", "2")
    assert "exit code 1" in report.tests[3].got


async def test_what_tests_start_never_counts_and_ends_with_them(bench: Bench) -> None:
    source = """
        # /// script
        # [[tool.osiris.function.test]]
        # args = []
        # expect = 1
        # ///
        import time
        def f():
            time.sleep(0.2)
            return 1
    """
    before = descendants()
    spec = bench.deploy(source)
    testing = asyncio.ensure_future(bench.runtime.run_tests(spec.digest))
    seen = 0
    while not testing.done():
        seen = max(seen, len(descendants() - before))
        assert (bench.runtime.loads(), bench.runtime.specs(), bench.runtime.pools()) == ({}, {}, ())
        await asyncio.sleep(0.01)
    assert testing.result().ok
    assert seen
    await until(lambda: not descendants() - before)


async def test_tests_given_up_leave_no_process(bench: Bench) -> None:
    source = """
        # /// script
        # [[tool.osiris.function.test]]
        # args = []
        # expect = 1
        # ///
        import time
        def f():
            time.sleep(60)
    """
    before = descendants()
    testing = asyncio.ensure_future(bench.runtime.run_tests(bench.deploy(source).digest))
    await until(lambda: bool(descendants() - before))
    testing.cancel()
    with pytest.raises(asyncio.CancelledError):
        await testing
    await until(lambda: not descendants() - before)


async def test_what_is_no_longer_published_ends_after_its_calls(bench: Bench) -> None:
    spec = bench.deploy("import time\ndef f(s):\n    time.sleep(s)\n    return s\n")
    kept = bench.deploy("def g():\n    return 1\n")
    assert await bench.call(kept) == 1
    before = descendants()
    under_way = asyncio.ensure_future(bench.call(spec, 0.3))
    await until(lambda: bench.runtime.here(spec).in_flight == 1)
    bench.runtime.reconcile({}, published={kept.digest})
    assert set(bench.runtime.loads()) == set(bench.runtime.specs()) == {kept.digest}
    assert await under_way == 0.3
    await until(lambda: not descendants() - before)
    assert bench.runtime.here(kept).instances == 1
    # Published again, it runs again.
    bench.runtime.reconcile({}, published={kept.digest, spec.digest})
    assert await bench.call(spec, 0) == 0


async def test_kits_of_earlier_releases_are_removed_at_start(tmp_path: Path) -> None:
    run = tmp_path / "home" / "run"
    for name in ("kit-0123456789abcdef", ".kit-0123456789abcdef.ffff"):
        (run / name / "osiris_mesh").mkdir(parents=True)
        (run / name / "osiris_mesh" / "x.py").write_text("")
    async with make_runtime(tmp_path):
        kits = [path.name for path in run.iterdir() if "kit-" in path.name]
    assert len(kits) == 1
    assert kits[0] != "kit-0123456789abcdef"


async def test_code_without_tests_is_at_least_imported(bench: Bench) -> None:
    assert (await bench.runtime.run_tests(bench.deploy("def f(): ...\n").digest)).ok
    with pytest.raises(FunctionError, match="ZeroDivisionError"):
        await bench.runtime.run_tests(bench.deploy("def f(): ...\n1 / 0\n").digest)


async def test_a_damaged_bundle_is_never_run(bench: Bench) -> None:
    spec = bench.deploy("def f(): ...\n")
    (path,) = (bench.folder / "home" / "library").glob(f"??/{spec.digest.hex()}")
    path.write_bytes(path.read_bytes().replace(b"def f", b"def g"))
    with pytest.raises((NotFound, RemoteProtocolError)):
        await bench.call(spec)
