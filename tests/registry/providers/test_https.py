"""The JSON call convention against real servers over TLS: results, errors, bounds, and what surely did not happen."""

from __future__ import annotations

import asyncio
import json
import ssl

import msgspec
import pytest
from aiohttp import web

from osiris_mesh.clock import SYSTEM
from osiris_mesh.errors import (
    Conflict,
    DeadlineExceeded,
    Denied,
    FunctionError,
    LimitExceeded,
    NotFound,
    Overloaded,
    RemoteProtocolError,
    Unavailable,
    UsageError,
    WorkerDied,
)
from osiris_mesh.gateway.http.problem import encode, status_of
from osiris_mesh.registry.guard import Guard
from osiris_mesh.registry.providers import exchange as exchange_module
from osiris_mesh.registry.providers.credentials import Credential, Credentials
from osiris_mesh.registry.providers.endpoint import Endpoints, surely_not
from osiris_mesh.registry.providers.exchange import Exchange
from osiris_mesh.registry.providers.https import HttpsEndpoint
from osiris_mesh.registry.providers.network import open_session
from osiris_mesh.registry.record import Provider


async def echo(request):
    body = json.loads(await request.read())
    return web.json_response(
        {
            "path": request.raw_path,
            "body": body,
            "headers": {name.lower(): text for name, text in request.headers.items()},
        }
    )


async def call(endpoint, provider, *args, deadline=None, headers=None, **kwargs):
    return await endpoint.call(provider, "team/f", args, kwargs, deadline=deadline, headers=headers or {})


async def test_call_and_result(serve, https):
    origin = await serve(echo)
    provider = Provider(id="p", endpoint=origin + "/v1/call/{name}")
    answer = await call(
        https({"p": (origin, "secret")}), provider, 1, b"\x00", headers={"idempotent": True, "context": "pure"}, x=1.5
    )
    assert answer["path"] == "/v1/call/team%2Ff"
    assert answer["body"] == {"args": [1, b"\x00"], "kwargs": {"x": 1.5}}
    assert answer["headers"]["authorization"] == "Bearer secret"
    assert answer["headers"]["osiris-idempotent"] == "true"
    assert answer["headers"]["osiris-context"] == "pure"
    assert 0 < int(answer["headers"]["osiris-timeout-ms"]) <= 300_000
    stranger = await call(https(), Provider(id="p", endpoint=origin + "/"), headers={"context": "pure"})
    assert "osiris-context" not in stranger["headers"]


async def test_a_credential_is_shown_to_its_own_origin_alone(serve, https):
    origin, other = await serve(echo), await serve(echo)
    endpoint = https({"p": (origin, "secret")})
    assert "authorization" not in (await call(endpoint, Provider(id="p", endpoint=other + "/")))["headers"]
    assert "authorization" not in (await call(endpoint, Provider(id="q", endpoint=origin + "/")))["headers"]
    assert "secret" not in repr(endpoint._credentials)


async def test_a_credential_is_shown_for_its_own_functions_alone(serve, exchange):
    asked = []

    async def handler(request):
        asked.append((request.method, request.headers.get("Authorization")))
        return web.json_response(None)

    origin = await serve(handler)
    shown = Credentials({"p": Credential.bearer(origin, "secret", ("team/f", "acme.com/*/*"))})
    endpoint = HttpsEndpoint(exchange, SYSTEM, shown)
    plain = Provider(id="p", endpoint=origin + "/")
    forged = Provider(id="p", endpoint=origin, reference="operation:DELETE:/users")
    for provider, name in ((plain, "team/f"), (plain, "evil.com/a/b"), (forged, "evil.com/a/b")):
        await endpoint.call(provider, name, [], {}, deadline=None, headers={})
    await endpoint.probe(forged)
    assert asked == [("POST", "Bearer secret"), ("POST", None), ("DELETE", None), ("HEAD", "Bearer secret")]


@pytest.mark.parametrize(
    ("error", "sure"),
    [
        (NotFound("no such", name="x"), True),
        (UsageError("wrong"), True),
        (Conflict("there is one"), False),
        (Denied("no"), True),
        (Overloaded("busy", retry_after_ms=5), True),
        (Unavailable("gone", maybe=True), False),
        (DeadlineExceeded("late"), False),
        (FunctionError("it raised", type="ValueError", message="bad", traceback="…"), False),
    ],
)
async def test_errors_of_a_mesh_arrive_as_they_were(serve, https, error, sure):
    async def handler(_request):
        return web.Response(status=status_of(error), body=encode(error), content_type="application/problem+json")

    provider = Provider(id="p", endpoint=await serve(handler))
    with pytest.raises(type(error)) as caught:
        await call(https(), provider)
    assert caught.value.what == error.what
    assert caught.value.details == error.details | ({} if sure or isinstance(error, FunctionError) else {"maybe": True})
    assert surely_not(caught.value) is sure


@pytest.mark.parametrize(
    ("status", "kind", "sure"),
    [
        (400, UsageError, True), (401, Denied, True), (403, Denied, True), (404, NotFound, True),
        (409, Conflict, False), (422, UsageError, True), (429, Overloaded, True),
        (500, Unavailable, False), (503, Unavailable, False),
        (504, DeadlineExceeded, False), (302, Unavailable, False), (307, Unavailable, False),
        (402, UsageError, False), (405, NotFound, False), (410, NotFound, False), (413, UsageError, True),
        (415, UsageError, True),
    ],
)  # fmt: skip
async def test_statuses_of_strangers(serve, https, status, kind, sure):
    async def handler(_request):
        return web.Response(status=status, text="no", headers={"Location": "https://localhost:1/", "Retry-After": "7"})

    provider = Provider(id="p", endpoint=await serve(handler))
    with pytest.raises(kind) as caught:
        await call(https(), provider)
    assert surely_not(caught.value) is sure
    if kind is Overloaded:
        assert caught.value.details["retry_after_ms"] == 7000


@pytest.mark.parametrize(
    ("status", "code", "kind", "sure"),
    [
        (500, "denied", Unavailable, False),
        (500, "usage", Unavailable, False),
        (503, "unavailable", Unavailable, False),
        (504, "deadline", DeadlineExceeded, False),
        (409, "conflict", Conflict, False),
        (418, "denied", Denied, False),
        (422, "worker_died", WorkerDied, False),
        (400, "unavailable", Unavailable, False),
        (400, "deadline", DeadlineExceeded, False),
        (403, "denied", Denied, True),
        (429, "overloaded", Overloaded, True),
    ],
)
async def test_a_provider_does_not_say_what_is_done_about_its_error(serve, https, status, code, kind, sure):
    told = {"maybe": False, "rule": "functions", "reason": "binding", "resolved": {}, "why": "quorum", "name": "x"}
    body = {"code": code, "detail": "no", "details": told | {"retry_after_ms": -1, "absent": True}}

    async def handler(_request):
        return web.json_response(body, status=status, content_type="application/problem+json")

    with pytest.raises(kind) as caught:
        await call(https(), Provider(id="p", endpoint=await serve(handler)))
    assert surely_not(caught.value) is sure
    assert not caught.value.details.keys() & {"rule", "reason", "resolved", "why", "absent", "retry_after_ms"}


@pytest.mark.parametrize("details", [{"$bytes": "!"}, {"$bytes": 7}, [], "x", None, {"$float": []}])
async def test_details_that_are_none_make_no_refusal(serve, https, details):
    async def handler(_request):
        return web.json_response(
            {"code": "unavailable", "detail": "no", "details": details},
            status=503,
            content_type="application/problem+json",
        )

    with pytest.raises(Unavailable) as caught:
        await call(https(), Provider(id="p", endpoint=await serve(handler)))
    assert not surely_not(caught.value)


async def test_an_answer_that_never_comes(serve, https):
    arrived, free = asyncio.Event(), asyncio.Event()

    async def handler(_request):
        arrived.set()
        await free.wait()
        return web.Response()

    provider = Provider(id="p", endpoint=await serve(handler))
    with pytest.raises(DeadlineExceeded) as caught:
        await call(https(), provider, deadline=SYSTEM.monotonic() + 0.5)
    free.set()
    assert arrived.is_set()
    assert not surely_not(caught.value)


async def test_a_deadline_that_is_over_asks_nobody(https):
    with pytest.raises(DeadlineExceeded) as caught:
        await call(https(), Provider(id="p", endpoint="https://localhost:1/"), deadline=SYSTEM.monotonic() - 1)
    assert surely_not(caught.value)


async def test_answers_out_of_bounds(serve, https, monkeypatch):
    async def handler(request):
        match request.path:
            case "/large":
                return web.Response(body=b'"' + b"x" * 2000 + b'"', content_type="application/json")
            case "/chunks":
                response = web.StreamResponse(headers={"Content-Type": "application/json"})
                await response.prepare(request)
                for _ in range(100):
                    await response.write(b" " * 100)
                return response
            case "/html":
                return web.Response(text="<html>", content_type="text/html")
            case "/broken":
                return web.Response(text="{", content_type="application/json")
            case "/deep":
                return web.Response(text="[" * 900 + "]" * 900, content_type="application/json")
            case "/zip":
                return web.Response(body=b"x", headers={"Content-Encoding": "gzip", "Content-Type": "application/json"})
        return web.Response(status=204)

    origin = await serve(handler)
    original = Exchange.send

    async def small(self, *args, **more):
        more["most"] = 1000
        return await original(self, *args, **more)

    assert await call(https(), Provider(id="p", endpoint=origin + "/none")) is None
    with monkeypatch.context() as patch:
        patch.setattr(Exchange, "send", small)
        for path in ("/large", "/chunks"):
            with pytest.raises(LimitExceeded):
                await call(https(), Provider(id="p", endpoint=origin + path))
    for path in ("/html", "/broken", "/zip"):
        with pytest.raises(RemoteProtocolError) as caught:
            await call(https(), Provider(id="p", endpoint=origin + path))
        assert not surely_not(caught.value)
    with pytest.raises((RemoteProtocolError, UsageError)):
        await call(https(), Provider(id="p", endpoint=origin + "/deep"))
    assert exchange_module.MAX_ANSWER == 16 << 20


async def test_nobody_there_is_surely_not(https):
    with pytest.raises(Unavailable) as caught:
        await call(https(), Provider(id="p", endpoint="https://localhost:1/"))
    assert surely_not(caught.value)


async def test_a_certificate_nobody_vouches_for_is_surely_not(serve):
    guard = Guard(["loopback"])
    session = open_session(guard, trust=ssl.create_default_context())
    origin = await serve(echo)
    try:
        with pytest.raises(Unavailable) as caught:
            await call(HttpsEndpoint(Exchange(session, guard), SYSTEM), Provider(id="p", endpoint=origin + "/"))
    finally:
        await session.close()
    assert surely_not(caught.value)


@pytest.mark.parametrize("endpoint", ["https://localhost:1/", "https://127.0.0.1:1/", "https://[::1]:1/"])
async def test_this_machine_is_refused_unless_allowed(endpoint):
    guard = Guard()
    session = open_session(guard)
    try:
        with pytest.raises(Denied) as caught:
            await call(HttpsEndpoint(Exchange(session, guard), SYSTEM), Provider(id="p", endpoint=endpoint))
    finally:
        await session.close()
    assert caught.value.details["rule"] == "address"
    assert surely_not(caught.value)


async def test_connections_are_kept(serve, https):
    ports = set()

    async def handler(request):
        ports.add(request.transport.get_extra_info("peername")[1])
        return web.json_response(1)

    endpoint, provider = https(), Provider(id="p", endpoint=await serve(handler))
    for _ in range(5):
        assert await call(endpoint, provider) == 1
    assert len(ports) == 1


async def test_probe_and_discovery_and_an_operation(serve, https):
    document = {
        "openapi": "3.0.0",
        "paths": {"/add/{a}": {"get": {"operationId": "add", "parameters": [
            {"name": "a", "in": "path", "required": True, "schema": {"type": "integer"}},
            {"name": "b", "in": "query", "required": True, "schema": {"type": "integer"}},
        ]}}},
    }  # fmt: skip

    async def handler(request):
        if request.path == "/openapi.json":
            return web.Response(body=msgspec.json.encode(document), content_type="application/json")
        if request.path.startswith("/add/"):
            return web.json_response(int(request.path[5:]) + int(request.query["b"]))
        raise web.HTTPNotFound

    origin = await serve(handler)
    endpoints = Endpoints({"https": https()})
    found = await endpoints.discover(origin + "/openapi.json")
    provider = found.found[0].binding("math/add", "1.0.0", Provider(id="p", endpoint=origin)).providers[0]
    assert await endpoints.call(provider, "math/add", [2], {"b": 3}, deadline=None, headers={}) == 5
    await endpoints.probe(provider)
    with pytest.raises(Unavailable):
        await endpoints.probe(Provider(id="p", endpoint="https://localhost:1/"))
    with pytest.raises(UsageError):
        endpoints.of("mcp://localhost/")
    await endpoints.close()
