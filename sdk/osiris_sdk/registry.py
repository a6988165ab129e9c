"""Asking registries for names, through a controller: over its socket, or over HTTP."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from osiris_sdk.async_mesh import AsyncMesh
    from osiris_sdk.mesh import Mesh

__all__ = ["AsyncRegistry", "Registry"]

_LIMIT: Final = 1000
_SECONDS: Final = 10.0
_GRACE_S: Final = 2.0


class Registry:
    """What a controller knows through its registries; :attr:`Mesh.registry` is one.

    Args:
        mesh: The connection.
    """

    def __init__(self, mesh: Mesh) -> None:
        self._mesh = mesh

    def find(self, pattern: str = "**", *, limit: int = _LIMIT) -> list[dict[str, Any]]:
        """Return names that a pattern fits, ascending: maps with name, version, description and registry.

        Args:
            pattern: ``*`` stands for any part of one segment, ``**`` alone for everything.
            limit: How many at most.

        Raises:
            UsageError: Not a pattern.
        """
        found: list[dict[str, Any]] = self._mesh.request("registry.find", _find(pattern, limit))["names"]
        return found

    def resolve(
        self, name: str, *, explain: bool = False, context: str = "", timeout: float = _SECONDS
    ) -> dict[str, Any]:
        """Return what a reference comes to: name, version, digest, source, age, stale, providers, record.

        Args:
            name: ``math/add``, ``math/add@^1.2``, ``math/add@latest``.
            explain: Ask every registry anew, and say in ``why`` who said what and what came of it.
            context: Security context it is resolved in; it only ever narrows.
            timeout: Seconds.

        Raises:
            NotFound: Nobody knows it.
            Denied: The security context does not allow it.
            Unavailable, DeadlineExceeded: Nobody could say in time.
        """
        body = _resolve(name, context, timeout, explain=explain)
        return self._mesh.request("registry.resolve", body, timeout=timeout + _GRACE_S)


class AsyncRegistry:
    """The same, awaited; :attr:`AsyncMesh.registry` is one.

    Args:
        mesh: The connection.
    """

    def __init__(self, mesh: AsyncMesh) -> None:
        self._mesh = mesh

    async def find(self, pattern: str = "**", *, limit: int = _LIMIT) -> list[dict[str, Any]]:
        """Return names that a pattern fits; see :meth:`Registry.find`."""
        found: list[dict[str, Any]] = (await self._mesh.request("registry.find", _find(pattern, limit)))["names"]
        return found

    async def resolve(
        self, name: str, *, explain: bool = False, context: str = "", timeout: float = _SECONDS
    ) -> dict[str, Any]:
        """Return what a reference comes to; see :meth:`Registry.resolve`."""
        body = _resolve(name, context, timeout, explain=explain)
        return await self._mesh.request("registry.resolve", body, timeout=timeout + _GRACE_S)


def _find(pattern: str, limit: int) -> dict[str, Any]:
    return {"pattern": pattern, "limit": limit}


def _resolve(name: str, context: str, timeout: float, *, explain: bool) -> dict[str, Any]:
    return {"name": name, "explain": explain, "context": context, "timeout_ms": max(int(timeout * 1000), 1)}
