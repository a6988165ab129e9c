"""Gets entries committed: through our own Raft in batches, or, on a node that does not vote, through a voter.

Entries that wait at the same moment share one command. While ``commands_in_flight`` commands are under way, what
arrives waits for the next one: a lone proposal leaves at once, a crowd makes large batches.
"""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import Callable, Coroutine, Sequence
from typing import TYPE_CHECKING, Any, Final, Protocol

from osiris_mesh.clock import Clock
from osiris_mesh.codec import pack, unpack
from osiris_mesh.errors import (
    DeadlineExceeded,
    Denied,
    OsirisError,
    Overloaded,
    RemoteProtocolError,
    Unavailable,
    UsageError,
)
from osiris_mesh.ledger.block import Command
from osiris_mesh.ledger.entry import Entry
from osiris_mesh.ledger.outcome import Outcome, Receipt
from osiris_mesh.ledger.proposals import Proposal, Proposals
from osiris_mesh.settings.ledger import LedgerSettings

if TYPE_CHECKING:
    from osiris_mesh.link import Link

__all__ = ["PROPOSE", "Consensus", "ConsensusStatus", "Peers", "Proposer"]

PROPOSE: Final = "ledger.propose"
_log = logging.getLogger(__name__)


class ConsensusStatus(Protocol):
    """What the ledger asks of the engine's status."""

    @property
    def leader(self) -> str | None:
        """Peer id of the leader, or None."""

    @property
    def voters(self) -> Sequence[str]:
        """Peer ids of the voters in force."""

    @property
    def applied_index(self) -> int:
        """Index of the last entry handed over, commands or not."""

    @property
    def quorum(self) -> bool:
        """Whether writes can succeed now, as far as this node knows."""


class Consensus(Protocol):
    """What the ledger needs of the engine that agrees on the order of commands.

    The engine calls :meth:`Ledger.on_committed`, :meth:`Ledger.take_snapshot` and :meth:`Ledger.install_snapshot`, all
    three on one thread, which may be its own.
    """

    async def propose(self, command: bytes, *, timeout: float) -> tuple[int, int]:
        """Return (term, index) once the command is committed.

        Raises:
            Unavailable: Not committed (``maybe`` False), or perhaps (``maybe`` True).
            DeadlineExceeded: Perhaps.
        """
        ...

    async def read_index(self, *, timeout: float) -> int:
        """Return an index; whoever has applied everything up to it has all that was acknowledged before this call.

        Raises:
            Unavailable: No leader confirmed it in time.
        """
        ...

    def status(self) -> ConsensusStatus:
        """Return where the engine stands; called on the loop thread, must not block."""
        ...


class Peers(Protocol):
    """What the ledger needs of the links; called on the loop thread."""

    async def to(self, peer: str) -> Link:
        """Return the live link to ``peer``, or dial it.

        Raises:
            Unavailable: It can't be reached.
        """
        ...

    def peers(self) -> list[str]:
        """Return the peers there is a live link to."""
        ...


class Proposer:
    """One node's way to the ledger.

    Args:
        peer: This node's peer id.
        public_key: Its key: the ``container`` of the blocks it proposes.
        raft: The engine, kept as an attribute.
        peers: Links to other nodes; None on a node that is alone.
        voters: Peer ids that may be voters, as far as the state says.
        settings: Bounds and pauses.
        clock: Gives the time of commands.

    Attributes:
        proposals: What is under way.
        on_height: Called with a voter's peer id and the height of a block it must have.
    """

    def __init__(
        self,
        *,
        peer: str,
        public_key: bytes,
        raft: Consensus,
        peers: Peers | None,
        voters: Callable[[], Sequence[str]],
        settings: LedgerSettings,
        clock: Clock,
    ) -> None:
        self.proposals = Proposals()
        self.on_height: Callable[[str, int], None] = lambda _peer, _height: None
        self._peer = peer
        self._public_key = public_key
        self.raft = raft
        self._peers = peers
        self._voters = voters
        self._settings = settings
        self._clock = clock
        self._commands = 0
        self._flush_due = False
        self._tasks: set[asyncio.Task[None]] = set()

    def voting(self) -> bool:
        """Say whether this node is a voter now."""
        return self._peer in self.raft.status().voters

    async def propose(self, entries: Sequence[Entry], *, timeout: float, begin: Callable[[Proposal], None]) -> Receipt:
        """Return the receipt once all entries stand in blocks applied here.

        Args:
            entries: Decoded entries, their signatures checked.
            timeout: Seconds.
            begin: Called with the new proposal before anything is sent: settles what is known already.

        Raises:
            UsageError: They do not fit one block.
            Overloaded: Too many wait already.
            Unavailable: There is no quorum, or no voter can be reached; ``maybe`` as below.
            DeadlineExceeded: Not done in time; ``maybe`` says whether it may be done all the same.
            OsirisError: What the engine or a voter refused for good.
        """
        if self.proposals.entries + len(entries) > self._settings.waiting_entries:
            raise Overloaded("too many entries wait for their block", fix="try again", retry_after_ms=100)
        loop = asyncio.get_running_loop()
        done: asyncio.Future[Receipt] = loop.create_future()
        proposal = Proposal(
            entries,
            loop.time(),
            loop.time() + timeout,
            lambda receipt: None if done.done() else done.set_result(receipt),
            lambda error: None if done.done() else done.set_exception(error),
        )
        self.proposals.add(proposal)
        try:
            begin(proposal)
            self._route(proposal)
            async with asyncio.timeout_at(proposal.deadline):
                return await done
        except TimeoutError:
            if proposal.hindrance is not None and not self.raft.status().quorum:
                raise _unavailable(proposal, proposal.hindrance) from None
            raise DeadlineExceeded(
                f"the ledger did not confirm in {timeout:g} s: {self._why_slow()}",
                fix="ask again with the same entries: they take effect once",
                maybe=proposal.maybe,
            ) from None
        finally:
            self.proposals.drop(proposal)

    async def close(self) -> None:
        """Cancel what is under way."""
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def _route(self, proposal: Proposal) -> None:
        if proposal.done:
            return
        if self._peers is None or self.voting():
            self.proposals.queue(proposal)
            self._schedule()
        else:
            self._start(self._forward(proposal, self._peers))

    def _schedule(self) -> None:
        # One turn of the loop later, so that what is proposed in this turn goes together.
        if not self._flush_due and self._commands < self._settings.commands_in_flight:
            self._flush_due = True
            asyncio.get_running_loop().call_soon(self._flush)

    def _flush(self) -> None:
        self._flush_due = False
        while self._commands < self._settings.commands_in_flight:
            batch = self.proposals.batch()
            if not batch:
                return
            self._commands += 1
            self._start(self._send(batch))

    def _start(self, work: Coroutine[None, None, None]) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _send(self, batch: Sequence[Proposal]) -> None:
        loop = asyncio.get_running_loop()
        entries = tuple(entry.bytes for proposal in batch for entry in proposal.entries)
        command = Command(self._public_key, self._clock.time_ms(), entries).to_wire()
        timeout = max(proposal.deadline for proposal in batch) - loop.time()
        try:
            await self.raft.propose(command, timeout=max(timeout, 0.001))
        except OsirisError as error:
            self._again(batch, error)
        else:
            for proposal in batch:
                proposal.maybe = True
        finally:
            self._commands -= 1
            self._schedule()

    async def _forward(self, proposal: Proposal, peers: Peers) -> None:
        """Hand a proposal to one voter after the other until one has taken it or a definite answer is there."""
        body = pack([entry.bytes for entry in proposal.entries])
        loop = asyncio.get_running_loop()
        error: OsirisError = Unavailable("no voter is known here", maybe=False)
        answered = False
        for voter in self._ask_order(peers):
            if proposal.done:
                return
            if _lacks_quorum(error) and voter not in peers.peers():
                # Somebody may be on the side that has one, but only who can be reached.
                continue
            timeout = proposal.deadline - loop.time()
            try:
                async with asyncio.timeout(min(timeout, self._settings.pull_timeout_s)):
                    link = await peers.to(voter)
                answer = unpack(await link.call(PROPOSE, body, timeout=timeout))
            except TimeoutError:
                error = Unavailable(f"{voter} could not be reached in time", maybe=False)
            except Denied:
                # Not about the entries, whose outcomes say what they may: this voter does not know us as a member yet.
                answered = True
                error = Unavailable(f"{voter} does not take proposals from this node", maybe=False)
            except (Unavailable, DeadlineExceeded, Overloaded) as reason:
                answered = answered or voter in peers.peers()
                error = error if _lacks_quorum(error) else reason
                proposal.maybe = proposal.maybe or _maybe(reason)
            except OsirisError as reason:
                proposal.fail(reason)
                return
            else:
                try:
                    height, refused = _read_answer(answer, len(proposal.entries))
                except RemoteProtocolError as reason:
                    proposal.fail(reason)
                    return
                proposal.maybe = True
                self.on_height(voter, height)
                for at, outcome in refused.items():
                    proposal.settle(at, height, outcome)
                return
        if not answered and loop.time() - proposal.since >= self._settings.unreachable_s:
            proposal.fail(_unavailable(proposal, error))
            return
        self._again([proposal], error)

    def _ask_order(self, peers: Peers) -> list[str]:
        """Return the leader if it is known, then voters, then whoever is linked; live links first, else at random."""
        status = self.raft.status()
        voters = set(status.voters or self._voters())
        live = set(peers.peers())
        order = sorted((voters | live) - {self._peer})
        random.shuffle(order)
        return sorted(order, key=lambda peer: (peer != status.leader, peer not in voters, peer not in live))

    def _again(self, batch: Sequence[Proposal], error: OsirisError) -> None:
        """Try a failed batch once more after a pause: an entry committed twice has one effect."""
        loop = asyncio.get_running_loop()
        retry = isinstance(error, (Unavailable, DeadlineExceeded, Overloaded))
        for proposal in batch:
            proposal.maybe = proposal.maybe or _maybe(error)
            if isinstance(error, Unavailable):
                proposal.hindrance = error
            if _lacks_quorum(error):
                proposal.fail(_unavailable(proposal, error))
            elif retry:
                loop.call_later(self._settings.propose_retry_s, self._route, proposal)
            else:
                proposal.fail(error)

    def _why_slow(self) -> str:
        status = self.raft.status()
        if not status.quorum:
            return "there is no quorum" if self.voting() else "no quorum is known of here"
        return "the voters are slow" if status.leader else "there is no leader"


def _read_answer(answer: Any, count: int) -> tuple[int, dict[int, Outcome]]:
    """Return a voter's answer: a height, and what became of entries that are refused, which need not be in a block."""
    height, rows = answer if type(answer) is list and len(answer) == 2 else (answer, [])
    refused: dict[int, Outcome] = {}
    if type(height) is int and type(rows) is list and len(rows) <= count:
        for row in rows:
            if type(row) is not list or [type(item) for item in row] != [int, str, str] or not 0 <= row[0] < count:
                break
            refused[row[0]] = Outcome(accepted=False, reason=row[2], code=row[1])
        else:
            return height, refused
    raise RemoteProtocolError("a voter answered a proposal with something else")


def _lacks_quorum(error: OsirisError) -> bool:
    return isinstance(error, Unavailable) and error.details.get("why") == "quorum"


def _unavailable(proposal: Proposal, error: OsirisError) -> Unavailable:
    """Return why nothing can be agreed now, and whether an earlier attempt may have gone through."""
    fix = "ask again with the same entries: they take effect once" if proposal.maybe else error.fix
    return Unavailable(error.what, fix=fix, **{**error.details, "maybe": proposal.maybe})


def _maybe(error: OsirisError) -> bool:
    return bool(error.details.get("maybe", not isinstance(error, (Overloaded, UsageError))))
