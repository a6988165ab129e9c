"""Events, webhooks, metrics and traces of real controllers."""

from __future__ import annotations

import hashlib
import hmac
import json
import re
import threading
import time
import urllib.request
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from tests.gateway.full import families, samples
from tests.gateway.test_tracing import Collector
from tests.system.harness import Mesh, Node, wait_until, write_function

pytestmark = pytest.mark.system

ADD = "def add(a: int, b: int) -> int:\n    return a + b\n"
OUTER = "import osiris_sdk\n\n\ndef outer(a: int) -> int:\n    return osiris_sdk.current().call('math/add', a, 1)\n"


class Receiver:
    """A webhook's receiver: remembers headers and bodies; fails the first so many."""

    def __init__(self) -> None:
        self.got: list[tuple[dict[str, str], bytes]] = []
        self.failures = 0
        receiver = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                status = 500 if receiver.failures else 204
                receiver.failures -= bool(receiver.failures)
                receiver.got.append((dict(self.headers), body))
                self.send_response(status)
                self.send_header("Content-Length", "0")
                self.end_headers()

            def log_message(self, *_: object) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.01})
        self._thread.start()
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}/hook"

    def told(self, name: str) -> list[dict[str, Any]]:
        return [json.loads(body) for headers, body in list(self.got) if headers["Osiris-Event"] == name]

    def close(self) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    made = Receiver()
    yield made
    made.close()


@pytest.fixture
def collector() -> Iterator[Collector]:
    made = Collector()
    yield made
    made.close()


def scrape(node: Node, token: str) -> bytes:
    request = urllib.request.Request(  # noqa: S310 - our own node
        f"{node.status()['http']}/metrics", headers={"Authorization": f"Bearer {token}"}
    )
    with urllib.request.urlopen(request, timeout=10) as answer:  # noqa: S310 - our own node
        assert answer.headers["Content-Type"].startswith("text/plain")
        return bytes(answer.read())


def test_a_scrape_lists_what_the_document_lists(mesh: Mesh, tmp_path: Path) -> None:
    node = mesh.init("--http", "127.0.0.1:0")
    node.ok("deploy", str(write_function(tmp_path / "math", "add", ADD)))
    assert node.ok("call", "math/add", "3", "5") == 8
    token = node.ok("apitoken", "create", "--name", "prometheus", "--grant", "mesh.read", "--grant", "function.read")[
        "token"
    ]
    text = (Path(__file__).parents[2] / "docs" / "metrics.md").read_text("utf-8")
    documented = set(re.findall(r"^\| `(osiris_\w+)` \|", text, re.MULTILINE))
    wait_until(lambda: "osiris_node_cpu_ratio" in families(scrape(node, token)), what="a first sample of the load")
    page = scrape(node, token)
    assert families(page).keys() == documented
    assert "function" in samples(page)["osiris_function_calls_total"]
    lines = page.decode().splitlines()
    assert 'osiris_function_calls_total{function="math/add"} 1.0' in lines
    assert 'osiris_function_instances{function="math/add"} 1.0' in lines
    assert 'osiris_events_total{event="deploy.done"} 1.0' in lines
    assert "osiris_raft_leader 1.0" in lines
    assert 'osiris_mesh_members{state="alive"} 1.0' in lines


def test_webhooks_of_a_mesh_tell_each_event_once(mesh: Mesh, tmp_path: Path, receiver: Receiver) -> None:
    nodes = mesh.form(3)
    added = nodes[0].ok("webhook", "add", "ops", receiver.url)
    leader = nodes[0].status()["leader"]
    follower = next(node for node in nodes if node.status()["peer_id"] != leader)
    name = follower.status()["node"]
    receiver.failures = 1
    nodes[0].ok("deploy", str(write_function(tmp_path / "math", "add", ADD)))
    wait_until(lambda: receiver.told("deploy.done"), what="the deployment was told")
    follower.kill()
    wait_until(lambda: receiver.told("node.lost"), seconds=60, what="the loss was told")
    follower.launch("start")
    wait_until(lambda: receiver.told("node.back"), seconds=60, what="the return was told")
    ids: dict[str, set[str]] = {}
    for headers, body in list(receiver.got):
        timestamp = headers["Osiris-Timestamp"]
        signed = hmac.new(added["secret"].encode(), timestamp.encode() + b"." + body, hashlib.sha256).hexdigest()
        assert headers["Osiris-Signature"] == f"v1={signed}"
        assert abs(int(timestamp) - time.time()) < 120
        ids.setdefault(headers["Osiris-Event"], set()).add(headers["Osiris-Delivery"])
    for event in ("deploy.done", "node.lost", "node.back"):
        assert len(ids[event]) == 1, event
    assert receiver.told("deploy.done")[0]["fields"]["function"] == "math/add"
    assert {event["fields"]["node"] for event in receiver.told("node.lost") + receiver.told("node.back")} == {name}


def test_the_loss_of_the_leader_is_told_by_its_successor(mesh: Mesh, receiver: Receiver) -> None:
    nodes = mesh.form(3)
    nodes[0].ok("webhook", "add", "ops", receiver.url, "--events", "node.lost,leader.changed")
    leader = nodes[0].status()["leader"]
    next(node for node in nodes if node.status()["peer_id"] == leader).kill()
    wait_until(lambda: receiver.told("node.lost"), seconds=60, what="the loss was told")
    assert [event["fields"]["peer"] for event in receiver.told("node.lost")] == [leader]
    assert {event["fields"]["before"] for event in receiver.told("leader.changed")} <= {leader}


def test_settings_take_effect_and_a_failed_deployment_is_told(mesh: Mesh, tmp_path: Path, receiver: Receiver) -> None:
    node = mesh.init()
    node.ok("config", "set", "log.level", "debug")
    # First who is told, then what: an alert that fired before is told to nobody.
    node.ok("config", "set", "webhook.ops.url", receiver.url)
    node.ok("config", "set", "alert.disk-any", "node.disk_free > 1KiB")
    fired = wait_until(lambda: receiver.told("alert.firing"), what="the alert fired")
    assert fired[0]["fields"]["alert"] == "disk-any"
    node.ok("config", "reset", "alert.disk-any")
    wait_until(lambda: receiver.told("alert.resolved"), what="the alert is resolved with its rule")
    bad = write_function(tmp_path / "math", "broken", "import nothing_there\n\n\ndef broken() -> int:\n    return 1\n")
    assert node.run("deploy", str(bad)).code != 0
    [failed] = wait_until(lambda: receiver.told("deploy.failed"), what="the failure was told")
    assert failed["fields"]["function"] == "math/broken"
    assert "nothing_there" in failed["fields"]["why"]


def test_one_trace_from_a_function_to_the_function_it_calls(mesh: Mesh, tmp_path: Path, collector: Collector) -> None:
    node = mesh.init()
    node.ok("stop")
    wait_until(node.gone, what="the controller stopped")
    path = node.home / "settings.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"otlp": collector.url}))
    node.launch("start")
    for name, source in (("add", ADD), ("outer", OUTER)):
        node.ok("deploy", str(write_function(tmp_path / "math", name, source)))
    assert node.ok("call", "math/outer", "4") == 5
    node.ok("stop")
    spans = wait_until(lambda: "call math/outer" in collector.spans() and collector.spans(), what="spans arrived")
    outer, run, inner = spans["call math/outer"], spans["run math/outer"], spans["call math/add"]
    assert outer.trace_id == run.trace_id == inner.trace_id == spans["run math/add"].trace_id
    assert run.parent_span_id == outer.span_id
    assert inner.parent_span_id == run.span_id
