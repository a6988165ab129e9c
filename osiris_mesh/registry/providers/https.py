"""``https://``: the JSON call convention, and operations of an OpenAPI description.

A call is ``POST`` of ``{"args": […], "kwargs": {…}}``; the answer is the result as JSON, an error is
``application/problem+json``. Bytes are ``{"$bytes": "<base64>"}``. A gateway of a mesh is such a provider:
``https://HOST/v1/call/{name}``, where ``{name}`` in an endpoint's path stands for the function asked for. A provider
whose ``reference`` begins with ``operation:`` is asked as its description says (:mod:`.operation`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final
from urllib.parse import quote, urlsplit

import msgspec

from osiris_mesh.clock import Clock
from osiris_mesh.errors import OsirisError, UsageError
from osiris_mesh.function.json_form import from_json, to_json
from osiris_mesh.registry import context
from osiris_mesh.registry.providers.credentials import NONE, Credentials
from osiris_mesh.registry.providers.endpoint import Discovery, left, unreachable
from osiris_mesh.registry.providers.exchange import Answer, Exchange, error_of
from osiris_mesh.registry.providers.openapi import capabilities
from osiris_mesh.registry.providers.operation import PREFIX, Operation
from osiris_mesh.registry.record import Provider

__all__ = ["CALL_SECONDS", "HttpsEndpoint", "json_headers"]

CALL_SECONDS: Final = 300.0
"""Longest time of one call whose caller names none, seconds."""
_PROBE_SECONDS: Final = 5.0
_DISCOVER_SECONDS: Final = 30.0
_MAX_DOCUMENT: Final = 4 << 20
_MAX_CALL: Final = 16 << 20
_MAX_HEADER: Final = 4096
_encode = msgspec.json.Encoder().encode


class HttpsEndpoint:
    """Asks ``https://`` providers, and ``http://`` ones on this machine.

    Args:
        exchange: Sends requests.
        clock: Time.
        credentials: What providers are shown.
    """

    def __init__(self, exchange: Exchange, clock: Clock, credentials: Credentials = NONE) -> None:
        self._exchange = exchange
        self._clock = clock
        self._credentials = credentials

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
        """Call a function; see :meth:`osiris_mesh.registry.providers.endpoint.Endpoint.call`."""
        seconds = left(self._clock, deadline, CALL_SECONDS)
        shown = self._credentials.headers(provider.id, provider.endpoint, name)
        if provider.reference.startswith(PREFIX):
            request = Operation.parse(provider.reference).request(provider.endpoint, args, kwargs)
            method, url, body = request.method, request.url, request.body
            shown = {**request.headers, **shown}
        else:
            method, url = "POST", call_url(provider.endpoint, provider.reference or name)
            body = _encode({"args": to_json(list(args)), "kwargs": to_json(dict(kwargs))})
            # A context names functions of this mesh: that is for gateways of a mesh, not for strangers.
            told = headers if "{name}" in provider.endpoint else {**headers, context.HEADER: None}
            shown = {**json_headers(told, seconds), **shown}
        if body is not None and len(body) > _MAX_CALL:
            raise UsageError(f"the arguments of {name} have more than {_MAX_CALL} bytes", fix="pass less", maybe=False)
        answer = await self._exchange.send(method, url, seconds=seconds, body=body, headers=shown)
        return result(answer, provider.endpoint, name)

    async def probe(self, provider: Provider, *, deadline: float | None = None) -> None:
        """Find out whether something answers at the provider's origin; any status but a server's error will do."""
        seconds = left(self._clock, deadline, _PROBE_SECONDS)
        url = call_url(provider.endpoint, provider.reference if "{name}" in provider.endpoint else "")
        shown = self._credentials.headers(provider.id, provider.endpoint, None)
        answer = await self._exchange.send("HEAD", url, seconds=seconds, headers=shown, most=64 << 10)
        if answer.status >= 500 and answer.status != 501:
            raise unreachable(provider.endpoint, f"status {answer.status}", maybe=False)

    async def discover(self, endpoint: str, *, deadline: float | None = None) -> Discovery:
        """Return the operations of the OpenAPI 3 description at ``endpoint``.

        Raises:
            UsageError: It is no such description.
            OsirisError: It does not answer, or not in bounds.
        """
        seconds = left(self._clock, deadline, _DISCOVER_SECONDS)
        shown = self._credentials.headers(urlsplit(endpoint).hostname or "", endpoint, None)
        answer = await self._exchange.send("GET", endpoint, seconds=seconds, headers=shown, most=_MAX_DOCUMENT)
        if answer.status != 200:
            raise error_of(answer, endpoint, "the description")
        return capabilities(answer.json(endpoint))

    async def close(self) -> None:
        """Nothing is held here; the session is its maker's."""


def call_url(endpoint: str, name: str) -> str:
    """Return the URL that is posted to: ``{name}`` filled in, and nothing else changed."""
    return endpoint.replace("{name}", quote(name, safe=""))


def json_headers(headers: Mapping[str, Any], seconds: float) -> dict[str, str]:
    """Return what of a call's headers a provider is told."""
    told = {"Osiris-Timeout-Ms": str(max(int(seconds * 1000), 1))}
    if headers.get("idempotent") is True:
        told["Osiris-Idempotent"] = "true"
    for name, sent in (("traceparent", "traceparent"), (context.HEADER, context.HTTP_HEADER)):
        value = headers.get(name)
        if type(value) is str and value.isascii() and value.isprintable() and 0 < len(value) <= _MAX_HEADER:
            told[sent] = value
    return told


def result(answer: Answer, where: str, name: str) -> Any:
    """Return the result an answer holds.

    Raises:
        OsirisError: What it says instead.
    """
    if not 200 <= answer.status < 300:
        raise error_of(answer, where, name)
    if answer.status == 204 or not answer.body:
        return None
    try:
        return from_json(answer.json(where))
    except OsirisError as error:
        # The function ran: what came of it can't be read.
        error.details["maybe"] = True
        raise
