"""Call functions of an Osiris mesh by name.

    from osiris_sdk import Mesh
    with Mesh.connect() as mesh:
        mesh.call("image-processing/sharpen", data, strength=0.8)

Importing this brings neither asyncio nor NaCl: :class:`AsyncMesh` is loaded when it is first used.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from osiris_mesh.errors import (
    Conflict,
    DeadlineExceeded,
    Denied,
    FunctionError,
    LimitExceeded,
    NotFound,
    OsirisError,
    Overloaded,
    Unavailable,
    UsageError,
    WorkerDied,
)
from osiris_sdk.function import RemoteFunction
from osiris_sdk.inside import current
from osiris_sdk.mesh import Calls, Mesh
from osiris_sdk.resolved import Resolved

if TYPE_CHECKING:
    from osiris_sdk.async_mesh import AsyncCalls, AsyncMesh

__all__ = [
    "AsyncCalls",
    "AsyncMesh",
    "Calls",
    "Conflict",
    "DeadlineExceeded",
    "Denied",
    "FunctionError",
    "LimitExceeded",
    "Mesh",
    "NotFound",
    "OsirisError",
    "Overloaded",
    "RemoteFunction",
    "Resolved",
    "Unavailable",
    "UsageError",
    "WorkerDied",
    "current",
]


def __getattr__(name: str) -> Any:
    if name in {"AsyncCalls", "AsyncMesh"}:
        from osiris_sdk import async_mesh  # noqa: PLC0415 - asyncio is loaded only for those who use it

        return getattr(async_mesh, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
