"""What ``osiris.v1.Osiris`` answers: the same policy, bearers, limits and invoker as the HTTP face."""

from __future__ import annotations

import asyncio
import functools
import logging
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import aclosing, suppress
from typing import Any, Final, TypeVar

import grpc

from osiris_mesh.access.watch import Hold
from osiris_mesh.codec import VALUE, pack, unpack
from osiris_mesh.errors import InternalError, NotFound, OsirisError, Overloaded, Unavailable, UsageError
from osiris_mesh.function.name import qualified
from osiris_mesh.function.signature import Signature
from osiris_mesh.gateway.awaited import awaited
from osiris_mesh.gateway.grpc.osiris_pb2 import (
    CallReply,
    CallRequest,
    LogLine,
    LogsRequest,
    Parameter,
    ResolveReply,
    ResolveRequest,
)
from osiris_mesh.gateway.grpc.problem import ERROR_KEY, message_of, status_of
from osiris_mesh.gateway.grpc.values import fields_of, from_value, to_value
from osiris_mesh.gateway.http.bearer import Bearer, Bearers, hold
from osiris_mesh.gateway.http.calls import prepare
from osiris_mesh.gateway.http.parts import Parts
from osiris_mesh.gateway.http.route import JSON, MSGPACK
from osiris_mesh.gateway.http.shares import Shares
from osiris_mesh.gateway.http.values import packed_to_json
from osiris_mesh.gateway.in_force import Held
from osiris_mesh.link import Stream
from osiris_mesh.registry.context import HTTP_HEADER

__all__ = ["Service"]

_CONTEXT: Final = HTTP_HEADER.lower()
_MAX_TAIL: Final = 10_000
_MAX_QUEUED: Final = 1000
_LAST_WORD_S: Final = 0.1
_log = logging.getLogger(__name__)
Answer = TypeVar("Answer")


def _guarded(
    method: Callable[[Service, Any, Any], Awaitable[Answer]],
) -> Callable[[Service, Any, Any], Awaitable[Answer]]:
    """Turn errors into status codes, and count what is under way."""

    @functools.wraps(method)
    async def guarded(self: Service, request: Any, context: Any) -> Answer:
        try:
            return await method(self, request, context)
        except OsirisError as error:
            return await _abort(context, error)  # type: ignore[no-any-return]
        except asyncio.CancelledError:
            raise
        except grpc.aio.AbortError:
            raise
        except Exception:  # noqa: BLE001 - the outermost edge of a request
            _log.exception("a request failed", extra={"method": method.__name__})
            return await _abort(context, InternalError("the request failed inside the controller", fix="see its log"))  # type: ignore[no-any-return]

    return guarded


async def _abort(context: Any, error: OsirisError) -> Any:
    return await context.abort(status_of(error), str(error), ((ERROR_KEY, message_of(error)),))


class Service:
    """The methods; each gets a request and grpc's context.

    Args:
        parts: The controller's parts.
    """

    def __init__(self, parts: Parts) -> None:
        self._parts = parts
        self._bearers = Bearers(parts)
        self._signatures: dict[bytes, Signature] = {}
        settings = parts.settings
        self._shares = Shares(settings)
        self._rate = Held("http.requests_per_s", settings.requests_per_s)
        self._streams_each = Held("http.streams_per_bearer", settings.streams_per_bearer)
        self.stopping = asyncio.Event()

    def _bearer(self, context: Any, permission: str, name: str) -> Bearer:
        if self.stopping.is_set():
            raise Unavailable("the controller stops", fix="ask another node", maybe=False)
        header = next((value for key, value in context.invocation_metadata() if key == "authorization"), None)
        now = self._parts.clock.monotonic()
        bearer = self._bearers.of(header if isinstance(header, str) else None, now)
        bearer.require(permission, name)
        if permission != "function.call":
            self._shares.ask(bearer.token, self._rate.of(self._parts.in_force()), now)
        return bearer

    @_guarded
    async def Call(self, request: CallRequest, context: Any) -> CallReply:  # noqa: N802 - the name of the .proto
        """Call a function."""
        bearer = self._bearer(context, "function.call", request.name)
        form = request.WhichOneof("arguments") or "values"
        given = {"Osiris-Idempotent": "true"} if request.idempotent else {}
        for key, value in context.invocation_metadata():
            if key == "traceparent":
                given[key] = value
            elif key == _CONTEXT:
                given[HTTP_HEADER] = value
        if form == "json":
            media, body = JSON, request.json
        else:
            media, body = MSGPACK, request.msgpack if form == "msgpack" else self._bind(request)
        packed, headers = prepare(self._parts, request.name, media, body, given)
        result, facts = await self._run(request.name, packed, headers, bearer, context)
        reply = CallReply(
            node=str(facts.get("node", "")),
            version=str(facts.get("version", "")),
            warm=facts.get("warm") is True,
            elapsed_us=facts["elapsed_us"],
        )
        if form == "msgpack":
            reply.msgpack = result
        elif form == "json":
            reply.json = packed_to_json(result)
        else:
            reply.value.CopyFrom(to_value(unpack(result, VALUE)))
        return reply

    def _bind(self, request: CallRequest) -> bytes:
        """Return the packed arguments of a call that has them as messages, bound against the signature."""
        args, kwargs = [from_value(item) for item in request.values.args], fields_of(request.values.kwargs)
        try:
            spec = self._parts.calls.find(request.name)
        except NotFound:
            if not self._parts.calls.asks_beyond:
                raise
            # Bound where it is resolved.
            return pack([args, kwargs])
        signature = self._signatures.get(spec.digest)
        if signature is None:
            if len(self._signatures) >= _MAX_QUEUED:
                self._signatures.clear()
            signature = self._signatures[spec.digest] = Signature.from_wire(spec.signature, spec.name)
        try:
            bound_args, bound_kwargs = signature.bind(args, kwargs)
        except TypeError as error:
            raise UsageError(str(error), fix="see its signature: Resolve") from None
        return pack([bound_args, bound_kwargs])

    async def _run(
        self, name: str, body: bytes, headers: dict[str, Any], bearer: Bearer, context: Any
    ) -> tuple[bytes, dict[str, Any]]:
        left = context.time_remaining()
        ends = None if left is None else self._parts.clock.monotonic() + left
        return await awaited(self._parts.calls, name, body, deadline=ends, headers=headers, caller=bearer.caller)

    @_guarded
    async def Resolve(self, request: ResolveRequest, context: Any) -> ResolveReply:  # noqa: N802 - as above
        """Say which version a name means."""
        bearer = self._bearer(context, "function.read", request.name)
        facts = await self._parts.calls.look_up(request.name, caller=bearer.caller, headers={})
        signature = Signature.from_wire(facts["signature"], facts["name"]).to_json()
        return ResolveReply(
            name=facts["name"],
            version=facts["version"],
            digest=facts["digest"],
            description=facts["description"],
            timeout_ms=facts["timeout_ms"],
            idempotent=facts["idempotent"],
            signature=signature["text"],
            parameters=[Parameter(**each) for each in signature["parameters"]],
            returns=signature["returns"],
        )

    async def StreamLogs(self, request: LogsRequest, context: Any) -> None:  # noqa: N802 - as above
        """Send what a function printed on this node, as long as the client takes each line in time."""
        try:
            bearer = self._bearer(context, "function.logs", request.name)
            name = qualified(request.name) if request.name else ""
            if name:
                self._parts.calls.find(name)
            most = self._streams_each.of(self._parts.in_force())
            with self._shares.stream(bearer.token, bearer.principal.owner or bearer.caller.public_key, most):
                async with aclosing(self._lines(name, request, bearer)) as lines:
                    async for line in lines:
                        # Written here and not yielded, so that there is an end to waiting for who takes nothing.
                        async with asyncio.timeout(self._parts.settings.write_s):
                            await context.write(line)
        except OsirisError as error:
            await _abort(context, error)
        except TimeoutError:
            _log.info("a log stream was cut: its client takes nothing")
            # The status lies behind what he does not take: he gets it should he read on, and nobody waits for him.
            with suppress(TimeoutError):
                async with asyncio.timeout(_LAST_WORD_S):
                    await _abort(context, Overloaded("the lines are not read as fast as they come", fix="read on"))
            raise asyncio.CancelledError from None

    async def _lines(self, name: str, request: LogsRequest, bearer: Bearer) -> AsyncGenerator[LogLine, None]:
        lines = _Lines()
        held = hold(self._parts, bearer, "function.logs", name)
        feeding = asyncio.ensure_future(self._feed(name, request, lines, held))
        stopping = asyncio.ensure_future(self.stopping.wait())
        stopping.add_done_callback(lambda _: feeding.cancel())
        try:
            while (line := await lines.queue.get()) is not None:
                if held.principal.may("function.logs", line["function"]):
                    yield LogLine(**line)
            if lines.error is not None:
                raise lines.error
        finally:
            stopping.cancel()
            feeding.cancel()

    async def _feed(self, name: str, request: LogsRequest, lines: _Lines, held: Hold) -> None:
        sink: Any = lines
        stream: Stream = sink  # it has the two methods that are called
        tail = min(request.tail, _MAX_TAIL) if request.HasField("tail") else 100
        try:
            async with held:
                await self._parts.functions.logs(
                    name, stream, tail=tail, follow=request.follow, since_ms=min(request.since_ms, 1 << 53)
                )
        except OsirisError as error:
            lines.error = error
        finally:
            if self.stopping.is_set():
                lines.error = Unavailable("the controller stops", fix="ask another node", maybe=False)
            await lines.end()


class _Lines:
    """Takes log lines as a link's stream would; who sends waits while the client reads nothing."""

    def __init__(self) -> None:
        self.queue: asyncio.Queue[dict[str, Any] | None] = asyncio.Queue(_MAX_QUEUED)
        self.error: OsirisError | None = None

    async def send(self, data: bytes) -> None:
        await self.queue.put(unpack(data))

    async def end(self) -> None:
        await self.queue.put(None)
