"""Command lines in this process, with a home, a key and a registry of their own."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.cli.conftest import Line

ADD = '''def add(a: int, b: int = 5) -> int:
    """Add two numbers."""
    return a + b
'''


@pytest.fixture
def home(monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    # Not tmp_path: a Unix socket's path is at most 107 bytes long.
    with tempfile.TemporaryDirectory(prefix="or-", ignore_cleanup_errors=True) as folder:
        monkeypatch.setenv("OSIRIS_HOME", str(Path(folder) / "home"))
        monkeypatch.delenv("OSIRIS_SIGNING_KEY", raising=False)
        yield Path(folder) / "home"


@pytest.fixture
def line(home: Path, capsys: pytest.CaptureFixture[str]) -> Line:
    return Line(home, capsys)


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """A file with one function."""
    path = tmp_path / "math" / "add.py"
    path.parent.mkdir()
    path.write_text(ADD, "utf-8")
    return path


@pytest.fixture
def url(tmp_path: Path, line: Line) -> str:
    """A registry in a folder, kept by the key ``owner``."""
    url = f"file://{tmp_path}/registry"
    answer = line("registry", "init", "--to", url, "--name", "team", "--vendor", "acme.com")
    assert answer.code == 0, answer.err
    return url
