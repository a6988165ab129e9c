"""The JavaScript SDK, tested with Node's own runner; what needs a mesh gets a real controller."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.sdk.gateways import Gateway, gateway

SDK = Path(__file__).parents[2] / "sdk" / "javascript"
NODE = shutil.which("node")
NPM = shutil.which("npm")
SECONDS = 100

pytestmark = pytest.mark.skipif(NODE is None, reason="Node.js is not installed")


def run(*words: str, **environment: str) -> subprocess.CompletedProcess[str]:
    kept = {key: value for key, value in os.environ.items() if not key.startswith("NODE_")}
    return subprocess.run(
        words,
        cwd=SDK,
        env=kept | environment,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=SECONDS,
        check=False,
    )


def passed(done: subprocess.CompletedProcess[str]) -> int:
    """Return how many tests passed; none may have failed."""
    assert done.returncode == 0, done.stdout + done.stderr
    counts = dict(re.findall(r"^# (pass|fail|skipped|cancelled) (\d+)$", done.stdout, re.MULTILINE))
    assert counts["fail"] == counts["cancelled"] == "0", done.stdout
    return int(counts["pass"])


@pytest.fixture(scope="module")
def face() -> Iterator[Gateway]:
    with gateway() as found:
        yield found


def node_test(*files: str, **environment: str) -> int:
    assert NODE is not None
    paths = [str(Path("test") / file) for file in files]
    return passed(run(NODE, "--test", "--test-reporter", "tap", *paths, **environment))


def test_what_needs_no_controller() -> None:
    assert node_test("values.test.js", "sse.test.js", "gateway.test.js") >= 19


def test_against_a_controller(face: Gateway) -> None:
    passing = node_test(
        "mesh.test.js",
        OSIRIS_TEST_URL=face.url,
        OSIRIS_TEST_TOKEN=face.admin,
        OSIRIS_TEST_VIEWER=face.viewer,
    )
    assert passing >= 7


def test_the_package_needs_nothing_and_says_what_it_is() -> None:
    package = json.loads((SDK / "package.json").read_text())
    assert "dependencies" not in package
    assert package["type"] == "module"
    for path in (package["main"], package["types"], *package["files"]):
        assert (SDK / path).exists(), path
    lock = (SDK / "package-lock.json").read_text()
    assert "://" not in lock.replace("https://opencollective.com", ""), "the lock file names hosts"


def test_types() -> None:
    """Everything is checked against index.d.ts by the TypeScript compiler of the lock file."""
    compiler = SDK / "node_modules" / "typescript" / "bin" / "tsc"
    if not compiler.exists():
        if NPM is None:
            pytest.skip("npm is not installed, and neither is the type checker")
        installed = run(NPM, "ci", "--ignore-scripts", "--no-audit", "--no-fund")
        if installed.returncode:
            pytest.skip(f"the type checker can't be installed here: {installed.stderr[-300:]}")
    assert NODE is not None
    done = run(NODE, str(compiler), "-p", "tsconfig.json")
    assert done.returncode == 0, done.stdout
