"""Merkle trees as RFC 6962 section 2.1 defines them, over 32-byte entry hashes or any other leaves.

A :class:`Frontier` keeps the roots of the complete subtrees only: it grows by one leaf in O(1) amortised and gives the
root of everything so far in O(log n), which is what a node needs to compute each block's log root.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from hashlib import sha256
from typing import Final

__all__ = ["EMPTY_ROOT", "Frontier", "inclusion_proof", "leaf_hash", "proves_inclusion", "tree_root"]

EMPTY_ROOT: Final = sha256(b"").digest()


def leaf_hash(leaf: bytes) -> bytes:
    """Return the hash of a leaf: SHA-256 of a zero byte and the leaf."""
    return sha256(b"\0" + leaf).digest()


def _node(left: bytes, right: bytes) -> bytes:
    return sha256(b"\1" + left + right).digest()


class Frontier:
    """The right edge of a growing tree.

    Args:
        size: Leaves so far.
        subtrees: Roots of its complete subtrees, largest first; one for each bit of ``size``.
    """

    __slots__ = ("size", "subtrees")

    def __init__(self, size: int = 0, subtrees: Iterable[bytes] = ()) -> None:
        self.size = size
        self.subtrees = list(subtrees)

    def append(self, leaf: bytes) -> None:
        """Add one leaf (not yet hashed)."""
        digest = sha256(b"\0" + leaf).digest()
        size = self.size
        while size & 1:
            digest = sha256(b"\1" + self.subtrees.pop() + digest).digest()
            size >>= 1
        self.subtrees.append(digest)
        self.size += 1

    def root(self) -> bytes:
        """Return the root of all leaves so far."""
        if not self.subtrees:
            return EMPTY_ROOT
        digest = self.subtrees[-1]
        for left in reversed(self.subtrees[:-1]):
            digest = _node(left, digest)
        return digest

    def copy(self) -> Frontier:
        """Return an independent copy."""
        return Frontier(self.size, self.subtrees)


def tree_root(leaves: Iterable[bytes]) -> bytes:
    """Return the root of these leaves."""
    frontier = Frontier()
    for leaf in leaves:
        frontier.append(leaf)
    return frontier.root()


def _split(size: int) -> int:
    """Return the largest power of two smaller than ``size``."""
    return 1 << ((size - 1).bit_length() - 1)


def inclusion_proof(leaves: Sequence[bytes], index: int) -> list[bytes]:
    """Return the audit path of leaf ``index`` in the tree of all ``leaves`` (RFC 6962 section 2.1.1).

    Raises:
        IndexError: There is no such leaf.
    """
    if not 0 <= index < len(leaves):
        raise IndexError(index)
    # Iterative from the top: at each level the sibling is the half the leaf is not in.
    low, high = 0, len(leaves)
    path: list[bytes] = []
    while high - low > 1:
        middle = low + _split(high - low)
        if index < middle:
            path.append(tree_root(leaves[middle:high]))
            high = middle
        else:
            path.append(tree_root(leaves[low:middle]))
            low = middle
    path.reverse()
    return path


def proves_inclusion(leaf: bytes, index: int, size: int, path: Sequence[bytes], root: bytes) -> bool:
    """Say whether ``path`` proves that ``leaf`` is at ``index`` of the tree of ``size`` leaves with ``root``.

    Source: RFC 9162 section 2.1.3.2, which gives the verification RFC 6962 leaves out.
    """
    if not 0 <= index < size or len(path) > 64:
        return False
    at, last = index, size - 1
    digest = leaf_hash(leaf)
    for sibling in path:
        if last == 0:
            return False
        if at & 1 or at == last:
            digest = _node(sibling, digest)
            while at & 1 == 0 and at:
                at >>= 1
                last >>= 1
        else:
            digest = _node(digest, sibling)
        at >>= 1
        last >>= 1
    return last == 0 and digest == root
