"""From a built function to the record that is published of it. A core.

A pipeline may run any number of times: what is bound already is found to be so, and which version comes next is read
from the record.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final, Literal, cast
from urllib.parse import urlsplit

from msgspec.structs import replace

from osiris_mesh.errors import Conflict, UsageError
from osiris_mesh.function.name import Version
from osiris_mesh.function.spec import FunctionSpec
from osiris_mesh.registry.record import Amendment, Binding, Provider, Record, Requirements

__all__ = ["FIRST_VERSION", "Terms", "aliased", "binding_of", "chosen_version", "provider_of", "settled"]

FIRST_VERSION: Final = "1.0.0"
_MAX_DESCRIPTION: Final = 4096


@dataclass(frozen=True, slots=True)
class Terms:
    """What a record says besides what the function itself says.

    Attributes:
        providers: Who runs it; none: a mesh in which it is deployed.
        level: Least security context it needs; empty: the record's own default.
        permissions: Permissions the caller must hold.
        trusted: Patterns of providers that may serve it.
        scope: How far it may be cached; empty: the record's own default.
        ttl_s: Seconds an answer may be kept; 0: the record's own default.
        valid_for_ms: How long it holds from now on; 0: no end.
    """

    providers: tuple[Provider, ...] = ()
    level: str = ""
    permissions: tuple[str, ...] = ()
    trusted: tuple[str, ...] = ()
    scope: str = ""
    ttl_s: int = 0
    valid_for_ms: int = 0


def binding_of(spec: FunctionSpec, digest: bytes, terms: Terms, now_ms: int) -> Binding:
    """Return what is bound of a built function; its place in the history is for whoever publishes it.

    Args:
        spec: The function; its version is the one that is bound.
        digest: Of its bundle.
        terms: What else is said.
        now_ms: The time.

    Raises:
        UsageError: Something is wrong with it; the text begins with the path.
    """
    more: dict[str, Any] = {}
    if terms.scope:
        more["scope"] = terms.scope
    if terms.ttl_s:
        more["ttl_s"] = terms.ttl_s
    if terms.valid_for_ms:
        more |= {"valid_from_ms": now_ms, "valid_until_ms": now_ms + terms.valid_for_ms}
    level = cast("Literal['pure', 'controlled', 'full']", terms.level or Requirements().level)
    said = Binding(
        name=spec.name,
        version=spec.version,
        sequence=1,
        digest=digest.hex(),
        signature=tuple(spec.signature),
        description=spec.description[:_MAX_DESCRIPTION],
        providers=terms.providers,
        requirements=Requirements(level, tuple(sorted({*terms.permissions})), tuple(sorted({*terms.trusted}))),
        **more,
    )
    return Binding.from_payload(said.payload())


def settled(said: Binding, record: Record | None) -> Binding:
    """Return what is to be published: what is bound already where that differs by the moment alone.

    Args:
        said: What was made now.
        record: The name as it stands; None: it is new.

    Raises:
        Conflict: The version is bound, to something else.
    """
    found = None if record is None else record.versions.get(Version.parse(said.version))
    if found is None:
        return said
    bound = found.binding
    place = {"sequence": bound.sequence, "previous": bound.previous}
    lasts = bound.valid_until_ms - bound.valid_from_ms if bound.valid_until_ms else 0
    if lasts == (said.valid_until_ms - said.valid_from_ms if said.valid_until_ms else 0):
        place |= {"valid_from_ms": bound.valid_from_ms, "valid_until_ms": bound.valid_until_ms}
    if replace(said, **place) == bound:
        return bound
    differs = [name for name in Binding.__struct_fields__ if getattr(said, name) != getattr(bound, name)]
    differs = [name for name in differs if name not in place]
    raise Conflict(
        f"{said.name} {said.version} is bound already, with another {' and '.join(differs) or 'validity'}",
        fix="a version never changes: publish the next one, or leave --version out"
        + ("; of the providers a later word counts: osiris-mesh registry providers" if "providers" in differs else ""),
        name=said.name,
        version=said.version,
    )


def chosen_version(record: Record | None, digest_as: Callable[[str], bytes]) -> str:
    """Return the version of a publication that names none.

    A bundle's digest covers its version, so "the same code" means: built as that version, it has that version's digest.

    Args:
        record: The name as it stands; None: it is new.
        digest_as: Digest of the bundle built as some version.
    """
    if record is None or not record.versions:
        return FIRST_VERSION
    newest = max(record.versions)
    if record.versions[newest].binding.digest == digest_as(str(newest)).hex():
        return str(newest)
    return str(newest.next_patch())


def provider_of(text: str, *, cost_micros: int = 0, currency: str = "", region: str = "") -> Provider:
    """Return the provider for what a user wrote: ``https://functions.acme.com`` or ``ID=URL``.

    Without an id the provider is called like its host.

    Raises:
        UsageError: Something is wrong with it; the text begins with the path.
    """
    name, equals, url = text.partition("=")
    if not equals or "://" in name:
        url = text
        try:
            name = urlsplit(url).netloc.rpartition("@")[2]
        except ValueError:
            name = ""
    if not name or "://" not in url:
        raise UsageError(
            f"{text[:80]!r} is not a provider", fix="write https://functions.acme.com, or ID=https://functions.acme.com"
        )
    said = Provider(id=name, endpoint=url, cost_micros=cost_micros, currency=currency, region=region)
    return Provider.from_payload(said.payload())


def aliased(record: Record, changes: Mapping[str, str]) -> Amendment:
    """Return the amendment that gives labels to versions, or takes them away.

    Args:
        record: The name as it stands; its other labels stay.
        changes: Label to version; an empty version takes the label away.

    Raises:
        UsageError: Something is wrong with it; the text begins with the path.
    """
    labels = {label: str(version) for label, version in record.aliases.items()} | dict(changes)
    said = Amendment(
        name=record.name, sequence=1, aliases={label: version for label, version in sorted(labels.items()) if version}
    )
    return Amendment.from_payload(said.payload())
