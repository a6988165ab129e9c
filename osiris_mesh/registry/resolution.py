"""What a name comes to, and what is kept ready for the next call of it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Final, Protocol

import msgspec

from osiris_mesh.errors import NotFound
from osiris_mesh.function.name import Version
from osiris_mesh.function.reference import Reference
from osiris_mesh.function.spec import FunctionSpec
from osiris_mesh.registry.cache import Entry
from osiris_mesh.registry.context import Context, may_call
from osiris_mesh.registry.federation import Answer, Step
from osiris_mesh.registry.record import Provider, Record, Requirements, VersionRecord
from osiris_mesh.registry.selection import Ranking

__all__ = ["LOCAL", "LocalFunctions", "Ready", "Resolution", "allowed", "find_local"]

LOCAL: Final = "local"
"""Source of a function of this mesh."""
_MAX_CONTEXTS: Final = 16


class LocalFunctions(Protocol):
    """The functions of this mesh, by its ledger; asked on every resolution, must not block."""

    def active(self, name: str) -> FunctionSpec | None:
        """Return the active version of a function, by full name."""
        ...

    def versions(self, name: str) -> Sequence[FunctionSpec]:
        """Return all published versions of a function, by full name."""
        ...


class Resolution(msgspec.Struct, frozen=True):
    """What a name comes to.

    Attributes:
        name: Full name.
        version: Semantic version.
        providers: Who answers, first the one to ask first; empty for a function of this mesh, and for one that only its
            bundle's digest says where to run.
        source: ``local``, the registry's name, or ``peer`` and the registry's name.
        record: What holds for the name; None for a function of this mesh.
        bound: The version as the record has it; None for a function of this mesh.
        spec: The version as the ledger has it; None for a function of a registry.
        age_ms: Milliseconds since a registry said so.
        stale: It is older than it should be: nobody gave a newer answer in time.
        why: Who said what and why this holds, if that was asked for.
        fresh_until: Monotonic time until which it may be relied on; long ago: it is stale, or of this mesh.
    """

    name: str
    version: Version
    providers: tuple[Provider, ...]
    source: str
    record: Record | None = None
    bound: VersionRecord | None = None
    spec: FunctionSpec | None = None
    age_ms: int = 0
    stale: bool = False
    why: tuple[Step, ...] = ()
    fresh_until: float = 0.0

    def to_json(self) -> dict[str, Any]:
        """Return it for people and programs."""
        bound, spec = self.bound, self.spec
        digest = bound.binding.digest if bound is not None else spec.digest.hex() if spec is not None else ""
        described = bound.binding.description if bound is not None else spec.description if spec is not None else ""
        said: dict[str, Any] = {
            "name": self.name,
            "version": str(self.version),
            "digest": digest,
            "description": described,
            "source": self.source,
            "age": round(self.age_ms / 1000, 3),
            "stale": self.stale,
            "providers": [provider.payload() for provider in self.providers],
            "record": None,
        }
        if bound is not None and self.record is not None:
            said["deprecated"] = bound.deprecated
            said["record"] = {**bound.binding.payload(), "versions": [str(version) for version in self.record.versions]}
        if self.why:
            said["why"] = [step.to_json() for step in self.why]
        return said


def find_local(local: LocalFunctions, wanted: Reference) -> FunctionSpec | None:
    """Return the function of this mesh that is meant; None: registries are asked. Labels are a registry's."""
    if wanted.is_active:
        return local.active(wanted.name)
    if wanted.label:
        return None
    specs = local.versions(wanted.name)
    if not specs:
        return None
    versions = {Version.parse(spec.version): spec for spec in specs}
    best = wanted.highest(versions)
    return None if best is None else versions[best]


def allowed(
    context: Context, name: str, requirements: Requirements, providers: Sequence[Provider]
) -> tuple[Provider, ...]:
    """Return the providers a context lets be asked.

    Raises:
        Denied: None of them, or the function may not be called at all; with the rule of the first.
    """
    if not providers:
        refusal = may_call(context, name, requirements)
        if refusal is not None:
            raise refusal.error()
        return ()
    refusals = [may_call(context, name, requirements, provider) for provider in providers]
    kept = tuple(provider for provider, refusal in zip(providers, refusals, strict=True) if refusal is None)
    if not kept:
        first = refusals[0]
        if first is not None:
            raise first.error()
        raise NotFound(f"{name} has no provider", name=name)
    return kept


@dataclass(slots=True, eq=False)
class Ready:
    """One reference, worked out: what the hot path reads.

    Attributes:
        wanted: The reference.
        entry: Of the cache; it is over when that is.
        bound: The version meant.
        version: The same.
        record: What holds for the name.
        until: Monotonic time at which another version may be meant, because one begins or ends to be valid.
        orders: By identity of a context, which it holds on to: that context, what it allows, ranked, until when that
            holds, of which generation of standings.
    """

    wanted: Reference
    entry: Entry[Answer]
    record: Record
    bound: VersionRecord
    version: Version
    until: float
    orders: dict[int, tuple[Context, Ranking, float, int]] = field(default_factory=dict)

    def remember(self, context: Context, ranking: Ranking, until: float, generation: int) -> None:
        """Keep the order for a context."""
        if len(self.orders) >= _MAX_CONTEXTS:
            self.orders.clear()
        self.orders[id(context)] = (context, ranking, until, generation)

    def resolution(
        self, providers: tuple[Provider, ...], now: float, *, stale: bool = False, why: tuple[Step, ...] = ()
    ) -> Resolution:
        """Return it as callers get it."""
        entry = self.entry
        until, ends = entry.fresh_until, self.until
        return Resolution(
            self.wanted.name,
            self.version,
            providers,
            entry.source,
            self.record,
            self.bound,
            None,
            int((now - entry.at) * 1000),
            stale,
            why,
            min(ends, until),
        )
