"""Probes under way: ours, and those we make for others. Who waits for which sequence, and until when."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final

__all__ = ["MAX_RELAYS", "Probe", "Probing", "Relay"]

MAX_RELAYS: Final = 256
"""Probes for others at a time; more are not begun."""
_SEQUENCES: Final = 2**32


@dataclass(slots=True)
class Probe:
    """One probe of ours.

    Attributes:
        sequence: Of its PING.
        peer: Whom.
        ask_at: When others are asked if nobody has answered, seconds.
        fail_at: When it has failed.
        quiet: Of a member known dead: nobody is asked, and its failure means nothing.
        asked: ``ask_at`` has passed.
        helpers: Who was asked.
        nacks: Those of them that said they are well but have no answer either.
    """

    sequence: int
    peer: str
    ask_at: float
    fail_at: float
    quiet: bool
    asked: bool = False
    helpers: set[str] = field(default_factory=set)
    nacks: set[str] = field(default_factory=set)


@dataclass(slots=True)
class Relay:
    """One probe for somebody else.

    Attributes:
        asker: Who wants to know.
        sequence: The asker's own.
        target: Whom we probe.
        nack_at: When the asker hears that there is no answer yet, seconds.
        until: When it is given up.
    """

    asker: str
    sequence: int
    target: str
    nack_at: float
    until: float


class Probing:
    """The tables. A core: times are arguments.

    Args:
        sequence: To begin with; random, so that an answer to a former run's probe fits none of this one's.
    """

    def __init__(self, sequence: int) -> None:
        self._sequence = sequence
        self._probes: dict[int, Probe] = {}
        self._relays: dict[int, Relay] = {}
        self._running: set[str] = set()

    def number(self) -> int:
        """Return the next sequence."""
        self._sequence = (self._sequence + 1) % _SEQUENCES
        return self._sequence

    def start(self, peer: str, *, ask_at: float, fail_at: float, quiet: bool, anew: bool = False) -> Probe | None:
        """Begin a probe of ours; None if one of ``peer`` is under way that counts.

        Args:
            peer: Whom.
            ask_at: When others are asked, seconds.
            fail_at: When it has failed.
            quiet: Its failure means nothing.
            anew: It takes the place of one under way, whose answer may be older than what made us ask.
        """
        if peer in self._running:
            if not anew:
                return None
            self._end(next(probe for probe in self._probes.values() if probe.peer == peer and not probe.quiet))
        probe = Probe(self.number(), peer, ask_at, fail_at, quiet)
        self._probes[probe.sequence] = probe
        if not quiet:
            self._running.add(peer)
        return probe

    def relay(self, asker: str, sequence: int, target: str, *, nack_at: float, until: float) -> int | None:
        """Begin a probe for somebody else and return our own sequence for it; None if too many are under way."""
        if len(self._relays) >= MAX_RELAYS:
            return None
        number = self.number()
        self._relays[number] = Relay(asker, sequence, target, nack_at, until)
        return number

    def due(self) -> float:
        """Return when :meth:`step` has something to say; infinity if never."""
        times = [probe.fail_at if probe.asked else probe.ask_at for probe in self._probes.values()]
        times += [min(relay.nack_at, relay.until) for relay in self._relays.values()]
        return min(times, default=float("inf"))

    def step(self, now: float) -> tuple[list[Probe], list[Probe], list[Relay]]:
        """Return our probes for which others are to be asked now, those that failed, and relays without an answer."""
        ask: list[Probe] = []
        failed: list[Probe] = []
        silent: list[Relay] = []
        for probe in list(self._probes.values()):
            if not probe.asked and now >= probe.ask_at:
                probe.asked = True
                if not probe.quiet:
                    ask.append(probe)
            if probe.asked and now >= probe.fail_at:
                self._end(probe)
                if not probe.quiet:
                    failed.append(probe)
        for number, relay in list(self._relays.items()):
            if now >= relay.until:
                del self._relays[number]
            elif now >= relay.nack_at:
                relay.nack_at = relay.until
                silent.append(relay)
        return ask, failed, silent

    def acked(self, sender: str, sequence: int) -> Probe | Relay | None:
        """Take an ACK; return what it ended, None if nobody waited for it from ``sender``."""
        probe = self._probes.get(sequence)
        if probe is not None and (sender == probe.peer or sender in probe.helpers):
            self._end(probe)
            return probe
        relay = self._relays.get(sequence)
        if relay is not None and sender == relay.target:
            del self._relays[sequence]
            return relay
        return None

    def nacked(self, sender: str, sequence: int) -> None:
        """Take a NACK."""
        probe = self._probes.get(sequence)
        if probe is not None and sender in probe.helpers:
            probe.nacks.add(sender)

    def delay(self, seconds: float) -> None:
        """Shift our probes by time in which this process did not run."""
        for probe in self._probes.values():
            probe.ask_at += seconds
            probe.fail_at += seconds

    def forget(self, peer: str) -> None:
        """Drop what concerns a member that is none any more."""
        for probe in [probe for probe in self._probes.values() if probe.peer == peer]:
            self._end(probe)
        for number in [number for number, relay in self._relays.items() if peer in {relay.asker, relay.target}]:
            del self._relays[number]

    def clear(self) -> None:
        """Drop everything."""
        self._probes.clear()
        self._relays.clear()
        self._running.clear()

    def _end(self, probe: Probe) -> None:
        del self._probes[probe.sequence]
        if not probe.quiet:
            self._running.discard(probe.peer)
