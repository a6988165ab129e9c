"""A bundle onto other nodes before it is published: what is acknowledged must outlive the node that took it."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Collection
from dataclasses import dataclass
from typing import Final, Protocol

from osiris_mesh.codec import pack
from osiris_mesh.errors import OsirisError, Unavailable

__all__ = ["Copies", "Spreading"]

_SECONDS: Final = 20.0
_REST_S: Final = 1.0
_PAUSE_S: Final = 0.25
_log = logging.getLogger("osiris.runtime")


class _Link(Protocol):
    async def call(self, method: str, body: bytes = ..., *, timeout: float | None) -> bytes: ...


class _Links(Protocol):
    async def to(self, peer: str) -> _Link: ...


@dataclass(frozen=True, slots=True)
class Copies:
    """How many nodes have a bundle.

    Attributes:
        have: Nodes that have it on disk, this one included.
        nodes: Nodes that live, this one included.
    """

    have: int
    nodes: int


class Spreading:
    """Has other nodes take bundles of this node's library.

    Args:
        links: This node's links.
        alive: Peer ids of the other nodes that live.
        seconds: How long a majority may take.
        rest_s: How much longer the others may take once a majority has it; they fetch it later anyway.
    """

    def __init__(
        self,
        links: _Links,
        alive: Callable[[], Collection[str]],
        *,
        seconds: float = _SECONDS,
        rest_s: float = _REST_S,
    ) -> None:
        self._links = links
        self._alive = alive
        self._seconds = seconds
        self._rest_s = rest_s

    async def spread(self, digest: bytes) -> Copies:
        """Return once a majority of the nodes that live has a bundle on disk; this node has it already.

        Raises:
            Unavailable: No majority took it in time.
        """
        loop = asyncio.get_running_loop()
        end = loop.time() + self._seconds
        tasks = {
            asyncio.create_task(self._give(peer, digest), name=f"spread to {peer[:16]}"): peer for peer in self._alive()
        }
        pending = set(tasks)
        enough = False
        try:
            while pending and (left := end - loop.time()) > 0:
                # A node may turn out dead meanwhile, and then fewer are a majority.
                _, pending = await asyncio.wait(
                    pending, timeout=min(left, _PAUSE_S), return_when=asyncio.FIRST_COMPLETED
                )
                if not enough and self._enough(self._copies(tasks)):
                    enough = True
                    end = min(end, loop.time() + self._rest_s)
            copies = self._copies(tasks)
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
        if not self._enough(copies):
            raise Unavailable(
                f"only {copies.have} of {copies.nodes} nodes could store the bundle",
                fix="see what is wrong with the others with: osiris-mesh status; then deploy again",
                maybe=False,
            )
        return copies

    def _copies(self, tasks: dict[asyncio.Task[bool], str]) -> Copies:
        alive = set(self._alive())
        took = {peer for task, peer in tasks.items() if task.done() and not task.cancelled() and task.result()}
        return Copies(1 + len(took & alive), 1 + len(alive))

    @staticmethod
    def _enough(copies: Copies) -> bool:
        return copies.have > copies.nodes // 2

    async def _give(self, peer: str, digest: bytes) -> bool:
        """Have one node take it; return whether it did, False once it is no longer alive."""
        while peer in self._alive():
            try:
                async with asyncio.timeout(self._seconds):
                    link = await self._links.to(peer)
                    await link.call("library.take", pack({"digest": digest}), timeout=self._seconds)
            except (OsirisError, TimeoutError) as error:
                _log.debug("a node does not take a bundle yet", extra={"peer": peer, "why": str(error)})
                await asyncio.sleep(_PAUSE_S)
            else:
                return True
        return False
