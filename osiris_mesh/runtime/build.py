"""From a file or a folder to bundles; runs in the command line, reads files, never the code in them."""

from __future__ import annotations

import re
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from packaging.specifiers import InvalidSpecifier, SpecifierSet

from osiris_mesh.errors import NotFound, UsageError
from osiris_mesh.function.files import read_file, read_folder
from osiris_mesh.function.name import Version, qualified
from osiris_mesh.function.spec import FunctionSpec
from osiris_mesh.runtime.bundle import Bundle
from osiris_mesh.runtime.lock import lock_dependencies
from osiris_mesh.runtime.metadata import Declared, MockTest, from_project, from_script
from osiris_mesh.runtime.source import FoundFunction, choose, public_functions
from osiris_mesh.runtime.units import parse_size, parse_time

__all__ = ["DEFAULT_VERSION", "Overrides", "build_bundle", "build_bundles"]

DEFAULT_VERSION: Final = "0.1.0"
_RUNTIME = re.compile(r"python(3\.\d{1,2})\Z", re.ASCII)
_MINORS: Final = range(11, 20)
_NO_ENTRY: Final = frozenset({"setup.py", "conftest.py", "noxfile.py"})

Locker = Callable[[Sequence[str], str], bytes]
"""Requirements and lowest Python to lock: :func:`osiris_mesh.runtime.lock.lock_dependencies`, or a test's own."""


@dataclass(frozen=True, slots=True)
class Overrides:
    """What a command line says instead of the metadata; None leaves what is declared.

    Attributes:
        memory: A size such as ``256MiB``.
        timeout: A time such as ``1.5s``.
        idle: A time such as ``5m``.
        concurrency: Calls at a time in one instance.
        min: Instances kept warm.
        max: Most instances on one node.
        idempotent: A call may be repeated.
        network: The function may use the network.
    """

    memory: str | None = None
    timeout: str | None = None
    idle: str | None = None
    concurrency: int | None = None
    min: int | None = None
    max: int | None = None
    idempotent: bool | None = None
    network: bool | None = None

    def limits(self) -> dict[str, int | bool]:
        """Return the fields of :class:`~osiris_mesh.function.spec.FunctionSpec` that were given.

        Raises:
            UsageError: A size or a time that does not parse.
        """
        given: dict[str, int | bool | None] = {
            "memory": None if self.memory is None else parse_size(self.memory),
            "timeout_ms": None if self.timeout is None else parse_time(self.timeout),
            "idle_ms": None if self.idle is None else parse_time(self.idle),
            "concurrency": self.concurrency,
            "min_instances": self.min,
            "max_instances": self.max,
            "idempotent": self.idempotent,
            "network": self.network,
        }
        return {key: value for key, value in given.items() if value is not None}


def build_bundle(path: str | Path, **options: object) -> Bundle:
    """Return the one bundle of ``path``; takes what :func:`build_bundles` takes.

    Raises:
        UsageError: Also when several functions fit.
    """
    bundles = build_bundles(path, **options)  # type: ignore[arg-type]
    if len(bundles) > 1:
        names = ", ".join(bundle.function for bundle in bundles)
        raise UsageError(f"{path} has several functions: {names}", fix=f"name one: {path}::{bundles[0].function}")
    return bundles[0]


def build_bundles(
    path: str | Path,
    *,
    function: str | None = None,
    name: str | None = None,
    namespace: str | None = None,
    version: str = DEFAULT_VERSION,
    runtime: str | None = None,
    overrides: Overrides | None = None,
    lock: Locker = lock_dependencies,
) -> list[Bundle]:
    """Build the bundle of one function, or one bundle for each public function.

    Args:
        path: A Python file or a folder; ``PATH::function`` chooses one function.
        function: The same choice, given apart: ``function`` or, in a folder, ``file.py::function``.
        name: The function's name in the mesh; with several functions, their namespace.
        namespace: Namespace of names that have none; otherwise the name of the file's folder.
        version: Semantic version.
        runtime: Interpreter such as ``python3.11``; otherwise this one's version where the metadata allows it.
        overrides: Limits that take precedence over the metadata.
        lock: What locks dependencies.

    Returns:
        In the order of the files; the same input gives the same bytes.

    Raises:
        NotFound: No such file or function.
        UsageError: Syntax errors, unknown metadata keys, names, limits, requirements that can't be met; something in
            the folder that is no regular file or can't be read; a folder with a node's home or a private key in it.
    """
    place, separator, chosen = str(path).partition("::")
    if separator and function is not None and chosen != function:
        raise UsageError(f"{path} already names a function, and {function!r} is another one")
    wanted = function if function is not None else (chosen if separator else None)
    source = Path(place)
    if source.is_dir():
        files, declared, entries, roots = _read_folder(source)
    elif source.exists():
        files, declared, entries, roots = _read_file(source)
    else:
        raise NotFound(f"there is no file or folder {place}")
    if wanted is None and declared.entry:
        wanted = declared.entry
    found = [one for entry in entries for one in public_functions(files[entry], entry)]
    picked = choose(found, wanted, place)
    tests = {one.name: _tests_of(one, declared.tests, found) for one in picked}
    interpreter = _runtime(runtime, declared.requires_python, place)
    limits = dict(declared.limits or {}) | (overrides.limits() if overrides else {})
    names = _names(picked, name, namespace, source)
    Version.parse(version)
    locked = lock(declared.dependencies, interpreter.removeprefix("python")) if declared.dependencies else b""
    return [
        Bundle.make(
            _spec(one, names[one.name], version, interpreter, one.marks.limits() | limits),
            files.items(),
            lock=locked,
            tests=tests[one.name],
            roots=roots,
        )
        for one in picked
    ]


def _spec(one: FoundFunction, name: str, version: str, runtime: str, limits: Mapping[str, int | bool]) -> FunctionSpec:
    return FunctionSpec(
        name=name,
        version=version,
        digest=b"",
        entry=f"{one.file}::{one.name}",
        runtime=runtime,
        signature=one.signature.to_wire(),
        description=one.description,
        **limits,  # type: ignore[arg-type]
    )


def _names(picked: Sequence[FoundFunction], name: str | None, namespace: str | None, source: Path) -> dict[str, str]:
    """Return the full name of each function."""
    if name is not None and len(picked) == 1:
        return {picked[0].name: qualified(f"{namespace}/{name}" if namespace and "/" not in name else name)}
    if name is None and namespace is None:
        marked = {one.name: one.marks.name for one in picked if one.marks.name}
        if marked:
            others = [one for one in picked if one.name not in marked]
            return marked | (_names(others, None, namespace, source) if others else {})
    space = name or namespace
    if space is None:
        resolved = source.resolve()
        space = resolved.name if resolved.is_dir() else resolved.parent.name
    names: dict[str, str] = {}
    for one in picked:
        try:
            names[one.name] = qualified(f"{space}/{one.name}" if space else one.name)
        except UsageError as error:
            raise UsageError(error.what, fix="give --namespace or --name") from None
    return names


def _tests_of(one: FoundFunction, tests: Sequence[MockTest], found: Sequence[FoundFunction]) -> list[MockTest]:
    """Return the tests of one function."""
    names = {other.name for other in found}
    for test in tests:
        if not test.function and len(names) > 1:
            raise UsageError(f"{test.name} does not say which function it is for", fix='add function = "…" to it')
        if test.function and test.function not in names:
            raise UsageError(f"{test.name} is for {test.function!r}, which is not here")
    return [test for test in tests if not test.function or test.function == one.name]


def _runtime(given: str | None, requires: str, where: str) -> str:
    try:
        allowed = SpecifierSet(requires)
    except InvalidSpecifier:
        raise UsageError(f"'requires-python' of {where} is {requires!r}, which does not parse") from None
    if given is not None:
        match = _RUNTIME.match(given)
        if match is None:
            raise UsageError(f"{given!r} is not a runtime", fix="write python3.11")
        # Its newest patch release decides, so that ">=3.11.4" allows python3.11.
        if not _fits(match[1], allowed):
            raise UsageError(f"{where} requires Python {requires}, which {given} is not")
        return given
    here = f"{sys.version_info[0]}.{sys.version_info[1]}"
    for minor in [here, *(f"3.{number}" for number in _MINORS)]:
        if _fits(minor, allowed):
            return f"python{minor}"
    raise UsageError(f"{where} requires Python {requires}", fix="functions run on Python 3.11 or newer")


def _fits(minor: str, allowed: SpecifierSet) -> bool:
    return any(f"{minor}.{patch}" in allowed for patch in (0, 1, 5, 10, 20, 99))


Read = tuple[dict[str, bytes], Declared, list[str], tuple[str, ...]]
"""Files by path, what is declared, files that may define functions, roots."""


def _read_file(source: Path) -> Read:
    if source.suffix != ".py":
        raise UsageError(f"{source} is not a Python file", fix="deploy a .py file or a folder")
    content = read_file(source)
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError:
        raise UsageError(f"{source} is not UTF-8") from None
    return {source.name: content}, from_script(text, source.name), [source.name], ("",)


def _read_folder(folder: Path) -> Read:
    files = read_folder(folder)
    project = files.get("pyproject.toml")
    try:
        declared = Declared() if project is None else from_project(project.decode())
    except UnicodeDecodeError:
        raise UsageError(f"pyproject.toml of {folder} is not UTF-8") from None
    roots = ("", "src") if any(path.startswith("src/") for path in files) else ("",)
    entries = [path for path in sorted(files) if _may_define(path)]
    if not any("/" not in path for path in entries):
        # A package without loose files: what it exports from its top.
        entries = [path for path in sorted(files) if re.fullmatch(r"(src/)?[^/]+/__init__\.py", path)]
    else:
        entries = [path for path in entries if "/" not in path]
    file, separator, _ = declared.entry.rpartition("::")
    if separator:
        if file not in files:
            raise NotFound(f"'entry' of {folder} names {file!r}, which is not there")
        entries = [file]
    return files, declared, entries, roots


def _may_define(path: str) -> bool:
    name = path.rpartition("/")[2]
    return (
        name.endswith(".py")
        and name not in _NO_ENTRY
        and not name.startswith("test_")
        and not name.endswith("_test.py")
    )
