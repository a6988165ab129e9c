"""What the SDK knows of a function once it looked the name up, and for how long it believes that."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

from osiris_mesh.errors import RemoteProtocolError
from osiris_mesh.function.signature import Signature

__all__ = ["ResolveCache", "Resolved"]

_TTL_MS: Final = 300_000
_LIMIT: Final = 4096


@dataclass(frozen=True, slots=True)
class Resolved:
    """One version of a function, as a caller sees it.

    Attributes:
        name: Full name.
        version: Semantic version.
        digest: SHA-256 of its bundle.
        signature: What arguments are bound against.
        binding: By which the controller knows that signature.
        description: First paragraph of its docstring.
        timeout_ms: Its own limit, milliseconds.
        idempotent: A repeated call does no harm.
        source: ``local``: the mesh has it; else the registry that said so, or ``peer`` and that registry.
        age: Seconds since that registry said so.
        stale: It is older than it should be: nobody gave a newer answer in time.
        deprecated: Why this version should not be used any longer; None: it is in use.
        requirements: Of a function of a registry: ``level``, ``permissions`` and ``trusted_providers``; else None.
        versions: The versions a registry has of it.
        providers: Who answers, the one asked first first; maps of what the record says of each (``id``, ``endpoint``,
            ``region``, ``cost_micros`` and so on) and of what the controller sees (``response_ms``, ``availability``,
            ``open``, ``draining``, ``in_flight``). Empty for a function of the mesh.
        ttl_ms: Milliseconds for which it may be relied on.
    """

    name: str
    version: str
    digest: bytes
    signature: Signature
    binding: bytes
    description: str
    timeout_ms: int
    idempotent: bool
    source: str = "local"
    age: float = 0.0
    stale: bool = False
    deprecated: str | None = None
    requirements: dict[str, Any] | None = None
    versions: tuple[str, ...] = ()
    providers: tuple[dict[str, Any], ...] = ()
    ttl_ms: int = _TTL_MS

    @classmethod
    def from_wire(cls, wire: Any) -> Resolved:
        """Read a controller's answer to ``resolve``; fields this version does not know are passed over.

        Raises:
            RemoteProtocolError: Not such an answer.
        """
        if not isinstance(wire, dict):
            raise RemoteProtocolError("the controller resolved a name to no map")
        for key, kind in _KINDS.items():
            if type(wire.get(key)) is not kind:
                raise RemoteProtocolError(f"the controller resolved a name without its {key}")
        values = {key: wire[key] for key in _KINDS}
        for key, kinds in _MORE.items():
            if key in wire:
                if type(wire[key]) not in kinds:
                    raise RemoteProtocolError(f"the controller resolved a name to a wrong {key}")
                values[key] = tuple(wire[key]) if list in kinds else wire[key]
        if not all(type(row) is dict and type(row.get("id")) is str for row in values.get("providers", ())):
            raise RemoteProtocolError("the controller resolved a name to providers without ids")
        return cls(signature=Signature.from_wire(wire.get("signature"), values["name"]), **values)

    def to_json(self) -> dict[str, Any]:
        """Return it for people and programs."""
        return {
            "name": self.name,
            "version": self.version,
            "digest": self.digest.hex(),
            "signature": self.signature.text(),
            "description": self.description,
            "timeout_ms": self.timeout_ms,
            "idempotent": self.idempotent,
            "source": self.source,
            "age": self.age,
            "stale": self.stale,
            "deprecated": self.deprecated,
            "requirements": self.requirements,
            "versions": list(self.versions),
            "providers": [dict(row) for row in self.providers],
        }


_KINDS: Final[dict[str, type]] = {
    "name": str,
    "version": str,
    "digest": bytes,
    "binding": bytes,
    "description": str,
    "timeout_ms": int,
    "idempotent": bool,
}
# What a controller says of functions of registries.
_MORE: Final[dict[str, tuple[type, ...]]] = {
    "source": (str,),
    "age": (float, int),
    "stale": (bool,),
    "deprecated": (str, type(None)),
    "requirements": (dict, type(None)),
    "versions": (list,),
    "providers": (list,),
    "ttl_ms": (int,),
}


class ResolveCache:
    """Names looked up lately. Being late is harmless: the controller says when a signature is no longer the one.

    Safe to share between threads: every method is one operation on a dict.
    """

    def __init__(self) -> None:
        self._known: dict[str, tuple[Resolved, float, float]] = {}

    def get(self, name: str, now: float) -> Resolved | None:
        """Return what ``name`` was resolved to, unless its time is over; ``now`` in monotonic seconds."""
        found = self._known.get(name)
        return found[0] if found is not None and now < found[1] else None

    def recent(self, name: str, now: float, seconds: float) -> Resolved | None:
        """Return what ``name`` was resolved to within these last seconds."""
        found = self._known.get(name)
        return found[0] if found is not None and now < min(found[1], found[2] + seconds) else None

    def put(self, name: str, resolved: Resolved, now: float) -> None:
        """Remember it."""
        if len(self._known) >= _LIMIT:
            self._known.clear()
        self._known[name] = (resolved, now + min(resolved.ttl_ms, _TTL_MS) / 1000, now)

    def drop(self, name: str) -> None:
        """Forget it."""
        self._known.pop(name, None)
