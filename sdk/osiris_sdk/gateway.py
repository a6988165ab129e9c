"""What is said to a controller over HTTP, and what its answers mean; without I/O, for both shells.

An :class:`~osiris_sdk.talk.Exchange` becomes a request, and the response the bytes that a link would have answered, so
that nothing above knows which of the two it has. Calls carry msgpack, which the controller passes on as it came.
"""

from __future__ import annotations

import base64
import binascii
import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final
from urllib.parse import quote, urlencode

from osiris_mesh.codec import VALUE, pack, unpack
from osiris_mesh.errors import (
    DeadlineExceeded,
    Denied,
    NotFound,
    OsirisError,
    Overloaded,
    RemoteProtocolError,
    Unavailable,
    UsageError,
)
from osiris_sdk.sse import SentEvent
from osiris_sdk.talk import Exchange

__all__ = [
    "BUNDLE",
    "EVENT_STREAM",
    "MSGPACK",
    "EventFeed",
    "Feed",
    "HttpRequest",
    "LogFeed",
    "bundle_request",
    "digest_of",
    "from_http",
    "lines_of",
    "plain",
    "read_problem",
    "to_http",
]

MSGPACK: Final = "application/msgpack"
BUNDLE: Final = "application/vnd.osiris.bundle"
EVENT_STREAM: Final = "text/event-stream"
_FLOATS: Final = {"nan": math.nan, "inf": math.inf, "-inf": -math.inf}
_DEPTH: Final = 128
# Codes that HTTP alone has, and what they are here.
_CODES: Final = {
    "unauthenticated": Denied.code,
    "method": UsageError.code,
    "too_large": UsageError.code,
    "media_type": UsageError.code,
}
_PLAIN: Final[dict[str, tuple[str, str]]] = {
    "function.list": ("GET", "/v1/functions"),
    "node.status": ("GET", "/v1/status"),
    "node.doctor": ("GET", "/v1/node/doctor"),
    "node.sync": ("POST", "/v1/node/sync"),
    "node.drain": ("POST", "/v1/node/drain"),
    "node.leave": ("POST", "/v1/node/leave"),
    "node.stop": ("POST", "/v1/node/stop"),
    "token.list": ("GET", "/v1/tokens"),
    "user.list": ("GET", "/v1/users"),
    "config.list": ("GET", "/v1/config"),
    "registry.list": ("GET", "/v1/registries"),
    "ledger.verify": ("GET", "/v1/ledger/verify"),
}


@dataclass(frozen=True, slots=True)
class HttpRequest:
    """One request, without what the connection adds (Host, Authorization, lengths)."""

    verb: str
    path: str
    headers: dict[str, str]
    body: bytes = b""


def to_http(exchange: Exchange, seconds: float) -> HttpRequest:
    """Return the request that says what an exchange says.

    Args:
        exchange: What is to be said.
        seconds: How long it may take.

    Raises:
        UsageError: The method is not served over HTTP.
    """
    method = exchange.method
    if method == "call":
        headers = {
            "Content-Type": MSGPACK,
            "Accept": MSGPACK,
            "Osiris-Timeout-Ms": str(max(int(seconds * 1000), 1)),
            "Osiris-Binding": exchange.headers["binding"].hex(),
        }
        if exchange.headers.get("idempotent"):
            headers["Osiris-Idempotent"] = "true"
        if exchange.headers.get("context"):
            headers["Osiris-Context"] = exchange.headers["context"]
        if exchange.headers.get("providers"):
            headers["Osiris-Providers"] = ",".join(exchange.headers["providers"])
        if "traceparent" in exchange.headers:
            headers["traceparent"] = exchange.headers["traceparent"]
        return HttpRequest("POST", f"/v1/call/{_name(exchange.headers['name'])}", headers, exchange.body)
    body = unpack(exchange.body, VALUE) if exchange.body else {}
    if method in _PLAIN:
        verb, path = _PLAIN[method]
        return HttpRequest(verb, path, {})
    match method:
        case "function.source":
            from osiris_sdk.sources import in_json  # noqa: PLC0415 - few programs deploy

            return _posted("/v1/functions", in_json(body))
        case "function.remove":
            query = f"?{urlencode({'version': body['version']})}" if body["version"] else ""
            return HttpRequest("DELETE", f"/v1/functions/{quote(body['name'], safe='@')}{query}", {})
        case "function.rollback":
            where = f"/v1/functions/{quote(body['name'], safe='@')}/rollback"
            return _posted(where, {"to": body["to"]} if body["to"] else {})
        case "resolve":
            path = f"/v1/resolve/{_name(body['name'])}"
        case "function.describe":
            path = f"/v1/functions/{quote(body['name'], safe='@')}"
        case "registry.resolve":
            wanted = {
                "explain": "true" if body.get("explain") else "false",
                "context": body.get("context", ""),
                "timeout_ms": body.get("timeout_ms", 10_000),
            }
            path = f"/v1/registry/resolve/{_name(body['name'])}?{urlencode(wanted)}"
        case "registry.find":
            wanted = {"pattern": body.get("pattern", "**"), "limit": body.get("limit", 1000)}
            path = f"/v1/registry/names?{urlencode(wanted)}"
        case "registry.show":
            path = f"/v1/registry/records/{_name(body['name'])}"
        case "node.metrics":
            path = f"/v1/metrics?{urlencode({'name': body.get('name', '')})}"
        case "ledger.log":
            path = f"/v1/ledger/blocks?{urlencode({'start': body.get('from', 0), 'limit': body.get('limit', 20)})}"
        case "ledger.show":
            path = f"/v1/ledger/blocks/{body['height']:d}"
        case _:
            raise UsageError(f"{method} is not asked over HTTP", fix="connect to a home on this machine")
    return HttpRequest("GET", path, {})


def from_http(exchange: Exchange, status: int, headers: Mapping[str, str], body: bytes) -> bytes:
    """Return what the link's answer to an exchange would have been.

    Args:
        exchange: What was said.
        status: Of the response.
        headers: Of the response; looked up in lower case.
        body: Of the response.

    Raises:
        OsirisError: The response is an error, as the class it was in the controller.
        RemoteProtocolError: Whoever answered is no controller.
    """
    if not 200 <= status < 300:
        raise read_problem(status, body)
    if exchange.method == "call":
        if headers.get("content-type", "").partition(";")[0] != MSGPACK:
            raise RemoteProtocolError("a call was answered with something else than msgpack")
        return pack([_facts(headers), body]) if exchange.headers.get("details") else body
    answer = from_json(body)
    if not isinstance(answer, dict):
        raise RemoteProtocolError(f"{exchange.method} was answered with no map")
    if exchange.method == "resolve":
        try:
            answer |= {
                "digest": bytes.fromhex(answer["digest"]),
                "binding": bytes.fromhex(answer["binding"]),
                "signature": answer["wire"],
            }
        except (KeyError, TypeError, ValueError):
            raise RemoteProtocolError("a name was resolved to something else than a function") from None
    return pack(answer)


def _posted(path: str, body: Mapping[str, Any]) -> HttpRequest:
    return HttpRequest("POST", path, {"Content-Type": "application/json"}, json.dumps(body).encode())


def _name(name: str) -> str:
    return quote(name, safe="/@")


def _facts(headers: Mapping[str, str]) -> dict[str, Any]:
    elapsed = headers.get("osiris-elapsed-us", "")
    return {
        "node": headers.get("osiris-node", ""),
        "version": headers.get("osiris-version", ""),
        "warm": headers.get("osiris-warm") == "true",
        "elapsed_us": int(elapsed) if elapsed.isascii() and elapsed.isdigit() and len(elapsed) < 16 else 0,
    }


# --- values and errors -----------------------------------------------------------------------------------------------


def from_json(text: bytes | str) -> Any:
    """Return a JSON document's value, with bytes and all floats.

    Raises:
        RemoteProtocolError: Not JSON.
    """
    try:
        return plain(json.loads(text))
    except (ValueError, RecursionError):
        raise RemoteProtocolError("the answer is not JSON") from None


def plain(value: Any, depth: int = 0) -> Any:
    """Return a decoded JSON value with every ``{"$bytes": …}`` and ``{"$float": …}`` in it decoded.

    Raises:
        ValueError: Nested too deep, or not base64.
    """
    if isinstance(value, list):
        if depth > _DEPTH:
            raise ValueError("nested too deep")
        return [plain(item, depth + 1) for item in value]
    if not isinstance(value, dict):
        return value
    if depth > _DEPTH:
        raise ValueError("nested too deep")
    if len(value) == 1:
        text = value.get("$bytes")
        if isinstance(text, str):
            try:
                return base64.b64decode(text, validate=True)
            except binascii.Error as error:
                raise ValueError(str(error)) from None
        name = value.get("$float")
        if isinstance(name, str) and name in _FLOATS:
            return _FLOATS[name]
    return {key: plain(item, depth + 1) for key, item in value.items()}


def read_problem(status: int, body: bytes | str) -> OsirisError:
    """Return the error that a response, or the last event of a stream, carries."""
    try:
        problem = from_json(body)
    except RemoteProtocolError:
        problem = None
    if isinstance(problem, dict) and isinstance(problem.get("code"), str) and isinstance(problem.get("detail"), str):
        code = problem["code"]
        return OsirisError.from_wire(
            {
                "code": _CODES.get(code, code),
                "what": problem["detail"],
                "fix": problem.get("fix", ""),
                "details": problem.get("details", {}),
            }
        )
    # Not from a controller: a proxy in front of it, or something else altogether.
    what = f"the answer has status {status} and is not a controller's"
    match status:
        case 401 | 403 | 407:
            return Denied(what, fix="check the address, and what stands between")
        case 404:
            return NotFound(what, fix="check the address")
        case 429:
            return Overloaded(what, retry_after_ms=1000)
        case 502 | 503:
            return Unavailable(what, maybe=status == 502)
        case 504:
            return DeadlineExceeded(what)
    return RemoteProtocolError(what)


# --- bundles ---------------------------------------------------------------------------------------------------------


def bundle_request(data: bytes) -> HttpRequest:
    """Return the request that stores a bundle."""
    return HttpRequest("POST", "/v1/bundles", {"Content-Type": BUNDLE}, data)


def digest_of(status: int, body: bytes) -> bytes:
    """Return the digest of the bundle that was stored.

    Raises:
        OsirisError: It was not.
    """
    if not 200 <= status < 300:
        raise read_problem(status, body)
    answer = from_json(body)
    try:
        return bytes.fromhex(answer["digest"])
    except (KeyError, TypeError, ValueError):
        raise RemoteProtocolError("a bundle was taken without an answer of its digest") from None


# --- streams ---------------------------------------------------------------------------------------------------------


def lines_of(status: int, body: bytes) -> list[dict[str, Any]]:
    """Return the log lines of a response.

    Raises:
        OsirisError: It is an error.
    """
    if not 200 <= status < 300:
        raise read_problem(status, body)
    answer = from_json(body)
    lines = answer.get("lines") if isinstance(answer, dict) else None
    if not isinstance(lines, list) or not all(isinstance(line, dict) for line in lines):
        raise RemoteProtocolError("logs were answered without lines")
    return lines


class EventFeed:
    """Where a stream of events stands, so that it goes on after a break where it was.

    Args:
        names: Names or patterns, separated by commas.
        after: Sequence number to begin behind; None: only what happens from now on.

    Attributes:
        what: For texts.
    """

    what = "events"

    def __init__(self, names: str, after: int | None) -> None:
        self._names = names
        self._after = after

    def path(self) -> str:
        """Return what to ask for now."""
        query: dict[str, Any] = {"names": self._names}
        if self._after is not None:
            query["after"] = self._after
        return f"/v1/events?{urlencode(query)}"

    def take(self, event: SentEvent) -> dict[str, Any] | None:
        """Return the event, or None if it was seen.

        Raises:
            OsirisError: The controller ended the stream so.
        """
        value = _map_of(event)
        number = value.get("sequence")
        if isinstance(number, int):
            self._after = number
        return value


class LogFeed:
    """Where a stream of log lines stands; after a break lines of the last millisecond come again and are passed over.

    Args:
        name: One function, or all if empty.
        tail: How many old lines at most.
        since_ms: Not older than this.

    Attributes:
        what: For texts.
    """

    what = "log lines"

    def __init__(self, name: str, tail: int, since_ms: int) -> None:
        self._name = name
        self._tail = tail
        self._since_ms = since_ms
        self._seen: list[dict[str, Any]] = []
        self._again: list[dict[str, Any]] = []

    def path(self, *, follow: bool = True) -> str:
        """Return what to ask for now."""
        self._again = list(self._seen)
        where = f"/v1/functions/{quote(self._name, safe='@')}/logs" if self._name else "/v1/logs"
        query = {"tail": self._tail, "since_ms": self._since_ms, "follow": "true" if follow else "false"}
        return f"{where}?{urlencode(query)}"

    def take(self, event: SentEvent) -> dict[str, Any] | None:
        """Return the line, or None if it was seen before the break.

        Raises:
            OsirisError: The controller ended the stream so.
        """
        line = _map_of(event)
        if line in self._again:
            self._again.remove(line)
            return None
        time_ms = line.get("time_ms")
        if isinstance(time_ms, int) and time_ms >= self._since_ms:
            if time_ms > self._since_ms:
                self._since_ms = time_ms
                self._seen.clear()
            self._seen.append(line)
            del self._seen[:-1000]
            self._tail = 10_000
        return line


Feed = EventFeed | LogFeed


def _map_of(event: SentEvent) -> dict[str, Any]:
    if event.name == "error":
        raise read_problem(500, event.data)
    value = from_json(event.data)
    if not isinstance(value, dict):
        raise RemoteProtocolError("an event is not a map")
    return value
