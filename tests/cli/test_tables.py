"""Tables fit, and nobody else writes to our terminal."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from osiris_mesh_cli.tables import ago, bytes_text, clean, pairs, short_id, table

CELLS = st.text(alphabet=st.characters(codec="ascii", exclude_categories=["Cc"]), max_size=40)


@settings(max_examples=100)
@given(st.lists(st.lists(CELLS, min_size=3, max_size=3), max_size=5), st.integers(24, 120))
def test_no_line_is_wider_than_the_terminal(rows: list[list[str]], columns: int) -> None:
    lines = table(["ONE", "TWO", "THREE"], rows, columns=columns).split("\n")
    assert len(lines) == len(rows) + 1
    assert all(len(line) <= columns for line in lines)


@settings(max_examples=50)
@given(st.lists(st.lists(CELLS, min_size=2, max_size=2), max_size=5))
def test_nothing_is_cut_where_there_is_room(rows: list[list[str]]) -> None:
    text = table(["ONE", "TWO"], rows, columns=1000)
    for row in rows:
        for cell in row:
            assert cell.rstrip() in text


def test_a_table_for_people() -> None:
    text = table(["NAME", "COUNT", "NOTE"], [["add", 3, None], ["sharpen", 12, "a long note"]], columns=80)
    assert text.split("\n") == [
        "NAME     COUNT  NOTE",
        "add          3  -",
        "sharpen     12  a long note",
    ]


def test_only_the_widest_column_is_cut() -> None:
    text = table(["NAME", "NOTE"], [["sharpen", "x" * 50]], columns=30)
    assert text.split("\n")[1] == "sharpen  " + "x" * 20 + "…"


@settings(max_examples=100)
@given(st.text())
def test_shown_text_has_no_control_characters(text: str) -> None:
    assert clean(text).isprintable()


def test_an_escape_sequence_from_elsewhere_is_shown_not_obeyed() -> None:
    assert clean("a\x1b[2Jb\r\n") == "a\\x1b[2Jb\\r\\n"
    assert "\x1b" not in table(["X"], [["\x1b[31mred"]], columns=80)
    assert "\x1b" not in pairs([("name", "\x1b]0;title\x07")])


@pytest.mark.parametrize(
    ("distance", "text"), [(0, "0s ago"), (59_000, "59s ago"), (61_000, "1m ago"), (7_200_000, "2h ago")]
)
def test_ages(distance: int, text: str) -> None:
    assert ago(1_000_000_000 - distance, 1_000_000_000) == text


def test_what_is_to_come() -> None:
    assert ago(1_000_000_000 + 3 * 86_400_000, 1_000_000_000) == "in 3d"


@pytest.mark.parametrize(
    ("count", "text"), [(0, "0 B"), (1023, "1023 B"), (1536, "1.5 KiB"), (256 << 20, "256 MiB"), (5 << 40, "5.0 TiB")]
)
def test_byte_counts(count: int, text: str) -> None:
    assert bytes_text(count) == text


def test_pairs_leave_out_what_is_not_known() -> None:
    assert pairs([("a", 1), ("long", None), ("bc", "x")]) == "a   1\nbc  x"


def test_peer_ids_are_told_apart_by_their_ends() -> None:
    assert short_id("12D3KooWxxxxxxxx12345678") == "…12345678"
    assert short_id("short") == "short"
