"""Fixtures of the system tests."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.system.harness import Mesh


@pytest.fixture
def mesh() -> Iterator[Mesh]:
    # Not tmp_path: a Unix socket's path is at most 107 bytes long.
    with tempfile.TemporaryDirectory(prefix="om-", ignore_cleanup_errors=True) as folder:
        made = Mesh(Path(folder))
        try:
            yield made
        finally:
            made.close()
