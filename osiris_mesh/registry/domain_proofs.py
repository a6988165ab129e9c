"""What the domains of one registry's vendors prove: asked when needed, kept for a day, within a budget. A shell.

A registry decides which vendors it lists, so it could make every reader ask ten thousand domains of its choice. Asking
has a budget for each registry, a small one for what is merely listed and another for names somebody looks up; a domain
that does not answer, or names other keys, is left alone for longer each time. A proof is asked for anew when a fifth of
its time is left, and holds until its end whatever becomes of that, so that an outage of DNS takes no name away.
"""

from __future__ import annotations

import asyncio
import logging
from collections import OrderedDict
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Final, Protocol

from osiris_mesh.clock import Clock
from osiris_mesh.errors import OsirisError
from osiris_mesh.registry.domain import Proof

__all__ = ["PROVEN_MS", "RENEW_MS", "DomainProofs", "Domains", "Proven"]

PROVEN_MS: Final = 24 * 3_600_000
"""For so long a proof holds."""
RENEW_MS: Final = PROVEN_MS // 5
"""It is asked for anew when no more than this is left of it."""
WAIT_S: Final = 5.0
"""Who looks a name up waits so long for its vendor's domain; the asking goes on without him."""
_KNOWN: Final = 4096
_WAITING: Final = 64
_AT_ONCE: Final = 4
_AGAIN_S: Final = 60.0
_LONGEST_S: Final = 3600.0
_LISTED: Final = (16.0, 1 / 60)
_WANTED: Final = (32.0, 1 / 5)
_log = logging.getLogger("osiris.registry")

Ask = Callable[[str, frozenset[bytes]], Awaitable[Proof]]
"""Asks a vendor's domain, for these keys: :meth:`osiris_mesh.registry.domain_fetch.DomainFetch.ask`."""


@dataclass(frozen=True, slots=True)
class Proven:
    """What a domain proved.

    Attributes:
        keys: Public keys, ascending.
        until_ms: When the proof ends.
    """

    keys: tuple[bytes, ...]
    until_ms: int


class Domains(Protocol):
    """What a tree asks about its vendors' domains."""

    def want(self, vendor: str, keys: frozenset[bytes]) -> Proven | None:
        """Return what is known, and have the domain asked if that is nothing, or ends soon; never waits."""
        ...

    async def prove(self, vendor: str, keys: frozenset[bytes]) -> Proven | None:
        """Return what a domain proves; None: nothing, or it could not be asked in time, or not now."""
        ...

    def take_news(self) -> frozenset[str]:
        """Return the vendors that were proven since this was last called."""
        ...


@dataclass(slots=True)
class _Vendor:
    proven: Proven | None = None
    failures: int = 0
    not_before: float = 0.0


class _Budget:
    """Tokens: so many at once, so many a second."""

    def __init__(self, most: float, rate: float, now: float) -> None:
        self._most, self._rate = most, rate
        self._left, self._at = most, now

    def take(self, now: float) -> bool:
        self._left = min(self._most, self._left + (now - self._at) * self._rate)
        self._at = now
        if self._left < 1:
            return False
        self._left -= 1
        return True


class DomainProofs:
    """Domains as one registry's vendors; belongs to a loop. :meth:`close` it.

    Args:
        ask: Asks a domain.
        clock: Time.
        on_proof: Called when a vendor was proven that was not.
    """

    def __init__(self, ask: Ask, clock: Clock, on_proof: Callable[[], None] = lambda: None) -> None:
        self._ask = ask
        self._clock = clock
        self._on_proof = on_proof
        self._vendors: OrderedDict[str, _Vendor] = OrderedDict()
        self._asking: dict[str, asyncio.Task[None]] = {}
        self._slots = asyncio.Semaphore(_AT_ONCE)
        now = clock.monotonic()
        self._listed, self._wanted = _Budget(*_LISTED, now), _Budget(*_WANTED, now)
        self._news: set[str] = set()
        self.asked = 0
        """Domains asked so far."""

    def want(self, vendor: str, keys: frozenset[bytes]) -> Proven | None:
        """See :class:`Domains`."""
        self._begin(vendor, keys, self._listed)
        return self._now(vendor)

    async def prove(self, vendor: str, keys: frozenset[bytes]) -> Proven | None:
        """See :class:`Domains`."""
        known = self._now(vendor)
        task = self._begin(vendor, keys, self._wanted)
        if known is None and task is not None:
            await asyncio.wait([task], timeout=WAIT_S)
        return self._now(vendor)

    def take_news(self) -> frozenset[str]:
        """See :class:`Domains`."""
        news = frozenset(self._news)
        self._news.clear()
        return news

    async def close(self) -> None:
        """End all asking."""
        tasks = list(self._asking.values())
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def _now(self, vendor: str) -> Proven | None:
        known = self._vendors.get(vendor)
        proven = known.proven if known is not None else None
        return proven if proven is not None and self._clock.time_ms() < proven.until_ms else None

    def _begin(self, vendor: str, keys: frozenset[bytes], budget: _Budget) -> asyncio.Task[None] | None:
        """Have a domain asked, unless that is needless or not allowed now; return what asks it."""
        task = self._asking.get(vendor)
        if task is not None:
            return task
        known, now = self._vendors.get(vendor), self._clock.monotonic()
        if known is not None:
            if known.proven is not None and self._clock.time_ms() < known.proven.until_ms - RENEW_MS:
                return None
            if now < known.not_before:
                return None
        if len(self._asking) >= _WAITING or not budget.take(now):
            return None
        task = asyncio.get_running_loop().create_task(self._one(vendor, keys), name=f"domain {vendor}")
        self._asking[vendor] = task
        task.add_done_callback(lambda _task: self._asking.pop(vendor, None))
        return task

    async def _one(self, vendor: str, keys: frozenset[bytes]) -> None:
        proof: Proof | None = None
        async with self._slots:
            self.asked += 1
            try:
                proof = await self._ask(vendor, keys)
            except OsirisError as error:
                _log.info("domain_not_asked", extra={"vendor": vendor, "error": str(error)})
            except Exception:  # noqa: BLE001 - a defect met at one domain must not end the asking of others
                _log.exception("domain_defect", extra={"vendor": vendor})
        known = self._vendors.setdefault(vendor, _Vendor())
        self._vendors.move_to_end(vendor)
        while len(self._vendors) > _KNOWN:
            self._vendors.popitem(last=False)
        if proof is not None and not keys.isdisjoint(proof.keys):
            known.proven = Proven(proof.keys, self._clock.time_ms() + PROVEN_MS)
            known.failures, known.not_before = 0, 0.0
            self._news.add(vendor)
            self._on_proof()
            return
        known.failures += 1
        pause = min(_AGAIN_S * 2.0 ** min(known.failures - 1, 16), _LONGEST_S)
        known.not_before = self._clock.monotonic() + pause
