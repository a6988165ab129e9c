"""The ``mcp`` package's client over our guarded session: the same addresses, certificates, bounds and pool as https.

The package reports whatever goes wrong below it as a closed connection. So a failure is handed to it as the answer of
the request it belongs to, marked with a secret of this process, and unpacked on the other side: every call learns its
own reason, and whether it surely did not happen.
"""

from __future__ import annotations

import secrets
from collections.abc import AsyncIterator
from typing import Any, Final

import aiohttp
import httpx2
import msgspec
from yarl import URL

from osiris_mesh.errors import OsirisError, RemoteProtocolError, Unavailable
from osiris_mesh.registry.providers.endpoint import unreachable
from osiris_mesh.registry.providers.exchange import Answer, Exchange, check_url, error_of

__all__ = ["MAX_BODY", "Transport", "failure_of"]

MAX_BODY: Final = 16 << 20
"""Bytes of one answer, streams included."""
_MAX_ERROR: Final = 64 << 10
_CODE: Final = -32099
_MARK: Final = secrets.token_hex(16)
_OWN: Final = frozenset({"host", "content-length", "accept-encoding", "connection", "transfer-encoding"})


class Transport(httpx2.AsyncBaseTransport):
    """Sends one client's requests.

    Args:
        exchange: Whose session and guard.
        headers: What every request shows besides: a credential.
    """

    def __init__(self, exchange: Exchange, headers: dict[str, str]) -> None:
        self._exchange = exchange
        self._headers = headers

    async def handle_async_request(self, request: httpx2.Request) -> httpx2.Response:
        """Send a request; a failure is an answer."""
        try:
            return await self._send(request)
        except OsirisError as error:
            return _failed(error)

    async def _send(self, request: httpx2.Request) -> httpx2.Response:
        url = str(request.url)
        check_url(url, self._exchange.guard)
        headers = {name: value for name, value in request.headers.items() if name.lower() not in _OWN}
        body = await request.aread()
        try:
            response = await self._exchange.session.request(
                request.method,
                URL(url, encoded=True),
                data=body or None,
                headers={**headers, "Accept-Encoding": "identity", **self._headers},
                allow_redirects=False,
            )
        except aiohttp.ClientConnectorError as error:
            raise unreachable(url, str(error), maybe=False) from None
        except (aiohttp.ClientError, OSError) as error:
            raise unreachable(url, str(error) or type(error).__name__, maybe=True) from None
        try:
            _check_head(response, url)
            if response.status >= 400:
                return await _refused(response, url)
        except BaseException:
            response.close()
            raise
        return httpx2.Response(response.status, headers=list(response.headers.items()), stream=_Body(response))


def _check_head(response: aiohttp.ClientResponse, url: str) -> None:
    if response.headers.get("Content-Encoding", "identity") != "identity":
        raise RemoteProtocolError(f"{url[:200]} answered compressed though it was asked not to", maybe=True)
    if 300 <= response.status < 400:
        raise Unavailable(
            f"{url[:200]} redirects, which is not followed", fix="name the URL itself in the record", maybe=True
        )


class _Body(httpx2.AsyncByteStream):
    """An answer's body, bounded."""

    def __init__(self, response: aiohttp.ClientResponse) -> None:
        self._response = response

    async def __aiter__(self) -> AsyncIterator[bytes]:
        size = 0
        try:
            async for piece in self._response.content.iter_any():
                size += len(piece)
                if size > MAX_BODY:
                    raise httpx2.ReadError(f"the answer has more than {MAX_BODY} bytes")
                yield piece
        except aiohttp.ClientError as error:
            raise httpx2.ReadError(str(error)) from None

    async def aclose(self) -> None:
        # Not released for another request: there may be more of it under way.
        self._response.close()


async def _refused(response: aiohttp.ClientResponse, url: str) -> httpx2.Response:
    """Return an error of JSON-RPC as it is, and any other as a failure."""
    body = await response.content.read(_MAX_ERROR)
    response.close()
    headers = {name.lower(): value for name, value in response.headers.items()}
    answer = Answer(response.status, response.content_type.lower(), body, headers)
    if answer.media == "application/json":
        try:
            told = answer.json(url)
        except RemoteProtocolError:
            told = None
        if isinstance(told, dict) and told.get("jsonrpc") == "2.0":
            return httpx2.Response(response.status, headers={"content-type": "application/json"}, content=body)
    return _failed(error_of(answer, url, "the MCP server"))


def _failed(error: OsirisError) -> httpx2.Response:
    data = {"mark": _MARK, "error": _json(error.to_wire())}
    told = {"jsonrpc": "2.0", "id": None, "error": {"code": _CODE, "message": error.what[:1000], "data": data}}
    return httpx2.Response(502, headers={"content-type": "application/json"}, content=msgspec.json.encode(told))


def _json(wire: dict[str, Any]) -> dict[str, Any]:
    details = {
        name: value
        for name, value in wire.get("details", {}).items()
        if isinstance(value, (str, int, bool, type(None)))
    }
    return {**wire, "details": details}


def failure_of(code: int, data: Any) -> OsirisError | None:
    """Return the failure a protocol error carries, if it is one of ours."""
    if code != _CODE or not isinstance(data, dict) or data.get("mark") != _MARK:
        return None
    return OsirisError.from_wire(data.get("error"))
