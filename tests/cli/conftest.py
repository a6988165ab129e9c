"""Runs command lines in this process, with a home of their own."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from osiris_mesh_cli.main import main


@dataclass
class Answer:
    """What one command line did."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        return json.loads(self.out)


class Line:
    """Runs command lines.

    Args:
        home: Their OSIRIS_HOME.
        capsys: Catches what they print.
    """

    def __init__(self, home: Path, capsys: pytest.CaptureFixture[str]) -> None:
        self.home = home
        self._capsys = capsys

    def __call__(self, *words: str) -> Answer:
        self._capsys.readouterr()
        code = main(list(words))
        caught = self._capsys.readouterr()
        return Answer(code, caught.out, caught.err)


@pytest.fixture
def home() -> Iterator[Path]:
    # Not tmp_path: a Unix socket's path is at most 107 bytes long.
    with tempfile.TemporaryDirectory(prefix="oc-", ignore_cleanup_errors=True) as folder:
        yield Path(folder) / "home"


@pytest.fixture
def line(home: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Line:
    monkeypatch.setenv("OSIRIS_HOME", str(home))
    return Line(home, capsys)
