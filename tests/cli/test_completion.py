"""What a shell is told when it completes, and the scripts that ask."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from osiris_mesh_cli.completion import VARIABLE
from tests.cli.conftest import Line


def completed(words: str, at: int) -> list[str]:
    done = subprocess.run(
        [sys.executable, "-m", "osiris_mesh_cli"],
        env=os.environ | {VARIABLE: "complete_bash", "COMP_WORDS": words, "COMP_CWORD": str(at)},
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    assert done.stderr == ""
    return done.stdout.split()


@pytest.mark.parametrize(
    ("words", "at", "expected"),
    [
        ("osiris-mesh tok", 1, {"token"}),
        ("osiris-mesh webhook ", 2, {"add", "list", "remove", "test"}),
        ("osiris deploy --runt", 2, {"--runtime"}),
    ],
)
def test_commands_and_options_are_completed(words: str, at: int, expected: set[str]) -> None:
    assert expected <= set(completed(words, at))


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
@pytest.mark.parametrize("program", ["osiris-mesh", "osiris"])
def test_scripts(line: Line, shell: str, program: str) -> None:
    answer = line("completion", shell, "--program", program)
    assert answer.code == 0
    assert f"{VARIABLE}=complete_{shell}" in answer.out
    assert program in answer.out
    assert "keep it: " in answer.err
    assert line("completion", shell, "--json").json["shell"] == shell


def test_a_bash_takes_its_script(line: Line) -> None:
    script = line("completion", "bash").out
    done = subprocess.run(["bash", "-n"], input=script, capture_output=True, text=True, timeout=10, check=False)
    assert (done.returncode, done.stderr) == (0, "")


def test_other_shells_are_refused(line: Line) -> None:
    assert line("completion", "tcsh").code == 2
    assert line("completion", "bash", "--program", "rm").code == 2
