"""What is deployed, read from where its author has it: a file, a folder, or the file a plain function came from."""

from __future__ import annotations

import base64
import inspect
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Final, TypedDict

from osiris_mesh.errors import NotFound, UsageError
from osiris_mesh.function.files import read_file, read_folder

__all__ = ["DeployOptions", "Source", "in_json", "read_source"]

Source = str | os.PathLike[str] | Callable[..., Any]
"""A Python file, a folder, either with ``::function``, or a function that a file defines."""
_LIMITS: Final = ("memory", "timeout", "idle", "concurrency", "min", "max", "idempotent", "network")
_TEXTS: Final = ("name", "namespace", "version", "runtime")


class DeployOptions(TypedDict, total=False):
    """What a deployment may be told; each counts more than what the file says.

    Attributes:
        name: The function's name; of several functions their namespace.
        namespace: Namespace of names that have none; otherwise the name of the file's folder.
        version: Semantic version; the next patch if not given.
        runtime: Interpreter, such as ``python3.11``.
        memory: Memory a worker may use: ``"256MiB"``, or bytes.
        timeout: Longest time of one call: ``"1.5s"``, or seconds.
        idle: An instance above the minimum stops after so long without a call: ``"5m"``, or seconds.
        concurrency: Calls one instance works on at a time.
        min: Instances kept warm in the mesh.
        max: Most instances on one node.
        idempotent: A call may be repeated.
        network: The function may use the network.
    """

    name: str | None
    namespace: str | None
    version: str | None
    runtime: str | None
    memory: str | int | None
    timeout: str | float | None
    idle: str | float | None
    concurrency: int | None
    min: int | None
    max: int | None
    idempotent: bool | None
    network: bool | None


def read_source(source: Source, options: Mapping[str, Any]) -> dict[str, Any]:
    """Return what ``function.build`` is sent; reads files.

    Args:
        source: What is deployed.
        options: :class:`DeployOptions`.

    Raises:
        NotFound: No such file or folder.
        UsageError: Not a function of a file, what can't be sent, or an option that is none.
        TypeError: An unknown option.
    """
    unknown = sorted({*options} - {*_LIMITS, *_TEXTS})
    if unknown:
        raise TypeError(f"deploy() got an unexpected keyword argument {unknown[0]!r}")
    path, function = _place(source)
    job: dict[str, Any] = {key: options[key] for key in _TEXTS if options.get(key) is not None}
    if any(type(text) is not str for text in job.values()):
        raise UsageError("name, namespace, version and runtime are texts")
    if path.is_dir():
        files, folder = read_folder(path), path.resolve().name
    elif path.exists():
        files, folder = {path.name: read_file(path)}, path.resolve().parent.name
    else:
        raise NotFound(f"there is no file or folder {path}")
    overrides = {key: _limit(key, options[key]) for key in _LIMITS if options.get(key) is not None}
    return job | {
        "files": files,
        "folder": folder,
        "whole": path.is_dir(),
        "function": function,
        "overrides": overrides,
    }


def _place(source: Source) -> tuple[Path, str]:
    if not callable(source):
        place, _, function = os.fspath(source).partition("::")
        return Path(place), function
    plain = inspect.unwrap(source)
    name = getattr(plain, "__name__", "")
    if not inspect.isfunction(plain) or plain.__qualname__ != name or name == "<lambda>":
        raise UsageError(
            f"{source!r} is not a function that a file defines at its top level",
            fix="put it at the top level of a file, or deploy the file",
        )
    file = inspect.getsourcefile(plain)
    if file is None or not Path(file).is_file():
        raise UsageError(f"{name} did not come from a file, so there is nothing to send", fix="put it into a file")
    return Path(file), name


def _limit(key: str, value: Any) -> Any:
    number = isinstance(value, int | float) and not isinstance(value, bool)
    if key == "memory" and number:
        return f"{value}B"
    if key in {"timeout", "idle"} and number:
        return f"{round(value * 1000)}ms"
    return value


def in_json(job: Mapping[str, Any]) -> dict[str, Any]:
    """Return a deployment's body in JSON.

    Raises:
        UsageError: A source that is not text.
    """
    files, whole = job["files"], job["whole"]
    body: dict[str, Any] = {key: value for key, value in job.items() if value and key not in {"files", "whole"}}
    if whole:
        return body | {"files": {path: base64.b64encode(content).decode() for path, content in files.items()}}
    ((filename, content),) = files.items()
    try:
        return body | {"filename": filename, "source": content.decode("utf-8-sig")}
    except UnicodeDecodeError:
        raise UsageError(f"{filename} is not UTF-8") from None
