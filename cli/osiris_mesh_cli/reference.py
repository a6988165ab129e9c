"""Writes docs/commands.md and docs/settings.md from the program itself: ``python -m osiris_mesh_cli.reference docs``.

A test compares, so that a command, an option or a setting can't be forgotten there.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from dataclasses import MISSING, fields
from pathlib import Path
from typing import Any, Final

from typer.core import TyperGroup

from osiris_mesh_cli.main import root

__all__ = ["commands_page", "leaves", "settings_page", "write"]

_COMMON: Final = ("json_output", "home", "quiet", "help")
_HEAD: Final = """\
# Commands

`osiris` is short for `osiris-mesh`. This page is made from the program (`python -m osiris_mesh_cli.reference docs`);
`osiris-mesh help COMMAND` says the same.

Every command takes:

| option | meaning |
|---|---|
| `--json` | one JSON document on stdout, nothing else there |
| `--home FOLDER` | the node to act on; `$OSIRIS_HOME` or `~/.osiris` if not given |
| `--quiet`, `-q` | no progress and no hints on stderr |
| `--help`, `-h` | what it does, with an example |

Exit codes: 0 done; 1 the function raised, its worker died, or a check failed; 2 usage; 3 not found or nobody can serve
it; 4 timed out; 5 not permitted; 6 no quorum or no controller; 130 interrupted.
"""
_SETTINGS_HEAD: Final = """\
# Settings

## Of the mesh

Recorded in the ledger, the same on every node, in force as soon as they are: `osiris-mesh config set KEY VALUE`,
`config get`, `config reset`, `config list`. It takes the permission `config.write`. A value that can't be understood is
refused before it is signed, and again where its entry is applied. One that is in the ledger all the same stops
nothing: whatever was set before, every node goes by the default instead, `registry.context` by `pure`,
`registry.allow_networks` by none, and a webhook whose URL or events can't be read gets nothing. A node that meets
such a value publishes `setting.unreadable`, and `config list` says why and what holds.

| key | kind | default | what it does | example |
|---|---|---|---|---|
"""
_RULES_HEAD: Final = """
These alert rules hold unless a setting of the same name says otherwise (`off` ends one):

| key | rule |
|---|---|
"""
_NODE_HEAD: Final = """
## Of one node

What `init` and `join` were told, kept in `settings.json` in the node's home; a change there counts from the next start.

| name | default | option of `init` and `join` |
|---|---|---|
"""
_FUNCTION_HEAD: Final = """
## Of a function

Limits and grants are part of a version, which never changes. Give them in the file (`[tool.osiris.function]`, see the
README), as options of `deploy` and `update`, or with `osiris-mesh config set KEY VALUE --function NAME`, which makes a
new version with the same code. The next deployment of the file goes by what the file says.

| key | default | what it does |
|---|---|---|
"""
_TAIL: Final = """
## Environment

| variable | meaning |
|---|---|
| `OSIRIS_HOME` | the node's home; `~/.osiris` if not set |
| `OSIRIS_SIGNING_KEY` | key that `registry` commands sign with where none is named, in hexadecimal; for pipelines |
| `OSIRIS_LOG` | what a controller logs from: `debug`, `info`, `warning` or `error`; the setting `log.level` wins |
"""
_NODE_OPTIONS: Final = {
    "name": "--node-name",
    "mdns": "--no-mdns",
    "seeds": "--seed",
}


def leaves(group: TyperGroup, path: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], Any]]:
    """Yield every command with the words that name it."""
    for name, item in group.commands.items():
        if isinstance(item, TyperGroup):
            yield from leaves(item, (*path, name))
        else:
            yield (*path, name), item


def _cell(text: str) -> str:
    return text.replace("|", "\\|").replace("\n", " ")


def _shown(parameter: Any) -> str:
    names = ", ".join(f"`{name}`" for name in (*parameter.opts, *getattr(parameter, "secondary_opts", ())))
    metavar = "" if getattr(parameter, "is_flag", False) else _metavar(parameter)
    return f"{names}{f' `{_cell(metavar)}`' if metavar else ''}"


def _metavar(parameter: Any) -> str:
    # What has no word of its own is a number; texts have one.
    return str(parameter.metavar or "N")


def _default(parameter: Any) -> str:
    value = parameter.default
    if not value or callable(value):
        return ""
    return f"`{_cell(str(value))}`"


def _command(path: tuple[str, ...], item: Any) -> str:
    own = [parameter for parameter in item.params if parameter.name not in _COMMON]
    arguments = [parameter for parameter in own if parameter.param_type_name == "argument"]
    options = [parameter for parameter in own if parameter.param_type_name == "option"]
    words = [f"[{_metavar(one)}]" if not one.required else _metavar(one) for one in arguments]
    words += ["[OPTIONS]"] if options else []
    lines = [f"### {' '.join(path)}", "", f"    osiris-mesh {' '.join([*path, *words])}", ""]
    lines += [" ".join(part.split()) + "\n" for part in (item.help or "").split("\n\n") if part.strip()]
    rows = [f"| `{_cell(_metavar(one))}` | {_cell(one.help or '')} | |" for one in arguments]
    rows += [f"| {_shown(one)} | {_cell(one.help or '')} | {_default(one)} |" for one in options]
    if rows:
        lines += ["| argument or option | meaning | default |", "|---|---|---|", *rows, ""]
    examples = item.epilog.split("Example:\n")[1].splitlines()
    lines += ["```sh", *(line.strip() for line in examples), "```", ""]
    return "\n".join(lines)


def commands_page() -> str:
    """Return docs/commands.md."""
    return _HEAD + "\n" + "\n".join(_command(path, item) for path, item in leaves(root())).rstrip("\n") + "\n"


def settings_page() -> str:
    """Return docs/settings.md."""
    from osiris_mesh.gateway.config_keys import DEFAULT_RULES, KEYS  # noqa: PLC0415 - brings the rules of all settings
    from osiris_mesh.node.options import NodeOptions  # noqa: PLC0415
    from osiris_mesh_cli.function_config import defaults  # noqa: PLC0415

    rows = [
        f"| `{key.key}` | {key.kind} | {f'`{_cell(key.default)}`' if key.default else ''} | {_cell(key.means)} "
        f"| `{_cell(key.example)}` |"
        for key in KEYS
    ]
    rules = [f"| `alert.{name}` | `{_cell(rule)}` |" for name, rule in sorted(DEFAULT_RULES.items())]
    node = []
    for item in fields(NodeOptions):
        default = "" if item.default in {"", (), MISSING} else f"`{str(item.default).lower()}`"
        option = _NODE_OPTIONS.get(item.name, "--" + item.name.replace("_", "-"))
        node.append(f"| `{item.name}` | {default} | `{option}` |")
    function = [f"| `{row['key']}` | `{row['default']}` | {_cell(row['means'])} |" for row in defaults()]
    parts = ((_SETTINGS_HEAD, rows), (_RULES_HEAD, rules), (_NODE_HEAD, node), (_FUNCTION_HEAD, function))
    return "".join(head + "\n".join(lines) + "\n" for head, lines in parts) + _TAIL


def write(folder: Path) -> None:
    """Write both pages."""
    (folder / "commands.md").write_text(commands_page(), "utf-8")
    (folder / "settings.md").write_text(settings_page(), "utf-8")


if __name__ == "__main__":
    write(Path(sys.argv[1] if len(sys.argv) > 1 else "docs"))
