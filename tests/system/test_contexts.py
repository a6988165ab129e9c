"""What a call may reach holds for whatever it calls: over the command line, HTTP and links."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from osiris_mesh.errors import CheckFailed, Denied, FunctionError
from osiris_sdk import Mesh as Client
from tests.http.client import Face
from tests.http.tokens import make_token
from tests.system.harness import Mesh, Node, wait_until

pytestmark = pytest.mark.system

RELAY = """
from osiris_sdk import current

def relay(name: str, number: int) -> int:
    return current().call(name, number)
"""
WIDEN = """
from osiris_sdk import current

def widen(name: str, number: int) -> int:
    return current().options(context="full; functions=**").call(name, number)
"""
DOUBLE = "def double(number: int) -> int:\n    return 2 * number\n"
TESTED = """
# /// script
# [[tool.osiris.function.test]]
# args = ["b/double", 2]
# expect = 4
# ///
from osiris_sdk import current

def tested(name: str, number: int) -> int:
    return current().call(name, number)
"""
ONLY_A = "full; functions=a/*"
REFUSED = "the security context refuses the call: b/double fits no pattern"


def deploy(node: Node, folder: Path) -> None:
    for namespace, name, source in (
        ("a", "relay", RELAY),
        ("a", "widen", WIDEN),
        ("a", "double", DOUBLE),
        ("b", "double", DOUBLE),
    ):
        file = folder / f"{name}.py"
        file.write_text(source)
        node.ok("deploy", str(file), "--namespace", namespace)


@pytest.fixture(scope="module")
def node(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Node]:
    folder = tmp_path_factory.mktemp("kept")
    mesh = Mesh(folder)
    try:
        node = mesh.init("--http", "127.0.0.1:0")
        deploy(node, folder)
        yield node
    finally:
        mesh.close()


@pytest.fixture(scope="module")
def narrow(node: Node) -> str:
    """Return an API token that calls and deploys in one namespace."""
    return make_token(node.home, "narrow", ["function.call:a/*", "function.deploy:a/*", "function.read"])


def post(node: Node, token: str, name: str, *args: Any, context: str | None = None) -> tuple[int, Any]:
    """Call over HTTP; return the status and the answer."""
    face = Face(node.report["http"], node.home, {})
    headers = None if context is None else {"Osiris-Context": context}
    answer = face.ask("POST", f"/v1/call/{name}", {"args": args}, token=token, headers=headers)
    return answer.status, answer.json


def test_from_the_command_line(node: Node) -> None:
    assert node.ok("call", "a/relay", "b/double", "2") == 4
    assert node.ok("call", "a/relay", "a/double", "2", "--context", ONLY_A) == 4
    for function in ("a/relay", "a/widen"):
        refused = node.run("call", function, "b/double", "2", "--context", ONLY_A)
        assert refused.code != 0
        assert REFUSED in refused.err
    assert node.run("call", "b/double", "2", "--context", ONLY_A).code != 0
    wrong = node.run("call", "a/double", "2", "--context", "everything")
    assert "'everything' is not a level of a security context" in wrong.err


def test_over_http_by_the_header_and_by_the_tokens_patterns(node: Node, narrow: str) -> None:
    free = make_token(node.home, "free", ["function.call"])
    assert post(node, free, "a/relay", "b/double", 2) == (200, 4)
    status, problem = post(node, free, "a/relay", "b/double", 2, context=ONLY_A)
    assert (status, problem["code"]) == (422, "function")
    assert REFUSED in problem["detail"]
    status, problem = post(node, free, "b/double", 2, context=ONLY_A)
    assert (status, problem["code"], problem["details"]["rule"]) == (403, "denied", "functions")
    status, problem = post(node, free, "a/double", 2, context="everything")
    assert (status, problem["code"]) == (400, "usage")

    assert post(node, narrow, "a/relay", "a/double", 2) == (200, 4)
    for function in ("a/relay", "a/widen"):
        for context in (None, "full", "full; functions=**"):
            status, problem = post(node, narrow, function, "b/double", 2, context=context)
            assert status == 422
            assert REFUSED in problem["detail"]


def test_from_the_sdk(node: Node, narrow: str) -> None:
    with Client.connect(node.report["http"], token=narrow) as client:
        assert client.call("a/relay", "a/double", 3) == 6
        with pytest.raises(FunctionError, match="security context refuses"):
            client.call("a/relay", "b/double", 3)
    with Client.connect(home=node.home) as client:
        kept = client.options(context=ONLY_A)
        assert kept.call("a/relay", "a/double", 3) == 6
        with pytest.raises(FunctionError, match="security context refuses"):
            kept.call("a/relay", "b/double", 3)
        with pytest.raises(Denied, match="security context refuses"):
            kept.call("b/double", 3)
        assert client.call("a/relay", "b/double", 3) == 6


def test_the_tests_of_a_deployment_reach_what_their_author_does(node: Node, narrow: str, tmp_path: Path) -> None:
    source = tmp_path / "tested.py"
    source.write_text(TESTED)
    with Client.connect(node.report["http"], token=narrow) as client, pytest.raises(CheckFailed):
        client.deploy(source, namespace="a")
    node.ok("deploy", str(source), "--namespace", "a")
    assert node.ok("call", "a/tested", "b/double", "4") == 8


def test_by_the_meshs_setting(node: Node) -> None:
    node.ok("config", "set", "registry.context", ONLY_A)
    try:
        wait_until(lambda: REFUSED in node.run("call", "b/double", "2").err, what="the mesh's setting")
        assert REFUSED in node.run("call", "a/relay", "b/double", "2").err
        assert node.ok("call", "a/relay", "a/double", "2") == 4
    finally:
        node.ok("config", "reset", "registry.context")
    wait_until(lambda: node.run("call", "a/relay", "b/double", "2").code == 0, what="no setting any more")
