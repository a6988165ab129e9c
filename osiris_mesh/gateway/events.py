"""Named events of this node and its mesh: one bus, a bounded history, readers that never hold up who publishes.

An event is *of the mesh* when every node notices it (a node is lost, a version is deployed), *of the node* when only
this one does. The bus makes no difference; webhooks do, so that an event of the mesh is delivered once.

A reader has a bounded queue. Who is too slow is cut, with an error that says so, and may begin again after the last
sequence number he has seen as long as the history reaches back that far.
"""

from __future__ import annotations

import asyncio
import re
from collections import Counter, deque
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from types import TracebackType
from typing import Any, Final

from osiris_mesh.clock import Clock
from osiris_mesh.errors import Overloaded, UsageError

__all__ = ["EVENTS", "HISTORY", "MAX_READERS", "Bus", "Event", "Kind", "Reader", "check_patterns", "matches"]

HISTORY: Final = 1000
"""Events remembered."""
MAX_READERS: Final = 256
"""Readers at a time."""
_QUEUE: Final = 256
_MAX_PATTERNS: Final = 32
_PATTERN: Final = re.compile(r"[a-z_*]{1,32}(?:\.[a-z_*]{1,32}){0,3}\Z")


@dataclass(frozen=True, slots=True)
class Kind:
    """What an event's name means.

    Attributes:
        scope: ``mesh``: every node notices it; ``node``: only the one it happened on.
        means: One sentence.
        fields: Names of its fields.
    """

    scope: str
    means: str
    fields: tuple[str, ...]


EVENTS: Final[Mapping[str, Kind]] = {
    "node.lost": Kind("mesh", "A member stopped answering and was declared dead.", ("peer", "node")),
    "node.back": Kind("mesh", "A member that was lost answers again.", ("peer", "node")),
    "quorum.lost": Kind("node", "No leader with a majority is known here: writes are refused.", ("term",)),
    "quorum.back": Kind("node", "Writes are possible here again.", ("leader", "term", "seconds")),
    "leader.changed": Kind("mesh", "Another voter leads.", ("leader", "before", "term")),
    "member.added": Kind("mesh", "A node or a client became a member.", ("peer", "node", "role", "height")),
    "member.removed": Kind("mesh", "A member was removed, or left.", ("peer", "node", "height")),
    "deploy.done": Kind(
        "mesh", "Another version of a function became active.", ("function", "version", "before", "author", "height")
    ),
    "deploy.failed": Kind(
        "node",
        "A deployment sent to this node failed; the version before stays.",
        ("function", "version", "code", "why"),
    ),
    "function.error_rate": Kind(
        "node", "A rule on a function's error rate fired.", ("function", "value", "alert", "rule")
    ),
    "function.started": Kind(
        "node", "The first instance of a version runs here.", ("function", "version", "instances")
    ),
    "function.stopped": Kind("node", "The last instance of a version ended here.", ("function", "version")),
    "queue.full": Kind(
        "node", "Calls were refused because too many wait; at most once a minute a function.", ("function", "refused")
    ),
    "setting.unreadable": Kind(
        "node",
        "A setting has a value this node can't read; what holds instead is the default, or what allows least.",
        ("key", "why", "holds"),
    ),
    "registry.refused": Kind(
        "node",
        "A registry said what is not believed; the evidence is kept.",
        ("registry", "reason", "about", "what"),
    ),
    "registry.stale_soon": Kind(
        "node", "A registry's checkpoint ends soon and nobody has renewed it; once a day.", ("registry", "hours", "fix")
    ),
    "provider.down": Kind("node", "A provider did not answer and is left alone.", ("provider", "endpoint")),
    "provider.up": Kind("node", "A provider that was left alone answers again.", ("provider", "endpoint")),
    "alert.firing": Kind("node", "An alert rule holds.", ("alert", "rule", "figure", "subject", "value")),
    "alert.resolved": Kind(
        "node", "An alert rule that fired holds no longer.", ("alert", "rule", "figure", "subject", "seconds")
    ),
}
"""Every event there is; docs/events.md lists them."""


@dataclass(frozen=True, slots=True)
class Event:
    """Something that happened.

    Attributes:
        name: One of :data:`EVENTS`.
        fields: JSON types.
        sequence: Counts up on this node since its controller started; 0 before it was published.
        time_ms: Wall clock of this node, milliseconds.

    Raises:
        UsageError: No event has that name.
    """

    name: str
    fields: Mapping[str, Any] = field(default_factory=dict)
    sequence: int = 0
    time_ms: int = 0

    def __post_init__(self) -> None:
        if self.name not in EVENTS:
            raise UsageError(f"no event is called {self.name!r}", fix="docs/events.md lists them")

    @property
    def mesh(self) -> bool:
        """Whether every node notices it."""
        return EVENTS[self.name].scope == "mesh"

    @property
    def function(self) -> str:
        """Full name of the function it is about; empty: about none, or about this node."""
        # What an alert is about is a function, or nothing.
        return str(self.fields.get("function") or self.fields.get("subject") or "")

    def to_json(self) -> dict[str, Any]:
        """Return it as a map of JSON types."""
        return {"name": self.name, "sequence": self.sequence, "time_ms": self.time_ms, "fields": dict(self.fields)}


def check_patterns(patterns: Sequence[str]) -> tuple[str, ...]:
    """Return patterns of event names: names in which ``*`` stands for any part.

    Raises:
        UsageError: None, too many, or one that no event's name matches.
    """
    if not 1 <= len(patterns) <= _MAX_PATTERNS:
        raise UsageError(f"1 to {_MAX_PATTERNS} event names or patterns are needed, not {len(patterns)}")
    for pattern in patterns:
        if not _PATTERN.match(pattern) or not any(matches((pattern,), name) for name in EVENTS):
            raise UsageError(
                f"no event's name matches {pattern!r}", fix=f"use * or some of: {', '.join(sorted(EVENTS))}"
            )
    return tuple(patterns)


def matches(patterns: Sequence[str], name: str) -> bool:
    """Say whether one of ``patterns`` matches ``name``."""
    return any(_match(pattern, name) for pattern in patterns)


def _match(pattern: str, name: str) -> bool:
    if "*" not in pattern:
        return pattern == name
    first, *middle, last = pattern.split("*")
    if len(name) < len(first) + len(last) or not (name.startswith(first) and name.endswith(last)):
        return False
    rest = name[len(first) : len(name) - len(last)]
    for part in middle:
        found = rest.find(part)
        if found < 0:
            return False
        rest = rest[found + len(part) :]
    return True


class Reader:
    """Somebody who reads events as they come: an async iterator, and a context that ends the reading.

    Args:
        bus: Whose.
        patterns: Which.
        first: What of the history he gets first.
    """

    def __init__(self, bus: Bus, patterns: tuple[str, ...], first: Sequence[Event]) -> None:
        self._bus = bus
        self._patterns = patterns
        self._waiting: deque[Event] = deque(first)
        self._room = len(first) + _QUEUE
        self._wake = asyncio.Event()
        self._closed = False
        self._cut = False

    def offer(self, event: Event) -> bool:
        """Take an event; False if the reader is cut because his queue is full."""
        if not matches(self._patterns, event.name):
            return True
        if len(self._waiting) >= self._room:
            self._cut = True
            self._wake.set()
            return False
        self._waiting.append(event)
        self._wake.set()
        return True

    def __aiter__(self) -> AsyncIterator[Event]:
        return self

    async def __anext__(self) -> Event:
        while not self._waiting:
            if self._cut:
                raise Overloaded("events came faster than they were read", fix="begin again after the last one seen")
            if self._closed:
                raise StopAsyncIteration
            self._wake.clear()
            await self._wake.wait()
        event = self._waiting.popleft()
        self._room = max(self._room - 1, _QUEUE)
        return event

    def close(self) -> None:
        """End the reading; whoever waits gets what is there, then the end."""
        self._closed = True
        self._wake.set()
        self._bus.forget(self)

    def __enter__(self) -> Reader:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


class Bus:
    """Where events are published and read; belongs to the loop's thread.

    Args:
        clock: Time.
        history: Events remembered.

    Attributes:
        counts: Events published by name.
        cut: Readers that were cut for being too slow.
    """

    def __init__(self, clock: Clock, history: int = HISTORY) -> None:
        self._clock = clock
        self._history: deque[Event] = deque(maxlen=history)
        self._readers: set[Reader] = set()
        self._listeners: list[Callable[[Event], None]] = []
        self._sequence = 0
        self.counts: Counter[str] = Counter()
        self.cut = 0

    @property
    def readers(self) -> int:
        """Readers now."""
        return len(self._readers)

    def publish(self, event: Event) -> Event:
        """Publish an event and return it with sequence and time; never waits.

        A listener's failure is its own: listeners must not raise.
        """
        self._sequence += 1
        stamped = replace(event, sequence=self._sequence, time_ms=self._clock.time_ms())
        self._history.append(stamped)
        self.counts[event.name] += 1
        slow = [reader for reader in self._readers if not reader.offer(stamped)]
        for reader in slow:
            self.cut += 1
            self._readers.discard(reader)
        for listener in self._listeners:
            listener(stamped)
        return stamped

    def on(self, listener: Callable[[Event], None]) -> None:
        """Call ``listener`` with every event from now on; it must neither wait nor raise."""
        self._listeners.append(listener)

    def history(self, patterns: Sequence[str] = ("*",), after: int = 0) -> list[Event]:
        """Return what is remembered after a sequence number, oldest first."""
        return [event for event in self._history if event.sequence > after and matches(patterns, event.name)]

    def subscribe(self, patterns: Sequence[str] = ("*",), after: int | None = None) -> Reader:
        """Read events as they come; use the answer as a context.

        Args:
            patterns: Which events, as :func:`check_patterns` has it.
            after: First those of the history after this sequence number; None: only new ones.

        Raises:
            UsageError: A pattern matches no event.
            Overloaded: There are too many readers.
        """
        chosen = check_patterns(patterns)
        if len(self._readers) >= MAX_READERS:
            raise Overloaded(f"{MAX_READERS} readers follow events already", fix="try again", retry_after_ms=5000)
        reader = Reader(self, chosen, [] if after is None else self.history(chosen, after))
        self._readers.add(reader)
        return reader

    def forget(self, reader: Reader) -> None:
        """Offer nothing more to ``reader``."""
        self._readers.discard(reader)

    def close(self) -> None:
        """End all reading."""
        for reader in list(self._readers):
            reader.close()
