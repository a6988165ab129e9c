"""The README is true to the program: its commands exist and parse, and none of the program's is missing from it."""

from __future__ import annotations

import re
import shlex
from pathlib import Path
from typing import Any

import pytest
from typer.core import TyperGroup

from osiris_mesh import errors
from osiris_mesh.function.spec import FunctionSpec
from osiris_mesh.runtime.metadata import from_script
from osiris_mesh_cli.main import root

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text("utf-8")
BLOCKS = re.findall(r"```(\w+)\n(.*?)```", README, re.DOTALL)
LINES = [
    line.strip()
    for kind, block in BLOCKS
    if kind == "sh"
    for line in block.splitlines()
    if line.strip().startswith(("osiris-mesh ", "osiris "))
]


def command_of(words: list[str]) -> tuple[Any, list[str], Any]:
    here: Any = root()
    context = here.make_context("osiris-mesh", [], resilient_parsing=True)
    while isinstance(here, TyperGroup):
        assert words, "a command is missing"
        assert words[0] in here.commands, f"there is no command {words[0]!r}"
        here, words = here.commands[words[0]], words[1:]
    return here, words, context


def all_commands(group: TyperGroup, path: str = "") -> list[str]:
    names: list[str] = []
    for name, item in group.commands.items():
        names += all_commands(item, f"{path}{name} ") if isinstance(item, TyperGroup) else [f"{path}{name}"]
    return names


def test_the_readme_has_command_lines() -> None:
    assert len(LINES) >= 8


@pytest.mark.parametrize("line", LINES)
def test_each_command_line_of_the_readme_parses(line: str) -> None:
    words = shlex.split(line.partition(" > ")[0], comments=True)[1:]
    item, rest, context = command_of(words)
    item.make_context("readme", rest, parent=context)


@pytest.mark.parametrize("name", all_commands(root()))
def test_each_command_is_in_the_readme(name: str) -> None:
    assert f"`{name}`" in README


@pytest.mark.parametrize("text", re.findall(r"`osiris-mesh ([a-z]+(?: [a-z]+)?)", README))
def test_each_command_named_in_the_readmes_prose_exists(text: str) -> None:
    command_of(text.split())


def test_each_exit_code_of_an_error_is_in_the_table() -> None:
    rows = dict(re.findall(r"^\| (\d+) \| [^|]+\| ?([^|]*)\|$", README, re.MULTILINE))
    codes = {code: re.findall(r"`(\w+)`", row) for code, row in rows.items()}
    for name in errors.__all__:
        kind = getattr(errors, name)
        if kind.code in {"error", "protocol_local", "protocol_remote"}:
            continue
        assert kind.code in codes[str(kind.exit_code)], f"{name} is not in the row of {kind.exit_code}"


def test_the_readmes_function_is_what_deploy_accepts() -> None:
    (block,) = [block for kind, block in BLOCKS if kind == "python" and block.startswith("# /// script")]
    declared = from_script(block, "add.py")
    assert declared.limits == {"timeout_ms": 5000, "memory": 128 << 20, "idempotent": True}
    assert [(test.args, test.expect) for test in declared.tests] == [((2, 3), 5)]


@pytest.mark.parametrize(
    ("option", "field", "shown"),
    [
        ("timeout", "timeout_ms", '"60s"'),
        ("memory", "memory", '"256MiB"'),
        ("concurrency", "concurrency", "1"),
        ("idle", "idle_ms", '"5m"'),
        ("idempotent", "idempotent", "false"),
        ("network", "network", "false"),
    ],
)
def test_the_defaults_in_the_readme_are_the_defaults(option: str, field: str, shown: str) -> None:
    source = f"# /// script\n# [tool.osiris.function]\n# {option} = {shown}\n# ///\n"
    (value,) = (from_script(source, "f.py").limits or {}).values()
    default = FunctionSpec.__dataclass_fields__[field].default
    assert value == default
    assert re.search(rf"\| `{option}` \|[^|]+\| `{re.escape(shown)}` \|", README)


@pytest.mark.parametrize("path", re.findall(r"`((?:examples|docs|tests|cli)/[\w/.-]+)`", README))
def test_each_path_named_in_the_readme_exists(path: str) -> None:
    assert (ROOT / path).exists()


@pytest.mark.parametrize("target", re.findall(r"`make (\w+)`", README))
def test_each_make_target_named_in_the_readme_exists(target: str) -> None:
    assert re.search(rf"^{target}:", (ROOT / "Makefile").read_text("utf-8"), re.MULTILINE)


def test_the_python_examples_parse() -> None:
    for kind, block in BLOCKS:
        if kind == "python":
            compile(block, "README.md", "exec")
