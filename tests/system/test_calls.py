"""Every way a call can go wrong is an error of its own with its own exit code, and the controller stays unharmed."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.system.harness import Mesh, Node, write_function

pytestmark = pytest.mark.system

FUNCTIONS = '''
# /// script
# requires-python = ">=3.11"
# [tool.osiris.function]
# memory = "128MiB"
# timeout = "5s"
# ///
import os
import sys
import time


def add(a: int, b: int = 1) -> int:
    """Add two numbers."""
    return a + b


def fail(word: str) -> str:
    """Raise."""
    raise ValueError(f"no {word} here")


def sleep(seconds: float) -> str:
    """Sleep."""
    time.sleep(seconds)
    return "slept"


def fill(mib: int) -> int:
    """Take memory."""
    return len(bytearray(mib * 1024 * 1024))


def vanish(code: int) -> None:
    """End the worker."""
    os._exit(code)


def noise(lines: int) -> str:
    """Print where nobody else may."""
    for number in range(lines):
        print("noise", number)
        print("more noise", file=sys.stderr)
    return "quiet"


def environment() -> dict[str, str]:
    """Show what a worker sees."""
    return dict(os.environ)


def echo(value):
    """Give back the value."""
    return value
'''


@pytest.fixture(scope="module")
def node() -> Iterator[Node]:
    with tempfile.TemporaryDirectory(prefix="om-", ignore_cleanup_errors=True) as folder:
        mesh = Mesh(Path(folder))
        try:
            made = mesh.init()
            path = write_function(Path(folder) / "src" / "lab", "things", FUNCTIONS)
            deployed = made.ok("deploy", str(path))
            assert deployed
            yield made
        finally:
            mesh.close()


def test_a_right_call_prints_only_its_result(node: Node) -> None:
    answer = node.run("call", "lab/add", "2", "3")
    assert (answer.code, answer.out.strip()) == (0, "5")
    assert "node=" in answer.err


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (["lab/add"], 2, "missing 1 required positional argument: 'a'"),
        (["lab/add", "1", "2", "3"], 2, "takes"),
        (["lab/add", "x"], 2, "'a'"),
        (["lab/add", "1", "--kwargs", '{"c": 1}'], 2, "unexpected keyword argument 'c'"),
        (["lab/nothing"], 3, "lab/nothing"),
        (["Not A Name!"], 2, "name"),
        (["lab/fail", "luck"], 1, "no luck here"),
        (["lab/sleep", "30", "--timeout", "0.3"], 4, ""),
        (["lab/sleep", "30"], 4, ""),
        (["lab/fill", "4096"], 1, "memory"),
        (["lab/vanish", "7"], 1, "7"),
    ],
)
def test_each_failure_has_its_own_exit_code(node: Node, words: list[str], code: int, said: str) -> None:
    answer = node.run("call", *words)
    assert (answer.code, answer.out) == (code, ""), answer.err
    assert said in answer.err
    after = node.run("call", "lab/add", "20", "22")
    assert (after.code, after.out.strip()) == (0, "42")


def test_an_exception_carries_the_functions_own_traceback(node: Node) -> None:
    answer = node.run("call", "lab/fail", "luck")
    assert "ValueError" in answer.err
    assert "things.py" in answer.err
    assert "osiris_mesh" not in answer.err


def test_output_of_a_function_goes_to_its_log_not_into_the_result(node: Node) -> None:
    answer = node.run("call", "lab/noise", "3")
    assert (answer.code, answer.out.strip()) == (0, '"quiet"')
    logs = node.run("logs", "lab/noise")
    assert "noise 2" in logs.out + logs.err


def test_a_worker_sees_nothing_of_ours(node: Node) -> None:
    answer = node.run("call", "lab/environment")
    seen = json.loads(answer.out)
    assert str(node.home) not in answer.out
    assert "OSIRIS_HOME" not in seen
    assert "SSL_CERT_FILE" not in seen


@pytest.mark.parametrize(
    "value", ["null", "true", "-3", "1.5", '"é"', '[1, [2, {"a": null}]]', '{"$bytes": "AAEC/w=="}', "{}", "[]"]
)
def test_values_come_back_as_they_went(node: Node, value: str) -> None:
    answer = node.run("call", "lab/echo", value)
    assert json.loads(answer.out) == json.loads(value)


def test_describe_and_list_show_what_was_deployed(node: Node) -> None:
    names = {function["name"] for function in node.ok("list")["functions"]}
    assert {"lab/add", "lab/fail", "lab/echo"} <= names
    described = node.ok("describe", "lab/add")
    assert described["name"] == "lab/add"
    assert described["active"] == "1.0.0"


def test_redeploying_the_same_changes_nothing(node: Node) -> None:
    path = node.home.parent / "src" / "lab" / "things.py"
    again = node.ok("deploy", f"{path}::add")
    assert again["changed"] is False
