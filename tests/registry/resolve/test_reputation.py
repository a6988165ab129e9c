"""What is believed of a provider, and how little a crowd can move it."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from osiris_mesh.registry.reputation import OTHERS_CAP, PRIOR, Reputation


def reputation(limit: int = 1000) -> Reputation:
    return Reputation(half_life=60.0, limit=limit)


def test_nothing_known_is_the_prior() -> None:
    assert reputation().belief("p", 0.0).score == pytest.approx(PRIOR)


# (honest: observers and their rate; sybils: how many, one group or each its own; the sybils' rate; bounds of the score)
SYBILS = [
    ("no liars", 5, 0.1, 0, False, 1.0, 0.0, 0.30),
    ("a few liars against five", 5, 0.1, 4, False, 1.0, 0.0, 0.30),
    ("a thousand liars let in by one", 5, 0.1, 1000, True, 1.0, 0.0, 0.30),
    ("liars who slander, of one group", 5, 1.0, 1000, True, 0.0, 0.90, 1.0),
    ("one liar alone", 0, 0.0, 1, False, 0.0, 0.15, 0.95),
]


@pytest.mark.parametrize(("what", "honest", "rate", "liars", "together", "lie", "least", "most"), SYBILS)
def test_a_crowd_moves_it_only_as_a_majority_of_groups(
    what: str, honest: int, rate: float, liars: int, together: bool, lie: float, least: float, most: float
) -> None:
    book = reputation()
    for number in range(honest):
        book.heard("p", f"h{number}", 100 * rate, 100 * (1 - rate), 0.0)
    for number in range(liars):
        book.heard("p", f"s{number}", 1e6 * lie, 1e6 * (1 - lie), 0.0, group="joiner" if together else "")
    assert least <= book.belief("p", 0.0).score <= most, what


@pytest.mark.parametrize("liars", [1, 10, 1000])
def test_our_own_calls_outweigh_everybody(liars: int) -> None:
    book = reputation()
    for number in range(liars):
        book.heard("p", f"s{number}", 1e6, 0, 0.0)
    book.saw("p", 0, 30, 0.0)
    belief = book.belief("p", 0.0)
    assert belief.others <= OTHERS_CAP
    assert belief.score < 0.3


def test_a_claim_is_replaced_not_added() -> None:
    once, often = reputation(), reputation()
    once.heard("p", "o", 3, 0, 0.0)
    for _ in range(100):
        often.heard("p", "o", 3, 0, 0.0)
    assert once.belief("p", 0.0) == often.belief("p", 0.0)


def test_praise_of_oneself_and_nonsense_do_not_count() -> None:
    book = reputation()
    assert not book.heard("p", "p", 100, 0, 0.0)
    assert not book.heard("p", "o", -1, 0, 0.0)
    assert not book.heard("p", "o", float("nan"), 0, 0.0)
    assert not book.heard("p", "o", float("inf"), 0, 0.0)
    assert book.belief("p", 0.0).groups == 0


def test_it_is_forgotten_with_time_and_with_membership() -> None:
    book = reputation()
    book.saw("p", 0, 100, 0.0)
    book.heard("p", "o", 0, 100, 0.0)
    assert book.belief("p", 0.0).score < 0.1
    assert book.belief("p", 3600.0).score == pytest.approx(PRIOR, abs=0.01)
    book.gone("o")
    assert book.belief("p", 0.0).groups == 0


def test_what_we_report_is_what_we_saw() -> None:
    book = reputation()
    book.saw("p", 8, 2, 0.0)
    book.heard("q", "o", 5, 5, 0.0)
    assert book.report(60.0) == {"p": (4.0, 1.0)}
    assert book.report(6000.0) == {}


@settings(max_examples=60)
@given(
    st.lists(st.tuples(st.text("ab", min_size=1, max_size=3), st.floats(0, 1e6), st.floats(0, 1e6)), max_size=30),
    st.integers(0, 50),
    st.integers(0, 50),
)
def test_the_score_is_a_share_and_within_what_others_may_add(
    told: list[tuple[str, float, float]], ok: int, failed: int
) -> None:
    alone, book = reputation(), reputation(limit=8)
    for each in (alone, book):
        each.saw("p", ok, failed, 0.0)
    for observer, good, bad in told:
        book.heard("p", observer, good, bad, 0.0)
    one, other = alone.belief("p", 0.0).score, book.belief("p", 0.0).score
    assert 0.0 <= other <= 1.0
    assert abs(one - other) <= OTHERS_CAP / (OTHERS_CAP + ok + failed + 2) + 1e-9


def test_providers_and_observers_are_bounded() -> None:
    book = reputation(limit=4)
    for number in range(100):
        book.heard(f"p{number}", "o", 1, 1, 0.0)
        book.saw(f"p{number}", 1, 1, 0.0)
    assert len(book.report(0.0)) == 4
    for number in range(5000):
        book.heard("p", f"o{number}", 1, 1, 0.0)
    assert book.belief("p", 0.0).groups == 1024
