"""The SDK for threads against a controller on a real Unix socket."""

from __future__ import annotations

import asyncio
import inspect
import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from hashlib import sha256
from pathlib import Path

import pytest

import osiris_sdk
from osiris_mesh.link import BlockingLink
from osiris_sdk import (
    DeadlineExceeded,
    FunctionError,
    Mesh,
    NotFound,
    Overloaded,
    Unavailable,
    UsageError,
    current,
    current_async,
)
from osiris_sdk.inside import serving
from osiris_sdk.target import HttpTarget, LocalTarget, read_target
from tests.sdk.nodes import Node


def test_calls(mesh: Mesh) -> None:
    assert mesh.call("math/add", 2, 3) == 5
    assert mesh.call("math/add", 2, b=5) == 7
    assert mesh.call_function("math/add", a=2) == 3
    assert mesh.call("math/add@1.0.0", 1) == 2


def test_every_argument_goes_to_the_function(node: Node, mesh: Mesh) -> None:
    node.publish("odd/names", lambda name, self, timeout, args: [name, self, timeout, args])
    assert mesh.call("odd/names", name=1, self=2, timeout=3, args=4) == [1, 2, 3, 4]
    assert mesh.call_function("odd/names", name=1, self=2, timeout=3, args=4) == [1, 2, 3, 4]


def test_a_wrong_argument_raises_before_anything_is_sent(node: Node, mesh: Mesh) -> None:
    mesh.call("math/add", 1)
    calls = node.seen.count("call")
    with pytest.raises(TypeError, match=r"add\(\) missing 1 required positional argument: 'a'"):
        mesh.call("math/add")
    with pytest.raises(TypeError, match=r"add\(\) argument 'a': expected int, got str"):
        mesh.call("math/add", "1")
    with pytest.raises(TypeError, match="got an unexpected keyword argument 'c'"):
        mesh.call("math/add", 1, c=2)
    assert node.seen.count("call") == calls


def test_an_exception_inside_arrives_as_one(mesh: Mesh) -> None:
    with pytest.raises(FunctionError) as caught:
        mesh.call("math/fail")
    assert (caught.value.type, caught.value.traceback) == ("ZeroDivisionError", "its own")
    assert "division" in caught.value.message
    assert mesh.call("math/add", 1) == 2


def test_an_unknown_name(mesh: Mesh) -> None:
    with pytest.raises(NotFound):
        mesh.call("math/none")
    with pytest.raises(NotFound):
        mesh.function("math/none")
    with pytest.raises(UsageError):
        mesh.call("not a name")


def test_a_timeout(node: Node, mesh: Mesh) -> None:
    async def slow() -> None:
        await node_event.wait()

    node_event = asyncio.Event()
    node.publish("slow/f", slow)
    began = time.monotonic()
    with pytest.raises(DeadlineExceeded):
        mesh.options(timeout=0.1).call("slow/f")
    assert time.monotonic() - began < 3
    assert mesh.call("math/add", 1) == 2


def test_details(mesh: Mesh) -> None:
    value, facts = mesh.detailed("math/add", [1], {"b": 2})
    assert value == 3
    assert facts["node"] == "me"
    assert facts["version"] == "1.0.0"
    assert facts["warm"] is True


def test_a_new_version_with_another_signature(node: Node, mesh: Mesh) -> None:
    assert mesh.call("math/add", 1) == 2
    node.publish("math/add", lambda a, b, c: a + b + c, "2.0.0")
    assert mesh.call("math/add", 1, 2, 3) == 6
    with pytest.raises(TypeError, match="missing 2 required positional arguments: 'b' and 'c'"):
        mesh.call("math/add", 1)
    assert mesh.options(version="1.0").resolve("math/add").version == "1.0.0"


def test_a_function_as_a_callable(mesh: Mesh) -> None:
    add = mesh.function("math/add")
    assert add(2, b=3) == 5
    assert str(inspect.signature(add)) == "(a: 'int', b: 'int' = Ellipsis)"
    assert add.__doc__ == "Add two numbers."
    assert add.__name__ == "add"
    with pytest.raises(TypeError):
        add()


def test_map_keeps_the_order(node: Node, mesh: Mesh) -> None:
    assert list(mesh.map("math/add", range(300), concurrency=16)) == list(range(1, 301))
    assert list(mesh.map("math/add", [])) == []
    with pytest.raises(UsageError):
        mesh.map("math/add", [1], concurrency=0)


def test_map_is_as_wide_as_it_says(node: Node, mesh: Mesh) -> None:
    under_way = most = 0

    async def wide(a: int) -> int:
        nonlocal under_way, most
        under_way += 1
        most = max(most, under_way)
        for _ in range(20):
            await asyncio.sleep(0)
        under_way -= 1
        return a

    node.publish("test/wide", wide)
    assert list(mesh.map("test/wide", range(40), concurrency=8)) == list(range(40))
    assert 2 <= most <= 8


def test_map_raises_when_the_turn_comes(node: Node, mesh: Mesh) -> None:
    node.publish("test/half", lambda a: 1 // (a - 2))
    results = mesh.map("test/half", range(5))
    assert [next(results), next(results)] == [-1, -1]
    with pytest.raises(FunctionError):
        next(results)
    assert mesh.call("math/add", 1) == 2
    with pytest.raises(TypeError):
        list(mesh.map("math/add", ["text"]))


def test_map_left_early_gives_the_rest_up(node: Node, mesh: Mesh) -> None:
    results: Iterator[int] = mesh.map("math/add", range(1000), concurrency=4)
    assert next(results) == 1
    results.close()  # type: ignore[attr-defined]
    assert node.seen.count("call") <= 5
    assert mesh.call("math/add", 1) == 2


def test_map_over_a_version_that_changes_underway(node: Node, mesh: Mesh) -> None:
    def items() -> Iterator[int]:
        for number in range(20):
            if number == 10:
                node.publish("math/add", lambda a, *, k=10: a + k, "2.0.0")
            yield number

    assert list(mesh.map("math/add", items(), concurrency=1)) == [*range(1, 11), *range(20, 30)]


def test_requests(mesh: Mesh) -> None:
    assert [item["name"] for item in mesh.list()] == ["math/add", "math/fail"]
    assert mesh.describe("math/add") == {"name": "math/add"}
    with pytest.raises(NotFound):
        mesh.describe("math/none")
    with pytest.raises(Overloaded) as caught:
        mesh.request("refuse")
    assert caught.value.details == {"retry_after_ms": 9}


def test_upload_and_logs(mesh: Mesh) -> None:
    data = os.urandom(1_500_000)
    assert mesh.upload(data) == sha256(data).digest()
    assert [line["text"] for line in mesh.logs("math/add", tail=3)] == ["line 0", "line 1", "line 2"]


def test_large_values(node: Node, mesh: Mesh) -> None:
    node.publish("test/echo", lambda data: data)
    data = os.urandom(5_000_000)
    assert mesh.call("test/echo", data) == data


def test_no_controller(tmp_path: Path) -> None:
    with pytest.raises(Unavailable) as caught:
        Mesh.connect(home=tmp_path)
    assert caught.value.fix == "start it with: osiris-mesh start"
    assert caught.value.details["maybe"] is False


def test_a_restarted_controller_is_found_again(node: Node, mesh: Mesh) -> None:
    assert mesh.call("math/add", 1) == 2
    node.stop()
    with pytest.raises(Unavailable):
        mesh.call("math/add", 1)
    node.start()
    assert mesh.call("math/add", 1) == 2
    assert list(mesh.map("math/add", [1, 2])) == [2, 3]
    node.stop()
    node.start()
    assert list(mesh.map("math/add", [1, 2])) == [2, 3]


def test_threads_share_one(mesh: Mesh) -> None:
    with ThreadPoolExecutor(8) as pool:
        assert list(pool.map(lambda number: mesh.call("math/add", number), range(400))) == list(range(1, 401))


def test_threads_meet_a_restart(node: Node, mesh: Mesh) -> None:
    def work(number: int) -> int:
        while True:
            try:
                return int(mesh.call("math/add", number))
            except Unavailable:
                threading.Event().wait(0.01)

    with ThreadPoolExecutor(4) as pool:
        first = pool.map(work, range(50))
        node.stop()
        node.start()
        assert list(first) == list(range(1, 51))


def test_a_forked_child_connects_anew(node: Node, mesh: Mesh) -> None:
    assert mesh.call("math/add", 1) == 2
    sys.stdout.flush()
    child = os.fork()
    if child == 0:
        code = 1
        try:
            code = 0 if mesh.call("math/add", 40) == 41 else 2
        finally:
            os._exit(code)
    assert mesh.call("math/add", 2) == 3
    _, status = os.waitpid(child, 0)
    assert os.waitstatus_to_exitcode(status) == 0
    assert mesh.call("math/add", 3) == 4


def test_closed_is_closed(node: Node) -> None:
    mesh = Mesh.connect(home=node.home.path)
    assert mesh.call("math/add", 1) == 2
    mesh.close()
    with pytest.raises(Unavailable):
        mesh.call("math/add", 1)
    mesh.close()


def test_targets(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("OSIRIS_HOME", str(tmp_path))
    assert read_target(None, None) == LocalTarget(tmp_path / "run" / "node.sock")
    assert read_target(tmp_path / "x", None) == read_target(None, str(tmp_path / "x"))
    with pytest.raises(UsageError, match="asks for an API token"):
        Mesh.connect("http://127.0.0.1:7480")
    with pytest.raises(UsageError, match="belongs to an address over HTTP"):
        Mesh.connect(home=tmp_path, token="osa1x")
    both = read_target(["http://127.0.0.1:7480", "https://mesh.example"], None, "osa1secret")
    assert isinstance(both, HttpTarget)
    assert [origin.url for origin in both.origins] == ["http://127.0.0.1:7480", "https://mesh.example:443"]
    assert "secret" not in repr(both)
    for url in (
        "http://mesh.example:7480",
        "http://127.0.0.1.example",
        "https://",
        "https://user@host",
        "https://host/path",
        "https://host:x",
    ):
        with pytest.raises(UsageError):
            read_target(url, None, "osa1x")
    with pytest.raises(UsageError):
        read_target("a", "b")
    with pytest.raises(UsageError):
        read_target([], None, "osa1x")
    assert "secret" not in repr(read_target("osm1secret", None))
    with pytest.raises(UsageError):
        Mesh.connect("osm1broken")


# --- inside a function ---------------------------------------------------------------------------------------------


def test_outside_there_is_no_current() -> None:
    with pytest.raises(UsageError) as caught:
        current()
    assert "Mesh.connect()" in caught.value.fix


def test_inside_calls_inherit_depth_and_deadline(node: Node) -> None:
    with BlockingLink.unix(node.home.socket) as link:
        with serving(link, depth=4, deadline=time.monotonic() + 2.0):
            assert current().call("math/add", 1) == 2
            assert current() is current()
        with pytest.raises(UsageError):
            current()
        run = node.runner.runs[-1]
        assert run["depth"] == 5
        assert run["deadline"] - time.monotonic() <= 2.0
        with serving(link, depth=0, deadline=time.monotonic() - 1), pytest.raises(DeadlineExceeded):
            current().call("math/add", 1)
        with serving(link, depth=0, deadline=None):
            current().close()
        assert not link.closed


async def test_inside_an_async_function_a_call_must_not_stop_the_loop(node: Node) -> None:
    with BlockingLink.unix(node.home.socket) as link, serving(link, depth=0, deadline=None):
        with pytest.raises(UsageError) as caught:
            current().call("math/add", 1)
        assert "await osiris_sdk.current_async().call" in caught.value.fix
        assert await asyncio.to_thread(current().call, "math/add", 1) == 2


# --- the package ---------------------------------------------------------------------------------------------------


def test_what_it_exports() -> None:
    for name in osiris_sdk.__all__:
        assert getattr(osiris_sdk, name) is not None
    assert sorted(osiris_sdk.__all__) == osiris_sdk.__all__
    with pytest.raises(AttributeError):
        _ = osiris_sdk.nothing


def test_importing_it_is_light() -> None:
    code = (
        "import sys, time; began = time.process_time(); import osiris_sdk; "
        "print(time.process_time() - began, *({'nacl', 'asyncio', 'aiohttp', 'typer'} & set(sys.modules)))"
    )
    best = 10.0
    for _ in range(5):
        words = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
        assert words[1:] == []
        best = min(best, float(words[0]))
    assert best < 0.1


def test_a_call_that_is_awaited_blocks_no_loop(node: Node) -> None:
    async def main(link: BlockingLink) -> None:
        with serving(link, depth=2, deadline=time.monotonic() + 20):
            mesh = current_async()
            assert mesh is current_async()
            answers = await asyncio.gather(*(mesh.call("math/add", number) for number in range(40)))
            assert answers == list(range(1, 41))
            assert [answer async for answer in mesh.map("math/add", range(9), concurrency=3)] == list(range(1, 10))
            with pytest.raises(FunctionError):
                await mesh.call("math/fail")
            with pytest.raises(TypeError):
                await mesh.call("math/add", "x")
            with pytest.raises(DeadlineExceeded):
                await mesh.options(timeout=0.05).call("math/sleep", 30)
            task = asyncio.ensure_future(mesh.call("math/sleep", 30))
            while "call" not in node.seen[-1:]:
                await asyncio.sleep(0.001)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            hanging = asyncio.ensure_future(mesh.call("math/sleep", 30))
            node.seen.clear()
            while "call" not in node.seen:
                await asyncio.sleep(0.001)
            await asyncio.to_thread(node.stop)
            with pytest.raises(Unavailable):
                await hanging
            with pytest.raises(Unavailable):
                await mesh.call("math/add", 1)

    async def sleep(seconds: int) -> None:
        await asyncio.sleep(seconds)

    node.publish("math/sleep", sleep)
    with BlockingLink.unix(node.home.socket) as link:
        asyncio.run(main(link))
        assert not link._attended
    with pytest.raises(UsageError):
        current_async()
