"""Where one call runs next: a pure decision over what is known of this node and the others.

In this order, leaving out where it was tried already:

1. here, on a warm instance with a free slot;
2. a node with a warm instance and a free slot: the less loaded of two drawn at random;
3. here, on a new instance (a cold start);
4. here, in the queue of instances that are all busy;
5. a node whose warm instances are all busy, then one with room for a new instance, again the better of two.

Two drawn at random, not the best of all: everybody's figures are a little old, and all callers would run to the same
node at once. Source: Mitzenmacher, "The power of two choices in randomized load balancing", 2001.
"""

from __future__ import annotations

import random
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Protocol

__all__ = ["Candidate", "Here", "choose", "free_here"]


class Here(Protocol):
    """What this node has for one function."""

    @property
    def instances(self) -> int:
        """Warm instances."""
        ...

    @property
    def in_flight(self) -> int:
        """Calls they work on."""
        ...

    @property
    def queued(self) -> int:
        """Calls that wait for one."""
        ...

    @property
    def room(self) -> bool:
        """Another instance may be started now."""
        ...


@dataclass(frozen=True, slots=True)
class Candidate:
    """What gossip says of another live node, for one function.

    Attributes:
        peer: Its peer id.
        instances: Warm instances.
        in_flight: Calls they work on.
        queued: Calls that wait for one.
        cpu: Share of its processors in use, 0 to 1.
        room: It takes new instances.
    """

    peer: str
    instances: int
    in_flight: int
    queued: int
    cpu: float
    room: bool


def free_here(here: Here, concurrency: int) -> bool:
    """Say whether a call would start at once on a warm instance of this node."""
    return here.queued == 0 and here.in_flight < here.instances * concurrency


def choose(
    here: Here | None, others: Sequence[Candidate], *, concurrency: int, tried: Collection[str], rng: random.Random
) -> str | None:
    """Return the peer id to run at, the empty string for this node, or None when nothing is left.

    Args:
        here: This node; None if it was tried.
        others: Live nodes but this one.
        concurrency: Calls one instance works on at a time.
        tried: Peer ids not to choose again.
        rng: Draws the two.
    """
    if here is not None and free_here(here, concurrency):
        return ""
    left = [other for other in others if other.peer not in tried] if tried else others
    warm = [other for other in left if other.instances > 0]
    free = [other for other in warm if other.queued == 0 and other.in_flight < other.instances * concurrency]
    if free:
        return _better_of_two(free, concurrency, rng)
    if here is not None and (here.room or here.instances > 0):
        return ""
    for group in (warm, [other for other in left if other.room]):
        if group:
            return _better_of_two(group, concurrency, rng)
    return None if here is None else ""


def _better_of_two(group: Sequence[Candidate], concurrency: int, rng: random.Random) -> str:
    if len(group) == 1:
        return group[0].peer
    first, second = rng.sample(group, 2)
    return (first if _load(first, concurrency) <= _load(second, concurrency) else second).peer


def _load(node: Candidate, concurrency: int) -> tuple[float, float]:
    slots = max(node.instances * concurrency, 1)
    return (node.in_flight + node.queued + 1) / slots, node.cpu
