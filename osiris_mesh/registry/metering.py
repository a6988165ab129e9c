"""What calls of providers amount to: count, errors, cost and time, by day, provider, caller and function. A pure core.

Costs are whole millionths of a currency, times whole microseconds, days whole days of Unix time in UTC: sums are exact,
and the same wherever they are added up. The table is bounded; beyond the bound the callers, then the functions, of new
rows are told together as ``*``, so that what a provider is owed stays right to the last millionth.
"""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, fields
from typing import Any, Final

from osiris_mesh.errors import UsageError

__all__ = ["DAY_MS", "OTHERS", "Key", "Row", "Usage", "day_of", "export_csv", "export_json", "select", "total"]

DAY_MS: Final = 86_400_000
OTHERS: Final = "*"
"""Stands for callers or functions that were too many to be told apart."""
_MAX_ROWS: Final = 100_000
_MAX_TEXT: Final = 384


def day_of(time_ms: int) -> int:
    """Return the day of a time: days since 1970-01-01, UTC."""
    return time_ms // DAY_MS


@dataclass(frozen=True, slots=True, order=True)
class Key:
    """What a row is about.

    Attributes:
        day: Days since 1970-01-01, UTC.
        provider: The provider's id.
        caller: Who called: a peer id, or a function's name.
        function: Full name.
        currency: Of the cost; empty without one.
    """

    day: int
    provider: str
    caller: str
    function: str
    currency: str = ""


@dataclass(frozen=True, slots=True)
class Row:
    """Sums.

    Attributes:
        calls: Calls, failed ones included.
        errors: Calls that failed.
        cost_micros: What they cost, millionths of the currency.
        time_us: How long they took, microseconds.
    """

    calls: int = 0
    errors: int = 0
    cost_micros: int = 0
    time_us: int = 0

    def __add__(self, other: Row) -> Row:
        return Row(
            self.calls + other.calls,
            self.errors + other.errors,
            self.cost_micros + other.cost_micros,
            self.time_us + other.time_us,
        )


class Usage:
    """Sums of calls that were not yet written down.

    Args:
        limit: Rows kept apart.
    """

    def __init__(self, limit: int = _MAX_ROWS) -> None:
        self._limit = limit
        self._rows: dict[Key, Row] = {}

    def __len__(self) -> int:
        return len(self._rows)

    def add(
        self,
        now_ms: int,
        *,
        provider: str,
        caller: str,
        function: str,
        cost_micros: int = 0,
        currency: str = "",
        time_us: int = 0,
        ok: bool = True,
    ) -> None:
        """Count one call.

        Args:
            now_ms: When it ended, Unix time.
            provider: The provider's id.
            caller: Who called.
            function: Full name.
            cost_micros: What the provider charges for it; nothing for a call that failed before the provider had it.
            currency: Of the cost.
            time_us: How long it took.
            ok: It did not fail.
        """
        row = Row(1, 0 if ok else 1, max(cost_micros, 0), max(time_us, 0))
        day = day_of(now_ms)
        self.merge({Key(day, provider[:_MAX_TEXT], caller[:_MAX_TEXT], function[:_MAX_TEXT], currency[:8]): row})

    def merge(self, rows: Mapping[Key, Row]) -> None:
        """Add rows; those that are too many are told together."""
        for key, row in rows.items():
            known = self._place(key)
            self._rows[known] = self._rows.get(known, Row()) + row

    def _place(self, key: Key) -> Key:
        if key in self._rows or len(self._rows) < self._limit:
            return key
        for rougher in (
            Key(key.day, key.provider, OTHERS, key.function, key.currency),
            Key(key.day, key.provider, OTHERS, OTHERS, key.currency),
        ):
            if rougher in self._rows:
                return rougher
        # Room for sums by provider is always left: there are as many as records name, not as many as anybody calls.
        return Key(key.day, key.provider, OTHERS, OTHERS, key.currency)

    def take(self) -> dict[Key, Row]:
        """Return all rows and forget them: they are being written down."""
        rows, self._rows = self._rows, {}
        return rows

    def rows(self) -> Mapping[Key, Row]:
        """Return the rows as they are."""
        return self._rows


def total(rows: Iterable[tuple[Key, Row]], by: Iterable[str]) -> dict[tuple[str | int, ...], Row]:
    """Return sums by some fields of the key.

    Args:
        rows: What is added up.
        by: Names of fields: ``day``, ``provider``, ``caller``, ``function``, ``currency``; costs of different
            currencies are never added, so ``currency`` belongs to it always.

    Raises:
        UsageError: Not such a name.
    """
    names = tuple(dict.fromkeys((*by, "currency")))
    if unknown := set(names) - {item.name for item in fields(Key)}:
        raise UsageError(f"usage has no {min(unknown)!r}", fix="name day, provider, caller or function")
    found: dict[tuple[str | int, ...], Row] = {}
    for key, row in rows:
        place = tuple(getattr(key, name) for name in names)
        found[place] = found.get(place, Row()) + row
    return dict(sorted(found.items()))


def select(
    rows: Iterable[tuple[Key, Row]],
    *,
    provider: str = "",
    caller: str = "",
    since_day: int = 0,
    until_day: int = 1 << 40,
) -> list[tuple[Key, Row]]:
    """Return the rows of one provider or caller (empty: every) from one day to before another, ascending."""
    return sorted(
        (key, row)
        for key, row in rows
        if since_day <= key.day < until_day and provider in {"", key.provider} and caller in {"", key.caller}
    )


def _flat(key: Key, row: Row) -> dict[str, Any]:
    names = [(key, item.name) for item in fields(Key)] + [(row, item.name) for item in fields(Row)]
    return {name: getattr(holder, name) for holder, name in names}


def export_json(rows: Iterable[tuple[Key, Row]]) -> str:
    """Return rows as one JSON document: ``{"usage": [{day, provider, caller, …}]}``."""
    return json.dumps({"usage": [_flat(key, row) for key, row in rows]}, separators=(",", ":"))


def export_csv(rows: Iterable[tuple[Key, Row]]) -> str:
    """Return rows as CSV (RFC 4180) with a head.

    A text that a spreadsheet would take for a formula is quoted for it with an apostrophe: names come from strangers.
    """
    sink = io.StringIO()
    names = [item.name for item in (*fields(Key), *fields(Row))]
    writer = csv.DictWriter(sink, names, lineterminator="\r\n")
    writer.writeheader()
    for key, row in rows:
        flat = _flat(key, row)
        for name, value in flat.items():
            if isinstance(value, str) and value[:1] in {"=", "+", "-", "@", "\t", "\r"}:
                flat[name] = f"'{value}"
        writer.writerow(flat)
    return sink.getvalue()
