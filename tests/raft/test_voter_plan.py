"""Who should vote: tables, and the way to rest from anywhere."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from osiris_mesh.raft import AddVoter, HandOver, RemoveVoter, VoterPlan

PLAN = VoterPlan()


@pytest.mark.parametrize(
    ("eligible", "alive", "voters", "expected"),
    [
        # At rest.
        ("a", "a", "a", None),
        ("ab", "ab", "a", None),  # two may, one does: an even number survives no more
        ("abc", "abc", "abc", None),
        ("abcd", "abcd", "abc", None),
        ("abcdef", "abcdef", "abcde", None),
        # Growing, over an even number.
        ("abc", "abc", "a", AddVoter("b")),
        ("abc", "abc", "ab", AddVoter("c")),
        ("abcde", "abcde", "abc", AddVoter("d")),
        ("abcde", "abcde", "abcd", AddVoter("e")),
        # The way ahead is lost: back to odd.
        ("abc", "ab", "ab", RemoveVoter("b")),
        ("abcd", "abcd", "abcd", RemoveVoter("b")),
        ("abcd", "abc", "abcd", RemoveVoter("d")),  # who is dead is the better one to spare
        # The dead keep their votes.
        ("abc", "ab", "abc", None),
        ("abcd", "abd", "abc", None),
        ("abc", "a", "a", None),
        # Who was removed from the ledger goes first.
        ("ab", "abc", "abc", RemoveVoter("c")),
        ("abd", "abcd", "abc", RemoveVoter("c")),
        ("ab", "ab", "abc", RemoveVoter("c")),
        ("a", "abc", "abc", RemoveVoter("b")),
        # ... but not while a living majority would be lost by it: a replacement first.
        ("abd", "acd", "abc", AddVoter("d")),
        ("ab", "ac", "abc", None),
        # The leader itself.
        ("bc", "abc", "abc", HandOver()),
        ("bc", "abc", "a", AddVoter("b")),
        ("b", "a", "a", None),
        ("bc", "ac", "abc", None),  # b is dead: nobody could commit after a left
    ],
)
def test_table(eligible: str, alive: str, voters: str, expected: object) -> None:
    assert PLAN.next_change(leader="a", eligible=eligible, alive=alive, caught_up=alive, voters=voters) == expected


def test_only_who_caught_up_is_added() -> None:
    assert PLAN.next_change(leader="a", eligible="abc", alive="abc", caught_up="ab", voters="a") is None
    assert PLAN.next_change(leader="a", eligible="abc", alive="abc", caught_up="c", voters="ab") == AddVoter("c")


_peers = st.sets(st.sampled_from("abcdefgh"))


@settings(max_examples=300, deadline=None)
@given(eligible=_peers, alive=_peers, voters=_peers)
def test_every_step_is_safe_and_the_way_ends(eligible: set[str], alive: set[str], voters: set[str]) -> None:
    voters = {*voters, "a"}
    living = alive | {"a"}
    if 2 * len(voters & living) <= len(voters):
        return  # no leader could be in office
    for _ in range(12):
        step = PLAN.next_change(leader="a", eligible=eligible, alive=alive, caught_up=alive, voters=voters)
        match step:
            case None | HandOver():
                break
            case AddVoter(peer):
                assert peer in eligible & living - voters
                voters = voters | {peer}
            case RemoveVoter(peer):
                assert peer in voters - {"a"}
                voters = voters - {peer}
        assert 2 * len(voters & living) > len(voters), "a step led to a configuration that can't write"
    else:
        raise AssertionError("the plan never rests")
    if step is None and voters <= eligible:
        assert len(voters) % 2
