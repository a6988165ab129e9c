from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from osiris_mesh.errors import UsageError
from osiris_mesh.runtime.units import format_size, format_time, parse_size, parse_time


@pytest.mark.parametrize(
    ("text", "size"),
    [("256MiB", 256 << 20), ("1.5GiB", 3 << 29), ("10kB", 10_000), ("7B", 7), ("1 GiB", 1 << 30), ("0.5KiB", 512)],
)
def test_sizes(text: str, size: int) -> None:
    assert parse_size(text) == size


@pytest.mark.parametrize(
    ("text", "milliseconds"), [("1.5s", 1500), ("10m", 600_000), ("250ms", 250), ("2h", 7_200_000), ("0.001s", 1)]
)
def test_times(text: str, milliseconds: int) -> None:
    assert parse_time(text) == milliseconds


@pytest.mark.parametrize(
    "text", ["", "1", "MiB", "-1MiB", "1e3MiB", "1mib", "1MiB ", " 1MiB", "0.3B", "\u0661MiB", "1,5MiB"]
)
def test_what_is_no_size(text: str) -> None:
    with pytest.raises(UsageError):
        parse_size(text)


@pytest.mark.parametrize("text", ["", "1", "s", "1S", "1 d", "0.5ms", "-1s", "1s\n"])
def test_what_is_no_time(text: str) -> None:
    with pytest.raises(UsageError):
        parse_time(text)


@given(st.integers(1, 1 << 40))
def test_what_is_written_is_read_again(number: int) -> None:
    if number < 10**12:
        assert parse_size(format_size(number)) == number
        assert parse_time(format_time(number)) == number
