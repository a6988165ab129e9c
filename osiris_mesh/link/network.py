"""What carries links between machines: TCP, or the in-memory network of tests and of the simulator."""

from __future__ import annotations

import asyncio
import errno
from collections.abc import Callable, Sequence
from typing import Protocol

from osiris_mesh.errors import Conflict, UsageError

__all__ = ["Listener", "Network", "TcpNetwork"]

_BACKLOG = 256


class Listener(Protocol):
    """Something that accepts connections."""

    @property
    def bound(self) -> Sequence[tuple[str, int]]:
        """Host and port of each socket."""
        ...

    def close(self) -> None:
        """Stop accepting; connections live on."""
        ...


class Network(Protocol):
    """Streams of bytes between nodes; every connection is an asyncio protocol with its transport."""

    async def listen(self, host: str, port: int, factory: Callable[[], asyncio.Protocol]) -> Listener:
        """Accept connections, each with a protocol of its own.

        Raises:
            Conflict: The port is taken.
            UsageError: It can't be bound for another reason.
        """
        ...

    async def connect(self, host: str, port: int, factory: Callable[[], asyncio.Protocol]) -> None:
        """Connect; ``connection_made`` was called when this returns. May wait without end; the caller bounds it.

        Raises:
            OSError: Nobody accepts there.
        """
        ...


class _TcpListener:
    def __init__(self, server: asyncio.Server) -> None:
        self._server = server

    @property
    def bound(self) -> Sequence[tuple[str, int]]:
        return [tuple(socket.getsockname()[:2]) for socket in self._server.sockets]

    def close(self) -> None:
        self._server.close()


class TcpNetwork:
    """TCP of this machine."""

    async def listen(self, host: str, port: int, factory: Callable[[], asyncio.Protocol]) -> Listener:
        """Accept connections on ``host`` (empty: all addresses) and ``port`` (0: any free one)."""
        loop = asyncio.get_running_loop()
        try:
            server = await loop.create_server(factory, host or None, port, backlog=_BACKLOG, reuse_address=True)
        except OSError as error:
            where = f"{host or '*'}:{port}"
            if error.errno == errno.EADDRINUSE:
                raise Conflict(
                    f"{where} is taken by another program", fix="choose another with --listen, or :0 for any free port"
                ) from None
            raise UsageError(f"{where} can't be listened on: {error.strerror or error}", fix="choose another") from None
        return _TcpListener(server)

    async def connect(self, host: str, port: int, factory: Callable[[], asyncio.Protocol]) -> None:
        """Connect over TCP."""
        await asyncio.get_running_loop().create_connection(factory, host, port)
