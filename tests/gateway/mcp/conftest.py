"""One real controller for all of these tests, with functions, and tokens for its bearers."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from osiris_mesh.ledger.permissions import BUILT_IN_ROLES
from tests.http.client import Face
from tests.http.tokens import role_token
from tests.system.harness import Mesh

SOURCE = '''
def add(a: int, b: int = 1) -> int:
    """Add two numbers."""
    return a + b

def echo(value):
    return value

def fail(text: str):
    raise ValueError(text)

def lie() -> int:
    return "not a number"

def many(first, /, second=2, *rest: int, **named) -> list:
    return [first, second, list(rest), named]

def large(size: int) -> str:
    return "x" * size
'''


@pytest.fixture(scope="session")
def face() -> Iterator[Face]:
    # Not tmp_path: a Unix socket's path is at most 107 bytes long.
    with tempfile.TemporaryDirectory(prefix="om-", ignore_cleanup_errors=True) as folder:
        mesh = Mesh(Path(folder))
        try:
            node = mesh.init("--http", "127.0.0.1:0")
            face = Face(node.report["http"], node.home, {role: role_token(node.home, role) for role in BUILT_IN_ROLES})
            made = face.post("/v1/functions", {"source": SOURCE, "namespace": "t"})
            assert made.status == 200, made
            yield face
        finally:
            mesh.close()
