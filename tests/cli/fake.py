"""A stand-in for a controller: real frames over a real Unix socket, answers from a table."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from hashlib import sha256
from types import TracebackType
from typing import Any, Self

from osiris_mesh.codec import VALUE, pack, unpack
from osiris_mesh.errors import NotFound
from osiris_mesh.identity.home import Home
from osiris_mesh.identity.keys import KeyPair
from osiris_mesh.link import Audience, Request, Router, Stream, UnixServer
from osiris_mesh.node.options import MeshFile

Answer = Callable[[dict[str, Any]], dict[str, Any]]
MESH_ID = bytes(range(16))


class FakeController:
    """Serves ``methods`` on the socket of ``home`` from a thread; remembers what was asked.

    Args:
        home: A home; keys and a mesh file are made in it.
        methods: Answers by control method.
        call: Answers ``call``: from (name, args, kwargs) to (result, details).
        logs: What ``function.logs`` sends.
    """

    def __init__(
        self,
        home: Home,
        methods: dict[str, Answer],
        *,
        functions: dict[str, dict[str, Any]] | None = None,
        call: Callable[[str, list[Any], dict[str, Any]], tuple[Any, dict[str, Any]]] | None = None,
        logs: list[dict[str, Any]] | None = None,
    ) -> None:
        self.asked: list[tuple[str, dict[str, Any]]] = []
        self.uploaded: list[bytes] = []
        self._home = home
        self._methods = methods
        self._functions = functions or {}
        self._call = call
        self._logs = logs or []
        self._loop = asyncio.new_event_loop()
        self._ready = threading.Event()
        self._stop = asyncio.Event()
        self._thread = threading.Thread(target=self._run, name="fake controller")
        home.make()
        for path in (home.node_key, home.user_key):
            KeyPair.generate().save(path)
        MeshFile(MESH_ID, "fake", founder=True).save(home)

    def __enter__(self) -> Self:
        self._thread.start()
        assert self._ready.wait(10)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._loop.call_soon_threadsafe(self._stop.set)
        self._thread.join(10)
        self._loop.close()

    def _run(self) -> None:
        self._loop.run_until_complete(self._serve())

    async def _serve(self) -> None:
        router = Router()
        for name, answer in self._methods.items():
            router.unary(name, self._handler(name, answer), allow=Audience.LOCAL)
        router.unary("resolve", self._resolve, allow=Audience.LOCAL)
        router.unary("call", self._called, allow=Audience.LOCAL)
        router.streaming("library.put", self._put, allow=Audience.LOCAL)
        router.streaming("library.get", self._get, allow=Audience.LOCAL)
        router.streaming("function.logs", self._send_logs, allow=Audience.LOCAL)
        server = UnixServer(self._home.socket, router)
        async with server:
            self._ready.set()
            await self._stop.wait()
            for _ in range(20):
                # Somebody may have come and gone without a word; he is met before the door is closed.
                await asyncio.sleep(0)
            # Clients hung up before they were done with us; their transports are closed when the loop has read that.
            async with asyncio.timeout(5):
                while server.links:
                    await asyncio.sleep(0)
        for _ in range(20):
            # What a transport still has to say before it is closed is said in the loop's next rounds.
            await asyncio.sleep(0)

    def _handler(self, name: str, answer: Answer) -> Callable[[Request], Any]:
        async def handler(request: Request) -> bytes:
            body = unpack(request.body) if request.body else {}
            self.asked.append((name, body))
            return pack(answer(body))

        return handler

    async def _resolve(self, request: Request) -> bytes:
        name = unpack(request.body)["name"]
        if name not in self._functions:
            raise NotFound(f"there is no function {name}", fix="see what there is with: osiris-mesh list")
        return pack(self._functions[name])

    async def _called(self, request: Request) -> bytes:
        args, kwargs = unpack(request.body, VALUE)
        assert self._call is not None
        result, details = self._call(request.headers["name"], args, kwargs)
        packed = pack(result)
        return pack([details, packed]) if request.headers.get("details") else packed

    async def _put(self, request: Request, stream: Stream) -> None:
        data = request.body
        while (part := await stream.receive()) is not None:
            data += part
        self.uploaded.append(data)
        await stream.send(pack({"digest": sha256(data).digest()}))

    async def _get(self, request: Request, stream: Stream) -> None:
        wanted = unpack(request.body)["digest"]
        for data in self.uploaded:
            if sha256(data).digest() == wanted:
                await stream.send(data)
                return
        raise NotFound("no such bundle")

    async def _send_logs(self, request: Request, stream: Stream) -> None:
        self.asked.append(("function.logs", unpack(request.body)))
        for item in self._logs:
            await stream.send(pack(item))
