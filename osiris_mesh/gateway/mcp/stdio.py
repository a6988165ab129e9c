"""MCP on standard input and output, over the Unix socket of a node: what ``osiris-mesh mcp`` runs.

A message a line. Whoever may open the socket owns the node, so all functions are tools; a security
context given on the command line narrows that. A controller that restarts is connected to again at the next request.
"""

from __future__ import annotations

import asyncio
import logging
import threading
from collections.abc import AsyncIterator, Mapping, Sequence
from pathlib import Path
from typing import Any, BinaryIO, Final

import msgspec

from osiris_mesh.codec import VALUE, pack, unpack
from osiris_mesh.errors import OsirisError, RemoteProtocolError
from osiris_mesh.function.signature import Signature
from osiris_mesh.gateway.mcp import protocol
from osiris_mesh.gateway.mcp.protocol import Message, RpcError
from osiris_mesh.gateway.mcp.server import LISTEN, Server
from osiris_mesh.gateway.mcp.tools import Described
from osiris_mesh.link import Link
from osiris_mesh.link.unix import connect_unix
from osiris_mesh.registry import context

__all__ = ["MAX_LINE", "SocketReach", "Stdio"]

MAX_LINE: Final = 16 << 20
"""Bytes a message may have."""
_IN_FLIGHT: Final = 64
_ASK_SECONDS: Final = 15.0
_LOOK_SECONDS: Final = 1.0
_MAX_KNOWN: Final = 8192
_log = logging.getLogger(__name__)
_encode = msgspec.json.Encoder().encode


class SocketReach:
    """What is reached over a node's socket.

    Args:
        path: The socket.
        limits: Security context every call is narrowed by.
    """

    def __init__(self, path: Path, limits: context.Context = context.FULL) -> None:
        self._path = path
        self._limits = limits
        self._link: Link | None = None
        self._connecting = asyncio.Lock()
        self._known: dict[tuple[str, str], Described] = {}

    async def functions(self) -> Sequence[Described]:
        """Return the active version of every function the context lets through."""
        return [await self._describe(name, version) for name, version in sorted(await self._active())]

    async def find(self, name: str) -> Described:
        """Return the active version of one function.

        Raises:
            NotFound: It is not there.
            Denied: The context does not let it through.
        """
        self._check(self._limits, name)
        facts = unpack(await self._ask("resolve", {"name": name}))
        return self._learn(facts)

    async def call(
        self, described: Described, args: Sequence[Any], kwargs: Mapping[str, Any], narrower: str
    ) -> tuple[Any, Mapping[str, Any]]:
        """Call that version."""
        limits = context.narrow(self._limits, context.parse(narrower)) if narrower else self._limits
        self._check(limits, described.name)
        headers: dict[str, Any] = {"name": f"{described.name}@{described.version}", "details": True}
        if limits != context.FULL:
            headers[context.HEADER] = limits.text()
        link = await self._connected()
        answer = unpack(await link.call("call", pack([list(args), dict(kwargs)]), timeout=None, headers=headers), VALUE)
        if not (isinstance(answer, list) and len(answer) == 2 and isinstance(answer[0], dict)):
            raise RemoteProtocolError("the controller answered a call without its details")
        facts = answer[0]
        return unpack(answer[1], VALUE), {name: facts[name] for name in ("node", "version", "warm") if name in facts}

    async def changes(self) -> AsyncIterator[None]:
        """Yield when the functions have changed; looked at once a second."""
        before = await self._marked(None)
        while True:
            await asyncio.sleep(_LOOK_SECONDS)
            now = await self._marked(before)
            if now != before:
                before = now
                yield

    async def close(self) -> None:
        """Close the connection."""
        if self._link is not None:
            await self._link.close()

    async def _marked(self, before: frozenset[tuple[str, str]] | None) -> frozenset[tuple[str, str]] | None:
        try:
            return frozenset(await self._active())
        except OsirisError:
            # A controller that restarts has not changed its functions.
            return before

    async def _active(self) -> list[tuple[str, str]]:
        rows = unpack(await self._ask("function.list", {}), VALUE)["functions"]
        pairs = [(str(row["name"]), str(row["active"])) for row in rows if row["active"]]
        return [pair for pair in pairs if context.may_call(self._limits, pair[0]) is None]

    async def _describe(self, name: str, version: str) -> Described:
        known = self._known.get((name, version))
        if known is None:
            known = self._learn(unpack(await self._ask("resolve", {"name": f"{name}@{version}"})))
        return known

    def _learn(self, facts: Any) -> Described:
        name, version = str(facts["name"]), str(facts["version"])
        known = self._known.get((name, version))
        if known is None or known.digest != facts["digest"]:
            if len(self._known) >= _MAX_KNOWN:
                self._known.clear()
            signature = Signature.from_wire(facts["signature"], name)
            known = self._known[name, version] = Described(
                name, version, facts["digest"], facts["description"], signature, facts["idempotent"]
            )
        return known

    @staticmethod
    def _check(limits: context.Context, name: str) -> None:
        refusal = context.may_call(limits, name)
        if refusal is not None:
            raise refusal.error()

    async def _ask(self, method: str, body: dict[str, Any]) -> bytes:
        return await (await self._connected()).call(method, pack(body), timeout=_ASK_SECONDS)

    async def _connected(self) -> Link:
        async with self._connecting:
            if self._link is None or self._link.closed:
                self._link = await connect_unix(self._path)
            return self._link


class Stdio:
    """One client on a pair of streams.

    Args:
        server: Answers.
        source: Lines come from it; read in a thread.
        sink: Lines go to it.
    """

    def __init__(self, server: Server, source: BinaryIO, sink: BinaryIO) -> None:
        self._server = server
        self._source = source
        self._sink = sink
        self._writing = asyncio.Lock()
        self._tasks: dict[object, asyncio.Task[None]] = {}

    async def run(self) -> None:
        """Serve until the client closes its end."""
        lines: asyncio.Queue[bytes] = asyncio.Queue(maxsize=_IN_FLIGHT)
        loop = asyncio.get_running_loop()

        def pump() -> None:
            while True:
                line = self._source.readline(MAX_LINE + 1)
                try:
                    asyncio.run_coroutine_threadsafe(lines.put(line), loop).result()
                except (RuntimeError, asyncio.CancelledError):
                    return
                if not line:
                    return

        # A daemon: when the controller's side ends first, nothing waits for a client that says no more.
        threading.Thread(target=pump, name="stdin", daemon=True).start()
        try:
            while line := await lines.get():
                if line.strip():
                    await self._take(line)
        finally:
            tasks = list(self._tasks.values())
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    async def _take(self, line: bytes) -> None:
        try:
            message = self._read(line)
        except RpcError as failure:
            await self._say(protocol.error(failure))
            return
        if message is None:
            return
        if message.id is None:
            self._notice(message)
        else:
            self._begin(message.id, self._serve(message))

    def _read(self, line: bytes) -> Message | None:
        if len(line) > MAX_LINE:
            raise RpcError(protocol.INVALID_REQUEST, f"a message has more than {MAX_LINE} bytes")
        message = protocol.read(line)
        if message is not None and message.id is not None:
            if message.id in self._tasks:
                raise RpcError(protocol.INVALID_REQUEST, "the id of a request under way", request=message.id)
            if len(self._tasks) >= _IN_FLIGHT:
                raise RpcError(protocol.INTERNAL_ERROR, "too many requests are under way", request=message.id)
        return message

    def _notice(self, message: Message) -> None:
        if message.method == "notifications/initialized":
            self._begin("notices", self._tell())
        elif message.method == "notifications/cancelled":
            wanted = message.params.get("requestId")
            task = self._tasks.get(wanted) if isinstance(wanted, (str, int)) else None
            if task is not None:
                task.cancel()

    def _begin(self, key: object, work: Any) -> None:
        if key in self._tasks:
            work.close()
            return
        task = asyncio.get_running_loop().create_task(work)
        self._tasks[key] = task
        task.add_done_callback(lambda _: self._tasks.pop(key, None))

    async def _serve(self, message: Message) -> None:
        if message.method == LISTEN and message.modern:
            async for each in self._server.listen(message):
                await self._say(each)
            return
        try:
            answer = await self._server.answer(message)
        except Exception:  # noqa: BLE001 - the outermost edge of a request
            _log.exception("a request failed", extra={"method": message.method})
            failure = RpcError(protocol.INTERNAL_ERROR, "the request failed inside the server", request=message.id)
            answer = protocol.error(failure)
        if answer is not None:
            await self._say(answer)

    async def _tell(self) -> None:
        async for each in self._server.notices():
            await self._say(each)

    async def _say(self, answer: Mapping[str, Any]) -> None:
        data = _encode(answer) + b"\n"
        async with self._writing:
            await asyncio.to_thread(self._write, data)

    def _write(self, data: bytes) -> None:
        self._sink.write(data)
        self._sink.flush()
