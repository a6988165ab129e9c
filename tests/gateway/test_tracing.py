"""Traces: the context from caller to worker, and spans as a collector gets them over OTLP/HTTP."""

from __future__ import annotations

import asyncio
import gzip
import random
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.trace.v1.trace_pb2 import Span, Status

from osiris_mesh.clock import SYSTEM
from osiris_mesh.codec import pack
from osiris_mesh.errors import FunctionError, Overloaded, WorkerDied
from osiris_mesh.gateway.tracing import Tracing, start_tracing
from osiris_mesh.invoke.choice import Candidate
from osiris_mesh.invoke.invoker import Invoker
from osiris_mesh.invoke.trace import checked
from osiris_mesh.link import Audience, Caller, Request
from osiris_mesh.settings.invoke import InvokeSettings
from tests.invoke.fakes import FakeLedger, FakePeers, FakeRunner, Had, spec

ABOVE = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
ME = Caller(b"", "", Audience.LOCAL, "test")
BODY = pack([[2, 3], {}])


@pytest.mark.parametrize(
    ("value", "good"),
    [
        (ABOVE, True),
        (ABOVE[:-1] + "0", True),
        ("", False),
        (None, False),
        (b"x", False),
        (ABOVE.upper(), False),
        (ABOVE + "\n", False),
        (ABOVE + "-x", False),
        ("ff" + ABOVE[2:], False),
        ("00-" + "0" * 32 + ABOVE[35:], False),
        (ABOVE[:36] + "0" * 16 + "-01", False),
    ],
)
def test_contexts(value: object, good: bool) -> None:
    assert checked(value) == (value if good else "")


class Collector:
    """An OTLP/HTTP receiver."""

    def __init__(self) -> None:
        self.requests: list[ExportTraceServiceRequest] = []
        collector = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                if self.headers.get("Content-Encoding") == "gzip":
                    body = gzip.decompress(body)
                request = ExportTraceServiceRequest()
                request.ParseFromString(body)
                assert self.path == "/v1/traces"
                collector.requests.append(request)
                self.send_response(200)
                self.send_header("Content-Length", "0")
                self.end_headers()

            def log_message(self, *_: object) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.01})
        self._thread.start()
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}"

    def spans(self) -> dict[str, Span]:
        return {
            span.name: span
            for request in self.requests
            for resource in request.resource_spans
            for scope in resource.scope_spans
            for span in scope.spans
        }

    def close(self) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()


@pytest.fixture
def collector() -> Iterator[Collector]:
    made = Collector()
    yield made
    made.close()


def tracing(collector: Collector) -> Tracing:
    made = start_tracing(collector.url, {}, peer="me", node="n1", version="1")
    assert made is not None
    return made


class Bench:
    def __init__(self, tracer: Tracing | None = None) -> None:
        self.runner = FakeRunner({"math/add": lambda a, b: a + b})
        self.peers = FakePeers()
        self.ledger = FakeLedger(spec("math/add", idempotent=True))
        self.invoker = Invoker(
            me="me",
            ledger=self.ledger,
            runner=self.runner,
            peers=self.peers,
            settings=InvokeSettings(),
            clock=SYSTEM,
            rng=random.Random(1),
            tracer=tracer,
        )

    async def call(self, **headers: Any) -> bytes:
        return await self.invoker.call("math/add", BODY, deadline=None, headers=headers, caller=ME)

    async def run_here(self, **headers: Any) -> bytes:
        known = self.ledger.functions["math/add"][0]
        named = {"name": known.name, "version": known.version, "digest": known.digest, "caller": "c", **headers}
        return await self.invoker.run_here(Request("call.run", BODY, named, None, ME))

    async def begin(self, **headers: Any) -> Any:
        """Go the way of a call on a warm instance, without a task."""
        done: asyncio.Future[Any] = asyncio.get_running_loop().create_future()

        class Answer:
            send = staticmethod(done.set_result)
            fail = staticmethod(done.set_result)

            @staticmethod
            def on_cancel(_callback: object) -> None:
                pass

        self.invoker.begin("math/add", BODY, Answer(), deadline=None, headers=headers, caller=ME)  # type: ignore[arg-type]
        async with asyncio.timeout(5):
            return await done


async def test_without_a_tracer_the_context_is_passed_on_and_nothing_else() -> None:
    bench = Bench()
    await bench.call(traceparent=ABOVE)
    await bench.begin(traceparent=ABOVE)
    await bench.run_here(traceparent=ABOVE)
    assert [run["traceparent"] for run in bench.runner.runs] == [ABOVE] * 3
    bench.runner.runs.clear()
    await bench.call()
    await bench.call(traceparent="nonsense")
    await bench.run_here(traceparent=7)
    assert not any("traceparent" in run for run in bench.runner.runs)
    bench.runner.had = Had(instances=0, room=False)
    bench.peers.nodes = [Candidate("other", 1, 0, 0, 0.1, room=True)]
    bench.peers.answers = {"other": pack(5)}
    await bench.call(traceparent=ABOVE)
    assert bench.peers.calls[0][2]["traceparent"] == ABOVE


async def test_a_local_call_has_two_spans_under_its_callers(collector: Collector) -> None:
    tracer = tracing(collector)
    bench = Bench(tracer)
    await bench.begin(traceparent=ABOVE)
    await asyncio.to_thread(tracer.close)
    spans = collector.spans()
    call, run = spans["call math/add"], spans["run math/add"]
    assert call.trace_id.hex() == run.trace_id.hex() == ABOVE[3:35]
    assert call.parent_span_id.hex() == ABOVE[36:52]
    assert run.parent_span_id == call.span_id
    assert bench.runner.runs[0]["traceparent"] == f"00-{ABOVE[3:35]}-{run.span_id.hex()}-01"
    assert (call.kind, run.kind) == (Span.SPAN_KIND_SERVER, Span.SPAN_KIND_INTERNAL)
    assert {item.key: item.value.string_value for item in call.attributes} == {
        "osiris.function": "math/add",
        "osiris.version": "1.0.0",
        "osiris.audience": "local",
    }
    assert call.status.code == run.status.code == Status.STATUS_CODE_UNSET
    resource = {
        item.key: item.value.string_value for item in collector.requests[0].resource_spans[0].resource.attributes
    }
    assert (resource["service.name"], resource["service.instance.id"], resource["osiris.node"]) == (
        "osiris-mesh",
        "me",
        "n1",
    )


async def test_a_call_forwarded_after_a_failure_shows_both_attempts(collector: Collector) -> None:
    tracer = tracing(collector)
    here, there = Bench(tracer), Bench(tracer)
    here.runner.before = [WorkerDied("killed")]
    here.peers.nodes = [Candidate("other", 1, 0, 0, 0.1, room=True)]
    gone_on: dict[str, Any] = {}

    def answer(_body: bytes, headers: dict[str, Any]) -> bytes:
        gone_on.update(headers)
        return pack(5)

    here.peers.answers = {"other": answer}
    await here.call()
    there.runner.code["math/add"] = lambda *_: 1 // 0
    with pytest.raises(FunctionError):
        await there.run_here(traceparent=gone_on["traceparent"])
    await asyncio.to_thread(tracer.close)
    every = [
        span
        for request in collector.requests
        for resource in request.resource_spans
        for scope in resource.scope_spans
        for span in scope.spans
    ]
    [call] = [span for span in every if span.name == "call math/add"]
    [forward] = [span for span in every if span.name == "forward math/add"]
    first, remote = (
        next(span for span in every if span.name == "run math/add" and span.kind == kind)
        for kind in (Span.SPAN_KIND_INTERNAL, Span.SPAN_KIND_SERVER)
    )
    assert {span.trace_id for span in every} == {call.trace_id}
    assert first.parent_span_id == forward.parent_span_id == call.span_id
    assert remote.parent_span_id == forward.span_id
    assert (first.status.code, first.status.message) == (Status.STATUS_CODE_ERROR, "worker_died")
    assert (remote.status.code, remote.status.message) == (Status.STATUS_CODE_ERROR, "function")
    assert call.status.code == forward.status.code == Status.STATUS_CODE_UNSET


async def test_errors_have_their_code(collector: Collector) -> None:
    tracer = tracing(collector)
    bench = Bench(tracer)
    bench.runner.before = [Overloaded("full")]
    assert isinstance(await bench.begin(), Overloaded)
    await asyncio.to_thread(tracer.close)
    for span in collector.spans().values():
        assert {item.key: item.value.string_value for item in span.attributes}["error.type"] == "overloaded"


def test_a_collector_that_is_not_there_holds_up_nobody() -> None:
    made = start_tracing("http://127.0.0.1:9", {}, peer="me", node="n", version="1")
    assert made is not None
    made.start("call x/y", "", server=True, attributes={}).end()
    made.close()


def test_off_unless_somebody_names_a_collector() -> None:
    assert start_tracing("", {}, peer="p", node="n", version="1") is None
    assert start_tracing("", {"OTEL_EXPORTER_OTLP_ENDPOINT": ""}, peer="p", node="n", version="1") is None


def test_off_costs_no_import() -> None:
    code = (
        "import sys, osiris_mesh.node.controller, osiris_sdk, osiris_sdk.talk\n"
        "from osiris_mesh.gateway.tracing import start_tracing\n"
        "assert start_tracing('', {}, peer='', node='', version='') is None\n"
        "assert not [name for name in sys.modules if name.startswith('opentelemetry')]\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)
