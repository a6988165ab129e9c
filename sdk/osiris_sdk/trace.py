"""The trace a call belongs to, where the calling program uses OpenTelemetry.

Where it does not, a look at ``sys.modules`` is all it costs, and nothing is imported.
"""

from __future__ import annotations

import sys
from typing import Final

__all__ = ["OPENTELEMETRY", "traceparent"]

OPENTELEMETRY: Final = "opentelemetry.trace"


def traceparent() -> str:
    """Return the W3C trace context of the program's current span; empty if there is none."""
    trace = sys.modules.get(OPENTELEMETRY)
    if trace is None:
        return ""
    context = trace.get_current_span().get_span_context()
    if not context.is_valid:
        return ""
    return f"00-{context.trace_id:032x}-{context.span_id:016x}-{int(context.trace_flags):02x}"
