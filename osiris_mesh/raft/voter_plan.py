"""Who should vote: a pure decision, taken by the leader, one step at a time.

Theory: 2f+1 voters survive f failures and an even number survives no more than the odd one below it, while every write
waits for a larger majority. So the number is odd at rest: 1, 3 or 5. Changes are of one voter (thesis, 4.1), so the
way between odd numbers leads over an even one; every step keeps a living majority in the configuration it leads to.

The dead are not voted out for being dead: they may come back, and two halves of a mesh that each voted the other out
would be two meshes. Only a member the ledger no longer knows as a voter is, or one too many of an even number.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

__all__ = ["AddVoter", "HandOver", "RemoveVoter", "VoterPlan"]


@dataclass(frozen=True, slots=True)
class AddVoter:
    """Give ``peer`` a vote."""

    peer: str


@dataclass(frozen=True, slots=True)
class RemoveVoter:
    """Take the vote of ``peer``, never the leader's own."""

    peer: str


@dataclass(frozen=True, slots=True)
class HandOver:
    """Hand leadership to another voter: this leader must lose its vote, and can't take it itself."""


@dataclass(frozen=True, slots=True)
class VoterPlan:
    """The plan's bounds.

    Attributes:
        most: Never more voters than this; odd.
    """

    most: int = 5

    def next_change(
        self,
        *,
        leader: str,
        eligible: Collection[str],
        alive: Collection[str],
        caught_up: Collection[str],
        voters: Collection[str],
    ) -> AddVoter | RemoveVoter | HandOver | None:
        """Return the next step, or None if there is nothing to do or nothing that can be done safely now.

        Args:
            leader: This node, which leads.
            eligible: Members the ledger allows to vote.
            alive: Peers known to run; the leader counts as alive whether named or not.
            caught_up: Peers whose ledger is level with the leader's, near enough.
            voters: The configuration in force.
        """
        living = set(alive) | {leader}
        now = set(voters)
        ready = sorted((set(eligible) & living & set(caught_up)) - now)
        gone = sorted((now - set(eligible)) - {leader}, key=lambda peer: (peer in living, peer))
        for peer in gone:
            if _can_write(now - {peer}, living):
                return RemoveVoter(peer)
        if gone:
            # Nobody can be spared: a replacement first, if there is one.
            return next((AddVoter(peer) for peer in ready if _can_write(now | {peer}, living)), None)
        if leader in now and leader not in eligible:
            others = now - {leader}
            if others & living and _can_write(others, living):
                return HandOver()
            return next((AddVoter(peer) for peer in ready if _can_write(now | {peer}, living)), None)
        reachable = min(self.most, len(now) + len(ready))
        target = reachable if reachable % 2 else reachable - 1
        if len(now) < target:
            return next((AddVoter(peer) for peer in ready if _can_write(now | {peer}, living)), None)
        if len(now) > target:
            spare = sorted(now - {leader}, key=lambda peer: (peer in living, peer))
            return next((RemoveVoter(peer) for peer in spare if _can_write(now - {peer}, living)), None)
        return None


def _can_write(voters: Collection[str], living: Collection[str]) -> bool:
    """Whether a majority of ``voters`` lives."""
    return 2 * len(set(voters) & set(living)) > len(voters)
