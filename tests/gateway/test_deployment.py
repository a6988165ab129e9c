"""Nothing is installed, run or proposed before the ledger would take the deployment; nothing changes by asking."""

from __future__ import annotations

from typing import Any

import pytest

from osiris_mesh.clock import FakeClock
from osiris_mesh.errors import CheckFailed, Denied, OsirisError, Unavailable, UsageError
from osiris_mesh.function.spec import FunctionSpec
from osiris_mesh.gateway.deployment import check, make_ready
from osiris_mesh.identity.keys import KeyPair
from osiris_mesh.ledger.entry import Entry
from osiris_mesh.ledger.kinds import (
    Body,
    FunctionActivate,
    FunctionPublish,
    FunctionRemove,
    RoleSet,
    UserRemove,
    UserUpdate,
)
from osiris_mesh.ledger.outcome import Outcome
from osiris_mesh.ledger.permissions import BUILT_IN_ROLES
from osiris_mesh.runtime.spreading import Copies
from tests.ledger.kit import ADMIN, DEVELOPER, STRANGER, VIEWER, Paper, spec

ADD = spec()
OTHER = spec(digest=b"\x01" * 32)
PUBLISH = (FunctionPublish(ADD.to_wire()), FunctionActivate(ADD.name, ADD.version))


class Functions:
    """Notes what was asked of it, in order."""

    def __init__(self, *, ok: bool = True, copies: Copies | OsirisError = Copies(2, 3)) -> None:  # noqa: B008 - frozen
        self.done: list[str] = []
        self.contexts: list[str] = []
        self._ok = ok
        self._copies = copies

    def check_bundle(self, spec: FunctionSpec) -> None:
        assert spec == ADD
        self.done.append("bundle")

    async def test(self, digest: bytes, context: str = "") -> dict[str, Any]:
        assert digest == ADD.digest
        self.contexts.append(context)
        self.done.append("test")
        return {"ok": self._ok, "results": []}

    async def spread(self, digest: bytes) -> Copies:
        assert digest == ADD.digest
        self.done.append("spread")
        if isinstance(self._copies, OsirisError):
            raise self._copies
        return self._copies


@pytest.fixture
def paper() -> Paper:
    return Paper().begin()


def asked(paper: Paper, author: KeyPair, *bodies: Body) -> list[Outcome]:
    return check(paper.state, [paper.entry(body, author) for body in bodies], paper.clock.time_ms())


def codes(paper: Paper, author: KeyPair, *bodies: Body) -> list[str]:
    return [outcome.code for outcome in asked(paper, author, *bodies)]


def test_what_would_be_accepted_changes_nothing(paper: Paper) -> None:
    assert all(outcome.accepted for outcome in asked(paper, DEVELOPER, *PUBLISH))
    assert (paper.state.functions, paper.state.tombs) == ({}, {})
    for body in PUBLISH:
        paper.must(body, DEVELOPER)
    before = dict(paper.state.functions)
    assert codes(paper, DEVELOPER, *PUBLISH) == ["unchanged", "unchanged"]
    assert paper.state.functions == before


def test_it_says_what_the_ledger_will_say(paper: Paper) -> None:
    for author in (VIEWER, STRANGER, DEVELOPER, ADMIN):
        for body in (*PUBLISH, FunctionPublish(OTHER.to_wire()), FunctionActivate("default/none", "1.0.0")):
            (before,) = asked(paper, author, body)
            assert before == paper.put(body, author)


def test_a_removed_version_never_comes_to_mean_other_code(paper: Paper) -> None:
    for body in (*PUBLISH, FunctionRemove(ADD.name, "")):
        paper.must(body, DEVELOPER)
    assert codes(paper, DEVELOPER, FunctionPublish(OTHER.to_wire())) == ["exists"]
    assert paper.state.tombs


def test_a_signature_is_checked_and_so_is_the_mesh(paper: Paper) -> None:
    good = paper.entry(PUBLISH[0], DEVELOPER)
    other = paper.entry(PUBLISH[0], VIEWER)
    forged = Entry(
        good.kind, good.author, good.nonce, good.time_ms, good.body, good.mesh_id,
        good.payload, other.signature, other.hash, good.bytes,
    )  # fmt: skip
    foreign = Entry.make(PUBLISH[0].KIND, PUBLISH[0].body(), DEVELOPER, bytes(16), paper.clock)
    outcomes = check(paper.state, [forged, foreign], paper.clock.time_ms())
    assert [outcome.code for outcome in outcomes] == ["signature", "mesh"]


def test_only_publishing_and_activating_belong_into_a_deployment(paper: Paper) -> None:
    with pytest.raises(UsageError, match=r"user\.remove"):
        asked(paper, ADMIN, *PUBLISH, UserRemove(DEVELOPER.public))


def entries(paper: Paper, author: KeyPair) -> list[bytes]:
    return [paper.entry(body, author).bytes for body in PUBLISH]


def refuse(outcome: Outcome) -> OsirisError:
    return Denied(outcome.reason)


async def ready(paper: Paper, functions: Functions, author: KeyPair = DEVELOPER) -> Any:
    clock = FakeClock()
    return await make_ready(paper.state, functions, ADD, entries(paper, author), refuse, clock)


@pytest.mark.parametrize("author", [VIEWER, STRANGER])
async def test_nothing_runs_for_who_may_not_deploy(paper: Paper, author: KeyPair) -> None:
    functions = Functions()
    with pytest.raises(Denied):
        await ready(paper, functions, author)
    assert functions.done == []


async def test_tests_run_before_anybody_else_stores_it(paper: Paper) -> None:
    functions = Functions()
    result = await ready(paper, functions)
    assert functions.done == ["bundle", "test", "spread"]
    assert (result.tests["ok"], result.copies, result.nodes) == (True, 2, 3)
    failing = Functions(ok=False)
    with pytest.raises(CheckFailed):
        await ready(paper, failing)
    assert failing.done == ["bundle", "test"]


async def test_the_tests_reach_what_their_author_reaches(paper: Paper) -> None:
    for author, context in (
        (ADMIN, ""),
        (DEVELOPER, f"full; permissions={','.join(BUILT_IN_ROLES['developer'].texts)}"),
    ):
        functions = Functions()
        await ready(paper, functions, author)
        assert functions.contexts == [context]
    paper.put(RoleSet("narrow", ["function.call:t/*", "function.deploy"]), ADMIN)
    paper.put(UserUpdate(DEVELOPER.public, "dev", "narrow"), ADMIN)
    functions = Functions()
    await ready(paper, functions)
    assert functions.contexts == ["full; functions=t/*; permissions=function.call,function.deploy"]


async def test_no_majority_is_unavailable(paper: Paper) -> None:
    with pytest.raises(Unavailable):
        await ready(paper, Functions(copies=Unavailable("no", maybe=False)))
