"""Where the HTTP face listens: bound early, so that a port that is taken is told before anything starts."""

from __future__ import annotations

import contextlib
import os
import socket
import ssl
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from osiris_mesh.errors import Conflict, UsageError
from osiris_mesh.gateway.http.exposure import check_exposure
from osiris_mesh.identity.multiaddr import parse_host_port

__all__ = ["DEFAULT_HTTP", "Listener"]

DEFAULT_HTTP: Final = "127.0.0.1:7480"
_BACKLOG: Final = 256


@dataclass(frozen=True, slots=True)
class Listener:
    """Bound sockets, not yet served.

    Attributes:
        host: Host as it was given.
        port: The port, chosen where 0 was asked for.
        sockets: One for each address of the host.
        tls: How TLS is spoken; None: it is not.
        proxied: A proxy in front ends TLS and checks the Host header.
    """

    host: str
    port: int
    sockets: tuple[socket.socket, ...]
    tls: ssl.SSLContext | None
    proxied: bool

    @property
    def text(self) -> str:
        """``HOST:PORT``."""
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"

    @property
    def url(self) -> str:
        """``http://HOST:PORT``, or ``https://``."""
        return f"{'http' if self.tls is None else 'https'}://{self.text}"

    def close(self) -> None:
        """Close the sockets."""
        for each in self.sockets:
            with contextlib.suppress(OSError):
                each.close()

    @classmethod
    def bind(cls, address: str, *, cert: str = "", key: str = "", proxied: bool = False) -> Listener:
        """Bind where ``address`` says.

        Args:
            address: ``HOST:PORT``; empty: :data:`DEFAULT_HTTP`, or any free port if that one is taken.
            cert: PEM file of the certificate and those that sign it.
            key: PEM file of its key.
            proxied: A proxy in front ends TLS.

        Raises:
            Conflict: The address can't be listened on.
            UsageError: The certificate can't be used, or the address would be open without TLS.
        """
        host, port = parse_host_port(address or DEFAULT_HTTP)
        tls = _context(cert, key) if cert or key else None
        check_exposure(host, tls=tls is not None, proxied=proxied)
        try:
            sockets = _bind(host, port)
        except OSError as error:
            if address:
                raise Conflict(
                    f"{address} can't be listened on: {os.strerror(error.errno or 0)}",
                    fix="choose another address with --http HOST:PORT, or end what uses this one",
                ) from None
            sockets = _bind(host, 0)
        return cls(host, sockets[0].getsockname()[1], sockets, tls, proxied)


def _bind(host: str, port: int) -> tuple[socket.socket, ...]:
    found = socket.getaddrinfo(host or None, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    bound: list[socket.socket] = []
    try:
        for family, kind, protocol, _, where in dict.fromkeys(found):
            each = socket.socket(family, kind, protocol)
            bound.append(each)
            each.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            if family == socket.AF_INET6:
                each.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
            each.bind((where[0], bound[0].getsockname()[1] if port == 0 and len(bound) > 1 else where[1], *where[2:]))
            # With SO_REUSEADDR two could bind the same port; only one can listen.
            each.listen(_BACKLOG)
            each.setblocking(False)  # noqa: FBT003 - the name of the call says it
    except OSError:
        for each in bound:
            each.close()
        raise
    return tuple(bound)


def _context(cert: str, key: str) -> ssl.SSLContext:
    if not (cert and key):
        raise UsageError("TLS takes a certificate and its key", fix="give both --http-cert and --http-key")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.set_alpn_protocols(["http/1.1"])
    try:
        context.load_cert_chain(Path(cert).expanduser(), Path(key).expanduser(), password=_no_password)
    except (OSError, ssl.SSLError) as error:
        raise UsageError(f"the certificate {cert} and its key {key} can't be used: {error}") from None
    return context


def _no_password() -> str:
    raise UsageError("the key of the certificate has a password", fix="give one without, mode 0600")
