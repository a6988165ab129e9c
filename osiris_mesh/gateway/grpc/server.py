"""The gRPC server of one controller, on its loop."""

from __future__ import annotations

import os
import socket
from pathlib import Path

from osiris_mesh.errors import Conflict, UsageError
from osiris_mesh.gateway.http.exposure import check_exposure
from osiris_mesh.gateway.http.parts import Parts
from osiris_mesh.identity.multiaddr import parse_host_port

# A controller starts processes of its own; grpcio's handlers around a fork only warn that they do nothing.
os.environ.setdefault("GRPC_ENABLE_FORK_SUPPORT", "0")

try:
    import grpc

    from osiris_mesh.gateway.grpc.osiris_pb2_grpc import add_OsirisServicer_to_server
    from osiris_mesh.gateway.grpc.service import Service
except ImportError as missing:
    raise UsageError(
        f"gRPC takes an extra that is not installed: {missing.name}", fix="pip install 'osiris-mesh[grpc]'"
    ) from None

__all__ = ["GrpcServer", "check_address"]

_HEADERS = 16 << 10
_IDLE_MS = 60_000


class GrpcServer:
    """Answers ``osiris.v1.Osiris``.

    Args:
        parts: What it asks.
        address: ``HOST:PORT``; port 0: any free one.
        cert: PEM file of the certificate and those that sign it; empty: in the clear, on this machine alone.
        key: PEM file of its key.

    Attributes:
        address: ``HOST:PORT`` as it is listened at, once started.

    Raises:
        UsageError: It would be open to others without TLS, or the certificate can't be read.
    """

    def __init__(self, parts: Parts, address: str, *, cert: str = "", key: str = "") -> None:
        self._host, self._port = parse_host_port(address)
        check_exposure(self._host, tls=bool(cert), proxied=False)
        self._credentials = _credentials(cert, key) if cert or key else None
        self._parts = parts
        self._service = Service(parts)
        self._server: grpc.aio.Server | None = None
        self.address = address

    async def start(self) -> None:
        """Begin to answer.

        Raises:
            Conflict: The address can't be listened on.
        """
        settings = self._parts.settings
        server = grpc.aio.server(
            options=(
                ("grpc.max_receive_message_length", settings.call_body),
                ("grpc.max_send_message_length", -1),
                ("grpc.max_metadata_size", _HEADERS),
                ("grpc.max_concurrent_streams", settings.connections),
                ("grpc.so_reuseport", 0),
                ("grpc.keepalive_time_ms", _IDLE_MS),
                ("grpc.http2.min_ping_interval_without_data_ms", 10_000),
            ),
            maximum_concurrent_rpcs=settings.connections,
        )
        add_OsirisServicer_to_server(self._service, server)  # type: ignore[no-untyped-call]
        host = f"[{self._host}]" if ":" in self._host else self._host
        try:
            if self._credentials is None:
                port = server.add_insecure_port(f"{host}:{self._port}")
            else:
                port = server.add_secure_port(f"{host}:{self._port}", self._credentials)
        except RuntimeError:
            raise Conflict(
                f"{self.address} can't be listened on", fix="choose another address with --grpc HOST:PORT"
            ) from None
        self.address = f"{host}:{port}"
        self._server = server
        await server.start()

    async def close(self, seconds: float = 0.0) -> None:
        """Refuse new requests, end streams, give those under way so many seconds, then close every connection."""
        self._service.stopping.set()
        server, self._server = self._server, None
        if server is not None:
            await server.stop(seconds)


def check_address(address: str, *, tls: bool) -> None:
    """Check early that a server could listen somewhere; grpcio itself binds only when it starts.

    Raises:
        UsageError: Not an address, or it would be open to others without TLS.
        Conflict: It can't be listened on.
    """
    host, port = parse_host_port(address)
    check_exposure(host, tls=tls, proxied=False)
    try:
        for family, kind, protocol, _, where in socket.getaddrinfo(host or None, port, type=socket.SOCK_STREAM):
            with socket.socket(family, kind, protocol) as probe:
                probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                probe.bind(where)
    except OSError as error:
        raise Conflict(
            f"{address} can't be listened on: {os.strerror(error.errno or 0)}",
            fix="choose another address with --grpc HOST:PORT",
        ) from None


def _credentials(cert: str, key: str) -> grpc.ServerCredentials:
    if not (cert and key):
        raise UsageError("TLS takes a certificate and its key", fix="give both --http-cert and --http-key")
    try:
        pair = (Path(key).expanduser().read_bytes(), Path(cert).expanduser().read_bytes())
    except OSError as error:
        raise UsageError(f"the certificate {cert} and its key {key} can't be read: {error}") from None
    return grpc.ssl_server_credentials([pair])
