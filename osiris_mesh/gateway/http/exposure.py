"""Where HTTP may be spoken in the clear: a decision alone, made for options and again for a port."""

from __future__ import annotations

import ipaddress

from osiris_mesh.errors import UsageError

__all__ = ["check_exposure", "is_loopback"]


def is_loopback(host: str) -> bool:
    """Say whether what listens at ``host`` can be reached from this machine alone."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def check_exposure(host: str, *, tls: bool, proxied: bool) -> None:
    """Check that what listens at ``host`` does not let bearers travel in the clear.

    Raises:
        UsageError: It would.
    """
    if not (is_loopback(host) or tls or proxied):
        raise UsageError(
            f"HTTP beyond this machine ({host or 'every address'}) takes TLS",
            fix="give --http-cert and --http-key, or --http-proxy if a proxy in front ends TLS, or listen on 127.0.0.1",
        )
