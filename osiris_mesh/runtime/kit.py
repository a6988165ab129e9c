"""The kit: the few files of ours that a worker can see.

It holds the worker's own package, the modules that imports at its top (errors, codec, the blocking half of a link), the
SDK, and msgpack. Its folder is named by the hash of its content, made once, and read-only.
"""

from __future__ import annotations

import ast
import compileall
import importlib.util
import py_compile
import secrets
import shutil
from collections.abc import Iterable, Iterator
from functools import cache
from hashlib import sha256
from pathlib import Path
from typing import Final

from osiris_mesh.errors import InternalError
from osiris_mesh.runtime.disk import open_to_read

__all__ = ["make_kit", "remove_other_kits"]

_START: Final = "osiris_mesh.runtime.worker.zygote"
_OURS: Final = ("osiris_mesh", "osiris_sdk")


def make_kit(folder: Path) -> Path:
    """Return the kit below ``folder``, making it if it is not there; blocks."""
    files = _files()
    digest = sha256()
    for name, content in files:
        digest.update(len(name).to_bytes(4, "big") + name.encode() + len(content).to_bytes(8, "big") + content)
    kit = folder / f"kit-{digest.hexdigest()[:16]}"
    if kit.is_dir():
        return kit
    part = folder / f".{kit.name}.{secrets.token_hex(8)}"
    try:
        for name, content in files:
            path = part / name
            path.parent.mkdir(mode=0o755, parents=True, exist_ok=True)
            path.write_bytes(content)
        compileall.compile_dir(
            part, quiet=2, stripdir=str(part), invalidation_mode=py_compile.PycInvalidationMode.UNCHECKED_HASH
        )
        open_to_read(part)
        part.rename(kit)
    except OSError:
        shutil.rmtree(part, ignore_errors=True)
        if not kit.is_dir():  # or another controller of this home was faster
            raise
    return kit


def remove_other_kits(kit: Path) -> None:
    """Remove the kits of earlier releases, and what a killed controller left of one, from beside ``kit``; blocks.

    Call it while nothing runs: a worker of an earlier release would lose its code.
    """
    for path in [*kit.parent.glob("kit-*"), *kit.parent.glob(".kit-*")]:
        if path != kit:
            shutil.rmtree(path, ignore_errors=True)


@cache
def _files() -> tuple[tuple[str, bytes], ...]:
    return tuple(sorted(_collect()))


def _collect() -> Iterator[tuple[str, bytes]]:
    modules = {_START, "osiris_sdk"}
    seen: set[str] = set()
    while modules:
        module = modules.pop()
        if module in seen:
            continue
        seen.add(module)
        place = _place(module)
        content = place.read_bytes()
        parts = module.split(".")
        yield "/".join([*parts, "__init__.py"] if place.name == "__init__.py" else [*parts[:-1], place.name]), content
        modules.update(".".join(parts[:depth]) for depth in range(1, len(parts)))
        modules.update(_imported(ast.parse(content).body))
    for path in _place("osiris_sdk").parent.glob("*.py"):
        if f"osiris_sdk.{path.stem}" not in seen and path.stem != "__init__":
            yield f"osiris_sdk/{path.name}", path.read_bytes()
    msgpack = _place("msgpack").parent
    for path in msgpack.iterdir():
        if path.suffix in {".py", ".so"}:
            yield f"msgpack/{path.name}", path.read_bytes()


def _place(module: str) -> Path:
    found = importlib.util.find_spec(module)
    if found is None or found.origin is None:
        raise InternalError(f"the module {module} of the kit has no file", fix="install Osiris Mesh again")
    return Path(found.origin)


def _imported(body: Iterable[ast.stmt]) -> Iterator[str]:
    """Yield our modules that the top of a file imports when it runs."""
    for node in body:
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names if alias.name.partition(".")[0] in _OURS)
        elif isinstance(node, ast.ImportFrom) and node.module and node.module.partition(".")[0] in _OURS:
            yield node.module
            yield from (name for name in (f"{node.module}.{alias.name}" for alias in node.names) if _is_module(name))


def _is_module(name: str) -> bool:
    try:
        return importlib.util.find_spec(name) is not None
    except ModuleNotFoundError:
        return False
