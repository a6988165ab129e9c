"""Which node keeps which minimum instances warm: rendezvous hashing, so that all nodes agree without asking.

Source: Thaler and Ravishankar, "A name-based mapping scheme for rendezvous", 1996. Every node computes the same
answer from the same ledger and view of who is alive; when a node goes, only its share moves. While views differ for
a moment, an instance may run twice or be missing; nothing but warmth depends on it.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence

from osiris_mesh.function.spec import FunctionSpec

__all__ = ["ranked", "share"]


def ranked(digest: bytes, peers: Iterable[str]) -> list[str]:
    """Return ``peers`` by their weight for ``digest``, heaviest first."""
    return sorted(peers, key=lambda peer: hashlib.sha256(digest + peer.encode("ascii")).digest(), reverse=True)


def share(me: str, specs: Sequence[FunctionSpec], peers: Iterable[str]) -> Mapping[bytes, int]:
    """Return how many instances of each function ``me`` keeps warm, by digest; functions without any are left out.

    Args:
        me: Peer id of this node.
        specs: The active versions.
        peers: Nodes that are alive, ``me`` among them.
    """
    nodes = set(peers) | {me}
    result: dict[bytes, int] = {}
    for spec in specs:
        if spec.min_instances == 0:
            continue
        place = ranked(spec.digest, nodes).index(me)
        # Dealt out one by one, heaviest first: the first `rest` nodes have one more.
        each, rest = divmod(spec.min_instances, len(nodes))
        count = min(each + (place < rest), spec.max_instances)
        if count:
            result[spec.digest] = count
    return result
