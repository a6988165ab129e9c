"""The zone served over UDP and TCP: a thin shell around :mod:`osiris_mesh.gateway.dns.zone`.

Nobody is asked who he is: DNS has no such thing. So it listens on loopback unless told otherwise, tells names and
places and nothing else, and a datagram from beyond this machine gets an answer hardly longer than itself: who wants
more comes by TCP, whose address can't be forged, and nobody is flooded by us.
"""

from __future__ import annotations

import asyncio
import contextlib
import ipaddress
import logging
import os
import socket
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, Final, cast

from osiris_mesh.errors import Conflict, OsirisError
from osiris_mesh.gateway.dns.directory import Directory, Service
from osiris_mesh.gateway.dns.zone import Query, answer, failure, read, wire
from osiris_mesh.identity.multiaddr import parse_host_port

__all__ = ["DEFAULT_DNS", "DnsServer"]

DEFAULT_DNS: Final = "127.0.0.1:7453"
_MAX_TCP: Final = 65_535
_IDLE_S: Final = 10.0
_ASK_S: Final = 1.5
"""Seconds registries have; whoever asks gives up after two to five."""
_CONNECTIONS: Final = 64
_WAITING: Final = 64
_GROWTH: Final = 3
"""Times its query's length that an answer to a datagram from beyond this machine may have."""
_log = logging.getLogger(__name__)

Find = Callable[[str], Awaitable[Sequence[Service]]]
"""Asks the registries for a function by full name; empty where none knows it; ``OsirisError`` where none could say."""


class DnsServer:
    """One server.

    Args:
        directory: Returns what the mesh has now; asked for every query, must not block.
        find: Asks registries for what the mesh does not have; None: they are not asked.

    Attributes:
        queries: Queries answered.
        refused: Queries dropped or answered with a failure because too many waited.
    """

    def __init__(self, directory: Callable[[], Directory], find: Find | None = None) -> None:
        self.queries = 0
        self.refused = 0
        self._directory = directory
        self._find = find
        self._udp: asyncio.DatagramTransport | None = None
        self._tcp: asyncio.Server | None = None
        self._asking: set[asyncio.Task[None]] = set()
        self._connections: set[asyncio.Task[None]] = set()
        self._sockets: tuple[socket.socket, socket.socket] | None = None
        self.address = ""

    def bind(self, address: str) -> None:
        """Take one port for UDP and TCP; nobody is answered yet.

        Args:
            address: ``HOST:PORT``; empty: :data:`DEFAULT_DNS`, or any free port if that one is taken.

        Raises:
            Conflict: It can't be listened on.
        """
        host, port = parse_host_port(address or DEFAULT_DNS)
        try:
            self._sockets = _both(host, port)
        except OSError as error:
            if address:
                raise Conflict(
                    f"{address} can't be listened on: {os.strerror(error.errno or 0)}",
                    fix="choose another address with --dns HOST:PORT, or end what uses this one",
                ) from None
            self._sockets = _both(host, 0)
        chosen = self._sockets[0].getsockname()[1]
        self.address = f"[{host}]:{chosen}" if ":" in host else f"{host}:{chosen}"

    async def start(self) -> None:
        """Begin to answer; :meth:`bind` was called."""
        if self._sockets is None:
            return
        loop = asyncio.get_running_loop()
        udp, tcp = self._sockets
        self._udp, _ = await loop.create_datagram_endpoint(lambda: _Datagrams(self), sock=udp)
        self._tcp = await asyncio.start_server(self._serve, sock=tcp, limit=_MAX_TCP + 2)

    async def close(self) -> None:
        """Stop answering."""
        if self._sockets is not None and self._udp is None:
            for each in self._sockets:
                each.close()
        self._sockets = None
        if self._udp is not None:
            self._udp.close()
            self._udp = None
        if self._tcp is not None:
            self._tcp.close()
            self._tcp = None
        tasks = [*self._asking, *self._connections]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def on_datagram(self, data: bytes, sender: Any, send: Callable[[bytes, Any], None]) -> None:
        """Answer one datagram, at once where nobody need be asked."""
        query = read(data)
        if query is None:
            return
        self.queries += 1
        if isinstance(query, bytes):
            send(query, sender)
            return
        near = _is_loopback(sender[0])
        size = query.size if near else min(query.size, len(data) * _GROWTH)
        directory = self._directory()
        if not self._must_ask(query, directory):
            send(wire(answer(query, directory), size), sender)
            return
        if len(self._asking) >= _WAITING:
            self.refused += 1
            send(wire(failure(query), size), sender)
            return
        self._spawn(self._reply_later(query, lambda reply: send(wire(reply, size), sender)))

    def _must_ask(self, query: Query, directory: Directory) -> bool:
        if self._find is None or not query.function:
            return False
        text = query.text.partition("._tcp.")[2] or query.text
        return text not in directory.services and not directory.owns(text)

    async def _answer(self, query: Query) -> Any:
        """Return the reply to a question, registries asked."""
        found: Sequence[Service] = ()
        if self._find is not None:
            try:
                async with asyncio.timeout(_ASK_S):
                    for name in query.function:
                        found = await self._find(name)
                        if found:
                            break
            except (OsirisError, TimeoutError) as error:
                # "Not known" is another answer than "not there", which would be remembered.
                _log.info("a name could not be looked up", extra={"function": query.text, "error": str(error)})
                return failure(query)
        return answer(query, self._directory(), found)

    async def _reply_later(self, query: Query, send: Callable[[Any], None]) -> None:
        send(await self._answer(query))

    def _spawn(self, work: Any) -> None:
        task = asyncio.get_running_loop().create_task(self._guard(work))
        self._asking.add(task)
        task.add_done_callback(self._asking.discard)

    @staticmethod
    async def _guard(work: Any) -> None:
        try:
            await work
        except Exception:  # noqa: BLE001 - the outermost edge of a query's task
            _log.exception("a query failed")

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Answer the queries of one connection, one after another (RFC 7766)."""
        task = asyncio.current_task()
        if task is None or len(self._connections) >= _CONNECTIONS:
            self.refused += 1
            writer.close()
            return
        self._connections.add(task)
        try:
            while True:
                async with asyncio.timeout(_IDLE_S):
                    size = int.from_bytes(await reader.readexactly(2), "big")
                    query = read(await reader.readexactly(size))
                if query is None:
                    return
                self.queries += 1
                if isinstance(query, bytes):
                    data = query
                else:
                    directory = self._directory()
                    asked = self._must_ask(query, directory)
                    data = wire(await self._answer(query) if asked else answer(query, directory), _MAX_TCP)
                writer.write(len(data).to_bytes(2, "big") + data)
                async with asyncio.timeout(_IDLE_S):
                    await writer.drain()
        except TimeoutError:
            # Closing would wait for ever for a client that takes nothing.
            writer.transport.abort()
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        except Exception:  # noqa: BLE001 - the outermost edge of a connection
            _log.exception("a connection failed")
        finally:
            self._connections.discard(task)
            writer.close()


class _Datagrams(asyncio.DatagramProtocol):
    def __init__(self, server: DnsServer) -> None:
        self._server = server
        self._transport: asyncio.DatagramTransport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.DatagramTransport, transport)

    def datagram_received(self, data: bytes, addr: Any) -> None:
        try:
            self._server.on_datagram(data, addr, self._send)
        except Exception:  # noqa: BLE001 - a callback of the loop: nobody above would tell
            _log.exception("a query failed")

    def _send(self, data: bytes, addr: Any) -> None:
        if self._transport is not None and not self._transport.is_closing():
            self._transport.sendto(data, addr)


def _is_loopback(host: str) -> bool:
    with contextlib.suppress(ValueError):
        return ipaddress.ip_address(host.partition("%")[0]).is_loopback
    return False


def _both(host: str, port: int) -> tuple[socket.socket, socket.socket]:
    """Bind one port for both; a free one is looked for a few times, because it must be free twice."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    for left in range(16, 0, -1):
        udp = socket.socket(family, socket.SOCK_DGRAM)
        tcp = socket.socket(family, socket.SOCK_STREAM)
        try:
            udp.bind((host, port))
            tcp.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            tcp.bind((host, udp.getsockname()[1]))
            tcp.listen(_CONNECTIONS)
        except OSError:
            udp.close()
            tcp.close()
            if port or left == 1:
                raise
            continue
        udp.settimeout(0)
        tcp.settimeout(0)
        return udp, tcp
    raise OSError
