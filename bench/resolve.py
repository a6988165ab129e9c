"""Resolving names, with 100,000 of them known.

- ``controller_cached_p50_us``: :meth:`Resolver.resolve_now`, the security context and the choice among three providers
  included; ``controller_first_context_p50_us`` the same with a context that was never seen before, checked anew.
- ``sdk_cached_p50_us``: the SDK's own cache.
- ``hang_added_us``: what a registry that hangs adds to a cached answer while it is being asked.
- ``dict_p50_us``: a bare dictionary look-up in the same loop: the floor. ``controller_ratio`` is beside it.
- ``cold_start_s``: in a process of its own, from opening the file to the first name resolved from it.
- ``memory_mb``: resident size of that process with 20,000 names resolved; ``python_mb``: before it opened the file.
- ``list_ms``: the slowest of several patterns over all names.
- ``miss_p50_us``: a name that is on the disk alone, read, checked and decoded.

``--records N`` sets how many.
"""

from __future__ import annotations

import asyncio
import gc
import json
import random
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import psutil

from osiris_mesh.clock import SYSTEM
from osiris_mesh.function.name import FunctionName
from osiris_mesh.function.signature import Signature
from osiris_mesh.identity.keys import KeyPair
from osiris_mesh.registry.asking import Asker
from osiris_mesh.registry.breaker import Breakers
from osiris_mesh.registry.context import Context, Level, make
from osiris_mesh.registry.federation import Answer, Federation, Route
from osiris_mesh.registry.history import follow
from osiris_mesh.registry.memory import Memory
from osiris_mesh.registry.memory_file import Kept, MemoryFile
from osiris_mesh.registry.placements import Placements
from osiris_mesh.registry.record import Binding, Provider, Record
from osiris_mesh.registry.resolver import Resolver
from osiris_mesh.registry.selection import Standings
from osiris_mesh.registry.statement import Statement
from osiris_mesh.registry.statement import make as signed
from osiris_mesh.settings.registry import RegistrySettings
from osiris_sdk.resolved import ResolveCache, Resolved

ROUNDS = 20_000
HOT = 1000
PROVIDERS = tuple(
    Provider(f"provider-{place}", f"https://provider-{place}.test/functions", weight=place + 1, response_ms=20 * place)
    for place in range(3)
)
PATTERNS = ("**", "team-7/*", "team-1*/f*9", "*/f*99*", "*-1/*")


def run(args: list[str]) -> dict[str, float | int | str]:
    """Measure."""
    if "--cold" in args:
        return asyncio.run(_cold(Path(args[args.index("--cold") + 1])))
    records = int(args[args.index("--records") + 1]) if "--records" in args else 100_000
    figures: dict[str, float | int | str] = {"records": records}
    with tempfile.TemporaryDirectory(prefix="osb-") as folder:
        path = Path(folder) / "names.db"
        _fill(path, records)
        words = [sys.executable, "-m", "bench", "resolve", "--cold", str(path), "--json"]
        figures.update(json.loads(subprocess.run(words, check=True, capture_output=True, timeout=300).stdout))
    figures.update(asyncio.run(_warm()))
    return figures


class _Source:
    """A registry that has every name of one history, or hangs."""

    def __init__(self) -> None:
        self.hangs = False
        self.asked = 0
        self.key = KeyPair(bytes(32))

    async def ask(self, name: str) -> Answer:
        self.asked += 1
        if self.hangs:
            await asyncio.Event().wait()
        line = _line(name, self.key)
        return Answer("main", follow(FunctionName.parse(name), [line]), chain=(line.digest,), lines=line.line + b"\n")

    def holds(self, record: Record) -> bool:
        return bool(record.name)

    def accepts(self, name: str, lines: bytes) -> bool:
        return bool(name and lines)


class _NoFunctions:
    """A mesh without functions of its own."""

    def active(self, _name: str) -> None:
        return None

    def versions(self, _name: str) -> list[None]:
        return []


def _line(name: str, key: KeyPair) -> Statement:
    said = Binding(name, "1.0.0", 1, digest="ab" * 32, description="What it does, in a few words.", providers=PROVIDERS)
    return signed(said.payload(), [key])


def _name(number: int) -> str:
    return f"team-{number % 200}/f{number}"


def _fill(path: Path, records: int) -> None:
    key, now_ms = KeyPair(bytes(32)), SYSTEM.time_ms()
    file = MemoryFile(path, records)
    file.open()
    for first in range(0, records, 5000):
        numbers = range(first, min(first + 5000, records))
        file.put(
            [Kept(_name(at), "main", now_ms, stale=False, data=_line(_name(at), key).line + b"\n") for at in numbers]
        )
    file.close()


def _resolver(source: _Source, memory: Memory | None, settings: RegistrySettings) -> Resolver:
    breakers: Breakers[tuple[str, str, str]] = Breakers(failures=3, pause=5, longest=300, limit=4096)
    return Resolver(
        _NoFunctions(),
        Asker({"main": source}, Federation((Route("main"),)), settings, SYSTEM),
        settings=settings,
        standings=Standings(half_life=60, breakers=breakers, limit=4096),
        placements=Placements(4096),
        memory=memory,
        rng=random.Random(1),
    )


async def _cold(path: Path) -> dict[str, float | int | str]:
    process = psutil.Process()
    before = process.memory_info().rss / 1e6
    began = time.perf_counter()
    memory = Memory(path, limit=1_000_000)
    async with memory, _resolver(_Source(), memory, RegistrySettings()) as names:
        found = await names.resolve(_name(len(memory) // 2), deadline=time.monotonic() + 10)
        started = time.perf_counter() - began
        assert str(found.version) == "1.0.0"
        listed = [_ms(lambda pattern=pattern: names.names(pattern, 1_000_000)) for pattern in PATTERNS]
        times: list[float] = []
        for number in range(min(20_000, len(memory))):
            at = time.perf_counter()
            await names.resolve(_name(number), deadline=time.monotonic() + 10)
            times.append(time.perf_counter() - at)
        return {
            "cold_start_s": round(started, 3),
            "list_ms": round(max(listed), 2),
            "miss_p50_us": round(statistics.median(times) * 1e6, 1),
            "memory_mb": round(process.memory_info().rss / 1e6, 1),
            "python_mb": round(before, 1),
        }


def _ms(work: Callable[[], object]) -> float:
    times = []
    for _ in range(5):
        began = time.perf_counter()
        work()
        times.append((time.perf_counter() - began) * 1000)
    return statistics.median(times)


def _p50_us(work: Callable[[int], object]) -> float:
    """Return the median time of a call; the timer's own time is taken off."""
    clock = time.perf_counter_ns
    gc.collect()
    times, bare = [], []
    for number in range(ROUNDS):
        began = clock()
        work(number)
        times.append(clock() - began)
        began = clock()
        bare.append(clock() - began)
    return max(statistics.median(times) - statistics.median(bare), 1) / 1000


async def _warm() -> dict[str, float | int | str]:
    source = _Source()
    context = make(Level.CONTROLLED, functions=["team-*/*"], providers=["https://*.test"], trusted=["provider-*"])
    names = [_name(number) for number in range(HOT)]
    # Every answer is late in its life, so that each call finds a question under way or begins one.
    settings = RegistrySettings(refresh_ahead=1e-6, lookup_s=60.0)
    async with _resolver(source, None, RegistrySettings()) as plain, _resolver(source, None, settings) as late:
        for name in names:
            await plain.resolve(name, deadline=time.monotonic() + 10, context=context)
            await late.resolve(name, deadline=time.monotonic() + 10, context=context)
        cached = _p50_us(lambda at: plain.resolve_now(names[at % HOT], time.monotonic(), context))
        fresh: list[Context] = [Context(*_fields(context)) for _ in range(ROUNDS)]
        first = _p50_us(lambda at: plain.resolve_now(names[at % HOT], time.monotonic(), fresh[at]))
        source.hangs = True
        asked = source.asked
        for name in names:
            late.resolve_now(name, time.monotonic(), context)
        await asyncio.sleep(0)
        assert source.asked > asked or len(late.questions) > 0
        hanging = _p50_us(lambda at: late.resolve_now(names[at % HOT], time.monotonic(), context))
    table = dict.fromkeys(names)
    bare = _p50_us(lambda at: table[names[at % HOT]])
    sdk = _sdk(names)
    cached_sdk = _p50_us(lambda at: sdk.get(names[at % HOT], time.monotonic()))
    return {
        "controller_cached_p50_us": round(cached, 2),
        "controller_first_context_p50_us": round(first, 2),
        "sdk_cached_p50_us": round(cached_sdk, 2),
        "hang_added_us": round(max(hanging - cached, 0.0), 2),
        "dict_p50_us": round(bare, 3),
        "controller_ratio": round(cached / bare, 1),
        "sdk_ratio": round(cached_sdk / bare, 1),
    }


def _fields(context: Context) -> tuple[Level, tuple[tuple[str, ...], ...], tuple[tuple[str, ...], ...]]:
    return (context.level, context.functions, context.providers)


def _sdk(names: list[str]) -> ResolveCache:
    known = ResolveCache()
    signature = Signature.from_wire([[], ""], "f")
    for name in names:
        known.put(
            name,
            Resolved(name, "1.0.0", bytes(32), signature, bytes(16), "", 60_000, idempotent=False),
            time.monotonic(),
        )
    return known
