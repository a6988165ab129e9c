"""Who may author which kind of entry: one table, checked at apply on every node.

Membership alone permits what a node says about itself and the admission of joiners, never a deployment. Everything else
takes a permission, for kinds about a function that permission for its name. ``DESIGN.md`` holds the same table and a
test compares the two.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from osiris_mesh.ledger.outcome import Refused
from osiris_mesh.ledger.permissions import Grants
from osiris_mesh.ledger.principal import NOBODY, Principal

__all__ = ["AUTHORS", "Author", "Rule", "permit", "permit_some", "within"]


@dataclass(frozen=True, slots=True)
class Rule:
    """Who may author a kind; any one of what is named suffices.

    Attributes:
        permission: Whoever has this permission; empty: nobody for a permission's sake.
        named: It must be held for the function the entry is about.
        node: A member that is a node (voter or follower).
        itself: The member the entry is about.
        founder: A founder named in the entry, while there is no genesis.
        owner: The user the entry is about.
    """

    permission: str = ""
    named: bool = False
    node: bool = False
    itself: bool = False
    founder: bool = False
    owner: bool = False

    def __str__(self) -> str:
        words = [
            word
            for word, named in (
                ("a founder, once", self.founder),
                ("a node", self.node),
                (f"{self.permission}{' for the name' if self.named else ''}", bool(self.permission)),
                ("the member itself", self.itself),
                ("the owner", self.owner),
            )
            if named
        ]
        return "; ".join(words)


AUTHORS: Final[dict[str, Rule]] = {
    "genesis": Rule(founder=True),
    "member.add": Rule(node=True),
    "member.remove": Rule("member.manage", itself=True),
    "member.role": Rule("member.manage"),
    "token.create": Rule("token.manage"),
    "token.revoke": Rule("token.manage"),
    "function.publish": Rule("function.deploy", named=True),
    "function.activate": Rule("function.deploy", named=True),
    "function.deprecate": Rule("function.deploy", named=True),
    "function.remove": Rule("function.deploy", named=True),
    "container.functions": Rule(itself=True),
    "config.set": Rule("config.write"),
    "config.reset": Rule("config.write"),
    "user.add": Rule("user.manage"),
    "user.update": Rule("user.manage"),
    "user.remove": Rule("user.manage"),
    "role.set": Rule("user.manage"),
    "role.remove": Rule("user.manage"),
    "apitoken.create": Rule("user.manage", owner=True),
    "apitoken.revoke": Rule("user.manage", owner=True),
    "registry.write": Rule("registry.publish", named=True),
    "registry.remove": Rule("registry.manage"),
}


@dataclass(frozen=True, slots=True)
class Author:
    """What the state knows of an entry's author.

    Attributes:
        peer: Peer id of the author's key.
        member_role: Its role as a member, or empty.
        principal: Who it is, and what it may.
        role: Name of the user's role, for refusals.
    """

    peer: str
    member_role: str = ""
    principal: Principal = NOBODY
    role: str = ""

    def __str__(self) -> str:
        principal = self.principal
        if principal.kind == "api_token":
            return f"the API token {principal.name}"
        return " and ".join(word for word in (self.role, self.member_role) if word)


def permit(kind: str, author: Author, subject: str | bytes = "") -> None:
    """Check that ``author`` may author an entry of ``kind``.

    Args:
        kind: The entry's kind.
        author: Its author.
        subject: What it is about: a member's peer id, a function's full name, or the public key of an owner.

    Raises:
        Refused: He may not.
    """
    rule = AUTHORS[kind]
    principal = author.principal
    if rule.permission and principal.may(rule.permission, subject if rule.named and type(subject) is str else ""):
        return
    if rule.node and author.member_role in {"voter", "follower"}:
        return
    if rule.itself and author.member_role and author.peer == subject:
        return
    if rule.owner and principal.kind == "user" and principal.owner == subject:
        return
    _refuse(kind, rule, author)


def permit_some(kind: str, author: Author) -> None:
    """Check that ``author`` may author entries of ``kind`` about some function at least, before its name is known.

    Raises:
        Refused: He may not.
    """
    rule = AUTHORS[kind]
    if not author.principal.may_some(rule.permission):
        _refuse(kind, rule, author)


def within(author: Author, wanted: Grants, what: str) -> None:
    """Check that nobody gives, or takes, more than he holds.

    Args:
        author: Who does it.
        wanted: What is given or taken.
        what: That in words, for example ``the role operator``.

    Raises:
        Refused: ``author`` does not hold all of it.
    """
    missing = author.principal.missing(wanted)
    if missing:
        raise Refused("grant", f"{what} holds {missing}, which the author ({author}) does not hold himself")


def _refuse(kind: str, rule: Rule, author: Author) -> None:
    if author.principal.kind == "nobody" and not author.member_role:
        raise Refused("author", "the author is neither a user nor a member of this mesh")
    raise Refused("role", f"a {kind} entry is for {rule}; the author is {author}")
