"""A worker's life: answer calls on the inherited socket until it closes."""

from __future__ import annotations

import socket
import threading
from collections.abc import Awaitable
from typing import Any

from osiris_mesh.errors import OsirisError, Unavailable, UsageError
from osiris_mesh.link.blocking import BlockingLink, BlockingStream
from osiris_mesh.link.request import Request
from osiris_mesh.runtime.worker.answer import Answers

__all__ = ["serve"]


def serve(connection: socket.socket, answers: Answers, concurrency: int) -> None:
    """Serve until the controller closes the socket.

    One call at a time runs in this very thread, which also reads the socket: the fastest way. More at a time run in
    threads, or, for an ``async def``, on one loop.

    Args:
        connection: This worker's end of the socket pair.
        answers: What answers a call.
        concurrency: Calls at a time.
    """
    link = BlockingLink.over(connection, serving=True)
    answers.link = link
    if concurrency == 1:
        waiting = _Waiting()
        link.serve(lambda request: answers(_checked(request), waiting))
    elif answers.is_async:
        _serve_on_loop(link, answers)
    else:
        threads = [
            threading.Thread(target=_serve_in_thread, args=(link, answers), name=f"call-{number}", daemon=True)
            for number in range(concurrency)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()


def _checked(request: Request) -> Request:
    if request.method != "run":
        raise UsageError(f"a worker serves 'run', not {request.method!r}")
    return request


class _Waiting:
    """Runs awaitables on a loop of its own, made when first needed."""

    def __init__(self) -> None:
        self._loop: Any = None

    def __call__(self, awaitable: Awaitable[Any]) -> Any:
        if self._loop is None:
            import asyncio  # noqa: PLC0415 - most functions never need it, and it is half of a small worker

            self._loop = asyncio.new_event_loop()
            asyncio.set_event_loop(self._loop)
        return self._loop.run_until_complete(awaitable)


def _serve_in_thread(link: BlockingLink, answers: Answers) -> None:
    waiting = _Waiting()
    link.serve(lambda request: answers(_checked(request), waiting))


def _serve_on_loop(link: BlockingLink, answers: Answers) -> None:
    import asyncio  # noqa: PLC0415 - as above

    loop = asyncio.new_event_loop()
    running: set[asyncio.Task[None]] = set()

    async def answer(request: Request, stream: BlockingStream) -> None:
        try:
            stream.send(await answers.on_loop(_checked(request)), end=True)
        except OsirisError as error:
            stream.reset(error)

    def begin(request: Request, stream: BlockingStream) -> None:
        task = loop.create_task(answer(request, stream))
        running.add(task)
        task.add_done_callback(running.discard)

    def read() -> None:
        while True:
            try:
                request, stream = link.accept()
            except Unavailable:
                loop.call_soon_threadsafe(loop.stop)
                return
            loop.call_soon_threadsafe(begin, request, stream)

    asyncio.set_event_loop(loop)
    threading.Thread(target=read, name="link", daemon=True).start()
    loop.run_forever()
