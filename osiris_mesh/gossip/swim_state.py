"""What the membership core hands out (effects) and what it knows of a member."""

from __future__ import annotations

from dataclasses import dataclass

from osiris_mesh.gossip.message import Message, PeerState, Update
from osiris_mesh.gossip.suspicion import Suspicion

__all__ = ["Changed", "Effect", "Member", "Send"]


@dataclass(frozen=True, slots=True)
class Send:
    """Send a message.

    Attributes:
        peer: To whom.
        message: What.
        over_link: Over a link rather than in a datagram; on the answer to a call it means "as its answer".
    """

    peer: str
    message: Message
    over_link: bool = False


@dataclass(frozen=True, slots=True)
class Changed:
    """What is known about a member has changed.

    Attributes:
        peer: About whom.
        state: What is known now.
        by: Whose claim it was: a peer id; our own if it was our finding.
    """

    peer: str
    state: PeerState
    by: str


Effect = Send | Changed


@dataclass(slots=True)
class Member:
    """What is known about one member: its newest claim that counts, and the running suspicion of it."""

    state: PeerState = PeerState.UNKNOWN
    incarnation: int = 0
    proof: bytes = b""
    accuser: str = ""
    suspicion: Suspicion | None = None

    def claim(self, peer: str) -> Update:
        """Return it as an update to pass on."""
        return Update(self.state, peer, self.incarnation, self.proof, self.accuser)
