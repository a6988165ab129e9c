"""A small blocking HTTP client, with the tokens of a controller."""

from __future__ import annotations

import http.client
import json
import socket
import ssl
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

SECONDS = 20.0


@dataclass(frozen=True)
class Got:
    """One answer."""

    status: int
    headers: http.client.HTTPMessage
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)


@dataclass
class Face:
    """The HTTP face of one controller.

    Attributes:
        url: Where it answers.
        home: Its home.
        tokens: By role.
        tls: For https.
    """

    url: str
    home: Path
    tokens: dict[str, str]
    tls: ssl.SSLContext | None = None

    @property
    def port(self) -> int:
        port = urlsplit(self.url).port
        assert port is not None
        return port

    @property
    def admin(self) -> str:
        return self.tokens["admin"]

    def ask(
        self,
        method: str,
        path: str,
        body: Any = None,
        *,
        token: str | None = "",
        headers: dict[str, str] | None = None,
    ) -> Got:
        """Send one request.

        Args:
            method: HTTP method.
            path: With its query.
            body: Bytes as they are, anything else as JSON.
            token: The admin's if empty; None for no bearer.
            headers: More headers, or others.
        """
        given = {} if token is None else {"Authorization": f"Bearer {token or self.admin}"}
        if body is not None and not isinstance(body, bytes):
            body = json.dumps(body).encode()
            given["Content-Type"] = "application/json"
        if self.tls is None:
            connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=SECONDS)
        else:
            connection = http.client.HTTPSConnection("localhost", self.port, timeout=SECONDS, context=self.tls)
        try:
            connection.request(method, path, body, given | (headers or {}))
            answer = connection.getresponse()
            return Got(answer.status, answer.headers, answer.read())
        finally:
            connection.close()

    def get(self, path: str, **more: Any) -> Got:
        return self.ask("GET", path, **more)

    def post(self, path: str, body: Any = None, **more: Any) -> Got:
        return self.ask("POST", path, body, **more)

    def connect(self) -> socket.socket:
        """Return a bare connection."""
        return socket.create_connection(("127.0.0.1", self.port), timeout=SECONDS)

    def head(self, method: str, path: str, **headers: str) -> bytes:
        """Return the head of a request as it is sent, the admin's bearer in it."""
        given = {"Host": f"127.0.0.1:{self.port}", "Authorization": f"Bearer {self.admin}"} | {
            name.replace("_", "-"): value for name, value in headers.items()
        }
        lines = [f"{method} {path} HTTP/1.1", *(f"{name}: {value}" for name, value in given.items())]
        return "\r\n".join([*lines, "", ""]).encode()
