"""TLS handshakes, bounded before they count as connections.

A server of asyncio tells of a TLS connection once its handshake is done: who connects and says nothing would hold a
descriptor and a handshake's memory without anybody counting. So connections are accepted here, and each handshake has
its time and a place: in all, and by remote address, as :class:`osiris_mesh.gateway.http.admission.Admission` has it of
connections. For one too many the oldest is cut, which takes milliseconds where somebody means it.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import socket
import ssl
from collections.abc import Callable
from typing import Final

from osiris_mesh.gateway.http.admission import Admission

__all__ = ["Handshakes"]

_NO_MORE_S: Final = 0.5
"""Seconds until it is tried again where the system gives no more descriptors."""
_log = logging.getLogger(__name__)


class _Handshake:
    """One under way."""

    is_idle = True

    def __init__(self, sock: socket.socket) -> None:
        self._sock = sock
        self.began = False
        self.task: asyncio.Task[None] | None = None

    def cut(self) -> None:
        """End it now."""
        with contextlib.suppress(OSError):
            self._sock.shutdown(socket.SHUT_RDWR)
        if self.task is not None:
            self.task.cancel()


class Handshakes:
    """Accepts TLS connections and hands over those whose handshake is done.

    Args:
        tls: How TLS is spoken.
        protocol: Makes what a connection is handed to.
        most: Handshakes at a time.
        per_address: Returns how many of one remote address may be under way; None: no bound of their own.
        seconds: A handshake has.

    Attributes:
        under_way: Those that are.
    """

    def __init__(
        self,
        tls: ssl.SSLContext,
        protocol: Callable[[], asyncio.BaseProtocol],
        *,
        most: int,
        per_address: Callable[[], int | None],
        seconds: float,
    ) -> None:
        self._tls = tls
        self._protocol = protocol
        self._per_address = per_address
        self._seconds = seconds
        self.under_way = Admission(most)
        self._accepting: list[asyncio.Task[None]] = []
        self._shaking: set[asyncio.Task[None]] = set()

    def accept(self, listening: socket.socket) -> None:
        """Accept connections of a socket from now on; it is closed at the end."""
        self._accepting.append(asyncio.get_running_loop().create_task(self._accept(listening), name="accept TLS"))

    def close(self) -> None:
        """Accept no more, and end the handshakes that are under way; see :meth:`wait_closed`."""
        for task in (*self._accepting, *self._shaking):
            task.cancel()

    async def wait_closed(self) -> None:
        """Wait until all is closed."""
        await asyncio.gather(*self._accepting, *self._shaking, return_exceptions=True)

    async def _accept(self, listening: socket.socket) -> None:
        loop = asyncio.get_running_loop()
        try:
            while True:
                try:
                    sock, where = await loop.sock_accept(listening)
                except ConnectionError:
                    # It went before it was taken.
                    continue
                except OSError as error:
                    _log.warning("no connection can be accepted: %s", error)
                    await asyncio.sleep(_NO_MORE_S)
                    continue
                self._begin(sock, str(where[0]))
        finally:
            listening.close()

    def _begin(self, sock: socket.socket, host: str) -> None:
        each = _Handshake(sock)
        if not self.under_way.enter(each, host, self._per_address()):
            sock.close()
            return
        task = each.task = asyncio.get_running_loop().create_task(self._shake(each, sock), name="TLS handshake")
        self._shaking.add(task)
        task.add_done_callback(lambda done: self._ended(each, sock, done))

    async def _shake(self, each: _Handshake, sock: socket.socket) -> None:
        each.began = True
        try:
            await asyncio.get_running_loop().connect_accepted_socket(
                self._protocol, sock, ssl=self._tls, ssl_handshake_timeout=self._seconds
            )
        except OSError as error:
            # What strangers say at a door is nothing an operator need read.
            _log.debug("a TLS handshake failed: %s", error)
        except Exception:  # noqa: BLE001 - the outermost edge of a handshake's task
            _log.exception("a TLS handshake failed")

    def _ended(self, each: _Handshake, sock: socket.socket, done: asyncio.Task[None]) -> None:
        self.under_way.leave(each)
        self._shaking.discard(done)
        if not each.began:
            # It has no transport that would close it.
            sock.close()
