"""``mcp://``: tools of a server of the Model Context Protocol, over streamable HTTP. Takes the extra ``mcp``.

``mcp://HOST/PATH`` is ``https://HOST/PATH``; on this machine plain http. A tool is called only while its description is
the one that was signed: the record's ``capability`` is the SHA-256 of everything a model reads of it.

One connection a provider is kept while it is used. It lives in a task of its own, because the package wants its scopes
entered and left by one task; calls of other tasks go through it.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final
from urllib.parse import urlsplit

import httpx2
import mcp_types
import msgspec
from mcp import Client, MCPError
from mcp.client.streamable_http import streamable_http_client
from pydantic import ValidationError

from osiris_mesh.clock import Clock
from osiris_mesh.errors import (
    Conflict,
    DeadlineExceeded,
    Denied,
    FunctionError,
    InternalError,
    LimitExceeded,
    NotFound,
    OsirisError,
    RemoteProtocolError,
    Unavailable,
    UsageError,
)
from osiris_mesh.function.json_form import from_json, to_json
from osiris_mesh.function.signature import Parameter, Signature
from osiris_mesh.registry.providers.credentials import NONE, Credentials
from osiris_mesh.registry.providers.endpoint import Capability, Discovery, Gap, left, unreachable
from osiris_mesh.registry.providers.exchange import Exchange, is_loopback
from osiris_mesh.registry.providers.mcp_transport import Transport, failure_of
from osiris_mesh.registry.providers.openapi import annotation, identifier
from osiris_mesh.registry.record import Provider

__all__ = ["McpEndpoint", "digest_of", "http_url"]

_CALL_SECONDS: Final = 300.0
_CONNECT_SECONDS: Final = 15.0
_PROBE_SECONDS: Final = 5.0
_DISCOVER_SECONDS: Final = 30.0
_FRESH_SECONDS: Final = 30.0
_MAX_TOOLS: Final = 1000
_MAX_PAGES: Final = 50
_MAX_CONNECTIONS: Final = 64
_MAX_SCHEMA: Final = 16_384
_MAX_REFERENCE: Final = 384
_ME: Final = mcp_types.Implementation(name="osiris-mesh", version="1")
_log = logging.getLogger(__name__)


def http_url(endpoint: str) -> str:
    """Return where an ``mcp://`` endpoint is asked."""
    parts = urlsplit(endpoint)
    scheme = "http" if is_loopback(parts.hostname or "") else "https"
    return parts._replace(scheme=scheme).geturl()


def digest_of(tool: mcp_types.Tool) -> str:
    """Return the SHA-256 of everything a model reads of a tool, hexadecimal."""
    wire = tool.model_dump(mode="json", by_alias=True, exclude_none=True)
    read = {
        key: wire[key]
        for key in ("name", "title", "description", "inputSchema", "outputSchema", "annotations")
        if key in wire
    }
    return hashlib.sha256(msgspec.json.encode(read, order="sorted")).hexdigest()


@dataclass(frozen=True, slots=True)
class _Known:
    """One tool as it was listed."""

    tool: mcp_types.Tool
    digest: str
    properties: tuple[tuple[str, str], ...]


_Key = tuple[str, str, tuple[tuple[str, str], ...]]
"""Id and endpoint of a provider, and what it is shown: who may not have it shown shares no connection with who may."""


class _Connection:
    """One client in a task of its own."""

    def __init__(self, exchange: Exchange, url: str, shown: dict[str, str]) -> None:
        self._exchange = exchange
        self._url = url
        self._shown = shown
        self._stop = asyncio.Event()
        self._ready: asyncio.Future[Client] = asyncio.get_running_loop().create_future()
        self._task = asyncio.get_running_loop().create_task(self._live())
        self.tools: dict[str, _Known] = {}
        self.listed = float("-inf")
        self.listing = asyncio.Lock()

    @property
    def ended(self) -> bool:
        return self._task.done()

    async def client(self) -> Client:
        """Return the client once it has shaken hands."""
        return await asyncio.shield(self._ready)

    async def close(self) -> None:
        """End the task, and wait for it."""
        self._stop.set()
        if not self._ready.done():
            self._task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await self._task

    async def _live(self) -> None:
        try:
            async with (
                httpx2.AsyncClient(
                    transport=Transport(self._exchange, self._shown), timeout=None, trust_env=False
                ) as http,
                Client(
                    streamable_http_client(self._url, http_client=http),
                    client_info=_ME,
                    message_handler=self._heard,
                    cache=None,
                ) as client,
            ):
                if not self._ready.done():
                    self._ready.set_result(client)
                await self._stop.wait()
        except asyncio.CancelledError:
            self._fail(unreachable(self._url, "the connection was closed", maybe=False))
            raise
        except Exception as error:  # noqa: BLE001 - the outermost edge of a connection's task
            self._fail(_translated(error, self._url))
        finally:
            self._fail(unreachable(self._url, "the connection has ended", maybe=False))

    def _fail(self, error: OsirisError) -> None:
        if not self._ready.done():
            self._ready.set_exception(error)
            # Whoever waited may have given up: nobody need look.
            self._ready.exception()

    async def _heard(self, message: object) -> None:
        if isinstance(message, mcp_types.ToolListChangedNotification):
            self.listed = float("-inf")


class McpEndpoint:
    """Asks ``mcp://`` providers.

    Args:
        exchange: Whose session and guard requests go through.
        clock: Time.
        credentials: What providers are shown.
    """

    def __init__(self, exchange: Exchange, clock: Clock, credentials: Credentials = NONE) -> None:
        self._exchange = exchange
        self._clock = clock
        self._credentials = credentials
        self._connections: dict[_Key, _Connection] = {}

    async def call(
        self,
        provider: Provider,
        name: str,
        args: Sequence[Any],
        kwargs: Mapping[str, Any],
        *,
        deadline: float | None,
        headers: Mapping[str, Any],
    ) -> Any:
        """Call a tool; see :meth:`osiris_mesh.registry.providers.endpoint.Endpoint.call`.

        Raises:
            Conflict: Its description is not the one that was signed.
        """
        del headers
        seconds = left(self._clock, deadline, _CALL_SECONDS)
        if not provider.reference or not provider.capability:
            raise UsageError(
                f"the record of {name} names no tool, or does not pin its description",
                fix="discover the server's tools, look at them and sign records of them",
                maybe=False,
            )
        sent = False
        try:
            async with asyncio.timeout(seconds):
                shown = self._credentials.headers(provider.id, provider.endpoint, name)
                connection = await self._connection(provider.id, provider.endpoint, shown)
                known = await self._tool(connection, provider)
                arguments = _arguments(known, args, kwargs)
                client = await connection.client()
                sent = True
                result = await client.call_tool(provider.reference, arguments)
        except TimeoutError:
            raise DeadlineExceeded(
                f"{provider.endpoint[:200]} did not answer in {seconds:.1f} s",
                fix="give the call more time",
                maybe=sent,
            ) from None
        except OsirisError:
            raise
        except (MCPError, ValidationError, RuntimeError) as error:
            raise _translated(error, provider.endpoint, maybe=sent) from None
        return _value(result, known, name)

    async def probe(self, provider: Provider, *, deadline: float | None = None) -> None:
        """Find out whether the server still has the tool as it was signed."""
        seconds = left(self._clock, deadline, _PROBE_SECONDS)
        shown = self._shown_unasked(provider)
        is_held_back = shown != self._credentials.headers(provider.id, provider.endpoint, None)
        try:
            async with asyncio.timeout(seconds):
                connection = await self._connection(provider.id, provider.endpoint, shown)
                connection.listed = float("-inf")
                await self._tool(connection, provider)
        except TimeoutError:
            raise unreachable(provider.endpoint, f"nothing in {seconds:.1f} s", maybe=False) from None
        except Denied:
            # It answers, and would know us by what was not shown.
            if not is_held_back:
                raise
        except MCPError as error:
            raise _translated(error, provider.endpoint, maybe=False) from None

    async def discover(self, endpoint: str, *, deadline: float | None = None) -> Discovery:
        """Return the tools of the server at ``endpoint``, each with the digest its record is to pin."""
        seconds = left(self._clock, deadline, _DISCOVER_SECONDS)
        try:
            async with asyncio.timeout(seconds):
                host = urlsplit(endpoint).hostname or ""
                connection = await self._connection(host, endpoint, self._credentials.headers(host, endpoint, None))
                connection.listed = float("-inf")
                await self._list(connection)
        except TimeoutError:
            raise unreachable(endpoint, f"no list of tools in {seconds:.1f} s", maybe=False) from None
        except (MCPError, ValidationError) as error:
            raise _translated(error, endpoint, maybe=False) from None
        found: list[Capability] = []
        gaps: list[Gap] = []
        for known in connection.tools.values():
            try:
                found.append(_capability(known))
            except OsirisError as error:
                gaps.append(Gap(known.tool.name[:200], error.what))
        return Discovery(found, gaps)

    async def close(self) -> None:
        """End every connection."""
        connections = list(self._connections.values())
        self._connections.clear()
        await asyncio.gather(*(connection.close() for connection in connections), return_exceptions=True)

    def _shown_unasked(self, provider: Provider) -> dict[str, str]:
        """Return what a provider is shown that nobody called just now.

        A handshake posts, to whichever path a record names: what is for some functions alone is shown only where a call
        of one of them has opened a connection before.
        """
        shown = self._credentials.headers(provider.id, provider.endpoint, None)
        if _key(provider.id, provider.endpoint, shown) in self._connections:
            return shown
        return self._credentials.headers(provider.id, provider.endpoint, "")

    async def _connection(self, provider: str, endpoint: str, shown: dict[str, str]) -> _Connection:
        key = _key(provider, endpoint, shown)
        found = self._connections.pop(key, None)
        if found is None or found.ended:
            if len(self._connections) >= _MAX_CONNECTIONS:
                await self._connections.pop(next(iter(self._connections))).close()
            found = _Connection(self._exchange, http_url(endpoint), shown)
        # The last in order is the one used last.
        self._connections[key] = found
        try:
            async with asyncio.timeout(_CONNECT_SECONDS):
                await found.client()
        except (OsirisError, TimeoutError) as error:
            if self._connections.get(key) is found:
                del self._connections[key]
            await found.close()
            if isinstance(error, OsirisError):
                raise
            raise unreachable(endpoint, f"no handshake in {_CONNECT_SECONDS:g} s", maybe=False) from None
        return found

    async def _tool(self, connection: _Connection, provider: Provider) -> _Known:
        await self._list(connection)
        known = connection.tools.get(provider.reference)
        if known is None:
            raise NotFound(
                f"{provider.endpoint[:200]} has no tool {provider.reference[:128]!r} any more",
                fix="discover its tools anew",
                maybe=False,
            )
        if known.digest != provider.capability:
            raise Conflict(
                f"{provider.endpoint[:200]} describes {provider.reference[:128]!r} in another way than when its record "
                "was signed",
                fix="look at the new description, and sign a new record if it is to be trusted",
                reason="description",
                pinned=provider.capability,
                found=known.digest,
                maybe=False,
            )
        return known

    async def _list(self, connection: _Connection) -> None:
        async with connection.listing:
            now = self._clock.monotonic()
            if now - connection.listed < _FRESH_SECONDS:
                return
            client = await connection.client()
            tools: dict[str, _Known] = {}
            cursor: str | None = None
            for _ in range(_MAX_PAGES):
                page = await client.list_tools(cursor=cursor)
                for tool in page.tools:
                    if len(tools) >= _MAX_TOOLS:
                        raise LimitExceeded(f"the server has more than {_MAX_TOOLS} tools", limit="tools", maybe=False)
                    tools[tool.name] = _Known(tool, digest_of(tool), _properties(tool.input_schema))
                cursor = page.next_cursor
                if not cursor:
                    break
            else:
                raise LimitExceeded("the server's list of tools does not end", limit="tools", maybe=False)
            connection.tools, connection.listed = tools, now


def _key(provider: str, endpoint: str, shown: Mapping[str, str]) -> _Key:
    return provider, endpoint, tuple(shown.items())


def _properties(schema: Mapping[str, Any]) -> tuple[tuple[str, str], ...]:
    """Return parameter and property names, those required first."""
    given = schema.get("properties")
    names = [str(name) for name in given] if isinstance(given, dict) else []
    wanted = schema.get("required")
    required = {str(name) for name in wanted} if isinstance(wanted, list) else set()
    taken: set[str] = set()
    return tuple((identifier(name, taken), name) for name in sorted(names, key=lambda name: name not in required))


def _capability(known: _Known) -> Capability:
    tool = known.tool
    if not tool.name.isascii() or not tool.name.isprintable() or " " in tool.name or len(tool.name) > _MAX_REFERENCE:
        raise UsageError("its name can't stand in a record")
    schema = tool.input_schema
    required = set(schema.get("required") or [])
    found: list[Parameter] = []
    for word, name in known.properties:
        part = schema["properties"][name]
        hint = annotation({}, part, optional=name not in required) if isinstance(part, dict) else ""
        found.append(Parameter(word, 1, name not in required, hint))
    text = msgspec.json.encode(schema, order="sorted").decode()
    word = identifier(tool.name)
    return Capability(
        tool.name,
        word,
        (tool.description or tool.title or "")[:4096],
        known.digest,
        Signature(tuple(found), "", word).to_wire(),
        text if len(text) <= _MAX_SCHEMA else "",
    )


def _arguments(known: _Known, args: Sequence[Any], kwargs: Mapping[str, Any]) -> dict[str, Any]:
    names = dict(known.properties)
    if len(args) > len(names):
        raise UsageError(f"the tool takes {len(names)} arguments, and {len(args)} were given", maybe=False)
    given = {wire: value for (_, wire), value in zip(known.properties, args, strict=False)}
    for name, value in kwargs.items():
        wire = names.get(name, name)
        if wire in given:
            raise UsageError(f"the argument {name[:60]!r} was given twice", maybe=False)
        given[wire] = value
    # What was left out has no value; None where the schema has an optional text would be refused.
    converted: dict[str, Any] = to_json(given)
    return converted


def _value(result: mcp_types.CallToolResult, known: _Known, name: str) -> Any:
    texts = [block.text for block in result.content if isinstance(block, mcp_types.TextContent)]
    if result.is_error:
        message = "\n".join(texts)[:4096] or "no text"
        raise FunctionError(f"{name} raised ToolError: {message}", type="ToolError", message=message)
    structured = result.structured_content
    if structured is not None:
        schema = known.tool.output_schema or {}
        # A server that must answer an object wraps what is none.
        if isinstance(structured, dict) and structured.keys() == {"result"} == (schema.get("properties") or {}).keys():
            structured = structured["result"]
        return from_json(structured)
    if len(texts) == len(result.content) == 1:
        return texts[0]
    return [block.model_dump(mode="json", by_alias=True, exclude_none=True) for block in result.content] or None


def _translated(error: BaseException, where: str, *, maybe: bool = False) -> OsirisError:
    """Return what an error of the package means."""
    if isinstance(error, BaseExceptionGroup):
        return _translated(error.exceptions[0], where, maybe=maybe)
    if isinstance(error, OsirisError):
        return error
    if isinstance(error, MCPError):
        ours = failure_of(error.error.code, error.error.data)
        if ours is not None:
            return ours
        text = f"{where[:200]}: {error.error.message[:500]}"
        match error.error.code:
            case mcp_types.INVALID_PARAMS | mcp_types.INVALID_REQUEST | mcp_types.PARSE_ERROR:
                return UsageError(text, fix="see the tool's description", maybe=False)
            case mcp_types.METHOD_NOT_FOUND:
                return NotFound(text, maybe=False)
            case _:
                return Unavailable(text, fix="another provider of the function may answer", maybe=maybe)
    if isinstance(error, (ValidationError, RuntimeError)):
        return RemoteProtocolError(f"{where[:200]} does not keep to the protocol: {str(error)[:500]}", maybe=maybe)
    if isinstance(error, (httpx2.HTTPError, OSError)):
        return unreachable(where, str(error) or type(error).__name__, maybe=maybe)
    _log.error("a connection to an MCP server failed", exc_info=error, extra={"endpoint": where[:200]})
    return InternalError(f"the connection to {where[:200]} failed inside the controller", fix="see its log")
