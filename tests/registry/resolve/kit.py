"""Signed histories, registries that do as they are told, and a resolver around them."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from osiris_mesh.clock import SYSTEM, Clock
from osiris_mesh.errors import OsirisError
from osiris_mesh.function.name import FunctionName
from osiris_mesh.function.spec import FunctionSpec
from osiris_mesh.identity.keys import KeyPair
from osiris_mesh.registry.asking import Asker
from osiris_mesh.registry.breaker import Breakers
from osiris_mesh.registry.federation import Answer, Federation, Route
from osiris_mesh.registry.history import follow, join_lines
from osiris_mesh.registry.memory import Memory
from osiris_mesh.registry.placements import Placements
from osiris_mesh.registry.questions import Neighbours
from osiris_mesh.registry.record import Amendment, Binding, Provider, Record, sign
from osiris_mesh.registry.resolver import Resolver
from osiris_mesh.registry.selection import Chooser, Standings
from osiris_mesh.registry.statement import Statement, parse
from osiris_mesh.settings.registry import RegistrySettings

PROVIDERS = (
    Provider("one", "https://one.test/", weight=3, response_ms=20),
    Provider("two", "https://two.test/", weight=1, response_ms=40),
)
SETTINGS = RegistrySettings(
    lookup_s=2.0, patience_s=0.05, stale_after_s=0.05, failure_s=0.05, failure_max_s=0.2, peers_s=0.2
)


def key(number: int = 1) -> KeyPair:
    return KeyPair(number.to_bytes(32, "big"))


def history(name: str, *said: Mapping[str, Any], by: KeyPair | None = None) -> list[Statement]:
    """Return signed lines: a map with ``amend`` is an amendment, any other a binding."""
    lines: list[Statement] = []
    for sequence, fields in enumerate(said, 1):
        place = {"name": name, "sequence": sequence, "previous": lines[-1].digest.hex() if lines else ""}
        given = dict(fields)
        if given.pop("amend", False):
            lines.append(sign(Amendment(**place, **given), [by or key()]))
        else:
            given.setdefault("providers", PROVIDERS)
            lines.append(sign(Binding(**place, **given), [by or key()]))
    return lines


def record(lines: Sequence[Statement], revoked: frozenset[bytes] = frozenset()) -> Record:
    return follow(FunctionName.parse(str(lines[0].payload["name"])), lines, revoked)


def answer(registry: str, lines: Sequence[Statement], **more: Any) -> Answer:
    return Answer(registry, record(lines), chain=tuple(item.digest for item in lines), lines=join_lines(lines), **more)


@dataclass
class Fake:
    """A registry: what it has, and what it does when it is asked."""

    name: str
    has: dict[str, list[Statement]] = field(default_factory=dict)
    error: OsirisError | None = None
    hangs: bool = False
    stale: bool = False
    age_ms: int = 0
    asked: int = 0
    revoked: set[bytes] = field(default_factory=set)
    gate: asyncio.Event | None = None
    keys: frozenset[bytes] = frozenset({key().public})

    async def ask(self, name: str) -> Answer:
        self.asked += 1
        if self.hangs:
            await asyncio.Event().wait()
        if self.gate is not None:
            await self.gate.wait()
        if self.error is not None:
            raise self.error
        lines = self.has.get(name)
        if not lines:
            return Answer(self.name)
        return answer(self.name, lines, stale=self.stale, age_ms=self.age_ms)

    def holds(self, record: Record) -> bool:
        return not any(bound.digest in self.revoked for bound in record.versions.values())

    def accepts(self, _name: str, lines: bytes) -> bool:
        return all(parse(line).keys <= self.keys for line in lines.splitlines())


@dataclass
class Functions:
    """The functions of this mesh."""

    has: dict[str, list[FunctionSpec]] = field(default_factory=dict)

    def active(self, name: str) -> FunctionSpec | None:
        return self.has[name][-1] if name in self.has else None

    def versions(self, name: str) -> Sequence[FunctionSpec]:
        return self.has.get(name, [])

    def deploy(self, name: str, version: str) -> None:
        self.has.setdefault(name, []).append(FunctionSpec(name, version, bytes(32), "f.py::f", "python3.11", [[], ""]))


def standings(settings: RegistrySettings = SETTINGS) -> Standings:
    return Standings(
        half_life=settings.half_life_s,
        breakers=Breakers(
            failures=settings.breaker_failures, pause=settings.breaker_s, longest=settings.breaker_max_s, limit=100
        ),
        limit=settings.providers,
    )


def resolver(
    *sources: Fake,
    settings: RegistrySettings = SETTINGS,
    functions: Functions | None = None,
    memory: Memory | None = None,
    neighbours: Neighbours | None = None,
    chooser: Chooser | None = None,
    clock: Clock = SYSTEM,
    known: Callable[..., bytes | None] | None = None,
    book: Standings | None = None,
) -> Resolver:
    federation = Federation(tuple(Route(source.name) for source in sources))
    asker = Asker(
        {source.name: source for source in sources},
        federation,
        settings,
        clock,
        known or (lambda _name, _version: None),
    )
    return Resolver(
        functions or Functions(),
        asker,
        settings=settings,
        standings=book or standings(settings),
        placements=Placements(100),
        memory=memory,
        neighbours=neighbours,
        chooser=chooser,
        clock=clock,
        rng=random.Random(1),
    )
