"""Asks a vendor's domain which keys may name functions after it: DNS and HTTPS side by side.

The rules of what is read are in :mod:`osiris_mesh.registry.domain`. Both ways are asked at once and either proves; a
way that fails takes nothing from the other. Neither follows where it is sent: no redirect, no private address.
"""

from __future__ import annotations

import asyncio
import logging
import ssl
from collections.abc import Awaitable, Callable, Sequence
from collections.abc import Set as AbstractSet
from typing import Final

import aiohttp
import dns.asyncresolver
import dns.exception
import dns.resolver
from aiohttp.abc import AbstractResolver

from osiris_mesh.clock import Clock
from osiris_mesh.errors import OsirisError, Unavailable
from osiris_mesh.registry.domain import (
    MAX_DOCUMENT,
    WELL_KNOWN,
    Proof,
    keys_of_document,
    keys_of_texts,
    question,
    vendor_domain,
)
from osiris_mesh.registry.guard import Guard
from osiris_mesh.registry.providers.network import open_session

__all__ = ["DomainFetch", "Texts", "system_texts"]

_SECONDS: Final = 10.0
_MAX_RECORDS: Final = 64
_log = logging.getLogger(__name__)

Texts = Callable[[str], Awaitable[Sequence[bytes]]]
"""Returns the TXT records of a name: each as its strings joined, and each string by itself where there are several."""


def system_texts(resolver: dns.asyncresolver.Resolver | None = None) -> Texts:
    """Return a look-up of TXT records.

    Args:
        resolver: Asks; None: the system's own servers.
    """

    async def texts(name: str) -> Sequence[bytes]:
        asked = resolver if resolver is not None else dns.asyncresolver.Resolver()
        try:
            reply = await asked.resolve(name, "TXT", lifetime=_SECONDS, search=False)
        except (dns.resolver.NXDOMAIN, dns.resolver.NoAnswer):
            return []
        except (dns.exception.DNSException, OSError) as error:
            raise Unavailable(f"the TXT records of {name} could not be asked for: {error}", maybe=False) from None
        found: list[bytes] = []
        for record in list(reply)[:_MAX_RECORDS]:
            found.append(b"".join(record.strings))
            if len(record.strings) > 1:
                found.extend(record.strings)
        return found

    return texts


class DomainFetch:
    """Asks domains.

    Args:
        clock: Time.
        texts: Looks TXT records up.
        guard: Which addresses may be asked; nothing but public ones unless told otherwise.
        trust: Whose certificates are believed; None: those the system trusts.
        resolver: Looks hosts up; None: the system.
        port: Of the well-known file.
    """

    def __init__(
        self,
        clock: Clock,
        texts: Texts,
        *,
        guard: Guard | None = None,
        trust: ssl.SSLContext | None = None,
        resolver: AbstractResolver | None = None,
        port: int = 443,
    ) -> None:
        self._clock = clock
        self._texts = texts
        self._guard = guard or Guard()
        self._trust = trust
        self._resolver = resolver
        self._port = port

    async def ask(self, vendor: str, key: bytes | AbstractSet[bytes] | None = None) -> Proof:
        """Return what a vendor's domain says, by the first way that names ``key`` or, without one, any key.

        Args:
            vendor: The domain.
            key: The public key that is looked for, or several of which any will do.

        Raises:
            UsageError: Not a domain.
            Unavailable: Neither way could be asked, so that nothing is known.
        """
        domain = vendor_domain(vendor)
        wanted = {key} if isinstance(key, bytes) else key
        ways = {
            asyncio.ensure_future(self._by_dns(domain)): "dns",
            asyncio.ensure_future(self._by_file(domain)): "well-known",
        }
        best: Proof | None = None
        failures: list[OsirisError] = []
        try:
            for task in asyncio.as_completed(ways):
                try:
                    proof = await task
                except OsirisError as error:
                    failures.append(error)
                    continue
                if proof.keys and (wanted is None or not wanted.isdisjoint(proof.keys)):
                    return proof
                best = proof if best is None or proof.keys else best
        finally:
            for task in ways:
                task.cancel()
            await asyncio.gather(*ways, return_exceptions=True)
        if best is None:
            raise Unavailable(
                f"{domain} could not be asked for its keys: {'; '.join(error.what for error in failures)}", maybe=False
            )
        return best

    async def _by_dns(self, domain: str) -> Proof:
        return Proof(domain, keys_of_texts(await self._texts(question(domain))), "dns", self._clock.time_ms())

    async def _by_file(self, domain: str) -> Proof:
        self._guard.check_host(domain)
        url = f"https://{domain}:{self._port}{WELL_KNOWN}"
        try:
            async with (
                asyncio.timeout(_SECONDS),
                open_session(self._guard, connections=1, trust=self._trust, resolver=self._resolver) as session,
                session.get(url, allow_redirects=False, headers={"accept-encoding": "identity"}) as answer,
            ):
                if answer.status in {404, 410}:
                    return Proof(domain, (), "well-known", self._clock.time_ms())
                if answer.status != 200:
                    raise Unavailable(f"{url} answers {answer.status}", maybe=False)
                data = await _bounded(answer.content)
        except TimeoutError:
            raise Unavailable(f"{url} did not answer in {_SECONDS:g} s", maybe=False) from None
        except (aiohttp.ClientError, OSError) as error:
            raise Unavailable(f"{url} could not be read: {error}", maybe=False) from None
        return Proof(domain, keys_of_document(data), "well-known", self._clock.time_ms())


async def _bounded(content: aiohttp.StreamReader) -> bytes:
    data = b""
    while chunk := await content.read(MAX_DOCUMENT + 1 - len(data)):
        data += chunk
        if len(data) > MAX_DOCUMENT:
            raise Unavailable(f"the file of keys is longer than {MAX_DOCUMENT} bytes", maybe=False)
    return data
