"""The programs in the README run as they stand there; only addresses, tokens and the module's place are filled in."""

from __future__ import annotations

import importlib.util
import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.system.harness import ENVIRONMENT, Mesh, Node

pytestmark = pytest.mark.system
ROOT = Path(__file__).resolve().parents[2]
README = (ROOT / "README.md").read_text("utf-8")
NODE = shutil.which("node")
GRPC = importlib.util.find_spec("grpc") is not None


def block(kind: str, mark: str) -> str:
    """Return the one block of code that has ``mark`` in it."""
    (found,) = [text for text in re.findall(rf"```{kind}\n(.*?)```", README, re.DOTALL) if mark in text]
    return str(found)


def run(*words: str, text: str = "", home: Path | None = None) -> str:
    done = subprocess.run(
        words,
        input=text,
        cwd=ROOT,
        env=ENVIRONMENT | {"OSIRIS_HOME": str(home or "/nonexistent")},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture
def node(mesh: Mesh) -> Node:
    return mesh.init("--http", "127.0.0.1:0", *(("--grpc", "127.0.0.1:0") if GRPC else ()))


def token(node: Node) -> str:
    """Return an API token that may call, read and deploy."""
    grants = [word for grant in ("function.call", "function.read", "function.deploy") for word in ("--grant", grant)]
    return str(node.ok("apitoken", "create", "--name", "readme", *grants)["token"])


def test_python(node: Node) -> None:
    text = block("python", "Mesh.connect()") + "\n    print(add(2, 3))\n"
    assert run(sys.executable, "-", text=text, home=node.home) == "5\n"
    assert node.ok("list")["functions"][0]["name"] == "math/add"


def test_python_without_a_controller() -> None:
    assert run(sys.executable, "-", text=block("python", "Mesh.local")) == ""


@pytest.mark.skipif(NODE is None, reason="Node.js is not installed")
def test_javascript(node: Node) -> None:
    node.ok("deploy", str(ROOT / "examples" / "math" / "add.py"))
    text = block("js", "osiris-mesh-sdk")
    own = node.status()["http"]
    module = json.dumps((ROOT / "sdk" / "javascript" / "src" / "index.js").as_uri())
    for there, here in (
        ('"osiris-mesh-sdk"', module),
        ("http://127.0.0.1:7480", own),
        ("osa1…", token(node)),
    ):
        assert there in text
        text = text.replace(there, here)
    assert NODE is not None
    assert run(NODE, "--input-type=module", "-", text=text) == "5 42\n"


@pytest.mark.skipif(not GRPC, reason="the extra grpc is not installed")
def test_grpc(node: Node) -> None:
    node.ok("deploy", str(ROOT / "examples" / "math" / "add.py"))
    text = block("python", "OsirisStub").replace("127.0.0.1:7490", node.status()["grpc"]).replace("osa1…", token(node))
    assert run(sys.executable, "-", text=text) == "b'5'\n"
