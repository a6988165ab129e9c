"""Any one of three controllers may be killed at any instant: no wrong answer, nothing acknowledged lost."""

from __future__ import annotations

import threading
import time
from pathlib import Path

import pytest

from osiris_sdk import Mesh as Client
from osiris_sdk import OsirisError
from tests.system.harness import Mesh, Node, wait_until, write_function

pytestmark = pytest.mark.system

SOURCE = """
# /// script
# requires-python = ">=3.11"
# [tool.osiris.function]
# idempotent = true
# ///
def square(n: int) -> int:
    \"\"\"Square a number.\"\"\"
    return n * n
"""


class Caller:
    """Calls in a loop from a thread and remembers every answer and the longest gap between two good ones."""

    def __init__(self, node: Node) -> None:
        self.good = 0
        self.wrong: list[object] = []
        self.failed: list[str] = []
        self.longest = 0.0
        self._stop = threading.Event()
        self._node = node
        self._thread = threading.Thread(target=self._run)

    def __enter__(self) -> Caller:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join(30)

    def _run(self) -> None:
        last = time.monotonic()
        number = 0
        with Client.connect(home=self._node.home) as mesh:
            while not self._stop.is_set():
                number += 1
                try:
                    answer = mesh.options(timeout=5).call("lab/square", number)
                except OsirisError as error:
                    self.failed.append(f"{type(error).__name__}: {error}")
                else:
                    if answer == number * number:
                        self.good += 1
                    else:
                        self.wrong.append((number, answer))
                now = time.monotonic()
                self.longest = max(self.longest, now - last)
                last = now


def leader_of(nodes: list[Node]) -> Node:
    def probe() -> Node | None:
        status = nodes[0].status()
        return next((node for node in nodes if node.report["peer_id"] == status["leader"]), None)

    return wait_until(probe, what="a leader")


@pytest.mark.parametrize("which", ["leader", "follower"])
def test_kill_one_of_three_while_calling(mesh: Mesh, which: str) -> None:
    nodes = mesh.form(3)
    path = write_function(mesh.folder / "src" / "lab", "square", SOURCE)
    leader = leader_of(nodes)
    others = [node for node in nodes if node is not leader]
    victim = leader if which == "leader" else others[0]
    survivors = [node for node in nodes if node is not victim]
    survivors[0].ok("deploy", str(path))
    with Caller(survivors[1]) as caller:
        wait_until(lambda: caller.good >= 20, what="twenty good calls")
        victim.kill()
        acknowledged = wait_until(
            lambda: survivors[0].run("config", "set", "max_retries", "5", "--json").code == 0, what="a write accepted"
        )
        assert acknowledged
        deployed = survivors[1].ok("deploy", str(path), "--name", "lab/again")
        assert deployed["version"] == "1.0.0"
        good = caller.good
        wait_until(lambda: caller.good >= good + 20, what="twenty more")
    assert caller.wrong == []
    assert caller.failed == []
    assert caller.longest < 5

    victim.launch("start")

    def same() -> bool:
        tips = [node.ok("status") for node in nodes]
        return len({(tip["height"], tip["tip"]) for tip in tips}) == 1

    wait_until(same, what="all three at the same tip")
    for node in nodes:
        assert node.ok("ledger", "verify")["valid"] is True
        assert "lab/again" in {function["name"] for function in node.ok("list")["functions"]}
    answer = victim.run("call", "lab/again", "12")
    assert (answer.code, answer.out.strip()) == (0, "144")


def test_without_quorum_writes_are_refused_and_calls_go_on(mesh: Mesh, tmp_path: Path) -> None:
    nodes = mesh.form(3)
    path = write_function(tmp_path / "lab", "square", SOURCE)
    nodes[0].ok("deploy", str(path))
    assert nodes[0].run("call", "lab/square", "3").out.strip() == "9"
    nodes[1].kill()
    nodes[2].kill()
    wait_until(lambda: nodes[0].status()["quorum"] is False, what="loss of quorum noticed")
    began = time.monotonic()
    refused = nodes[0].run("config", "set", "max_retries", "9")
    assert refused.code == 6, refused.err
    assert time.monotonic() - began < 6
    assert nodes[0].run("call", "lab/square", "4").out.strip() == "16"
