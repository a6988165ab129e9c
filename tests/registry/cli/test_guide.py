"""docs/registry.md is true to the program: its command lines parse, its exit codes are those of the errors."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest

from osiris_mesh import errors
from osiris_mesh.registry.roster import kind_of
from osiris_mesh.registry.writable_tree import CHECKPOINT_TTL_MS
from osiris_mesh_cli.main import root
from osiris_mesh_cli.reference import leaves
from tests.docs.test_readme import command_of

ROOT = Path(__file__).parents[3]
TEXT = (ROOT / "docs" / "registry.md").read_text("utf-8")
LINES = [
    line
    for block in re.findall(r"```sh\n(.*?)```", TEXT, re.DOTALL)
    for line in block.splitlines()
    if line.startswith("osiris-mesh ")
]


@pytest.mark.parametrize("line", LINES)
def test_each_line_parses(line: str) -> None:
    item, rest, context = command_of(shlex.split(line)[1:])
    item.make_context("guide", rest, parent=context)


def test_every_command_about_registries_is_explained() -> None:
    for path, _ in leaves(root()):
        if path[0] == "registry" and path not in {("registry", "remove"), ("registry", "keys", "list")}:
            assert " ".join(path[1:]) in TEXT, path


def test_the_exit_codes_are_those_of_the_errors() -> None:
    told = {int(code) for code in re.findall(r"^\| (\d) \|", TEXT, re.MULTILINE)}
    raised = [errors.CheckFailed, errors.Conflict, errors.NotFound, errors.Denied, errors.Unavailable]
    assert told == {0, *(kind.exit_code for kind in raised)}


@pytest.mark.parametrize("url", re.findall(r"--to (\S+://\S+|ledger:)|registry add \w+ (\S+://\S+)", TEXT))
def test_each_url_is_one(url: tuple[str, str]) -> None:
    assert kind_of(url[0] or url[1])


def test_how_long_a_checkpoint_holds() -> None:
    assert f"holds for {CHECKPOINT_TTL_MS // 86_400_000} days" in TEXT


@pytest.mark.parametrize("path", re.findall(r"`((?:examples|docs|osiris_mesh)/[\w/.-]+)`", TEXT))
def test_each_path_there_is(path: str) -> None:
    assert (ROOT / path).exists()
