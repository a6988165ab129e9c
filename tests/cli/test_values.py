"""Values on their way between the terminal and the mesh."""

from __future__ import annotations

import json
import math
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from osiris_mesh.errors import UsageError
from osiris_mesh_cli.values import argument, dumps, from_json, loads, seconds, size, to_json

KEYS = st.text(max_size=8).filter(lambda key: key not in {"$bytes", "$float"})
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**64 - 1) | st.floats() | st.text() | st.binary(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(KEYS, inner, max_size=4),
    max_leaves=12,
)


def same(one: object, other: object) -> bool:
    if isinstance(one, float) and isinstance(other, float):
        return one == other or (math.isnan(one) and math.isnan(other))
    if isinstance(one, list) and isinstance(other, list):
        return len(one) == len(other) and all(map(same, one, other))
    if isinstance(one, dict) and isinstance(other, dict):
        return list(one) == list(other) and all(same(one[key], other[key]) for key in one)
    return type(one) is type(other) and one == other


@settings(max_examples=150)
@given(VALUES)
def test_every_value_survives_its_json_form(value: object) -> None:
    text = dumps(value)
    assert same(loads(text), value)


@settings(max_examples=100)
@given(VALUES)
def test_what_is_printed_is_json_for_anyone(value: object) -> None:
    def refuse(word: str) -> object:
        raise AssertionError(word)

    json.loads(dumps(value), parse_constant=refuse)


@settings(max_examples=150)
@given(VALUES)
def test_a_printed_value_can_be_typed_back_as_an_argument(value: object) -> None:
    assert same(argument(dumps(value)), value)


@settings(max_examples=150)
@given(st.text().filter(lambda text: "\0" not in text))
def test_an_argument_is_its_json_or_itself(text: str) -> None:
    if text.startswith("@"):
        text = "=" + text
    try:
        expected = json.loads(text, parse_constant=lambda word: (_ for _ in ()).throw(ValueError(word)))
    except ValueError:
        expected = text
    assert same(argument(text), from_json(expected))


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("5", 5),
        ("-3", -3),
        ("1.5", 1.5),
        ("true", True),
        ("null", None),
        ("five", "five"),
        ("", ""),
        ("@", "@"),
        ('"5"', "5"),
        ('"@home"', "@home"),
        ("[1, 2]", [1, 2]),
        ('{"a": [null]}', {"a": [None]}),
        ('{"$bytes": "AAEC/w=="}', b"\0\1\2\xff"),
        ("NaN", "NaN"),
        ("Infinity", "Infinity"),
        ("{broken", "{broken"),
        ("007", "007"),
    ],
)
def test_arguments(text: str, value: object) -> None:
    got = argument(text)
    assert type(got) is type(value)
    assert got == value


def test_a_file_is_its_bytes(tmp_path: Path) -> None:
    (tmp_path / "blob").write_bytes(b"\0\xff[1]")
    assert argument(f"@{tmp_path}/blob") == b"\0\xff[1]"


def test_a_missing_file_says_how_to_write_the_text(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="can't be read") as caught:
        argument(f"@{tmp_path}/none")
    assert '"@text"' in caught.value.fix


@pytest.mark.parametrize("text", ['{"$bytes": "no base64!"}', '[{"$bytes": "A"}]'])
def test_damaged_bytes_are_refused(text: str) -> None:
    with pytest.raises(UsageError, match="base64"):
        argument(text)


@pytest.mark.parametrize("text", ["", "{", "NaN", "[" * 200_000, "'one'"])
def test_what_must_be_json_is_refused_otherwise(text: str) -> None:
    with pytest.raises(UsageError, match="JSON"):
        loads(text)


def test_nesting_has_a_bound() -> None:
    with pytest.raises(UsageError, match="nested"):
        loads("[" * 200 + "]" * 200)


@pytest.mark.parametrize(
    ("text", "value"), [("0", 0), ("1024", 1024), ("256MiB", 256 << 20), ("1.5GiB", 3 << 29), ("500MB", 500_000_000)]
)
def test_sizes(text: str, value: int) -> None:
    assert size(text) == value


@pytest.mark.parametrize(
    ("text", "value"),
    [("5", 5.0), ("0.3", 0.3), ("250ms", 0.25), ("1.5s", 1.5), ("10m", 600.0), ("1h", 3600.0), ("2d", 172_800.0)],
)
def test_times(text: str, value: float) -> None:
    assert seconds(text) == pytest.approx(value)


@pytest.mark.parametrize("text", ["", "-1", "1 fortnight", "s", "1e9", "nan", "inf", "1,5s", "٣s"])
def test_what_is_no_time_or_size(text: str) -> None:
    with pytest.raises(UsageError):
        seconds(text)
    with pytest.raises(UsageError):
        size(text)


def test_bytes_of_every_kind_have_one_form() -> None:
    assert to_json([bytearray(b"a"), memoryview(b"a"), b"a"]) == [{"$bytes": "YQ=="}] * 3
