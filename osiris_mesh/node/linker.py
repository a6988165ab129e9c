"""Keeps one link to every other node of the mesh, redialling with growing pauses."""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import Callable, Iterable
from typing import Final

from osiris_mesh.clock import Clock
from osiris_mesh.errors import OsirisError
from osiris_mesh.link import Links

__all__ = ["Linker"]

_FIRST_PAUSE: Final = 0.2
_LONGEST_PAUSE: Final = 5.0
_LOOK_SECONDS: Final = 1.0
_AT_ONCE: Final = 16
_log = logging.getLogger(__name__)


class Linker:
    """Dials members that have no link.

    Args:
        links: The node's links.
        wanted: Peer ids of the other nodes, asked anew each round.
        clock: Tells when a pause is over.
        rng: Spreads the pauses, so that nodes which lost each other do not dial in step.
    """

    def __init__(self, links: Links, wanted: Callable[[], Iterable[str]], clock: Clock, rng: random.Random) -> None:
        self._links = links
        self._wanted = wanted
        self._clock = clock
        self._rng = rng
        self._wake = asyncio.Event()
        self._next: dict[str, float] = {}
        self._pause: dict[str, float] = {}
        self._dialling: dict[str, asyncio.Task[None]] = {}

    def look(self) -> None:
        """Look again soon: a member was added, or a link was lost."""
        self._wake.set()

    async def run(self) -> None:
        """Work until cancelled."""
        try:
            while True:
                self._round()
                try:
                    async with asyncio.timeout(_LOOK_SECONDS):
                        await self._wake.wait()
                except TimeoutError:
                    pass
                self._wake.clear()
        finally:
            tasks = list(self._dialling.values())
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    def _round(self) -> None:
        now = self._clock.monotonic()
        wanted = set(self._wanted())
        for peer in [peer for peer in self._pause if peer not in wanted]:
            del self._pause[peer], self._next[peer]
        for peer in wanted:
            if len(self._dialling) >= _AT_ONCE:
                return
            if peer in self._dialling or self._links.get(peer) is not None or now < self._next.get(peer, 0.0):
                continue
            self._dialling[peer] = asyncio.get_running_loop().create_task(self._dial(peer), name=f"dial {peer}")

    async def _dial(self, peer: str) -> None:
        try:
            await self._links.to(peer)
        except (OsirisError, OSError) as error:
            pause = min(self._pause.get(peer, _FIRST_PAUSE / 2) * 2, _LONGEST_PAUSE)
            self._pause[peer] = pause
            self._next[peer] = self._clock.monotonic() + pause * self._rng.uniform(0.75, 1.25)
            _log.debug("no link to %s: %s", peer, error)
        else:
            self._pause.pop(peer, None)
            self._next.pop(peer, None)
        finally:
            self._dialling.pop(peer, None)
