"""The command lines that are promised to users, word for word, on a real node, in the order in which one types them."""

from __future__ import annotations

import json
import shlex
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.system.harness import ENVIRONMENT, Answer, Mesh, Node, wait_until

pytestmark = pytest.mark.system
SOURCE = '''
def add_numbers(a: int, b: int = 5) -> int:
    """Add two numbers."""
    print("adding")
    return a + b
'''


class Desk:
    """Somebody at a terminal in a folder with the files he speaks of."""

    def __init__(self, node: Node, folder: Path) -> None:
        self.node = node
        self.folder = folder
        # The very program of this environment, as it is typed; its module where the environment has no scripts.
        script = Path(sys.executable).with_name("osiris")
        self.program = [str(script)] if script.exists() else [sys.executable, "-m", "osiris_mesh_cli"]
        self.environment = ENVIRONMENT | {"OSIRIS_HOME": str(node.home), "PYTHONUNBUFFERED": "1"}

    def start(self, line: str) -> subprocess.Popen[str]:
        first, *words = shlex.split(line)
        assert first == "osiris"
        return subprocess.Popen(
            [*self.program, *words],
            env=self.environment,
            cwd=self.folder,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def __call__(self, line: str) -> Answer:
        running = self.start(line)
        try:
            out, err = running.communicate(timeout=60)
        finally:
            running.kill()
            running.wait()
        assert running.returncode == 0, f"{line}: exit {running.returncode}\n{out}\n{err}"
        assert "Traceback" not in err
        return Answer(running.returncode, out, err)


def interrupted(running: subprocess.Popen[str], said: str) -> None:
    """Read until a line has ``said`` in it, then press Ctrl-C."""
    assert running.stdout is not None
    try:
        for line in running.stdout:
            if said in line:
                break
        else:
            pytest.fail(f"{said!r} was never said")
        running.send_signal(signal.SIGINT)
        running.communicate(timeout=30)
    finally:
        running.kill()
        running.wait()
    assert running.returncode in {0, 130}


def test_every_promised_form_works_as_written(mesh: Mesh, tmp_path: Path) -> None:
    node = mesh.init("--http", "127.0.0.1:0")
    osiris = Desk(node, tmp_path)
    (tmp_path / "functions").mkdir()
    (tmp_path / "functions" / "add_numbers.py").write_text(SOURCE)
    (tmp_path / "functions" / "add_numbers_v2.py").write_text(SOURCE.replace("a + b", "a + b + 1"))
    if shutil.which("python3.11") is None and sys.version_info[:2] != (3, 11):
        pytest.skip("the promised line names python3.11, which is not on this machine")

    assert (
        "default/addNumbers 1.0.0: active"
        in osiris("osiris deploy ./functions/add_numbers.py --name addNumbers --runtime python3.11").out
    )
    assert node.ok("call", "addNumbers", "3", "5") == 8
    assert "1.0.1" in osiris("osiris update addNumbers ./functions/add_numbers_v2.py").out
    assert node.ok("call", "addNumbers", "3", "5") == 9
    assert "default/addNumbers" in osiris("osiris list").out
    assert "def addNumbers(a: int, b: int = …) -> int" in osiris("osiris describe addNumbers").out
    interrupted(osiris.start("osiris logs addNumbers --tail"), "adding")
    assert "calls/s" in osiris("osiris monitor addNumbers").out
    assert "default/addNumbers" in osiris("osiris metrics").out
    assert "default/addNumbers" in osiris("osiris metrics addNumbers").out

    assert osiris("osiris config set max_retries 3").out == "max_retries = 3\n"
    assert osiris("osiris config get max_retries").out == "3\n"
    assert "default" in osiris("osiris config reset max_retries").out
    assert osiris("osiris config get max_retries").out == "2\n"

    osiris("osiris user add johndoe --role developer")
    assert "johndoe" in osiris("osiris user list").out
    assert "operator" in osiris("osiris user update johndoe --role operator").out
    osiris("osiris user remove johndoe")
    assert "johndoe" not in osiris("osiris user list").out

    assert "quorum" in osiris("osiris status").out
    assert "in step" in osiris("osiris sync").out
    assert "Commands:" in osiris("osiris help").out
    assert "deploy" in osiris("osiris help deploy").out
    assert "osiris-mesh" in osiris("osiris version").out

    assert "removed" in osiris("osiris remove addNumbers").out
    assert "addNumbers" not in osiris("osiris list").out
    osiris("osiris restart")
    osiris("osiris stop")
    running = osiris.start("osiris start")
    wait_until((node.home / "run" / "node.json").exists, what="a running node")
    assert json.loads((node.home / "run" / "node.json").read_text())["pid"] == running.pid
    interrupted(running, "running")
