"""Where a provider answers, as DNS can tell it. A core."""

from __future__ import annotations

import ipaddress
from typing import Final
from urllib.parse import urlsplit

from osiris_mesh.registry.record import Provider

__all__ = ["place_of"]

_PORTS: Final = {"https": 443, "http": 80, "mcp": 443}


def place_of(provider: Provider) -> tuple[str, int, int] | None:
    """Return host, port and weight of a provider; None for one without a host's name: a mesh, a market, an address.

    What a service record names must be a name (RFC 2782).
    """
    parts = urlsplit(provider.endpoint)
    port = _PORTS.get(parts.scheme)
    if port is None or not parts.hostname or _is_address(parts.hostname):
        return None
    return parts.hostname, parts.port or port, provider.weight


def _is_address(host: str) -> bool:
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True
