"""Addresses as multiaddrs: ``/ip4/127.0.0.1/tcp/7411/p2p/12D3KooW…``.

Source: the multiformats multiaddr specification, of which ``ip4``, ``ip6``, ``dns``, ``tcp`` and ``p2p`` are used.
"""

from __future__ import annotations

import ipaddress
import re
from dataclasses import dataclass

from osiris_mesh.errors import UsageError
from osiris_mesh.identity.peer_id import public_key

__all__ = ["Multiaddr", "parse_host_port"]

_HOST_NAME = re.compile(
    r"(?=.{1,253}\Z)[A-Za-z0-9]([A-Za-z0-9-]{0,61}[A-Za-z0-9])?(\.[A-Za-z0-9]([A-Za-z0-9-]{0,61}[A-Za-z0-9])?)*\Z"
)
# One spelling for each address, and no zone that could hold anything but an interface's name.
_IPV6 = re.compile(r"[0-9A-Fa-f:.]{2,45}(%[A-Za-z0-9_.-]{1,15})?\Z")
_PORT = re.compile(r"[0-9]{1,5}\Z")
_EXAMPLE = "an address looks like /ip4/192.0.2.1/tcp/7411/p2p/12D3KooW…"


@dataclass(frozen=True, slots=True)
class Multiaddr:
    """Where a peer's links are accepted.

    Attributes:
        host: IPv4 or IPv6 address, or a host name.
        port: TCP port (the same number serves UDP).
        peer: Peer id that must answer there; empty if unknown (a seed typed by hand).
    """

    host: str
    port: int
    peer: str = ""

    def __str__(self) -> str:
        kind = _kind(self.host)
        tail = f"/p2p/{self.peer}" if self.peer else ""
        return f"/{kind}/{self.host}/tcp/{self.port}{tail}"

    @classmethod
    def parse(cls, text: str) -> Multiaddr:
        """Read a multiaddr, or ``HOST:PORT`` for one whose peer is unknown.

        Raises:
            UsageError: Not such an address.
        """
        if len(text) > 512:
            raise UsageError("an address is longer than 512 letters", fix=_EXAMPLE)
        if not text.startswith("/"):
            host, port = parse_host_port(text)
            if not host:
                raise UsageError(f"{text!r} names no host", fix=_EXAMPLE)
            return cls(host, port)
        parts = text.split("/")[1:]
        peer = ""
        if len(parts) == 6 and parts[4] == "p2p":
            peer = parts[5]
            public_key(peer)
            parts = parts[:4]
        if len(parts) != 4 or parts[2] != "tcp" or parts[0] not in {"ip4", "ip6", "dns", "dns4", "dns6"}:
            raise UsageError(f"{text!r} is not an address", fix=_EXAMPLE)
        host, port = parse_host_port(f"[{parts[1]}]:{parts[3]}" if parts[0] == "ip6" else f"{parts[1]}:{parts[3]}")
        expected = "dns" if parts[0].startswith("dns") else parts[0]
        if not host or _kind(host) != expected:
            raise UsageError(f"{parts[1]!r} is not an {parts[0]} address", fix=_EXAMPLE)
        return cls(host, port, peer)


def _kind(host: str) -> str:
    try:
        return f"ip{ipaddress.ip_address(host).version}"
    except ValueError:
        return "dns"


def parse_host_port(text: str) -> tuple[str, int]:
    """Read ``HOST:PORT``, ``[V6]:PORT`` or ``:PORT`` (host empty); port 0 means any free one.

    Raises:
        UsageError: Not of that form.
    """
    host, colon, port_text = text.rpartition(":")
    # Five digits at most: more are no port, and thousands would be a number int() refuses in its own way.
    if not colon or not _PORT.match(port_text) or int(port_text) > 65_535:
        raise UsageError(f"{text[:300]!r} is not HOST:PORT", fix="for example 127.0.0.1:7411 or [::1]:7411")
    if host.startswith("[") and host.endswith("]"):
        host = host[1:-1]
        try:
            host = str(ipaddress.IPv6Address(host if _IPV6.match(host) else ""))
        except ValueError:
            raise UsageError(f"{host[:300]!r} is not an IPv6 address", fix="for example [::1]:7411") from None
    elif host and _kind(host) == "dns" and not _HOST_NAME.match(host):
        raise UsageError(f"{host!r} is not a host name", fix="for example 127.0.0.1:7411 or [::1]:7411")
    elif _kind(host) == "ip6":
        raise UsageError(f"{text!r}: an IPv6 address stands in brackets", fix="for example [::1]:7411")
    return host, int(port_text)
