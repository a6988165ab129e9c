"""The ledger on three voters: separate processes on loopback with links, Raft's journal and the stored chain.

``python -m bench ledger [--writes N]`` (N = 500). An acknowledgement means: fsynced in the journals of a majority,
every signature checked at apply, applied and stored at the node that proposed. Entries are signed before the clock
starts: their authors are elsewhere.

- ``seq_leader_p50_us``, ``seq_follower_p50_us``: one entry after the other, proposed at the leader and at another voter
- ``inflight64_per_s``, ``inflight1000_per_s``: so many entries under way at a time, proposed at the leader
- ``read_local_p50_us``: one setting from the state of a node
- ``fdatasync_p50_us``: the ceiling of a write: 512 bytes appended to a file and synced, in the same folder
- ``verify_entries_per_s``: the whole stored chain with all signatures
- ``rebuild_entries_per_s``: state from the stored chain, at the start of a node
- ``sign_p50_us``, ``check_p50_us``: one signature made, and checked: the ceiling of a lone proposer's throughput
"""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from bench._ledger_node import MESH, keys
from bench._nodes import until
from osiris_mesh.identity.keys import Domain, verify
from osiris_mesh.ledger.chain import Chain
from osiris_mesh.ledger.rebuild import rebuild
from osiris_mesh.ledger.verify import verify_folder


class Voter:
    """One process."""

    def __init__(self, folder: Path, at: int) -> None:
        self.folder = folder / f"n{at}"
        self._process = subprocess.Popen(
            [sys.executable, "-m", "bench._ledger_node", str(self.folder), str(at)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def send(self, do: str, **values: Any) -> None:
        """Ask."""
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps({"do": do, **values}) + "\n")
        self._process.stdin.flush()

    def answer(self) -> dict[str, Any]:
        """Return the answer."""
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            raise RuntimeError("a voter of the benchmark ended early")
        answer: dict[str, Any] = json.loads(line)
        return answer

    def ask(self, do: str, **values: Any) -> dict[str, Any]:
        """Ask and wait."""
        self.send(do, **values)
        return self.answer()

    def end(self) -> None:
        """Make sure that it is gone."""
        try:
            self._process.wait(10)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        for pipe in (self._process.stdin, self._process.stdout):
            if pipe is not None:
                pipe.close()


@contextmanager
def _voters(folder: Path) -> Iterator[list[Voter]]:
    voters = [Voter(folder, at) for at in range(3)]
    try:
        addresses = [voter.ask("listen")["address"] for voter in voters]
        for voter in voters:
            voter.send("begin", addresses=addresses)
        for voter in voters:
            voter.answer()
        yield voters
        for voter in voters:
            voter.send("stop")
        for voter in voters:
            voter.answer()
    finally:
        for voter in voters:
            voter.end()


def _p50_us(work: Callable[[], object], count: int) -> float:
    times = []
    for _ in range(count):
        start = time.perf_counter_ns()
        work()
        times.append((time.perf_counter_ns() - start) / 1000)
    return statistics.median(times)


def _fdatasync_us(folder: Path, count: int = 200) -> float:
    descriptor = os.open(folder / "sync", os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    try:

        def write() -> None:
            os.write(descriptor, b"x" * 512)
            os.fdatasync(descriptor)

        return _p50_us(write, count)
    finally:
        os.close(descriptor)


def _leader(voters: list[Voter]) -> Voter:
    found: list[Voter] = []

    def look() -> bool:
        found[:] = [voter for voter in voters if voter.ask("status")["leads"]]
        return len(found) == 1

    if not until(look):
        raise RuntimeError("no leader")
    return found[0]


def run(args: list[str]) -> dict[str, float | int | str]:
    """Measure; see the module."""
    writes = int(args[args.index("--writes") + 1]) if "--writes" in args else 500
    with tempfile.TemporaryDirectory(prefix="osb-") as name:
        folder = Path(name)
        fdatasync = _fdatasync_us(folder)
        with _voters(folder) as voters:
            leader = _leader(voters)
            leader.ask("found")
            other = next(voter for voter in voters if voter is not leader)
            leader.ask("sequential", count=50)
            figures: dict[str, float | int | str] = {
                "seq_leader_p50_us": leader.ask("sequential", count=writes)["p50"],
                "seq_follower_p50_us": other.ask("sequential", count=writes)["p50"],
                "inflight64_per_s": leader.ask("wide", count=writes * 8, at_once=64)["per_s"],
                "inflight1000_per_s": leader.ask("wide", count=writes * 20, at_once=1000)["per_s"],
                "read_local_p50_us": leader.ask("read", count=2000)["p50"],
                "fdatasync_p50_us": statistics.median([fdatasync, _fdatasync_us(folder)]),
            }
            if not until(lambda: len({voter.ask("status")["tip"] for voter in voters}) == 1):
                raise RuntimeError("the chains differ")
            _leader(voters)
        figures |= _stored(voters[0].folder / "ledger")
    admin = keys()[3]
    signature = admin.sign(Domain.ENTRY, bytes(200))
    figures["sign_p50_us"] = _p50_us(lambda: admin.sign(Domain.ENTRY, bytes(200)), 500)
    figures["check_p50_us"] = _p50_us(lambda: verify(admin.public, Domain.ENTRY, bytes(200), signature), 500)
    figures["seq_leader_ratio"] = float(figures["seq_leader_p50_us"]) / float(figures["fdatasync_p50_us"])
    return {key: round(value, 3) if isinstance(value, float) else value for key, value in figures.items()}


def _stored(folder: Path) -> dict[str, float | int | str]:
    start = time.perf_counter()
    report = verify_folder(folder, MESH)
    verified = time.perf_counter() - start
    if not report.valid:
        raise RuntimeError(f"the stored chain does not hold: {report.problems[0]}")
    chain = Chain(folder)
    start = time.perf_counter()
    rebuild(chain, MESH)
    rebuilt = time.perf_counter() - start
    chain.close()
    return {
        "entries": report.entries,
        "blocks": report.height,
        "verify_entries_per_s": report.entries / verified,
        "rebuild_entries_per_s": report.entries / rebuilt,
    }
