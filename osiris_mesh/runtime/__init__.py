"""Running functions on this node: bundles, library, environments, sandboxed workers; see DESIGN.md.

Names are loaded when first used: the command line builds bundles without asyncio, and a worker imports its own package
below this one without any of the rest.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from osiris_mesh.runtime.build import Overrides as Overrides
    from osiris_mesh.runtime.build import build_bundle as build_bundle
    from osiris_mesh.runtime.build import build_bundles as build_bundles
    from osiris_mesh.runtime.bundle import Bundle as Bundle
    from osiris_mesh.runtime.environment import Environments as Environments
    from osiris_mesh.runtime.library import Library as Library
    from osiris_mesh.runtime.library import LinkSource as LinkSource
    from osiris_mesh.runtime.logs import LogLine as LogLine
    from osiris_mesh.runtime.logs import LogStore as LogStore
    from osiris_mesh.runtime.runtime import FunctionLoad as FunctionLoad
    from osiris_mesh.runtime.runtime import Runtime as Runtime
    from osiris_mesh.runtime.testing import TestReport as TestReport

_HOME: Final = {
    "Bundle": "bundle",
    "Environments": "environment",
    "FunctionLoad": "runtime",
    "Library": "library",
    "LinkSource": "library",
    "LogLine": "logs",
    "LogStore": "logs",
    "Overrides": "build",
    "Runtime": "runtime",
    "TestReport": "testing",
    "build_bundle": "build",
    "build_bundles": "build",
}

__all__ = [  # noqa: PLE0604 - the table above is the list
    *_HOME
]


def __getattr__(name: str) -> Any:
    home = _HOME.get(name)
    if home is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(importlib.import_module(f"{__name__}.{home}"), name)
    globals()[name] = value
    return value
