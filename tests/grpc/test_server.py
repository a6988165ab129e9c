"""The gRPC face of a real controller, through the generated client."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

grpc = pytest.importorskip("grpc")

import trustme  # noqa: E402 - only where there is grpcio

from osiris_mesh.codec import VALUE, pack, unpack  # noqa: E402
from osiris_mesh.errors import FunctionError, LimitExceeded, UsageError  # noqa: E402
from osiris_mesh.gateway.grpc import osiris_pb2 as pb  # noqa: E402
from osiris_mesh.gateway.grpc.osiris_pb2_grpc import OsirisStub  # noqa: E402
from osiris_mesh.gateway.grpc.problem import STATUS, message_of, status_of  # noqa: E402
from osiris_mesh.gateway.grpc.values import fields_of, from_value, to_value  # noqa: E402
from osiris_mesh.identity.api_token import ApiToken  # noqa: E402
from osiris_mesh.identity.keys import KeyPair  # noqa: E402
from osiris_mesh.ledger.kinds import ApiTokenRevoke, ConfigReset, ConfigSet, RoleSet, UserAdd  # noqa: E402
from tests.http.tokens import make_token, role_token, submit, user_token  # noqa: E402
from tests.sdk.gateways import SOURCE  # noqa: E402
from tests.system.harness import Mesh, Node, write_function  # noqa: E402

ROOT = Path(__file__).parents[2]
SECONDS = 20


class Face:
    def __init__(self, node: Node, authority: trustme.CA) -> None:
        self.node = node
        self.address = node.report["grpc"]
        self.admin = role_token(node.home, "admin")
        self.viewer = role_token(node.home, "viewer")
        credentials = grpc.ssl_channel_credentials(authority.cert_pem.bytes())
        self.channel = grpc.secure_channel(self.address, credentials)
        self.stub = OsirisStub(self.channel)

    def call(self, name: str, token: str | None = "", timeout: float = SECONDS, context: str = "", **fields):
        metadata = (*self.bearer(token), ("osiris-context", context)) if context else self.bearer(token)
        return self.stub.Call(pb.CallRequest(name=name, **fields), metadata=metadata, timeout=timeout)

    def bearer(self, token: str | None = ""):
        return () if token is None else (("authorization", f"Bearer {token or self.admin}"),)


@pytest.fixture(scope="module")
def face() -> Iterator[Face]:
    with tempfile.TemporaryDirectory(prefix="og-", ignore_cleanup_errors=True) as folder:
        authority = trustme.CA()
        issued = authority.issue_cert("localhost", "127.0.0.1")
        cert, key = Path(folder) / "cert.pem", Path(folder) / "key.pem"
        issued.cert_chain_pems[0].write_to_path(str(cert))
        issued.private_key_pem.write_to_path(str(key))
        mesh = Mesh(Path(folder))
        try:
            tls = ("--http-cert", str(cert), "--http-key", str(key))
            node = mesh.init("--http", "127.0.0.1:0", "--grpc", "127.0.0.1:0", *tls)
            file = write_function(Path(folder) / "web", "web", SOURCE)
            node.ok("deploy", str(file), "--namespace", "web", "--version", "1.0.0")
            found = Face(node, authority)
            yield found
            found.channel.close()
        finally:
            mesh.close()


def error_of(caught: pytest.ExceptionInfo[grpc.RpcError]) -> pb.Error:
    trailing = dict(caught.value.trailing_metadata())
    return pb.Error.FromString(trailing["osiris-error-bin"])


def test_a_call_in_each_form(face: Face) -> None:
    values = pb.Arguments(args=[to_value(2)], kwargs={"b": to_value(3)})
    reply = face.call("web/add", values=values)
    assert (from_value(reply.value), reply.version) == (5, "1.0.0")
    assert reply.node
    assert reply.elapsed_us
    reply = face.call("web/add", json=b'{"args": [2], "kwargs": {"b": 3}}')
    assert json.loads(reply.json) == 5
    reply = face.call("web/add", msgpack=pack([[2], {"b": 3}]))
    assert unpack(reply.msgpack) == 5
    value = {"a": [1, -2, 2.5, None, True, b"\0\xff", "ä"], "b": {}, "c": [[]]}
    reply = face.call("web/echo", values=pb.Arguments(args=[to_value(value)]))
    assert from_value(reply.value) == value
    reply = face.call("web/echo", json=b'{"args": [{"$bytes": "AP8="}]}')
    assert json.loads(reply.json) == {"$bytes": "AP8="}
    data = bytes(range(256)) * 8192
    assert unpack(face.call("web/echo", msgpack=pack([[data], {}])).msgpack, VALUE) == data


def test_errors_have_a_status_a_text_and_details(face: Face) -> None:
    for name, fields, status, code in (
        ("web/none", {}, grpc.StatusCode.NOT_FOUND, "not_found"),
        ("not a name", {}, grpc.StatusCode.INVALID_ARGUMENT, "usage"),
        ("web/add", {}, grpc.StatusCode.INVALID_ARGUMENT, "usage"),
        ("web/add", {"json": b"{"}, grpc.StatusCode.INVALID_ARGUMENT, "usage"),
        ("web/add", {"msgpack": b""}, grpc.StatusCode.INVALID_ARGUMENT, "usage"),
    ):
        with pytest.raises(grpc.RpcError) as caught:
            face.call(name, **fields)
        assert caught.value.code() is status, caught.value
        assert error_of(caught).code == code
    with pytest.raises(grpc.RpcError) as caught:
        face.call("web/add", values=pb.Arguments(args=[to_value("x")]))
    assert "expected int, got str" in caught.value.details()
    with pytest.raises(grpc.RpcError) as caught:
        face.call("web/fail", values=pb.Arguments(args=[to_value("because")]))
    assert caught.value.code() is grpc.StatusCode.UNKNOWN
    details = fields_of(error_of(caught).details)
    assert (details["type"], details["message"]) == ("ValueError", "because")
    assert "raise ValueError(text)" in details["traceback"]


def test_a_call_is_kept_to_its_security_context(face: Face) -> None:
    fields = {"json": b'{"args": [2, 3]}'}
    assert face.call("web/add", context="pure; functions=web/*", **fields).json == b"5"
    for context, status in (
        ("full; functions=other/*", grpc.StatusCode.PERMISSION_DENIED),
        ("everything", grpc.StatusCode.INVALID_ARGUMENT),
    ):
        with pytest.raises(grpc.RpcError) as caught:
            face.call("web/add", context=context, **fields)
        assert caught.value.code() is status


def test_time_and_giving_up_reach_the_function(face: Face) -> None:
    with pytest.raises(grpc.RpcError) as caught:
        face.call("web/slow", values=pb.Arguments(args=[to_value(5.0)]), timeout=0.2)
    assert caught.value.code() is grpc.StatusCode.DEADLINE_EXCEEDED
    request = pb.CallRequest(name="web/slow", values=pb.Arguments(args=[to_value(5.0)]))
    future = face.stub.Call.future(request, metadata=face.bearer(), timeout=SECONDS)
    assert future.cancel()
    assert from_value(face.call("web/slow", values=pb.Arguments(args=[to_value(0.0)])).value) == 0.0


@pytest.mark.parametrize("token", [None, "", "osa1" + "A" * 43, "x y"])
def test_nobody_comes_in_without_a_bearer(face: Face, token: str | None) -> None:
    bearer = () if token is None else (("authorization", f"Bearer {token}"),)
    for ask in (
        lambda: face.stub.Call(pb.CallRequest(name="web/add"), metadata=bearer, timeout=SECONDS),
        lambda: face.stub.Resolve(pb.ResolveRequest(name="web/add"), metadata=bearer, timeout=SECONDS),
        lambda: list(face.stub.StreamLogs(pb.LogsRequest(), metadata=bearer, timeout=SECONDS)),
    ):
        with pytest.raises(grpc.RpcError) as caught:
            ask()
        assert caught.value.code() is grpc.StatusCode.UNAUTHENTICATED


def test_a_bearer_may_do_what_his_role_says(face: Face) -> None:
    assert face.stub.Resolve(pb.ResolveRequest(name="web/add"), metadata=face.bearer(face.viewer), timeout=SECONDS)
    with pytest.raises(grpc.RpcError) as caught:
        face.call("web/add", face.viewer, values=pb.Arguments(args=[to_value(1)]))
    assert caught.value.code() is grpc.StatusCode.PERMISSION_DENIED
    assert fields_of(error_of(caught).details)["permission"] == "function.call"


def test_resolve(face: Face) -> None:
    reply = face.stub.Resolve(pb.ResolveRequest(name="web/add@^1.0"), metadata=face.bearer(), timeout=SECONDS)
    assert (reply.name, reply.version, len(reply.digest)) == ("web/add", "1.0.0", 32)
    assert reply.signature.startswith("def add(a: int, b: int = ")
    assert [(each.name, each.required, each.type) for each in reply.parameters] == [
        ("a", True, "int"),
        ("b", False, "int"),
    ]
    assert (reply.description, reply.returns) == ("Add two numbers.", "int")


def test_logs(face: Face) -> None:
    face.call("web/shout", values=pb.Arguments(args=[to_value("one")]))
    stream = face.stub.StreamLogs(
        pb.LogsRequest(name="web/shout", tail=1, follow=True), metadata=face.bearer(), timeout=SECONDS
    )
    assert next(stream).text == "one"
    face.call("web/shout", values=pb.Arguments(args=[to_value("two")]))
    line = next(stream)
    assert (line.text, line.function, line.stream, line.version) == ("two", "web/shout", "out", "1.0.0")
    stream.cancel()
    lines = list(face.stub.StreamLogs(pb.LogsRequest(name="web/shout"), metadata=face.bearer(), timeout=SECONDS))
    assert [line.text for line in lines] == ["one", "two"]
    assert list(face.stub.StreamLogs(pb.LogsRequest(tail=0), metadata=face.bearer(), timeout=SECONDS)) == []
    with pytest.raises(grpc.RpcError) as caught:
        list(face.stub.StreamLogs(pb.LogsRequest(name="web/none"), metadata=face.bearer(), timeout=SECONDS))
    assert caught.value.code() is grpc.StatusCode.NOT_FOUND


def test_a_stream_ends_once_its_bearer_may_not(face: Face) -> None:
    home = face.node.home
    submit(home, RoleSet("follower", ["function.logs:web/*"]))
    user = KeyPair.generate()
    submit(home, UserAdd(user.public, "follower", "follower"))

    def follow(token: str):
        request = pb.LogsRequest(name="web/shout", tail=1, follow=True)
        stream = face.stub.StreamLogs(request, metadata=face.bearer(token), timeout=SECONDS)
        assert next(stream).text == "here"
        return stream

    face.call("web/shout", values=pb.Arguments(args=[to_value("here")]))
    gone, left = (user_token(home, user, name, ["function.logs:web/*"]) for name in ("gone", "left"))
    short = follow(make_token(home, "short", ["function.logs"], ttl_ms=1500))
    ends, stays = follow(gone), follow(left)
    submit(home, ApiTokenRevoke(ApiToken.parse(gone).key.public))
    for stream, status in ((ends, grpc.StatusCode.UNAUTHENTICATED), (short, grpc.StatusCode.UNAUTHENTICATED)):
        with pytest.raises(grpc.RpcError) as caught:
            next(stream)
        assert caught.value.code() is status
        assert error_of(caught).code == "unauthenticated"
    face.call("web/shout", values=pb.Arguments(args=[to_value("more")]))
    assert next(stays).text == "more"
    submit(home, RoleSet("follower", ["function.logs:web/add"]))
    with pytest.raises(grpc.RpcError) as caught:
        next(stays)
    assert caught.value.code() is grpc.StatusCode.PERMISSION_DENIED


def test_a_bearer_has_his_share_of_streams(face: Face) -> None:
    home = face.node.home
    face.call("web/shout", values=pb.Arguments(args=[to_value("here")]))
    one, other = (make_token(home, name, ["function.logs"]) for name in ("one", "other"))

    def follow(token: str):
        request = pb.LogsRequest(name="web/shout", tail=1, follow=True)
        stream = face.stub.StreamLogs(request, metadata=face.bearer(token), timeout=SECONDS)
        return stream, next(stream)

    submit(home, ConfigSet("http.streams_per_bearer", "1"))
    try:
        stream, _ = follow(one)
        with pytest.raises(grpc.RpcError) as caught:
            follow(one)
        assert caught.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
        assert "http.streams_per_bearer" in str(caught.value.details())
        follow(other)[0].cancel()
        stream.cancel()
        deadline = time.monotonic() + SECONDS
        while True:
            try:
                follow(one)[0].cancel()
                break
            except grpc.RpcError as error:
                if error.code() is not grpc.StatusCode.RESOURCE_EXHAUSTED or time.monotonic() > deadline:
                    raise
    finally:
        submit(home, ConfigReset("http.streams_per_bearer"))


def test_many_at_once(face: Face) -> None:
    request = [pb.CallRequest(name="web/add", values=pb.Arguments(args=[to_value(number)])) for number in range(50)]
    futures = [face.stub.Call.future(each, metadata=face.bearer(), timeout=SECONDS) for each in request]
    assert [from_value(future.result().value) for future in futures] == list(range(1, 51))


def test_in_the_clear_nobody_is_answered_over_tls_only(face: Face) -> None:
    with grpc.insecure_channel(face.address) as channel, pytest.raises(grpc.RpcError) as caught:
        OsirisStub(channel).Call(pb.CallRequest(name="web/add"), metadata=face.bearer(), timeout=2)
    assert caught.value.code() in {grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.DEADLINE_EXCEEDED}


def test_a_drain_ends_streams_and_lets_calls_finish() -> None:
    with tempfile.TemporaryDirectory(prefix="og-", ignore_cleanup_errors=True) as folder:
        mesh = Mesh(Path(folder))
        try:
            node = mesh.init("--http", "off", "--grpc", "127.0.0.1:0")
            file = write_function(Path(folder) / "web", "web", SOURCE)
            node.ok("deploy", f"{file}::slow", "--namespace", "web")
            bearer = (("authorization", f"Bearer {role_token(node.home, 'admin')}"),)
            with grpc.insecure_channel(node.report["grpc"]) as channel:
                stub = OsirisStub(channel)
                request = pb.CallRequest(name="web/slow", values=pb.Arguments(args=[to_value(0.0)]))
                assert stub.Call(request, metadata=bearer, timeout=SECONDS)
                request = pb.CallRequest(name="web/slow", values=pb.Arguments(args=[to_value(1.0)]))
                call = stub.Call.future(request, metadata=bearer, timeout=SECONDS)
                follow = stub.StreamLogs(pb.LogsRequest(follow=True), metadata=bearer, timeout=SECONDS)
                ended = threading.Event()
                follow.add_callback(ended.set)
                node.ok("stop")
                assert from_value(call.result().value) == 1.0
                assert ended.wait(SECONDS)
                assert follow.code() is grpc.StatusCode.UNAVAILABLE
        finally:
            mesh.close()


# --- without a controller --------------------------------------------------------------------------------------------


def test_every_error_has_a_status_and_fits_into_metadata() -> None:
    assert len({kind for kind, _ in STATUS}) == len(STATUS)
    large = FunctionError(
        "x" * 9000, type="T", message="m" * 9000, traceback="t" * 50_000, deep={"a": [1]}, big=1 << 70
    )
    packed = message_of(large)
    assert len(packed) < 7000
    found = pb.Error.FromString(packed)
    assert fields_of(found.details)["traceback"].endswith("tt")
    assert "deep" not in found.details
    assert status_of(LimitExceeded("x")) is grpc.StatusCode.FAILED_PRECONDITION


def test_the_document_has_every_status_and_method() -> None:
    text = (ROOT / "docs" / "grpc.md").read_text("utf-8")
    rows = dict(re.findall(r"^\| ([`a-z_, ]+) \| `([A-Z_]+)` \|$", text, re.MULTILINE))
    written = {code: status for codes, status in rows.items() for code in re.findall(r"`(\w+)`", codes)}
    codes = {kind.code: status.name for kind, status in STATUS if kind.code != "protocol"}
    assert written == codes | {"protocol_local": "INTERNAL", "protocol_remote": "INTERNAL"}
    for method in pb.DESCRIPTOR.services_by_name["Osiris"].methods:
        assert f"`{method.name}`" in text


def test_values_that_do_not_fit_are_refused() -> None:
    deep: object = 1
    for _ in range(60):
        deep = [deep]
    with pytest.raises(UsageError, match="deeper"):
        to_value(deep)
    with pytest.raises(UsageError, match="64 bits"):
        to_value(1 << 63)
    assert from_value(pb.Value()) is None
    assert from_value(to_value({"": [float("inf"), -(1 << 63), ""]})) == {"": [float("inf"), -(1 << 63), ""]}


def test_the_generated_code_is_that_of_the_proto_file(tmp_path: Path) -> None:
    pytest.importorskip("grpc_tools")
    words = [f"--{kind}_out={tmp_path}" for kind in ("python", "pyi", "grpc_python")]
    source = "osiris_mesh/gateway/grpc/osiris.proto"
    subprocess.run([sys.executable, "-m", "grpc_tools.protoc", "-I.", *words, source], cwd=ROOT, check=True, timeout=60)
    for name in ("osiris_pb2.py", "osiris_pb2.pyi", "osiris_pb2_grpc.py"):
        made = (tmp_path / "osiris_mesh" / "gateway" / "grpc" / name).read_text()
        assert (ROOT / "osiris_mesh" / "gateway" / "grpc" / name).read_text() == made, f"{name}: run make proto"


def test_a_controller_without_it_never_loads_it() -> None:
    code = "import sys, osiris_mesh.node.web, osiris_mesh.node.controller; print('grpc' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60)
    assert done.stdout.strip() == "False"
