"""Answers the requests of the Model Context Protocol, whichever way they came.

What it needs of the mesh stands beside it as a Protocol: the HTTP face gives it the bearer's view, the command
``osiris-mesh mcp`` that of whoever may open the node's socket.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from typing import Any, Final, Protocol

import msgspec

from osiris_mesh import __version__
from osiris_mesh.errors import FunctionError, InternalError, LimitExceeded, NotFound, OsirisError, UsageError
from osiris_mesh.function.hints import check_of
from osiris_mesh.function.json_form import from_json, to_json
from osiris_mesh.gateway.mcp import protocol
from osiris_mesh.gateway.mcp.names import function_name
from osiris_mesh.gateway.mcp.protocol import Message, RpcError
from osiris_mesh.gateway.mcp.schema import arguments_of
from osiris_mesh.gateway.mcp.tools import Described, Tool, check_pin, page, tool_of

__all__ = ["CONTEXT", "LISTEN", "MAX_RESULT", "Reach", "Server"]

CONTEXT: Final = "osiris-mesh/context"
"""Key of a call's ``_meta`` with a security context's text, which can only narrow what the bearer may."""
LISTEN: Final = "subscriptions/listen"
MAX_RESULT: Final = 4 << 20
"""Bytes of JSON a tool's result may have: who reads it is a model."""
_MAX_CURSOR: Final = 384
_TTL_MS: Final = 0
_INFO: Final = {"name": "osiris-mesh", "title": "Osiris Mesh", "version": __version__}
_INSTRUCTIONS: Final = (
    "Every tool is a function of this mesh. Its title is the function's full name; _meta names the version and the pin "
    'of the description. Bytes are written as {"$bytes": "<base64>"}.'
)
_CAPABILITIES: Final = {"tools": {"listChanged": True}}
_encode = msgspec.json.Encoder().encode


class Reach(Protocol):
    """What one client reaches of the mesh."""

    async def functions(self) -> Sequence[Described]:
        """Return the active version of every function the client may call, in any order."""
        ...

    async def find(self, name: str) -> Described:
        """Return the active version of one function the client may call; NotFound or Denied."""
        ...

    async def call(
        self, described: Described, args: Sequence[Any], kwargs: Mapping[str, Any], context: str
    ) -> tuple[Any, Mapping[str, Any]]:
        """Call that version; return the result, and facts for ``_meta``.

        Args:
            described: Which.
            args: Positional arguments.
            kwargs: Keyword arguments.
            context: Text of a security context to narrow by; empty: none.
        """
        ...

    def changes(self) -> AsyncIterator[None]:
        """Yield whenever the functions the client may call may be others than before."""
        ...


class Server:
    """Answers one client's requests.

    Args:
        reach: What the client reaches.
    """

    def __init__(self, reach: Reach) -> None:
        self._reach = reach

    async def answer(self, message: Message) -> dict[str, Any] | None:
        """Return the answer to a message; None for a notification.

        ``subscriptions/listen`` is not answered here: :meth:`listen` is, message by message.
        """
        if message.id is None:
            return None
        try:
            value = await self._result(message)
        except RpcError as failure:
            failure.request = message.id
            return protocol.error(failure)
        if message.modern:
            value = {"resultType": "complete", **value}
            value["_meta"] = {protocol.SERVER_INFO: _INFO, **value.get("_meta", {})}
        return protocol.result(message.id, value)

    async def _result(self, message: Message) -> dict[str, Any]:
        match message.method:
            case "initialize" if not message.modern:
                return {
                    "protocolVersion": protocol.chosen_version(message.params),
                    "capabilities": _CAPABILITIES,
                    "serverInfo": _INFO,
                    "instructions": _INSTRUCTIONS,
                }
            case "server/discover" if message.modern:
                return {
                    "supportedVersions": [*protocol.HANDSHAKE_VERSIONS, *protocol.MODERN_VERSIONS],
                    "capabilities": _CAPABILITIES,
                    "instructions": _INSTRUCTIONS,
                    "ttlMs": _TTL_MS,
                    "cacheScope": "private",
                }
            case "ping":
                return {}
            case "tools/list":
                return await self._list(message)
            case "tools/call":
                return await self._call(message)
        raise RpcError(protocol.METHOD_NOT_FOUND, f"there is no method {message.method[:64]!r}")

    async def _list(self, message: Message) -> dict[str, Any]:
        cursor = message.params.get("cursor") or ""
        if not isinstance(cursor, str) or len(cursor) > _MAX_CURSOR:
            raise RpcError(protocol.INVALID_PARAMS, "the cursor is not one of ours")
        try:
            described = await self._reach.functions()
        except OsirisError as failure:
            raise _told(failure) from None
        shown, following = page(sorted(map(tool_of, described), key=lambda tool: tool.described.name), cursor)
        value: dict[str, Any] = {"tools": [tool.wire for tool in shown]}
        if following:
            value["nextCursor"] = following
        if message.modern:
            value |= {"ttlMs": _TTL_MS, "cacheScope": "private"}
        return value

    async def _call(self, message: Message) -> dict[str, Any]:
        arguments = message.params.get("arguments")
        if not message.name or not (arguments is None or isinstance(arguments, dict)):
            raise RpcError(protocol.INVALID_PARAMS, "a call has the tool's name and an object of arguments")
        context = message.meta.get(CONTEXT, "")
        if not isinstance(context, str):
            raise RpcError(protocol.INVALID_PARAMS, f"_meta[{CONTEXT!r}] is no text")
        try:
            tool = tool_of(await self._find(message.name))
        except NotFound as failure:
            raise RpcError(protocol.INVALID_PARAMS, f"unknown tool: {failure.what}") from None
        except OsirisError as failure:
            return _failed(failure)
        try:
            check_pin(tool, message.meta)
            args, kwargs = _bound(tool, arguments or {})
            value, facts = await self._reach.call(tool.described, args, kwargs, context)
            return _done(tool, value, facts)
        except OsirisError as failure:
            return _failed(failure)

    async def _find(self, tool: str) -> Described:
        try:
            name = function_name(tool)
        except NotFound:
            name = function_name(tool, [each.name for each in await self._reach.functions()])
        return await self._reach.find(name)

    async def listen(self, message: Message) -> AsyncIterator[dict[str, Any]]:
        """Yield what a subscription says, from its acknowledgement on; the last is the answer to its request."""
        wanted = message.params.get("notifications")
        tools = isinstance(wanted, dict) and wanted.get("toolsListChanged") is True
        meta = {protocol.SUBSCRIPTION_ID: message.id}
        granted = {"toolsListChanged": True} if tools else {}
        yield protocol.notification(
            "notifications/subscriptions/acknowledged", {"notifications": granted, "_meta": meta}
        )
        if tools:
            async for _ in self._reach.changes():
                yield protocol.notification("notifications/tools/list_changed", {"_meta": meta})
        yield protocol.result(message.id, {"resultType": "complete", "_meta": {protocol.SERVER_INFO: _INFO, **meta}})

    async def notices(self) -> AsyncIterator[dict[str, Any]]:
        """Yield the notifications of a client that has begun with ``initialize``."""
        async for _ in self._reach.changes():
            yield protocol.notification("notifications/tools/list_changed")


def _bound(tool: Tool, arguments: Mapping[str, Any]) -> tuple[Sequence[Any], Mapping[str, Any]]:
    signature = tool.described.signature
    args, kwargs = arguments_of(signature, {name: from_json(value) for name, value in arguments.items()})
    try:
        return signature.bind(args, kwargs)
    except TypeError as failure:
        raise UsageError(str(failure), fix="see the tool's input schema") from None


def _done(tool: Tool, value: Any, facts: Mapping[str, Any]) -> dict[str, Any]:
    data = _encode(to_json(value))
    if len(data) > MAX_RESULT:
        raise LimitExceeded(
            f"the result of {tool.described.name} has {len(data)} bytes, more than the {MAX_RESULT} of a tool's",
            limit="result",
            fix="have the function return less, or call it over the HTTP API",
        )
    text = value if isinstance(value, str) else data.decode()
    found: dict[str, Any] = {"content": [{"type": "text", "text": text}], "isError": False}
    if tool.structured:
        signature = tool.described.signature
        check = check_of(signature.returns)
        if check is not None and not check.accepts(value):
            # The schema was promised; what breaks it must not look like what keeps it.
            where, expected, got = check.fault(value)
            raise FunctionError(
                f"{tool.described.name} returned {got}{f' at {where}' if where else ''} where its hint says {expected}",
                fix="mend the function or its return hint",
                type="TypeError",
            )
        found["structuredContent"] = {"result": msgspec.Raw(data)}
    if facts:
        found["_meta"] = {f"osiris-mesh/{name}": fact for name, fact in facts.items()}
    return found


def _failed(failure: OsirisError) -> dict[str, Any]:
    told = {"code": failure.code, "details": to_json(failure.details)}
    return {"content": [{"type": "text", "text": str(failure)}], "isError": True, "_meta": {"osiris-mesh/error": told}}


def _told(failure: OsirisError) -> RpcError:
    what = "the request failed inside the controller" if isinstance(failure, InternalError) else str(failure)
    return RpcError(protocol.INTERNAL_ERROR, what)
