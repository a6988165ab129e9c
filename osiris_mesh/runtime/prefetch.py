"""Published bundles onto this node's disk before anybody calls them, so that no other node need live for the call."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterator, Sequence
from typing import Final

from osiris_mesh.clock import Clock
from osiris_mesh.errors import OsirisError
from osiris_mesh.runtime.library import Library

__all__ = ["Prefetch"]

_AT_ONCE: Final = 2
_GATHER_S: Final = 0.2
_AGAIN_S: Final = 60.0
_RETRY_S: Final = 1.0
_RETRY_MAX_S: Final = 30.0
_log = logging.getLogger("osiris.runtime")


class Prefetch:
    """Fetches what is published and not here, a few at a time.

    Args:
        library: This node's.
        wanted: Digests of what is published, the most wanted first.
        clock: Time.
        again_s: After so many seconds it is looked anew at what lies on the disk.
    """

    def __init__(
        self, library: Library, wanted: Callable[[], Sequence[bytes]], clock: Clock, *, again_s: float = _AGAIN_S
    ) -> None:
        self._library = library
        self._wanted = wanted
        self._clock = clock
        self._again_s = again_s
        self._wake = asyncio.Event()
        self._here: frozenset[bytes] = frozenset()
        self._failed: dict[bytes, tuple[float, float]] = {}
        """When to try again, and the pause before that, by digest."""

    def look(self) -> None:
        """Compare with what is published soon."""
        self._wake.set()

    async def run(self) -> None:
        """Work until cancelled."""
        look_again = 0.0
        while True:
            self._wake.clear()
            now = self._clock.monotonic()
            if now >= look_again:
                self._here = frozenset()
                look_again = now + self._again_s
            await self._pass(self._wanted())
            # Blocks come in bursts; one look for all of them.
            await asyncio.sleep(_GATHER_S)
            due = min([look_again, *(when for when, _ in self._failed.values())]) - self._clock.monotonic()
            try:
                async with asyncio.timeout(max(due, 0.0)):
                    await self._wake.wait()
            except TimeoutError:
                pass

    async def _pass(self, wanted: Sequence[bytes]) -> None:
        new = [digest for digest in wanted if digest not in self._here]
        self._failed = {digest: failed for digest, failed in self._failed.items() if digest in set(new)}
        if not new:
            return
        there = await asyncio.to_thread(lambda: frozenset(filter(self._library.has, new)))
        self._here |= there
        now = self._clock.monotonic()
        missing = iter([one for one in new if one not in there and self._failed.get(one, (now, 0.0))[0] <= now])
        async with asyncio.TaskGroup() as group:
            for _ in range(_AT_ONCE):
                # All take from one iterator, so that no digest is fetched twice.
                group.create_task(self._fetch(missing))

    async def _fetch(self, digests: Iterator[bytes]) -> None:
        for digest in digests:
            try:
                await self._library.bundle(digest)
            except (OsirisError, OSError) as error:
                _, pause = self._failed.get(digest, (0.0, _RETRY_S / 2))
                pause = min(pause * 2, _RETRY_MAX_S)
                self._failed[digest] = (self._clock.monotonic() + pause, pause)
                _log.debug("a bundle could not be fetched yet", extra={"digest": digest.hex(), "why": str(error)})
            else:
                self._here |= {digest}
                self._failed.pop(digest, None)
