"""Hosts on loopback: a controller's routes without the controller, a static host, and one that says what it likes."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from types import SimpleNamespace
from typing import Any

import msgspec
from aiohttp import web
from aiohttp.web_request import BaseRequest

from osiris_mesh.errors import Denied, OsirisError
from osiris_mesh.gateway.http.problem import encode, status_of
from osiris_mesh.gateway.http.route import Ask, Output, Route, Table
from osiris_mesh.gateway.registry_files import LINES, TREE, RegistryFiles, TreeRoutes
from osiris_mesh.registry.listing import digest_of
from osiris_mesh.registry.tree_http import Batch, Taken

TOKEN = "a-token"


def routes(files: Callable[[Ask], RegistryFiles | None]) -> tuple[Route, ...]:
    tree = TreeRoutes(files)
    one = "One file of the registry."
    given = {"errors": (404,), "gives": (LINES,)}
    return (
        Route("PUT", TREE, "registry.publish", tree.put, Taken, "Publish.", Batch, errors=(409,)),
        Route("GET", TREE + "/{file}", "registry.read", tree.get, None, one, **given),
        Route("GET", TREE + "/ns/{vendor}/{file}", "registry.read", tree.get, None, one, **given),
        Route("GET", TREE + "/ns/{vendor}/{namespace}/{file}", "registry.read", tree.get, None, one, **given),
    )


class Controller:
    """Answers as a controller's server does, for these routes alone."""

    def __init__(self, files: RegistryFiles | None) -> None:
        self.table = Table(routes(lambda _: files))
        self.asked: list[tuple[str, str, int]] = []
        self.url = ""

    async def __call__(self, request: BaseRequest) -> web.Response:
        path = request.raw_path
        try:
            answer = await self._answer(request, path)
        except OsirisError as error:
            answer = Output(encode(error), "application/problem+json", status_of(error))
        self.asked.append((request.method, path.removeprefix(TREE).removeprefix("/"), answer.status))
        headers = {"Content-Type": answer.media, **dict(answer.headers)}
        return web.Response(body=answer.body, status=answer.status, headers=headers)

    async def _answer(self, request: BaseRequest, path: str) -> Output:
        route, names = self.table.find(request.method, path)
        if route.method == "PUT" and request.headers.get("Authorization") != f"Bearer {TOKEN}":
            raise Denied("you may not publish here")
        body: Any = None
        if route.body is not None:
            body = msgspec.json.decode(await request.content.read(), type=route.body)
        ask = Ask(SimpleNamespace(), SimpleNamespace(), names, None, body, "application/json", request, {})  # type: ignore[arg-type]
        answer = await route.handler(ask)
        return answer if isinstance(answer, Output) else Output(msgspec.json.encode(answer))


class StaticHost:
    """Serves bytes by path, as a host of web pages does."""

    def __init__(self, files: Mapping[str, bytes]) -> None:
        self.files = dict(files)
        self.asked: list[tuple[str, int]] = []
        self.headers: dict[str, str] = {}

    async def __call__(self, request: BaseRequest) -> web.Response:
        path = request.raw_path.removeprefix("/some/place/")
        data = self.files.get(path)
        if data is None:
            answer = web.Response(status=404, text="<h1>there is no such page</h1>")
        elif request.headers.get("If-None-Match") == (etag := f'"{digest_of(data)[:20]}"'):
            answer = web.Response(status=304, headers={"ETag": etag})
        else:
            answer = web.Response(body=data, headers={"ETag": etag})
        self.asked.append((path, answer.status))
        return answer


@asynccontextmanager
async def serving(
    handler: Callable[[BaseRequest], Awaitable[web.StreamResponse]], tls: ssl.SSLContext | None = None
) -> AsyncIterator[str]:
    """Serve on a port of the system's choice; yields the address."""
    server = web.Server(handler, access_log=None)  # type: ignore[arg-type]
    listening = await asyncio.get_running_loop().create_server(server, "127.0.0.1", 0, ssl=tls)
    port = listening.sockets[0].getsockname()[1]
    try:
        yield f"{'https' if tls else 'http'}://localhost:{port}"
    finally:
        listening.close()
        await server.shutdown(0.1)
        await listening.wait_closed()


@asynccontextmanager
async def saying(talk: Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]) -> AsyncIterator[str]:
    """Serve raw bytes: ``talk`` is called for each connection once its request's head was read."""
    tasks: set[asyncio.Task[None]] = set()

    async def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        tasks.add(task)
        try:
            await reader.readuntil(b"\r\n\r\n")
            await talk(reader, writer)
        except (ConnectionError, asyncio.IncompleteReadError, asyncio.CancelledError):
            pass
        finally:
            tasks.discard(task)
            writer.transport.abort()

    server = await asyncio.start_server(connected, "127.0.0.1", 0)
    try:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    finally:
        server.close()
        for task in tuple(tasks):
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await server.wait_closed()
