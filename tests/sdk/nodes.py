"""A small controller for the SDK to talk to: a real Unix socket, a real Invoker, Python callables for functions."""

from __future__ import annotations

import asyncio
import hashlib
import inspect
import random
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

from osiris_mesh.clock import SYSTEM
from osiris_mesh.codec import pack, unpack
from osiris_mesh.errors import NotFound, Overloaded
from osiris_mesh.function.signature import Parameter, Signature
from osiris_mesh.identity.home import Home
from osiris_mesh.invoke.invoker import Invoker
from osiris_mesh.link import Audience, Request, Router, Stream, UnixServer
from osiris_mesh.settings.invoke import InvokeSettings
from tests.invoke.fakes import FakeLedger, FakePeers, FakeRunner, spec


def signature_of(function: Callable[..., Any]) -> Signature:
    """Return a callable's signature, as the syntax tree would have given it."""
    found = inspect.signature(function)
    empty = inspect.Parameter.empty
    return Signature(
        tuple(
            Parameter(
                item.name,
                int(item.kind),
                item.default is not empty,
                "" if item.annotation is empty else str(item.annotation),
            )
            for item in found.parameters.values()
        ),
        name=function.__name__,
    )


class Node:
    """One controller in a thread of its own.

    Attributes:
        seen: Names of all methods called.
        ledger: Its functions.
        runner: What runs them.
    """

    def __init__(self, home: Path) -> None:
        self.home = Home(home)
        self.home.make()
        self.seen: list[str] = []
        self.ledger = FakeLedger()
        self.runner = FakeRunner()
        self.peers = FakePeers()
        self.router = Router()
        self.invoker = Invoker(
            me="me",
            ledger=self.ledger,
            runner=self.runner,
            peers=self.peers,
            settings=InvokeSettings(),
            clock=SYSTEM,
            rng=random.Random(1),
        )
        self.invoker.register(self.router)
        self.router.unary("function.list", self._list, allow=Audience.LOCAL)
        self.router.unary("function.describe", self._describe, allow=Audience.LOCAL)
        self.router.unary("refuse", self._refuse, allow=Audience.LOCAL)
        self.router.streaming("library.put", self._put, allow=Audience.LOCAL)
        self.router.streaming("function.logs", self._logs, allow=Audience.LOCAL)
        self._count()
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._thread.start()
        self._server: UnixServer | None = None

    def _count(self) -> None:
        get = self.router.get

        def counted(method: str) -> Any:
            self.seen.append(method)
            return get(method)

        self.router.get = counted  # type: ignore[method-assign]

    def publish(self, name: str, function: Callable[..., Any], version: str = "1.0.0", **fields: Any) -> None:
        self.ledger.publish(spec(name, version, signature_of(function), **fields))
        self.runner.code[name] = function

    def do(self, coroutine: Any) -> Any:
        return asyncio.run_coroutine_threadsafe(coroutine, self._loop).result(10)

    def start(self) -> None:
        self._server = UnixServer(self.home.socket, self.router)
        self.do(self._server.start())

    def stop(self) -> None:
        if self._server is not None:
            self.do(self._close(self._server))
            self._server = None

    def close(self) -> None:
        self.stop()
        self.do(self.invoker.close())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(10)
        self._loop.close()

    @staticmethod
    async def _close(server: UnixServer) -> None:
        await server.close()
        # A connection that was just being accepted comes to light a little later.
        for _ in range(10):
            await asyncio.sleep(0)
            for link in list(server.links):
                await link.close()

    async def _list(self, _request: Request) -> bytes:
        return pack({"functions": [{"name": name} for name in sorted(self.ledger.functions)]})

    async def _describe(self, request: Request) -> bytes:
        name = unpack(request.body)["name"]
        if name not in self.ledger.functions:
            raise NotFound(f"no function is called {name}")
        return pack({"name": name})

    async def _refuse(self, _request: Request) -> bytes:
        raise Overloaded("not now", retry_after_ms=9)

    async def _put(self, request: Request, stream: Stream) -> None:
        data = bytearray(request.body)
        while (piece := await stream.receive()) is not None:
            data += piece
        await stream.send(pack({"digest": hashlib.sha256(data).digest()}))

    async def _logs(self, request: Request, stream: Stream) -> None:
        body = unpack(request.body)
        for number in range(body["tail"]):
            await stream.send(pack({"name": body["name"], "text": f"line {number}"}))
