"""What a call imports: its start-up is most of what it costs, so nothing heavy may creep in."""

from __future__ import annotations

import subprocess
import sys

import pytest

from osiris_mesh.identity.home import Home
from tests.cli.conftest import Line
from tests.cli.fake import FakeController
from tests.cli.test_controlled import STATUS, add_function, called

HEAVY = {
    *("pydantic", "rich", "aiohttp", "zeroconf", "uvloop", "psutil", "asyncio", "pysyncobj", "nacl", "packaging"),
    *("osiris_mesh.node", "osiris_mesh.runtime", "osiris_mesh.ledger", "osiris_mesh.raft", "osiris_mesh.gossip"),
}
PROGRAM = """
import sys
from osiris_mesh_cli.main import main
code = main(sys.argv[1:])
sys.stderr.write("\\nmodules: " + " ".join(sys.modules))
sys.exit(code)
"""


@pytest.mark.parametrize("words", [("call", "math/add", "2", "3"), ("status", "--json"), ("version",)])
def test_a_plain_command_brings_nothing_heavy(line: Line, words: tuple[str, ...]) -> None:
    methods = {"node.status": lambda _: STATUS}
    with FakeController(Home(line.home), methods, functions={"math/add": add_function()}, call=called):
        done = subprocess.run(
            [sys.executable, "-c", PROGRAM, *words, "--home", str(line.home)],
            capture_output=True,
            text=True,
            timeout=30,
            check=False,
        )
    assert done.returncode == 0, done.stderr
    modules = done.stderr.rpartition("modules: ")[2].split()
    assert len(modules) > 50
    assert sorted(HEAVY & set(modules)) == []


def test_the_check_itself_sees_what_it_looks_for(line: Line) -> None:
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, "token", "inspect", "osm1"],
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    assert done.returncode == 2
    assert "nacl" in done.stderr.rpartition("modules: ")[2].split()
