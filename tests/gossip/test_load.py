"""Load records and the table of the newest."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from osiris_mesh.codec import pack
from osiris_mesh.errors import RemoteProtocolError
from osiris_mesh.gossip.load import MAX_FUNCTIONS, FunctionLoad, Load, LoadTable
from osiris_mesh.gossip.monitor import ResourceMonitor

COUNTS = st.integers(0, 2**53 - 1)
FUNCTIONS = st.dictionaries(
    st.binary(min_size=32, max_size=32),
    st.builds(FunctionLoad, COUNTS, COUNTS, COUNTS, st.integers(0, 10**9).map(lambda us: us / 1000)),
    max_size=5,
)
LOADS = st.builds(
    Load, st.integers(0, 1000).map(lambda share: share / 1000), COUNTS, COUNTS, COUNTS, st.booleans(), FUNCTIONS
)


@settings(max_examples=100, deadline=None)
@given(LOADS)
def test_a_record_survives(load: Load) -> None:
    assert Load.decode(load.encode()) == load


@settings(max_examples=150, deadline=None)
@given(LOADS, st.data())
def test_a_changed_record_is_refused_or_another(load: Load, data: st.DataObject) -> None:
    raw = bytearray(load.encode())
    if data.draw(st.booleans()):
        del raw[data.draw(st.integers(0, len(raw) - 1)) :]
    else:
        raw[data.draw(st.integers(0, len(raw) - 1))] ^= 1 << data.draw(st.integers(0, 7))
    try:
        assert Load.decode(bytes(raw)) != load
    except RemoteProtocolError:
        pass


GOOD = [1, 500, 1, 2, 3, 1, []]


@pytest.mark.parametrize(
    "value",
    [
        {},
        GOOD[:6],
        [*GOOD, 0],
        [2, *GOOD[1:]],
        [True, *GOOD[1:]],
        [1, 1001, *GOOD[2:]],
        [1, -1, *GOOD[2:]],
        [1, 0.5, *GOOD[2:]],
        [1, 500, -1, *GOOD[3:]],
        [1, 500, 2**53, *GOOD[3:]],
        [*GOOD[:5], 2, []],
        [*GOOD[:6], {}],
        [*GOOD[:6], [[]]],
        [*GOOD[:6], [[bytes(31), 1, 1, 1, 1]]],
        [*GOOD[:6], [[bytes(32), -1, 1, 1, 1]]],
        [*GOOD[:6], [[bytes(32), 1, 1, 1, 1], [bytes(32), 1, 1, 1, 1]]],
        [*GOOD[:6], [[number.to_bytes(32, "big"), 1, 1, 1, 1] for number in range(MAX_FUNCTIONS + 1)]],
    ],
)
def test_a_wrong_record_is_refused(value: object) -> None:
    with pytest.raises(RemoteProtocolError):
        Load.decode(pack(value))


def test_of_too_many_functions_the_busiest_are_told() -> None:
    busy = {number.to_bytes(32, "big"): FunctionLoad(1, number) for number in range(MAX_FUNCTIONS + 100)}
    told = Load.decode(Load(functions=busy).encode()).functions
    assert len(told) == MAX_FUNCTIONS
    assert min(load.in_flight for load in told.values()) == 100


@pytest.mark.parametrize(
    ("change", "significant"),
    [
        ({}, False),
        ({"cpu": 0.54}, False),
        ({"cpu": 0.56}, True),
        ({"memory_used": 540}, False),
        ({"memory_used": 560}, True),
        ({"disk_free": 0}, False),
        ({"room": False}, True),
        ({"functions": {}}, True),
        ({"functions": {bytes(32): FunctionLoad(1, 2)}}, True),
        ({"functions": {bytes(32): FunctionLoad(1, 1, 0, 9.0)}}, False),
    ],
)
def test_what_is_worth_a_message(change: dict[str, object], significant: bool) -> None:
    facts = {
        "cpu": 0.5,
        "memory_used": 500,
        "memory_total": 1000,
        "disk_free": 7,
        "functions": {bytes(32): FunctionLoad(1, 1)},
    }
    assert Load(**{**facts, **change}).differs(Load(**facts), 0.05) is significant  # type: ignore[arg-type]


def test_the_table_keeps_the_newest_and_its_age() -> None:
    table = LoadTable()
    assert table.get("a") is None
    assert table.age("a", 1.0) is None
    table.put("a", Load(cpu=0.1), 10.0)
    table.put("a", Load(cpu=0.2), 12.0)
    table.put("b", Load(), 20.0)
    assert table.get("a") == Load(cpu=0.2)
    assert table.age("a", 15.0) == 3.0
    assert set(table.fresh(21.0, 5.0)) == {"b"}
    assert (len(table), sorted(table)) == (2, ["a", "b"])
    table.keep(["b"])
    table.forget("b")
    table.forget("b")
    assert len(table) == 0


def test_the_monitor_reads_this_machine(tmp_path: Path) -> None:
    load = ResourceMonitor(tmp_path).sample()
    assert 0.0 <= load.cpu <= 1.0
    assert 0 < load.memory_used < load.memory_total
    assert load.disk_free > 0
    assert ResourceMonitor(tmp_path / "gone").sample().disk_free == 0
