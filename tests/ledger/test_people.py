"""Users with custom roles, API tokens, and that nobody gives more than he holds."""

from __future__ import annotations

from typing import Any

import pytest

from osiris_mesh.identity.keys import KeyPair
from osiris_mesh.ledger.kinds import (
    ApiTokenCreate,
    ApiTokenRevoke,
    Body,
    ConfigSet,
    FunctionActivate,
    FunctionPublish,
    RoleRemove,
    RoleSet,
    TokenCreate,
    TokenRevoke,
    UserAdd,
    UserRemove,
    UserUpdate,
)
from osiris_mesh.ledger.outcome import Outcome
from osiris_mesh.ledger.people import MAX_API_TOKENS, MAX_ROLES
from osiris_mesh.ledger.permissions import PERMISSIONS
from osiris_mesh.ledger.records import Role
from tests.ledger.kit import (
    ADMIN,
    CLIENT,
    DEVELOPER,
    FOUNDER,
    HOUR,
    OPERATOR,
    STRANGER,
    TOKEN,
    VIEWER,
    Paper,
    key,
    spec,
)

EVE, API = key("eve"), key("api")


@pytest.fixture
def paper() -> Paper:
    return Paper().begin()


def refused(outcome: Outcome, code: str, text: str = "") -> None:
    assert (outcome.accepted, outcome.code) == (False, code), outcome
    assert text in outcome.reason


def publish(name: str, version: str = "1.0.0") -> Body:
    return FunctionPublish(spec(name, version, b"d" * 32).to_wire())


def role(paper: Paper, name: str, *grants: str, who: KeyPair = EVE) -> None:
    """Make a custom role and a user who has it."""
    paper.must(RoleSet(name, sorted(grants)), ADMIN)
    paper.must(UserAdd(who.public, name, name), ADMIN)


def token(paper: Paper, owner: KeyPair, *grants: str, name: str = "ci", who: KeyPair = API, hours: float = 1) -> Body:
    return ApiTokenCreate(who.public, owner.public, name, sorted(grants), paper.clock.time_ms() + int(hours * HOUR))


def may(paper: Paper, who: KeyPair, permission: str, subject: str = "") -> bool:
    found: bool = paper.state.principal(who.public, paper.clock.time_ms()).may(permission, subject)
    return found


# Custom roles


def test_a_custom_role_is_what_its_grants_say_and_changes_for_all_who_have_it(paper: Paper) -> None:
    role(paper, "team-a", "function.deploy:team-a/*", "mesh.read")
    paper.must(publish("team-a/add"), EVE)
    paper.must(FunctionActivate("team-a/add", "1.0.0"), EVE)
    refused(paper.put(publish("team-b/add"), EVE), "role", "for the name")
    refused(paper.put(FunctionActivate("team-b/add", "1.0.0"), EVE), "role")
    refused(paper.put(ConfigSet("a", "1"), EVE), "role", "team-a")
    paper.must(RoleSet("team-a", ["function.deploy:team-b/*"]), ADMIN)
    paper.must(publish("team-b/add"), EVE)
    refused(paper.put(publish("team-a/add", "2.0.0"), EVE), "role")
    assert paper.put(RoleSet("team-a", ["function.deploy:team-b/*"]), ADMIN).code == "unchanged"


@pytest.mark.parametrize(
    ("body", "code"),
    [
        (RoleSet("admin", ["mesh.read"]), "reserved"),
        (RoleSet("viewer", ["mesh.read"]), "reserved"),
        (RoleSet("none", ["mesh.read"]), "reserved"),
        (RoleSet("Team", ["mesh.read"]), "body"),
        (RoleSet("", ["mesh.read"]), "body"),
        (RoleSet("x" * 65, ["mesh.read"]), "body"),
        (RoleSet("x", []), "body"),
        (RoleSet("x", ["mesh.read", "audit.read"]), "body"),
        (RoleSet("x", ["mesh.read", "mesh.read"]), "body"),
        (RoleSet("x", ["mesh.fly"]), "body"),
        (RoleSet("x", ["mesh.read:a/b"]), "body"),
        (RoleSet("x", [f"function.call:a/f{at:02}" for at in range(65)]), "body"),
        (RoleSet("x", [b"mesh.read"]), "body"),  # type: ignore[list-item]
        (RoleRemove("admin"), "reserved"),
        (RoleRemove("nothing"), "unknown"),
    ],
)
def test_roles_that_can_not_be(paper: Paper, body: Body, code: str) -> None:
    refused(paper.put(body, ADMIN), code)


def test_a_role_in_use_is_not_removed(paper: Paper) -> None:
    role(paper, "ops", "mesh.read")
    refused(paper.put(RoleRemove("ops"), ADMIN), "used", "ops")
    paper.must(UserUpdate(EVE.public, "eve", "viewer"), ADMIN)
    paper.must(RoleRemove("ops"), ADMIN)
    refused(paper.put(UserUpdate(EVE.public, "eve", "ops"), ADMIN), "unknown", "no role ops")


def test_roles_are_bounded_in_number(paper: Paper) -> None:
    grants = paper.state.role("viewer")
    paper.state.roles.update({f"r{at}": Role(f"r{at}", grants, 1) for at in range(MAX_ROLES)})
    refused(paper.put(RoleSet("one-more", ["mesh.read"]), ADMIN), "full")
    paper.must(RoleSet("r0", ["mesh.read"]), ADMIN)


# Nobody gives more than he holds.


@pytest.mark.parametrize(
    "body",
    [
        RoleSet("mine", ["config.write"]),
        RoleSet("mine", ["function.call"]),
        RoleSet("strong", ["user.manage"]),
        RoleRemove("strong"),
        UserAdd(STRANGER.public, "s", "admin"),
        UserAdd(STRANGER.public, "s", "viewer"),
        UserAdd(STRANGER.public, "s", "strong"),
        UserUpdate(EVE.public, "people", "admin"),
        UserUpdate(ADMIN.public, "ada", "people"),
        UserUpdate(VIEWER.public, "viewer", "people"),
        UserRemove(ADMIN.public),
        UserRemove(VIEWER.public),
        ApiTokenCreate(API.public, ADMIN.public, "t", ["config.write"], 1 << 50),
        TokenCreate(TOKEN.public, "voter", "developer", 1, 1 << 50, ""),
        TokenCreate(CLIENT.public, "client", "none", 1, 1 << 50, "app"),
    ],
)
def test_who_manages_users_does_not_rise_above_himself(paper: Paper, body: Body) -> None:
    paper.must(RoleSet("strong", ["config.write", "user.manage"]), ADMIN)
    role(paper, "people", "user.manage", "token.manage", "function.call:team-a/*")
    outcome = paper.put(body, EVE)
    refused(outcome, "grant", "does not hold himself")


def test_who_manages_users_gives_what_he_holds(paper: Paper) -> None:
    role(paper, "people", "user.manage", "function.call:team-a/*")
    paper.must(RoleSet("callers", ["function.call:team-a/x*"]), EVE)
    paper.must(UserAdd(STRANGER.public, "s", "callers"), EVE)
    assert may(paper, STRANGER, "function.call", "team-a/xy")
    assert not may(paper, STRANGER, "function.call", "team-a/y")
    paper.must(UserUpdate(STRANGER.public, "s", "people"), EVE)
    paper.must(UserRemove(STRANGER.public), EVE)
    # Once narrowed, it is narrow for himself, too.
    paper.must(RoleSet("people", ["function.call:team-a/x*", "user.manage"]), EVE)
    refused(paper.put(RoleSet("people", ["function.call:team-a/*", "user.manage"]), EVE), "grant")


def test_somebody_who_holds_everything_always_stays(paper: Paper) -> None:
    paper.must(RoleSet("root", sorted(PERMISSIONS)), ADMIN)
    paper.must(RoleSet("people", ["user.manage"]), ADMIN)
    paper.must(UserAdd(EVE.public, "eve", "people"), ADMIN)
    refused(paper.put(UserRemove(ADMIN.public), ADMIN), "last")
    paper.must(UserUpdate(EVE.public, "eve", "root"), ADMIN)
    paper.must(UserRemove(ADMIN.public), EVE)
    refused(paper.put(RoleSet("root", ["user.manage"]), EVE), "last")
    refused(paper.put(UserUpdate(EVE.public, "eve", "people"), EVE), "last")
    refused(paper.put(UserRemove(EVE.public), EVE), "last")
    paper.must(UserAdd(ADMIN.public, "ada", "admin"), EVE)
    paper.must(RoleSet("root", ["user.manage"]), EVE)


# API tokens


def test_an_api_token_may_what_it_and_its_owner_may(paper: Paper) -> None:
    paper.must(token(paper, DEVELOPER, "function.deploy:team-a/*", "mesh.read"), DEVELOPER)
    principal = paper.state.principal(API.public, paper.clock.time_ms())
    assert (principal.kind, principal.name, principal.owner) == ("api_token", "ci", DEVELOPER.public)
    paper.must(publish("team-a/add"), API)
    assert paper.state.functions["team-a/add"].versions["1.0.0"].publisher == API.public
    refused(paper.put(publish("team-b/add"), API), "role", "the API token ci")
    refused(paper.put(ConfigSet("a", "1"), API), "role")
    paper.must(UserUpdate(DEVELOPER.public, "developer", "viewer"), ADMIN)
    refused(paper.put(publish("team-a/add", "2.0.0"), API), "role")
    assert may(paper, API, "mesh.read")


def test_a_token_ends_by_time_revocation_or_with_its_owner(paper: Paper) -> None:
    for at, who in enumerate((API, key("t1"), key("t2"))):
        paper.must(token(paper, OPERATOR, "config.write", name=f"t{at}", who=who, hours=1 + at), OPERATOR)
        paper.must(ConfigSet("a", str(at)), who)
    paper.clock.advance(3600)
    refused(paper.put(ConfigSet("a", "9"), API), "author")
    paper.must(ConfigSet("a", "10"), key("t1"))
    paper.must(ApiTokenRevoke(key("t1").public), OPERATOR)
    refused(paper.put(ConfigSet("a", "11"), key("t1")), "author")
    assert paper.put(ApiTokenRevoke(key("t1").public), OPERATOR).code == "unchanged"
    paper.must(UserRemove(OPERATOR.public), ADMIN)
    refused(paper.put(ConfigSet("a", "12"), key("t2")), "author")
    paper.must(UserAdd(OPERATOR.public, "operator", "operator"), ADMIN)
    refused(paper.put(ConfigSet("a", "13"), key("t2")), "author")
    assert paper.state.api_tokens == {}


def test_a_token_of_a_client_ends_with_the_clients_time(paper: Paper) -> None:
    paper.token(CLIENT, role="client", grant="operator", name="app")
    paper.must(token(paper, CLIENT, "config.write", hours=24), CLIENT)
    paper.must(ConfigSet("a", "1"), API)
    paper.clock.advance(3600)
    refused(paper.put(ConfigSet("a", "2"), API), "author")


def test_an_owner_creates_and_revokes_his_own_and_who_manages_users_others(paper: Paper) -> None:
    body = token(paper, VIEWER, "mesh.read")
    for author, code in ((DEVELOPER, "role"), (OPERATOR, "role"), (FOUNDER, "role"), (STRANGER, "author")):
        refused(paper.put(body, author), code)
    paper.must(body, VIEWER)
    refused(paper.put(ApiTokenRevoke(API.public), OPERATOR), "role")
    paper.must(ApiTokenRevoke(API.public), ADMIN)
    paper.must(token(paper, VIEWER, "mesh.read", who=key("other")), ADMIN)
    refused(paper.put(token(paper, STRANGER, "mesh.read", who=key("more")), ADMIN), "unknown")
    refused(paper.put(ApiTokenRevoke(key("more").public), ADMIN), "unknown")


def test_a_token_never_creates_tokens_and_gives_up_itself_alone(paper: Paper) -> None:
    paper.must(token(paper, ADMIN, *PERMISSIONS), ADMIN)
    paper.must(token(paper, OPERATOR, "mesh.read", name="small", who=key("small")), OPERATOR)
    paper.must(token(paper, OPERATOR, "mesh.read", name="other", who=key("other")), OPERATOR)
    refused(paper.put(token(paper, ADMIN, "mesh.read", name="x", who=key("x")), API), "role", "creates no tokens")
    refused(paper.put(ApiTokenRevoke(key("other").public), key("small")), "role")
    paper.must(ApiTokenRevoke(key("small").public), key("small"))
    paper.must(ApiTokenRevoke(key("other").public), API)  # which has user.manage


@pytest.mark.parametrize(
    ("changes", "code"),
    [
        ({"key": ADMIN.public}, "exists"),
        ({"key": FOUNDER.public}, "exists"),
        ({"key": TOKEN.public}, "exists"),
        ({"key": key("there").public}, "exists"),
        ({"name": "there"}, "exists"),
        ({"expires_ms": 0}, "token"),
        ({"grants": ["config.write"]}, "grant"),
        ({"grants": []}, "body"),
        ({"name": ""}, "body"),
        ({"key": b"x"}, "body"),
    ],
)
def test_tokens_that_can_not_be(paper: Paper, changes: dict[str, Any], code: str) -> None:
    paper.token()
    paper.must(token(paper, DEVELOPER, "mesh.read", name="there", who=key("there")), DEVELOPER)
    values = {
        "key": API.public, "owner": DEVELOPER.public, "name": "ci", "grants": ["mesh.read"],
        "expires_ms": paper.clock.time_ms() + 1,
    }  # fmt: skip
    refused(paper.put(ApiTokenCreate(**{**values, **changes}), DEVELOPER), code)
    paper.must(ApiTokenCreate(**values), DEVELOPER)


def test_living_tokens_are_bounded_and_dead_ones_make_room(paper: Paper) -> None:
    for at in range(MAX_API_TOKENS):
        paper.must(token(paper, VIEWER, "mesh.read", name=f"t{at}", who=key(f"t{at}")), VIEWER)
    refused(paper.put(token(paper, VIEWER, "mesh.read"), VIEWER), "full")
    paper.must(token(paper, DEVELOPER, "mesh.read", who=key("his")), DEVELOPER)
    paper.must(ApiTokenRevoke(key("t7").public), VIEWER)
    paper.must(token(paper, VIEWER, "mesh.read", name="t7"), VIEWER)
    assert key("t7").public not in paper.state.api_tokens
    assert len(paper.state.api_tokens) == MAX_API_TOKENS + 1


def test_a_clients_token_is_not_made_of_a_users_key(paper: Paper) -> None:
    expires = paper.clock.time_ms() + 1000
    refused(paper.put(TokenCreate(ADMIN.public, "client", "none", 1, expires, "trap"), OPERATOR), "exists")
    paper.must(token(paper, VIEWER, "mesh.read"), VIEWER)
    refused(paper.put(TokenCreate(API.public, "voter", "none", 1, expires, ""), OPERATOR), "exists")
    paper.clock.advance(2)
    assert may(paper, ADMIN, "user.manage")


# Principals


def test_who_holds_a_key(paper: Paper) -> None:
    paper.token(CLIENT, role="client", grant="none", name="app")
    state, now = paper.state, paper.clock.time_ms()
    kinds = {who: state.principal(who.public, now).kind for who in (ADMIN, FOUNDER, CLIENT, STRANGER)}
    assert kinds == {ADMIN: "user", FOUNDER: "node", CLIENT: "client", STRANGER: "nobody"}
    assert may(paper, CLIENT, "function.call", "a/b")
    assert not may(paper, CLIENT, "mesh.read")
    assert not any(may(paper, FOUNDER, permission) for permission in PERMISSIONS)
    assert state.principal(CLIENT.public, now + HOUR).kind == "nobody"
    paper.must(TokenRevoke(CLIENT.public), OPERATOR)
    assert state.principal(CLIENT.public, now).kind == "nobody"


def test_what_changes_rights_counts_and_nothing_else(paper: Paper) -> None:
    for body, author, counts in (
        (ConfigSet("a", "1"), OPERATOR, False),
        (publish("a/b"), DEVELOPER, False),
        (RoleSet("r", ["mesh.read"]), ADMIN, True),
        (RoleSet("r2", ["mesh.read"]), VIEWER, False),
        (UserAdd(EVE.public, "eve", "r"), ADMIN, True),
        (UserUpdate(EVE.public, "eve", "viewer"), ADMIN, True),
        (token(paper, VIEWER, "mesh.read"), VIEWER, True),
        (ApiTokenRevoke(API.public), VIEWER, True),
    ):
        before = paper.state.rights
        paper.put(body, author)
        assert (paper.state.rights > before) is counts, body


def test_the_next_expiry_is_that_of_a_living_token(paper: Paper) -> None:
    now = paper.clock.time_ms()
    assert paper.state.next_expiry(now) > 1 << 60
    paper.token(expires_ms=now + 10)
    assert paper.state.next_expiry(now) > 1 << 60  # a voter's: what it was good for is over with the join
    paper.token(CLIENT, role="client", grant="none", name="app", expires_ms=now + 3000)
    paper.must(token(paper, VIEWER, "mesh.read"), VIEWER)
    assert paper.state.next_expiry(now) == now + 3000
    assert paper.state.next_expiry(now + 3000) == now + HOUR
    paper.must(ApiTokenRevoke(API.public), VIEWER)
    assert paper.state.next_expiry(now + 3000) > 1 << 60


def test_names_outlive_who_had_them(paper: Paper) -> None:
    paper.must(token(paper, VIEWER, "mesh.read"), VIEWER)
    paper.must(UserRemove(VIEWER.public), ADMIN)
    names = paper.state.names
    assert (names[VIEWER.public].kind, names[VIEWER.public].name) == ("user", "viewer")
    assert (names[API.public].kind, names[API.public].name, names[API.public].owner) == (
        "api_token", "ci", VIEWER.public,
    )  # fmt: skip
    assert names[FOUNDER.public].kind == "node"
