"""The asyncio shell over real Unix sockets and socket pairs, on both loops."""

from __future__ import annotations

import asyncio
import logging
import os
import socket
import stat
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
import uvloop

from osiris_mesh.errors import (
    Conflict,
    DeadlineExceeded,
    Denied,
    FunctionError,
    InternalError,
    LocalProtocolError,
    OsirisError,
    Unavailable,
    UsageError,
)
from osiris_mesh.link import Audience, Caller, Link, Reply, Request, Router, Stream, UnixServer, connect_unix, link_over
from osiris_mesh.link import unix as unix_module

Run = Callable[[Callable[[Path], Coroutine[Any, Any, None]]], None]
LOCAL = Audience.LOCAL


@pytest.fixture(params=["asyncio", "uvloop"])
def run(request: pytest.FixtureRequest, tmp_path: Path) -> Run:
    factory = uvloop.new_event_loop if request.param == "uvloop" else asyncio.new_event_loop

    def runner(main: Callable[[Path], Coroutine[Any, Any, None]]) -> None:
        async def bounded() -> None:
            async with asyncio.timeout(20):
                await main(tmp_path / "s")

        with asyncio.Runner(loop_factory=factory) as each:
            each.run(bounded())

    return runner


async def echo(request: Request) -> bytes:
    return request.body


def serving(**handlers: Callable[[Request], Awaitable[bytes]]) -> Router:
    router = Router()
    for name, handler in handlers.items():
        router.unary(name, handler, allow=LOCAL)
    return router


@asynccontextmanager
async def linked(path: Path, router: Router) -> AsyncIterator[tuple[Link, UnixServer]]:
    async with UnixServer(path, router) as server:
        link = await connect_unix(path)
        try:
            yield link, server
        finally:
            await link.close()


def test_calls_of_every_size(run: Run) -> None:
    async def main(path: Path) -> None:
        async with linked(path, serving(echo=echo)) as (link, _):
            for size in (0, 1, 4096, 4097, 65_536, 65_537, 5_000_000):
                body = os.urandom(size)
                assert await link.call("echo", body, timeout=10) == body
            bodies = [b"%d" % number * 100 for number in range(300)]
            assert await asyncio.gather(*(link.call("echo", body, timeout=10) for body in bodies)) == bodies
            assert link.mux.idle
            assert link.mux.buffered == 0

    run(main)


def test_headers_deadline_and_caller_reach_the_handler(run: Run) -> None:
    seen: list[Request] = []

    async def note(request: Request) -> bytes:
        seen.append(request)
        return b""

    async def main(path: Path) -> None:
        async with linked(path, serving(note=note)) as (link, _):
            await link.call("note", b"", timeout=7, headers={"name": "a/b", "raw": b"\x00"})
            await link.call("note", b"", timeout=None)
        first, second = seen
        assert first.headers == {"name": "a/b", "raw": b"\x00"}
        assert first.deadline is not None
        assert 0 < first.deadline - time.monotonic() <= 7
        assert second.deadline is None
        assert first.caller == Caller(b"", "", LOCAL, f"uid:{os.geteuid()}")

    run(main)


def test_errors_arrive_as_the_same_class(run: Run, caplog: pytest.LogCaptureFixture) -> None:
    async def raises(request: Request) -> bytes:
        if request.body == b"function":
            raise FunctionError("it raised", type="ValueError", message="no", traceback="…")
        raise ZeroDivisionError

    async def wrong(request: Request) -> Any:
        return "text"

    async def main(path: Path) -> None:
        async with linked(path, serving(raises=raises, wrong=wrong)) as (link, _):
            with pytest.raises(FunctionError) as caught:
                await link.call("raises", b"function", timeout=5)
            assert (caught.value.type, caught.value.message) == ("ValueError", "no")
            for method in ("raises", "wrong"):
                with pytest.raises(InternalError, match="its log"):
                    await link.call(method, b"", timeout=5)

    with caplog.at_level(logging.ERROR, "osiris.link"):
        run(main)
    assert "ZeroDivisionError" in caplog.text


def test_everything_is_refused_that_was_not_allowed(run: Run) -> None:
    async def main(path: Path) -> None:
        router = serving(echo=echo)
        router.unary("members", echo, allow=Audience.MEMBER | Audience.CLIENT)
        async with linked(path, router) as (link, _):
            texts = []
            for method in ("members", "unheard-of"):
                with pytest.raises(Denied) as caught:
                    await link.call(method, b"", timeout=5)
                texts.append(caught.value.what.replace(method, "…"))
            # A stranger can't tell what exists from what does not.
            assert texts[0] == texts[1]
            assert await link.call("echo", b"x", timeout=5) == b"x"

    run(main)


def test_a_router_takes_a_method_once() -> None:
    router = serving(echo=echo)
    with pytest.raises(LocalProtocolError):
        router.unary("echo", echo, allow=LOCAL)
    with pytest.raises(LocalProtocolError):
        router.unary("m" * 129, echo, allow=LOCAL)
    assert router.methods() == {"echo": LOCAL}


def test_deadline_ends_the_call_here_and_the_handler_there(run: Run) -> None:
    ended = asyncio.Event()

    async def forever(request: Request) -> bytes:
        try:
            await asyncio.Event().wait()
        finally:
            ended.set()
        return b""

    async def main(path: Path) -> None:
        async with linked(path, serving(forever=forever, echo=echo)) as (link, _):
            with pytest.raises(DeadlineExceeded):
                await link.call("forever", b"", timeout=0.05)
            await ended.wait()
            with pytest.raises(DeadlineExceeded):
                await link.call("echo", b"", timeout=0)
            assert link.mux.idle

    run(main)


def test_the_server_keeps_the_deadline_by_itself(run: Run) -> None:
    cancelled: list[str] = []

    async def forever(request: Request) -> bytes:
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            cancelled.append(request.method)
            raise
        return b""

    async def main(path: Path) -> None:
        async with linked(path, serving(forever=forever)) as (link, _):
            # As a caller whose own clock stands still would: the header alone.
            with pytest.raises(DeadlineExceeded):
                await link.call("forever", b"", timeout=None, headers={"deadline_ms": 30})
            for wrong in (0, -1, "5", 1 << 60, True):
                with pytest.raises(UsageError):
                    await link.call("forever", b"", timeout=None, headers={"deadline_ms": wrong})
        assert cancelled == ["forever"]

    run(main)


def test_a_caller_that_gives_up_stops_the_handler(run: Run) -> None:
    async def main(path: Path) -> None:
        started, stopped = asyncio.Event(), asyncio.Event()

        async def forever(request: Request) -> bytes:
            started.set()
            try:
                await asyncio.Event().wait()
            finally:
                stopped.set()
            return b""

        async with linked(path, serving(forever=forever)) as (link, _):
            task = asyncio.create_task(link.call("forever", b"", timeout=None))
            await started.wait()
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            await stopped.wait()
            assert link.mux.idle

    run(main)


def test_direct_handlers_answer_fail_and_hear_of_cancellation(run: Run) -> None:
    async def main(path: Path) -> None:
        kept: list[Reply] = []
        cancelled = asyncio.Event()

        def direct(request: Request, reply: Reply) -> None:
            if request.body == b"now":
                reply.send(b"done")
            elif request.body == b"error":
                reply.fail(Conflict("no"))
            elif request.body == b"raise":
                raise UsageError("bad")
            elif request.body == b"defect":
                raise ZeroDivisionError
            else:
                reply.on_cancel(cancelled.set)
                kept.append(reply)

        router = Router()
        router.direct("d", direct, allow=LOCAL)
        async with linked(path, router) as (link, _):
            assert await link.call("d", b"now", timeout=5) == b"done"
            for body, kind in ((b"error", Conflict), (b"raise", UsageError), (b"defect", InternalError)):
                with pytest.raises(kind):
                    await link.call("d", body, timeout=5)
            with pytest.raises(DeadlineExceeded):
                await link.call("d", b"later", timeout=0.02)
            await cancelled.wait()
            kept[0].send(b"too late")
            assert await link.call("d", b"now", timeout=5) == b"done"

    run(main)


def test_begin_calls_back_exactly_once(run: Run) -> None:
    async def main(path: Path) -> None:
        async with linked(path, serving(echo=echo)) as (link, _):
            answers: asyncio.Queue[bytes | OsirisError] = asyncio.Queue()
            link.begin("echo", b"1", answers.put_nowait, timeout=5)
            link.begin("nothing", b"", answers.put_nowait, timeout=5)
            cancel = link.begin("echo", b"3", answers.put_nowait, timeout=5)
            cancel()
            cancel()
            got = [await answers.get(), await answers.get()]
            assert b"1" in got
            assert any(isinstance(answer, Denied) for answer in got)
            await link.call("echo", b"", timeout=5)
            assert answers.empty()

    run(main)


def test_streams_both_ways_with_backpressure(run: Run) -> None:
    async def main(path: Path) -> None:
        go = asyncio.Event()

        async def double(request: Request, stream: Stream) -> None:
            assert request.body == b"first"
            await go.wait()
            async for message in stream:
                await stream.send(message * 2)

        router = Router()
        router.streaming("double", double, allow=LOCAL)
        async with linked(path, router) as (link, _):
            stream = link.open("double", b"first")
            sent = 0

            async def produce() -> None:
                nonlocal sent
                for number in range(40):
                    await stream.send(bytes([number]) * 100_000)
                    sent += 1
                await stream.end()

            producer = asyncio.create_task(produce())
            # Nobody reads: the producer comes to a halt with a window and a buffer under way.
            before = -1
            while sent != before or sent == 0:
                before = sent
                await link.ping(timeout=5)
            assert sent < 20
            go.set()
            got = [message async for message in stream]
            await producer
            assert got == [bytes([number]) * 200_000 for number in range(40)]
            assert await stream.receive() is None

    run(main)


def test_a_stream_ends_with_the_error_of_its_handler_after_its_messages(run: Run) -> None:
    async def main(path: Path) -> None:
        async def fails(request: Request, stream: Stream) -> None:
            await stream.send(b"one")
            assert await stream.receive() == b"go"
            raise Conflict("two is missing")

        async def stops(request: Request, stream: Stream) -> None:
            await stream.send(b"enough")

        router = Router()
        router.streaming("fails", fails, allow=LOCAL)
        router.streaming("stops", stops, allow=LOCAL)
        async with linked(path, router) as (link, _):
            stream = link.open("fails")
            assert await stream.receive() == b"one"
            await stream.send(b"go")
            with pytest.raises(Conflict, match="two is missing"):
                await stream.receive()
            with pytest.raises(Conflict):
                await stream.send(b"x")
            # A handler that returns while we could still send: its messages, then the end, then no more sending.
            stream = link.open("stops")
            assert await stream.receive() == b"enough"
            assert await stream.receive() is None
            await link.ping(timeout=5)
            with pytest.raises(Unavailable):
                await stream.send(b"x")
            assert link.mux.idle

    run(main)


def test_stream_reset_reaches_the_handler_and_its_deadline_ends_it(run: Run) -> None:
    async def main(path: Path) -> None:
        cancelled: asyncio.Queue[str] = asyncio.Queue()

        async def waits(request: Request, stream: Stream) -> None:
            await stream.send(b"ready")
            try:
                await stream.receive()
            except (asyncio.CancelledError, OsirisError) as error:
                cancelled.put_nowait(type(error).__name__)
                raise

        router = Router()
        router.streaming("waits", waits, allow=LOCAL)
        async with linked(path, router) as (link, _):
            stream = link.open("waits")
            assert await stream.receive() == b"ready"
            stream.reset()
            await cancelled.get()
            stream = link.open("waits", timeout=0.1)
            assert await stream.receive() == b"ready"
            with pytest.raises(DeadlineExceeded):
                await stream.receive()
            await cancelled.get()

    run(main)


def test_a_lost_link_says_what_may_have_happened(run: Run) -> None:
    async def main(path: Path) -> None:
        async def forever(request: Request) -> bytes:
            await asyncio.Event().wait()
            return b""

        async def streams(request: Request, stream: Stream) -> None:
            await forever(request)

        router = serving(forever=forever)
        router.streaming("streams", streams, allow=LOCAL)
        async with linked(path, router) as (link, server):
            closed: list[Link] = []
            link.on_close(closed.append)
            task = asyncio.create_task(link.call("forever", b"", timeout=None))
            stream = link.open("streams")
            await link.ping(timeout=5)
            (remote,) = server.links
            remote.fail("test")
            for wait in (task, stream.receive()):
                with pytest.raises(Unavailable) as caught:
                    await wait
                assert caught.value.details["maybe"] is True
            assert link.closed
            assert closed == [link]
            with pytest.raises(Unavailable) as caught:
                await link.call("forever", b"", timeout=5)
            assert caught.value.details["maybe"] is False
            link.on_close(closed.append)
            assert closed == [link, link]

    run(main)


def test_what_was_never_written_surely_did_not_happen(run: Run) -> None:
    async def main(path: Path) -> None:
        async with linked(path, serving(echo=echo)) as (link, _):
            link.pause()
            task = asyncio.create_task(link.call("echo", b"", timeout=None))
            await asyncio.sleep(0)
            link.fail("test")
            with pytest.raises(Unavailable) as caught:
                await task
            assert caught.value.details["maybe"] is False

    run(main)


def test_both_ends_of_a_socket_pair_call_and_serve(run: Run) -> None:
    async def main(_: Path) -> None:
        async def name(request: Request) -> bytes:
            return request.caller.name.encode()

        router = Router()
        router.unary("name", name, allow=Audience.FUNCTION | LOCAL)
        near, far = socket.socketpair()
        one = await link_over(near, router, Caller(b"", "", Audience.FUNCTION, "worker"))
        two = await link_over(far, router, Caller(b"", "", LOCAL, "controller"))
        answers = await asyncio.gather(*(link.call("name", timeout=5) for link in (one, two) * 50))
        assert answers == [b"controller", b"worker"] * 50
        await one.close()
        with pytest.raises(Unavailable):
            await two.call("name", timeout=5)
        await two.close()

    run(main)


def test_close_lets_answers_out_first(run: Run) -> None:
    async def main(path: Path) -> None:
        async with UnixServer(path, serving(echo=echo)) as server:
            link = await connect_unix(path)
            task = asyncio.create_task(link.call("echo", bytes(2_000_000), timeout=5))
            await link.ping(timeout=5)
            while not task.done() and server.links:
                await link.ping(timeout=5)
            assert len(await task) == 2_000_000
            await asyncio.gather(link.close(), link.close())
            assert link.closed

    run(main)


# the socket file


def test_the_socket_is_for_its_owner_alone_and_goes_with_the_server(run: Run) -> None:
    async def main(path: Path) -> None:
        async with UnixServer(path, Router()):
            assert stat.S_IMODE(os.stat(path).st_mode) == 0o600  # noqa: PTH116 - a test may block
            with pytest.raises(Conflict, match="another process listens"):
                await UnixServer(path, Router()).start()
        assert not os.path.exists(path)  # noqa: ASYNC240, PTH110 - a test may block
        with pytest.raises(Unavailable, match="no controller answers"):
            await connect_unix(path)

    run(main)


def test_a_dead_socket_file_is_replaced(run: Run) -> None:
    async def main(path: Path) -> None:
        with socket.socket(socket.AF_UNIX) as dead:
            dead.bind(os.fspath(path))
        async with linked(path, serving(echo=echo)) as (link, _):
            assert await link.call("echo", b"x", timeout=5) == b"x"

    run(main)


def test_a_path_too_long_for_a_socket_is_said_clearly(run: Run) -> None:
    async def main(path: Path) -> None:
        with pytest.raises(UsageError, match="shorter path"):
            await UnixServer(path.with_name("x" * 120), Router()).start()

    run(main)


@pytest.mark.parametrize("uid", [12345, -1])
def test_another_user_is_refused(run: Run, monkeypatch: pytest.MonkeyPatch, uid: int) -> None:
    monkeypatch.setattr(unix_module, "peer_uid", lambda _: uid)

    async def main(path: Path) -> None:
        async with linked(path, serving(echo=echo)) as (link, server):
            with pytest.raises(Unavailable):
                await link.call("echo", b"x", timeout=5)
            assert not server.links

    run(main)


def test_the_system_names_the_user(tmp_path: Path) -> None:
    one, other = socket.socketpair()
    assert unix_module.peer_uid(one) == os.geteuid()
    one.close()
    other.close()


def test_connections_are_bounded(run: Run) -> None:
    async def main(path: Path) -> None:
        async with UnixServer(path, serving(echo=echo), max_links=2):
            links = [await connect_unix(path) for _ in range(3)]
            results = await asyncio.gather(
                *(link.call("echo", b"x", timeout=5) for link in links), return_exceptions=True
            )
            assert results.count(b"x") == 2
            assert sum(isinstance(result, Unavailable) for result in results) == 1
            await asyncio.gather(*(link.close() for link in links))

    run(main)
