"""Strict msgpack: what goes in comes out; everything else is refused, cheaply."""

from __future__ import annotations

import math
import tracemalloc
from typing import Any

import msgpack
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from osiris_mesh.codec import FRAME, VALUE, Limits, pack, unpack, unpack_canonical
from osiris_mesh.errors import RemoteProtocolError, UsageError

SCALARS = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-(1 << 63), (1 << 64) - 1),
    st.floats(allow_nan=False),
    st.text(max_size=40),
    st.binary(max_size=40),
)
VALUES = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner, max_size=6) | st.dictionaries(st.text(max_size=8), inner, max_size=6),
    max_leaves=30,
)


@settings(max_examples=200, deadline=None)
@given(VALUES)
def test_what_is_packed_comes_back_in_its_one_form(value: Any) -> None:
    packed = pack(value)
    assert unpack(packed, VALUE) == value
    assert unpack_canonical(packed, VALUE) == value
    assert unpack(memoryview(packed), VALUE) == value
    assert unpack(bytearray(packed), VALUE) == value


@settings(max_examples=150, deadline=None)
@given(VALUES, st.data())
def test_cut_and_lengthened_messages_are_refused(value: Any, data: st.DataObject) -> None:
    packed = pack(value)
    cut = data.draw(st.integers(0, len(packed) - 1))
    for wrong in (packed[:cut], packed + b"\0", packed + packed):
        with pytest.raises(RemoteProtocolError):
            unpack(wrong, VALUE)


@settings(max_examples=400, deadline=None)
@given(st.binary(max_size=64))
def test_any_bytes_are_a_value_or_refused(data: bytes) -> None:
    try:
        value = unpack(data)
    except RemoteProtocolError:
        return
    # What is accepted is of our types alone: it packs again, and means the same.
    again = unpack(pack(value))
    assert again == value or "nan" in repr(value)
    try:
        unpack_canonical(data)
    except RemoteProtocolError:
        assert pack(value) != data
    else:
        assert pack(value) == data


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\xc1",
        b"\xd4\x01\x00",  # fixext
        b"\xc7\x00\x01",  # ext 8, empty
        b"\xd6\xff\x00\x00\x00\x00",  # timestamp
        b"\x81\x01\x02",  # a number as key
        b"\x81\xc4\x01k\x02",  # bytes as key
        b"\x81\x90\x02",  # a list as key
        b"\x82\xa1k\x01\xa1k\x02",  # twice the same key
        b"\xa2\xff\xfe",  # text that is not UTF-8
        b"\xa3\xed\xa0\x80",  # a surrogate
        b"\x92\x01",
    ],
)
def test_refused(data: bytes) -> None:
    with pytest.raises(RemoteProtocolError):
        unpack(data)


@pytest.mark.parametrize(
    "data",
    [
        b"\xcc\x05",
        b"\xd9\x01a",
        b"\xc5\x00\x01a",
        b"\xdc\x00\x01\x05",
        b"\xde\x00\x00",
        b"\xca\x3f\x80\x00\x00",
        b"\xd0\x05",
    ],
)
def test_longer_forms_are_values_but_not_canonical(data: bytes) -> None:
    unpack(data)
    with pytest.raises(RemoteProtocolError, match="shortest"):
        unpack_canonical(data)


def test_bounds_of_size_depth_and_count() -> None:
    limits = Limits(size=20, depth=2, count=3)
    assert unpack(pack([[1]]), limits) == [[1]]
    assert unpack(pack([1, 2, 3]), limits) == [1, 2, 3]
    assert unpack(pack({"a": [1]}), limits) == {"a": [1]}
    for value in ([[[1]]], {"a": {"b": {}}}, [1, 2, 3, 4], {"a": 1, "b": 2, "c": 3, "d": 4}, b"x" * 19):
        with pytest.raises(RemoteProtocolError):
            unpack(pack(value), limits)


@pytest.mark.parametrize("depth", [10, 500, 1000, 5000, 100_000])
@pytest.mark.parametrize("head", [b"\x91", b"\x81\xa1k", b"\xdd\x00\xff\xff\xff", b"\xdf\x00\xff\xff\xff\xa1k"])
def test_deep_nesting_is_refused_whatever_it_announces(head: bytes, depth: int) -> None:
    with pytest.raises(RemoteProtocolError):
        unpack(head * depth, FRAME)


@pytest.mark.parametrize(
    "head", [b"\xdd\xff\xff\xff\xff", b"\xdf\xff\xff\xff\xff", b"\xc6\xff\xff\xff\xff", b"\xdb\xff\xff\xff\xff"]
)
def test_announced_lengths_make_no_room(head: bytes) -> None:
    tracemalloc.start()
    try:
        with pytest.raises(RemoteProtocolError):
            unpack(head + b"\x00" * 100, VALUE)
        with pytest.raises(RemoteProtocolError):
            unpack(b"\xdd\x00\xff\xff\xff" * 200, VALUE)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 4 << 20


@pytest.mark.parametrize("value", [object(), {1, 2}, 1 << 64, -(1 << 63) - 1, 1j, "\ud800", msgpack.Timestamp])
def test_what_can_not_be_sent_is_the_senders_error(value: Any) -> None:
    with pytest.raises(UsageError, match="can't be sent"):
        pack({"k": [value]})


def test_a_value_that_holds_itself_is_the_senders_error() -> None:
    value: list[Any] = []
    value.append(value)
    with pytest.raises(UsageError):
        pack(value)


def test_numbers_keep_their_type_and_floats_their_bits() -> None:
    value = unpack(pack([1, 1.0, True, -0.0, math.inf, 2**64 - 1]))
    assert [type(item) for item in value] == [int, float, bool, float, float, int]
    assert math.copysign(1, value[3]) == -1
    assert math.isnan(unpack_canonical(pack(math.nan)))
