"""What is said of a function: bindings, amendments and placements, and the state they add up to.

A payload is a JSON map whose ``type`` names the struct. A field that has its default is left out, never written: one
object has one payload, and a field added later leaves old lines as they are. Times are milliseconds of Unix time,
costs millionths of a currency, digests and keys lower-case hexadecimal.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from types import MappingProxyType
from typing import Annotated, Any, Final, Literal, Self
from urllib.parse import urlsplit

import msgspec
from msgspec import Meta, Struct

from osiris_mesh.codec import pack, unpack_canonical
from osiris_mesh.errors import OsirisError, UsageError
from osiris_mesh.function.name import FunctionName, Version
from osiris_mesh.function.signature import Signature
from osiris_mesh.identity.keys import KeyPair
from osiris_mesh.registry.statement import LINE_LIMITS, Statement, make

__all__ = [
    "MAX_PLACEMENT_MS",
    "MAX_PROVIDERS",
    "SCHEMES",
    "Amendment",
    "Binding",
    "Payload",
    "Placement",
    "Provider",
    "Record",
    "Requirements",
    "VersionRecord",
    "read_payload",
    "sign",
    "wrong",
]

MAX_PLACEMENT_MS: Final = 300_000
"""Milliseconds a placement may hold."""
MAX_PROVIDERS: Final = 64
SCHEMES: Final = frozenset({"mesh", "https", "http", "mcp", "marketplace"})
"""Schemes of an endpoint; ``http`` on loopback alone."""
_LOOPBACK: Final = frozenset({"localhost", "127.0.0.1", "::1"})


def _whole(pattern: str) -> str:
    # In Python "$" also fits before a last line's end; JSON Schema's own expressions have no "\\Z".
    return rf"^(?:{pattern})$(?!\n)"


Hex32 = Annotated[str, Meta(pattern=_whole(r"[0-9a-f]{64}"), min_length=64, max_length=64)]
MaybeHex32 = Annotated[str, Meta(pattern=_whole(r"(?:[0-9a-f]{64})?"), max_length=64)]
Count = Annotated[int, Meta(ge=0, le=(1 << 53) - 1)]
TimeMs = Annotated[int, Meta(ge=0, le=(1 << 48) - 1)]
Sequence_ = Annotated[int, Meta(ge=1, le=(1 << 32) - 1)]
Name = Annotated[str, Meta(min_length=3, max_length=384)]
VersionText = Annotated[str, Meta(max_length=128)]
Label = Annotated[str, Meta(pattern=_whole(r"[a-z][a-z0-9-]{0,62}"), min_length=1, max_length=63)]
Region = Annotated[str, Meta(pattern=_whole(r"[A-Za-z0-9._-]{0,64}"), max_length=64)]
ProviderId = Annotated[str, Meta(pattern=_whole(r"[A-Za-z0-9][A-Za-z0-9._:/@-]{0,127}"), min_length=1, max_length=128)]
Endpoint = Annotated[str, Meta(pattern=_whole(r"[a-z]+://[!-~]+"), min_length=8, max_length=1024)]
Word = Annotated[str, Meta(pattern=_whole(r"[!-~]{1,384}"), min_length=1, max_length=384)]
Text = Annotated[str, Meta(max_length=4096)]


class Payload(Struct, frozen=True, forbid_unknown_fields=True):
    """Something that can be said in a statement, or a part of it."""

    def payload(self) -> dict[str, Any]:
        """Return the map that is signed: plain JSON, fields with their defaults left out."""
        result: dict[str, Any] = {}
        if (tag := self.__struct_config__.tag) is not None:
            result["type"] = tag
        for name, default in _defaults(type(self)):
            value = getattr(self, name)
            if default is msgspec.NODEFAULT or value != default:
                result[name] = _plain(value)
        return result

    def to_wire(self) -> bytes:
        """Return the msgpack form of :meth:`payload`."""
        return pack(self.payload())

    @classmethod
    def from_wire(cls, data: bytes) -> Self:
        """Read what :meth:`to_wire` gave.

        Raises:
            RemoteProtocolError: Not msgpack in its shortest form.
            UsageError: As :meth:`from_payload`.
        """
        return cls.from_payload(unpack_canonical(data, LINE_LIMITS))

    @classmethod
    def from_payload(cls, payload: Any) -> Self:
        """Read and check a payload.

        Raises:
            UsageError: Something is wrong with it; the text begins with the path of what, also in ``details["path"]``.
        """
        if (tag := cls.__struct_config__.tag) is not None and (
            not isinstance(payload, Mapping) or payload.get("type") != tag
        ):
            raise wrong("type", f"is not {tag!r}")
        try:
            value = msgspec.convert(payload, cls)
        except msgspec.ValidationError as error:
            text, _, at = str(error).partition(" - at `")
            raise wrong(at.rstrip("`").removeprefix("$").removeprefix(".") or "payload", text) from None
        value.check("")
        # A default that is written out, or a map given twice over, would be a second form of the same object.
        _compare(payload, value.payload(), "")
        return value

    def check(self, at: str) -> None:
        """Check what types and ranges do not say.

        Args:
            at: Path of this object, for the text.

        Raises:
            UsageError: With the path.
        """


class Provider(Payload, frozen=True, forbid_unknown_fields=True):
    """Who runs the function, and on what terms.

    Attributes:
        id: Names the provider within its record: a peer id, a domain, a word.
        endpoint: Where it answers: ``mesh://…``, ``https://…``, ``mcp://…``, ``marketplace://…``.
        reference: What to ask for there: a function, a tool, an operation; empty: the record's own name.
        capability: SHA-256 of the description the provider gave when this was signed; another needs a new one.
        key: Public key its placements are signed with; empty: it has none.
        sla: Tier it promises.
        cost_micros: Cost of one call, in millionths of ``currency``.
        currency: Three to eight capital letters; empty only without a cost.
        response_ms: Average response time it states, milliseconds; 0: not stated.
        region: Where it runs; empty: anywhere.
        weight: Its share when load is balanced, 0 to 1000; 0: only when no other is left.
    """

    id: ProviderId
    endpoint: Endpoint
    reference: Annotated[str, Meta(pattern=_whole(r"[!-~]{0,384}"), max_length=384)] = ""
    capability: MaybeHex32 = ""
    key: MaybeHex32 = ""
    sla: Literal["best-effort", "standard", "premium"] = "best-effort"
    cost_micros: Count = 0
    currency: Annotated[str, Meta(pattern=_whole(r"(?:[A-Z]{3,8})?"), max_length=8)] = ""
    response_ms: Annotated[int, Meta(ge=0, le=86_400_000)] = 0
    region: Region = ""
    weight: Annotated[int, Meta(ge=0, le=1000)] = 100

    def check(self, at: str) -> None:
        """See :meth:`Payload.check`."""
        _check_endpoint(self.endpoint, at + "endpoint")
        if self.cost_micros and not self.currency:
            raise wrong(at + "currency", "is missing: the provider has a cost")


class Requirements(Payload, frozen=True, forbid_unknown_fields=True):
    """What a caller must allow before the function is called.

    Attributes:
        level: Least security context it needs: ``pure``, ``controlled`` or ``full``.
        permissions: Permissions the caller must hold, ascending.
        trusted_providers: Patterns of provider ids that may serve it, ascending; empty: any listed provider.
    """

    level: Literal["pure", "controlled", "full"] = "controlled"
    permissions: Annotated[tuple[Word, ...], Meta(max_length=64)] = ()
    trusted_providers: Annotated[tuple[Word, ...], Meta(max_length=64)] = ()

    def check(self, at: str) -> None:
        """See :meth:`Payload.check`."""
        for name in ("permissions", "trusted_providers"):
            items = getattr(self, name)
            if list(items) != sorted(set(items)):
                raise wrong(at + name, "is not in ascending order, each once")


class Binding(Payload, frozen=True, forbid_unknown_fields=True, tag_field="type", tag="binding"):
    """One version of one function, immutable once said.

    Attributes:
        name: Full name.
        version: Semantic version.
        sequence: Place in the history of the name, from 1 without gaps.
        previous: Digest of the statement before; empty for the first.
        digest: SHA-256 of the bundle; empty for a function that only its providers have.
        signature: Wire form of :class:`osiris_mesh.function.signature.Signature`; empty: not known.
        schema: JSON Schema of the arguments as text, where a provider gave one.
        description: What it does.
        providers: Those it starts with; an amendment may replace them.
        requirements: What a caller must allow.
        scope: How far it may be cached: ``local``, ``regional`` or ``global``.
        ttl_s: Seconds an answer may be kept; the tier may cap it.
        valid_from_ms: Not before.
        valid_until_ms: Not from then on; 0: no end.
    """

    name: Name
    version: VersionText
    sequence: Sequence_
    previous: MaybeHex32 = ""
    digest: MaybeHex32 = ""
    signature: Annotated[tuple[Any, ...], Meta(max_length=2)] = ()
    schema: Annotated[str, Meta(max_length=16_384)] = ""
    description: Text = ""
    providers: Annotated[tuple[Provider, ...], Meta(max_length=MAX_PROVIDERS)] = ()
    requirements: Requirements = Requirements()
    scope: Literal["local", "regional", "global"] = "global"
    ttl_s: Annotated[int, Meta(ge=1, le=604_800)] = 3600
    valid_from_ms: TimeMs = 0
    valid_until_ms: TimeMs = 0

    def check(self, at: str) -> None:
        """See :meth:`Payload.check`."""
        _check_place(self.name, self.sequence, self.previous, at)
        _check_version(self.version, at + "version")
        _check_providers(self.providers, at)
        self.requirements.check(at + "requirements.")
        if self.signature:
            try:
                Signature.from_wire(_plain(self.signature), self.name)
            except OsirisError as error:
                raise wrong(at + "signature", error.what) from None
        if self.valid_until_ms and self.valid_until_ms <= self.valid_from_ms:
            raise wrong(at + "valid_until_ms", "is not after valid_from_ms")
        if not self.digest and not self.providers:
            raise wrong(at + "digest", "is empty, and no provider is named: nobody could run the function")


class Amendment(Payload, frozen=True, forbid_unknown_fields=True, tag_field="type", tag="amendment"):
    """What changes of a name or one of its versions; what is not given stays.

    Attributes:
        name: Full name.
        sequence: As in :class:`Binding`.
        previous: As in :class:`Binding`.
        version: Which version ``deprecated`` and ``providers`` are about; empty when neither is given.
        deprecated: Why not to use it any more; empty text takes a deprecation back; None: as before.
        providers: The whole new list; None: as before.
        aliases: Label to version, the whole new map, used as ``name@label``; None: as before.
    """

    name: Name
    sequence: Sequence_
    previous: MaybeHex32 = ""
    version: VersionText = ""
    deprecated: Annotated[str, Meta(max_length=1024)] | None = None
    providers: Annotated[tuple[Provider, ...], Meta(max_length=MAX_PROVIDERS)] | None = None
    aliases: Annotated[dict[Label, VersionText], Meta(max_length=64)] | None = None

    def check(self, at: str) -> None:
        """See :meth:`Payload.check`."""
        _check_place(self.name, self.sequence, self.previous, at)
        about_version = self.deprecated is not None or self.providers is not None
        if about_version != bool(self.version):
            raise wrong(at + "version", "is needed with deprecated or providers, and with these alone")
        if self.version:
            _check_version(self.version, at + "version")
        elif self.aliases is None:
            raise wrong(at + "aliases", "is missing: the amendment changes nothing")
        if self.providers is not None:
            _check_providers(self.providers, at)
        for label, version in (self.aliases or {}).items():
            if label == "latest":
                raise wrong(f"{at}aliases.{label}", "is taken: it means the highest version")
            _check_version(version, f"{at}aliases.{label}")


class Placement(Payload, frozen=True, forbid_unknown_fields=True, tag_field="type", tag="placement"):
    """Where a provider answers now; signed by the provider's own key, spread by gossip and HTTP alone.

    Attributes:
        provider: The provider's id.
        endpoint: Where it answers.
        sequence: Higher wins.
        state: ``up``, ``draining`` (nothing new, please) or ``down``.
        region: Where it runs.
        valid_from_ms: When it was said.
        valid_until_ms: At most 5 minutes later.
    """

    provider: ProviderId
    endpoint: Endpoint
    sequence: Count
    valid_from_ms: TimeMs
    valid_until_ms: TimeMs
    state: Literal["up", "draining", "down"] = "up"
    region: Region = ""

    def check(self, at: str) -> None:
        """See :meth:`Payload.check`."""
        _check_endpoint(self.endpoint, at + "endpoint")
        if not self.valid_from_ms < self.valid_until_ms <= self.valid_from_ms + MAX_PLACEMENT_MS:
            raise wrong(at + "valid_until_ms", f"is not within {MAX_PLACEMENT_MS} ms after valid_from_ms")


@dataclass(frozen=True, slots=True)
class VersionRecord:
    """One version as it stands.

    Attributes:
        binding: What was bound.
        deprecated: Why not to use it any more; None: it is in use.
        providers: Those it has now.
        digest: Digest of the binding's statement, 32 bytes.
        line: The binding's statement as bytes.
    """

    binding: Binding
    deprecated: str | None
    providers: tuple[Provider, ...]
    digest: bytes
    line: bytes


@dataclass(frozen=True, slots=True)
class Record:
    """A name as its history leaves it.

    Attributes:
        name: Full name.
        versions: Its versions, ascending; revoked ones are not among them.
        sequence: Sequence of the last statement.
        digest: Digest of the last statement, 32 bytes.
        aliases: Label to version.
        revoked: Digests of the statements in its history that were revoked; no registry's word for them counts.
    """

    name: str
    versions: Mapping[Version, VersionRecord]
    sequence: int
    digest: bytes
    aliases: Mapping[str, Version] = field(default_factory=lambda: MappingProxyType({}))
    revoked: frozenset[bytes] = frozenset()


_READABLE: Final[dict[str, type[Binding | Amendment | Placement]]] = {
    "binding": Binding,
    "amendment": Amendment,
    "placement": Placement,
}


def read_payload(payload: Any) -> Binding | Amendment | Placement:
    """Read a payload by its ``type``.

    Raises:
        UsageError: None of the three, or wrong; the text begins with the path.
    """
    kind = payload.get("type") if isinstance(payload, Mapping) else None
    struct = _READABLE.get(kind) if isinstance(kind, str) else None
    if struct is None:
        raise wrong("type", f"is not one of {', '.join(_READABLE)}")
    return struct.from_payload(payload)


def sign(said: Payload, keys: Sequence[KeyPair]) -> Statement:
    """Check a binding, amendment, placement (or anything else that can be said) and sign it.

    Raises:
        UsageError: Something is wrong with it; with the path.
    """
    payload = said.payload()
    type(said).from_payload(payload)
    return make(payload, keys)


@cache
def _defaults(struct: type[Payload]) -> tuple[tuple[str, Any], ...]:
    return tuple(
        (item.name, item.default if item.default_factory is msgspec.NODEFAULT else item.default_factory())
        for item in msgspec.structs.fields(struct)
    )


def _plain(value: Any) -> Any:
    if isinstance(value, Payload):
        return value.payload()
    if isinstance(value, (tuple, list)):
        return [_plain(item) for item in value]
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    return value


def _compare(given: Any, meant: Any, at: str) -> None:
    """Say where ``given`` differs from the one form of what it means."""
    if isinstance(given, Mapping) and isinstance(meant, dict):
        for name in given:
            path = f"{at}.{name}" if at else str(name)
            if name not in meant:
                raise wrong(path, "has its default: leave it out")
            _compare(given[name], meant[name], path)
    elif isinstance(given, (list, tuple)) and isinstance(meant, list):
        for place, (one, other) in enumerate(zip(given, meant, strict=True)):
            _compare(one, other, f"{at}[{place}]")
    elif type(given) is not type(meant) or given != meant:
        raise wrong(at, f"is written in another form than {meant!r}")


def wrong(path: str, what: str) -> UsageError:
    """Return the error for what is wrong at ``path`` of a payload."""
    return UsageError(f"{path}: {what}", path=path)


def _check_endpoint(endpoint: str, at: str) -> None:
    try:
        parts = urlsplit(endpoint)
        _ = parts.port
    except ValueError:
        raise wrong(at, "is not a URL") from None
    if parts.scheme not in SCHEMES:
        raise wrong(at, f"begins with none of {', '.join(sorted(scheme + '://' for scheme in SCHEMES))}")
    if not parts.netloc or parts.username is not None or parts.password is not None or parts.fragment:
        raise wrong(at, "lacks a host, or has a user, password or fragment")
    if parts.scheme == "http" and parts.hostname not in _LOOPBACK:
        raise wrong(at, "is http:// to another machine; write https://")


def _check_place(name: str, sequence: int, previous: str, at: str) -> None:
    try:
        full = str(FunctionName.parse(name))
    except UsageError as error:
        raise wrong(at + "name", error.what) from None
    if full != name:
        raise wrong(at + "name", "is not a full name; write namespace/name")
    if (sequence == 1) != (previous == ""):
        raise wrong(at + "previous", "is empty for sequence 1, and for that alone")


def _check_version(version: str, at: str) -> None:
    try:
        Version.parse(version)
    except UsageError as error:
        raise wrong(at, error.what) from None


def _check_providers(providers: Sequence[Provider], at: str) -> None:
    seen: set[str] = set()
    for place, provider in enumerate(providers):
        provider.check(f"{at}providers[{place}].")
        if provider.id in seen:
            raise wrong(f"{at}providers[{place}].id", f"stands twice: {provider.id}")
        seen.add(provider.id)
