"""Building in a process of its own: what it gives, what it refuses, and that it ends."""

from __future__ import annotations

import asyncio
import os
import tempfile
import time
from pathlib import Path
from typing import Any

import pytest

from osiris_mesh.errors import LimitExceeded, NotFound, Overloaded, UsageError
from osiris_mesh.gateway.building import Builds, Job
from osiris_mesh.runtime.build import build_bundles
from osiris_mesh.runtime.installer import installer_environment

ADD = b"def add(a: int, b: int) -> int:\n    return a + b\n"


async def test_a_build_gives_what_the_command_line_builds(tmp_path: Path) -> None:
    folder = tmp_path / "math"
    folder.mkdir()
    (folder / "add.py").write_bytes(ADD)
    (bundle,) = await Builds(1).run(Job({"add.py": ADD}, folder="math", overrides={"timeout": "2s"}))
    assert (bundle.spec.name, bundle.spec.version, bundle.spec.timeout_ms) == ("math/add", "1.0.0", 2000)
    (own,) = build_bundles(folder / "add.py", version="1.0.0")
    (same,) = await Builds(1).run(Job({"add.py": ADD}, folder="math"))
    assert same.digest == own.digest


async def test_a_build_sees_nothing_of_the_controllers_environment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen, program = tmp_path / "seen", tmp_path / "python"
    program.write_text(f"#!/bin/sh\n/usr/bin/env > {seen}\ncat > /dev/null\n")
    program.chmod(0o700)
    for name in ("OSIRIS_SIGNING_KEY", "AWS_SECRET_ACCESS_KEY", "LD_PRELOAD_NOT", "PYTHONSTARTUP", "SSH_AUTH_SOCK"):
        monkeypatch.setenv(name, "secret")
    monkeypatch.setenv("UV_DEFAULT_INDEX", "https://index.example/simple")
    monkeypatch.setattr("sys.executable", str(program))
    with pytest.raises(LimitExceeded):
        await Builds(1).run(Job({"add.py": ADD}))
    given = dict(line.split("=", 1) for line in seen.read_text("utf-8").splitlines())
    assert "secret" not in given.values()
    assert given["UV_DEFAULT_INDEX"] == "https://index.example/simple"
    assert Path(given["TMPDIR"]).name.startswith("osiris-build-")
    assert set(given) <= {*installer_environment(dict.fromkeys(given, "")), "TMPDIR", "PWD", "SHLVL", "_", "OLDPWD"}


async def test_a_folder_is_built_as_one() -> None:
    files = {"f.py": b"from lib.x import one\n\ndef f():\n    return one\n", "lib/x.py": b"one = 1\n"}
    (bundle,) = await Builds(1).run(Job(files, folder="team", whole=True))
    assert (bundle.spec.name, dict(bundle.files)) == ("team/f", files)


@pytest.mark.parametrize(
    ("files", "more", "kind"),
    [
        ({"f.py": b"def"}, {}, UsageError),
        ({"f.py": b"x = 1"}, {}, NotFound),
        ({"f.py": b"(" * 50_000}, {}, UsageError),
        ({"f.py": b"\xff"}, {}, UsageError),
        ({"f.py": ADD}, {"function": "other"}, NotFound),
        ({"f.py": ADD}, {"version": "one"}, UsageError),
        ({"f.py": ADD}, {"overrides": {"memory": "much"}}, UsageError),
        ({"a": b"", "a/b.py": ADD}, {"whole": True}, UsageError),
    ],
)
async def test_what_can_not_be_built_says_why(files: dict[str, bytes], more: dict[str, Any], kind: type) -> None:
    with pytest.raises(kind) as caught:
        await Builds(1).run(Job(files, **more))
    assert "/tmp" not in str(caught.value)


@pytest.mark.parametrize(
    "value",
    [
        None,
        {},
        {"files": {}},
        {"files": {"../f.py": b""}},
        {"files": {"/f.py": b""}},
        {"files": {"f.py": "text"}},
        {"files": {"f.py": b"", "g.py": b""}},
        {"files": {"d/f.py": b""}},
        {"files": {"f.py": b""}, "folder": "a/b"},
        {"files": {"f.py": b""}, "folder": ".."},
        {"files": {"f.py": b""}, "name": 1},
        {"files": {"f.py": b""}, "name": "x" * 2000},
        {"files": {"f.py": b""}, "else": 1},
        {"files": {"f.py": b""}, "overrides": {"colour": "red"}},
        {"files": {"f.py": b""}, "overrides": {"concurrency": "2"}},
        {"files": {"f.py": b""}, "overrides": {"min": True}},
        {"files": {"f.py": b""}, "overrides": {"memory": 5}},
    ],
)
def test_a_job_that_is_none_is_refused(value: Any) -> None:
    with pytest.raises(UsageError):
        Job.from_wire(value)


async def test_one_too_many_is_refused_and_the_loop_goes_on() -> None:
    builds = Builds(1)
    first = asyncio.ensure_future(builds.run(Job({"f.py": ADD})))
    await asyncio.sleep(0)
    with pytest.raises(Overloaded):
        await builds.run(Job({"f.py": ADD}))
    # The parser works on a mebibyte of this for two seconds, in another process.
    slow = asyncio.ensure_future(Builds(1).run(Job({"f.py": b"x = [" + b"[1]," * 250_000 + b"]\ndef f(): pass\n"})))
    worst, last = 0.0, time.monotonic()
    while not slow.done():
        await asyncio.wait([slow], timeout=0.005)
        now = time.monotonic()
        worst, last = max(worst, now - last), now
    assert (await first)[0].spec.name == "default/add"
    assert slow.result()[0].spec.name == "default/f"
    assert worst < 1.5


async def test_a_build_that_does_not_end_is_ended_and_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    await Builds(1).run(Job({"f.py": ADD}))
    with pytest.raises(LimitExceeded, match="longer"):
        await Builds(1, seconds=0.01).run(Job({"f.py": ADD}))
    waiting = asyncio.ensure_future(Builds(1).run(Job({"f.py": ADD})))
    await asyncio.sleep(0)
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    assert os.listdir(tmp_path) == []  # noqa: PTH208 - pathlib's own is not for coroutines
