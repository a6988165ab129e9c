"""Who may author which kind of entry: one table, checked at apply on every node.

Membership alone permits what a node says about itself and the admission of joiners, never a deployment. Users have a
role on one ladder: viewer < developer < operator < admin; each may do what those below may. ``DESIGN.md`` holds the
same table and a test compares the two.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from osiris_mesh.ledger.kinds import USER_ROLES
from osiris_mesh.ledger.outcome import Refused

__all__ = ["AUTHORS", "Author", "Rule", "permit", "rank"]

_RANK: Final = {role: place for place, role in enumerate(USER_ROLES)}


def rank(role: str) -> int:
    """Return a role's place on the ladder; ``none`` is below all."""
    return _RANK.get(role, -1)


@dataclass(frozen=True, slots=True)
class Rule:
    """Who may author a kind; any one of what is named suffices.

    Attributes:
        role: Least role of a user; empty: no user as such.
        node: A member that is a node (voter or follower).
        itself: The member the entry is about.
        founder: A founder named in the entry, while there is no genesis.
    """

    role: str = ""
    node: bool = False
    itself: bool = False
    founder: bool = False

    def __str__(self) -> str:
        words = [
            word
            for word, named in (
                ("a founder, once", self.founder),
                ("a node", self.node),
                (f"a user, {self.role} or more" if self.role != "admin" else "a user, admin", bool(self.role)),
                ("the member itself", self.itself),
            )
            if named
        ]
        return "; ".join(words)


AUTHORS: Final[dict[str, Rule]] = {
    "genesis": Rule(founder=True),
    "member.add": Rule(node=True),
    "member.remove": Rule(role="operator", itself=True),
    "member.role": Rule(role="operator"),
    "token.create": Rule(role="operator"),
    "token.revoke": Rule(role="operator"),
    "function.publish": Rule(role="developer"),
    "function.activate": Rule(role="developer"),
    "function.deprecate": Rule(role="developer"),
    "function.remove": Rule(role="developer"),
    "container.functions": Rule(itself=True),
    "config.set": Rule(role="operator"),
    "config.reset": Rule(role="operator"),
    "user.add": Rule(role="admin"),
    "user.update": Rule(role="admin"),
    "user.remove": Rule(role="admin"),
}


@dataclass(frozen=True, slots=True)
class Author:
    """What the state knows of an entry's author.

    Attributes:
        peer: Peer id of the author's key.
        member_role: Its role as a member, or empty.
        user_role: Its role as a user, or empty.
    """

    peer: str
    member_role: str = ""
    user_role: str = ""


def permit(kind: str, author: Author, subject: str = "") -> None:
    """Check that ``author`` may author an entry of ``kind`` about the member ``subject``.

    Raises:
        Refused: He may not.
    """
    rule = AUTHORS[kind]
    if rule.node and author.member_role in {"voter", "follower"}:
        return
    if rule.itself and author.member_role and author.peer == subject:
        return
    if rule.role and author.user_role and rank(author.user_role) >= rank(rule.role):
        return
    if not author.user_role and not author.member_role:
        raise Refused("author", "the author is neither a user nor a member of this mesh")
    raise Refused("role", f"a {kind} entry is for {rule}; the author is {_describe(author)}")


def _describe(author: Author) -> str:
    words = [word for word in (author.user_role, author.member_role) if word]
    return " and ".join(words)
