"""Peers that carry our region's label: asked before any registry, and answered in turn. A shell.

What a peer passes on is the history as its registry's keys signed it; it is verified here with what this node holds
true of the same registry, so a peer can withhold and be old, and forge nothing. The registry is named by its id, since
everybody gives it a name of his own.

Question: the full name as text. Answer: ``[registry id, age in ms, stale, lines]``, or ``nil``.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable, Sequence
from typing import Final

from osiris_mesh.clock import Clock
from osiris_mesh.codec import Limits, pack, unpack, unpack_canonical
from osiris_mesh.errors import OsirisError, RemoteProtocolError
from osiris_mesh.function.name import FunctionName
from osiris_mesh.registry.federation import Answer
from osiris_mesh.registry.memory import Kept
from osiris_mesh.registry.registry_source import RegistrySource
from osiris_mesh.registry.tree import MAX_FILE

__all__ = ["METHOD", "RegionPeers"]

METHOD: Final = "registry.peek"
"""What members ask each other."""
_LIMITS: Final = Limits(size=MAX_FILE + 256, depth=2, count=4)
_MAX_AGE_MS: Final = 1 << 40

Call = Callable[[str, bytes, float], Awaitable[bytes]]
"""Asks a peer: its peer id, the body, monotonic seconds by which it is to answer; raises OsirisError."""


class RegionPeers:
    """Our side of it, both ways.

    Args:
        peers: Members with our label, by peer id; asked on every question, must not block.
        call: Asks one of them :data:`METHOD`.
        sources: Our registries; asked on every question.
        held: What this node holds of a full name: :meth:`osiris_mesh.registry.resolver.Resolver.held`.
        asked: Peers asked about one name.
        clock: Time.
        rng: Draws who is asked.
    """

    def __init__(
        self,
        peers: Callable[[], Sequence[str]],
        call: Call,
        sources: Callable[[], Sequence[RegistrySource]],
        held: Callable[[str], Awaitable[Kept | None]],
        *,
        asked: int,
        clock: Clock,
        rng: random.Random,
    ) -> None:
        self._peers = peers
        self._call = call
        self._sources = sources
        self._held = held
        self._asked = asked
        self._clock = clock
        self._rng = rng

    async def ask(self, name: str, order: Sequence[str], *, deadline: float) -> Answer | None:
        """Return the newest that a few peers hold; see :class:`osiris_mesh.registry.questions.Neighbours`."""
        peers = list(self._peers())
        chosen = self._rng.sample(peers, min(len(peers), self._asked))
        if not chosen:
            return None
        tasks = [asyncio.ensure_future(self._one(peer, name, order, deadline)) for peer in chosen]
        try:
            await asyncio.wait(tasks, timeout=max(deadline - self._clock.monotonic(), 0.0) * 0.9)
            told = [task.result() for task in tasks if task.done()]
        finally:
            for task in tasks:
                task.cancel()
        found = [answer for answer in told if answer is not None and answer.record is not None]
        return max(found, key=lambda item: (item.record.sequence if item.record else 0, -item.age_ms), default=None)

    async def answer(self, body: bytes) -> bytes:
        """Answer a member's question.

        Raises:
            RemoteProtocolError: It is none.
            UsageError: It is no name.
        """
        name = unpack(body, Limits(size=512, depth=1, count=1))
        if type(name) is not str:
            raise RemoteProtocolError("a question about a name is no text")
        kept = await self._held(str(FunctionName.parse(name)))
        source = (
            None if kept is None else next((it for it in self._sources() if it.registry.name == kept.registry), None)
        )
        if kept is None or source is None or not source.registry.trust.registry:
            return pack(None)
        age_ms = min(max(self._clock.time_ms() - kept.said_ms, 0), _MAX_AGE_MS)
        return pack([source.registry.trust.registry, age_ms, kept.stale, kept.data])

    async def _one(self, peer: str, name: str, order: Sequence[str], deadline: float) -> Answer | None:
        try:
            value = unpack_canonical(await self._call(peer, pack(name), deadline), _LIMITS)
            if value is None:
                return None
            if not (isinstance(value, list) and tuple(map(type, value)) == (str, int, bool, bytes)):
                raise RemoteProtocolError("a peer's answer about a name has another form")
            registry_id, age_ms, stale, lines = value
            if not 0 <= age_ms <= _MAX_AGE_MS:
                raise RemoteProtocolError("a peer's answer about a name has an age that is none")
            for source in self._sources():
                if source.registry.trust.registry == registry_id and source.registry.name in order:
                    record, chain, signers = source.verify(name, lines)
                    return Answer(source.registry.name, record, None, stale, age_ms, chain, lines, signers)
        except OsirisError:
            # A peer that lies or is away is one answer less; registries are asked next.
            return None
        return None
