"""Alert rules: which figures are watched, when a rule fires and when it resolves. A core: time is an argument.

A rule is ``figure operator number [for duration]``, for example ``function.error_rate > 5% for 1m``. A figure has one
value for each *subject* (a function, or this node), and each is watched on its own::

    state     on                                              goes to
    QUIET     the rule holds                                  PENDING
    PENDING   the rule does not hold                          QUIET
    PENDING   it has held for the rule's duration             FIRING   -> alert.firing
    FIRING    the value is clear of the limit                 CLEARING
    CLEARING  the value is not clear of the limit             FIRING
    CLEARING  it has been clear for the duration, 1 min most  QUIET    -> alert.resolved

*Clear* means on the good side by a tenth of the limit (hysteresis), so that a value that trembles about the limit does
not fire again and again. A figure without a value (a function nobody calls) does not hold and is clear.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from osiris_mesh.errors import UsageError

__all__ = ["FIGURES", "Alerts", "Figure", "Fired", "Resolved", "Rule", "Transition"]

_MARGIN: Final = 0.1
_CLEAR_SECONDS: Final = 60.0
_MAX_SECONDS: Final = 24 * 3600.0
_MAX_WATCHED: Final = 10_000
_RULE: Final = re.compile(
    r"\s*(?P<figure>[a-z_.]{1,64})\s*(?P<op>>=|<=|>|<)\s*(?P<number>\d{1,15}(?:\.\d{1,9})?)(?:\s*(?P<unit>%|KiB|MiB|GiB|TiB|ms|s))?"
    r"(?:\s+for\s+(?P<length>\d{1,6}(?:\.\d{1,3})?)(?P<time>ms|s|m|h))?\s*\Z",
    re.ASCII,
)
_TIMES: Final = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0}


@dataclass(frozen=True, slots=True)
class Figure:
    """A figure rules may watch.

    Attributes:
        means: One sentence.
        subject: ``function`` or ``node``: what it has a value for each of.
        units: Units a number may bear, and by what each is multiplied.
    """

    means: str
    subject: str
    units: Mapping[str, float]


_SHARE: Final = {"%": 0.01}
_BYTES: Final = {"KiB": 2.0**10, "MiB": 2.0**20, "GiB": 2.0**30, "TiB": 2.0**40}
FIGURES: Final[Mapping[str, Figure]] = {
    "function.error_rate": Figure(
        "Share of a function's calls through this node that failed in the last minute; no value below 5 calls.",
        "function",
        _SHARE,
    ),
    "function.calls_per_s": Figure("Calls of a function through this node a second, last minute.", "function", {}),
    "function.mean_ms": Figure(
        "Mean time of a function's calls through this node, errors included, milliseconds, last minute.",
        "function",
        {"ms": 1.0, "s": 1000.0},
    ),
    "queue.depth": Figure("Calls of a function that wait for an instance on this node.", "function", {}),
    "node.cpu": Figure("Share of this node's processors in use.", "node", _SHARE),
    "node.memory": Figure("Share of this node's memory in use.", "node", _SHARE),
    "node.disk_free": Figure("Free bytes where this node's home lies.", "node", _BYTES),
    "members.dead": Figure("Nodes of the mesh this node holds for dead.", "node", {}),
    "ledger.lag": Figure("Blocks this node is behind the highest any member tells of.", "node", {}),
}
"""Every figure there is; docs/events.md lists them."""


@dataclass(frozen=True, slots=True)
class Rule:
    """One rule.

    Attributes:
        figure: One of :data:`FIGURES`.
        op: ``>``, ``>=``, ``<`` or ``<=``.
        limit: In the figure's own unit.
        seconds: How long it must hold.
        text: As it was written.
    """

    figure: str
    op: str
    limit: float
    seconds: float
    text: str

    @classmethod
    def parse(cls, text: str) -> Rule:
        """Read a rule.

        Raises:
            UsageError: Not a rule, an unknown figure, a unit the figure does not have, or a duration beyond a day.
        """
        match = _RULE.match(text) if len(text) <= 256 else None
        if match is None:
            raise UsageError(
                f"{text[:256]!r} is not an alert rule", fix="write it like: function.error_rate > 5% for 1m"
            )
        figure = FIGURES.get(match["figure"])
        if figure is None:
            raise UsageError(f"no figure is called {match['figure']!r}", fix=f"there are {', '.join(FIGURES)}")
        unit = match["unit"]
        if unit and unit not in figure.units:
            known = ", ".join(figure.units) or "none"
            raise UsageError(f"{match['figure']} is not measured in {unit}", fix=f"units it has: {known}")
        seconds = float(match["length"]) * _TIMES[match["time"]] if match["length"] else 0.0
        if seconds > _MAX_SECONDS:
            raise UsageError("a rule waits for more than 24h", fix="shorten what follows 'for'")
        limit = float(match["number"]) * (figure.units[unit] if unit else 1.0)
        return cls(match["figure"], match["op"], limit, seconds, " ".join(text.split()))

    def holds(self, value: float) -> bool:
        """Say whether ``value`` breaks the limit."""
        match self.op:
            case ">":
                return value > self.limit
            case ">=":
                return value >= self.limit
            case "<":
                return value < self.limit
            case _:
                return value <= self.limit

    def clear(self, value: float) -> bool:
        """Say whether ``value`` is on the good side by a tenth of the limit."""
        margin = self.limit * _MARGIN
        match self.op:
            case ">":
                return value <= self.limit - margin
            case ">=":
                return value < self.limit - margin
            case "<":
                return value >= self.limit + margin
            case _:
                return value > self.limit + margin


@dataclass(frozen=True, slots=True)
class Fired:
    """A rule began to fire.

    Attributes:
        alert: The rule's name.
        rule: The rule.
        subject: For what; empty for this node.
        value: The value just seen.
    """

    alert: str
    rule: Rule
    subject: str
    value: float


@dataclass(frozen=True, slots=True)
class Resolved:
    """A rule fires no longer.

    Attributes:
        alert: The rule's name.
        rule: The rule.
        subject: For what; empty for this node.
        seconds: How long it fired.
    """

    alert: str
    rule: Rule
    subject: str
    seconds: float


Transition = Fired | Resolved


@dataclass(slots=True)
class _Watch:
    """One rule on one subject: since when it holds, fires and is clear; None where it does not."""

    holds: float | None = None
    fires: float | None = None
    clear: float | None = None

    @property
    def quiet(self) -> bool:
        return self.holds is None and self.fires is None


class Alerts:
    """All rules of a node and where each stands."""

    def __init__(self) -> None:
        self._rules: dict[str, Rule] = {}
        self._watched: dict[tuple[str, str], _Watch] = {}

    @property
    def rules(self) -> Mapping[str, Rule]:
        """The rules by name."""
        return self._rules

    def firing(self) -> list[tuple[str, str]]:
        """Return name and subject of what fires now."""
        return sorted(key for key, watch in self._watched.items() if watch.fires is not None)

    def set_rules(self, rules: Mapping[str, Rule], now: float) -> list[Transition]:
        """Watch these rules from now on; what fired by a rule that is gone or is another now is resolved."""
        gone = [key for key in self._watched if rules.get(key[0]) != self._rules.get(key[0])]
        resolved: list[Transition] = []
        for key in gone:
            watch = self._watched.pop(key)
            if watch.fires is not None:
                resolved.append(Resolved(key[0], self._rules[key[0]], key[1], now - watch.fires))
        self._rules = dict(rules)
        return resolved

    def look(self, values: Mapping[str, Mapping[str, float]], now: float) -> list[Transition]:
        """Take in the figures.

        Args:
            values: By figure, then by subject.
            now: Monotonic seconds.
        """
        found: list[Transition] = []
        for name, rule in self._rules.items():
            seen = values.get(rule.figure, {})
            known = [subject for alert, subject in self._watched if alert == name]
            for subject in dict.fromkeys([*known, *seen]):
                watch = self._watched.get((name, subject))
                if watch is None:
                    if len(self._watched) >= _MAX_WATCHED or not rule.holds(seen[subject]):
                        continue
                    watch = self._watched[name, subject] = _Watch()
                found += _step(name, rule, subject, watch, seen.get(subject), now)
                if watch.quiet:
                    del self._watched[name, subject]
        return found


def _step(name: str, rule: Rule, subject: str, watch: _Watch, value: float | None, now: float) -> list[Transition]:
    if watch.fires is None:
        if value is None or not rule.holds(value):
            watch.holds = None
            return []
        if watch.holds is None:
            watch.holds = now
        if now - watch.holds < rule.seconds:
            return []
        watch.fires = now
        return [Fired(name, rule, subject, value)]
    if value is not None and not rule.clear(value):
        watch.clear = None
        return []
    if watch.clear is None:
        watch.clear = now
    if now - watch.clear < min(rule.seconds, _CLEAR_SECONDS):
        return []
    fired = watch.fires
    watch.holds = watch.fires = watch.clear = None
    return [Resolved(name, rule, subject, now - fired)]
