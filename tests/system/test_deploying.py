"""What a deployment promises: nothing runs for who may not deploy, and nothing acknowledged dies with one node."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.system.harness import Mesh, Node, wait_until, write_function

pytestmark = pytest.mark.system

SOURCE = """
def square(n: int) -> int:
    \"\"\"Square a number.\"\"\"
    return n * n
"""
TRACE = """
# /// script
# requires-python = ">=3.11"
# [[tool.osiris.function.test]]
# args = [2]
# expect = 4
# ///
print("the module left a trace")


def square(n: int) -> int:
    \"\"\"Square a number.\"\"\"
    print("the test left a trace")
    return n * n
"""


@pytest.mark.parametrize("called", [True, False], ids=["called at the deploying node", "right after the deployment"])
def test_an_acknowledged_deployment_outlives_the_node_that_took_it(mesh: Mesh, tmp_path: Path, called: bool) -> None:
    first, *others = mesh.form(3)
    path = write_function(tmp_path / "lab", "square", SOURCE)
    report = first.ok("deploy", str(path), "--name", "lab/square")
    assert report
    if called:
        assert first.ok("call", "lab/square", "3") == 9
    first.kill()
    for node in others:
        answer = node.run("call", "lab/square", "7", "--json")
        assert answer.code == 0, (answer.out, answer.err)
        assert answer.json == 49


def test_every_node_has_what_is_published_before_it_is_called(mesh: Mesh, tmp_path: Path) -> None:
    nodes = mesh.form(3)
    nodes[0].ok("deploy", str(write_function(tmp_path / "lab", "square", SOURCE)), "--name", "lab/square")

    def bundles(node: Node) -> set[str]:
        return {path.name for path in (node.home / "library").glob("??/*") if not path.name.startswith(".")}

    wait_until(lambda: all(bundles(node) == bundles(nodes[0]) != set() for node in nodes), what="the bundle everywhere")
    late = mesh.join(nodes[1])
    wait_until(lambda: bundles(late) == bundles(nodes[0]), what="the bundle at the node that joined later")


def test_a_bundle_nobody_has_is_unavailable_and_not_unknown(mesh: Mesh, tmp_path: Path) -> None:
    node = mesh.init()
    node.ok("deploy", str(write_function(tmp_path / "lab", "square", SOURCE)), "--name", "lab/square")
    for path in (node.home / "library").glob("??/*"):
        path.unlink()
    answer = node.run("call", "lab/square", "7")
    assert answer.code == 6, (answer.code, answer.out, answer.err)
    assert node.run("call", "lab/unknown", "7").code == 3


def test_nothing_of_a_viewers_is_run(mesh: Mesh, tmp_path: Path) -> None:
    node = mesh.init()
    viewer = mesh.join(node)
    (name,) = [user["name"] for user in node.ok("user", "list")["users"] if user["role"] != "admin"]
    node.ok("user", "update", name, "--role", "viewer")
    wait_until(lambda: viewer.status()["height"] == node.status()["height"], what="the new role everywhere")
    path = write_function(tmp_path / "lab", "square", TRACE)

    def traces(of: Node) -> bool:
        return any(b"left a trace" in file.read_bytes() for file in (of.home / "logs").rglob("*") if file.is_file())

    answer = viewer.run("deploy", str(path), "--name", "lab/square")
    assert answer.code == 5, (answer.code, answer.out, answer.err)
    # An administrator's does leave one, so the test above looks in the right place.
    node.ok("deploy", str(path), "--name", "lab/square")
    wait_until(lambda: traces(node), what="the administrator's trace")
    assert not traces(viewer)


def test_what_tests_started_or_what_was_removed_is_not_listed_as_running(mesh: Mesh, tmp_path: Path) -> None:
    node = mesh.init()
    failing = write_function(tmp_path / "bad", "square", TRACE.replace("expect = 4", "expect = 5"))
    assert node.run("deploy", str(failing), "--name", "lab/bad").code == 1
    node.ok("deploy", str(write_function(tmp_path / "lab", "square", SOURCE)), "--name", "lab/square")
    node.ok("call", "lab/square", "3")

    def announced() -> str:
        blocks = node.ok("ledger", "log", "--limit", "100")["blocks"]
        rows = [
            entry["summary"] for block in blocks for entry in block["entries"] if entry["kind"] == "container.functions"
        ]
        assert not any("lab/bad" in row for row in rows)
        return str(rows[-1]) if rows else ""

    wait_until(lambda: announced().startswith("lab/square "), what="what runs is announced")
    node.ok("remove", "lab/square")
    wait_until(lambda: announced() == "nothing", seconds=20, what="what was removed is announced as gone")
