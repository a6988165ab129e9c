"""What must never stand in the controller, its command line or its SDK: read from the syntax trees, not by grep."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
SOURCES = sorted(
    path
    for folder in ("osiris_mesh", "cli/osiris_mesh_cli", "sdk/osiris_sdk")
    for path in (ROOT / folder).rglob("*.py")
)
MODULES = {"pickle", "cPickle", "_pickle", "marshal", "shelve", "cloudpickle", "dill", "yaml", "commands"}
CALLS = {"eval", "exec", "compile", "__import__"}
# The one place where user code is executed: the worker, a sandboxed process of its own that holds nothing of ours.
WORKER = ROOT / "osiris_mesh" / "runtime" / "worker"


SPAWNERS = {"Popen", "run", "call", "check_call", "check_output"}


def _names_a_shell(call: ast.Call, value: ast.expr) -> bool:
    """Say whether ``shell=`` is some other function's argument: the name of a shell, not the order to use one."""
    callee = call.func.attr if isinstance(call.func, ast.Attribute) else getattr(call.func, "id", "")
    return callee not in SPAWNERS and not (isinstance(value, ast.Constant) and value.value is True)


def violations(path: Path, tree: ast.Module) -> Iterator[str]:
    for node in ast.walk(tree):
        line = getattr(node, "lineno", 0)
        if isinstance(node, ast.Import):
            for alias in node.names:
                if alias.name.partition(".")[0] in MODULES:
                    yield f"{line}: import {alias.name}"
        elif isinstance(node, ast.ImportFrom):
            if (node.module or "").partition(".")[0] in MODULES:
                yield f"{line}: from {node.module} import"
        elif isinstance(node, ast.Call):
            name = node.func.id if isinstance(node.func, ast.Name) else ""
            if name in CALLS and not path.is_relative_to(WORKER):
                yield f"{line}: {name}()"
            if isinstance(node.func, ast.Attribute):
                owner = node.func.value.id if isinstance(node.func.value, ast.Name) else ""
                if (owner, node.func.attr) in {("os", "system"), ("os", "popen"), ("subprocess", "getoutput")}:
                    yield f"{line}: {owner}.{node.func.attr}()"
                if node.func.attr == "create_subprocess_shell":
                    yield f"{line}: create_subprocess_shell()"
            for keyword in node.keywords:
                on = not (isinstance(keyword.value, ast.Constant) and keyword.value.value is False)
                if keyword.arg == "shell" and on and not _names_a_shell(node, keyword.value):
                    yield f"{line}: shell="
                if keyword.arg == "verify" and not on:
                    yield f"{line}: verify=False"


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(ROOT)))
def test_source_has_no_way_to_run_what_a_peer_sends(path: Path) -> None:
    assert list(violations(path, ast.parse(path.read_text("utf-8")))) == []


def test_the_check_itself_sees_what_it_looks_for() -> None:
    bad = "import pickle\nfrom marshal import loads\neval('1')\nf(shell=True)\nos.system('x')\ng(verify=False)\n"
    assert len(list(violations(ROOT / "osiris_mesh" / "x.py", ast.parse(bad)))) == 6


def test_packages_do_not_name_this_machine() -> None:
    needle = str(ROOT.parent) + "/"
    if len(needle) < 4:
        pytest.skip("the checkout lies directly below the root, its name is no secret")
    for path in SOURCES:
        assert needle not in path.read_text("utf-8"), path
