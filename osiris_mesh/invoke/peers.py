"""The other nodes, as :class:`osiris_mesh.invoke.ports.Peers` wants them: links to call, figures to choose by."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterator, Mapping
from typing import Any, Final, Protocol

from osiris_mesh.errors import Unavailable
from osiris_mesh.gossip.load import FunctionLoad, Load
from osiris_mesh.invoke.choice import Candidate

__all__ = ["LinkPeers"]

_DIAL_S: Final = 2.0
"""Seconds a call waits for a link that is not there yet, before another node gets its chance."""
_NOTHING: Final = FunctionLoad(instances=0)


class _Link(Protocol):
    def call(
        self, method: str, body: bytes = b"", *, timeout: float | None, headers: Mapping[str, Any] | None = None
    ) -> Awaitable[bytes]: ...


class _Links(Protocol):
    def get(self, peer: str) -> _Link | None: ...
    async def to(self, peer: str) -> _Link: ...


class _Loads(Protocol):
    def __iter__(self) -> Iterator[str]: ...
    def get(self, peer: str) -> Load | None: ...


class LinkPeers:
    """Other nodes over :class:`osiris_mesh.link.Links`.

    Args:
        me: Peer id of this node, which is no candidate.
        links: Links to peers.
        loads: The newest load of each node that published one: a :class:`osiris_mesh.gossip.load.LoadTable`.
        alive: Whether gossip believes a peer alive.
    """

    def __init__(self, me: str, links: _Links, loads: _Loads, alive: Callable[[str], bool]) -> None:
        self._me = me
        self._links = links
        self._loads = loads
        self._alive = alive

    def candidates(self, digest: bytes) -> list[Candidate]:
        """Return the live nodes but this one, with their load for the function whose bundle has this digest."""
        found: list[Candidate] = []
        for peer in self._loads:
            load = self._loads.get(peer)
            if load is None or peer == self._me or not self._alive(peer):
                continue
            one = load.functions.get(digest, _NOTHING)
            found.append(Candidate(peer, one.instances, one.in_flight, one.queued, load.cpu, load.room))
        return found

    async def call(self, peer: str, method: str, body: bytes, *, timeout: float, headers: dict[str, Any]) -> bytes:
        """Call a method of another node.

        Raises:
            Unavailable: ``maybe`` is False when there was no link to send it over.
            OsirisError: What the other node answered.
        """
        link = self._links.get(peer)
        if link is None:
            began = asyncio.get_running_loop().time()
            try:
                async with asyncio.timeout(min(timeout, _DIAL_S)):
                    link = await self._links.to(peer)
            except TimeoutError:
                raise Unavailable(f"no link to {peer} came about in time", maybe=False) from None
            timeout -= asyncio.get_running_loop().time() - began
        return await link.call(method, body, timeout=timeout, headers=headers)
