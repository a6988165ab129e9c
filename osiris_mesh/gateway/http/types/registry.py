"""Registries of a node, and what is known through them."""

from __future__ import annotations

from typing import Annotated, Any

from msgspec import Meta, Struct

from osiris_mesh.gateway.http.types.shared import FunctionText

__all__ = [
    "DiscoverBody",
    "Discovered",
    "Evidence",
    "EvidenceQuery",
    "FindQuery",
    "Found",
    "NewRegistry",
    "RegistriesView",
    "RegistryAdded",
    "RegistryBody",
    "RegistryHistory",
    "RegistryOrderBody",
    "RegistryRemoved",
    "RegistryResolution",
    "RegistryResolveQuery",
    "RegistrySyncBody",
    "Usage",
    "UsageQuery",
]

RegistryText = Annotated[str, Meta(min_length=1, max_length=63)]
_TIME_MS = Meta(ge=0, le=(1 << 48) - 1)


class NewRegistry(Struct, forbid_unknown_fields=True):
    """A registry a node is to ask: one that takes no file of its machine."""

    name: RegistryText
    url: Annotated[str, Meta(min_length=1, max_length=1024)]
    pin: Annotated[str, Meta(max_length=64, description="Digest of its root; the one seen first if empty.")] = ""
    routes: Annotated[
        list[FunctionText],
        Meta(max_length=64, description="Patterns of names that it alone is asked about; all names if empty."),
    ] = []
    branch: Annotated[str, Meta(max_length=255, description="Of Git.")] = ""
    gateways: Annotated[list[Annotated[str, Meta(max_length=512)]], Meta(max_length=8, description="Of IPFS.")] = []
    first: Annotated[bool, Meta(description="Before all others; else after them.")] = False


class RegistryBody(Struct):
    """A registry, and how it is."""

    name: str
    url: str
    kind: str
    pin: str
    routes: list[str]
    options: Annotated[dict[str, str], Meta(description="Without those that name files of the machine.")]
    ok: bool
    error: str
    stale: bool = False
    names: int | None = None
    checkpoint: int = 0
    evidence: int = 0
    id: str = ""


class RegistryAdded(Struct):
    """The registry that is asked from now on."""

    registry: RegistryBody


class RegistriesView(Struct):
    """The registries of a node, the one whose word counts most first."""

    registries: list[RegistryBody]


class RegistryRemoved(Struct):
    """It is asked no more."""

    name: str
    removed: bool


class RegistryOrderBody(Struct, forbid_unknown_fields=True):
    """Which come first, in this order; all others follow."""

    names: Annotated[list[RegistryText], Meta(min_length=1, max_length=32)]


class RegistrySyncBody(Struct, forbid_unknown_fields=True, omit_defaults=True):
    """What is fetched."""

    registry: Annotated[str, Meta(max_length=63, description="One registry; all if empty.")] = ""


class RegistryResolveQuery(Struct, forbid_unknown_fields=True):
    """How a name is resolved."""

    explain: Annotated[bool, Meta(description="Ask anew, and say who said what.")] = False
    context: Annotated[str, Meta(max_length=8192, description="Security context; it only ever narrows.")] = ""
    timeout_ms: Annotated[int, Meta(ge=1, le=3_600_000)] = 10_000


class RegistryResolution(Struct):
    """What a reference comes to."""

    name: str
    version: str
    digest: str
    description: str
    source: Annotated[str, Meta(description="local, a registry, or peer and a registry.")]
    age: Annotated[float, Meta(description="Seconds since a registry said so.")]
    stale: bool
    providers: Annotated[list[dict[str, Any]], Meta(description="In the order they are asked.")]
    record: dict[str, Any] | None
    deprecated: str | None = None
    why: list[dict[str, str]] = []


class RegistryHistory(Struct):
    """The history of a name, as the first registry that has it gives it."""

    name: str
    source: str
    statements: list[dict[str, Any]]
    places: Annotated[list[dict[str, Any]], Meta(description="Entries of the ledger that brought it.")]


class FindQuery(Struct, forbid_unknown_fields=True):
    """Which names."""

    pattern: Annotated[str, Meta(max_length=384, description="`*` for any part of a segment, `**` for all.")] = "**"
    limit: Annotated[int, Meta(ge=1, le=10_000)] = 1000


class Found(Struct):
    """Names of all registries, ascending."""

    names: Annotated[list[dict[str, Any]], Meta(description="name, version, description, registry")]


class EvidenceQuery(Struct, forbid_unknown_fields=True):
    """Whose."""

    registry: Annotated[str, Meta(max_length=63, description="One registry; all if empty.")] = ""


class Evidence(Struct):
    """What registries said that was refused."""

    evidence: Annotated[list[dict[str, Any]], Meta(description="registry, reason, subject, what, time_ms, lines")]


class UsageQuery(Struct, forbid_unknown_fields=True):
    """Which calls."""

    provider: Annotated[str, Meta(max_length=256)] = ""
    caller: Annotated[str, Meta(max_length=256)] = ""
    since_ms: Annotated[int, _TIME_MS] = 0
    until_ms: Annotated[int, _TIME_MS] | None = None


class Usage(Struct):
    """Sums by day (UTC), provider, caller and function."""

    usage: list[dict[str, Any]]


class DiscoverBody(Struct, forbid_unknown_fields=True):
    """Who is asked."""

    endpoint: Annotated[str, Meta(min_length=1, max_length=1024)]


class Discovered(Struct):
    """What a provider offers, and what of it cannot be called."""

    found: list[dict[str, Any]]
    gaps: list[dict[str, str]]
