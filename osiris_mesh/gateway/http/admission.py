"""Which connections are let in: bounds in all and by remote address. Decisions alone.

A connection is *known* once it has shown a bearer this mesh knows. Where all places are taken, the oldest connection
that is idle and not known is closed for the new one, so that who only connects, or only asks for what is public, shuts
out nobody. Where there is none, of the known ones that are idle the one whose last request is longest ago, so that one
bearer with many connections keeps no other out; a client takes that as any server's end of an idle connection. Where
there is none either, the new one is refused. One address has a bound of its own, kept in the same way among its own
connections: on a machine that many use all come from one.
"""

from __future__ import annotations

import ipaddress
from collections import Counter
from functools import lru_cache
from itertools import chain
from typing import Final, Protocol

__all__ = ["Admission", "Visitor", "network_of"]

_SITE_BITS: Final = 64


class Visitor(Protocol):
    """A connection."""

    @property
    def is_idle(self) -> bool:
        """Whether no request of it is under way."""
        ...

    def cut(self) -> None:
        """Close it now."""
        ...


@lru_cache(maxsize=1024)
def network_of(host: str) -> str:
    """Return what counts as one remote address: an IPv4 address, or an IPv6 one's /64, which one host has whole."""
    try:
        address = ipaddress.ip_address(host.partition("%")[0])
    except ValueError:
        return host
    if isinstance(address, ipaddress.IPv6Address):
        if address.ipv4_mapped is not None:
            return str(address.ipv4_mapped)
        if not address.is_loopback:
            return str(ipaddress.IPv6Network((address, _SITE_BITS), strict=False))
    return str(address)


class Admission:
    """The connections there are.

    Args:
        most: Connections at a time.
    """

    def __init__(self, most: int) -> None:
        self._most = most
        self._networks: dict[Visitor, str] = {}
        self._counts: Counter[str] = Counter()
        # In the order they came.
        self._unknown: dict[Visitor, None] = {}
        # In the order of their last requests.
        self._known: dict[Visitor, None] = {}

    def __len__(self) -> int:
        return len(self._networks)

    def enter(self, visitor: Visitor, host: str, per_address: int | None) -> bool:
        """Say whether a connection is let in; another one may be closed for it.

        Args:
            visitor: The connection.
            host: Its remote address; empty if there is none.
            per_address: Connections from one address at a time; None: no bound.
        """
        network = network_of(host)
        if per_address is not None and host and self._counts[network] >= per_address:
            if not self._make_room(network):
                return False
        elif len(self._networks) >= self._most and not self._make_room():
            return False
        self._networks[visitor] = network
        self._counts[network] += 1
        self._unknown[visitor] = None
        return True

    def _make_room(self, network: str = "") -> bool:
        """Close an idle connection, of one address if it is given, one not known first; False: there is none."""
        for each in chain(self._unknown, self._known):
            if each.is_idle and network in {"", self._networks[each]}:
                self.leave(each)
                each.cut()
                return True
        return False

    def known(self, visitor: Visitor) -> None:
        """Note that a connection has shown a bearer this mesh knows, now."""
        self._unknown.pop(visitor, None)
        self._known.pop(visitor, None)
        if visitor in self._networks:
            self._known[visitor] = None

    def leave(self, visitor: Visitor) -> None:
        """Note that a connection ended."""
        network = self._networks.pop(visitor, None)
        self._unknown.pop(visitor, None)
        self._known.pop(visitor, None)
        if network is not None:
            self._counts[network] -= 1
            if not self._counts[network]:
                del self._counts[network]
