"""Which answer holds, and why."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from osiris_mesh.errors import CheckFailed, Unavailable, UsageError
from osiris_mesh.function.name import Version
from osiris_mesh.registry.federation import Answer, Federation, Route, Verdict, merge
from osiris_mesh.registry.history import chain_of
from tests.registry.resolve.kit import answer, history, key

NAME = "acme.com/image/sharpen"
ONE = {"version": "1.0.0"}
TWO = {"version": "2.0.0"}
OTHER = {"version": "1.0.0", "description": "another"}
DOWN = Unavailable("no route to host")


def outcomes(verdict: Verdict) -> dict[str, str]:
    return {step.registry: step.outcome for step in verdict.why}


def judge(*answers: Answer, **more: Any) -> Verdict:
    return merge(answers, [item.registry for item in answers], **more)


def test_precedence_and_patterns_say_who_is_asked() -> None:
    federation = Federation((Route("private", ("team/*", "acme.com/*/*")), Route("public"), Route("odd", ("odd/f",))))
    # A name that a pattern fits is nobody else's business.
    assert federation.order("team/f") == ("private",)
    assert federation.order(NAME) == ("private",)
    assert federation.order("else/f") == ("public",)
    assert federation.order("odd/f") == ("odd",)
    shared = Federation((Route("a", ("team/*",)), Route("b", ("team/f", "other/*")), Route("c")))
    assert shared.order("team/f") == ("a", "b")
    with pytest.raises(UsageError, match="one name"):
        Federation((Route("a"), Route("a")))


def test_the_same_history_agrees_and_one_that_is_down_stops_nobody() -> None:
    lines = history(NAME, ONE)
    verdict = judge(Answer("a", error=DOWN), answer("b", lines), answer("c", lines), Answer("d"))
    assert outcomes(verdict) == {"a": "failed", "b": "holds", "c": "agrees", "d": "unknown"}
    assert verdict.answer is not None
    assert verdict.answer.registry == "b"
    assert "no route" in verdict.why[0].why


def test_the_longer_of_histories_that_continue_each_other_holds() -> None:
    short, long = history(NAME, ONE), history(NAME, ONE, TWO, {"amend": True, "version": "1.0.0", "deprecated": "old"})
    for chained in (True, False):
        answers = [answer("a", short), answer("b", long)]
        if not chained:
            answers = [Answer(item.registry, item.record) for item in answers]
        verdict = judge(*answers)
        assert outcomes(verdict) == {"a": "older", "b": "holds"}
        assert "longest" in verdict.why[1].why
        assert outcomes(judge(*reversed(answers))) == {"a": "older", "b": "holds"}


def test_two_honest_histories_and_the_higher_precedence_holds() -> None:
    ours, theirs = history(NAME, ONE, by=key(1)), history(NAME, OTHER, TWO, by=key(2))
    verdict = judge(answer("a", ours), answer("b", theirs))
    assert outcomes(verdict) == {"a": "holds", "b": "outranked"}
    assert verdict.evidence == ()
    assert outcomes(judge(answer("b", theirs), answer("a", ours))) == {"b": "holds", "a": "outranked"}


def test_equivocation_keeps_both_as_evidence_and_quarantines_one() -> None:
    first, second = history(NAME, ONE), history(NAME, OTHER)
    verdict = judge(answer("a", first), answer("b", second))
    assert outcomes(verdict) == {"a": "holds", "b": "quarantined"}
    (found,) = verdict.evidence
    assert (found.version, found.registry) == ("1.0.0", "b")
    assert found.lines == (first[0].line, second[0].line)


def test_what_the_ledger_knew_first_holds_whatever_the_precedence() -> None:
    first, second = history(NAME, ONE), history(NAME, OTHER)

    def known(_name: str, version: Version) -> bytes | None:
        return second[0].digest if str(version) == "1.0.0" else None

    verdict = judge(answer("a", first), answer("b", second), known=known)
    assert outcomes(verdict) == {"a": "quarantined", "b": "holds"}
    assert verdict.evidence[0].kept == second[0].digest
    alone = judge(answer("a", first), known=known)
    assert alone.answer is None
    assert not alone.missing, "somebody has the name; it is not to be had"


def test_histories_that_part_in_an_amendment_are_equivocation_too() -> None:
    first = history(NAME, ONE, {"amend": True, "version": "1.0.0", "deprecated": "for a"})
    second = history(NAME, ONE, {"amend": True, "version": "1.0.0", "deprecated": "for b"})
    verdict = judge(answer("a", first), answer("b", second))
    assert outcomes(verdict) == {"a": "holds", "b": "quarantined"}
    assert verdict.evidence[0].version == ""


def test_a_failure_is_never_not_found() -> None:
    assert judge(Answer("a"), Answer("b")).missing
    verdict = judge(Answer("a"), Answer("b", error=CheckFailed("forged", reason="signature")))
    assert not verdict.missing
    assert verdict.answer is None
    assert not merge([], []).missing


def test_nobody_takes_the_place_of_a_registry_that_is_kept_from_answering() -> None:
    ours, theirs = history(NAME, ONE, by=key(1)), history(NAME, OTHER, by=key(2))
    before = answer("a", ours)
    verdict = judge(Answer("a", error=DOWN), answer("b", theirs), before=before)
    assert verdict.answer is None
    assert outcomes(verdict)["b"] == "not believed"
    longer = history(NAME, ONE, TWO, by=key(1))
    assert outcomes(judge(Answer("a", error=DOWN), answer("b", longer), before=before))["b"] == "holds"
    assert outcomes(judge(Answer("a"), answer("b", theirs), before=before))["b"] == "holds", "it withdrew the name"


def test_a_copied_history_is_continued_only_by_those_who_may() -> None:
    ours = history(NAME, ONE, by=key(1))
    copied = history(NAME, ONE, TWO, by=key(2))
    mixed = [*ours, copied[1]]
    for stolen in (copied, mixed):
        verdict = judge(answer("a", ours), answer("b", stolen))
        assert outcomes(verdict) == {"a": "holds", "b": "outranked"}
        assert "not trusted through a" in verdict.why[1].why
        verdict = judge(answer("a", ours), answer("b", stolen), accepts=lambda _registry, _answer: True)
        assert outcomes(verdict) == {"a": "older", "b": "holds"}
        down = judge(Answer("a", error=DOWN), answer("b", stolen), before=answer("a", ours))
        assert outcomes(down)["b"] == "not believed"


def test_a_fork_of_what_this_node_saw_first_is_quarantined_whatever_the_precedence() -> None:
    first, second = history(NAME, ONE, TWO), history(NAME, ONE, {**TWO, "description": "forked"})
    verdict = judge(answer("a", second), answer("b", first), before=answer("b", first))
    assert outcomes(verdict) == {"a": "quarantined", "b": "holds"}
    honest = history(NAME, OTHER, by=key(2))
    verdict = judge(answer("a", honest), answer("b", first), before=answer("b", first))
    assert outcomes(verdict) == {"a": "holds", "b": "outranked"}, "no signer in common: precedence"


DEPRECATED = {"amend": True, "version": "1.0.0", "deprecated": "by us"}


@pytest.mark.parametrize(
    ("mine", "theirs"),
    [(TWO, {**TWO, "description": "not ours"}), (DEPRECATED, {**DEPRECATED, "deprecated": "by them"})],
)
def test_who_copied_a_beginning_does_not_keep_its_owner_out(mine: dict[str, Any], theirs: dict[str, Any]) -> None:
    ours = history(NAME, ONE, mine, by=key(1))
    stolen = [*ours[:1], history(NAME, ONE, theirs, by=key(2))[1]]
    copied = answer("b", stolen)
    # As it was served while our registry was down; and as it is held since, without its lines.
    for before in (copied, replace(copied, lines=b"", signers=chain_of(stolen)[1])):
        verdict = judge(answer("a", ours), copied, before=before)
        assert outcomes(verdict) == {"a": "holds", "b": "outranked"}
        assert verdict.evidence == ()
    # Whoever signed both ways, from where they part, did say two things.
    forked = history(NAME, ONE, theirs, by=key(1))
    held = replace(answer("a", ours), lines=b"", signers=chain_of(ours)[1])
    assert outcomes(judge(answer("b", forked), answer("a", ours), before=held)) == {"b": "quarantined", "a": "holds"}


def test_what_was_newer_is_not_given_up_for_a_copy_that_lags() -> None:
    short, long = history(NAME, ONE), history(NAME, ONE, TWO)
    verdict = judge(Answer("a", error=DOWN), answer("b", short), before=answer("a", long))
    assert outcomes(verdict)["b"] == "not believed"


def test_stale_is_what_only_stale_registries_say() -> None:
    lines = history(NAME, ONE)
    assert judge(answer("a", lines, stale=True)).stale
    assert not judge(answer("a", lines, stale=True), answer("b", lines)).stale


POOL = [
    history(NAME, ONE),
    history(NAME, ONE, TWO),
    history(NAME, ONE, {**TWO, "description": "forked"}),
    history(NAME, {**ONE, "description": "forked"}),
    history(NAME, OTHER, by=key(2)),
    history(NAME, OTHER, TWO, by=key(2)),
]


@settings(max_examples=100)
@given(st.lists(st.one_of(st.none(), st.just("down"), st.sampled_from(POOL)), max_size=6))
def test_whatever_is_said_one_step_each_and_the_first_usable_signers_hold(said: list[Any]) -> None:
    answers = [
        Answer(f"r{place}")
        if item is None
        else Answer(f"r{place}", error=DOWN)
        if item == "down"
        else answer(f"r{place}", item)
        for place, item in enumerate(said)
    ]
    verdict = judge(*answers)
    assert [step.registry for step in verdict.why] == [item.registry for item in answers]
    usable = [item for item in said if isinstance(item, list)]
    assert (verdict.answer is not None) == bool(usable)
    assert [step.outcome for step in verdict.why].count("holds") == bool(usable)
    if usable and verdict.record is not None:
        held = {bound.digest for bound in verdict.record.versions.values()}
        firsts = {line.digest for line in usable[0]}
        assert firsts <= held, "the history of the highest precedence is continued, never replaced"


def test_a_registry_that_lags_takes_back_nothing_that_was_held() -> None:
    long = history(NAME, ONE, TWO)
    short, before = long[:1], Answer("b", answer("b", long).record)
    for other in (Answer("b", error=CheckFailed("refused")), Answer("b")):
        verdict = judge(answer("a", short), other, before=before)
        assert verdict.record is None
        assert not verdict.missing
        assert outcomes(verdict)["a"] == "not believed"
    # The same where the longer history's lines can't be judged just now.
    doubted = judge(answer("a", short), answer("b", long), before=before, accepts=lambda _registry, _answer: False)
    assert doubted.record is None
    # Somebody else's continuation is given up once the registry that comes first is back.
    rogue = Answer("b", answer("b", history(NAME, ONE, TWO, by=key(2))).record)
    back = judge(answer("a", history(NAME, ONE, by=key(1))), before=rogue, accepts=lambda _registry, _answer: False)
    assert back.record is not None
    assert back.record.sequence == 1
