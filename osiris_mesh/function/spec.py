"""What everyone must know of one version of a function to find, call and run it; its code is elsewhere, by digest.

A specification travels inside the ledger entry ``function.publish`` and inside the bundle's manifest as the same map.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, field, fields
from typing import Any, Final

from osiris_mesh.codec import Limits, pack, unpack_canonical
from osiris_mesh.errors import RemoteProtocolError, UsageError
from osiris_mesh.function.name import Version, qualified

__all__ = ["SPEC_LIMITS", "FunctionSpec"]

SPEC_LIMITS: Final = Limits(size=64 * 1024, depth=8, count=256)
_RANGES: Final[dict[str, tuple[int, int]]] = {
    "memory": (16 << 20, 1 << 40),
    "timeout_ms": (1, 24 * 3600 * 1000),
    "concurrency": (1, 1024),
    "min_instances": (0, 1024),
    "max_instances": (1, 1024),
    "idle_ms": (0, 24 * 3600 * 1000),
}


@dataclass(frozen=True, slots=True)
class FunctionSpec:
    """One version of a function.

    Attributes:
        name: Full name, ``namespace/name``.
        version: Semantic version.
        digest: SHA-256 of the bundle, 32 bytes; empty only inside the bundle's own manifest.
        entry: ``file.py::function`` inside the bundle.
        runtime: Interpreter, for example ``python3.11``.
        signature: Wire form of :class:`osiris_mesh.function.signature.Signature`.
        description: First paragraph of the docstring.
        memory: Bytes of memory a worker may use.
        timeout_ms: Longest time of one call, milliseconds.
        concurrency: Calls one instance works on at a time.
        min_instances: Instances kept warm in the whole mesh.
        max_instances: Most instances on one node.
        idle_ms: An instance above the minimum stops after so long without a call.
        idempotent: A call may be repeated safely, so it is retried elsewhere when a node or worker dies under it.
        network: The function may use the network.
        environment: SHA-256 of the dependency lock, 32 bytes; empty without dependencies.
    """

    name: str
    version: str
    digest: bytes
    entry: str
    runtime: str
    signature: list[Any]
    description: str = ""
    memory: int = 256 << 20
    timeout_ms: int = 60_000
    concurrency: int = 1
    min_instances: int = 0
    max_instances: int = 4
    idle_ms: int = 300_000
    idempotent: bool = False
    network: bool = False
    environment: bytes = b""
    extra: dict[str, Any] = field(default_factory=dict)

    def to_wire(self) -> bytes:
        """Return the canonical bytes: a map with its keys in the order of the fields."""
        return pack(asdict(self))

    @classmethod
    def from_wire(cls, data: bytes) -> FunctionSpec:
        """Read and check what :meth:`to_wire` wrote.

        Raises:
            RemoteProtocolError: Not such a map, or in another form.
            UsageError: A value out of its range; the text says which.
        """
        value = unpack_canonical(data, SPEC_LIMITS)
        names = [item.name for item in fields(cls)]
        if not isinstance(value, dict) or list(value) != names:
            raise RemoteProtocolError("a function's specification lacks a field or has one too many")
        spec = cls(**value)
        spec.check()
        return spec

    def check(self) -> None:
        """Check every field.

        Raises:
            UsageError: A value of the wrong type or out of its range; the text says which.
        """
        for item in fields(self):
            value = getattr(self, item.name)
            expected = _TYPES[str(item.type).partition("[")[0]]
            if type(value) is not expected:
                raise UsageError(f"{item.name} of {self.name!r} is not a {expected.__name__}")
        if qualified(self.name) != self.name:
            raise UsageError(f"{self.name!r} is not a full name", fix="write namespace/name")
        Version.parse(self.version)
        for name, (low, high) in _RANGES.items():
            value = getattr(self, name)
            if not low <= value <= high:
                raise UsageError(f"{name} of {self.name} is {value}, outside {low} to {high}")
        if self.min_instances > self.max_instances:
            raise UsageError(f"min_instances of {self.name} is above max_instances")
        if len(self.digest) not in {0, 32} or len(self.environment) not in {0, 32}:
            raise UsageError(f"a digest of {self.name} is not a SHA-256")


_TYPES: Final[dict[str, type]] = {
    "str": str,
    "bytes": bytes,
    "int": int,
    "bool": bool,
    "list": list,
    "dict": dict,
}
