"""Sums are exact whatever is told together, in memory and on disk."""

from __future__ import annotations

import csv
import io
import json
import sqlite3

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from osiris_mesh.clock import FakeClock
from osiris_mesh.errors import CheckFailed, UsageError
from osiris_mesh.registry.metering import DAY_MS, Key, Row, Usage, export_csv, export_json, select, total
from osiris_mesh.registry.metering_store import Metering

CALL = st.fixed_dictionaries(
    {
        "provider": st.sampled_from(["acme", "other"]),
        "caller": st.sampled_from(["a", "b", "c", "d"]),
        "function": st.sampled_from(["t/x", "t/y", "t/z"]),
        "cost_micros": st.integers(0, 1 << 40),
        "currency": st.sampled_from(["EUR", "USD"]),
        "time_us": st.integers(0, 1 << 40),
        "ok": st.booleans(),
    }
)


@settings(max_examples=150, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 3 * DAY_MS), CALL), max_size=40), st.integers(1, 50))
def test_what_a_provider_is_owed_is_right_whatever_the_bound(calls, limit):
    usage = Usage(limit)
    for now, call in calls:
        usage.add(now, **call)
    sums = total(usage.rows().items(), ["provider", "day"])
    for (provider, day, currency), row in sums.items():
        mine = [
            call
            for now, call in calls
            if (call["provider"], now // DAY_MS, call["currency"]) == (provider, day, currency)
        ]
        assert row == Row(
            len(mine),
            sum(not call["ok"] for call in mine),
            sum(call["cost_micros"] for call in mine),
            sum(call["time_us"] for call in mine),
        )
    assert sum(row.calls for row in sums.values()) == len(calls)
    # One rough row for each provider, day and currency besides.
    assert len(usage) <= limit + 2 * 4 * 2


def rows():
    usage = Usage()
    usage.add(0, provider="acme", caller="a", function="t/x", cost_micros=5, currency="EUR", time_us=7)
    usage.add(DAY_MS, provider="acme", caller="=b", function="t/x", cost_micros=5, currency="EUR", ok=False)
    usage.add(DAY_MS, provider="free", caller="a", function="t/y")
    return usage.rows().items()


def test_selected_and_added_up():
    assert [key.day for key, _ in select(rows(), provider="acme")] == [0, 1]
    assert [key.provider for key, _ in select(rows(), caller="a")] == ["acme", "free"]
    assert select(rows(), since_day=1, until_day=1) == []
    assert total(rows(), ["provider"]) == {("acme", "EUR"): Row(2, 1, 10, 7), ("free", ""): Row(1, 0, 0, 0)}
    with pytest.raises(UsageError):
        total(rows(), ["colour"])


def test_exports():
    assert json.loads(export_json(select(rows())))["usage"][0] == {
        "day": 0, "provider": "acme", "caller": "a", "function": "t/x", "currency": "EUR",
        "calls": 1, "errors": 0, "cost_micros": 5, "time_us": 7,
    }  # fmt: skip
    found = list(csv.DictReader(io.StringIO(export_csv(select(rows())))))
    assert [row["caller"] for row in found] == ["a", "'=b", "a"]
    assert [row["cost_micros"] for row in found] == ["5", "5", "0"]


CALLED = {"provider": "acme", "caller": "a", "function": "t/x", "cost_micros": 3, "currency": "EUR", "time_us": 2}


async def test_on_disk_and_back(tmp_path):
    clock = FakeClock()
    file = tmp_path / "usage.db"
    metering = Metering(file, clock)
    await metering.start()
    assert file.stat().st_mode & 0o777 == 0o600
    metering.add(**CALLED)
    await metering.flush()
    metering.add(**CALLED)
    day = clock.time_ms() // DAY_MS
    expected = [(Key(day, "acme", "a", "t/x", "EUR"), Row(2, 0, 6, 4))]
    assert await metering.rows() == expected
    assert await metering.rows(provider="other") == []
    await metering.close()
    again = Metering(file, clock)
    await again.start()
    assert await again.rows(provider="acme", caller="a") == expected
    await again.close()


async def test_a_write_that_fails_loses_nothing(tmp_path):
    clock = FakeClock()
    file = tmp_path / "usage.db"
    metering = Metering(file, clock)
    await metering.start()
    metering.add(**CALLED)
    with sqlite3.connect(file) as base:
        base.execute("ALTER TABLE usage RENAME TO away")
    base.close()
    with pytest.raises(sqlite3.Error):
        await metering.flush()
    with sqlite3.connect(file) as base:
        base.execute("ALTER TABLE away RENAME TO usage")
    base.close()
    await metering.flush()
    assert [row.calls for _, row in await metering.rows()] == [1]


async def test_old_days_go_and_too_many_rows_are_told_together(tmp_path):
    clock = FakeClock()
    metering = Metering(tmp_path / "usage.db", clock, keep_days=1, limit=3)
    await metering.start()
    for caller in "abcdefgh":
        metering.add(**CALLED | {"caller": caller})
    await metering.flush()
    (only,) = await metering.rows()
    assert (only[0].caller, only[1].calls, only[1].cost_micros) == ("*", 8, 24)
    clock.advance(3 * 86_400)
    metering.add(**CALLED)
    await metering.flush()
    assert [(key.caller, row.calls) for key, row in await metering.rows()] == [("a", 1)]


async def test_a_damaged_file_is_told(tmp_path):
    file = tmp_path / "usage.db"
    file.write_bytes(b"not a database at all" * 100)
    with pytest.raises(CheckFailed):
        await Metering(file, FakeClock()).start()
