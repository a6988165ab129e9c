"""Our own incarnation, and what others say of it. SWIM, section 4.2: only a member itself makes a newer one."""

from __future__ import annotations

import enum
from collections.abc import Callable

from osiris_mesh.gossip.message import MAX_INCARNATION, PeerState, Update

__all__ = ["Heard", "Own"]


class Heard(enum.Enum):
    """What a claim about ourselves amounts to."""

    KNOWN = enum.auto()
    """It is what we say ourselves."""
    OLD = enum.auto()
    """Of a former incarnation: whoever says it is to be told the present one."""
    FORGED = enum.auto()
    """We never signed that."""
    REFUTED = enum.auto()
    """It was not so, or of a former life with a later clock: there is a newer incarnation now."""


class Own:
    """This node as it presents itself.

    Args:
        me: Our peer id.
        incarnation: To begin with.
        prove: Signs an incarnation, or that we left it.
        proven: Checks an update's proof.

    Attributes:
        incarnation: The present one.
        leaving: We have said that we stop.
    """

    def __init__(
        self, me: str, incarnation: int, *, prove: Callable[[int, bool], bytes], proven: Callable[[Update], bool]
    ) -> None:
        self.incarnation = incarnation
        self.leaving = False
        self._me = me
        self._prove = prove
        self._proven = proven
        self._proof = prove(incarnation, self.leaving)

    def claim(self) -> Update:
        """Return what we say of ourselves."""
        return Update(PeerState.LEFT if self.leaving else PeerState.ALIVE, self._me, self.incarnation, self._proof)

    def leave(self) -> None:
        """Say from now on that we stop."""
        self.leaving = True
        self._proof = self._prove(self.incarnation, self.leaving)

    def hear(self, update: Update) -> Heard:
        """Take a claim about ourselves; refute it if it is wrong."""
        if update.incarnation < self.incarnation:
            return Heard.OLD
        present = update.incarnation == self.incarnation
        if present and (self.leaving or update.state is PeerState.ALIVE):
            return Heard.KNOWN
        # Signatures are deterministic: of the present incarnation there is one proof, the one we hold.
        ours = update.proof == self._proof if present and update.state is not PeerState.LEFT else self._proven(update)
        if not ours or update.incarnation + 1 >= MAX_INCARNATION:
            return Heard.FORGED
        self.incarnation = update.incarnation + 1
        self._proof = self._prove(self.incarnation, self.leaving)
        return Heard.REFUTED
