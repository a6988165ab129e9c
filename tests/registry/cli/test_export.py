"""A registry on a static web server: copied there verified, and read from there as from anywhere else."""

from __future__ import annotations

import functools
import threading
from collections.abc import Iterator
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from tests.cli.conftest import Line


class _Silent(SimpleHTTPRequestHandler):
    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def public(tmp_path: Path) -> Iterator[tuple[Path, str]]:
    """A folder, and the URL a web server serves it at."""
    folder = tmp_path / "public"
    with ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(_Silent, directory=str(folder))) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        yield folder, f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join(5)


def test_what_is_exported_is_a_registry_to_be_read(
    line: Line, url: str, source: Path, public: tuple[Path, str], tmp_path: Path
) -> None:
    folder, web = public
    publish = ("registry", "publish", str(source), "--key", "owner")
    assert line(*publish, "--to", url).code == 0
    first = line("registry", "export", str(folder), "--from", url, "--json")
    assert first.code == 0, first.err
    pin = first.json["pin"]
    read = ("registry", "keys", "show", web, "--pin", pin, "--json", "--home", str(tmp_path / "other"))
    shown = line(*read)
    assert (shown.code, shown.json["pin"]) == (0, pin)
    assert line("registry", "deprecate", "math/add@1.0.0", "old", "--to", url, "--key", "owner").code == 0
    assert line("registry", "export", str(folder), "--from", url).code == 0
    assert line(*read).json["checkpoint"] == shown.json["checkpoint"] + 1
    same = line(*publish, "--to", web, "--dry-run", "--json")
    assert (same.code, same.json["changed"]) == (0, False)
    assert line(*publish, "--to", web, "--version", "2.0.0").code == 5


def test_what_is_not_believed_is_not_exported(line: Line, url: str, source: Path, public: tuple[Path, str]) -> None:
    folder, _ = public
    assert line("registry", "publish", str(source), "--key", "owner", "--to", url).code == 0
    history = Path(url.removeprefix("file://")) / "ns" / "_" / "math" / "add.jsonl"
    history.write_bytes(history.read_bytes().replace(b"Add two", b"Add all"))
    assert line("registry", "export", str(folder), "--from", url).code == 1
    assert not folder.exists()
