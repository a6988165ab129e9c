"""docs/commands.md lists every command and option, docs/settings.md every setting, as they are."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from typer.core import TyperGroup

from osiris_mesh.gateway.config_keys import KEYS
from osiris_mesh_cli.main import root
from osiris_mesh_cli.reference import commands_page, settings_page

DOCS = Path(__file__).parents[2] / "docs"
COMMANDS = (DOCS / "commands.md").read_text("utf-8")
SETTINGS = (DOCS / "settings.md").read_text("utf-8")
MAKE = "python -m osiris_mesh_cli.reference docs"


def options(group: TyperGroup, path: str = "") -> list[tuple[str, str]]:
    found: list[tuple[str, str]] = []
    for name, item in group.commands.items():
        if isinstance(item, TyperGroup):
            found += options(item, f"{path}{name} ")
        else:
            found += [(f"{path}{name}", option) for parameter in item.params for option in parameter.opts]
    return found


def test_the_pages_are_those_of_the_program() -> None:
    assert commands_page() == COMMANDS, MAKE
    assert settings_page() == SETTINGS, MAKE


def test_every_command_and_option_is_listed() -> None:
    """The page is looked at as a reader does: what makes it may have forgotten something."""
    parts = dict(re.findall(r"^### (.+?)\n(.*?)(?=^### |\Z)", COMMANDS, re.DOTALL | re.MULTILINE))
    everywhere = COMMANDS.partition("### ")[0]
    missing = [
        (command, option)
        for command, option in options(root())
        if option.startswith("-") and f"`{option}" not in parts[command] and f"`{option}" not in everywhere
    ]
    assert missing == []


@pytest.mark.parametrize("key", [key.key for key in KEYS])
def test_every_setting_is_listed(key: str) -> None:
    assert f"| `{key}` |" in SETTINGS
