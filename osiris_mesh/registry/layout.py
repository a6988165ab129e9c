"""The one way between names and paths of a registry's tree.

::

    config.json
    root.json                                history of roots
    checkpoint                               one statement
    ns/<vendor>/_keys.json                   history of a vendor's keys; vendor "_" stands for names without one
    ns/<vendor>/<namespace>/<name>.jsonl     history of a name

Names keep their letters, so a tree needs a file system that tells ``Add`` from ``add``. A part of a name never begins
with ``_``: ``_keys.json`` is no namespace.
"""

from __future__ import annotations

from typing import Final

from osiris_mesh.errors import UsageError
from osiris_mesh.function.name import FunctionName

__all__ = [
    "CHECKPOINT",
    "CONFIG",
    "NAMES",
    "NO_VENDOR",
    "ROOT",
    "keys_path",
    "name_at",
    "path_of",
    "vendor_at",
    "vendor_folder",
]

CONFIG: Final = "config.json"
ROOT: Final = "root.json"
CHECKPOINT: Final = "checkpoint"
NAMES: Final = "ns/"
NO_VENDOR: Final = "_"
_KEYS: Final = "_keys.json"
_LINES: Final = ".jsonl"


def vendor_folder(vendor: str) -> str:
    """Return the folder of a vendor, with its slash; ``vendor`` is a domain, or empty or ``_`` for none."""
    return f"{NAMES}{vendor or NO_VENDOR}/"


def keys_path(vendor: str) -> str:
    """Return where a vendor's keys are; ``vendor`` as in :func:`vendor_folder`."""
    return vendor_folder(vendor) + _KEYS


def path_of(name: FunctionName) -> str:
    """Return where the history of a name is."""
    return f"{vendor_folder(name.vendor)}{name.namespace}/{name.name}{_LINES}"


def name_at(path: str) -> FunctionName | None:
    """Return the name whose history is at ``path``, or None for any other path."""
    if not (path.startswith(NAMES) and path.endswith(_LINES)):
        return None
    vendor, _, rest = path[len(NAMES) : -len(_LINES)].partition("/")
    if rest.count("/") != 1 or not vendor:
        return None
    try:
        name = FunctionName.parse(rest if vendor == NO_VENDOR else f"{vendor}/{rest}")
    except UsageError:
        return None
    return name if path_of(name) == path else None


def vendor_at(path: str) -> str | None:
    """Return the vendor (``_`` for none) whose keys are at ``path``, or None for any other path."""
    if not (path.startswith(NAMES) and path.endswith("/" + _KEYS)):
        return None
    vendor = path[len(NAMES) : -len(_KEYS) - 1]
    if vendor == NO_VENDOR:
        return vendor
    try:
        return FunctionName.parse(f"{vendor}/a/a").vendor or None
    except UsageError:
        return None
