"""What a function can see and do of this machine; each attempt is an ordinary function."""

from __future__ import annotations

import os
import socket
from pathlib import Path
from typing import Any

import pytest

from osiris_mesh.errors import FunctionError, LimitExceeded, Unavailable, WorkerDied
from osiris_mesh.runtime import sandbox as sandboxes
from osiris_mesh.runtime.sandbox import probe
from osiris_mesh.settings.runtime import RuntimeSettings
from tests.runtime.conftest import Bench, make_runtime

SEEN = {
    "HOME",
    "LANG",
    "MALLOC_ARENA_MAX",
    "MALLOC_MMAP_THRESHOLD_",
    "MALLOC_TRIM_THRESHOLD_",
    "MKL_NUM_THREADS",
    "OMP_NUM_THREADS",
    "OPENBLAS_NUM_THREADS",
    "PATH",
    "PWD",
    "TMPDIR",
}


@pytest.fixture
def isolated() -> None:
    if not probe(RuntimeSettings()).isolated:
        if os.environ.get("CI"):
            pytest.fail("no sandbox works here, and continuous integration must have one")
        pytest.skip("no sandbox works here: install bubblewrap")


async def attempt(bench: Bench, body: str, **limits: Any) -> Any:
    source = "import os, pathlib, socket, sys, resource\ndef f():\n" + "".join(
        f"    {line}\n" for line in body.splitlines()
    )
    return await bench.call(bench.deploy(source, **limits))


async def test_nothing_of_the_controllers_environment(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OSIRIS_SECRET", "the-secret-of-the-controller")
    seen = await attempt(bench, "return [dict(os.environ), pathlib.Path('/proc/self/environ').exists()]")
    assert set(seen[0]) <= SEEN
    source = """
        found = []
        for path in pathlib.Path('/proc').glob('[0-9]*/environ'):
            try:
                found.append(b'the-secret-of' in path.read_bytes())
            except OSError:
                pass
        return any(found)
    """
    if bench.runtime.status().name == "bubblewrap":
        assert await attempt(bench, source) is False


@pytest.mark.usefixtures("isolated")
async def test_nothing_of_the_controllers_files(bench: Bench) -> None:
    key = bench.folder / "home" / "keys" / "node.key"
    key.write_bytes(b"x" * 32)
    body = f"return [os.path.exists({os.fspath(key)!r}), os.path.exists({os.fspath(bench.folder)!r}), os.listdir('/')]"
    found, folder, top = await attempt(bench, body)
    assert (found, folder) == (False, False)
    assert not {"home", "srv", "work", "boot", "sys", "var", "old_root"} & set(top)


@pytest.mark.usefixtures("isolated")
async def test_nothing_of_the_machines_secrets(bench: Bench) -> None:
    for path in ("/etc/shadow", "/etc/passwd", "/root/.ssh", "/run", "/var/run/docker.sock", "/sys"):
        assert await attempt(bench, f"return os.path.exists({path!r})") is False


@pytest.mark.usefixtures("isolated")
async def test_nothing_can_be_written_but_the_private_folder(bench: Bench) -> None:
    body = """
        wrote = []
        for folder in ('/', '/usr', '/usr/lib', '/function', '/kit', '/kit/osiris_mesh', '/etc', '/dev', '/proc'):
            try:
                pathlib.Path(folder, 'x').write_text('x')
                wrote.append(folder)
            except OSError:
                pass
        pathlib.Path('mine').write_text('x')
        return wrote
    """
    assert await attempt(bench, body) == []


@pytest.mark.usefixtures("isolated")
async def test_no_other_processes(bench: Bench) -> None:
    pids = await attempt(bench, "return sorted(int(name) for name in os.listdir('/proc') if name.isdigit())")
    assert len(pids) <= 3
    assert max(pids) < 50


@pytest.mark.usefixtures("isolated")
async def test_no_rights(bench: Bench) -> None:
    body = """
        text = pathlib.Path('/proc/self/status').read_text()
        fields = dict(line.split(':', 1) for line in text.splitlines())
        return [os.getuid(), fields['CapEff'].strip(), fields['CapPrm'].strip(), fields['NoNewPrivs'].strip()]
    """
    user, effective, permitted, no_new = await attempt(bench, body)
    assert user != 0
    assert int(effective, 16) == int(permitted, 16) == 0
    assert no_new == "1"


@pytest.mark.usefixtures("isolated")
async def test_no_network_unless_granted(bench: Bench) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        body = f"socket.create_connection(('127.0.0.1', {port}), 2).close()\nreturn True"
        with pytest.raises(FunctionError) as caught:
            await attempt(bench, body)
        assert caught.value.type in {"ConnectionRefusedError", "OSError"}
        assert await attempt(bench, body, network=True) is True


@pytest.mark.usefixtures("isolated")
async def test_no_signals_to_others(bench: Bench) -> None:
    body = f"""
        reached = []
        for pid in (1, os.getppid(), {os.getpid()}):
            try:
                os.kill(pid, 9)
                if pid != os.getppid(): reached.append(pid)
            except OSError:
                pass
        return reached
    """
    # The zygote may be hit by its own worker: that ends this function, and nobody else's.
    try:
        reached = await attempt(bench, body)
    except WorkerDied:
        reached = []
    # A signal to the first process of a namespace is accepted and ignored.
    assert reached in ([], [1])
    assert await attempt(bench, "return 1") == 1


async def test_no_descriptor_but_its_own(bench: Bench) -> None:
    body = """
        found = []
        for number in range(3, 256):
            try:
                os.fstat(number)
                found.append(number)
            except OSError:
                pass
        return len(found)
    """
    assert await attempt(bench, body) == 1  # the link


async def test_limits_hold_and_can_not_be_raised(bench: Bench) -> None:
    body = """
        held = {}
        for name in ('AS', 'CORE', 'CPU', 'FSIZE', 'NOFILE'):
            which = getattr(resource, 'RLIMIT_' + name)
            soft, hard = resource.getrlimit(which)
            try:
                resource.setrlimit(which, (soft, hard + 1))
                raised = True
            except (ValueError, OSError):
                raised = False
            held[name] = [soft, hard, raised]
        return held
    """
    held = await attempt(bench, body, memory="64MiB")
    settings = RuntimeSettings()
    as_root_without_sandbox = os.geteuid() == 0 and bench.runtime.status().name == "limits"
    for name, (soft, hard, raised) in held.items():
        assert soft == hard, name
        assert not raised or as_root_without_sandbox, name
    assert held["CORE"][0] == 0
    assert held["FSIZE"][0] == settings.file_size
    assert held["NOFILE"][0] == settings.open_files
    assert 64 << 20 < held["AS"][0] < 512 << 20


@pytest.mark.usefixtures("isolated")
async def test_a_full_disk_is_its_own(bench: Bench) -> None:
    body = """
        try:
            for number in range(100):
                pathlib.Path(str(number)).write_bytes(bytes(16 << 20))
        except OSError as error:
            return [number, error.errno]
        return None
    """
    number, code = await attempt(bench, body)
    assert number <= RuntimeSettings().scratch // (16 << 20)
    assert code == 28  # no space left
    assert await attempt(bench, "return 1") == 1


@pytest.mark.usefixtures("isolated")
async def test_a_fork_bomb_stays_in_its_box(bench: Bench) -> None:
    body = """
        import time
        made = 0
        try:
            for made in range(5000):
                if os.fork() == 0:
                    time.sleep(600)
        except OSError:
            return made
    """
    assert await attempt(bench, body) < 1000


@pytest.mark.usefixtures("isolated")
async def test_two_functions_do_not_meet(bench: Bench) -> None:
    await attempt(bench, "pathlib.Path('/tmp/note').write_text('x') if os.access('/tmp', os.W_OK) else None")
    assert await attempt(bench, "return os.path.exists('/tmp/note')") is False


async def test_memory_is_limited_without_a_sandbox(tmp_path: Path) -> None:
    async with make_runtime(tmp_path, sandbox="off") as runtime:
        assert runtime.status().name == "limits"
        assert "runtime.sandbox is off" in runtime.status().missing[0]
        bench = Bench(tmp_path, runtime)
        with pytest.raises(LimitExceeded):
            await attempt(bench, "return len(bytearray(1 << 30))")
        assert "scratch" in await attempt(bench, "return os.getcwd()")


def test_a_sandbox_can_be_required(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sandboxes.shutil, "which", lambda *_args, **_named: None)
    assert probe(RuntimeSettings()).status.name == "limits"
    with pytest.raises(Unavailable, match="bubblewrap is not installed"):
        probe(RuntimeSettings(sandbox="require"))


def test_a_sandbox_that_does_not_work_counts_as_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sandboxes.shutil, "which", lambda *_args, **_named: "/bin/false")
    status = probe(RuntimeSettings()).status
    assert status.name == "limits"
    assert "exit 1" in status.missing[0]
