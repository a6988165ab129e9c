"""The examples on a real node, through the command line."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.system.harness import Mesh, Node

pytestmark = pytest.mark.system
EXAMPLES = Path(__file__).parents[2] / "examples"


@pytest.fixture(scope="module")
def node() -> Iterator[Node]:
    with tempfile.TemporaryDirectory(prefix="om-", ignore_cleanup_errors=True) as folder:
        mesh = Mesh(Path(folder))
        try:
            made = mesh.init()
            for name in ("math/add", "math/primes", "text/tokens", "text/frequencies"):
                deployed = made.ok("deploy", str(EXAMPLES / f"{name}.py"))
                assert (deployed["name"], deployed["version"]) == (name, "1.0.0")
                assert deployed["tests"]["failed"] == 0
                assert deployed["tests"]["passed"] >= 2
            yield made
        finally:
            mesh.close()


@pytest.mark.parametrize(
    ("words", "result"),
    [
        (["math/add", "2", "-3"], -1),
        (["math/primes", "12"], [2, 3, 5, 7, 11]),
        (["text/tokens", "The mesh, the node"], ["the", "mesh", "the", "node"]),
        (["text/tokens", "--kwargs", '{"text": "The", "lower": false}'], ["The"]),
        (["text/frequencies", "the mesh and the node and the link", "2"], {"the": 3, "and": 2}),
    ],
)
def test_example(node: Node, words: list[str], result: object) -> None:
    answer = node.run("call", *words)
    assert answer.code == 0, answer.err
    assert json.loads(answer.out) == result


def test_the_signature_of_an_example_is_shown(node: Node) -> None:
    assert "add(a: int, b: int) -> int" in node.run("describe", "math/add").out
