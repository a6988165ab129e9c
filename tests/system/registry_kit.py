"""Registries of the system tests' own: a bare repository, a static host, and a machine that only publishes."""

from __future__ import annotations

import http.server
import os
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from hashlib import sha256
from pathlib import Path
from typing import Any

from osiris_mesh.registry.listing import write_index
from tests.registry.git.repository import ME, need_git
from tests.system.harness import Node

ADD = '''def add(a: int, b: int = 5) -> int:
    """Add two numbers."""
    return a + b
'''
NAME = "math/add"
FILE = "ns/_/math/add.jsonl"


def git(folder: Path, *words: str) -> bytes:
    """Run plain git on a bare repository."""
    environment = {"PATH": os.environ["PATH"], "HOME": str(folder), "GIT_DIR": str(folder), **ME}
    return subprocess.run(["git", *words], env=environment, capture_output=True, check=True, timeout=60).stdout


def bare(folder: Path) -> str:
    """Make a bare repository; return its URL as a registry."""
    need_git()
    folder.mkdir(mode=0o700)
    git(folder, "init", "--quiet", "--bare", "--initial-branch=main", str(folder))
    return f"git+file://{folder}"


class Publisher:
    """A machine without a controller: a home with keys, a function's source, and the command line."""

    def __init__(self, folder: Path) -> None:
        self.node = Node(folder / "publisher")
        self.source = folder / "work" / "math" / "add.py"
        self.source.parent.mkdir(parents=True)
        self.source.write_text(ADD)

    @property
    def key_file(self) -> Path:
        return self.node.home / "keys" / "registry" / "owner.key"

    def begin(self, url: str, *words: str) -> str:
        """Begin a registry; return its pin."""
        pin: str = self.node.ok("registry", "init", "--to", url, "--key", "owner", *words)["pin"]
        return pin

    def publish(self, url: str, version: str, *words: str, key: str = "owner") -> dict[str, Any]:
        to = ("--to", url, "--key", key, "--version", version)
        found: dict[str, Any] = self.node.ok("registry", "publish", str(self.source), *to, *words)
        return found


class Host:
    """Serves a folder's files and their index over HTTP; ``hangs`` leaves every question without an answer."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.hangs = False
        self.waiting = 0
        self.released = threading.Event()
        self.url = ""

    def get(self, path: str) -> bytes | None:
        """Return a file, or None."""
        if path == "index.json":
            files = {
                item.relative_to(self.folder).as_posix(): item.read_bytes()
                for item in self.folder.rglob("*")
                if item.is_file() and not item.relative_to(self.folder).parts[0].startswith(".")
            }
            return write_index((name, sha256(data).hexdigest()) for name, data in files.items())
        place = self.folder / path
        return place.read_bytes() if place.is_file() else None

    @contextmanager
    def serving(self) -> Iterator[Host]:
        host = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                if host.hangs:
                    host.waiting += 1
                    host.released.wait(60)
                    self.close_connection = True
                    return
                data = host.get(self.path.lstrip("/"))
                self.send_response(200 if data is not None else 404)
                self.send_header("Content-Length", str(len(data or b"")))
                self.end_headers()
                self.wfile.write(data or b"")

            def log_message(self, *_: Any) -> None:
                """Say nothing."""

        server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        server.daemon_threads = True
        running = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
        running.start()
        self.url = f"http://127.0.0.1:{server.server_address[1]}"
        try:
            yield self
        finally:
            self.released.set()
            server.shutdown()
            running.join()
            server.server_close()
