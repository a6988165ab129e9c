"""A deployed function says which of two providers a call of a registry's function is tried at first."""

from __future__ import annotations

import http.server
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.system.harness import Mesh
from tests.system.registry_kit import Publisher

pytestmark = pytest.mark.system
NAME = "shop/price"
SOURCE = '''def choose(name: str, providers: list) -> list:
    """Put one provider first."""
    if name != "shop/price":
        raise ValueError(name)
    return [each["id"] for each in sorted(providers, key=lambda each: each["weight"])]


def lie(name: str, providers: list) -> str:
    """Return what is no order."""
    return name
'''


@contextmanager
def answering() -> Iterator[str]:
    """Serve a provider that answers with its own path."""

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            self.rfile.read(int(self.headers["Content-Length"]))
            data = f'"{self.path[1:]}"'.encode()
            self.send_response(200)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        def log_message(self, *_: object) -> None:
            """Say nothing."""

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    running = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
    running.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}"
    finally:
        server.shutdown()
        running.join()
        server.server_close()


def test_a_deployed_function_chooses(mesh: Mesh, tmp_path: Path) -> None:
    publisher = Publisher(tmp_path)
    node = mesh.init()
    place = f"file://{tmp_path}/mine"
    pin = node.ok("registry", "init", "--to", place, "--key", "owner")["pin"]
    with answering() as url:
        words = [word for each in ("one", "two", "three") for word in ("--provider", f"{each}={url}/{each}")]
        node.ok(
            *("registry", "publish", str(publisher.source), "--name", NAME),
            *("--to", place, "--key", "owner", "--version", "1.0.0", *words),
        )
        node.ok("registry", "add", "mine", place, "--pin", pin)
        node.ok("config", "set", "registry.allow_networks", "loopback")
        source = tmp_path / "choose.py"
        for last in ("three", "one"):
            body = SOURCE.replace('each["weight"]', f'each["id"] != "{last}"')
            source.write_text(body)
            node.ok("deploy", f"{source}::choose", "--name", f"team/{last}")
            node.ok("config", "set", "registry.policy", "custom")
            node.ok("config", "set", "registry.chooser", f"team/{last}")
            # A first word may come too late, from an instance that is just begun; then each has its turn, so four
            # times the same one is the function's word.
            found: list[str] = []
            while found[-4:] != [last] * 4:
                assert len(found) < 30, (found, node.run("logs").out)
                answer = node.run("call", NAME, "1")
                assert answer.code == 0, answer.err
                found.append(answer.out.strip().strip('"'))
        node.ok("deploy", f"{source}::lie", "--name", "team/lie")
        node.ok("config", "set", "registry.chooser", "team/lie")
        answers = {node.run("call", NAME, "1").code for _ in range(3)}
        assert answers == {0}, "a chooser that lies keeps nobody from being called"
