"""What a function's author declares beside the code: dependencies, limits, grants, mock-data tests.

Sources: PEP 723 (inline script metadata) for a single file, PEP 621 ``pyproject.toml`` for a folder; ours is the table
``[tool.osiris.function]`` in either.
"""

from __future__ import annotations

import difflib
import re
import tomllib
from base64 import b64decode
from binascii import Error as Base64Error
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from osiris_mesh.errors import UsageError
from osiris_mesh.runtime.units import parse_size, parse_time

__all__ = ["Declared", "MockTest", "from_project", "from_script"]

_OPENING: Final = re.compile(r"# /// ([a-zA-Z0-9-]+)\Z")
_CLOSING: Final = "# ///"
_MAX_TESTS: Final = 1000
_MAX_METADATA: Final = 1 << 20
_OPTIONS: Final = (
    "memory",
    "timeout",
    "concurrency",
    "min",
    "max",
    "idle",
    "idempotent",
    "network",
    "entry",
    "test",
)
_TEST_KEYS: Final = ("function", "name", "args", "kwargs", "expect", "raises")


@dataclass(frozen=True, slots=True)
class MockTest:
    """One mock-data test.

    Attributes:
        function: The function it is for; empty for the only one.
        name: What reports call it.
        args: Positional arguments, JSON types and bytes.
        kwargs: Keyword arguments.
        expect: The result that must come back, when :attr:`raises` is empty.
        raises: Name of the exception that must be raised (its class, with or without its module), or empty.
    """

    function: str
    name: str
    args: tuple[Any, ...]
    kwargs: Mapping[str, Any]
    expect: Any
    raises: str


@dataclass(frozen=True, slots=True)
class Declared:
    """What stands in a file's or project's metadata.

    Attributes:
        dependencies: Requirements as written (PEP 508).
        requires_python: Version specifiers, or empty.
        limits: Fields of :class:`~osiris_mesh.function.spec.FunctionSpec` that were given.
        entry: ``file.py::function`` of a project, or empty.
        tests: Mock-data tests.
    """

    dependencies: tuple[str, ...] = ()
    requires_python: str = ""
    limits: Mapping[str, int | bool] | None = None
    entry: str = ""
    tests: tuple[MockTest, ...] = ()


def from_script(source: str, file: str) -> Declared:
    """Read the inline metadata of a single file; a file without any declares nothing.

    Raises:
        UsageError: Two blocks, TOML that does not parse, an unknown key, or a value that does not fit.
    """
    # The reference implementation of PEP 723 reads lines that end in a newline alone.
    text = source.replace("\r\n", "\n")
    blocks = [content for kind, content in _blocks(text.split("\n")) if kind == "script"]
    if len(blocks) > 1:
        raise UsageError(f"{file} has {len(blocks)} script blocks", fix="a file may have one '# /// script' block")
    if not blocks:
        return Declared()
    body = "\n".join(line[2:] if line.startswith("# ") else line[1:] for line in blocks[0])
    table = _load(body, f"the script block of {file}")
    _known(table, ("dependencies", "requires-python", "tool"), f"the script block of {file}")
    return _declared(table, table, f"the script block of {file}", single=True)


def _blocks(lines: Sequence[str]) -> Iterator[tuple[str, Sequence[str]]]:
    """Yield type and lines of every metadata block, as PEP 723's reference expression finds them, in one pass.

    In a run of comment lines the last closing line closes the first opening one that leaves a line between them; the
    expression itself would search the run again for every opening line, which a hostile source makes many of.
    """
    start = 0
    while start < len(lines):
        if not _is_comment(lines[start]):
            start += 1
            continue
        end = start
        while end < len(lines) and _is_comment(lines[end]):
            end += 1
        run = lines[start:end]
        start = end
        if _CLOSING not in run:
            continue
        last = len(run) - 1 - run[::-1].index(_CLOSING)
        for at, line in enumerate(run[: max(last - 1, 0)]):
            opening = _OPENING.match(line)
            if opening:
                yield opening[1], run[at + 1 : last]
                break


def _is_comment(line: str) -> bool:
    return line == "#" or line.startswith("# ")


def from_project(source: str) -> Declared:
    """Read a folder's ``pyproject.toml``.

    Raises:
        UsageError: As :func:`from_script`.
    """
    table = _load(source, "pyproject.toml")
    return _declared(_table(table, "project", "pyproject.toml"), table, "pyproject.toml", single=False)


def _load(text: str, where: str) -> dict[str, Any]:
    if len(text) > _MAX_METADATA:
        raise UsageError(f"{where} is longer than {_MAX_METADATA} letters")
    try:
        return tomllib.loads(text)
    except (tomllib.TOMLDecodeError, RecursionError) as error:
        raise UsageError(f"{where} is not TOML: {error}") from None


def _table(table: Mapping[str, Any], key: str, where: str) -> dict[str, Any]:
    value = table.get(key, {})
    if not isinstance(value, dict):
        raise UsageError(f"{key!r} in {where} is not a table")
    return value


def _known(table: Mapping[str, Any], known: Sequence[str], where: str) -> None:
    for key in table:
        if key not in known:
            near = difflib.get_close_matches(key, known, n=1)
            fix = f"did you mean {near[0]!r}?" if near else f"known keys are {', '.join(known)}"
            raise UsageError(f"unknown key {key!r} in {where}", fix=fix)


def _declared(project: Mapping[str, Any], table: Mapping[str, Any], where: str, *, single: bool) -> Declared:
    dependencies = project.get("dependencies", [])
    if not isinstance(dependencies, list) or not all(isinstance(item, str) for item in dependencies):
        raise UsageError(f"'dependencies' in {where} is not a list of requirements", fix='write ["pillow>=11"]')
    requires = project.get("requires-python", "")
    if not isinstance(requires, str):
        raise UsageError(f"'requires-python' in {where} is not a text", fix='write ">=3.11"')
    tool = _table(table, "tool", where)
    ours = _table(_table(tool, "osiris", where), "function", where)
    section = f"[tool.osiris.function] of {where}"
    _known(ours, [key for key in _OPTIONS if not (single and key == "entry")], section)
    entry = ours.get("entry", "")
    if not isinstance(entry, str):
        raise UsageError(f"'entry' in {section} is not a text", fix='write "file.py::function"')
    return Declared(tuple(dependencies), requires, _limits(ours, section), entry, _tests(ours, section))


def _limits(table: Mapping[str, Any], section: str) -> dict[str, int | bool]:
    limits: dict[str, int | bool] = {}
    for key, value in table.items():
        try:
            match key:
                case "memory":
                    limits["memory"] = parse_size(value)
                case "timeout":
                    limits["timeout_ms"] = parse_time(value)
                case "idle":
                    limits["idle_ms"] = parse_time(value)
                case "concurrency":
                    limits["concurrency"] = _whole(value)
                case "min" | "max":
                    limits[f"{key}_instances"] = _whole(value)
                case "idempotent" | "network":
                    limits[key] = _flag(value)
        except UsageError as error:
            raise UsageError(f"{key!r} in {section}: {error.what}", fix=error.fix) from None
    return limits


def _flag(value: Any) -> bool:
    if not isinstance(value, bool):
        raise UsageError(f"{value!r} is neither true nor false")
    return value


def _whole(value: Any) -> int:
    if not isinstance(value, int) or isinstance(value, bool):
        raise UsageError(f"{value!r} is not a whole number")
    return value


def _tests(table: Mapping[str, Any], section: str) -> tuple[MockTest, ...]:
    tests = table.get("test", [])
    if not isinstance(tests, list) or len(tests) > _MAX_TESTS:
        raise UsageError(f"'test' in {section} is not a list of at most {_MAX_TESTS} tests", fix="use [[…test]]")
    return tuple(_test(test, number, section) for number, test in enumerate(tests, 1))


def _test(test: Any, number: int, section: str) -> MockTest:
    where = f"test {number} in {section}"
    if not isinstance(test, dict):
        raise UsageError(f"{where} is not a table", fix="begin it with [[tool.osiris.function.test]]")
    _known(test, _TEST_KEYS, where)
    if ("expect" in test) == ("raises" in test):
        raise UsageError(f"{where} needs either 'expect' or 'raises'")
    texts = {key: test.get(key, "") for key in ("function", "name", "raises")}
    for key, value in texts.items():
        if not isinstance(value, str) or len(value) > 200:
            raise UsageError(f"{key!r} of {where} is not a short text")
    args, kwargs = test.get("args", []), test.get("kwargs", {})
    if not isinstance(args, list) or not isinstance(kwargs, dict):
        raise UsageError(f"{where}: 'args' is a list and 'kwargs' a table")
    if "raises" in test and not texts["raises"]:
        raise UsageError(f"'raises' of {where} is empty", fix='name the exception, like "ValueError"')
    return MockTest(
        function=texts["function"],
        name=texts["name"] or f"test {number}",
        args=tuple(_value(item, where) for item in args),
        kwargs={key: _value(item, where) for key, item in kwargs.items()},
        expect=_value(test.get("expect"), where),
        raises=texts["raises"],
    )


def _value(value: Any, where: str) -> Any:
    """Return a TOML value as JSON types and bytes; ``{"$bytes" = "<base64>"}`` stands for bytes."""
    if value is None or isinstance(value, bool | int | float | str):
        return value
    if isinstance(value, list):
        return [_value(item, where) for item in value]
    if isinstance(value, dict):
        if value.keys() == {"$bytes"}:
            try:
                return b64decode(value["$bytes"], validate=True)
            except (Base64Error, TypeError, ValueError):
                raise UsageError(f"{where}: '$bytes' is not base64") from None
        return {key: _value(item, where) for key, item in value.items()}
    raise UsageError(f"{where}: a {type(value).__name__} is not a value a call can carry", fix="write it as a string")
