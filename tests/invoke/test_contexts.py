"""The context of a call: of its caller, the mesh, the header and the calling function, in one."""

from __future__ import annotations

import pytest

from osiris_mesh.errors import Denied, UsageError
from osiris_mesh.invoke.contexts import NOTHING, Contexts
from osiris_mesh.ledger.permissions import EVERYTHING, Grants
from osiris_mesh.ledger.principal import Principal
from osiris_mesh.link import Audience, Caller
from osiris_mesh.registry.context import FULL, may_call, parse

LOCAL, MEMBER, CLIENT, FUNCTION = (
    Caller(b"k" * 32, "peer", audience, "instance")
    for audience in (Audience.LOCAL, Audience.MEMBER, Audience.CLIENT, Audience.FUNCTION)
)


def contexts(*, grants=EVERYTHING, limits=None, mesh="", serving=("",)):
    who = Principal("user" if limits is None else "api_token", "ann", grants=grants, limits=limits)
    return Contexts(principal=lambda _: who, mesh=lambda: mesh, serving=lambda _: serving)


@pytest.mark.parametrize("caller", [LOCAL, MEMBER, CLIENT, FUNCTION])
def test_without_limits(caller):
    assert contexts().of(caller, {}) == FULL
    assert contexts().check(caller, {}, "t/f") == ""


@pytest.mark.parametrize("caller", [LOCAL, MEMBER, CLIENT, FUNCTION])
def test_the_mesh_and_the_header_narrow_everybody(caller):
    found = contexts(mesh="controlled; functions=t/*")
    assert found.check(caller, {"context": "full; functions=*/f"}, "t/f") == "controlled; functions=*/f; functions=t/*"
    for name, headers in (("u/f", {}), ("t/g", {"context": "full; functions=*/f"})):
        with pytest.raises(Denied) as caught:
            found.check(caller, headers, name)
        assert caught.value.details["rule"] == "functions"


def test_a_client_reaches_what_its_grants_say():
    found = contexts(grants=Grants(["function.call:t/*"]))
    text = found.check(CLIENT, {}, "t/f")
    # The function it calls is called with that, and its own calls are of an instance that serves it.
    inner = contexts(serving=[text])
    assert inner.check(FUNCTION, {}, "t/g") == text
    with pytest.raises(Denied):
        inner.check(FUNCTION, {}, "u/f")
    with pytest.raises(Denied):
        inner.check(FUNCTION, {"context": "full"}, "u/f")


def test_an_instance_that_serves_several_has_what_they_have_in_common():
    inner = contexts(serving=["full; functions=t/*", "", "full; functions=*/f"])
    assert inner.check(FUNCTION, {}, "t/f")
    for name in ("t/g", "u/f"):
        with pytest.raises(Denied) as caught:
            inner.check(FUNCTION, {}, name)
        assert caught.value.details["rule"] == "functions"
        assert "works on calls in 3 contexts" in caught.value.fix
    with pytest.raises(Denied) as caught:
        contexts(serving=["full; functions=t/*"] * 2).check(FUNCTION, {}, "u/f")
    assert "works on" not in caught.value.fix


def test_a_token_reaches_what_both_it_and_its_owner_may():
    found = contexts(grants=Grants(["function.call"]), limits=Grants(["function.call:t/*", "function.read"]))
    assert found.check(CLIENT, {}, "t/f") == "full; functions=t/*; permissions=function.call"
    with pytest.raises(Denied):
        found.check(CLIENT, {}, "u/f")


def test_what_is_too_long_to_be_carried_lets_what_is_called_call_nothing():
    grants = Grants(["function.call:t/*", *(f"function.call:{'n' * 200}{i}/*" for i in range(60))])
    text = contexts(grants=grants).check(CLIENT, {}, "t/f")
    assert parse(text) == NOTHING


@pytest.mark.parametrize("mesh", ["", "controlled"])
def test_an_instance_that_serves_nothing_reaches_nothing(mesh):
    found = contexts(serving=(), mesh=mesh)
    assert found.of(FUNCTION, {}) == NOTHING
    assert may_call(NOTHING, "t/f").rule == "functions"
    with pytest.raises(Denied, match="works on no call"):
        found.check(FUNCTION, {}, "t/f")


@pytest.mark.parametrize("caller", [LOCAL, MEMBER, FUNCTION])
def test_nothing_is_read_or_made_where_nothing_limits(caller, monkeypatch):
    monkeypatch.setattr(Contexts, "of", None)
    assert contexts().check(caller, {"depth": 1}, "t/f") == ""


@pytest.mark.parametrize("header", [1, b"full", "nonsense", None])
def test_what_is_no_context(header):
    with pytest.raises(UsageError):
        contexts().of(LOCAL, {"context": header})


def test_what_a_member_forwards_is_kept():
    assert contexts().of(MEMBER, {"context": "pure"}) == parse("pure")
