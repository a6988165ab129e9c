"""JSON-RPC as the Model Context Protocol uses it, for both of its eras. A pure core.

Up to 2025-11-25 a client begins with ``initialize``; from 2026-07-28 on every request carries its own envelope in
``_meta`` and begins nothing. Neither needs a session here: the same tools are on every node, so any node answers any
request, and a client that is moved to another node does not notice.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

import msgspec

__all__ = [
    "HANDSHAKE_VERSIONS",
    "HEADER_MISMATCH",
    "INTERNAL_ERROR",
    "INVALID_PARAMS",
    "INVALID_REQUEST",
    "METHOD_NOT_FOUND",
    "MODERN_VERSIONS",
    "PARSE_ERROR",
    "SERVER_INFO",
    "SUBSCRIPTION_ID",
    "Message",
    "RpcError",
    "chosen_version",
    "error",
    "notification",
    "read",
    "result",
    "status_of",
]

HANDSHAKE_VERSIONS: Final = ("2024-11-05", "2025-03-26", "2025-06-18", "2025-11-25")
MODERN_VERSIONS: Final = ("2026-07-28",)
PARSE_ERROR: Final = -32700
INVALID_REQUEST: Final = -32600
METHOD_NOT_FOUND: Final = -32601
INVALID_PARAMS: Final = -32602
INTERNAL_ERROR: Final = -32603
HEADER_MISMATCH: Final = -32020
UNSUPPORTED_VERSION: Final = -32022
PROTOCOL_VERSION: Final = "io.modelcontextprotocol/protocolVersion"
CAPABILITIES: Final = "io.modelcontextprotocol/clientCapabilities"
SERVER_INFO: Final = "io.modelcontextprotocol/serverInfo"
SUBSCRIPTION_ID: Final = "io.modelcontextprotocol/subscriptionId"
_STATUS: Final = {
    PARSE_ERROR: 400,
    INVALID_REQUEST: 400,
    INVALID_PARAMS: 400,
    HEADER_MISMATCH: 400,
    UNSUPPORTED_VERSION: 400,
    METHOD_NOT_FOUND: 404,
}
_MAX_ID: Final = 256
_MAX_METHOD: Final = 128

Id = str | int | None


class RpcError(Exception):
    """An error of the protocol itself.

    Args:
        code: JSON-RPC error code.
        message: What is wrong.
        data: For programs.
        request: Id of the request it answers; None: not known.
    """

    def __init__(self, code: int, message: str, data: Any = None, request: Id = None) -> None:
        super().__init__(message)
        self.code = code
        self.message = message
        self.data = data
        self.request = request


@dataclass(frozen=True, slots=True)
class Message:
    """One request or notification.

    Attributes:
        method: What is asked.
        params: Its parameters.
        id: None: a notification.
        modern: It carries its own envelope.
    """

    method: str
    params: Mapping[str, Any]
    id: Id
    modern: bool

    @property
    def meta(self) -> Mapping[str, Any]:
        """Its ``_meta``."""
        found = self.params.get("_meta")
        return found if isinstance(found, dict) else {}

    @property
    def name(self) -> str:
        """The tool it is about; empty if none."""
        found = self.params.get("name")
        return found if isinstance(found, str) else ""


def read(data: bytes, headers: Mapping[str, str] | None = None) -> Message | None:
    """Read one message; None: a response or a notification's like that nobody waits for.

    Args:
        data: JSON.
        headers: Of the HTTP request it came in; None: it did not come by HTTP.

    Raises:
        RpcError: It is none, or its envelope or headers are wrong.
    """
    try:
        body = msgspec.json.decode(data)
    except (msgspec.DecodeError, RecursionError):
        raise RpcError(PARSE_ERROR, "the body is not JSON") from None
    if not isinstance(body, dict) or body.get("jsonrpc") != "2.0":
        raise RpcError(INVALID_REQUEST, "the body is not one JSON-RPC 2.0 message")
    if "method" not in body and "id" in body and ("result" in body or "error" in body):
        return None
    request = body.get("id")
    if "id" in body and (type(request) not in {str, int} or (isinstance(request, str) and len(request) > _MAX_ID)):
        raise RpcError(INVALID_REQUEST, "the id of a request is a text or a whole number")
    method, params = body.get("method"), body.get("params")
    if not isinstance(method, str) or len(method) > _MAX_METHOD:
        raise RpcError(INVALID_REQUEST, "a message has a method", request=request)
    if params is None:
        params = {}
    if not isinstance(params, dict):
        raise RpcError(INVALID_PARAMS, "the parameters are no object", request=request)
    meta = params.get("_meta")
    told = meta.get(PROTOCOL_VERSION) if isinstance(meta, dict) else None
    if headers is None:
        modern = told is not None
    else:
        version = headers.get("MCP-Protocol-Version", "")
        modern = told is not None or (bool(version) and version not in HANDSHAKE_VERSIONS)
    message = Message(method, params, request, modern)
    if modern and request is not None:
        _check_envelope(message, headers)
    return message


def _check_envelope(message: Message, headers: Mapping[str, str] | None) -> None:
    """Check in the order of the specification: envelope, headers, version."""
    meta, request = message.meta, message.id
    missing = [key for key in (PROTOCOL_VERSION, CAPABILITIES) if key not in meta]
    if missing:
        raise RpcError(INVALID_PARAMS, f"params._meta lacks {', '.join(missing)}", request=request)
    version = meta[PROTOCOL_VERSION]
    if headers is not None:
        if headers.get("MCP-Protocol-Version") != version:
            raise RpcError(HEADER_MISMATCH, "MCP-Protocol-Version is not that of the envelope", request=request)
        if headers.get("Mcp-Method") != message.method:
            raise RpcError(HEADER_MISMATCH, "Mcp-Method is not the body's method", request=request)
        if message.method == "tools/call" and _decoded(headers.get("Mcp-Name", "")) != message.name:
            raise RpcError(HEADER_MISMATCH, "Mcp-Name is not the body's name", request=request)
    if not isinstance(version, str):
        raise RpcError(INVALID_PARAMS, "the protocol's version is no text", request=request)
    if version not in MODERN_VERSIONS:
        raise RpcError(
            UNSUPPORTED_VERSION,
            f"the version {version[:40]!r} of the protocol is not spoken here",
            {"supported": [*HANDSHAKE_VERSIONS, *MODERN_VERSIONS], "requested": version[:64]},
            request,
        )


def _decoded(header: str) -> str:
    """Return a header's text, which may be wrapped as ``=?base64?…?=``."""
    if header.startswith("=?base64?") and header.endswith("?="):
        try:
            return base64.b64decode(header[9:-2], validate=True).decode()
        except (binascii.Error, ValueError):
            return ""
    return header


def chosen_version(params: Mapping[str, Any]) -> str:
    """Return the version ``initialize`` is answered with: the one asked for, or the newest there is."""
    wanted = params.get("protocolVersion")
    return wanted if isinstance(wanted, str) and wanted in HANDSHAKE_VERSIONS else HANDSHAKE_VERSIONS[-1]


def result(request: Id, value: dict[str, Any]) -> dict[str, Any]:
    """Return the answer to a request."""
    return {"jsonrpc": "2.0", "id": request, "result": value}


def error(failure: RpcError) -> dict[str, Any]:
    """Return the answer that says what was wrong."""
    told: dict[str, Any] = {"code": failure.code, "message": failure.message}
    if failure.data is not None:
        told["data"] = failure.data
    return {"jsonrpc": "2.0", "id": failure.request, "error": told}


def notification(method: str, params: dict[str, Any] | None = None) -> dict[str, Any]:
    """Return a message nobody answers."""
    return {"jsonrpc": "2.0", "method": method} | ({"params": params} if params is not None else {})


def status_of(failure: RpcError) -> int:
    """Return the HTTP status of an error."""
    return _STATUS.get(failure.code, 200)
