"""The blocking shell: against the asyncio server, against itself over a socket pair, from many threads."""

from __future__ import annotations

import asyncio
import os
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import uvloop

from osiris_mesh.errors import (
    Conflict,
    DeadlineExceeded,
    Denied,
    FunctionError,
    InternalError,
    OsirisError,
    Unavailable,
    UsageError,
)
from osiris_mesh.link import blocking
from osiris_mesh.link.aio import Link
from osiris_mesh.link.blocking import BlockingLink, BlockingStream
from osiris_mesh.link.request import Audience, Caller, Request
from osiris_mesh.link.router import Router
from osiris_mesh.link.stream import Stream
from osiris_mesh.link.unix import UnixServer, link_over

LOCAL = Audience.LOCAL


async def echo(request: Request) -> bytes:
    return request.body


async def slow(request: Request) -> bytes:
    await asyncio.sleep(float(request.body))
    return request.body


async def fails(request: Request) -> bytes:
    raise Conflict("it exists", fix="choose another", name="x")


async def double(request: Request, stream: Stream) -> None:
    async for message in stream:
        await stream.send(message * 2)


class Controller:
    """An asyncio server on a thread of its own."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.loop = uvloop.new_event_loop()
        self.router = Router()
        for name, handler in (("echo", echo), ("slow", slow), ("fails", fails)):
            self.router.unary(name, handler, allow=LOCAL)
        self.router.streaming("double", double, allow=LOCAL)
        self.server: UnixServer | None = None
        self.thread = threading.Thread(target=self.loop.run_forever)
        self.thread.start()
        self.do(self._start())

    async def _start(self) -> None:
        self.server = UnixServer(self.path, self.router)
        await self.server.start()

    def do(self, coroutine):
        return asyncio.run_coroutine_threadsafe(coroutine, self.loop).result(20)

    def link_over(self, connection: socket.socket) -> Link:
        return self.do(link_over(connection, self.router, Caller(b"", "", LOCAL, "worker")))

    def close(self) -> None:
        if self.server is not None:
            self.do(self.server.close())
        self.loop.call_soon_threadsafe(self.loop.stop)
        self.thread.join()
        self.loop.close()


@pytest.fixture
def controller(tmp_path: Path) -> Iterator[Controller]:
    controller = Controller(tmp_path / "s")
    yield controller
    controller.close()


def test_it_loads_neither_asyncio_nor_nacl() -> None:
    code = (
        "import sys; import osiris_mesh.link.mux, osiris_mesh.link.blocking; from osiris_mesh.link import BlockingLink;"
        "print([name for name in ('asyncio', 'nacl', 'ssl') if name in sys.modules])"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=30)
    assert result.stdout.strip() == "[]"


def test_calls_errors_and_large_bodies(controller: Controller) -> None:
    with BlockingLink.unix(controller.path) as link:
        for size in (0, 100, 65_536, 65_537, 3_000_000):
            body = os.urandom(size)
            assert link.call("echo", body, timeout=10) == body
        with pytest.raises(Conflict) as caught:
            link.call("fails", timeout=5)
        assert (caught.value.fix, caught.value.details) == ("choose another", {"name": "x"})
        with pytest.raises(Denied):
            link.call("nothing", timeout=5)
        with pytest.raises(UsageError):
            link.call("echo", timeout=5, headers={"x": "y" * 40_000})
        assert link.call("echo", b"after", timeout=None) == b"after"


@pytest.mark.parametrize("timeout", [0.05, 1.2])
def test_a_deadline_holds_on_both_ways_of_waiting(controller: Controller, timeout: float) -> None:
    with BlockingLink.unix(controller.path) as link:
        started = time.monotonic()
        with pytest.raises(DeadlineExceeded):
            link.call("slow", b"30", timeout=timeout)
        assert timeout <= time.monotonic() - started < timeout + 1
        assert link.call("echo", b"still", timeout=5) == b"still"
        with pytest.raises(DeadlineExceeded):
            link.call("echo", timeout=0)


def test_many_threads_share_one_link(controller: Controller) -> None:
    def work(number: int) -> None:
        for turn in range(60):
            body = b"%d.%d " % (number, turn) * (1 + 40_000 * (turn % 20 == number % 20))
            assert link.call("echo", body, timeout=20) == body

    with BlockingLink.unix(controller.path) as link, ThreadPoolExecutor(12) as pool:
        list(pool.map(work, range(12)))


def test_a_slow_call_in_one_thread_delays_no_other(controller: Controller) -> None:
    with BlockingLink.unix(controller.path) as link, ThreadPoolExecutor(3) as pool:
        slow_one = pool.submit(link.call, "slow", b"0.5", timeout=10)
        quick = [pool.submit(link.call, "echo", b"%d" % number, timeout=10) for number in range(50)]
        assert [future.result() for future in quick] == [b"%d" % number for number in range(50)]
        assert not slow_one.done()
        assert slow_one.result() == b"0.5"


def test_several_calls_under_way_from_one_thread(controller: Controller) -> None:
    with BlockingLink.unix(controller.path) as link:
        streams = [link.open("echo", b"%d" % number, end=True, timeout=5) for number in range(20)]
        assert [stream.receive() for stream in streams] == [b"%d" % number for number in range(20)]


def test_streams(controller: Controller) -> None:
    with BlockingLink.unix(controller.path) as link:
        stream = link.open("double")
        for number in range(30):
            stream.send(bytes([number]) * 100_000)
            if number >= 5:
                assert stream.receive() == bytes([number - 5]) * 200_000
        stream.end()
        assert [message[0] for message in stream] == [25, 26, 27, 28, 29]
        assert stream.receive() is None

        stream = link.open("double")
        with pytest.raises(DeadlineExceeded):
            stream.receive(timeout=0.02)
        stream.send(b"x")
        assert stream.receive(timeout=5) == b"xx"
        stream.reset()
        with pytest.raises(Unavailable):
            stream.send(b"x")

        stream = link.open("double", timeout=0.05)
        with pytest.raises(DeadlineExceeded):
            stream.receive()
        assert link.call("echo", b"y", timeout=5) == b"y"


def test_a_stream_waits_for_who_does_not_read(controller: Controller) -> None:
    go = threading.Event()
    sent = 0

    async def hold(request: Request, stream: Stream) -> None:
        await asyncio.get_running_loop().run_in_executor(None, go.wait)
        total = 0
        async for message in stream:
            total += len(message)
        await stream.send(b"%d" % total)

    def produce() -> bytes | None:
        nonlocal sent
        stream = link.open("hold", timeout=30)
        for _ in range(60):
            stream.send(bytes(100_000))
            sent += 1
        stream.end()
        return stream.receive()

    controller.router.streaming("hold", hold, allow=LOCAL)
    with BlockingLink.unix(controller.path) as link, ThreadPoolExecutor(1) as pool:
        future = pool.submit(produce)
        before = -1
        while sent != before or sent == 0:
            before = sent
            for _ in range(20):
                link.call("echo", b"", timeout=10)
        # A window and 256 KiB: the rest waits with the producer, while other calls on the link go on.
        assert 10 <= sent <= 15
        go.set()
        assert future.result(30) == b"6000000"


def test_a_lost_controller_is_noticed_before_anything_is_sent(controller: Controller) -> None:
    link = BlockingLink.unix(controller.path)
    waiting = BlockingLink.unix(controller.path)
    with ThreadPoolExecutor(1) as pool:
        in_flight = pool.submit(waiting.call, "slow", b"30", timeout=None)
        assert link.call("echo", b"", timeout=5) == b""
        while controller.do(_streams(controller)) == 0:
            pass
        assert controller.server is not None
        controller.do(controller.server.close())
        error = in_flight.exception(10)
        assert isinstance(error, Unavailable)
        assert error.details["maybe"] is True
    with pytest.raises(Unavailable) as caught:
        link.call("echo", b"", timeout=5)
    assert caught.value.details["maybe"] is False
    assert link.closed
    with pytest.raises(Unavailable, match="no controller answers"):
        BlockingLink.unix(controller.path)


async def _streams(controller: Controller) -> int:
    assert controller.server is not None
    return sum(len(link.mux.streams()) for link in controller.server.links)


def test_close_ends_what_other_threads_wait_for(controller: Controller) -> None:
    link = BlockingLink.unix(controller.path)
    with ThreadPoolExecutor(2) as pool:
        calls = [pool.submit(link.call, "slow", b"30", timeout=None) for _ in range(2)]
        while controller.do(_streams(controller)) < 2:
            pass
        link.close()
        for call in calls:
            assert isinstance(call.exception(10), Unavailable)
    link.close()


# serving: what a worker does


class Worker:
    """A worker's end on a thread; the controller's end is an asyncio link."""

    def __init__(self, controller: Controller, handler, threads: int = 1) -> None:
        near, far = socket.socketpair()
        self.controller = controller
        self.link = BlockingLink.over(far, name="controller", serving=True)
        self.threads = [threading.Thread(target=self.link.serve, args=(handler,)) for _ in range(threads)]
        for thread in self.threads:
            thread.start()
        self.remote = controller.link_over(near)

    def call(self, method: str, body: bytes = b"", timeout: float | None = 10) -> bytes:
        return self.controller.do(self.remote.call(method, body, timeout=timeout))

    def __enter__(self) -> Worker:
        return self

    def __exit__(self, *exc: object) -> None:
        self.controller.do(self.remote.close())
        for thread in self.threads:
            thread.join(10)
            assert not thread.is_alive()


def test_a_worker_serves_until_its_controller_leaves(controller: Controller) -> None:
    def handler(request: Request) -> bytes:
        if request.body == b"function":
            raise FunctionError("raised", type="KeyError")
        if request.body == b"defect":
            raise ZeroDivisionError
        assert request.deadline is not None
        return request.method.encode() + request.body

    with Worker(controller, handler) as worker:
        assert worker.call("run", b"1") == b"run1"
        with pytest.raises(FunctionError):
            worker.call("run", b"function")
        with pytest.raises(InternalError):
            worker.call("run", b"defect")
        assert worker.call("run", bytes(2_000_000)) == b"run" + bytes(2_000_000)


def test_a_handler_calls_out_on_the_same_link_and_opens_meanwhile_wait(controller: Controller) -> None:
    order: list[bytes] = []

    def handler(request: Request) -> bytes:
        order.append(b"begin " + request.body)
        answer = worker.link.call("slow", b"0.05", timeout=5) + worker.link.call("echo", request.body, timeout=5)
        order.append(b"end " + request.body)
        return answer

    async def three() -> list[bytes]:
        return await asyncio.gather(*(worker.remote.call("run", b"%d" % n, timeout=10) for n in range(3)))

    with Worker(controller, handler) as worker:
        assert controller.do(three()) == [b"0.050", b"0.051", b"0.052"]
    assert order == [word + b" %d" % number for number in range(3) for word in (b"begin", b"end")]


def test_several_threads_serve_one_link(controller: Controller) -> None:
    barrier = threading.Barrier(3)

    def handler(request: Request) -> bytes:
        barrier.wait(10)
        return worker.link.call("echo", request.body, timeout=5)

    async def three() -> list[bytes]:
        return await asyncio.gather(*(worker.remote.call("run", b"%d" % n, timeout=10) for n in range(3)))

    with Worker(controller, handler, threads=3) as worker:
        for _ in range(5):
            assert controller.do(three()) == [b"0", b"1", b"2"]


@pytest.mark.parametrize("threads", [2, 16])
def test_calls_that_wait_for_each_other_all_run(controller: Controller, threads: int) -> None:
    """Acceptors are woken one after the other; if one was forgotten, the barrier would break."""
    theirs, ours = socket.socketpair()
    link = controller.link_over(ours)
    worker = BlockingLink.over(theirs, serving=True)
    for _ in range(20):
        meeting = threading.Barrier(threads, timeout=10)
        waiting = [threading.Thread(target=_meet, args=(worker, meeting)) for _ in range(threads)]
        for thread in waiting:
            thread.start()

        async def all_at_once() -> list[bytes]:
            return await asyncio.gather(*(link.call("run", b"%d" % number, timeout=10) for number in range(threads)))

        assert controller.do(all_at_once()) == [b"%d" % number for number in range(threads)]
        for thread in waiting:
            thread.join(10)
    worker.close()


def _meet(worker: BlockingLink, meeting: threading.Barrier) -> None:
    request, stream = worker.accept(timeout=10)
    meeting.wait()
    stream.send(request.body, end=True)


def test_one_call_wakes_one_thread(controller: Controller, monkeypatch: pytest.MonkeyPatch) -> None:
    theirs, ours = socket.socketpair()
    link = controller.link_over(ours)
    worker = BlockingLink.over(theirs, serving=True)
    woken: list[blocking._Waiter] = []
    plain = blocking._Waiter.set
    serving = [threading.Thread(target=worker.serve, args=(lambda request: request.body,)) for _ in range(16)]
    for thread in serving:
        thread.start()
    deadline = time.monotonic() + 10
    while len(worker._acceptors) < 15:
        assert time.monotonic() < deadline
    monkeypatch.setattr(blocking._Waiter, "set", lambda waiter: (woken.append(waiter), plain(waiter)))
    assert controller.do(link.call("run", b"x", timeout=10)) == b"x"
    assert len(woken) <= 2  # one reads on; the one that answered may have met it on its way back
    worker.close()
    for thread in serving:
        thread.join(10)
        assert not thread.is_alive()


def test_a_queued_call_that_was_given_up_is_never_handled(controller: Controller) -> None:
    handled: list[bytes] = []
    release = threading.Event()

    def handler(request: Request) -> bytes:
        handled.append(request.body)
        release.wait(10)
        # Calling out reads what came meanwhile: the second call, and that it was given up.
        return worker.link.call("echo", request.body, timeout=5)

    async def first_and_second() -> bytes:
        first = asyncio.ensure_future(worker.remote.call("run", b"first", timeout=10))
        await asyncio.sleep(0)
        with pytest.raises(DeadlineExceeded):
            await worker.remote.call("run", b"second", timeout=0.1)
        release.set()
        return await first

    with Worker(controller, handler) as worker:
        assert controller.do(first_and_second()) == b"first"
        assert worker.call("run", b"third") == b"third"
    assert handled == [b"first", b"third"]


def test_a_link_that_does_not_serve_refuses_and_lives(controller: Controller) -> None:
    near, far = socket.socketpair()
    with BlockingLink.over(far) as link:
        remote = controller.link_over(near)

        async def refused() -> str:
            stream = remote.open("run", b"x")
            await stream.send(b"in the same breath")
            try:
                await stream.receive()
            except OsirisError as error:
                return type(error).__name__
            return ""

        with ThreadPoolExecutor(1) as pool:
            future = pool.submit(controller.do, refused())
            while not future.done():
                assert link.call("echo", b"x", timeout=5) == b"x"
            assert future.result() == "Denied"


def test_a_worker_streams(controller: Controller) -> None:
    near, far = socket.socketpair()
    link = BlockingLink.over(far, serving=True)
    remote = controller.link_over(near)

    def work() -> None:
        request, stream = link.accept(10)
        assert isinstance(stream, BlockingStream)
        for number in range(int(request.body)):
            stream.send(b"%d" % number)
        stream.end()

    async def collect() -> list[bytes]:
        stream = remote.open("count", b"5")
        return [message async for message in stream]

    with ThreadPoolExecutor(1) as pool:
        done = pool.submit(work)
        assert controller.do(collect()) == [b"0", b"1", b"2", b"3", b"4"]
        done.result(10)
    with pytest.raises(DeadlineExceeded):
        link.accept(0.02)
    link.close()


def test_two_blocking_ends_that_both_send_much_do_not_wait_for_each_other() -> None:
    near, far = socket.socketpair()
    one, other = BlockingLink.over(near, serving=True), BlockingLink.over(far, serving=True)
    big = os.urandom(900_000)

    def handler(request: Request) -> bytes:
        return request.body

    servers = [threading.Thread(target=link.serve, args=(handler,)) for link in (one, other)]
    for server in servers:
        server.start()
    with ThreadPoolExecutor(4) as pool:
        futures = [pool.submit(link.call, "echo", big, timeout=30) for link in (one, other) * 6]
        assert all(future.result() == big for future in futures)
    one.close()
    for server in servers:
        server.join(10)
        assert not server.is_alive()
    other.close()


def test_a_peer_that_breaks_the_protocol_is_cut() -> None:
    near, far = socket.socketpair()
    with far:
        link = BlockingLink.over(near)
        far.sendall(b"\xff\xff\xff\xff garbage")
        with pytest.raises(Unavailable, match="outside 1 to"):
            link.call("echo", timeout=5)
        assert link.closed
