"""What a page in somebody's browser can make of the gateway."""

from __future__ import annotations

from typing import Any

import pytest

from osiris_mesh.errors import UsageError
from osiris_mesh.gateway.http.exposure import check_exposure, is_loopback
from osiris_mesh.gateway.http.guard import Bucket, host_name, is_local_host, same_origin
from osiris_mesh.ledger.kinds import ConfigReset, ConfigSet
from osiris_mesh.node.options import NodeOptions
from tests.http.client import Face
from tests.http.tokens import submit

pytestmark = pytest.mark.system


@pytest.mark.parametrize(
    ("header", "local"),
    [
        ("localhost", True),
        ("LOCALHOST:7480", True),
        ("127.0.0.1:1", True),
        ("[::1]:7480", True),
        ("[::1]", True),
        ("", False),
        ("evil.example", False),
        ("evil.example:7480", False),
        ("localhost.evil.example", False),
        ("127.0.0.1.evil.example", False),
        ("localhost:7480@evil.example", False),
        ("[::1", False),
        ("[::1]x", False),
        ("localhost:x", False),
        ("0.0.0.0", False),  # noqa: S104 - nothing is bound
    ],
)
def test_host_headers(header: str, local: bool) -> None:
    assert is_local_host(header, "127.0.0.1") is local


def test_hosts_and_origins() -> None:
    assert host_name("A.Example:80") == "a.example"
    assert is_local_host("127.0.0.2:7480", "127.0.0.2")
    assert not is_local_host("192.0.2.1", "192.0.2.1")
    assert same_origin("http://LOCALHOST:1", "localhost:1", tls=False)
    assert not same_origin("http://localhost:1", "localhost:1", tls=True)
    assert not same_origin("null", "localhost", tls=False)


@pytest.mark.parametrize("host", ["0.0.0.0", "", "192.0.2.1", "example.org", "::"])  # noqa: S104 - nothing is bound
def test_beyond_loopback_it_takes_tls_or_a_proxy(host: str) -> None:
    assert not is_loopback(host)
    with pytest.raises(UsageError):
        check_exposure(host, tls=False, proxied=False)
    check_exposure(host, tls=True, proxied=False)
    check_exposure(host, tls=False, proxied=True)


@pytest.mark.parametrize(
    ("options", "good"),
    [
        ({}, True),
        ({"http": "off"}, True),
        ({"http": "127.0.0.1:0"}, True),
        ({"http": "[::1]:7480"}, True),
        ({"http": "192.0.2.1:7480"}, False),
        ({"http": ":7480"}, False),
        ({"http": "192.0.2.1:7480", "http_proxy": True}, True),
        ({"http": "192.0.2.1:7480", "http_cert": "c", "http_key": "k"}, True),
        ({"http_cert": "c"}, False),
        ({"http_key": "k"}, False),
        ({"http": "off", "http_proxy": True}, False),
        ({"http": "nonsense"}, False),
    ],
)
def test_options_of_a_node(options: dict[str, Any], good: bool) -> None:
    if good:
        NodeOptions(**options).check()
    else:
        with pytest.raises(UsageError):
            NodeOptions(**options).check()


def test_a_bucket_refills() -> None:
    bucket = Bucket(rate=10.0, burst=2, now=0.0)
    assert [bucket.take(0.0), bucket.take(0.0)] == [0.0, 0.0]
    assert bucket.take(0.0) == pytest.approx(0.1)
    assert bucket.take(0.05) == pytest.approx(0.05)
    assert bucket.take(0.1) == 0.0
    assert [bucket.take(100.0), bucket.take(100.0)] == [0.0, 0.0]
    assert bucket.take(100.0) > 0


@pytest.mark.parametrize("path", ["/v1/health", "/v1/status", "/v1/call/t/add"])
def test_a_name_rebound_to_loopback_opens_nothing(face: Face, path: str) -> None:
    method = "POST" if "call" in path else "GET"
    answer = face.ask(method, path, {"args": [1]} if method == "POST" else None, headers={"Host": "evil.example:7480"})
    assert (answer.status, answer.json["code"]) == (403, "denied")


def test_a_page_of_another_origin_is_refused_until_it_is_named(face: Face) -> None:
    page = {"Origin": "https://portal.example.org"}
    wish = page | {"Access-Control-Request-Method": "POST", "Access-Control-Request-Headers": "authorization"}
    for path in ("/v1/health", "/v1/status"):
        refused = face.get(path, headers=page)
        assert refused.status == 403
        assert "Access-Control-Allow-Origin" not in refused.headers
    assert face.ask("OPTIONS", "/v1/call/t/add", token=None, headers=wish).status == 403
    assert face.ask("PUT", "/v1/config/http.allowed_origins", {"value": page["Origin"]}).status == 200
    try:
        allowed = face.ask("OPTIONS", "/v1/call/t/add", token=None, headers=wish)
        assert allowed.status == 204
        assert allowed.headers["Access-Control-Allow-Origin"] == page["Origin"]
        assert "POST" in allowed.headers["Access-Control-Allow-Methods"]
        for header in ("Authorization", "Osiris-Context"):
            assert header in allowed.headers["Access-Control-Allow-Headers"]
        called = face.post("/v1/call/t/add", {"args": [1]}, headers=page)
        assert (called.json, called.headers["Access-Control-Allow-Origin"]) == (2, page["Origin"])
        assert called.headers["Vary"] == "Origin"
        assert "Osiris-Node" in called.headers["Access-Control-Expose-Headers"]
        assert face.get("/v1/status", headers=page, token=None).status == 401
        assert face.get("/v1/status", headers={"Origin": "https://other.example.org"}).status == 403
        assert face.get("/v1/status", headers={"Origin": "null"}).status == 403
    finally:
        assert face.ask("DELETE", "/v1/config/http.allowed_origins").status == 200
    assert face.get("/v1/status", headers=page).status == 403


def test_an_unreadable_value_is_none_whatever_held_before(face: Face) -> None:
    page = "https://portal.example.org"
    submit(face.home, ConfigSet("http.allowed_origins", page))
    try:
        assert face.get("/v1/health", headers={"Origin": page}).status == 200
        # The ledger's coarser rules take a path, which no origin has.
        submit(face.home, ConfigSet("http.allowed_origins", f"{page}/path"))
        assert face.get("/v1/health", headers={"Origin": page}).status == 403
        assert face.get("/v1/health", headers={"Origin": f"{page}/path"}).status == 403
    finally:
        submit(face.home, ConfigReset("http.allowed_origins"))
    assert face.get("/v1/health", headers={"Origin": page}).status == 403


def test_what_is_not_there_is_not_found(face: Face) -> None:
    assert face.get("/v1/ledger/blocks/0").status == 404
    assert [face.ask(method, "/v1/config/no.such").status for method in ("GET", "DELETE")] == [404, 404]


def test_every_answer_has_the_headers_browsers_heed(face: Face) -> None:
    for answer in (face.get("/v1/health"), face.get("/v1/nothing"), face.post("/v1/call/t/add", {"args": [1]})):
        assert answer.headers["X-Content-Type-Options"] == "nosniff"
        assert answer.headers["Cache-Control"] == "no-store"
        assert answer.headers["Content-Security-Policy"].startswith("default-src 'none'")
        assert answer.headers["Server"] == "osiris-mesh"
