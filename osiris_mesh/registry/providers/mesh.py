"""``mesh://``: another node of this mesh, or another mesh.

=========================  ==================================================================================
``mesh://PEER-ID``         a member of this mesh, over the node's own links
the same, with a token     a member of another mesh: the credential is a client token ``osm1…`` of that mesh
``mesh://HOST[:PORT]``     another mesh, through a gateway of it: the credential is an API token ``osa1…``
=========================  ==================================================================================

Over a link arguments and result travel packed, so every value survives; through a gateway they are JSON.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any, Final, Protocol
from urllib.parse import urlsplit

import msgspec

from osiris_mesh.clock import Clock
from osiris_mesh.codec import VALUE, pack, unpack
from osiris_mesh.errors import OsirisError, Unavailable, UsageError
from osiris_mesh.identity.multiaddr import Multiaddr
from osiris_mesh.identity.peer_id import public_key
from osiris_mesh.identity.token import Token
from osiris_mesh.link import connect_tcp
from osiris_mesh.link.hello import Hello
from osiris_mesh.registry import context
from osiris_mesh.registry.providers.credentials import NONE, Credentials
from osiris_mesh.registry.providers.endpoint import Discovery, left
from osiris_mesh.registry.providers.https import HttpsEndpoint
from osiris_mesh.registry.record import Provider

__all__ = ["LinkLike", "LinksLike", "MeshEndpoint"]

_CALL_SECONDS: Final = 300.0
_PROBE_SECONDS: Final = 5.0
_DIAL_SECONDS: Final = 5.0
_MAX_DIALS: Final = 4
_MAX_LINKS: Final = 64
_TOKEN: Final = "osm1"  # noqa: S105 - how a client token begins
_PASSED: Final = ("traceparent", context.HEADER)


class LinkLike(Protocol):
    """What is used of a link."""

    @property
    def closed(self) -> bool:
        """Nothing goes over it any more."""
        ...

    def call(
        self, method: str, body: bytes = b"", *, timeout: float | None, headers: Mapping[str, Any] | None = None
    ) -> Awaitable[bytes]:
        """Call a method of the peer."""
        ...

    def ping(self, *, timeout: float) -> Awaitable[Any]:
        """Wait for an answer of the peer."""
        ...

    def close(self) -> Awaitable[None]:
        """Close it."""
        ...


class LinksLike(Protocol):
    """The node's own links; :class:`osiris_mesh.link.links.Links` is one."""

    async def to(self, peer: str) -> LinkLike:
        """Return the live link to a member, or dial; Unavailable."""
        ...


Dial = Callable[[Multiaddr, Token], Awaitable[LinkLike]]


class MeshEndpoint:
    """Asks ``mesh://`` providers.

    Args:
        links: This node's links.
        https: Asks gateways.
        clock: Time.
        credentials: Tokens of other meshes.
        rng: Draws between members of another mesh.
        dial: Makes a link with a client token; None: over TCP.
    """

    def __init__(
        self,
        links: LinksLike,
        https: HttpsEndpoint,
        clock: Clock,
        credentials: Credentials = NONE,
        *,
        rng: random.Random,
        dial: Dial | None = None,
    ) -> None:
        self._links = links
        self._https = https
        self._clock = clock
        self._credentials = credentials
        self._rng = rng
        self._dial = dial or self._connect
        self._others: dict[str, LinkLike] = {}
        self._dialling = asyncio.Lock()

    async def call(
        self,
        provider: Provider,
        name: str,
        args: Sequence[Any],
        kwargs: Mapping[str, Any],
        *,
        deadline: float | None,
        headers: Mapping[str, Any],
    ) -> Any:
        """Call a function; see :meth:`osiris_mesh.registry.providers.endpoint.Endpoint.call`."""
        if _peer(provider.endpoint) is None:
            asked = _through_gateway(provider)
            return await self._https.call(asked, name, args, kwargs, deadline=deadline, headers=headers)
        seconds = left(self._clock, deadline, _CALL_SECONDS)
        ends = self._clock.monotonic() + seconds
        link = await self._link(provider, name)
        told: dict[str, Any] = {"name": provider.reference or name}
        if headers.get("idempotent") is True:
            told["idempotent"] = True
        depth = headers.get("depth")
        if type(depth) is int:
            told["depth"] = depth
        told |= {key: headers[key] for key in _PASSED if type(headers.get(key)) is str}
        body = pack([list(args), dict(kwargs)])
        return unpack(await link.call("call", body, timeout=left(self._clock, ends, seconds), headers=told), VALUE)

    async def probe(self, provider: Provider, *, deadline: float | None = None) -> None:
        """Find out whether the peer, or the gateway, answers."""
        if _peer(provider.endpoint) is None:
            await self._https.probe(_through_gateway(provider), deadline=deadline)
            return
        seconds = left(self._clock, deadline, _PROBE_SECONDS)
        await (await self._link(provider, None)).ping(timeout=seconds)

    async def discover(self, endpoint: str, *, deadline: float | None = None) -> Discovery:
        """Refuse: what a mesh offers is in its registry, signed already.

        Raises:
            UsageError: Always.
        """
        del deadline
        raise UsageError(
            f"{endpoint[:200]} is a mesh, whose functions need no discovery",
            fix="add its registry: osiris-mesh registry add https://HOST/v1/registry",
        )

    async def close(self) -> None:
        """Close the links to other meshes; this node's own stay."""
        links, self._others = list(self._others.values()), {}
        for link in links:
            await link.close()

    async def _link(self, provider: Provider, name: str | None) -> LinkLike:
        peer = _peer(provider.endpoint)
        assert peer is not None  # noqa: S101 - asked before
        secret = self._credentials.value(provider.id, provider.endpoint, name)
        if not secret.startswith(_TOKEN):
            return await self._links.to(peer)
        async with self._dialling:
            link = self._others.get(provider.id)
            if link is None or link.closed:
                if len(self._others) >= _MAX_LINKS:
                    await self._others.pop(next(iter(self._others))).close()
                link = self._others[provider.id] = await self._join(Token.parse(secret), peer)
            return link

    async def _join(self, token: Token, peer: str) -> LinkLike:
        """Return a link to the peer that is meant if the token names it, or else to any member it names."""
        members = self._rng.sample(token.members, min(len(token.members), _MAX_DIALS))
        members.sort(key=lambda address: not str(address).endswith(f"/p2p/{peer}"))
        last: OsirisError = Unavailable("the token names no member", fix="enter a newer token", maybe=False)
        for address in members:
            try:
                return await self._dial(address, token)
            except OsirisError as error:
                last = error
        last.details["maybe"] = False
        raise last

    async def _connect(self, address: Multiaddr, token: Token) -> LinkLike:
        hello = Hello(token.mesh_id, role="client", serial=self._clock.time_ms() * 1000)
        return await connect_tcp(address, token.key, token.network_key, hello, timeout=_DIAL_SECONDS)


def _peer(endpoint: str) -> str | None:
    """Return the peer id an endpoint names; None if it names a host."""
    host = urlsplit(endpoint).netloc
    try:
        public_key(host)
    except OsirisError:
        return None
    return host


def _through_gateway(provider: Provider) -> Provider:
    parts = urlsplit(provider.endpoint)
    base = parts.path.rstrip("/")
    url = parts._replace(scheme="https", path=f"{base}/v1/call/{{name}}", query="").geturl()
    return msgspec.structs.replace(provider, endpoint=url)
