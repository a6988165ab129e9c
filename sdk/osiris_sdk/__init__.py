"""Call functions of an Osiris mesh by name.

    from osiris_sdk import Mesh
    with Mesh.connect() as mesh:
        mesh.call("image-processing/sharpen", data, strength=0.8)

Importing this brings neither asyncio nor NaCl: :class:`AsyncMesh` is loaded when it is first used.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from osiris_mesh.errors import (
    CheckFailed,
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
from osiris_sdk.inside import current, current_async
from osiris_sdk.marking import function
from osiris_sdk.mesh import Calls, Mesh
from osiris_sdk.remote import RemoteFunction
from osiris_sdk.resolved import Resolved

if TYPE_CHECKING:
    from osiris_sdk.async_calls import AsyncCalls
    from osiris_sdk.async_mesh import AsyncMesh
    from osiris_sdk.deploying import Deployed
    from osiris_sdk.sources import DeployOptions

__all__ = [
    "AsyncCalls",
    "AsyncMesh",
    "Calls",
    "CheckFailed",
    "Conflict",
    "DeadlineExceeded",
    "Denied",
    "DeployOptions",
    "Deployed",
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
    "current_async",
    "function",
]


def __getattr__(name: str) -> Any:
    if name == "AsyncCalls":
        from osiris_sdk.async_calls import AsyncCalls  # noqa: PLC0415 - asyncio is loaded only for those who use it

        return AsyncCalls
    if name == "AsyncMesh":
        from osiris_sdk.async_mesh import AsyncMesh  # noqa: PLC0415 - the same

        return AsyncMesh
    if name == "Deployed":
        from osiris_sdk.deploying import Deployed  # noqa: PLC0415 - few programs deploy

        return Deployed
    if name == "DeployOptions":
        from osiris_sdk.sources import DeployOptions  # noqa: PLC0415 - the same

        return DeployOptions
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
