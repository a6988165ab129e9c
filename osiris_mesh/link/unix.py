"""Links on one machine: Unix sockets and socket pairs, the same frames without boxes."""

from __future__ import annotations

import asyncio
import errno
import os
import socket
import struct
from contextlib import suppress
from pathlib import Path
from typing import Final, cast

from osiris_mesh.clock import SYSTEM, Clock
from osiris_mesh.errors import Conflict, Unavailable, UsageError
from osiris_mesh.link.aio import Link, local_caller
from osiris_mesh.link.mux import MuxLimits
from osiris_mesh.link.request import Audience, Caller
from osiris_mesh.link.router import Router

__all__ = ["PlainProtocol", "UnixServer", "connect_unix", "link_over"]

_HIGH_WATER: Final = 1 << 18
_BACKLOG: Final = 128


class PlainProtocol(asyncio.Protocol):
    """The frames of a link directly on a transport.

    Args:
        router: What the peer may call.
        caller: Who it is.
        limits: What it may make us spend.
        clock: Time for deadlines.
    """

    def __init__(self, router: Router, caller: Caller, limits: MuxLimits | None = None, clock: Clock = SYSTEM) -> None:
        self.link = Link(self, router, caller, limits=limits, clock=clock)
        self._transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Take the transport."""
        # uvloop's transports are no subclass of asyncio.Transport, they only behave like one.
        self._transport = cast("asyncio.Transport", transport)
        self._transport.set_write_buffer_limits(high=_HIGH_WATER)

    def data_received(self, data: bytes) -> None:
        """Hand bytes on."""
        self.link.feed(data)

    def pause_writing(self) -> None:
        """The transport holds enough."""
        self.link.pause()

    def resume_writing(self) -> None:
        """The transport may take more."""
        self.link.resume()

    def connection_lost(self, exc: Exception | None) -> None:
        """The transport is gone."""
        self.link.lost(str(exc) if exc else "")

    def write(self, buffers: list[bytes | memoryview]) -> None:
        """Send."""
        if self._transport is not None:
            if len(buffers) == 1:
                self._transport.write(buffers[0])
            else:
                self._transport.writelines(buffers)

    def close(self) -> None:
        """Send what is buffered and close."""
        if self._transport is not None:
            self._transport.close()

    def abort(self) -> None:
        """Close at once."""
        if self._transport is not None:
            self._transport.abort()


def peer_uid(connection: socket.socket) -> int | None:
    """Return the user id at the other end of a Unix socket; None where the system doesn't tell."""
    option = getattr(socket, "SO_PEERCRED", None)
    if option is None:
        return None
    raw = connection.getsockopt(socket.SOL_SOCKET, option, struct.calcsize("3i"))
    uid: int = struct.unpack("3i", raw)[1]
    return uid


class _ServedProtocol(PlainProtocol):
    """One accepted connection; refused unless the other end is our user or root."""

    def __init__(self, server: UnixServer) -> None:
        super().__init__(server.router, local_caller(server.audience, ""), server.limits, server.clock)
        self._server = server

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        # uvloop's stand-in for a socket has no getsockopt for this; the descriptor stays the transport's.
        borrowed = socket.socket(fileno=transport.get_extra_info("socket").fileno())
        try:
            uid = peer_uid(borrowed)
        except OSError:
            uid = -1
        finally:
            borrowed.detach()
        if uid not in {None, 0, os.geteuid()} or len(self._server.links) >= self._server.max_links:
            self.link.fail("refused")
            return
        self.link.set_caller(local_caller(self._server.audience, f"uid:{os.geteuid() if uid is None else uid}"))
        self._server.links.add(self.link)
        self.link.on_close(self._server.links.discard)


class UnixServer:
    """Accepts links on a Unix socket, from this user and root alone.

    Args:
        path: Where; its folder must exist.
        router: What is served.
        audience: What those who connect count as.
        limits: What one of them may make us spend.
        max_links: How many may be connected at a time.
        clock: Time for deadlines.

    Attributes:
        links: Those connected now.
    """

    def __init__(
        self,
        path: Path | str,
        router: Router,
        audience: Audience = Audience.LOCAL,
        *,
        limits: MuxLimits | None = None,
        max_links: int = 1024,
        clock: Clock = SYSTEM,
    ) -> None:
        self.path = Path(path)
        self.router = router
        self.audience = audience
        self.limits = limits
        self.max_links = max_links
        self.clock = clock
        self.links: set[Link] = set()
        self._server: asyncio.AbstractServer | None = None

    async def start(self) -> None:
        """Begin to accept; a socket file nobody listens on is replaced.

        Raises:
            Conflict: Another process listens there.
            UsageError: The path is too long, or its folder missing.
        """
        listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            _remove_stale(self.path)
            try:
                listener.bind(os.fspath(self.path))
            except OSError as error:
                raise UsageError(
                    f"no socket can be made at {self.path}: {error.strerror or error}", fix="choose a shorter path"
                ) from None
            # Nobody can connect between bind and listen, so nobody meets it with other permissions.
            self.path.chmod(0o600)
            listener.listen(_BACKLOG)
            listener.settimeout(0)
            loop = asyncio.get_running_loop()
            self._server = await loop.create_unix_server(lambda: _ServedProtocol(self), sock=listener)
        except BaseException:
            listener.close()
            raise

    async def close(self) -> None:
        """Stop accepting, close every link, remove the socket file."""
        if self._server is None:
            return
        self._server.close()
        self._server = None
        with suppress(FileNotFoundError):
            self.path.unlink()
        await asyncio.gather(*(link.close() for link in list(self.links)))

    async def __aenter__(self) -> UnixServer:
        await self.start()
        return self

    async def __aexit__(self, *exc: object) -> None:
        await self.close()


def _remove_stale(path: Path) -> None:
    if not path.is_socket():
        return
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.settimeout(1.0)
        try:
            probe.connect(os.fspath(path))
        except OSError as error:
            if error.errno not in {errno.ECONNREFUSED, errno.ENOENT}:
                raise Conflict(f"{path} is in use: {error.strerror}") from None
        else:
            raise Conflict(f"another process listens on {path}", fix="stop it with: osiris-mesh stop")
    path.unlink(missing_ok=True)


async def connect_unix(
    path: Path | str,
    router: Router | None = None,
    *,
    timeout: float = 5.0,
    limits: MuxLimits | None = None,
    clock: Clock = SYSTEM,
) -> Link:
    """Connect to a controller's Unix socket.

    Args:
        path: The socket.
        router: What the controller may call here; nothing if None.
        timeout: Seconds to wait for the connection.
        limits: What the controller may make us spend.
        clock: Time for deadlines.

    Raises:
        Unavailable: Nobody listens there.
    """
    loop = asyncio.get_running_loop()
    caller = local_caller(Audience.LOCAL, os.fspath(path))
    try:
        async with asyncio.timeout(timeout):
            _, protocol = await loop.create_unix_connection(
                lambda: PlainProtocol(router or Router(), caller, limits, clock), os.fspath(path)
            )
    except (OSError, TimeoutError) as error:
        raise no_controller(path, error) from None
    return protocol.link


def no_controller(path: Path | str, error: OSError) -> Unavailable:
    """Return the error for a socket nobody answers on."""
    reason = error.strerror or type(error).__name__
    return Unavailable(
        f"no controller answers at {path}: {reason}",
        fix="start it with: osiris-mesh start",
        maybe=False,
    )


async def link_over(
    connection: socket.socket,
    router: Router,
    caller: Caller,
    *,
    limits: MuxLimits | None = None,
    clock: Clock = SYSTEM,
) -> Link:
    """Make a link of one end of a socket pair; the link owns the socket from now on.

    Args:
        connection: A connected stream socket.
        router: What the other end may call.
        caller: Who is there.
        limits: What it may make us spend.
        clock: Time for deadlines.
    """
    connection.settimeout(0)
    loop = asyncio.get_running_loop()
    _, protocol = await loop.create_unix_connection(
        lambda: PlainProtocol(router, caller, limits, clock), sock=connection
    )
    return protocol.link
