"""What the README says to type is typed, line by line; only homes, ports and secrets are filled in."""

from __future__ import annotations

import json
import re
import shlex
import subprocess
import sys
import urllib.request
from pathlib import Path

import pytest

from tests.system.harness import ENVIRONMENT, Mesh, Node

pytestmark = pytest.mark.system
ROOT = Path(__file__).resolve().parents[2]
README = (ROOT / "README.md").read_text("utf-8")


def section(title: str) -> list[str]:
    """Return the shell lines of one section."""
    text = re.split(r"^## ", README, flags=re.MULTILINE)
    (part,) = [part for part in text if part.startswith(title + "\n")]
    blocks = re.findall(r"```sh\n(.*?)```", part, re.DOTALL)
    return [line for block in blocks for line in block.splitlines() if line.strip()]


class Terminal:
    """Types lines in the clone's folder."""

    def __init__(self, mesh: Mesh) -> None:
        self.mesh = mesh
        self.homes: dict[str, Node] = {}
        self.here: Node | None = None
        self.out = ""

    def home(self, text: str) -> Node:
        if text not in self.homes:
            self.homes[text] = self.mesh.home()
        return self.homes[text]

    def type(self, line: str, **filled: str) -> str:
        for text, value in filled.items():
            line = line.replace(text, value)
        words = shlex.split(line, comments=True)
        if words[0] == "export":
            name, _, value = words[1].partition("=")
            assert name == "OSIRIS_HOME"
            self.here = self.home(value)
            return ""
        assert words[0] == "osiris-mesh"
        assert self.here is not None
        target = None
        if ">" in words:
            target = self.mesh.folder / words[-1]
            words = words[: words.index(">")]
        if words[1] in {"init", "join"}:
            # Several tests may run at a time, and nothing is announced beyond this machine.
            words += [] if "--listen" in words else ["--listen", "127.0.0.1:0", "--no-mdns"]
            words += ["--http", "127.0.0.1:0"]
        done = subprocess.run(
            [sys.executable, "-m", "osiris_mesh_cli", *words[1:]],
            env=ENVIRONMENT | {"OSIRIS_HOME": str(self.here.home)},
            cwd=ROOT,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
        assert done.returncode == 0, f"{line}\n{done.stdout}\n{done.stderr}"
        if target is not None:
            target.write_text(done.stdout)
        return done.stdout


def test_one_node(mesh: Mesh) -> None:
    terminal = Terminal(mesh)
    said = {line: terminal.type(line) for line in section("One node")}
    assert said["osiris-mesh call math/add 2 3"] == "5\n"
    assert said["osiris-mesh stop"] == "stopped\n"


def test_three_nodes_and_http(mesh: Mesh) -> None:
    terminal = Terminal(mesh)
    lines = section("Three nodes")
    token = ""
    said: dict[str, str] = {}
    for line in lines:
        said[line] = terminal.type(line, **{"osm1…": token})
        if "token create" in line:
            token = said[line].strip()
        if line.startswith("osiris-mesh join"):
            # "/tmp/three in the third"
            terminal.type("export OSIRIS_HOME=/tmp/three")
            terminal.type(line.replace("two", "three"), **{"osm1…": token})
        if line.startswith("osiris-mesh call math/add"):
            for http in section("Over HTTP"):
                if http.startswith("osiris-mesh"):
                    said[http] = terminal.type(http)
                else:
                    assert over_http(terminal, http, said["osiris-mesh apitoken create --name shop"].strip()) == 5
    assert said["osiris-mesh call math/add 2 3"] == "5\n"
    assert "math/add" in said["osiris-mesh audit"]
    sharper = json.loads((mesh.folder / "sharper.json").read_text())
    assert sharper["$bytes"].startswith("iVBORw0KGgo")


def over_http(terminal: Terminal, line: str, token: str) -> object:
    """Do what a line with curl does; curl itself need not be here."""
    assert terminal.here is not None
    words = shlex.split(line.replace("osa1…", token))
    assert words[:2] == ["curl", "-s"]
    url = next(word for word in words if word.startswith("http"))
    own = str(terminal.here.ok("status")["http"])
    headers = {name: value for name, _, value in (words[at + 1].partition(": ") for at in heads(words))}
    assert own.startswith("http://127.0.0.1:")
    request = urllib.request.Request(  # noqa: S310 - see above
        url.replace("http://127.0.0.1:7480", own), data=words[words.index("-d") + 1].encode(), headers=headers
    )
    with urllib.request.urlopen(request, timeout=20) as answer:  # noqa: S310 - the same
        return json.loads(answer.read())


def heads(words: list[str]) -> list[int]:
    return [at for at, word in enumerate(words) if word == "-H"]
