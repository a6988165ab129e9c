"""Errors cross a link as the same class; what a peer makes of them is checked."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from osiris_mesh import errors
from osiris_mesh.codec import pack, unpack
from osiris_mesh.errors import FunctionError, InternalError, NotFound, OsirisError, RemoteProtocolError

KINDS = [getattr(errors, name) for name in errors.__all__]
CONCRETE = [kind for kind in KINDS if kind is not OsirisError]


@pytest.mark.parametrize("kind", CONCRETE)
def test_every_class_survives_the_wire(kind: type[OsirisError]) -> None:
    error = kind("what happened", fix="do that", maybe=True, raw=b"\x00", number=3)
    back = OsirisError.from_wire(unpack(pack(error.to_wire())))
    assert type(back) is kind
    assert (back.what, back.fix, back.details) == (error.what, error.fix, error.details)
    assert str(back) == "what happened; do that"
    assert back.exit_code == kind.exit_code


def test_codes_are_unique_and_exit_codes_are_the_promised_ones() -> None:
    assert len({kind.code for kind in KINDS}) == len(KINDS)
    assert {kind.__name__: kind.exit_code for kind in CONCRETE} == {
        "UsageError": 2,
        "Conflict": 2,
        "NotFound": 3,
        "Overloaded": 3,
        "DeadlineExceeded": 4,
        "Denied": 5,
        "Unavailable": 6,
        "FunctionError": 1,
        "WorkerDied": 1,
        "LimitExceeded": 1,
        "CheckFailed": 1,
        "ProtocolError": 6,
        "LocalProtocolError": 6,
        "RemoteProtocolError": 6,
        "InternalError": 1,
    }


def test_a_functions_error_has_its_attributes() -> None:
    error = FunctionError("raised", type="ValueError", message="no", traceback="line 3")
    back = OsirisError.from_wire(error.to_wire())
    assert isinstance(back, FunctionError)
    assert (back.type, back.message, back.traceback) == ("ValueError", "no", "line 3")


def test_a_code_of_a_later_version_is_an_internal_error_with_its_text() -> None:
    back = OsirisError.from_wire({"code": "teapot", "what": "short and stout", "fix": "pour"})
    assert type(back) is InternalError
    assert str(back) == "short and stout; pour"


def test_details_can_not_stand_in_for_the_text() -> None:
    back = OsirisError.from_wire({"code": "not_found", "what": "w", "details": {"what": "x", "fix": "y", "self": 1}})
    assert type(back) is NotFound
    assert (back.what, back.fix, back.details) == ("w", "", {})


def test_texts_are_bounded_both_ways() -> None:
    long = "x" * 100_000
    assert len(pack(NotFound(long, fix=long).to_wire())) < 40_000
    assert len(OsirisError.from_wire({"code": "not_found", "what": long, "fix": long}).what) < 20_000


@settings(max_examples=100)
@given(
    st.one_of(
        st.none(),
        st.integers(),
        st.lists(st.integers()),
        st.dictionaries(
            st.sampled_from(["code", "what", "fix", "details", "x"]),
            st.one_of(
                st.none(), st.integers(), st.text(max_size=5), st.dictionaries(st.text(max_size=5), st.integers())
            ),
        ),
    )
)
def test_anything_from_a_peer_becomes_some_error(wire: Any) -> None:
    error = OsirisError.from_wire(wire)
    assert isinstance(error, OsirisError)
    if not isinstance(wire, dict) or not isinstance(wire.get("what"), str):
        assert isinstance(error, RemoteProtocolError)
