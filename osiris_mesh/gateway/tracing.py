"""OpenTelemetry (extra ``otel``): spans of calls, sent to a collector by OTLP over HTTP.

Off unless an endpoint is named, by the node's option ``otlp`` or by ``OTEL_EXPORTER_OTLP_ENDPOINT``; nothing of
OpenTelemetry is imported then. Spans wait in a bounded queue and are sent by a thread: a collector that hangs costs
spans, never calls. The usual variables (``OTEL_TRACES_SAMPLER``, ``OTEL_EXPORTER_OTLP_HEADERS``, …) hold.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Final

from osiris_mesh.errors import UsageError

if TYPE_CHECKING:
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.trace import Span as OtelSpan
    from opentelemetry.trace import Tracer as OtelTracer

__all__ = ["VARIABLES", "Tracing", "start_tracing"]

VARIABLES: Final = ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "OTEL_EXPORTER_OTLP_ENDPOINT")
"""Environment variables either of which turns tracing on."""
_SEND_SECONDS: Final = 5.0
_CLOSE_SECONDS: Final = 3.0
_log = logging.getLogger("osiris.tracing")


class _Span:
    """One span of OpenTelemetry as :class:`osiris_mesh.invoke.trace.Span`."""

    __slots__ = ("_span", "traceparent")

    def __init__(self, span: OtelSpan) -> None:
        context = span.get_span_context()
        self._span = span
        self.traceparent = f"00-{context.trace_id:032x}-{context.span_id:016x}-{int(context.trace_flags):02x}"

    def end(self, error: str = "") -> None:
        """End it."""
        if error:
            from opentelemetry.trace import Status, StatusCode  # noqa: PLC0415 - imported with the tracer

            self._span.set_attribute("error.type", error)
            self._span.set_status(Status(StatusCode.ERROR, error))
        self._span.end()


class Tracing:
    """Records spans of this node; an :class:`osiris_mesh.invoke.trace.Tracer`. :func:`start_tracing` makes one."""

    def __init__(self, provider: TracerProvider, tracer: OtelTracer) -> None:
        self._provider = provider
        self._tracer = tracer

    def start(self, name: str, parent: str, *, server: bool, attributes: Mapping[str, Any]) -> _Span:
        """Begin a span under the context ``parent``, or of a new trace."""
        from opentelemetry import trace  # noqa: PLC0415 - imported with the tracer
        from opentelemetry.context import Context  # noqa: PLC0415

        context = Context()
        if parent:
            remote = trace.SpanContext(
                trace_id=int(parent[3:35], 16),
                span_id=int(parent[36:52], 16),
                is_remote=True,
                trace_flags=trace.TraceFlags(int(parent[53:55], 16)),
            )
            context = trace.set_span_in_context(trace.NonRecordingSpan(remote), context)
        kind = trace.SpanKind.SERVER if server else trace.SpanKind.INTERNAL
        return _Span(self._tracer.start_span(name, context, kind, attributes))

    def close(self) -> None:
        """Send what waits, for 3 s at most; blocks."""
        # The provider's own end may take as long as its exporter likes; a daemon thread may be left behind.
        thread = threading.Thread(target=self._provider.shutdown, name="tracing-end", daemon=True)
        thread.start()
        thread.join(_CLOSE_SECONDS)
        if thread.is_alive():
            _log.warning("spans may be lost: the collector did not take them in time")


def start_tracing(
    endpoint: str, environment: Mapping[str, str], *, peer: str, node: str, version: str
) -> Tracing | None:
    """Begin to record spans if somebody wants them.

    Args:
        endpoint: Base URL of the collector, for example ``http://127.0.0.1:4318``; empty leaves it to the environment.
        environment: The process's.
        peer: Peer id of this node.
        node: Its name.
        version: Of the software.

    Returns:
        None if no endpoint is named, or if the extra is not installed while only the environment names one.

    Raises:
        UsageError: The option names an endpoint and the extra is not installed.
    """
    if not endpoint and not any(environment.get(name) for name in VARIABLES):
        return None
    try:
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter  # noqa: PLC0415 - an extra
        from opentelemetry.sdk.resources import Resource  # noqa: PLC0415
        from opentelemetry.sdk.trace import TracerProvider  # noqa: PLC0415
        from opentelemetry.sdk.trace.export import BatchSpanProcessor  # noqa: PLC0415
    except ImportError as error:
        fix = "install it with: pip install 'osiris-mesh[otel]'"
        if endpoint:
            raise UsageError(f"traces can't be sent: {error.name} is not installed", fix=fix) from None
        _log.warning("traces can't be sent", extra={"missing": error.name, "fix": fix})
        return None
    target = endpoint.rstrip("/") + "/v1/traces" if endpoint else None
    resource = Resource.create(
        {
            "service.name": environment.get("OTEL_SERVICE_NAME", "osiris-mesh"),
            "service.instance.id": peer,
            "service.version": version,
            "osiris.node": node,
        }
    )
    provider = TracerProvider(resource=resource, shutdown_on_exit=False)
    provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter(endpoint=target, timeout=_SEND_SECONDS)))
    _log.info("traces are sent", extra={"endpoint": target or "as the environment says"})
    return Tracing(provider, provider.get_tracer("osiris_mesh", version))
