"""The trace a call belongs to: that of the calling program's span, or of the call a function serves."""

from __future__ import annotations

from opentelemetry import trace

from osiris_mesh.codec import pack
from osiris_sdk.inside import current, serving
from osiris_sdk.options import Options
from osiris_sdk.talk import Talks

ABOVE = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
RESOLVED = {
    "name": "math/add",
    "version": "1.0.0",
    "digest": bytes(32),
    "signature": [[], ""],
    "binding": bytes(16),
    "description": "",
    "timeout_ms": 1000,
    "idempotent": False,
}


def headers(talks: Talks) -> dict[str, object]:
    """Return the headers of a call as they would be sent."""
    talk = talks.call("math/add", (), {}, Options())
    assert next(talk).method == "resolve"
    return talk.send(pack(RESOLVED)).headers


def test_without_a_span_nothing_is_said() -> None:
    assert "traceparent" not in headers(Talks(lambda: 0.0))


def test_the_current_span_of_a_program_that_has_one_goes_along() -> None:
    context = trace.SpanContext(1, 2, is_remote=False, trace_flags=trace.TraceFlags(1))
    with trace.use_span(trace.NonRecordingSpan(context)):
        sent = headers(Talks(lambda: 0.0, {"traceparent": ABOVE}))
    assert sent["traceparent"] == f"00-{1:032x}-{2:016x}-01"


def test_a_functions_own_calls_belong_to_the_call_it_serves() -> None:
    with serving(object(), depth=0, deadline=None, traceparent=ABOVE):  # type: ignore[arg-type]  # nothing is sent
        assert headers(current()._talks)["traceparent"] == ABOVE
    with serving(object(), depth=0, deadline=None):  # type: ignore[arg-type]
        assert "traceparent" not in headers(current()._talks)
