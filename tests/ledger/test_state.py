"""Each kind of entry: what it does, who may, and why it is refused."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from osiris_mesh.identity.keys import KeyPair
from osiris_mesh.identity.peer_id import peer_id
from osiris_mesh.ledger.authority import AUTHORS
from osiris_mesh.ledger.effects import EFFECTS, MAX_SETTINGS
from osiris_mesh.ledger.entry import Entry
from osiris_mesh.ledger.kinds import (
    KINDS,
    ApiTokenCreate,
    ApiTokenRevoke,
    Body,
    ConfigReset,
    ConfigSet,
    ContainerFunctions,
    FunctionActivate,
    FunctionDeprecate,
    FunctionPublish,
    FunctionRemove,
    MemberAdd,
    MemberRemove,
    MemberRole,
    RegistryRemove,
    RegistryWrite,
    RoleRemove,
    RoleSet,
    TokenCreate,
    TokenRevoke,
    UserAdd,
    UserRemove,
    UserUpdate,
)
from osiris_mesh.ledger.outcome import Outcome
from osiris_mesh.ledger.tree import head_after
from tests.ledger.kit import (
    ADMIN,
    CLIENT,
    DEVELOPER,
    FOUNDER,
    HOUR,
    JOINER,
    MESH,
    OPERATOR,
    STRANGER,
    TOKEN,
    VIEWER,
    Paper,
    genesis,
    key,
    spec,
)

FOUNDER_PEER = peer_id(FOUNDER.public)
JOINER_PEER = peer_id(JOINER.public)


@pytest.fixture
def paper() -> Paper:
    return Paper().begin()


def refused(outcome: Outcome, code: str, text: str = "") -> None:
    assert (outcome.accepted, outcome.code) == (False, code), outcome
    assert text in outcome.reason


def publish(version: str = "1.0.0", digest: bytes = b"d" * 32, name: str = "default/add", **more: Any) -> Body:
    return FunctionPublish(spec(name, version, digest, **more).to_wire())


def snapshot(paper: Paper) -> tuple[object, ...]:
    state = paper.state
    return tuple(
        dict(part)
        for part in (
            state.members,
            state.users,
            state.roles,
            state.tokens,
            state.api_tokens,
            state.functions,
            state.containers,
            state.settings,
            state.tree,
        )
    )


# Who may author what: one row a kind, everyone who may; all others may not.

WHO = {
    "founder node": FOUNDER,
    "admin": ADMIN,
    "operator": OPERATOR,
    "developer": DEVELOPER,
    "viewer": VIEWER,
    "stranger": STRANGER,
    "client": CLIENT,
}
ROWS: list[tuple[Body, set[str]]] = [
    (MemberRemove(JOINER_PEER), {"admin", "operator"}),
    (MemberRole(JOINER_PEER, "follower"), {"admin", "operator"}),
    (TokenCreate(key("new").public, "voter", "none", 1, 1 << 50, ""), {"admin", "operator"}),
    (TokenRevoke(TOKEN.public), {"admin", "operator"}),
    (publish("2.0.0"), {"admin", "operator", "developer"}),
    (FunctionActivate("default/add", "1.0.0"), {"admin", "operator", "developer"}),
    (FunctionDeprecate("default/add", "1.0.0"), {"admin", "operator", "developer"}),
    (FunctionRemove("default/add", ""), {"admin", "operator", "developer"}),
    (ContainerFunctions([["default/add", "1.0.0", 1]]), {"founder node"}),
    (ConfigSet("a.b", "1"), {"admin", "operator"}),
    (ConfigReset("x.y"), {"admin", "operator"}),
    (UserAdd(key("u").public, "u", "viewer"), {"admin"}),
    (UserUpdate(VIEWER.public, "v", "viewer"), {"admin"}),
    (UserRemove(VIEWER.public), {"admin"}),
    (RoleSet("ci", ["function.read"]), {"admin"}),
    (RoleRemove("spare"), {"admin"}),
    (ApiTokenCreate(key("api").public, VIEWER.public, "t", ["mesh.read"], 1 << 50), {"admin", "viewer"}),
    (ApiTokenRevoke(key("his").public), {"admin", "viewer"}),
    (RegistryWrite([["ns/_/math/sub.jsonl", b"", b"line"]]), {"admin", "operator", "developer"}),
    (RegistryRemove("ns/_/math/add.jsonl", head_after(b"", b"line")), {"admin", "operator"}),
]


@pytest.mark.parametrize("who", WHO)
@pytest.mark.parametrize(("body", "allowed"), ROWS, ids=[body.KIND for body, _ in ROWS])
def test_who_may_author_what(paper: Paper, body: Body, allowed: set[str], who: str) -> None:
    paper.token()
    paper.must(paper.join(), FOUNDER)
    paper.token(CLIENT, role="client", grant="none", name="app")
    paper.must(publish(), DEVELOPER)
    paper.must(ConfigSet("x.y", "1"), ADMIN)
    paper.must(RoleSet("spare", ["mesh.read"]), ADMIN)
    paper.must(ApiTokenCreate(key("his").public, VIEWER.public, "his", ["mesh.read"], 1 << 50), VIEWER)
    paper.must(RegistryWrite([["ns/_/math/add.jsonl", b"", b"line"]]), DEVELOPER)
    before = snapshot(paper)
    outcome = paper.put(body, WHO[who])
    assert outcome.accepted is (who in allowed), outcome
    assert (snapshot(paper) == before) is (who not in allowed)
    if who not in allowed:
        assert outcome.code in {"author", "role", "client"}


def test_the_tables_name_every_kind() -> None:
    assert set(KINDS) == set(AUTHORS) == set(EFFECTS)
    assert {body.KIND for body, _ in ROWS} | {"genesis", "member.add"} == set(KINDS)


# Genesis


def test_a_genesis_makes_founders_and_an_admin() -> None:
    paper = Paper()
    paper.must(genesis([FOUNDER, JOINER]), JOINER)
    assert paper.state.name == "paper"
    assert paper.state.voters() == sorted([FOUNDER_PEER, JOINER_PEER])
    assert [(user.name, user.role) for user in paper.state.users.values()] == [("ada", "admin")]
    assert paper.state.members[FOUNDER_PEER].addresses == ("/ip4/127.0.0.1/tcp/7411",)


def test_there_is_one_genesis(paper: Paper) -> None:
    refused(paper.put(genesis(), FOUNDER), "genesis")


@pytest.mark.parametrize(
    ("body", "author"),
    [
        (genesis(), STRANGER),
        (genesis([FOUNDER, FOUNDER]), FOUNDER),
        (genesis([]), FOUNDER),
        (ConfigSet("a", "b"), FOUNDER),
    ],
)
def test_before_a_genesis_nothing_makes_a_block(body: Body, author: KeyPair) -> None:
    paper = Paper()
    assert paper.command([paper.entry(body, author).bytes]) is None
    assert paper.replica.tip.height == 0
    paper.must(genesis(), FOUNDER)
    assert paper.replica.tip.height == 1


# Joining and leaving


def test_a_node_joins_with_a_token_and_brings_a_user(paper: Paper) -> None:
    paper.token(grant="operator")
    user = key("user")
    paper.must(paper.join(user=user.public), FOUNDER)
    member = paper.state.members[JOINER_PEER]
    assert (member.name, member.role, member.since) == ("joiner", "voter", paper.replica.tip.height)
    assert paper.state.users[user.public].role == "operator"
    assert paper.state.tokens[TOKEN.public].used == 1


def test_a_user_that_comes_along_gets_a_free_name_and_keeps_an_old_role(paper: Paper) -> None:
    paper.token(uses=3, grant="admin")
    for at in range(2):
        paper.must(paper.join(key(f"j{at}"), user=key(f"u{at}").public, name="viewer"), FOUNDER)
    assert {user.name for user in paper.state.users.values()} >= {"viewer", "viewer-2", "viewer-3"}
    paper.must(paper.join(key("j9"), user=VIEWER.public), FOUNDER)
    assert paper.state.users[VIEWER.public].role == "viewer"


def test_a_token_that_grants_none_brings_no_user(paper: Paper) -> None:
    paper.token(grant="none")
    paper.must(paper.join(user=key("user").public), FOUNDER)
    assert key("user").public not in paper.state.users


def forged_by_joiner(paper: Paper) -> Body:
    good = paper.join()
    assert isinstance(good, MemberAdd)
    return replace(good, signature=good.token_signature)


def forged_by_token(paper: Paper) -> Body:
    return replace(paper.join(), token_signature=bytes(64))


def renamed(paper: Paper) -> Body:
    return replace(paper.join(), name="other")


def moved(paper: Paper) -> Body:
    return replace(paper.join(), addresses=[])


def other_user(paper: Paper) -> Body:
    return replace(paper.join(), user=STRANGER.public)


@pytest.mark.parametrize("forge", [forged_by_joiner, forged_by_token, renamed, moved, other_user])
def test_an_admission_needs_both_signatures_over_all_of_it(paper: Paper, forge: Any) -> None:
    paper.token()
    refused(paper.put(forge(paper), FOUNDER), "signature")
    assert paper.state.tokens[TOKEN.public].used == 0


def test_tokens_that_admit_nobody(paper: Paper) -> None:
    refused(paper.put(paper.join(), FOUNDER), "token", "not known")
    paper.token()
    paper.must(TokenRevoke(TOKEN.public), OPERATOR)
    refused(paper.put(paper.join(), FOUNDER), "token", "revoked")
    paper.token(key("short"), expires_ms=paper.clock.time_ms() + 1000)
    paper.clock.advance(1.0)
    refused(paper.put(paper.join(token=key("short")), FOUNDER), "token", "expired")
    paper.token(key("once"), uses=1)
    paper.must(paper.join(key("a"), key("once")), FOUNDER)
    refused(paper.put(paper.join(key("b"), key("once")), FOUNDER), "token", "as often")
    paper.token(CLIENT, role="client", name="app")
    refused(paper.put(paper.join(token=CLIENT), FOUNDER), "token", "client")


def test_only_a_node_proposes_an_admission(paper: Paper) -> None:
    paper.token()
    for author in (ADMIN, JOINER, STRANGER):
        assert paper.put(paper.join(), author).code in {"author", "role"}


def test_a_member_does_not_join_twice(paper: Paper) -> None:
    paper.token(uses=2)
    paper.must(paper.join(), FOUNDER)
    refused(paper.put(paper.join(), FOUNDER), "exists")


def test_an_old_admission_does_not_bring_a_removed_node_back(paper: Paper) -> None:
    paper.token(uses=5)
    paper.must(paper.join(), FOUNDER)
    paper.must(MemberRemove(JOINER_PEER), OPERATOR)
    refused(paper.put(paper.join(), FOUNDER), "token", "before")
    paper.token(key("fresh"))
    paper.must(paper.join(token=key("fresh")), FOUNDER)


def test_a_node_leaves_and_what_it_ran_is_gone(paper: Paper) -> None:
    paper.token()
    paper.must(paper.join(), FOUNDER)
    paper.must(ContainerFunctions([["default/add", "1.0.0", 2]]), JOINER)
    paper.must(MemberRemove(JOINER_PEER), JOINER)
    assert JOINER_PEER not in paper.state.members
    assert paper.state.containers == {}
    refused(paper.put(ContainerFunctions([]), JOINER), "author")


def test_the_last_voter_stays(paper: Paper) -> None:
    refused(paper.put(MemberRemove(FOUNDER_PEER), FOUNDER), "last")
    refused(paper.put(MemberRole(FOUNDER_PEER, "follower"), ADMIN), "last")
    paper.token(role="follower")
    paper.must(paper.join(), FOUNDER)
    refused(paper.put(MemberRemove(FOUNDER_PEER), OPERATOR), "last")
    paper.must(MemberRole(JOINER_PEER, "voter"), OPERATOR)
    paper.must(MemberRemove(FOUNDER_PEER), OPERATOR)


def test_roles_of_members(paper: Paper) -> None:
    paper.token(CLIENT, role="client", name="app")
    refused(paper.put(MemberRole(peer_id(CLIENT.public), "voter"), ADMIN), "client")
    refused(paper.put(MemberRole(JOINER_PEER, "voter"), ADMIN), "unknown")
    refused(paper.put(MemberRemove(JOINER_PEER), ADMIN), "unknown")
    assert paper.put(MemberRole(FOUNDER_PEER, "voter"), ADMIN).code == "unchanged"


# Tokens


def test_a_clients_token_is_a_member_at_once_and_until_it_is_revoked(paper: Paper) -> None:
    paper.token(CLIENT, role="client", grant="developer", name="pipeline")
    member = paper.state.members[peer_id(CLIENT.public)]
    assert (member.role, member.name, member.addresses) == ("client", "pipeline", ())
    paper.must(publish(), CLIENT)
    paper.must(TokenRevoke(CLIENT.public), OPERATOR)
    assert peer_id(CLIENT.public) not in paper.state.members
    refused(paper.put(publish("2.0.0"), CLIENT), "author")
    assert paper.put(TokenRevoke(CLIENT.public), OPERATOR).code == "unchanged"


def test_a_clients_token_expires_for_its_user_too(paper: Paper) -> None:
    paper.token(CLIENT, role="client", grant="developer", name="pipeline")
    paper.clock.advance(HOUR / 1000)
    refused(paper.put(publish(), CLIENT), "author")


def test_a_grant_is_never_above_its_issuers_role(paper: Paper) -> None:
    expires = paper.clock.time_ms() + HOUR
    refused(paper.put(TokenCreate(TOKEN.public, "voter", "admin", 1, expires, ""), OPERATOR), "grant")
    paper.must(TokenCreate(TOKEN.public, "voter", "operator", 1, expires, ""), OPERATOR)
    assert paper.state.tokens[TOKEN.public].issuer == OPERATOR.public


def test_tokens_that_can_not_be_created(paper: Paper) -> None:
    paper.token()
    expires = paper.clock.time_ms() + HOUR
    new = key("new").public
    for body, code in (
        (TokenCreate(TOKEN.public, "voter", "none", 1, expires, ""), "exists"),
        (TokenCreate(new, "voter", "none", 1, paper.clock.time_ms(), ""), "token"),
        (TokenCreate(new, "client", "none", 2, expires, "app"), "body"),
        (TokenCreate(new, "client", "none", 1, expires, ""), "body"),
        (TokenCreate(FOUNDER.public, "client", "none", 1, expires, "app"), "exists"),
        (TokenCreate(new, "king", "none", 1, expires, ""), "body"),
        (TokenCreate(new, "voter", "viewer", 1, expires, ""), "body"),
        (TokenCreate(new, "voter", "none", 0, expires, ""), "body"),
    ):
        refused(paper.put(body, ADMIN), code)
    refused(paper.put(TokenRevoke(new), ADMIN), "unknown")


# Functions


def test_versions_are_immutable(paper: Paper) -> None:
    paper.must(publish(), DEVELOPER)
    assert paper.put(publish(), DEVELOPER).code == "unchanged"
    refused(paper.put(publish(digest=b"e" * 32), DEVELOPER), "exists", "other code")
    record = paper.state.functions["default/add"]
    assert (list(record.versions), record.active) == (["1.0.0"], None)
    assert record.versions["1.0.0"].publisher == DEVELOPER.public


def test_a_removed_version_never_means_other_code(paper: Paper) -> None:
    paper.must(publish(), DEVELOPER)
    paper.must(FunctionRemove("default/add", ""), DEVELOPER)
    assert paper.state.functions == {}
    refused(paper.put(publish(digest=b"e" * 32), DEVELOPER), "exists")
    paper.must(publish(), DEVELOPER)


def test_activate_rolls_back_as_well(paper: Paper) -> None:
    paper.must(publish("1.0.0"), DEVELOPER)
    paper.must(publish("1.1.0", b"e" * 32), DEVELOPER)
    assert paper.state.active("default/add") is None
    for version in ("1.0.0", "1.1.0", "1.0.0"):
        paper.must(FunctionActivate("default/add", version), DEVELOPER)
        assert paper.state.active("default/add").spec.version == version
    assert paper.put(FunctionActivate("default/add", "1.0.0"), DEVELOPER).code == "unchanged"
    refused(paper.put(FunctionActivate("default/add", "3.0.0"), DEVELOPER), "unknown")
    refused(paper.put(FunctionActivate("default/sub", "1.0.0"), DEVELOPER), "unknown")


def test_activate_with_a_digest_takes_no_other_code(paper: Paper) -> None:
    mine, other = b"e" * 32, b"f" * 32
    paper.must(publish("1.0.0"), DEVELOPER)
    paper.must(FunctionActivate("default/add", "1.0.0"), DEVELOPER)
    paper.must(publish("1.1.0", other), DEVELOPER)
    # One deployment: its publication comes too late, so its activation must not switch to the other's code.
    bodies = (publish("1.1.0", mine), FunctionActivate("default/add", "1.1.0", mine))
    block = paper.command([paper.entry(body, DEVELOPER).bytes for body in bodies])
    assert block is not None
    assert [outcome.code for outcome in block.outcomes] == ["exists", "digest"]
    assert paper.state.active("default/add").spec.version == "1.0.0"
    paper.must(FunctionActivate("default/add", "1.1.0", other), DEVELOPER)
    refused(paper.put(FunctionActivate("default/add", "1.1.0", mine), DEVELOPER), "digest")
    refused(paper.put(FunctionActivate("default/add", "1.0.0", b"short"), DEVELOPER), "body")


def test_deprecate_and_remove_one_version(paper: Paper) -> None:
    paper.must(publish("1.0.0"), DEVELOPER)
    paper.must(publish("1.1.0", b"e" * 32), DEVELOPER)
    paper.must(FunctionActivate("default/add", "1.1.0"), DEVELOPER)
    paper.must(FunctionDeprecate("default/add", "1.0.0"), DEVELOPER)
    assert paper.state.functions["default/add"].versions["1.0.0"].deprecated
    assert paper.put(FunctionDeprecate("default/add", "1.0.0"), DEVELOPER).code == "unchanged"
    refused(paper.put(FunctionRemove("default/add", "1.1.0"), DEVELOPER), "active")
    paper.must(FunctionRemove("default/add", "1.0.0"), DEVELOPER)
    refused(paper.put(FunctionRemove("default/add", "1.0.0"), DEVELOPER), "unknown")
    paper.must(FunctionRemove("default/add", "1.1.0"), DEVELOPER)  # the last one, active or not
    refused(paper.put(FunctionRemove("default/add", ""), DEVELOPER), "unknown")


@pytest.mark.parametrize(
    "wire",
    [
        b"x",
        spec().to_wire()[:-1],
        spec(digest=b"").to_wire(),
        spec(name="add").to_wire(),
        spec(version="1").to_wire(),
        spec(memory=1).to_wire(),
    ],
)
def test_a_specification_that_is_none_is_refused(paper: Paper, wire: bytes) -> None:
    refused(paper.put(FunctionPublish(wire), DEVELOPER), "body")


# Containers, settings, users


def test_what_runs_on_a_container_is_the_whole_list(paper: Paper) -> None:
    paper.must(ContainerFunctions([["a/b", "1.0.0", 1], ["a/c", "1.0.0", 3]]), FOUNDER)
    paper.must(ContainerFunctions([["a/c", "1.0.0", 2]]), FOUNDER)
    assert paper.state.containers == {FOUNDER_PEER: (("a/c", "1.0.0", 2),)}
    assert paper.put(ContainerFunctions([["a/c", "1.0.0", 2]]), FOUNDER).code == "unchanged"


@pytest.mark.parametrize(
    "functions",
    [
        [["b/b", "1.0.0", 1], ["a/a", "1.0.0", 1]],
        [["a/a", "1.0.0", 1], ["a/a", "1.0.0", 1]],
        [["a", "1.0.0", 1]],
        [["a/a", "1.0", 1]],
        [["a/a", "1.0.0", 0]],
        [["a/a", "1.0.0", True]],
        [["a/a", "1.0.0"]],
        [[f"a/f{at:04}", "1.0.0", 1] for at in range(1025)],
    ],
)
def test_lists_that_are_no_lists_of_functions(paper: Paper, functions: list[list[Any]]) -> None:
    refused(paper.put(ContainerFunctions(functions), FOUNDER), "body")


def test_settings(paper: Paper) -> None:
    paper.must(ConfigSet("invoke.max_retries", "3"), OPERATOR)
    paper.must(ConfigSet("max_retries", "4"), OPERATOR)
    assert paper.put(ConfigSet("max_retries", "4"), OPERATOR).code == "unchanged"
    first = paper.state.set_by["max_retries"]
    paper.put(ConfigSet("max_retries", "4"), OPERATOR)
    assert paper.state.set_by["max_retries"] != first, "to the same value too"
    assert len(first) == 32
    paper.must(ConfigReset("max_retries"), OPERATOR)
    assert paper.put(ConfigReset("max_retries"), OPERATOR).code == "unchanged"
    assert set(paper.state.set_by) == set(paper.state.settings)
    assert paper.state.settings == {"invoke.max_retries": "3"}
    paper.must(ConfigReset(""), OPERATOR)
    assert (paper.state.settings, paper.state.set_by) == ({}, {})


@pytest.mark.parametrize(
    ("name", "value"), [("", "1"), ("A", "1"), ("a..b", "1"), ("a b", "1"), ("a", "x" * 4097), ("a", "\x00"), ("a", 1)]
)
def test_settings_out_of_bounds(paper: Paper, name: str, value: Any) -> None:
    refused(paper.put(ConfigSet(name, value), OPERATOR), "body")


def test_settings_are_bounded_in_number(paper: Paper) -> None:
    paper.state.settings = {f"k{at}": "" for at in range(MAX_SETTINGS)}
    refused(paper.put(ConfigSet("one.more", "1"), OPERATOR), "full")
    paper.must(ConfigSet("k0", "1"), OPERATOR)


def test_users(paper: Paper) -> None:
    john = key("john").public
    paper.must(UserAdd(john, "john", "viewer"), ADMIN)
    refused(paper.put(UserAdd(john, "johnny", "viewer"), ADMIN), "exists")
    refused(paper.put(UserAdd(key("other").public, "john", "viewer"), ADMIN), "exists")
    paper.must(UserUpdate(john, "john", "developer"), ADMIN)
    assert paper.put(UserUpdate(john, "john", "developer"), ADMIN).code == "unchanged"
    refused(paper.put(UserUpdate(john, "viewer", "developer"), ADMIN), "exists")
    refused(paper.put(UserUpdate(key("nobody").public, "n", "viewer"), ADMIN), "unknown")
    refused(paper.put(UserAdd(key("x").public, "x", "king"), ADMIN), "unknown", "no role king")
    refused(paper.put(UserAdd(key("x").public, "x", "King"), ADMIN), "body")
    refused(paper.put(UserAdd(key("x").public, "x\n", "viewer"), ADMIN), "body")
    paper.must(UserRemove(john), ADMIN)
    refused(paper.put(UserRemove(john), ADMIN), "unknown")


def test_the_last_admin_stays(paper: Paper) -> None:
    refused(paper.put(UserRemove(ADMIN.public), ADMIN), "last")
    refused(paper.put(UserUpdate(ADMIN.public, "ada", "operator"), ADMIN), "last")
    paper.must(UserUpdate(ADMIN.public, "ada l", "admin"), ADMIN)
    paper.must(UserUpdate(OPERATOR.public, "operator", "admin"), ADMIN)
    paper.must(UserRemove(ADMIN.public), OPERATOR)


def test_a_client_is_never_the_last_admin_because_it_expires(paper: Paper) -> None:
    paper.token(CLIENT, role="client", grant="admin", name="app")
    refused(paper.put(UserRemove(ADMIN.public), CLIENT), "last")
    refused(paper.put(UserUpdate(ADMIN.public, "ada", "operator"), CLIENT), "last")
    paper.must(TokenRevoke(CLIENT.public), OPERATOR)


# The gates every entry passes


def test_an_entry_has_one_effect_and_is_answered_with_its_first_outcome(paper: Paper) -> None:
    entry = paper.entry(ConfigSet("a", "1"), OPERATOR)
    assert paper.command([entry.bytes]).outcomes[0].accepted
    paper.must(ConfigReset("a"), OPERATOR)
    again = paper.command([entry.bytes]).outcomes[0]
    assert (again.accepted, again.code) == (True, "duplicate")
    assert paper.state.settings == {}
    bad = paper.entry(ConfigSet("a", "1"), VIEWER)
    first, second = paper.command([bad.bytes, bad.bytes]).outcomes
    assert (first.code, second.code, second.accepted) == ("role", "duplicate", False)
    assert first.reason in second.reason


def test_replays_fail_before_and_after_the_hash_is_forgotten(paper: Paper) -> None:
    entry = paper.entry(ConfigSet("a", "1"), OPERATOR)
    paper.command([entry.bytes])
    paper.must(ConfigReset("a"), OPERATOR)
    for minutes in (0, 30, 29, 1, 4, 1, 60):
        paper.clock.advance(minutes * 60)
        paper.put(ConfigSet("b", "1"), OPERATOR)  # a lone old entry does not take block time along
        outcome = paper.command([entry.bytes]).outcomes[0]
        assert outcome.code in {"duplicate", "time"}
        assert "a" not in paper.state.settings
    assert outcome.code == "time"
    assert paper.state.first_outcome(entry.hash) is None


@pytest.mark.parametrize(("seconds", "accepted"), [(-3600, True), (-3601, False), (300, True), (301, False)])
def test_an_entry_may_be_an_hour_older_and_five_minutes_newer_than_its_block(
    paper: Paper, seconds: int, accepted: bool
) -> None:
    made = paper.entry(ConfigSet("a", "1"), OPERATOR)
    body = ConfigSet("a", "1").body()

    class Shifted:
        def monotonic(self) -> float:
            return 0.0

        def time_ms(self) -> int:
            return made.time_ms + seconds * 1000

    entry = Entry.make("config.set", body, OPERATOR, MESH, Shifted())
    outcome = paper.command([entry.bytes]).outcomes[0]
    assert outcome.accepted is accepted
    assert outcome.code == ("" if accepted else "time")


def test_entries_of_other_meshes_without_signature_or_of_unknown_kinds(paper: Paper) -> None:
    other = Entry.make("config.reset", [""], OPERATOR, bytes(16), paper.clock)
    good = paper.entry(ConfigReset(""), OPERATOR)
    forged = good.bytes[:-1] + bytes([good.bytes[-1] ^ 1])
    unknown = Entry.make("config.burn", [""], OPERATOR, MESH, paper.clock)
    short = Entry.make("config.set", ["a"], OPERATOR, MESH, paper.clock)
    block = paper.command([other.bytes, forged, unknown.bytes, short.bytes, b"noise", good.bytes])
    assert [outcome.code for outcome in block.outcomes] == [
        "mesh", "signature", "kind", "body", "malformed", "unchanged",
    ]  # fmt: skip


def test_membership_is_not_the_right_to_deploy(paper: Paper) -> None:
    paper.token(role="voter")
    paper.must(paper.join(), FOUNDER)
    for node in (FOUNDER, JOINER):
        refused(paper.put(publish(), node), "role", "function.deploy")
