"""Which addresses may be asked that a record, a domain or a redirect names. A core.

A record is signed by strangers, so what it names must not become a way into this machine's own network. Addresses are
refused unless they are global; the mesh's setting ``registry.allow_networks`` names networks that are allowed all the
same.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Sequence
from typing import Final

from osiris_mesh.errors import Denied, UsageError

__all__ = ["Guard", "denied"]

Address = ipaddress.IPv4Address | ipaddress.IPv6Address
Network = ipaddress.IPv4Network | ipaddress.IPv6Network

_TRANSLATION: Final = ipaddress.IPv6Network("64:ff9b::/96")
_SITE: Final = ipaddress.IPv6Network("fec0::/10")
"""Private networks as they were before RFC 3879, which the standard library takes for global."""
_METADATA: Final = frozenset(map(ipaddress.ip_address, ("169.254.169.254", "fd00:ec2::254", "100.100.100.200")))
_LOOPBACK: Final = (ipaddress.ip_network("127.0.0.0/8"), ipaddress.ip_network("::1/128"))


class Guard:
    """Decides about addresses.

    Args:
        allow: Networks in CIDR form that may be reached though they are not global; ``loopback`` is this machine.

    Raises:
        UsageError: One is no network.
    """

    def __init__(self, allow: Sequence[str] = ()) -> None:
        found: list[Network] = []
        for text in allow:
            if text == "loopback":
                found.extend(_LOOPBACK)
                continue
            try:
                found.append(ipaddress.ip_network(text, strict=False))
            except ValueError:
                raise UsageError(
                    f"{text[:60]!r} is not a network", fix="write it like 10.0.0.0/8, or loopback"
                ) from None
        self._allow = tuple(found)

    def refusal(self, text: str) -> str:
        """Say why an address may not be reached; empty if it may."""
        try:
            address = ipaddress.ip_address(text.partition("%")[0])
        except ValueError:
            return f"{text[:60]!r} is not an address"
        inner = _inner(address)
        if inner in _METADATA and not any(
            inner == each.network_address and each.num_addresses == 1 for each in self._allow
        ):
            # A network that was allowed as a whole does not mean the cloud's own keys.
            return f"{text} answers with the machine's own cloud credentials"
        if any(inner in network for network in self._allow if network.version == inner.version):
            return ""
        if inner.is_global and not (inner.is_multicast or inner.is_reserved or inner in _SITE):
            return ""
        return f"{text} is not a public address"

    def check_host(self, host: str) -> None:
        """Check a host that may be an address already; a name is checked when it is looked up.

        Raises:
            Denied: It is an address that may not be reached.
        """
        try:
            ipaddress.ip_address(host.partition("%")[0])
        except ValueError:
            return
        if reason := self.refusal(host):
            raise denied(host, reason)


def denied(host: str, reason: str) -> Denied:
    """Return the error for a host that may not be reached."""
    return Denied(
        f"{host[:200]} may not be asked: {reason}",
        fix="an operator allows a network with: osiris-mesh config set registry.allow_networks NETWORK",
        rule="address",
        maybe=False,
    )


def _inner(address: Address) -> Address:
    """Return the IPv4 address that an IPv6 one only dresses up, or the address itself."""
    if isinstance(address, ipaddress.IPv4Address):
        return address
    if address in _TRANSLATION:
        return ipaddress.IPv4Address(int(address) & 0xFFFFFFFF)
    teredo = address.teredo
    return address.ipv4_mapped or address.sixtofour or (teredo[1] if teredo else None) or address
