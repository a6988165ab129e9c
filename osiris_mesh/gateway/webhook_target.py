"""Where a webhook may go: https anywhere but to addresses that are nobody's server, or http to this machine. A core.

The address is what counts, not the name: it is checked after the name was looked up, and the connection goes to the
address that was checked.
"""

from __future__ import annotations

import ipaddress
import re
from dataclasses import dataclass
from typing import Final
from urllib.parse import urlsplit

from osiris_mesh.errors import UsageError

__all__ = ["MAX_URL", "Target", "refusal"]

MAX_URL: Final = 2048
_MAX_HOST: Final = 253
_LABEL: Final = re.compile(r"[A-Za-z0-9_-]{1,63}\Z", re.ASCII)
_VISIBLE: Final = re.compile(r"[!-~]+\Z")


@dataclass(frozen=True, slots=True)
class Target:
    """One webhook's URL, checked as far as that goes without looking its name up.

    Attributes:
        url: As given.
        secure: https.
        host: Name or address.
        port: TCP port.
    """

    url: str
    secure: bool
    host: str
    port: int

    @classmethod
    def parse(cls, url: str) -> Target:
        """Read a URL.

        Raises:
            UsageError: Not https, nor http to this machine; a name or password in it; a host that is none; too long.
        """
        # The URL is in no message: what is behind its host may be a secret, and messages are logged and published.
        fix = "give an https:// URL, or an http:// one to this machine"
        if len(url) > MAX_URL or not _VISIBLE.match(url):
            raise UsageError(f"a webhook's URL is at most {MAX_URL} visible letters of ASCII", fix=fix)
        try:
            parts = urlsplit(url)
            port = parts.port
        except ValueError:
            raise UsageError("it is not a URL", fix=fix) from None
        host = parts.hostname or ""
        if parts.scheme not in {"https", "http"} or not host:
            raise UsageError("it is not a webhook's URL", fix=fix)
        if parts.username is not None or parts.password is not None:
            raise UsageError("a webhook's URL must not hold a password: everybody can read the ledger", fix=fix)
        if parts.fragment or port == 0:
            raise UsageError("it is not a webhook's URL", fix=fix)
        secure = parts.scheme == "https"
        address = literal(host)
        if address is None and not _is_host(host):
            raise UsageError(f"{host!r} is not a host's name", fix=fix)
        if address is not None:
            reason = refusal(host, secure=secure)
            if reason:
                raise UsageError(reason, fix=fix)
        elif not secure and host != "localhost" and not host.endswith(".localhost"):
            raise UsageError(f"http to {host} would send events in the clear", fix=fix)
        return cls(url, secure, host, port or (443 if secure else 80))


def literal(host: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    """Return the address ``host`` is, or None if it is a name."""
    try:
        return ipaddress.ip_address(host.partition("%")[0])
    except ValueError:
        return None


def refusal(address: str, *, secure: bool) -> str:
    """Say why no webhook may go to this address; empty if it may.

    Args:
        address: What the name was found to mean.
        secure: The URL is https.
    """
    found = literal(address)
    if found is None:
        return f"{address!r} is not an address"
    if isinstance(found, ipaddress.IPv6Address):
        # An IPv4 address in IPv6's clothes is that IPv4 address: ::ffff:a.b.c.d, 64:ff9b::a.b.c.d, 2002:aabb:ccdd::.
        found = found.ipv4_mapped or found.sixtofour or _translated(found) or found
    if found.is_loopback:
        return ""
    if not secure:
        return f"{address} is not this machine, and http would send events in the clear"
    if found.is_link_local or found.is_multicast or found.is_unspecified or found.is_reserved:
        return f"{address} is no address for a webhook"
    return ""


_TRANSLATION: Final = ipaddress.IPv6Network("64:ff9b::/96")


def _translated(address: ipaddress.IPv6Address) -> ipaddress.IPv4Address | None:
    return ipaddress.IPv4Address(int(address) & 0xFFFFFFFF) if address in _TRANSLATION else None


def _is_host(host: str) -> bool:
    """Say whether ``host`` can be a host's name; label by label, so that no text takes long."""
    if not 0 < len(host) <= _MAX_HOST or not host[0].isalnum():
        return False
    return all(_LABEL.match(label) for label in host.removesuffix(".").split("."))
