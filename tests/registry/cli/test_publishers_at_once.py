"""Several pipelines publish to one repository at once: nothing is lost, and nobody's number is another's."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.cli.conftest import Line

PUBLISHERS = 5
ADD = 'def add(a: int, b: int = 5) -> int:\n    """Add two numbers."""\n    return a + b\n'

pytestmark = pytest.mark.skipif(
    shutil.which("git") is None and not os.environ.get("CI"), reason="git is not installed on this machine"
)


@pytest.mark.parametrize("same_function", [False, True], ids=["other functions", "one function"])
def test_publishers_at_once(line: Line, tmp_path: Path, *, same_function: bool) -> None:
    bare = tmp_path / "registry.git"
    subprocess.run(["git", "init", "--quiet", "--bare", "--initial-branch=main", bare], check=True, timeout=30)
    url = f"git+file://{bare}"
    assert line("registry", "init", "--to", url).code == 0
    key = (line.home / "keys" / "registry" / "owner.key").read_text().strip()
    running = []
    for number in range(PUBLISHERS):
        source = tmp_path / f"p{number}" / "math" / ("add.py" if same_function else f"add{number}.py")
        source.parent.mkdir(parents=True)
        source.write_text(f"{ADD}\n# {number}\n" if same_function else ADD.replace("def add", f"def add{number}"))
        home = str(tmp_path / f"p{number}" / "home")
        words = ["registry", "publish", str(source), "--to", url, "--home", home, "--json"]
        running.append(
            subprocess.Popen(
                [sys.executable, "-m", "osiris_mesh_cli", *words],
                env={**os.environ, "OSIRIS_SIGNING_KEY": key},
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                text=True,
            )
        )
    said = [process.communicate(timeout=60) for process in running]
    assert [process.returncode for process in running] == [0] * PUBLISHERS, said
    made = [json.loads(out) for out, _ in said]
    assert all(one["changed"] for one in made)
    names = {f"{one['name']}@{one['version']}" for one in made}
    if same_function:
        assert names == {f"math/add@1.0.{number}" for number in range(PUBLISHERS)}
    else:
        assert names == {f"math/add{number}@1.0.0" for number in range(PUBLISHERS)}
    for one in made:
        again = line("registry", "deprecate", f"{one['name']}@{one['version']}", "old", "--to", url, "--key", "owner")
        assert again.code == 0, again.err


def test_labels_given_at_once_are_all_there(line: Line, url: str, source: Path, tmp_path: Path) -> None:
    assert line("registry", "publish", str(source), "--to", url, "--key", "owner").code == 0
    key = (line.home / "keys" / "registry" / "owner.key").read_text().strip()
    running = [
        subprocess.Popen(
            [
                *(sys.executable, "-m", "osiris_mesh_cli", "registry", "alias", "math/add", f"label{number}=1.0.0"),
                *("--to", url, "--home", str(tmp_path / f"p{number}"), "--json"),
            ],
            env={**os.environ, "OSIRIS_SIGNING_KEY": key},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for number in range(PUBLISHERS)
    ]
    said = [process.communicate(timeout=60) for process in running]
    assert [process.returncode for process in running] == [0] * PUBLISHERS, said
    shown = line("registry", "alias", "math/add", "label0=1.0.0", "--to", url, "--key", "owner", "--json").json
    assert shown["changed"] is False
    assert shown["aliases"].keys() == {f"label{number}" for number in range(PUBLISHERS)}
