"""Merkle trees against the vectors everyone uses for RFC 6962, and against its definition."""

from __future__ import annotations

from hashlib import sha256

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from osiris_mesh.ledger.merkle import EMPTY_ROOT, Frontier, inclusion_proof, proves_inclusion, tree_root

# Leaves and roots of the test data of Certificate Transparency's reference implementation.
LEAVES = [bytes.fromhex(text) for text in (
    "", "00", "10", "2021", "3031", "40414243", "5051525354555657", "606162636465666768696a6b6c6d6e6f",
)]  # fmt: skip
ROOTS = [
    "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d",
    "fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125",
    "aeb6bcfe274b70a14fb067a5e5578264db0fa9b51af5e0ba159158f329e06e77",
    "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
    "4e3bbb1f7b478dcfe71fb631631519a3bca12c9aefca1612bfce4c13a86264d4",
    "76e67dadbcdf1e10e1b74ddc608abd2f98dfb16fbce75277b5232a127f2087ef",
    "ddb89be403809e325750d3d263cd78929c2942b7942a34b77e122c9594a74c8c",
    "5dc9da79a70659a9ad559cb701ded9a2ab9d823aad2f4960cfe370eff4604328",
]


def by_definition(leaves: list[bytes]) -> bytes:
    """RFC 6962 section 2.1, as it is written there."""
    if not leaves:
        return sha256(b"").digest()
    if len(leaves) == 1:
        return sha256(b"\0" + leaves[0]).digest()
    split = 1
    while split * 2 < len(leaves):
        split *= 2
    return sha256(b"\1" + by_definition(leaves[:split]) + by_definition(leaves[split:])).digest()


@pytest.mark.parametrize(("size", "root"), [(at + 1, root) for at, root in enumerate(ROOTS)])
def test_roots_of_the_reference_vectors(size: int, root: str) -> None:
    assert tree_root(LEAVES[:size]).hex() == root


def test_the_empty_tree() -> None:
    assert tree_root([]) == EMPTY_ROOT == sha256(b"").digest()


def test_the_inclusion_proof_of_the_reference_vectors() -> None:
    path = inclusion_proof(LEAVES, 5)
    assert [step.hex() for step in path] == [
        "bc1a0643b12e4d2d7c77918f44e0f4f79a838b6cf9ec5b5c283e1f4d88599e6b",
        "ca854ea128ed050b41b35ffc1b87b8eb2bde461e9e3b5596ece6b9d5975a0ae0",
        "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
    ]


@settings(max_examples=60, deadline=None)
@given(st.lists(st.binary(max_size=4), max_size=70))
def test_a_frontier_gives_the_root_of_the_definition_at_every_size(leaves: list[bytes]) -> None:
    frontier = Frontier()
    for size, leaf in enumerate(leaves, 1):
        frontier.append(leaf)
        assert (frontier.size, frontier.root()) == (size, by_definition(leaves[:size]))


def test_a_copy_grows_alone() -> None:
    frontier = Frontier()
    frontier.append(b"a")
    copy = frontier.copy()
    copy.append(b"b")
    assert (frontier.size, frontier.root()) == (1, tree_root([b"a"]))


@settings(max_examples=60, deadline=None)
@given(st.data(), st.integers(1, 70))
def test_a_proof_holds_for_its_leaf_and_for_nothing_else(data: st.DataObject, size: int) -> None:
    leaves = [bytes([at]) for at in range(size)]
    at = data.draw(st.integers(0, size - 1))
    path, root = inclusion_proof(leaves, at), tree_root(leaves)
    assert proves_inclusion(leaves[at], at, size, path, root)
    assert not proves_inclusion(b"other", at, size, path, root)
    assert not proves_inclusion(leaves[at], at, size, [*path, bytes(32)], root)
    assert not proves_inclusion(leaves[at], size, size, path, root)
    other = data.draw(st.integers(0, size - 1))
    assert proves_inclusion(leaves[at], other, size, path, root) is (other == at)
    if path:
        assert not proves_inclusion(leaves[at], at, size, path[:-1], root)
        assert not proves_inclusion(leaves[at], at, size, [bytes(32), *path[1:]], root)


@pytest.mark.parametrize("at", [-1, 3])
def test_no_proof_of_a_leaf_that_is_not_there(at: int) -> None:
    with pytest.raises(IndexError):
        inclusion_proof([b"a", b"b", b"c"], at)
