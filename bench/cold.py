"""Starting instances: with nothing running, with a live zygote, and what a bare fork costs on the same machine.

- ``cold_start_p50_ms``: first call of a function with nothing running: zygote, import, fork, call.
- ``cold_fork_p50_ms``: first call of a further instance of a function whose zygote lives.
- ``bare_fork_p50_ms``: a small interpreter forks, the child answers over a socket pair and is told to go: the ceiling.
- ``zygote_start_p50_ms``, ``bare_start_p50_ms``: a zygote's start, and that of a bare interpreter in the same sandbox.
- ``warm_p50_us``: a warm call through the runtime alone, for comparison.

``cold_pool_p50_ms`` joins them once there is a pool of warm interpreters.
"""

from __future__ import annotations

import asyncio
import os
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import uvloop

from osiris_mesh.codec import pack, unpack
from osiris_mesh.function.spec import FunctionSpec
from osiris_mesh.identity.home import Home
from osiris_mesh.runtime import Library, Runtime, build_bundle
from osiris_mesh.runtime.interpreter import find_interpreter
from osiris_mesh.runtime.sandbox import probe
from osiris_mesh.settings.runtime import RuntimeSettings

SOURCE = "def add(a, b):\n    return a + b  # {number}\n"
FORKER = """
import os, socket, sys
control = socket.socket(fileno=int(sys.argv[1]))
while control.recv(1):
    ours, theirs = socket.socketpair()
    pid = os.fork()
    if pid == 0:
        theirs.sendall(theirs.recv(1))
        os._exit(0)
    theirs.close()
    ours.sendall(b"x")
    control.sendall(ours.recv(1))
    ours.close()
    os.waitpid(pid, 0)
"""


def run(args: list[str]) -> dict[str, float | int | str]:
    """Measure; ``--rounds N`` sets how often (20)."""
    rounds = int(args[args.index("--rounds") + 1]) if "--rounds" in args else 20
    figures = uvloop.run(_measure(rounds))
    figures["bare_fork_p50_ms"] = _p50_ms(_bare_fork(rounds * 5))
    figures["bare_start_p50_ms"] = _p50_ms(_bare_start(rounds))
    figures["cold_fork_ratio"] = round(float(figures["cold_fork_p50_ms"]) / float(figures["bare_fork_p50_ms"]), 2)
    figures["cold_start_ratio"] = round(float(figures["cold_start_p50_ms"]) / float(figures["bare_start_p50_ms"]), 2)
    return figures


async def _measure(rounds: int) -> dict[str, float | int | str]:
    with tempfile.TemporaryDirectory() as folder:
        home = Home(Path(folder) / "home")
        home.make()
        async with Runtime(home, Library(home.library)) as runtime:
            specs = [_deploy(runtime, Path(folder), number) for number in range(rounds)]
            started = [await _timed(runtime, spec) for spec in specs]
            forked: list[float] = []
            for spec in specs[: max(rounds // 4, 1)] * 4:
                await _stop_instances(runtime, spec)
                forked.append(await _timed(runtime, spec))
            warm = [await _timed(runtime, specs[0]) for _ in range(2000)]
            zygotes = [pool.zygote_ms for pool in runtime.pools() if pool.zygote_ms]
            return {
                "sandbox": runtime.status().name,
                "rounds": rounds,
                "cold_start_p50_ms": _p50_ms(started),
                "cold_fork_p50_ms": _p50_ms(forked),
                "zygote_start_p50_ms": round(statistics.median(zygotes), 3),
                "warm_p50_us": round(statistics.median(warm) * 1e6, 1),
            }


def _deploy(runtime: Runtime, folder: Path, number: int) -> FunctionSpec:
    path = folder / f"f{number}" / "bench" / "add.py"
    path.parent.mkdir(parents=True)
    path.write_text(SOURCE.format(number=number))
    bundle = build_bundle(path)
    runtime.library.put(bundle.data)
    return bundle.spec


async def _timed(runtime: Runtime, spec: FunctionSpec) -> float:
    body = pack([[20, 22], {}])
    began = time.perf_counter()
    answer = await runtime.run(spec, body, deadline=None)
    seconds = time.perf_counter() - began
    assert unpack(answer) == 42
    return seconds


async def _stop_instances(runtime: Runtime, spec: FunctionSpec) -> None:
    """End the instances of a function and leave its zygote."""
    pool = next(pool for pool in runtime.pools() if pool.spec is spec)
    pool.stop_idle()
    while pool.here().instances:  # noqa: ASYNC110 - nothing announces it
        await asyncio.sleep(0.001)
    await asyncio.sleep(0.02)  # let the zygote reap it, so that the next fork is measured alone


def _bare_fork(rounds: int) -> list[float]:
    ours, theirs = socket.socketpair()
    process = subprocess.Popen(
        [sys.executable, "-I", "-S", "-c", FORKER, str(theirs.fileno())], pass_fds=[theirs.fileno()]
    )
    theirs.close()
    times: list[float] = []
    try:
        for _ in range(rounds):
            began = time.perf_counter()
            ours.sendall(b"f")
            assert ours.recv(1) == b"x"
            times.append(time.perf_counter() - began)
    finally:
        ours.close()
        process.wait(10)
    return times[1:]


def _bare_start(rounds: int) -> list[float]:
    interpreter = find_interpreter(f"python{sys.version_info[0]}.{sys.version_info[1]}")
    sandbox = probe(RuntimeSettings())
    with tempfile.TemporaryDirectory() as folder:
        here = Path(folder)
        argv = sandbox.argv(
            [os.fspath(interpreter.program), "-I", "-S", "-c", ""],
            code=here,
            site=None,
            kit=here,
            prefix=interpreter.prefix,
            network=False,
            scratch_size=1 << 20,
        )
        times: list[float] = []
        for _ in range(rounds):
            began = time.perf_counter()
            subprocess.run(argv, env={}, check=True)
            times.append(time.perf_counter() - began)
    return times


def _p50_ms(seconds: Sequence[float]) -> float:
    return round(statistics.median(seconds) * 1000, 3)
