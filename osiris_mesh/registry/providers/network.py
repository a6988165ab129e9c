"""The guarded way out: a session whose addresses :class:`osiris_mesh.registry.guard.Guard` allows.

They are checked after the name was looked up, and the connection goes to the address that was checked: nobody can
answer differently a second time.
"""

from __future__ import annotations

import socket
import ssl
from typing import Any, Final

import aiohttp
from aiohttp.abc import AbstractResolver, ResolveResult
from aiohttp.resolver import ThreadedResolver

from osiris_mesh.registry.guard import Guard, denied

__all__ = ["GuardedResolver", "open_session"]

_MAX_ADDRESSES: Final = 16


class GuardedResolver(AbstractResolver):
    """Looks names up and keeps only addresses that may be reached.

    Args:
        guard: Decides.
        inner: Looks up.
    """

    def __init__(self, guard: Guard, inner: AbstractResolver) -> None:
        self._guard = guard
        self._inner = inner

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_INET
    ) -> list[ResolveResult]:
        """Return the addresses of a host that may be reached.

        Raises:
            Denied: It has addresses, and one of them may not be: a name with a private address beside a public one
                is an attempt to get in.
        """
        found = (await self._inner.resolve(host, port, family))[:_MAX_ADDRESSES]
        for each in found:
            if reason := self._guard.refusal(each["host"]):
                raise denied(host, reason)
        return found

    async def close(self) -> None:
        """Close what looks up."""
        await self._inner.close()


def open_session(
    guard: Guard,
    *,
    connections: int = 100,
    per_host: int = 16,
    trust: ssl.SSLContext | None = None,
    resolver: AbstractResolver | None = None,
) -> aiohttp.ClientSession:
    """Return a session that asks guarded addresses only, keeps no cookies, knows no proxy and verifies certificates.

    Args:
        guard: Decides about addresses.
        connections: Connections at a time, kept ones included.
        per_host: The same to one host.
        trust: Whose certificates are believed; None: those the system trusts.
        resolver: Looks names up; None: the system.
    """
    connector = aiohttp.TCPConnector(
        limit=connections,
        limit_per_host=per_host,
        resolver=GuardedResolver(guard, resolver or ThreadedResolver()),
        # What was checked once must not live longer than the name's answer may.
        use_dns_cache=False,
        ssl=trust if trust is not None else True,
        keepalive_timeout=30.0,
    )
    more: dict[str, Any] = {"max_line_size": 8190, "max_field_size": 8190}
    return aiohttp.ClientSession(
        connector=connector,
        cookie_jar=aiohttp.DummyCookieJar(),
        trust_env=False,
        auto_decompress=False,
        timeout=aiohttp.ClientTimeout(total=None, connect=None, sock_connect=10.0),
        **more,
    )
