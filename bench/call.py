"""A warm call through the SDK, beside ProcessPoolExecutor and a bare Unix socket in the same run.

``python -m bench call [--calls N]`` (N = 2000): starts two real controllers, deploys functions and calls them. Ours and
the peer's calls alternate in batches, so that what else the machine does meets both alike. Every reply is checked.

- ``call_p50_us``, ``call_p99_us``: one call after the other from one thread, at the node that runs it
- ``ppe_p50_us``, ``ppe_p99_us``: the same through ``ProcessPoolExecutor.submit(...).result()``
- ``call_64_per_s``, ``ppe_64_per_s``: 64 under way at a time, results taken in order
- ``call_1mib_p50_us``, ``uds_1mib_p50_us``: 1 MiB there and back, through a function and through a bare echo process
- ``remote_p50_us``, ``tcp_p50_us``: called at the other node, and a bare TCP round trip
"""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from contextlib import contextmanager
from typing import Any

from bench._nodes import nodes, until
from osiris_sdk import Mesh

BATCH = 100
WIDE = 64
MIB = 1 << 20
SOURCE = '''
def add_one(number: int) -> int:
    """Add one."""
    return number + 1


def echo(data: bytes) -> bytes:
    """Return what came."""
    return data
'''
ECHO = """
import socket, sys
server = socket.socket(fileno=int(sys.argv[1]))
while True:
    try:
        one, _ = server.accept()
    except OSError:
        break
    if one.family != socket.AF_UNIX:
        one.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    buffer = memoryview(bytearray(1 << 20))
    size = int.from_bytes(one.recv(4), "big")
    while size:
        got = 0
        while got < size:
            read = one.recv_into(buffer[got:size])
            if not read:
                sys.exit()
            got += read
        one.sendall(buffer[:size])
"""


def add_one(number: int) -> int:
    return number + 1


def percentile(times: list[float], share: float) -> float:
    return sorted(times)[min(int(len(times) * share), len(times) - 1)] * 1e6


def timed(times: list[float], call: Callable[[int], Any], start: int, count: int) -> None:
    for number in range(start, start + count):
        began = time.perf_counter()
        answer = call(number)
        times.append(time.perf_counter() - began)
        assert answer == number + 1, answer


def one_by_one(mesh: Mesh, name: str, pool: ProcessPoolExecutor, calls: int) -> dict[str, float]:
    ours: list[float] = []
    theirs: list[float] = []
    for start in range(0, calls, BATCH):
        timed(ours, lambda number: mesh.call(name, number), start, BATCH)
        timed(theirs, lambda number: pool.submit(add_one, number).result(), start, BATCH)
    return {
        "call_p50_us": percentile(ours, 0.5),
        "call_p99_us": percentile(ours, 0.99),
        "ppe_p50_us": percentile(theirs, 0.5),
        "ppe_p99_us": percentile(theirs, 0.99),
    }


def submitted(pool: ProcessPoolExecutor, numbers: range) -> Iterator[int]:
    window: deque[Future[int]] = deque()
    for number in numbers:
        window.append(pool.submit(add_one, number))
        if len(window) >= WIDE:
            yield window.popleft().result()
    while window:
        yield window.popleft().result()


def many_at_once(mesh: Mesh, name: str, pool: ProcessPoolExecutor, calls: int) -> dict[str, float]:
    spent = {"call_64_per_s": 0.0, "ppe_64_per_s": 0.0}
    rounds = 4
    each = max(calls // rounds, WIDE)
    for _ in range(rounds):
        numbers = range(each)
        for figure, results in (
            ("call_64_per_s", mesh.map(name, numbers, concurrency=WIDE)),
            ("ppe_64_per_s", submitted(pool, numbers)),
        ):
            # Both are generators: nothing was called yet.
            began = time.perf_counter()
            answers = list(results)
            spent[figure] += time.perf_counter() - began
            assert answers == list(range(1, each + 1))
    return {figure: rounds * each / seconds for figure, seconds in spent.items()}


@contextmanager
def bare_echo(family: socket.AddressFamily, address: Any, size: int) -> Iterator[Callable[[bytes], bytes]]:
    """An echo process on a bare socket; yields what sends ``size`` bytes and returns what came back."""
    with socket.socket(family) as server, socket.socket(family) as client:
        server.bind(address)
        server.listen(1)
        process = subprocess.Popen([sys.executable, "-c", ECHO, str(server.fileno())], pass_fds=[server.fileno()])
        try:
            client.connect(server.getsockname())
            if family != socket.AF_UNIX:
                client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            client.sendall(size.to_bytes(4, "big"))
            buffer = memoryview(bytearray(size))

            def echo(data: bytes) -> bytes:
                client.sendall(data)
                got = 0
                while got < size:
                    got += client.recv_into(buffer[got:])
                return bytes(buffer)

            yield echo
        finally:
            client.close()
            server.close()
            process.terminate()
            process.wait(10)


def large(mesh: Mesh, name: str, folder: str) -> dict[str, float]:
    data = os.urandom(MIB)
    ours: list[float] = []
    bare: list[float] = []
    with bare_echo(socket.AF_UNIX, f"{folder}/echo.sock", MIB) as echo:
        for _ in range(100):
            for times, call in ((ours, lambda: mesh.call(name, data)), (bare, lambda: echo(data))):
                began = time.perf_counter()
                answer = call()
                times.append(time.perf_counter() - began)
                assert answer == data
    return {"call_1mib_p50_us": percentile(ours, 0.5), "uds_1mib_p50_us": percentile(bare, 0.5)}


def remote(mesh: Mesh, name: str, here: str, calls: int) -> dict[str, float]:
    """Time calls that another node answered, which every reply says of itself."""
    ours: list[float] = []
    bare: list[float] = []
    data = b"x" * 200
    with bare_echo(socket.AF_INET, ("127.0.0.1", 0), len(data)) as echo:
        for number in range(calls):
            began = time.perf_counter()
            answer, facts = mesh.detailed(name, [number])
            ours.append(time.perf_counter() - began)
            assert answer == number + 1
            assert facts["node"] != here, "the call did not leave the node"
            began = time.perf_counter()
            assert echo(data) == data
            bare.append(time.perf_counter() - began)
    return {
        "remote_p50_us": percentile(ours, 0.5),
        "remote_p99_us": percentile(ours, 0.99),
        "tcp_p50_us": percentile(bare, 0.5),
    }


def run(args: list[str]) -> dict[str, float | int | str]:
    calls = int(args[args.index("--calls") + 1]) if "--calls" in args else 2000
    figures: dict[str, float] = {}
    with nodes() as homes:
        first = homes.start()
        add = homes.deploy(SOURCE, "add_one")
        echo = homes.deploy(SOURCE, "echo")
        with Mesh.connect(home=first) as mesh, ProcessPoolExecutor() as pool:
            for number in range(BATCH):
                assert mesh.call(add, number) == pool.submit(add_one, number).result() == number + 1
            assert list(mesh.map(add, range(256), concurrency=WIDE)) == list(range(1, 257))
            figures |= one_by_one(mesh, add, pool, calls)
            figures |= many_at_once(mesh, add, pool, calls)
            figures |= large(mesh, echo, str(homes.folder))
        second = homes.start()
        # A slot to spare in its one instance: the other node never has a reason to start one of its own.
        far = homes.deploy(SOURCE.replace("add_one", "far_one"), "far_one", "--concurrency", "2", "--min", "1")
        with Mesh.connect(home=first) as near, Mesh.connect(home=second) as mesh:
            peers = {near.request("node.status")["peer_id"]: near, mesh.request("node.status")["peer_id"]: mesh}

            def owner() -> str:
                """Return the one node both know to have the instance, if any."""
                known = [sorted(each.describe(far)["containers"]) for each in peers.values()]
                return known[0][0] if known[0] == known[1] and len(known[0]) == 1 else ""

            if until(owner):
                caller, here = next((each, peer) for peer, each in peers.items() if peer != owner())
                figures |= remote(caller, far, here, min(calls, 1000))
            else:
                print("bench: no node was seen to hold the far function; remote calls not measured", file=sys.stderr)
    result: dict[str, float | int | str] = {name: round(value, 1) for name, value in figures.items()}
    for ratio, ours, ceiling in (
        ("call_over_ppe", "call_p50_us", "ppe_p50_us"),
        ("call_64_over_ppe", "call_64_per_s", "ppe_64_per_s"),
        ("call_1mib_over_uds", "call_1mib_p50_us", "uds_1mib_p50_us"),
        ("remote_over_tcp", "remote_p50_us", "tcp_p50_us"),
    ):
        if ours in figures:
            result[ratio] = round(figures[ours] / figures[ceiling], 2)
    return result
