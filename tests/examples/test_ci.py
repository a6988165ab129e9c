"""The templates in examples/ci do what they say: their own commands, run by bash against a bare repository.

The file is read as YAML and every command is run as it stands there. Nothing is fetched: pip runs with ``--no-index``
and finds what the tests run with already installed.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import stat
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from string import Template
from typing import Any

import pytest
import yaml  # type: ignore[import-untyped]

from osiris_mesh.identity.keys import KeyPair
from osiris_mesh_cli.main import main

CI = Path(__file__).parents[2] / "examples" / "ci"
GITHUB = yaml.safe_load((CI / "github-publish.yml").read_text("utf-8"))
GITLAB = yaml.safe_load((CI / "gitlab-publish.yml").read_text("utf-8"))
# YAML 1.1 takes the word "on" for true.
CALL = GITHUB[True]["workflow_call"]
BIN = Path(sys.executable).parent
PROVIDER = "https://functions.example.com/v1/call/{name}"
ADD = 'def add(a: int, b: int = 5) -> int:\n    """Add two numbers."""\n    return a + b\n'

pytestmark = pytest.mark.skipif(
    shutil.which("git") is None and not os.environ.get("CI"), reason="git is not installed on this machine"
)


@dataclass
class Ran:
    """How a pipeline ended."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        return json.loads(self.out)


@dataclass
class Runner:
    """A machine of a pipeline: a checkout, and an empty home each time.

    Attributes:
        folder: For its files.
        registry: URL it publishes to.
        pin: Digest of its root.
        key: The secret.
        path: What is published.
        runs: Pipelines run so far.
    """

    folder: Path
    registry: str
    pin: str
    key: str
    path: str = "functions"
    runs: int = field(default=0)

    def bash(self, script: str, environment: Mapping[str, str]) -> Ran:
        home = self.folder / f"home{self.runs}"
        home.mkdir(exist_ok=True)
        path = f"{BIN}{os.pathsep}{os.environ['PATH']}"
        own = {"PATH": path, "HOME": str(home), "PIP_NO_INDEX": "1", "PIP_DISABLE_PIP_VERSION_CHECK": "1", "LANG": "C"}
        done = subprocess.run(
            ["bash", "-eo", "pipefail", "-c", script],
            env={**own, **environment},
            cwd=self.folder / "checkout",
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        return Ran(done.returncode, done.stdout, done.stderr)

    def run(self, kind: str, tag: str, **more: str) -> Ran:
        self.runs += 1
        ran = (self._github if kind == "github" else self._gitlab)(tag, more)
        assert self.key not in ran.out + ran.err
        return ran

    def _github(self, tag: str, more: dict[str, str]) -> Ran:
        given = {"path": self.path, "registry": self.registry, "pin": self.pin, **more}
        inputs = {name: given.get(name, one.get("default")) for name, one in CALL["inputs"].items()}
        secrets = {"signing-key": self.key, "git-token": ""}
        ran = Ran(0, "", "")
        for step in GITHUB["jobs"]["publish"]["steps"]:
            if "run" in step:
                values = {name: evaluated(text, inputs, secrets, tag) for name, text in step["env"].items()}
                ran = self.bash(step["run"], values)
                if ran.code:
                    break
        return ran

    def _gitlab(self, tag: str, more: dict[str, str]) -> Ran:
        job = GITLAB[".osiris-publish"]
        given = {
            **job["variables"],
            "OSIRIS_REGISTRY": self.registry,
            "OSIRIS_PIN": self.pin,
            "OSIRIS_PATH": self.path,
            **{f"OSIRIS_{name.upper()}": value for name, value in more.items()},
        }
        project = {"CI_COMMIT_TAG": tag, "OSIRIS_SIGNING_KEY": self.key}
        variables = {name: Template(value).safe_substitute(project) for name, value in given.items()}
        return self.bash("\n".join([*job["before_script"], *job["script"]]), {**variables, **project})


def evaluated(text: str, inputs: Mapping[str, Any], secrets: Mapping[str, str], tag: str) -> str:
    """Return what GitHub makes of a value of ``env``, of the forms that stand there."""
    expression = re.fullmatch(r"\$\{\{ (.+) \}\}", text)
    assert expression is not None, text
    if found := re.fullmatch(r"(inputs|secrets)\.([\w-]+)", expression[1]):
        return str((inputs if found[1] == "inputs" else secrets)[found[2]])
    assert expression[1] == "inputs.version || (startsWith(github.ref, 'refs/tags/v') && github.ref_name) || ''"
    return str(inputs["version"] or (tag if tag.startswith("v") else ""))


@pytest.fixture
def runner(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Runner:
    bare = tmp_path / "registry.git"
    subprocess.run(["git", "init", "--quiet", "--bare", "--initial-branch=main", bare], check=True, timeout=30)
    functions = tmp_path / "checkout" / "functions"
    functions.mkdir(parents=True)
    (functions / "add.py").write_text(ADD, "utf-8")
    monkeypatch.setenv("OSIRIS_HOME", str(tmp_path / "keeper"))
    url = f"git+file://{bare}"
    capsys.readouterr()
    assert main(["registry", "init", "--to", url, "--key", "ci", "--json"]) == 0
    pin = json.loads(capsys.readouterr().out)["pin"]
    return Runner(tmp_path, url, pin, (tmp_path / "keeper" / "keys" / "registry" / "ci.key").read_text().strip())


def commits(runner: Runner) -> int:
    done = subprocess.run(
        ["git", "rev-list", "--count", "main"],
        cwd=runner.registry.removeprefix("git+file://"),
        capture_output=True,
        text=True,
        check=True,
        timeout=30,
    )
    return int(done.stdout)


@pytest.mark.parametrize("kind", ["github", "gitlab"])
def test_a_tag_is_published_and_the_pipeline_may_run_again(runner: Runner, kind: str) -> None:
    first = runner.run(kind, "v1.2.3", provider=PROVIDER)
    assert first.code == 0, first.err
    assert (first.json["name"], first.json["version"], first.json["changed"]) == ("functions/add", "1.2.3", True)
    assert first.json["providers"][0]["endpoint"] == PROVIDER
    before = commits(runner)
    again = runner.run(kind, "v1.2.3", provider=PROVIDER)
    assert (again.code, again.json["changed"]) == (0, False)
    assert commits(runner) == before
    source = runner.folder / "checkout" / "functions" / "add.py"
    source.write_text(ADD + "# other\n")
    moved = runner.run(kind, "v1.2.3", provider=PROVIDER)
    assert (moved.code, moved.json["error"]["code"]) == (2, "conflict")
    assert runner.run(kind, "v1.3.0", provider=PROVIDER).json["version"] == "1.3.0"
    assert commits(runner) == before + 1


@pytest.mark.parametrize("kind", ["github", "gitlab"])
def test_what_goes_wrong_has_its_exit_code(runner: Runner, kind: str) -> None:
    good = runner.key
    runner.key = KeyPair.generate().seed.hex()
    assert runner.run(kind, "v1.0.0").code == 5
    runner.key = good
    before = commits(runner)
    url = runner.registry
    runner.registry = f"git+file://{runner.folder}/nowhere.git"
    gone = runner.run(kind, "v1.0.0")
    assert (gone.code, gone.json["error"]["code"]) == (6, "unavailable")
    runner.registry = url
    runner.pin = "ab" * 32
    assert runner.run(kind, "v1.0.0").code == 1
    runner.pin = ""
    runner.path = "none"
    assert runner.run(kind, "v1.0.0").code == 2
    runner.path = "functions"
    assert runner.run(kind, "v1").code == 2
    assert runner.run(kind, "v1.0.0", namespace="acme.com/math").code == 5
    assert commits(runner) == before


def test_without_a_version_the_next_patch_is_published(runner: Runner) -> None:
    assert runner.run("github", "main").json["version"] == "1.0.0"
    (runner.folder / "checkout" / "functions" / "add.py").write_text(ADD + "# other\n")
    assert runner.run("github", "main").json["version"] == "1.0.1"


@pytest.mark.parametrize("kind", ["github", "gitlab"])
def test_a_token_for_the_repository_is_kept_for_its_host_alone(runner: Runner, kind: str) -> None:
    job = GITHUB["jobs"]["publish"]["steps"]
    script = next(step["run"] for step in job if step.get("name") == "Credentials")
    if kind == "gitlab":
        script = GITLAB[".osiris-publish"]["before_script"][-1]
    given = {"OSIRIS_GIT_TOKEN": "t0ken", "OSIRIS_REGISTRY": "git+https://git.example.com/team/registry.git"}
    ran = runner.bash(script, given)
    assert (ran.code, ran.out) == (0, ""), ran.err
    (kept,) = runner.folder.glob("home*/.git-credentials")
    assert kept.read_text().endswith(":t0ken@git.example.com\n")
    assert stat.S_IMODE(kept.stat().st_mode) == 0o600
    asked = "printf 'protocol=https\\nhost=%s\\n\\n' git.example.com | GIT_TERMINAL_PROMPT=0 git credential fill"
    assert "password=t0ken" in runner.bash(asked, {}).out
    for other in ({**given, "OSIRIS_REGISTRY": "git+file:///r.git"}, {**given, "OSIRIS_GIT_TOKEN": ""}):
        kept.unlink(missing_ok=True)
        assert runner.bash(script, other).code == 0
        assert not kept.exists()


def test_secrets_stand_in_no_argument_and_are_declared() -> None:
    assert CALL["secrets"]["signing-key"]["required"] is True
    for step in GITHUB["jobs"]["publish"]["steps"]:
        assert "${{" not in step.get("run", "")
    assert GITHUB["permissions"] == {"contents": "read"}
    assert GITLAB[".osiris-publish"]["retry"] == {"max": 2, "exit_codes": 6}
