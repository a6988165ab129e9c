"""What a controller says of itself, and what it can be told to do: the node's side of the control methods."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, Final

from osiris_mesh.errors import OsirisError, Unavailable
from osiris_mesh.gateway.doctor import Facts, diagnose
from osiris_mesh.gateway.views import member_view
from osiris_mesh.gossip import PeerState
from osiris_mesh.ledger.kinds import MemberRemove

if TYPE_CHECKING:
    from osiris_mesh.node.controller import Controller

__all__ = ["Face"]

_LEAVE_SECONDS: Final = 15.0
_DRAIN_SECONDS: Final = 30.0
_SYNC_SECONDS: Final = 30.0
_STATES: Final = {
    PeerState.ALIVE: "alive",
    PeerState.SUSPECT: "suspect",
    PeerState.DEAD: "dead",
    PeerState.LEFT: "left",
}


class Face:
    """The controller as :class:`osiris_mesh.gateway.control.Node`.

    Args:
        controller: Whose face this is; it is built and running.
    """

    def __init__(self, controller: Controller) -> None:
        self._node = controller

    def report(self) -> dict[str, Any]:
        """Return what ``init``, ``join`` and ``start`` report once the controller is ready."""
        status = self.status()
        kept = ("mesh_id", "name", "peer_id", "node", "role", "members", "height", "sandbox")
        return {key: status[key] for key in kept} | {
            "listen": [str(address) for address in self._node.addresses],
            "http": self._node.web.url,
            "grpc": self._node.web.grpc,
            "dns": self._node.names.address,
        }

    def leadership(self) -> tuple[str, int, tuple[str, ...], bool]:
        """Return the leader's peer id (or an empty text), the term, the voters, and whether writes can succeed."""
        node = self._node
        raft = node.raft.status()
        if node.me in raft.voters:
            return raft.leader or "", raft.term, raft.voters, raft.quorum
        # A follower takes no part in Raft: what the voters say of themselves is all there is to know.
        newest = node.tips.newest_term()
        if newest is None:
            return "", raft.term, (), False
        return newest.leader, newest.term, newest.voters, bool(newest.leader) and node.gossip.alive(newest.leader)

    def states(self) -> dict[str, str]:
        """Return what gossip knows of every member: alive, suspect, dead, left, or unknown."""
        view = self._node.gossip.view() | {self._node.me: PeerState.ALIVE}
        return {
            peer: _STATES.get(view.get(peer, PeerState.UNKNOWN), "unknown") for peer in self._node.ledger.state.members
        }

    def status(self) -> dict[str, Any]:
        """Return the map of ``status``."""
        node = self._node
        ledger = node.ledger
        leader, term, voters, quorum = self.leadership()
        states = self.states()
        members = [
            member_view(
                member,
                state=states[member.peer],
                voter=member.peer in voters,
                leader=member.peer == leader,
            )
            for member in ledger.state.members.values()
        ]
        me = ledger.state.members.get(node.me)
        if me is None and ledger.tip.height:
            # Removed: nobody talks to this node, whatever it last heard.
            leader, quorum = "", False
        return {
            "mesh_id": ledger.state.mesh_id.hex(),
            "name": ledger.state.name,
            "peer_id": node.me,
            "node": node.options.name,
            "role": me.role if me else "",
            "state": node.state,
            "leader": leader or None,
            "term": term,
            "height": ledger.tip.height,
            "tip": ledger.tip.hash.hex(),
            "entries": ledger.entries,
            "quorum": quorum,
            "stale": not quorum,
            "voter": node.me in voters,
            "members": sorted(members, key=lambda member: (member["role"] == "client", member["since"])),
            "functions": node.functions.summary(),
            "sandbox": node.functions.sandbox(),
            "listen": [str(address) for address in node.addresses],
            "http": node.web.url,
            "grpc": node.web.grpc,
            "dns": node.names.address,
        }

    def contact(self) -> dict[str, Any]:
        """Return what a token is made of; bytes are bytes."""
        node = self._node
        others = [
            str(address)
            for peer, addresses in node.neighbours.addresses().items()
            if peer != node.me and node.gossip.alive(peer)
            for address in addresses[:2]
            if address.peer
        ]
        return {
            "mesh_id": node.ledger.state.mesh_id,
            "name": node.ledger.state.name,
            "network_key": node.network_key,
            "members": [*(str(address) for address in node.addresses[:4]), *others][:16],
        }

    async def diagnose(self) -> list[dict[str, Any]]:
        """Return the checks of ``doctor``."""
        node = self._node
        status = self.status()
        nodes = [member for member in status["members"] if member["role"] != "client"]
        alive = [member for member in nodes if member["state"] in {"alive", "suspect"}]
        names = {member["peer_id"]: member["name"] for member in nodes}
        verified = await node.ledger.verify()
        sandbox = node.functions.sandbox()
        facts = Facts(
            quorum=status["quorum"],
            leader=names.get(status["leader"], status["leader"] or ""),
            members=len(nodes),
            alive=len(alive),
            unreachable=tuple(member["name"] for member in nodes if member not in alive),
            sandbox=sandbox["detail"],
            sandboxed=sandbox["full"],
            skew_ms={names.get(peer, peer): skew for peer, skew in node.tips.skew_ms().items()},
            discovery=node.discovery.problem if node.discovery is not None else "",
            ledger_problems=tuple(str(problem["what"]) for problem in verified["problems"]),
            registry_problems=tuple(node.beyond.problems()),
        )
        return await asyncio.to_thread(diagnose, node.home, facts)

    async def sync(self) -> dict[str, Any]:
        """Catch up with the highest tip any member told of."""
        node = self._node
        goal = max((node.tips_height(), node.ledger.tip.height))
        await node.ledger.wait_for(goal, _SYNC_SECONDS)
        return {"height": node.ledger.tip.height, "tip": node.ledger.tip.hash.hex(), "peer_id": node.me}

    def request_stop(self) -> dict[str, Any]:
        """Begin to stop."""
        self._node.stop()
        return {"peer_id": self._node.me, "state": "stopping"}

    async def drain(self) -> dict[str, Any]:
        """Take no more work, finish what there is, and hand over leadership."""
        node = self._node
        node.state = "drained"
        node.beyond.placing.change("draining")
        await node.functions.drain(_DRAIN_SECONDS)
        await node.hand_over()
        return {"peer_id": node.me, "state": node.state}

    async def leave(self, *, force: bool = False) -> dict[str, Any]:
        """Leave the mesh: no more work, no more vote, no longer a member; then stop.

        A node that the mesh has removed already leaves without asking anybody.

        Args:
            force: Forget the mesh even if it can't be told; it goes on counting this node as a member until somebody
                removes it there.

        Raises:
            Unavailable: The mesh could not be told; this node stays a member.
        """
        node = self._node
        others = [member for member in node.ledger.state.voters() if member != node.me]
        if others and node.me in node.ledger.state.members and not force:
            await self.drain()
            node.is_leaving()
            try:
                await node.voters.retire(timeout=_LEAVE_SECONDS)
                entry = node.sign(MemberRemove(node.me))
                receipt = await node.ledger.propose([entry.bytes], timeout=_LEAVE_SECONDS)
            except OsirisError as error:
                raise Unavailable(
                    f"this node could not leave: {error.what}",
                    fix="start enough voters for a quorum and leave again, restart this node to stay, or leave --force",
                    maybe=bool(error.details.get("maybe")),
                ) from None
            outcome = receipt.outcomes[0]
            if not outcome.accepted:
                raise Unavailable(f"the ledger refuses the departure: {outcome.reason}", maybe=False)
        node.has_left()
        node.stop()
        return {"peer_id": node.me, "state": "left"}
