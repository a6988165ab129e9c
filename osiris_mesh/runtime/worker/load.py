"""Importing the function, once, in the zygote."""

from __future__ import annotations

import importlib
import importlib.util
import os
import sys
from collections.abc import Callable, Sequence
from typing import Any

from osiris_mesh.errors import NotFound

__all__ = ["load"]


def load(code: str, roots: Sequence[str], site: str, file: str, name: str) -> Callable[..., Any]:
    """Import the file that defines the function, and return the function.

    Args:
        code: Folder of the bundle's files.
        roots: Folders in it to search for modules.
        site: Folder of installed dependencies, or empty.
        file: The file, relative to ``code``.
        name: The function.

    Raises:
        NotFound: The file defines no such function once it runs.
        BaseException: Whatever the file raises.
    """
    # The bundle first, as for a script; dependencies behind the standard library, as in any installation; ours last.
    kit = sys.path.pop()
    sys.path[:0] = [os.path.join(code, root) if root else code for root in roots]  # noqa: PTH118 - see confine
    if site:
        sys.path.append(site)
    sys.path.append(kit)
    module = _import(code, roots, file)
    function = getattr(module, name, None)
    if not callable(function):
        raise NotFound(f"{file} defines no function {name!r} once it is imported", fix="define it at the top level")
    return function  # type: ignore[no-any-return]


def _import(code: str, roots: Sequence[str], file: str) -> Any:
    root = max((one for one in roots if not one or file.startswith(f"{one}/")), key=len, default="")
    inside = file.removeprefix(f"{root}/") if root else file
    parts = inside.removesuffix(".py").split("/")
    if parts[-1] == "__init__":
        parts.pop()
    path = f"{code}/{file}"
    if len(parts) > 1 or path.endswith("/__init__.py"):
        return importlib.import_module(".".join(parts))
    # By its path: a file may be called like a module of the standard library that is loaded already.
    module_name = parts[0] if parts[0].isidentifier() and parts[0] not in sys.modules else f"function_{parts[0]}"
    specification = importlib.util.spec_from_file_location(module_name, path)
    if specification is None or specification.loader is None:
        raise NotFound(f"{file} is not a Python file")
    module = importlib.util.module_from_spec(specification)
    sys.modules[module_name] = module
    specification.loader.exec_module(module)
    return module
