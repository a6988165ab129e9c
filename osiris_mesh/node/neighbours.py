"""The other nodes of the mesh as this one knows them: who they are, where they answer, who of them may vote."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from osiris_mesh.identity.multiaddr import Multiaddr
from osiris_mesh.ledger.ledger import Ledger
from osiris_mesh.link import Links
from osiris_mesh.link.discovery import Hint
from osiris_mesh.node.belonging import Belonging
from osiris_mesh.raft import Raft

__all__ = ["Neighbours"]


class Neighbours:
    """Asked by links, gossip and Raft; answers from the ledger and the links' address book.

    Args:
        me: Peer id of this node.
        belonging: Whom to trust until the own ledger is far enough.
        ledger: Who is a member.
        links: Where members answer.
        raft: Who votes.
    """

    def __init__(self, me: str, belonging: Belonging, ledger: Ledger, links: Links, raft: Raft) -> None:
        self._me = me
        self._belonging = belonging
        self._ledger = ledger
        self._links = links
        self._raft = raft

    def provisional(self) -> frozenset[str]:
        """Return the peers trusted as members for the time being."""
        return self._belonging.provisional(self._ledger.tip.height)

    def may_vote(self, peer: str) -> bool:
        """Say whether ``peer`` may take part in Raft: by the ledger, by the voters in force, or for the time being."""
        member = self._ledger.state.members.get(peer)
        if member is not None and member.role == "voter":
            return True
        return peer in self._raft.status().voters or peer in self.provisional()

    def addresses(self) -> Mapping[str, Sequence[Multiaddr]]:
        """Return every node of the mesh, this one included, with what is known of where it answers."""
        nodes = {
            member.peer: self._links.addresses(member.peer) or [Multiaddr.parse(text) for text in member.addresses]
            for member in self._ledger.state.members.values()
            if member.role != "client"
        }
        for peer in self.provisional():
            nodes.setdefault(peer, self._links.addresses(peer))
        return nodes

    def wanted(self) -> list[str]:
        """Return the nodes this one keeps a link to, the links having learnt where they answer."""
        wanted = []
        for peer, addresses in self.addresses().items():
            if peer != self._me:
                if not self._links.addresses(peer):
                    self._links.learn(peer, list(addresses))
                wanted.append(peer)
        return wanted

    def hinted(self, hint: Hint) -> bool:
        """Take a hint where a member may answer; say whether it is worth a look."""
        if hint.peer not in self._ledger.state.members or self._links.get(hint.peer) is not None:
            return False
        self._links.learn(hint.peer, hint.addresses)
        return True
