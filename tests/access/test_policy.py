"""Who asks, and may he: the policy over a ledger's state."""

from __future__ import annotations

import pytest

from osiris_mesh.access.policy import Policy
from osiris_mesh.errors import UsageError
from osiris_mesh.identity.keys import KeyPair
from osiris_mesh.identity.peer_id import peer_id
from osiris_mesh.ledger.kinds import (
    ApiTokenCreate,
    ApiTokenRevoke,
    ConfigSet,
    RoleSet,
    TokenRevoke,
    UserRemove,
    UserUpdate,
)
from osiris_mesh.ledger.state import State
from osiris_mesh.link import Audience, Caller
from tests.ledger.kit import ADMIN, CLIENT, DEVELOPER, HOUR, MESH, OPERATOR, Paper


class Counted:
    """A policy over a paper ledger that counts how often the state was asked who somebody is."""

    def __init__(self) -> None:
        self.paper = Paper().begin()
        self.replaced: State | None = None
        self.policy = Policy(lambda: self.replaced or self.paper.state, self.paper.clock)
        self.asked = 0
        ask = self.policy.principal_of

        def counting(public_key: bytes) -> object:
            self.asked += 1
            return ask(public_key)

        self.policy.principal_of = counting  # type: ignore[method-assign, assignment]

    def token(self, *grants: str, owner: KeyPair = DEVELOPER) -> tuple[str, KeyPair]:
        text, key = Policy.make_token()
        expires = self.paper.clock.time_ms() + HOUR
        self.paper.must(ApiTokenCreate(key.public, owner.public, text[-8:], sorted(grants), expires), owner)
        return text, key


@pytest.fixture
def counted() -> Counted:
    return Counted()


def caller(key: KeyPair, audience: Audience = Audience.CLIENT) -> Caller:
    return Caller(key.public, peer_id(key.public), audience)


def test_a_bearer_is_the_token_and_its_owner(counted: Counted) -> None:
    text, key = counted.token("function.read", "function.call:team-a/*")
    principal = counted.policy.bearer(text)
    assert principal is not None
    assert (principal.kind, principal.owner) == ("api_token", DEVELOPER.public)
    assert principal.may("function.call", "team-a/x")
    assert not principal.may("function.call", "team-b/x")
    assert counted.policy.key_of(text).public == key.public


def test_a_bearer_is_nobody_once_expired_revoked_or_without_owner(counted: Counted) -> None:
    expires, _ = counted.token("mesh.read")
    revoked, key = counted.token("mesh.read")
    orphan, _ = counted.token("mesh.read", owner=OPERATOR)
    assert all(counted.policy.bearer(text) for text in (expires, revoked, orphan))
    counted.paper.must(ApiTokenRevoke(key.public), DEVELOPER)
    counted.paper.must(UserRemove(OPERATOR.public), ADMIN)
    assert [counted.policy.bearer(text) is None for text in (expires, revoked, orphan)] == [False, True, True]
    counted.paper.clock.advance(HOUR / 1000 - 0.001)
    assert counted.policy.bearer(expires)
    counted.paper.clock.advance(0.001)
    assert counted.policy.bearer(expires) is None


@pytest.mark.parametrize(
    "text", ["", "osa1", "Bearer x", "osm1abc", "osa1" + "A" * 43, "\ud800" * 47, "osa1" + "é" * 43]
)
def test_who_is_nobody(counted: Counted, text: str) -> None:
    assert counted.policy.bearer(text) is None


def test_users_and_clients_are_no_bearers(counted: Counted) -> None:
    """A seed that makes another kind of key does not become an API token by being spelt as one."""
    from osiris_mesh.identity.api_token import ApiToken  # noqa: PLC0415

    counted.paper.token(CLIENT, role="client", grant="none", name="app")
    for key in (ADMIN, CLIENT):
        assert counted.policy.bearer(ApiToken(key.seed).text()) is None


def test_a_key_of_no_token_is_refused(counted: Counted) -> None:
    with pytest.raises(UsageError):
        counted.policy.key_of("osa1")


def test_clients_call_what_their_grants_cover(counted: Counted) -> None:
    _, key = counted.token("function.call:team-a/*")
    counted.paper.token(CLIENT, role="client", grant="none", name="app")
    rows = [(name, counted.policy.may_call(caller(key), name)) for name in ("team-a/x", "team-a/x@1.0.0", "x", "b/x")]
    assert rows == [("team-a/x", True), ("team-a/x@1.0.0", True), ("x", False), ("b/x", False)]
    assert counted.policy.may_resolve(caller(key), "team-a/x@^1")
    assert not counted.policy.may_resolve(caller(key), "x")
    assert counted.policy.may_call(caller(CLIENT), "x")
    assert counted.policy.may_resolve(caller(CLIENT), "x")
    assert not counted.policy.may_call(caller(KeyPair.generate()), "x")
    with pytest.raises(UsageError):
        counted.policy.may_call(caller(CLIENT), "a/b/c/d")


def test_whose_calls_are_decided_elsewhere(counted: Counted) -> None:
    for audience in (Audience.LOCAL, Audience.MEMBER, Audience.FUNCTION):
        assert counted.policy.may_call(Caller(b"", "", audience), "x")
        assert counted.policy.may_resolve(Caller(b"", "", audience), "x")


def test_answers_are_kept_until_somebodys_rights_change(counted: Counted) -> None:
    _, key = counted.token("function.call", owner=DEVELOPER)
    who = caller(key)
    for _ in range(3):
        assert counted.policy.may_call(who, "a/b")
    counted.paper.must(ConfigSet("a", "1"), OPERATOR)
    assert counted.policy.may_call(who, "a/b")
    assert counted.asked == 1
    counted.paper.must(UserUpdate(DEVELOPER.public, "developer", "viewer"), ADMIN)
    assert not counted.policy.may_call(who, "a/b")
    counted.paper.must(RoleSet("callers", ["function.call:a/*"]), ADMIN)
    counted.paper.must(UserUpdate(DEVELOPER.public, "developer", "callers"), ADMIN)
    assert counted.policy.may_call(who, "a/b")
    counted.paper.must(RoleSet("callers", ["function.call:b/*"]), ADMIN)
    assert not counted.policy.may_call(who, "a/b")


def test_a_kept_answer_ends_with_the_token(counted: Counted) -> None:
    _, key = counted.token("function.call")
    counted.paper.token(CLIENT, role="client", grant="none", name="app", expires_ms=counted.paper.clock.time_ms() + 500)
    assert counted.policy.may_call(caller(CLIENT), "a/b")
    assert counted.policy.may_call(caller(key), "a/b")
    counted.paper.clock.advance(0.5)
    assert not counted.policy.may_call(caller(CLIENT), "a/b")
    assert counted.policy.may_call(caller(key), "a/b")
    counted.paper.clock.advance(HOUR / 1000)
    assert not counted.policy.may_call(caller(key), "a/b")


def test_a_revoked_client_calls_nothing(counted: Counted) -> None:
    counted.paper.token(CLIENT, role="client", grant="none", name="app")
    assert counted.policy.may_call(caller(CLIENT), "a/b")
    counted.paper.must(TokenRevoke(CLIENT.public), OPERATOR)
    assert not counted.policy.may_call(caller(CLIENT), "a/b")


def test_another_state_is_asked_anew(counted: Counted) -> None:
    counted.paper.token(CLIENT, role="client", grant="none", name="app")
    assert counted.policy.may_call(caller(CLIENT), "a/b")
    counted.replaced = State(MESH)
    counted.replaced.rights = counted.paper.state.rights
    assert not counted.policy.may_call(caller(CLIENT), "a/b")


def test_what_is_kept_is_bounded(counted: Counted) -> None:
    counted.paper.token(CLIENT, role="client", grant="none", name="app")
    for at in range(9000):
        assert counted.policy.may_call(caller(CLIENT), f"a/f{at}")
    assert len(counted.policy._answers) <= 8192
