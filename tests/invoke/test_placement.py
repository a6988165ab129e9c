"""Minimum instances are dealt out the same way by everyone."""

from __future__ import annotations

import hashlib

from hypothesis import given
from hypothesis import strategies as st

from osiris_mesh.function.spec import FunctionSpec
from osiris_mesh.invoke.placement import ranked, share


def spec(name: str, minimum: int) -> FunctionSpec:
    return FunctionSpec(
        name=f"test/{name}",
        version="1.0.0",
        digest=hashlib.sha256(name.encode()).digest(),
        entry="f.py::f",
        runtime="python3.11",
        signature=[[], ""],
        min_instances=minimum,
        max_instances=1024,
    )


@given(st.sets(st.text("abcdef123", min_size=1, max_size=6), min_size=1, max_size=9), st.integers(0, 40))
def test_shares_add_up_to_the_minimum(peers: set[str], minimum: int) -> None:
    function = spec("f", minimum)
    shares = [share(peer, [function], peers).get(function.digest, 0) for peer in peers]
    assert sum(shares) == minimum
    assert max(shares) - min(shares) <= 1


@given(st.sets(st.text("abcdef123", min_size=1, max_size=6), min_size=2, max_size=9))
def test_only_the_share_of_a_lost_node_moves(peers: set[str]) -> None:
    functions = [spec(f"f{number}", 1) for number in range(20)]
    lost = min(peers)
    for function in functions:
        before = ranked(function.digest, peers)[0]
        after = ranked(function.digest, peers - {lost})[0]
        assert before in {lost, after}


def test_a_function_without_a_minimum_is_nowhere_kept() -> None:
    assert share("a", [spec("f", 0)], ["a", "b"]) == {}
