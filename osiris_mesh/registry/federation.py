"""Several registries as one: who is asked, and which answer holds. A pure core.

Registries stand in order of *precedence*; its *route* says which names a registry is asked about. A name that a
route names is asked of such registries alone: else a public registry would learn private names, and could answer them
first. Over the answers:

====================================  ============================================================================
answers                               then
====================================  ============================================================================
one continues the other               the longer history holds, if the keys trusted through the registry of higher
                                      precedence signed what is new; else that registry's holds
they differ, no signer in common      two honest histories of one name: the higher precedence holds
they differ, a signer said both       equivocation: both are evidence; what was known first (to the ledger, else to
                                      this node) holds, otherwise the higher precedence; the other is quarantined
one contradicts what was known first  it is quarantined, whoever has it
one failed                            the others decide
none knows it, none failed            not found
none knows it, one failed             not known: never "not found"
====================================  ============================================================================

One answer more is not believed: another history of a name we know, while the registry we had that from is down. Else
whoever keeps a private registry from answering could put a stranger's function in its place.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Final, Literal

from osiris_mesh.errors import OsirisError, RemoteProtocolError, UsageError
from osiris_mesh.function.name import Version
from osiris_mesh.registry.context import matches
from osiris_mesh.registry.record import Record
from osiris_mesh.registry.statement import parse

__all__ = ["Accepts", "Answer", "Equivocation", "Federation", "Known", "Outcome", "Route", "Step", "Verdict", "merge"]

Outcome = Literal["holds", "agrees", "older", "outranked", "quarantined", "unknown", "failed", "not believed"]
Known = Callable[[str, Version], bytes | None]
"""Digest of the binding that was known first for a name and version, or None."""
Accepts = Callable[[str, "Answer"], bool]
"""Whether the keys trusted through a registry, by name, signed every statement of another registry's answer."""
_MAX_REGISTRIES: Final = 64


@dataclass(frozen=True, slots=True)
class Route:
    """Which names a registry is asked about.

    Attributes:
        registry: The registry's name.
        patterns: As in :func:`osiris_mesh.registry.context.matches`; none: every name that nobody's patterns fit.
    """

    registry: str
    patterns: tuple[str, ...] = ()

    def fits(self, name: str) -> bool:
        """Say whether the registry is asked about a full name."""
        return not self.patterns or any(matches(pattern, name) for pattern in self.patterns)


@dataclass(frozen=True, slots=True)
class Federation:
    """The registries of a node.

    Attributes:
        routes: One for each, the highest precedence first.

    Raises:
        UsageError: A registry stands twice, or there are too many.
    """

    routes: tuple[Route, ...] = ()

    def __post_init__(self) -> None:
        if len({route.registry for route in self.routes}) != len(self.routes):
            raise UsageError("two registries have one name", fix="give each a name of its own")
        if len(self.routes) > _MAX_REGISTRIES:
            raise UsageError(f"there are more than {_MAX_REGISTRIES} registries")

    def order(self, name: str) -> tuple[str, ...]:
        """Return the registries to ask about a full name, the highest precedence first."""
        fitting = [route for route in self.routes if route.fits(name)]
        routed = [route for route in fitting if route.patterns]
        return tuple(route.registry for route in routed or fitting)


@dataclass(frozen=True, slots=True)
class Answer:
    """What one registry said.

    Attributes:
        registry: Its name.
        record: What it has; None: surely nothing, or see ``error``.
        error: Why it gave no usable answer.
        stale: It is believed no longer to be up to date: its checkpoint expired.
        age_ms: Milliseconds since it was known to be up to date.
        chain: Digests of all statements of the history, oldest first; empty: not known.
        lines: The history itself, as in the registry's tree; empty: not known.
        signers: Keys that signed each statement of ``chain``; empty: not known.
    """

    registry: str
    record: Record | None = None
    error: OsirisError | None = None
    stale: bool = False
    age_ms: int = 0
    chain: tuple[bytes, ...] = ()
    lines: bytes = b""
    signers: tuple[frozenset[bytes], ...] = ()


@dataclass(frozen=True, slots=True)
class Step:
    """One line of the explanation: who said what, and what came of it."""

    registry: str
    said: str
    outcome: Outcome
    why: str

    def to_json(self) -> dict[str, str]:
        """Return it for programs."""
        return {"registry": self.registry, "said": self.said, "outcome": self.outcome, "why": self.why}


@dataclass(frozen=True, slots=True)
class Equivocation:
    """Two statements that contradict each other, with a signer in common or against what was known first.

    Attributes:
        name: Full name.
        version: The version bound twice; empty where the histories part in an amendment.
        kept: Digest of what holds.
        refused: Digest of what is quarantined.
        registry: Who had what is quarantined.
        lines: The statements' bytes, as far as they are known: the one that holds, the other.
    """

    name: str
    version: str
    kept: bytes
    refused: bytes
    registry: str
    lines: tuple[bytes, ...]


@dataclass(frozen=True, slots=True)
class Verdict:
    """What holds.

    Attributes:
        answer: The answer that holds; None: none.
        missing: Surely nobody knows the name.
        stale: Only registries that are not up to date said so.
        why: A step for each registry asked, by precedence.
        evidence: Contradictions found.
        errors: What went wrong, by registry.
    """

    answer: Answer | None
    missing: bool
    stale: bool
    why: tuple[Step, ...]
    evidence: tuple[Equivocation, ...] = ()
    errors: tuple[tuple[str, OsirisError], ...] = ()

    @property
    def record(self) -> Record | None:
        """The record that holds."""
        return None if self.answer is None else self.answer.record


def merge(
    answers: Sequence[Answer],
    order: Sequence[str],
    *,
    known: Known = lambda _name, _version: None,
    accepts: Accepts | None = None,
    before: Answer | None = None,
) -> Verdict:
    """Decide which answer holds.

    Args:
        answers: What the registries said, at most one each.
        order: As :meth:`Federation.order` gave it; who is not in it does not count.
        known: What was known first.
        accepts: Whether the keys trusted through a registry signed a history; None: only signers of the shorter one may
            have continued it.
        before: The answer that held before, from a registry by name.
    """
    by_name = {answer.registry: answer for answer in answers}
    ranked = [by_name[registry] for registry in order if registry in by_name]
    steps: dict[str, Step] = {}
    evidence: list[Equivocation] = []
    usable: list[Answer] = []
    for answer in ranked:
        if answer.error is not None:
            steps[answer.registry] = Step(answer.registry, "nothing usable", "failed", str(answer.error))
        elif answer.record is None:
            steps[answer.registry] = Step(answer.registry, "no such name", "unknown", "")
        elif (found := _contradicts(answer, known)) is not None:
            evidence.append(found)
            steps[answer.registry] = _step(
                answer, "quarantined", f"version {found.version} was bound to {found.kept.hex()[:16]} before"
            )
        elif before is not None and _parts(before, answer):
            evidence.append(_parting(before, answer))
            steps[answer.registry] = _step(
                answer, "quarantined", f"its signer said otherwise before, in {before.registry}"
            )
        else:
            usable.append(answer)
    winner = _fold(usable, steps, evidence, accepts)
    failed = {answer.registry: answer.error for answer in ranked if answer.error is not None}
    if (
        winner is not None
        and before is not None
        and before.registry in failed
        and not (_same(before, winner) or _continues(before, winner, accepts))
    ):
        steps[winner.registry] = _step(
            winner, "not believed", f"it does not continue what {before.registry} had, and that is not answering"
        )
        winner = None
    if winner is not None and before is not None and _goes_back(before, winner, accepts):
        steps[winner.registry] = _step(winner, "not believed", f"{before.registry} had more of the same history before")
        winner = None
    stale = False
    if winner is not None:
        same = [answer for answer in usable if _same(answer, winner)]
        stale = all(answer.stale for answer in same)
    return Verdict(
        answer=winner,
        missing=winner is None and bool(ranked) and not failed and not usable and not evidence,
        stale=stale,
        why=tuple(steps[answer.registry] for answer in ranked),
        evidence=tuple(evidence),
        errors=tuple(failed.items()),
    )


def _fold(
    usable: Sequence[Answer], steps: dict[str, Step], evidence: list[Equivocation], accepts: Accepts | None
) -> Answer | None:
    winner: Answer | None = None
    for answer in usable:
        if winner is None:
            winner = answer
            continue
        if _same(winner, answer):
            steps[answer.registry] = _step(answer, "agrees", f"the same history as {winner.registry}")
        elif _is_prefix(answer, winner):
            steps[answer.registry] = _step(answer, "older", f"{winner.registry} has more of the same history")
        elif _continues(winner, answer, accepts):
            steps[winner.registry] = _step(winner, "older", f"{answer.registry} has more of the same history")
            winner = answer
        elif _is_prefix(winner, answer):
            steps[answer.registry] = _step(
                answer, "outranked", f"it goes on with signers that are not trusted through {winner.registry}"
            )
        elif _said_both(winner, answer):
            evidence.append(_parting(winner, answer))
            steps[answer.registry] = _step(
                answer, "quarantined", f"its signer said otherwise in {winner.registry}, which comes before it"
            )
        else:
            steps[answer.registry] = _step(
                answer, "outranked", f"another history of the same name, and {winner.registry} comes before it"
            )
    if winner is not None:
        why = "it is the only one" if len(usable) == 1 else "first by precedence"
        if any(step.outcome == "older" and winner.registry in step.why for step in steps.values()):
            why = "the longest of histories that continue each other"
        steps[winner.registry] = _step(winner, "holds", why)
    return winner


def _record(answer: Answer) -> Record:
    record = answer.record
    assert record is not None  # noqa: S101 - only usable answers come here
    return record


def _same(one: Answer, other: Answer) -> bool:
    first, second = _record(one), _record(other)
    return first.sequence == second.sequence and first.digest == second.digest


def _is_prefix(short: Answer, long: Answer) -> bool:
    """Say whether ``long`` continues ``short``, which has fewer statements."""
    first, second = _record(short), _record(long)
    if first.sequence >= second.sequence:
        return False
    if len(long.chain) == second.sequence:
        return long.chain[first.sequence - 1] == first.digest
    # Without the chain: whatever was bound then is bound now, to the same, or revoked since.
    return all(
        bound.digest in second.revoked
        or (version in second.versions and second.versions[version].digest == bound.digest)
        for version, bound in first.versions.items()
    )


def _continues(short: Answer, long: Answer, accepts: Accepts | None) -> bool:
    """Say whether ``long`` continues ``short`` by those who may: a registry could copy a history and go on itself."""
    if not _is_prefix(short, long):
        return False
    return _signers(long) <= _signers(short) if accepts is None else accepts(short.registry, long)


def _goes_back(before: Answer, winner: Answer, accepts: Accepts | None) -> bool:
    """Say whether this is the beginning of what was held, and those who wrote the rest still count.

    A registry that lags behind must not take back what another one, which is asked but says nothing usable, had told.
    """
    if not _is_prefix(winner, before):
        return False
    if _signers(before) <= _signers(winner):
        return True
    return accepts is not None and accepts(winner.registry, _with_lines(before))


def _with_lines(answer: Answer) -> Answer:
    """Return an answer whose lines were not kept with those of its versions."""
    if answer.lines:
        return answer
    return replace(answer, lines=b"".join(bound.line + b"\n" for bound in _record(answer).versions.values()))


def _parts(before: Answer, answer: Answer) -> bool:
    """Say whether two histories contradict each other, with a signer in common."""
    if _same(before, answer) or _is_prefix(before, answer) or _is_prefix(answer, before):
        return False
    return _said_both(before, answer)


def _said_both(one: Answer, other: Answer) -> bool:
    """Say whether somebody signed something in each of two histories that the other does not have.

    Who signed only what they share said nothing twice: anybody can copy the beginning of a history.
    """
    shared = frozenset(one.chain).intersection(other.chain)
    return bool(_signers(one, shared) & _signers(other, shared))


def _contradicts(answer: Answer, known: Known) -> Equivocation | None:
    record = _record(answer)
    for version, bound in record.versions.items():
        first = known(record.name, version)
        if first is not None and first != bound.digest:
            return Equivocation(record.name, str(version), first, bound.digest, answer.registry, (bound.line,))
    return None


def _parting(kept: Answer, refused: Answer) -> Equivocation:
    """Return where two histories contradict each other: at a version both bound, else at their ends."""
    first, second = _record(kept), _record(refused)
    for version, bound in first.versions.items():
        other = second.versions.get(version)
        if other is not None and other.digest != bound.digest:
            lines = (bound.line, other.line)
            return Equivocation(first.name, str(version), bound.digest, other.digest, refused.registry, lines)
    both = tuple(item.line for item in (*first.versions.values(), *second.versions.values()))
    return Equivocation(first.name, "", first.digest, second.digest, refused.registry, both)


def _signers(answer: Answer, but: frozenset[bytes] = frozenset()) -> frozenset[bytes]:
    """Return who signed the statements of a history, those with a digest in ``but`` left out."""
    if answer.signers:
        pairs = zip(answer.chain, answer.signers, strict=True)
        return frozenset().union(*(keys for digest, keys in pairs if digest not in but))
    found: set[bytes] = set()
    lines = answer.lines.splitlines() if answer.lines else [bound.line for bound in _record(answer).versions.values()]
    for line in lines:
        try:
            statement = parse(line)
        except RemoteProtocolError:  # it was proven when it was read; then damage, and no signer of ours
            continue
        if statement.digest not in but:
            found |= statement.keys
    return frozenset(found)


def _step(answer: Answer, outcome: Outcome, why: str) -> Step:
    record = _record(answer)
    newest = max(record.versions, default=None)
    count = len(record.versions)
    said = f"{count} version{'' if count == 1 else 's'}, sequence {record.sequence}, {record.digest.hex()[:16]}"
    if newest is not None:
        said = f"up to {newest}: {said}"
    return Step(answer.registry, said + (", stale" if answer.stale else ""), outcome, why)
