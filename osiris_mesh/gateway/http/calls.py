"""Calls over HTTP: arguments in, result out, no task of its own for a call on a warm instance.

A body of msgpack is what the worker gets, and its answer is what the client gets, byte for byte. A body of JSON is
bound against the function's signature here, so that a wrong argument is told before anything is sent.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any, Final

import msgspec

from osiris_mesh.codec import pack
from osiris_mesh.errors import LimitExceeded, NotFound, OsirisError, UsageError
from osiris_mesh.function.signature import Signature
from osiris_mesh.function.spec import FunctionSpec
from osiris_mesh.gateway.awaited import awaited
from osiris_mesh.gateway.http import types
from osiris_mesh.gateway.http.parts import Parts
from osiris_mesh.gateway.http.problem import problem
from osiris_mesh.gateway.http.route import JSON, MSGPACK, Ask, Output
from osiris_mesh.gateway.http.values import from_json, packed_to_json, to_json
from osiris_mesh.invoke.trace import HEADER as TRACEPARENT
from osiris_mesh.registry.context import HEADER as CONTEXT
from osiris_mesh.registry.context import HTTP_HEADER, parse

__all__ = ["CALL_HEADERS", "answer_media", "call", "deadline", "fact_headers", "map_", "prepare", "run"]

_PROVIDERS: Final = "Osiris-Providers"
CALL_HEADERS: Final = ("Osiris-Call", "Osiris-Node", "Osiris-Version", "Osiris-Elapsed-Us", "Osiris-Warm")
"""Headers of a call's answer."""
_MAX_TIMEOUT_MS: Final = 7 * 24 * 3600 * 1000
_MAX_SIGNATURES: Final = 1024
_MAX_FACT: Final = 128
_SHALLOW: Final = 100
_decode_call = msgspec.json.Decoder(types.CallBody).decode
_signatures: dict[bytes, Signature] = {}


async def run(
    ask: Ask, name: str, body: bytes, ends: float | None, headers: Mapping[str, Any]
) -> tuple[bytes, dict[str, Any]]:
    """Call a function for a request's bearer; return the packed result and its details, if they were asked for."""
    return await awaited(ask.parts.calls, name, body, deadline=ends, headers=headers, caller=ask.bearer.caller)


async def call(ask: Ask) -> Output:
    """Call a function."""
    name, given = ask.names["name"], ask.request.headers
    body, headers = prepare(ask.parts, name, ask.media, ask.body, given)
    result, facts = await run(ask, name, body, deadline(ask.parts, given), headers)
    media = answer_media(ask.media, given.get("Accept"))
    return Output(result if media == MSGPACK else packed_to_json(result), media, 200, fact_headers(facts))


def prepare(parts: Parts, name: str, media: str, data: bytes, given: Mapping[str, str]) -> tuple[bytes, dict[str, Any]]:
    """Return what the invoker is given: the packed arguments, and the headers of the call.

    Args:
        parts: The controller's parts.
        name: The function's name as it was written.
        media: Media type of ``data``.
        data: The request's body.
        given: The request's headers.

    Raises:
        UsageError: A header or the body is wrong, or the arguments do not fit the signature.
        NotFound: No such function.
    """
    body = data if media == MSGPACK else _bind(parts, name, data)
    if not body:
        raise UsageError("the body is not a packed [args, kwargs]")
    headers: dict[str, Any] = {"details": True}
    binding = given.get("Osiris-Binding")
    if binding is not None:
        headers["binding"] = _binding(binding)
    idempotent = given.get("Osiris-Idempotent")
    if idempotent is not None:
        headers["idempotent"] = _flag(idempotent)
    trace = given.get(TRACEPARENT)
    if trace is not None:
        headers[TRACEPARENT] = trace
    context = given.get(HTTP_HEADER)
    if context is not None:
        headers[CONTEXT] = _context(context)
    providers = given.get(_PROVIDERS)
    if providers is not None:
        headers["providers"] = [name for name in map(str.strip, providers.split(",")) if name]
    return body, headers


def answer_media(media: str, accept: str | None) -> str:
    """Return the media type of a call's answer: what is accepted, else that of the request."""
    if accept is None or accept == "*/*":
        return media
    if MSGPACK in accept:
        return MSGPACK
    return JSON if "json" in accept else media


def deadline(parts: Parts, given: Mapping[str, str]) -> float | None:
    """Return the monotonic second after which no answer is wanted, by the request's headers."""
    text = given.get("Osiris-Timeout-Ms")
    if text is None:
        return None
    if not (text.isascii() and text.isdigit() and 0 < int(text[:12]) <= _MAX_TIMEOUT_MS and len(text) <= 12):
        raise UsageError(f"Osiris-Timeout-Ms is not a number from 1 to {_MAX_TIMEOUT_MS}")
    return parts.clock.monotonic() + int(text) / 1000


def _binding(text: str) -> bytes:
    try:
        return bytes.fromhex(text)
    except ValueError:
        raise UsageError("Osiris-Binding is not hexadecimal", fix="send the binding a resolve answered") from None


def _context(text: str) -> str:
    """Return the text of a security context, if it is one; said before anything is resolved beyond this mesh."""
    parse(text)
    return text


def _flag(text: str) -> bool:
    if text not in {"true", "false"}:
        raise UsageError("Osiris-Idempotent is neither true nor false")
    return text == "true"


def fact_headers(facts: Mapping[str, Any]) -> tuple[tuple[str, str], ...]:
    """Return what is known of a call as headers; what another node says of itself is checked like any stranger's."""
    found = [("Osiris-Elapsed-Us", str(facts["elapsed_us"]))] if "elapsed_us" in facts else []
    for header, key in (("Osiris-Call", "call"), ("Osiris-Node", "node"), ("Osiris-Version", "version")):
        value = facts.get(key)
        if type(value) is str and len(value) <= _MAX_FACT and value.isascii() and value.isprintable():
            found.append((header, value))
    if "warm" in facts:
        found.append(("Osiris-Warm", "true" if facts["warm"] is True else "false"))
    return tuple(found)


def _signature(spec: FunctionSpec) -> Signature:
    known = _signatures.get(spec.digest)
    if known is None:
        if len(_signatures) >= _MAX_SIGNATURES:
            _signatures.clear()
        known = _signatures[spec.digest] = Signature.from_wire(spec.signature, spec.name)
    return known


def _bind(parts: Parts, name: str, data: bytes) -> bytes:
    """Return the packed arguments of a JSON body.

    Raises:
        UsageError: Not such a body, or the arguments do not fit the signature.
    """
    args: list[Any] = []
    kwargs: dict[str, Any] = {}
    if data:
        try:
            body = _decode_call(data)
        except (msgspec.DecodeError, RecursionError) as error:
            raise UsageError(f"the body is not a call: {error}", fix='send {"args": […], "kwargs": {…}}') from None
        args, kwargs = body.args, body.kwargs
        # The forms of bytes have a dollar sign, which JSON may also write as an escape.
        if b"$" in data or b"\\u" in data or data.count(b"[") + data.count(b"{") > _SHALLOW:
            args, kwargs = from_json(args), {key: from_json(value) for key, value in kwargs.items()}
    return _packed(_signature_here(parts, name), args, kwargs, name)


def _signature_here(parts: Parts, name: str) -> Signature | None:
    """Return what arguments are bound against; None: the function is not of this mesh, and they are bound elsewhere.

    Raises:
        NotFound: No such function, and nobody else is asked.
    """
    try:
        return _signature(parts.calls.find(name))
    except NotFound:
        if not parts.calls.asks_beyond:
            raise
        return None


def _packed(signature: Signature | None, args: list[Any], kwargs: dict[str, Any], name: str) -> bytes:
    if signature is None:
        return pack([args, kwargs])
    try:
        bound_args, bound_kwargs = signature.bind(args, kwargs)
    except TypeError as error:
        raise UsageError(str(error), fix=f"see its signature: GET /v1/resolve/{name}") from None
    return pack([bound_args, bound_kwargs])


async def map_(ask: Ask) -> types.MapResults:
    """Call a function once for each item, some at a time; every item has a result or an error of its own.

    Raises:
        UsageError: An item does not fit the signature; nothing was sent.
    """
    settings = ask.parts.settings
    name, body = ask.names["name"], ask.body
    if len(body.items) > settings.map_items:
        raise UsageError(
            f"{len(body.items)} items are more than the {settings.map_items} of one map", fix="send several"
        )
    signature = _signature_here(ask.parts, name)
    bodies = [_packed(signature, [from_json(item)], {}, name) for item in body.items]
    ends = deadline(ask.parts, ask.request.headers)
    given = ask.request.headers.get(HTTP_HEADER)
    headers = {} if given is None else {CONTEXT: _context(given)}
    results: list[Any] = [None] * len(bodies)
    waiting = iter(range(len(bodies)))
    size = 0

    async def work() -> None:
        nonlocal size
        for at in waiting:
            try:
                if size > settings.call_body:
                    raise LimitExceeded(
                        f"the results of this map have more than {settings.call_body} bytes",
                        limit="map",
                        fix="send fewer items",
                    )
                packed, _ = await run(ask, name, bodies[at], ends, headers)
                size += len(packed)
                results[at] = {"ok": True, "result": msgspec.Raw(packed_to_json(packed))}
            except OsirisError as error:
                results[at] = {"ok": False, "error": to_json(msgspec.to_builtins(problem(error)))}

    workers = min(body.concurrency, settings.map_concurrency, len(bodies))
    async with asyncio.TaskGroup() as group:
        for _ in range(workers):
            group.create_task(work())
    return types.MapResults(results)
