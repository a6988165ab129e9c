"""Whose functions somebody may know of."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from osiris_mesh.access.sight import Sight, named
from osiris_mesh.ledger.block import Block
from osiris_mesh.ledger.kinds import (
    KINDS,
    ApiTokenCreate,
    Body,
    ConfigSet,
    ContainerFunctions,
    FunctionActivate,
    FunctionDeprecate,
    FunctionPublish,
    FunctionRemove,
    RoleSet,
    UserAdd,
    UserUpdate,
)
from osiris_mesh.ledger.outcome import ACCEPTED, Outcome
from osiris_mesh.ledger.permissions import BUILT_IN_ROLES, CLIENT_GRANTS, Grants
from osiris_mesh.ledger.principal import NOBODY, Principal
from osiris_mesh.ledger.views import block_view
from tests.ledger.kit import ADMIN, DEVELOPER, FOUNDER, VIEWER, Paper, key, spec


def sight(*grants: str, limits: tuple[str, ...] | None = None) -> Sight:
    return Sight(Principal("api_token", grants=Grants(grants), limits=None if limits is None else Grants(limits)))


@pytest.mark.parametrize(
    ("grants", "limits", "whole", "seen"),
    [
        (("mesh.read",), None, False, ""),
        (("mesh.read", "function.read:a/*"), None, False, "a/x"),
        (("function.call:a/x", "function.logs:b/*"), None, False, "a/x b/x b/y"),
        (("function.read", "function.call:a/*"), None, True, "a/x b/x b/y v.com/a/x"),
        (("function.read:*/*",), None, False, "a/x b/x b/y"),
        (("function.read",), ("function.read:a/*",), False, "a/x"),
        (("function.read:a/*",), ("function.read",), False, "a/x"),
        (("function.read:a/*",), ("function.call",), False, ""),
        (("registry.publish",), None, False, ""),
    ],
)
def test_a_name_is_told_to_who_holds_a_permission_for_it(
    grants: tuple[str, ...], limits: tuple[str, ...] | None, whole: bool, seen: str
) -> None:
    found = sight(*grants, limits=limits)
    assert found.whole is whole
    assert [name for name in ("a/x", "b/x", "b/y", "v.com/a/x") if found.sees(name)] == seen.split()


def test_built_in_roles_and_clients_see_all_and_nobody_nothing() -> None:
    for grants in (*BUILT_IN_ROLES.values(), CLIENT_GRANTS):
        assert Sight(Principal("user", grants=grants)).whole
    assert not Sight(NOBODY).whole
    assert not Sight(NOBODY).sees("a/x")


SHOWN: list[tuple[Body, bool]] = [
    (FunctionPublish(spec("a/x").to_wire()), True),
    (FunctionPublish(spec("b/x").to_wire()), False),
    (FunctionActivate("a/x", "1.0.0"), True),
    (FunctionActivate("b/x", "1.0.0"), False),
    (FunctionDeprecate("b/x", "1.0.0"), False),
    (FunctionRemove("b/x", ""), False),
    (ContainerFunctions([["a/x", "1.0.0", 1]]), True),
    (ContainerFunctions([["a/x", "1.0.0", 1], ["b/x", "1.0.0", 1]]), False),
    (ContainerFunctions([]), True),
    (RoleSet("r", ["function.call:a/*", "mesh.read"]), True),
    (RoleSet("r", ["function.call:*/*"]), False),
    (RoleSet("r", ["function.call:b/x"]), False),
    (RoleSet("r", ["function.call"]), True),
    (ApiTokenCreate(key("t").public, DEVELOPER.public, "t", ["function.call:b/x"], 1 << 50), False),
    (ApiTokenCreate(key("t").public, DEVELOPER.public, "t", ["mesh.read"], 1 << 50), True),
    (ConfigSet("log.level", "debug"), True),
    (UserAdd(key("u").public, "u", "viewer"), True),
]


@pytest.mark.parametrize(("body", "shown"), SHOWN, ids=lambda value: getattr(value, "KIND", value))
def test_entries(body: Body, shown: bool) -> None:
    entry = Paper().entry(body, ADMIN)
    narrowed, whole = sight("mesh.read", "function.read:a/*"), sight("function.logs")
    assert narrowed.entry(entry, ACCEPTED) is shown
    assert whole.entry(entry, ACCEPTED)
    for code in ("grant", "duplicate"):
        # Such a refusal quotes grants.
        assert not narrowed.entry(entry, Outcome(accepted=False, reason="…", code=code))
        assert whole.entry(entry, Outcome(accepted=False, reason="…", code=code))


def test_what_is_not_well_formed_says_nothing_and_what_has_a_spoiled_body_is_not_shown() -> None:
    narrowed = sight("function.read:a/*")
    assert narrowed.entry(None, ACCEPTED)
    paper = Paper()
    spoiled = FunctionPublish(b"\x01b/x")
    assert named(spoiled) is None
    assert not narrowed.entry(paper.entry(spoiled, ADMIN), ACCEPTED)


def test_every_kind_is_decided_and_unknown_ones_are_withheld() -> None:
    """A new kind is withheld from who is narrowed until somebody has said which functions it names."""
    from osiris_mesh.access.sight import _NAMELESS  # noqa: PLC0415

    decided = {type(body).KIND for body, shown in SHOWN if not shown}
    assert set(KINDS) >= _NAMELESS
    withheld = {kind for kind in KINDS if kind.startswith("registry.")}
    assert set(KINDS) == _NAMELESS | decided | withheld


def block() -> tuple[Paper, Block]:
    paper = Paper().begin()
    bodies = [(FunctionPublish(spec("a/x").to_wire()), DEVELOPER), (FunctionPublish(spec("b/x").to_wire()), DEVELOPER)]
    wire = [paper.entry(body, author).bytes for body, author in bodies]
    wire.append(paper.entry(UserUpdate(ADMIN.public, "ada", "viewer"), VIEWER).bytes)
    found = paper.command(wire, proposer=FOUNDER)
    assert found is not None
    return paper, found


@pytest.mark.parametrize("bodies", [False, True])
def test_a_withheld_entry_keeps_its_place_and_its_hash_alone(bodies: bool) -> None:
    paper, found = block()
    everything = block_view(found, paper.state, bodies=bodies)
    assert block_view(found, paper.state, bodies=bodies, shown=sight("function.read").entry) == everything
    narrowed = block_view(found, paper.state, bodies=bodies, shown=sight("function.read:a/*").entry)
    assert "b/x" not in str(narrowed)
    assert {key: value for key, value in narrowed.items() if key != "entries"} == {
        key: value for key, value in everything.items() if key != "entries"
    }
    for was, now in zip(everything["entries"], narrowed["entries"], strict=True):
        assert [now[key] for key in ("height", "index", "hash", "kind", "accepted")] == [
            was[key] for key in ("height", "index", "hash", "kind", "accepted")
        ]
        if "b/x" in str(was):
            assert now["withheld"]
            assert not {"nonce", "signature", "body"} & set(now)
        else:
            assert now == was


segments = st.sampled_from(["a", "b", "ab", "*", "a*"])
grants = st.builds(
    lambda permission, parts: f"{permission}:{'/'.join(parts)}" if parts else permission,
    st.sampled_from(["function.read", "function.call", "function.logs", "function.deploy"]),
    st.one_of(st.just([]), st.lists(segments, min_size=2, max_size=3)),
)


@settings(max_examples=200)
@given(
    st.lists(grants, max_size=4),
    st.lists(grants, max_size=4),
    st.lists(st.sampled_from(["a", "b", "ab"]), min_size=2, max_size=3),
)
def test_nothing_is_seen_without_a_permission_and_all_with_one(
    held: list[str], limits: list[str], parts: list[str]
) -> None:
    principal = Principal("api_token", grants=Grants(held), limits=Grants(limits))
    name = "/".join(parts)
    may = any(principal.may(f"function.{verb}", name) for verb in ("read", "call", "logs", "deploy"))
    assert Sight(principal).sees(name) is may
