"""A real controller with an HTTP gateway, and a forwarder in front of it that can cut what it carries."""

from __future__ import annotations

import contextlib
import selectors
import socket
import tempfile
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from tests.http.tokens import make_token, role_token
from tests.system.harness import Mesh, Node, write_function

SOURCE = '''
import time

def add(a: int, b: int = 1) -> int:
    """Add two numbers."""
    return a + b

def echo(value):
    return value

def fail(text: str):
    raise ValueError(text)

def slow(seconds: float) -> float:
    time.sleep(seconds)
    return seconds

def shout(text: str):
    print(text, flush=True)

async def fan(count: int) -> list:
    import asyncio
    import osiris_sdk
    mesh = osiris_sdk.current_async()
    return await asyncio.gather(*(mesh.call("web/add", number) for number in range(count)))
'''


@dataclass
class Gateway:
    """Where it answers, and tokens for it."""

    node: Node
    url: str
    admin: str
    viewer: str

    @property
    def address(self) -> tuple[str, int]:
        parts = urlsplit(self.url)
        assert parts.hostname is not None
        assert parts.port is not None
        return parts.hostname, parts.port

    def new_token(self, *grants: str) -> str:
        return make_token(self.node.home, f"t{len(grants)}", grants)


@contextlib.contextmanager
def gateway() -> Iterator[Gateway]:
    """Start one, with the functions of ``web``."""
    # Short, because a socket's path must fit into 108 bytes.
    with tempfile.TemporaryDirectory(prefix="os-", ignore_cleanup_errors=True) as folder:
        mesh = Mesh(Path(folder))
        try:
            node = mesh.init("--http", "127.0.0.1:0")
            file = write_function(Path(folder) / "web", "web", SOURCE)
            node.ok("deploy", str(file), "--namespace", "web", "--version", "1.0.0")
            yield Gateway(node, node.report["http"], role_token(node.home, "admin"), role_token(node.home, "viewer"))
        finally:
            mesh.close()


class Forwarder:
    """Forwards connections to an address, one thread for all; :meth:`cut` ends those that are open."""

    def __init__(self, target: tuple[str, int]) -> None:
        self.target = target
        self.accepted = 0
        self.refusing = False
        self._pairs: dict[socket.socket, socket.socket] = {}
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._turn = threading.RLock()
        self._selector = selectors.DefaultSelector()
        self._selector.register(self._listener, selectors.EVENT_READ)
        self._closed = False
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._listener.getsockname()[1]}"

    def _run(self) -> None:
        while not self._closed:
            for key, _ in self._selector.select(0.05):
                with self._turn:
                    self._turn_of(key.fileobj)

    def _turn_of(self, ready: object) -> None:
        assert isinstance(ready, socket.socket)
        if ready is self._listener:
            near, _ = ready.accept()
            self.accepted += 1
            if self.refusing:
                near.close()
                return
            far = socket.create_connection(self.target)
            for one, other in ((near, far), (far, near)):
                self._pairs[one] = other
                self._selector.register(one, selectors.EVENT_READ)
            return
        if ready not in self._pairs:
            return
        try:
            data = ready.recv(1 << 16)
            if data:
                self._pairs[ready].sendall(data)
                return
        except OSError:
            pass
        self._end(ready)

    def _end(self, one: socket.socket) -> None:
        other = self._pairs.pop(one)
        self._pairs.pop(other, None)
        for each in (one, other):
            self._selector.unregister(each)
            each.close()

    def cut(self) -> None:
        with self._turn:
            while self._pairs:
                self._end(next(iter(self._pairs)))

    def close(self) -> None:
        self._closed = True
        self._thread.join()
        self.cut()
        self._selector.close()
        self._listener.close()
