"""The UDP socket under the membership core.

It shares its port number with the links' TCP listener, so that a member's address is one address. Where UDP can't be
bound or gets no answers, membership goes over links (``gossip.swim``) and is slower, not wrong.
"""

from __future__ import annotations

import asyncio
import ipaddress
import logging
import socket
from collections.abc import Callable, Sequence
from typing import Any, Final

from osiris_mesh.gossip.boxes import Boxes
from osiris_mesh.identity.multiaddr import Multiaddr

__all__ = ["Datagrams"]

_MAX_NAMES: Final = 256
_log = logging.getLogger("osiris.gossip")


class Datagrams(asyncio.DatagramProtocol):
    """One UDP socket: boxes out, opened boxes in. Belongs to one loop.

    Args:
        boxes: Seals and opens.
        addresses: Where a peer's links are accepted; asked until a datagram came from it.
        on_message: Called with the sender's peer id and an authenticated message; must not block or raise.
    """

    def __init__(
        self,
        boxes: Boxes,
        *,
        addresses: Callable[[str], Sequence[Multiaddr]],
        on_message: Callable[[str, bytes], None],
    ) -> None:
        self._boxes = boxes
        self._addresses = addresses
        self._on_message = on_message
        self._transport: asyncio.DatagramTransport | None = None
        self._family = socket.AF_INET
        self._seen: dict[str, tuple[Any, ...]] = {}
        self._names: dict[str, str] = {}
        self._resolving: dict[str, asyncio.Task[None]] = {}
        self.port = 0

    async def bind(self, host: str, port: int) -> bool:
        """Bind the socket; False (and a warning) if the port is taken or the address is not ours.

        Args:
            host: IPv4 or IPv6 address or a name; empty for all IPv4 interfaces.
            port: The links' TCP port; 0 for any free one.
        """
        try:
            transport, _ = await asyncio.get_running_loop().create_datagram_endpoint(
                lambda: self,
                local_addr=(host or "0.0.0.0", port),  # noqa: S104 - what the operator asked for
            )
        except OSError as error:
            _log.warning("no UDP on %s port %d: %s; membership goes over links alone", host, port, error)
            return False
        self._transport = transport
        self.port = int(transport.get_extra_info("sockname")[1])
        self._family = transport.get_extra_info("socket").family
        return True

    def send(self, peer: str, message: bytes) -> bool:
        """Send ``message`` to ``peer``; False if there is no socket or no address to try."""
        if self._transport is None or self._transport.is_closing():
            return False
        target = self._seen.get(peer) or self._target(peer)
        if target is None:
            return False
        datagram = self._boxes.seal(peer, message)
        if datagram is None:
            return False
        try:
            self._transport.sendto(datagram, target)
        except OSError as error:
            _log.debug("no datagram to %s: %s", peer, error)
            return False
        return True

    def forget(self, peer: str) -> None:
        """Drop what was learnt about where ``peer`` is: it may have moved."""
        self._seen.pop(peer, None)
        for address in self._addresses(peer):
            self._names.pop(address.host, None)

    def close(self) -> None:
        """Close the socket."""
        for task in self._resolving.values():
            task.cancel()
        if self._transport is not None:
            self._transport.close()

    def datagram_received(self, data: bytes, addr: tuple[Any, ...]) -> None:
        """Open a datagram and hand its message on."""
        opened = self._boxes.open(data)
        if opened is None:
            return
        peer, message = opened
        # Whoever made this box is, or just was, at that address; network translators included.
        self._seen[peer] = addr
        self._on_message(peer, message)

    def error_received(self, exc: Exception) -> None:
        """An ICMP error to some datagram: no news, the probe that went unanswered says more."""

    def _target(self, peer: str) -> tuple[str, int] | None:
        for address in self._addresses(peer):
            host = self._usable(address.host)
            if host is not None and address.port:
                return host, address.port
        return None

    def _usable(self, host: str) -> str | None:
        """Return ``host`` as an address this socket can send to; a name is resolved aside, for the next time."""
        try:
            version = ipaddress.ip_address(host).version
        except ValueError:
            known = self._names.get(host)
            if known is None and host not in self._resolving and len(self._names) < _MAX_NAMES:
                self._resolving[host] = asyncio.get_running_loop().create_task(self._resolve(host))
            return known
        if self._family == socket.AF_INET6:
            return host if version == 6 else f"::ffff:{host}"
        return host if version == 4 else None

    async def _resolve(self, host: str) -> None:
        try:
            found = await asyncio.get_running_loop().getaddrinfo(
                host, None, family=self._family, type=socket.SOCK_DGRAM, flags=socket.AI_V4MAPPED
            )
            self._names[host] = str(found[0][4][0])
        except OSError as error:
            _log.debug("%s has no address: %s", host, error)
        finally:
            del self._resolving[host]
