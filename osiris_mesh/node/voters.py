"""Carries out the voter plan: on the leader alone, one change at a time."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from typing import Final

from osiris_mesh.clock import Clock
from osiris_mesh.codec import pack
from osiris_mesh.errors import OsirisError, Unavailable
from osiris_mesh.link import Audience, Links, Request, Router
from osiris_mesh.raft import Raft
from osiris_mesh.raft.voter_plan import AddVoter, HandOver, RemoveVoter, VoterPlan

__all__ = ["RETIRE", "VoterKeeper", "Voting"]

RETIRE: Final = "voter.retire"
_LOOK_SECONDS: Final = 0.2
_CHANGE_SECONDS: Final = 5.0
_RETIRED_SECONDS: Final = 60.0
_log = logging.getLogger(__name__)


class Voting:
    """What the plan is made from; each is asked anew.

    Args:
        eligible: Peer ids of members that may vote, by the ledger.
        alive: Whether a member is alive.
        caught_up: Whether a member's ledger is as high as ours, but for what is under way.
    """

    def __init__(
        self,
        eligible: Callable[[], list[str]],
        alive: Callable[[str], bool],
        caught_up: Callable[[str], bool],
    ) -> None:
        self.eligible = eligible
        self.alive = alive
        self.caught_up = caught_up


class VoterKeeper:
    """Keeps the voters as the plan wants them.

    A member that leaves asks the leader to be left out first (``voter.retire``), so that it is never a voter the mesh
    waits for; the wish is forgotten after a minute, should the member have thought better of it.

    Args:
        me: Peer id of this node.
        raft: Its Raft.
        links: For asking the leader.
        voting: What the plan is made from.
        clock: Ends a wish to retire.
        router: Where ``voter.retire`` is registered.
    """

    def __init__(self, me: str, raft: Raft, links: Links, voting: Voting, clock: Clock, router: Router) -> None:
        self._me = me
        self._raft = raft
        self._links = links
        self._voting = voting
        self._clock = clock
        self._retiring: dict[str, float] = {}
        self._wake = asyncio.Event()
        router.unary(RETIRE, self._retire, allow=Audience.MEMBER)

    def look(self) -> None:
        """Look again soon: members, leader or heights changed."""
        self._wake.set()

    async def _retire(self, request: Request) -> bytes:
        self._wish(request.caller.peer)
        return pack(True)  # noqa: FBT003 - the answer's only value

    def _wish(self, peer: str) -> None:
        self._retiring[peer] = self._clock.monotonic() + _RETIRED_SECONDS
        self._wake.set()

    async def retire(self, *, timeout: float) -> None:
        """Stop being a voter, if this node is one and another can take its place.

        Raises:
            Unavailable: The leader did not do it in time.
        """
        deadline = self._clock.monotonic() + timeout
        asked = ""
        while self._me in self._raft.status().voters:
            leader = self._raft.status().leader or ""
            if self._clock.monotonic() > deadline:
                raise Unavailable("this node is still a voter: the leader did not release it in time", fix="try again")
            if leader == self._me:
                self._wish(self._me)
            elif leader and leader != asked:
                try:
                    await (await self._links.to(leader)).call(RETIRE, timeout=2.0)
                    asked = leader
                except OsirisError as error:
                    _log.debug("asking %s to retire failed: %s", leader, error)
            await asyncio.sleep(0.05)

    async def run(self) -> None:
        """Work until cancelled."""
        while True:
            try:
                async with asyncio.timeout(_LOOK_SECONDS):
                    await self._wake.wait()
            except TimeoutError:
                pass
            self._wake.clear()
            if self._raft.status().role == "leader":
                await self._step()

    async def _step(self) -> None:
        now = self._clock.monotonic()
        self._retiring = {peer: until for peer, until in self._retiring.items() if until > now}
        eligible = [peer for peer in self._voting.eligible() if peer not in self._retiring]
        step = VoterPlan().next_change(
            leader=self._me,
            eligible=eligible,
            alive=[peer for peer in eligible if peer == self._me or self._voting.alive(peer)],
            caught_up=[peer for peer in eligible if peer == self._me or self._voting.caught_up(peer)],
            voters=self._raft.status().voters,
        )
        try:
            match step:
                case AddVoter(peer):
                    await self._raft.change_voters(add=peer, timeout=_CHANGE_SECONDS)
                case RemoveVoter(peer):
                    await self._raft.change_voters(remove=peer, timeout=_CHANGE_SECONDS)
                case HandOver():
                    await self._raft.transfer(_CHANGE_SECONDS)
                case None:
                    return
        except OsirisError as error:
            _log.info("the voters could not be changed (%s): %s", step, error)
        else:
            _log.info("voters changed: %s", step)
