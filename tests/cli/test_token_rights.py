"""What an API token may, next to its user: never more, and without a word the same, of what calls and reads."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from osiris_mesh.errors import UsageError
from osiris_mesh.identity.home import Home
from osiris_mesh.identity.keys import KeyPair
from osiris_mesh.ledger.kinds import ApiTokenCreate, RoleSet, UserAdd, UserUpdate
from osiris_mesh.ledger.permissions import PERMISSIONS
from osiris_mesh_cli.apitoken import DEFAULT_GRANTS, default_grants
from tests.cli.conftest import Line
from tests.cli.fake import FakeController
from tests.cli.test_controlled import accept, signed_by
from tests.ledger.kit import ADMIN, HOUR, Paper, key

NAMES = [f"{vendor}{space}/{name}" for vendor in ("", "v.com/") for space in ("a", "ab") for name in ("x", "xy")]
SUBJECTS = ["", *NAMES]
segments = st.sampled_from(["a", "ab", "a*", "*", "x", "x*"])
patterns = st.one_of(
    st.tuples(segments, segments).map("/".join),
    st.tuples(segments, segments).map(lambda parts: f"v.com/{'/'.join(parts)}"),
)


def _grant(permission: str, pattern: str | None) -> str:
    return f"{permission}:{pattern}" if pattern and permission.startswith("function.") else permission


sets = st.lists(
    st.builds(_grant, st.sampled_from(sorted(PERMISSIONS)), st.one_of(st.none(), patterns)), min_size=1, max_size=6
).map(lambda texts: sorted(set(texts)))
USER, TOKEN = key("somebody"), key("token-of-somebody")


def ledger(role: list[str], token: list[str]) -> Paper:
    """Return a mesh in which an administrator has made a user of this role, and a token for him."""
    paper = Paper().begin()
    paper.must(RoleSet("his", role), ADMIN)
    paper.must(UserAdd(USER.public, "somebody", "his"), ADMIN)
    expires = paper.clock.time_ms() + HOUR
    paper.must(ApiTokenCreate(TOKEN.public, USER.public, "t", token, expires), ADMIN)
    return paper


def rights(paper: Paper, who: KeyPair) -> set[tuple[str, str]]:
    principal = paper.state.principal(who.public, paper.clock.time_ms())
    return {(permission, name) for permission in PERMISSIONS for name in SUBJECTS if principal.may(permission, name)}


@settings(max_examples=80)
@given(sets, sets, sets)
def test_a_token_never_exceeds_its_user(role: list[str], token: list[str], later: list[str]) -> None:
    paper = ledger(role, token)
    assert rights(paper, TOKEN) <= rights(paper, USER)
    paper.must(RoleSet("his", later), ADMIN)
    assert rights(paper, TOKEN) <= rights(paper, USER)
    paper.must(UserUpdate(USER.public, "somebody", "viewer"), ADMIN)
    assert rights(paper, TOKEN) <= rights(paper, USER)


@settings(max_examples=80)
@given(sets)
def test_without_a_word_it_calls_and_reads_exactly_what_its_user_does(role: list[str]) -> None:
    try:
        grants = default_grants(role, "his")
    except UsageError:
        assert not any(text.partition(":")[0] in DEFAULT_GRANTS for text in role)
        return
    assert grants == sorted(set(grants))
    paper = ledger(role, grants)
    assert rights(paper, TOKEN) == {right for right in rights(paper, USER) if right[0] in DEFAULT_GRANTS}


def test_the_user_himself_can_make_it() -> None:
    """Nobody gives more than he holds, so the patterns must be in the token, not only behind it."""
    role = ["function.call:a/*", "function.call:ab/x", "mesh.read"]
    paper = ledger(role, ["mesh.read"])
    expires = paper.clock.time_ms() + HOUR
    paper.must(ApiTokenCreate(key("own").public, USER.public, "own", default_grants(role, "his"), expires), USER)


class People:
    """A controller's users and roles."""

    def __init__(self, home: Path, **roles: list[str]) -> None:
        self._home = home
        self._roles = roles

    def methods(self) -> dict[str, Any]:
        users = [
            {"name": f"u-{role}", "role": role, "key": bytes([at + 2]) * 32, "since": 0}
            for at, role in enumerate(self._roles)
        ]
        roles = [{"name": role, "grants": grants, "builtin": False} for role, grants in self._roles.items()]
        return {
            "user.list": lambda _: {"users": users},
            "role.list": lambda _: {"roles": roles},
            "ledger.submit": accept,
        }


def test_patterns_of_the_users_role_are_the_tokens(line: Line) -> None:
    people = People(
        line.home, team=["function.call:team/*", "function.deploy:team/*", "function.read:*/*", "mesh.read"]
    )
    with FakeController(Home(line.home), people.methods()) as fake:
        made = line("apitoken", "create", "--user", "u-team")
        assert made.code == 0, made.err
        (body,) = signed_by(line.home, fake)
    assert body.grants == ["function.call:team/*", "function.read:*/*", "mesh.read"]


def test_a_token_that_would_exceed_its_user_is_refused_with_what_he_holds(line: Line) -> None:
    people = People(line.home, team=["function.call:team/*", "mesh.read"])
    with FakeController(Home(line.home), people.methods()) as fake:
        for grant in ("function.call", "function.call:*/*", "user.manage"):
            made = line("apitoken", "create", "--user", "u-team", "-g", grant)
            assert made.code == 2
            assert f"u-team does not hold {grant}: his role team has function.call:team/* mesh.read" in made.err
        assert line("apitoken", "create", "--user", "u-team", "-g", "function.call:team/x").code == 0
        assert len(signed_by(line.home, fake)) == 1


def test_user_manage_alone_is_explained(line: Line) -> None:
    people = People(line.home, hr=["user.manage"], all=sorted(PERMISSIONS), none=[])
    with FakeController(Home(line.home), people.methods()):
        without = line("apitoken", "create", "--user", "u-hr")
        assert without.code == 2
        assert "it holds user.manage" in without.err
        assert "--grant user.manage" in without.err
        alone = line("apitoken", "create", "--user", "u-hr", "-g", "user.manage")
        assert alone.code == 0
        assert "nobody gives more than he holds" in alone.err
        able = line("apitoken", "create", "--user", "u-all", "-g", ",".join(sorted(PERMISSIONS)))
        assert able.code == 0
        assert "nobody gives more" not in able.err
        assert "user update NAME --role ROLE" in line("apitoken", "create", "--user", "u-none").err


@pytest.mark.parametrize(
    ("words", "meant"),
    [
        (("role", "set", "x", "mesh.read"), "role set x -g mesh.read"),
        (("role", "set", "x", "mesh.read", "function.call:a/*"), "role set x -g mesh.read -g 'function.call:a/*'"),
        (("role", "set", "x", "-g", "mesh.read", "function.call"), "role set x -g mesh.read -g function.call"),
        (("apitoken", "create", "mesh.read"), "apitoken create -g mesh.read"),
    ],
)
def test_grants_that_stand_alone_are_told_how_they_are_given(line: Line, words: tuple[str, ...], meant: str) -> None:
    answer = line(*words)
    assert answer.code == 2
    assert "grants are given with --grant or -g" in answer.err
    assert f"did you mean osiris-mesh {meant}\n" in answer.err


@pytest.mark.parametrize("code", ["grant", "role"])
def test_a_refusal_for_a_grants_sake_says_what_the_rule_is(line: Line, code: str) -> None:
    def refuse(_body: dict[str, Any]) -> dict[str, Any]:
        return {"height": 8, "outcomes": [{"accepted": False, "reason": "no", "code": code}]}

    with FakeController(Home(line.home), {"ledger.submit": refuse}):
        answer = line("role", "set", "x", "-g", "mesh.read")
    assert answer.code == 5
    assert ("more than he holds" in answer.err) is (code == "grant")
