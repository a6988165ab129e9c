"""A node in the foreground: whoever holds the process holds the controller."""

from __future__ import annotations

import json
import signal
import socket
import subprocess
import sys

import pytest

from tests.system.harness import ENVIRONMENT, Mesh, Node, wait_until

pytestmark = pytest.mark.system
LOCAL = ("--listen", "127.0.0.1:0", "--no-mdns", "--preset", "local")


def foreground(node: Node, *words: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "osiris_mesh_cli", *words],
        env=ENVIRONMENT | {"OSIRIS_HOME": str(node.home)},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def test_init_in_the_foreground_is_the_controller_itself(mesh: Mesh) -> None:
    node = mesh.home()
    running = foreground(node, "init", *LOCAL, "--json")
    assert running.stdout is not None
    ready = json.loads(running.stdout.readline())
    assert {"mesh_id", "peer_id", "listen", "http"} <= ready.keys()
    assert node.pid == running.pid
    assert node.status()["peer_id"] == ready["peer_id"]
    running.send_signal(signal.SIGINT)
    out, err = running.communicate(timeout=30)
    assert (running.returncode, out) == (0, "")
    assert "Traceback" not in err
    assert node.run("status").code == 6


def test_killing_it_kills_the_controller_and_start_runs_it_again(mesh: Mesh) -> None:
    node = mesh.home()
    running = foreground(node, "init", *LOCAL)
    wait_until(lambda: node.run("status").code == 0, what="an answer")
    running.kill()
    running.communicate(timeout=30)
    assert node.run("status").code == 6
    again = foreground(node, "start")
    wait_until(lambda: node.run("status").code == 0, what="an answer again")
    assert node.ok("restart")["state"] == "running"
    again.communicate(timeout=30)
    assert again.returncode == 0
    assert node.pid != again.pid


@pytest.mark.parametrize("detach", [(), ("--detach",)])
def test_an_init_that_failed_may_be_tried_again(mesh: Mesh, detach: tuple[str, ...]) -> None:
    node = mesh.home()
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        failed = node.run("init", "--listen", f"127.0.0.1:{port}", "--no-mdns", "--json", *detach)
    assert failed.code == 2
    assert failed.json["error"]["code"] == "conflict"
    assert str(port) in failed.err
    # In the foreground another process than the one that ended takes the failed try back.
    wait_until(lambda: not (node.home / "mesh.json").exists(), what="nothing of the failed try left")
    node.launch("init", *LOCAL)
    assert node.status()["quorum"] is True
