"""A real controller that mirrors a registry of 100,000 records: a folder, or a bare Git repository.

Beside each other, of the same controller before and after the registry is added:

- ``KIND_add_s``: ``registry add``: fetched, every signature checked, compared with its checkpoint.
- ``KIND_memory_mb``: resident size, less ``bare_mb``; ``KIND_again_mb`` the same after a restart.
- ``KIND_cold_s``: from ``start`` to the first name resolved, after a restart; ``bare_start_s`` is ``start`` alone.
- ``KIND_list_ms``: the slowest of several patterns over all names, at most 1,000 found, control socket included.
- ``KIND_resolve_ms``: a name that was not asked for before, the same way; ``KIND_cached_ms`` once more.
- ``KIND_change_s``: one name more is published to it: until ``registry sync`` is back.
- ``KIND_stall_ms``: the longest ``registry list`` while the registry was added, its process included.

``--records N`` sets how many; ``--kind folder`` or ``--kind git`` measures one.
"""

from __future__ import annotations

import asyncio
import os
import shutil
import statistics
import subprocess
import tempfile
import threading
import time
from collections.abc import Callable
from functools import partial
from hashlib import sha256
from pathlib import Path
from typing import Any

import psutil

from bench._nodes import Nodes, nodes
from osiris_mesh.clock import SYSTEM
from osiris_mesh.function.name import FunctionName
from osiris_mesh.identity.keys import KeyPair
from osiris_mesh.registry.checkpoint import Checkpoint, Config, root_of
from osiris_mesh.registry.keyring import found_keys, found_root
from osiris_mesh.registry.keys import Delegation
from osiris_mesh.registry.layout import CHECKPOINT, CONFIG, ROOT, keys_path, path_of
from osiris_mesh.registry.record import Binding, Provider, sign
from osiris_mesh.registry.registry import Registry
from osiris_mesh.registry.tree_folder import FolderTree
from osiris_mesh.registry.trust import Trust
from osiris_sdk import Mesh as Client

PATTERNS = ("**", "team-7/*", "team-1*/f*9", "*/f*99*", "*-1/*")
_DAY_MS = 86_400_000
_ID = "0e" * 16


def run(args: list[str]) -> dict[str, float | int | str]:
    """Measure."""
    records = int(args[args.index("--records") + 1]) if "--records" in args else 100_000
    kinds = [args[args.index("--kind") + 1]] if "--kind" in args else ["folder", "git"]
    figures: dict[str, float | int | str] = {"records": records}
    with tempfile.TemporaryDirectory(prefix="osb-") as name:
        folder = Path(name) / "registry"
        key = KeyPair(bytes(32))
        made = fill(folder, records, key)
        for kind in kinds:
            # Published to last by the one before: each begins with the same files.
            source = _Source(kind, folder, Path(name), key, made)
            with nodes() as mesh:
                figures.update(_measured(mesh, kind, source, records))
    return figures


def fill(folder: Path, records: int, key: KeyPair) -> bytes:
    """Write a registry of that many names, of one version each; return its pin."""
    now_ms = SYSTEM.time_ms()
    delegation = Delegation((key.public.hex(),))
    root = found_root([key], threshold=1, expires_ms=now_ms + _DAY_MS, delegations={"_": delegation})
    digests: dict[str, bytes] = {}

    def put(path: str, data: bytes) -> None:
        place = folder / path
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_bytes(data)
        digests[path] = sha256(data).digest()

    put(CONFIG, Config(_ID, "bench").to_bytes())
    put(ROOT, root.line + b"\n")
    put(keys_path("_"), found_keys("_", [key]).line + b"\n")
    for number in range(records):
        name = name_of(number)
        put(path_of(FunctionName.parse(name)), sign(_binding(name), [key]).line + b"\n")
    head = Checkpoint(_ID, 1, root_of(digests).hex(), len(digests), now_ms, now_ms + _DAY_MS)
    (folder / CHECKPOINT).write_bytes(sign(head, [key]).line + b"\n")
    return root.digest


def name_of(number: int) -> str:
    """Return the name of a record."""
    return f"team-{number % 200}/f{number}"


def _binding(name: str) -> Binding:
    provider = Provider("acme", "https://functions.acme.test/v1/call/{name}", response_ms=20)
    return Binding(name, "1.0.0", 1, digest="ab" * 32, description="What it does, in words.", providers=(provider,))


class _Source:
    """Where the registry is, and somebody who publishes to it."""

    def __init__(self, kind: str, folder: Path, aside: Path, key: KeyPair, pin: bytes) -> None:
        self.pin = pin
        self._folder, self._key, self._kind = folder, key, kind
        self._bare = aside / "registry.git"
        self.url = f"file://{folder}"
        if kind == "git":
            self._git("init", "--quiet", "--bare", "--initial-branch=main", str(self._bare))
            self._commit()
            self.url = f"git+file://{self._bare}"

    def publish(self, name: str) -> None:
        registry = Registry(FolderTree("bench", self._folder), Trust(self.pin), SYSTEM)
        asyncio.run(_published(registry, _binding(name), self._key))
        if self._kind == "git":
            self._commit()

    def _commit(self) -> None:
        tree = ("--git-dir", str(self._bare), "--work-tree", str(self._folder))
        self._git(*tree, "add", "--all", ".")
        self._git(*tree, "commit", "--quiet", "-m", "records")

    @staticmethod
    def _git(*words: str) -> None:
        me = ("-c", "user.name=bench", "-c", "user.email=bench@example.org", "-c", "gc.auto=0")
        environment = {"PATH": os.environ["PATH"], "GIT_CONFIG_GLOBAL": os.devnull, "GIT_CONFIG_NOSYSTEM": "1"}
        words = (shutil.which("git") or "git", *me, *words)
        subprocess.run(words, env=environment, check=True, capture_output=True, timeout=300)


async def _published(registry: Registry, said: Binding, key: KeyPair) -> None:
    # Nobody signs over what he has not compared; that is a publisher's first look, and not measured here.
    await registry.sync()
    await registry.publish([said], [key])
    await registry.close()


def _measured(mesh: Nodes, kind: str, source: _Source, records: int) -> dict[str, float | int | str]:
    began = time.perf_counter()
    home = mesh.start()
    start_s = time.perf_counter() - began
    bare = _rss(home)
    stall = _Stall(mesh, home)
    with stall:
        add_s, _ = _timed(lambda: mesh.command(home, "registry", "add", "bench", source.url, "--pin", source.pin.hex()))
    figures: dict[str, float | int | str] = {
        "bare_mb": round(bare, 1),
        "bare_start_s": round(start_s, 2),
        f"{kind}_add_s": round(add_s, 1),
        f"{kind}_memory_mb": round(_rss(home) - bare, 1),
        f"{kind}_stall_ms": round(stall.worst * 1000),
    }
    with Client.connect(home=home) as client:
        name = name_of(records - 1)
        figures[f"{kind}_resolve_ms"] = _ms(partial(client.request, "registry.resolve", {"name": name}), times=1)
        figures[f"{kind}_cached_ms"] = _ms(partial(client.request, "registry.resolve", {"name": name}), times=201)
        finds = [partial(client.request, "registry.find", {"pattern": pattern}) for pattern in PATTERNS]
        figures[f"{kind}_list_ms"] = max(_ms(find) for find in finds)
    source.publish(f"team-1/new-{kind}")
    figures[f"{kind}_change_s"] = round(_timed(lambda: mesh.command(home, "registry", "sync", "bench"))[0], 2)
    assert _resolve(mesh, home, f"team-1/new-{kind}")["version"] == "1.0.0"
    mesh.command(home, "stop")
    cold_s, _ = _timed(lambda: (mesh.command(home, "start", "--detach"), _resolve(mesh, home, name_of(records // 2))))
    figures[f"{kind}_cold_s"] = round(cold_s, 2)
    time.sleep(2)
    figures[f"{kind}_again_mb"] = round(_rss(home) - bare, 1)
    return figures


def _resolve(mesh: Nodes, home: Path, name: str) -> dict[str, Any]:
    return mesh.command(home, "registry", "resolve", name)


def _rss(home: Path) -> float:
    import json  # noqa: PLC0415

    pid = int(json.loads((home / "run" / "node.json").read_text())["pid"])
    return psutil.Process(pid).memory_info().rss / 1e6


def _timed(work: Callable[[], object]) -> tuple[float, object]:
    began = time.perf_counter()
    result = work()
    return time.perf_counter() - began, result


def _ms(work: Callable[[], object], *, times: int = 5) -> float:
    return round(statistics.median(_timed(work)[0] for _ in range(times)) * 1000, 2)


class _Stall:
    """Asks the controller for its status over and over; the longest wait."""

    def __init__(self, mesh: Nodes, home: Path) -> None:
        self.worst = 0.0
        self._mesh, self._home = mesh, home
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._run)

    def _run(self) -> None:
        while not self._ended.wait(0.2):
            self.worst = max(self.worst, _timed(lambda: self._mesh.command(self._home, "registry", "list"))[0])

    def __enter__(self) -> None:
        self._thread.start()

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        self._thread.join()
