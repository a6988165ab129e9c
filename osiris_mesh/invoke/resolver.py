"""From a name to one version of a function, by the ledger."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final, Protocol

from osiris_mesh.errors import NotFound
from osiris_mesh.function.name import Version
from osiris_mesh.function.reference import reference
from osiris_mesh.function.signature import binding_of
from osiris_mesh.function.spec import FunctionSpec

__all__ = ["LedgerView", "Resolver"]

_MAX_BINDINGS: Final = 4096


class LedgerView(Protocol):
    """What the ledger knows of functions; asked on the loop thread, must not block."""

    def active(self, name: str) -> FunctionSpec | None:
        """Return the active version of a function, by full name."""
        ...

    def versions(self, name: str) -> Sequence[FunctionSpec]:
        """Return all published versions of a function, by full name."""
        ...


class Resolver:
    """Answers which version a name means.

    Args:
        ledger: What is published.
    """

    def __init__(self, ledger: LedgerView) -> None:
        self._ledger = ledger
        self._bindings: dict[bytes, bytes] = {}

    def resolve(self, name: str) -> dict[str, Any]:
        """Return what a caller must know of a function: name, version, digest, signature, binding, and its limits.

        Args:
            name: Name, with or without ``@version``.

        Raises:
            UsageError: Not a name.
            NotFound: No such function or version.
        """
        return self.facts(self.find(name))

    def facts(self, spec: FunctionSpec) -> dict[str, Any]:
        """Return the same for a version that was found."""
        return {
            "name": spec.name,
            "version": spec.version,
            "digest": spec.digest,
            "signature": spec.signature,
            "binding": self.binding(spec),
            "description": spec.description,
            "timeout_ms": spec.timeout_ms,
            "idempotent": spec.idempotent,
        }

    def binding(self, spec: FunctionSpec) -> bytes:
        """Return what :func:`osiris_mesh.function.signature.binding_of` says of its signature."""
        known = self._bindings.get(spec.digest)
        if known is None:
            if len(self._bindings) >= _MAX_BINDINGS:
                self._bindings.clear()
            known = self._bindings[spec.digest] = binding_of(spec.signature)
        return known

    def find(self, name: str) -> FunctionSpec:
        """Return the version a name means.

        Args:
            name: Name, with or without ``@version``.

        Raises:
            UsageError: Not a name.
            NotFound: No such function or version.
        """
        wanted = reference(name)
        if wanted.is_active:
            spec = self._ledger.active(wanted.name)
            if spec is not None:
                return spec
            known = self._ledger.versions(wanted.name)
            what = f"{wanted.name} has no active version" if known else f"no function is called {wanted.name}"
        else:
            known = self._ledger.versions(wanted.name)
            by_version = {Version.parse(spec.version): spec for spec in known}
            highest = wanted.highest(by_version)
            if highest is not None:
                return by_version[highest]
            what = (
                f"no version of {wanted.name} is meant by {name!r}" if known else f"no function is called {wanted.name}"
            )
        fix = f"there are {', '.join(spec.version for spec in known[-8:])}" if known else "see: osiris-mesh list"
        raise NotFound(what, fix=fix, name=wanted.name)
