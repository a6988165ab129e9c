"""Histories of names: whole, or refused."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from osiris_mesh.errors import CheckFailed, OsirisError, RemoteProtocolError
from osiris_mesh.function.name import FunctionName, Version
from osiris_mesh.registry.history import MAX_LINES, follow, join_lines, read_lines
from osiris_mesh.registry.record import Placement, sign
from osiris_mesh.registry.statement import make
from tests.registry.core.kit import NAME, NOW, VENDOR_KEY, history, provider

V1, V2 = Version(1, 0, 0), Version(2, 0, 0)
LINES = history(
    {"version": "2.0.0"},
    {"version": "1.0.0"},
    {"version": "1.0.0", "deprecated": "use 2"},
    {"aliases": {"stable": "1.0.0", "next": "2.0.0"}},
    {"version": "2.0.0", "providers": (provider(),)},
)


def test_what_a_history_comes_to() -> None:
    record = follow(NAME, LINES)
    assert (record.name, record.sequence, record.digest) == (str(NAME), 5, LINES[-1].digest)
    assert list(record.versions) == [V1, V2]
    assert record.versions[V1].deprecated == "use 2"
    assert record.versions[V2].deprecated is None
    assert record.versions[V2].providers == (provider(),)
    assert record.versions[V2].binding.providers == ()
    assert (record.versions[V1].digest, record.versions[V1].line) == (LINES[1].digest, LINES[1].line)
    assert record.aliases == {"stable": V1, "next": V2}
    assert read_lines(join_lines(LINES)) == LINES


def test_a_later_amendment_wins() -> None:
    record = follow(
        NAME,
        history(
            {"version": "1.0.0"},
            {"version": "1.0.0", "deprecated": "old", "providers": (provider(),), "aliases": {"a": "1.0.0"}},
            {"version": "1.0.0", "deprecated": ""},
            {"aliases": {}},
        ),
    )
    assert record.versions[V1].deprecated is None
    assert record.versions[V1].providers == (provider(),)
    assert record.aliases == {}


def test_revoked_statements_have_no_effect_and_keep_their_place() -> None:
    record = follow(NAME, LINES, {LINES[1].digest, LINES[4].digest})
    assert list(record.versions) == [V2]
    assert record.versions[V2].providers == ()
    assert record.aliases == {"next": V2}
    assert record.revoked == {LINES[1].digest, LINES[4].digest}
    assert record.sequence == 5


def test_what_a_stolen_key_appended_does_no_harm_once_revoked() -> None:
    lines = history(
        {"version": "1.0.0"},
        {"version": "1.0.0", "digest": "cd" * 32},
        {"version": "7.0.0", "deprecated": "never bound"},
        {"version": "2.0.0"},
    )
    record = follow(NAME, lines, {lines[1].digest, lines[2].digest})
    assert list(record.versions) == [V1, V2]
    assert record.versions[V1].binding.digest == "ab" * 32


@pytest.mark.parametrize(
    ("said", "reason"),
    [
        ([{"version": "1.0.0"}, {"version": "1.0.0", "digest": "cd" * 32}], "equivocation"),
        ([{"version": "1.0.0", "deprecated": "x"}], "history"),
        ([{"version": "1.0.0"}, {"aliases": {"stable": "1.0.1"}}], "history"),
        ([], "history"),
    ],
)
def test_histories_that_contradict_themselves(said: list[dict[str, Any]], reason: str) -> None:
    with pytest.raises(CheckFailed) as caught:
        follow(NAME, history(*said))
    assert caught.value.details["reason"] == reason


@settings(max_examples=60)
@given(st.lists(st.integers(0, 4), max_size=6).filter(lambda order: order != list(range(len(order)))))
def test_reordered_missing_or_doubled_lines_are_refused(order: list[int]) -> None:
    with pytest.raises(CheckFailed):
        follow(NAME, [LINES[place] for place in order])


def test_any_cut_leaves_a_shorter_whole_history_or_none() -> None:
    data = join_lines(LINES)
    ends = {place + 1 for place, byte in enumerate(data) if byte == 10}
    for cut in range(1, len(data)):
        if cut in ends:
            assert follow(NAME, read_lines(data[:cut])).sequence == data[:cut].count(b"\n")
        else:
            with pytest.raises(RemoteProtocolError):
                read_lines(data[:cut])


@pytest.mark.parametrize(
    "data", [b"\n", join_lines(LINES) + b"\n", b"\n" + join_lines(LINES), join_lines(LINES).replace(b"\n", b"\r\n")]
)
def test_other_files_are_refused(data: bytes) -> None:
    with pytest.raises(RemoteProtocolError):
        read_lines(data)


def test_lines_of_others_are_refused() -> None:
    with pytest.raises(CheckFailed, match="is about"):
        follow(FunctionName("", "default", "other"), LINES)
    placement = sign(Placement("acme", "https://acme.example", 1, NOW, NOW + 1), [VENDOR_KEY])
    for stray in (placement, make({"type": "binding", "x": 1}, [VENDOR_KEY]), make({"type": "?"}, [VENDOR_KEY])):
        with pytest.raises(CheckFailed):
            follow(NAME, [stray])


def test_bounds() -> None:
    with pytest.raises(RemoteProtocolError, match="more than"):
        read_lines(b"x\n" * (MAX_LINES + 1))


@settings(max_examples=60)
@given(st.binary(max_size=300))
def test_any_bytes_give_our_errors_alone(data: bytes) -> None:
    try:
        assert read_lines(data) == []
    except OsirisError:
        return
    assert not data
