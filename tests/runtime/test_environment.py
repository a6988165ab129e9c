from __future__ import annotations

import asyncio
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest

from osiris_mesh.errors import DeadlineExceeded, OsirisError, Unavailable, UsageError
from osiris_mesh.function.spec import FunctionSpec
from osiris_mesh.runtime import environment as environments
from osiris_mesh.runtime import installer
from osiris_mesh.runtime.bundle import Bundle
from osiris_mesh.runtime.environment import Environments
from osiris_mesh.runtime.installer import Outcome, run_installer
from osiris_mesh.runtime.interpreter import find_interpreter
from osiris_mesh.runtime.lock import lock_dependencies
from tests.runtime.conftest import Bench

LOCK = b"nothing-like-this==1.0 \\\n    --hash=sha256:" + b"0" * 64 + b"\n"


def bundle(lock: bytes = LOCK, runtime: str | None = None) -> Bundle:
    here = runtime or f"python{sys.version_info[0]}.{sys.version_info[1]}"
    spec = FunctionSpec("maths/add", "1.0.0", b"", "add.py::add", here, [[], ""])
    return Bundle.make(spec, [("add.py", b"")], lock=lock)


def found(folder: Path, pattern: str) -> set[Path]:
    return set(folder.glob(pattern))


class Fake:
    """An installer that only writes a file."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, outcome: Outcome | OsirisError | None = None) -> None:
        self.calls = 0
        self.outcome = outcome or Outcome(0, b"", "")
        monkeypatch.setattr(environments, "run_installer", self)

    def __call__(self, arguments: Sequence[str], *, timeout_s: float) -> Outcome:
        self.calls += 1
        assert timeout_s > 0
        (target,) = (word.partition("=")[2] for word in arguments if word.startswith("--target="))
        Path(target).mkdir()
        (Path(target) / "module.py").write_text("x = 1\n")
        if isinstance(self.outcome, OsirisError):
            raise self.outcome
        return self.outcome


async def test_no_dependencies_need_no_environment(tmp_path: Path) -> None:
    assert await Environments(tmp_path).ensure(bundle(lock=b"")) is None


async def test_one_build_serves_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fake = Fake(monkeypatch)
    one = Environments(tmp_path)
    folders = await asyncio.gather(*(one.ensure(bundle()) for _ in range(5)))
    assert fake.calls == 1
    assert {folder / "site" / "module.py" for folder in folders if folder} == found(tmp_path, "**/module.py")
    assert await Environments(tmp_path).ensure(bundle()) == folders[0]
    assert fake.calls == 1


async def test_what_was_half_built_is_built_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fake = Fake(monkeypatch)
    folder = await Environments(tmp_path).ensure(bundle())
    assert folder is not None
    (folder / "complete").unlink()
    leftover = tmp_path / f".{folder.name}.0123"
    (leftover / "site").mkdir(parents=True)
    assert await Environments(tmp_path).ensure(bundle()) == folder
    assert (folder / "complete").exists()
    assert fake.calls == 2
    assert not leftover.exists()


@pytest.mark.parametrize(
    "outcome", [Outcome(1, b"", "error: nothing-like-this was not found"), DeadlineExceeded("it took longer than 1 s")]
)
async def test_a_failed_build_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, outcome: Outcome | OsirisError
) -> None:
    fake = Fake(monkeypatch, outcome)
    one = Environments(tmp_path / "e")
    with pytest.raises((Unavailable, DeadlineExceeded), match=r"nothing-like-this|longer"):
        await one.ensure(bundle())
    assert {path for path in found(tmp_path / "e", "*") if path.suffix != ".lock"} == set()
    fake.outcome = Outcome(0, b"", "")
    assert await one.ensure(bundle()) is not None


async def test_a_missing_interpreter_is_named(tmp_path: Path) -> None:
    with pytest.raises(Unavailable, match=r"python3\.99"):
        await Environments(tmp_path).ensure(bundle(runtime="python3.99"))


def test_the_interpreter_is_not_the_virtual_environments() -> None:
    found = find_interpreter(f"python{sys.version_info[0]}.{sys.version_info[1]}")
    assert ".venv" not in os.fspath(found.program)
    assert found.program.is_file()
    assert found.prefix.is_dir()


def test_an_installer_that_hangs_is_ended(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    script = tmp_path / "uv"
    script.write_text("#!/bin/sh\necho thinking about six >&2\nsleep 600 &\nwait\n")
    script.chmod(0o755)
    monkeypatch.setattr(installer.uv, "find_uv_bin", lambda: os.fspath(script))
    with pytest.raises(DeadlineExceeded, match="thinking about six"):
        run_installer(["pip"], timeout_s=0.3)


def test_an_installer_never_shows_a_password(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    script = tmp_path / "uv"
    script.write_text("#!/bin/sh\necho failed at https://user:secret@index.example/simple >&2\nexit 2\n")
    script.chmod(0o755)
    monkeypatch.setattr(installer.uv, "find_uv_bin", lambda: os.fspath(script))
    outcome = run_installer([], timeout_s=20)
    assert (outcome.code, outcome.words) == (2, "failed at https://index.example/simple")


def need_an_index() -> bytes:
    """Return the lock of a small package; without a package index skip, but never in continuous integration."""
    try:
        return lock_dependencies(["six==1.17.0"], "3.11", timeout_s=60)
    except OsirisError as error:
        if os.environ.get("CI"):
            raise
        pytest.skip(f"no package index: {error}")


async def test_a_real_dependency(bench: Bench) -> None:
    lock = need_an_index()
    assert lock.startswith(b"six==1.17.0 \\\n    --hash=sha256:")
    assert lock_dependencies(["six==1.17.0"], "3.11", prefer=lock) == lock
    source = """
        # /// script
        # dependencies = ["six==1.17.0"]
        # ///
        import six
        def f():
            return [six.__version__, six.__file__]
    """
    spec = bench.deploy(source)
    version, place = await bench.call(spec)
    assert version == "1.17.0"
    if bench.runtime.status().name == "bubblewrap":
        assert place == "/environment/six.py"
    with pytest.raises(OsirisError, match="six"):
        await bench.call(bench.deploy("import six\ndef f(): ...\n"))  # nobody else has it


def test_a_requirement_nobody_can_meet_is_named() -> None:
    need_an_index()
    with pytest.raises(UsageError, match=r"'six>=99'"):
        lock_dependencies(["idna", "six>=99"], "3.11")


async def test_a_wrong_hash_is_refused(tmp_path: Path) -> None:
    need_an_index()
    lock = b"six==1.17.0 \\\n    --hash=sha256:" + b"0" * 64 + b"\n"
    with pytest.raises(Unavailable, match="six"):
        await Environments(tmp_path / "e").ensure(bundle(lock))


def test_uv_is_there() -> None:
    program = installer.uv.find_uv_bin()
    assert subprocess.run([program, "--version"], capture_output=True, check=True).stdout.startswith(b"uv ")
