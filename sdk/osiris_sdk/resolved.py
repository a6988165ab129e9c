"""What the SDK knows of a function once it looked the name up, and for how long it believes that."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

from osiris_mesh.errors import RemoteProtocolError
from osiris_mesh.function.signature import Signature

__all__ = ["ResolveCache", "Resolved"]

_TTL_S: Final = 300.0
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
    """

    name: str
    version: str
    digest: bytes
    signature: Signature
    binding: bytes
    description: str
    timeout_ms: int
    idempotent: bool

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


class ResolveCache:
    """Names looked up lately. Being late is harmless: the controller says when a signature is no longer the one.

    Safe to share between threads: every method is one operation on a dict.
    """

    def __init__(self) -> None:
        self._known: dict[str, tuple[Resolved, float]] = {}

    def get(self, name: str, now: float) -> Resolved | None:
        """Return what ``name`` was resolved to, unless it is older than five minutes; ``now`` in monotonic seconds."""
        found = self._known.get(name)
        return found[0] if found is not None and now < found[1] else None

    def put(self, name: str, resolved: Resolved, now: float) -> None:
        """Remember it."""
        if len(self._known) >= _LIMIT:
            self._known.clear()
        self._known[name] = (resolved, now + _TTL_S)

    def drop(self, name: str) -> None:
        """Forget it."""
        self._known.pop(name, None)
