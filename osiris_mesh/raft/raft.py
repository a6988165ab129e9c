"""Raft in a thread of its own: the shell around :class:`osiris_mesh.raft.engine.Engine`.

The thread sleeps on one queue until a packet, a request or the next deadline, takes all there is, makes one step,
sends, hands over. It never spins and never waits for anything but the queue and the disk.
"""

from __future__ import annotations

import asyncio
import logging
import queue
import random
import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Final

from osiris_mesh.clock import SYSTEM, Clock
from osiris_mesh.errors import DeadlineExceeded, InternalError, Overloaded, RemoteProtocolError, Unavailable, UsageError
from osiris_mesh.raft.engine import Engine
from osiris_mesh.raft.message import decode, leaps
from osiris_mesh.raft.request import Change, Proposal, Read, Request, Transfer
from osiris_mesh.raft.status import Committed, Installed, RaftStatus
from osiris_mesh.raft.storage import FileStorage
from osiris_mesh.settings import RaftSettings

__all__ = ["Raft"]

_log = logging.getLogger(__name__)
_DRAIN: Final = 4096
_INBOX_PACKETS: Final = 16_384
_STOP: Final = ("stop", "", None)
_Item = tuple[str, str, Any]


class Raft:
    """One voter, or a passive node that may become one.

    Args:
        peer: This node's peer id.
        voters: The configuration to begin with when ``folder`` is empty; None: passive until the log names this node.
        folder: Where the log is kept; made if missing.
        settings: Times and bounds.
        send: ``send(peer, packet)``, called on the Raft thread; must not wait. What it can't send is lost.
        on_committed: Called on the Raft thread with commands in order, without gaps (places of Raft's own entries
            excepted), each once after :meth:`start`. If it raises, this node stops: its owner's state is not known.
        take_snapshot: ``take_snapshot(index, term) -> bytes | None``, called on the Raft thread with the place of a
            command handed over before; what stands for everything up to it (1 to 65536 bytes), or None: not yet.
        install_snapshot: ``install_snapshot(index, term, bytes)``, called on the Raft thread in order with
            ``on_committed``: what is at or before ``index`` will not be handed over. Called again by the next
            :meth:`start` whose ``applied`` is before ``index``.
        may_append: Called on the Raft thread of a leader with a command another voter forwards; False refuses it.
        on_change: Called on the Raft thread with the new status when role, leader, term, voters or quorum changed.
        clock: Where the time is read.
        rng: For election times.
    """

    def __init__(
        self,
        *,
        peer: str,
        voters: Sequence[str] | None,
        folder: Path,
        settings: RaftSettings,
        send: Callable[[str, bytes], None],
        on_committed: Callable[[Sequence[Committed]], None],
        take_snapshot: Callable[[int, int], bytes | None] = lambda _index, _term: None,
        install_snapshot: Callable[[int, int, bytes], None] = lambda _index, _term, _snapshot: None,
        may_append: Callable[[bytes], bool] = lambda _command: True,
        on_change: Callable[[RaftStatus], None] = lambda _status: None,
        clock: Clock = SYSTEM,
        rng: random.Random | None = None,
    ) -> None:
        self._peer = peer
        self._voters = voters
        self._folder = folder
        self._settings = settings
        self._send = send
        self._on_committed = on_committed
        self._take_snapshot = take_snapshot
        self._install_snapshot = install_snapshot
        self._may_append = may_append
        self._on_change = on_change
        self._clock = clock
        self._rng = rng or random.SystemRandom()
        self._queue: queue.SimpleQueue[_Item] = queue.SimpleQueue()
        self._engine: Engine | None = None
        self._thread: threading.Thread | None = None
        self._status = RaftStatus()
        self._proposed = 0

    def start(self, applied: int) -> None:
        """Open the log and start the thread.

        Args:
            applied: Index of the last command the owner keeps; later ones are handed over.

        Raises:
            CheckFailed: The log is damaged.
            InternalError: It was started before.
        """
        if self._thread is not None:
            raise InternalError("this Raft was started before")
        self._engine = Engine(
            peer=self._peer,
            voters=self._voters,
            storage=FileStorage(self._folder),
            settings=self._settings,
            applied=applied,
            clock=self._clock,
            rng=self._rng,
            take_snapshot=self._take_snapshot,
            may_append=self._may_append,
        )
        self._status = self._engine.status()
        self._thread = threading.Thread(target=self._run, args=(self._engine,), name="raft", daemon=True)
        self._thread.start()

    async def stop(self) -> None:
        """End the thread and close the log; requests under way fail."""
        if self._thread is not None:
            self._queue.put(_STOP)
            await asyncio.to_thread(self._thread.join)

    # From any thread.

    def deliver(self, peer: str, message: bytes) -> None:
        """Take a packet of ``peer``.

        Raises:
            RemoteProtocolError: It does not follow the protocol; nothing of it was used.
        """
        messages = decode(message)
        term = self._status.term
        if any(leaps(item, term) for item in messages):
            raise RemoteProtocolError(f"a Raft message leaps ahead of term {term} by more than elections explain")
        if self._queue.qsize() < _INBOX_PACKETS:  # else lost, which Raft makes up for
            self._queue.put(("deliver", peer, messages))

    def peer_up(self, peer: str) -> None:
        """Learn that packets to ``peer`` go out from now on."""
        self._queue.put(("up", peer, None))

    def peer_down(self, peer: str) -> None:
        """Learn that packets to ``peer`` are lost from now on; elections start sooner if it was the leader."""
        self._queue.put(("down", peer, None))

    def status(self) -> RaftStatus:
        """Return where this node stood after the last step."""
        return self._status

    # From any asyncio loop.

    async def propose(self, command: bytes, *, timeout: float) -> tuple[int, int]:
        """Have ``command`` committed, here or through the leader; return its (term, index).

        It was handed to this node's ``on_committed`` when this returns.

        Raises:
            UsageError: It is empty or larger than the settings allow.
            Overloaded: Too many commands wait here already; surely not done.
            Unavailable: ``details["maybe"]`` says whether it may be done all the same.
            DeadlineExceeded: Time ran out while it was under way; it may be done all the same.
        """
        if not 0 < len(command) <= self._settings.command_bytes:
            raise UsageError(
                f"a command of {len(command)} bytes can't be committed",
                fix=f"keep it between 1 and {self._settings.command_bytes} bytes",
            )
        if self._proposed >= self._settings.queue_commands:
            raise Overloaded("too many commands wait to be committed", fix="try again", retry_after_ms=100)
        self._proposed += 1
        try:
            outcome = await self._ask(Proposal(self._clock.monotonic() + timeout, command=command), timeout)
        finally:
            self._proposed -= 1
        term, index = outcome
        return term, index

    async def change_voters(self, *, add: str | None = None, remove: str | None = None, timeout: float) -> None:
        """Add one voter, once it has caught up, or remove one; on the leader only, one change at a time.

        Raises:
            UsageError: Not exactly one of ``add`` and ``remove`` is given.
            Conflict: Another change is under way, or the leader itself is to be removed.
            Unavailable: As for :meth:`propose`; also if this node does not lead.
            DeadlineExceeded: As for :meth:`propose`.
        """
        if (add is None) == (remove is None):
            raise UsageError("change_voters takes exactly one of add and remove")
        await self._ask(Change(self._clock.monotonic() + timeout, add=add, remove=remove), timeout)

    async def transfer(self, timeout: float, *, to: str | None = None) -> str:
        """Hand leadership to ``to``, or to the voter that holds most of the log; return the new leader.

        Raises:
            Unavailable: This node does not lead, nobody could take over, or nobody did in time.
            Conflict: It is being handed over already.
        """
        return str(await self._ask(Transfer(self._clock.monotonic() + timeout, to=to), timeout))

    async def read_index(self, *, timeout: float) -> int:
        """Return an index; a state that has everything up to it reflects every write acknowledged before this call.

        No lease and no clock is trusted: a majority answers first (thesis, 6.4).

        Raises:
            Unavailable: No leader confirmed it in time.
        """
        return int(await self._ask(Read(self._clock.monotonic() + timeout), timeout))

    async def _ask(self, request: Request, timeout: float) -> Any:
        if self._thread is None or self._status.role in {"stopped", "failed"}:
            raise Unavailable(f"Raft is {self._status.role} on this node", fix="see the log", maybe=False)
        loop = asyncio.get_running_loop()
        future: asyncio.Future[Any] = loop.create_future()
        request.owner = (loop, future)
        self._queue.put(("ask", "", request))
        try:
            async with asyncio.timeout(timeout):
                return await future
        except TimeoutError:
            if request.claim() or isinstance(request, Read):
                raise Unavailable(
                    f"there was no leader to take it within {timeout:g} s",
                    fix="see `status`: a majority of the voters must be running",
                    maybe=False,
                ) from None
            raise DeadlineExceeded(
                f"it was not committed within {timeout:g} s",
                fix="look whether it took effect before sending it again",
                maybe=True,
            ) from None

    # On the Raft thread.

    def _run(self, engine: Engine) -> None:
        error = ""
        try:
            while self._take(engine):
                self._step(engine)
        except Exception as failure:  # noqa: BLE001 - the thread's outermost edge: whatever it is, the node must hear of it
            error = f"{type(failure).__name__}: {failure}"
            _log.exception("raft_failed", extra={"peer": self._peer})
        self._end(engine, error)

    def _take(self, engine: Engine) -> bool:
        """Wait for something to do and feed it to the engine; False when it is time to stop."""
        wait = engine.next_deadline - self._clock.monotonic()
        try:
            item = self._queue.get(timeout=wait) if wait > 0 else self._queue.get_nowait()
        except queue.Empty:
            return True
        for _ in range(_DRAIN):
            if not self._feed(engine, item):
                return False
            try:
                item = self._queue.get_nowait()
            except queue.Empty:
                return True
        return self._feed(engine, item)

    @staticmethod
    def _feed(engine: Engine, item: _Item) -> bool:
        match item:
            case ("deliver", peer, messages):
                engine.receive(peer, messages)
            case ("ask", _, request):
                engine.submit(request)
            case ("up", peer, _):
                engine.connect(peer)
            case ("down", peer, _):
                engine.disconnect(peer)
            case _:
                return False
        return True

    def _step(self, engine: Engine) -> None:
        for peer, packet in engine.step():
            self._send(peer, packet)
        if engine.handed_over:
            handed_over, engine.handed_over = engine.handed_over, []
            self._hand_over(handed_over)
        if engine.settled:
            settled, engine.settled = engine.settled, []
            _answer(settled)
        before, self._status = self._status, engine.status()
        if _essence(before) != _essence(self._status):
            self._on_change(self._status)

    def _hand_over(self, items: Sequence[Committed | Installed]) -> None:
        batch: list[Committed] = []
        for item in items:
            if isinstance(item, Committed):
                batch.append(item)
                continue
            if batch:
                self._on_committed(batch)
                batch = []
            self._install_snapshot(item.index, item.term, item.snapshot)
        if batch:
            self._on_committed(batch)

    def _end(self, engine: Engine, error: str) -> None:
        stopped = "Raft failed on this node" if error else "Raft was stopped on this node"
        role = "failed" if error else "stopped"
        now = engine.status()
        self._status = RaftStatus(role=role, term=now.term, last_index=now.last_index, voters=now.voters, error=error)
        # What still sits in the queue was never looked at.
        while True:
            try:
                kind, _, request = self._queue.get_nowait()
            except queue.Empty:
                break
            if kind == "ask":
                engine.submit(request)
        _answer(engine.abandon(Unavailable(stopped, maybe=True), sure=Unavailable(stopped, maybe=False)))
        engine.close()
        self._on_change(self._status)


def _essence(status: RaftStatus) -> tuple[Any, ...]:
    return status.role, status.leader, status.term, status.voters, status.quorum


def _answer(settled: Sequence[Request]) -> None:
    """Give outcomes to the loops that wait for them, one call for each loop."""
    by_loop: dict[Any, list[Request]] = {}
    for request in settled:
        if request.owner is not None:
            by_loop.setdefault(request.owner[0], []).append(request)
    for loop, requests in by_loop.items():
        try:
            loop.call_soon_threadsafe(_set_outcomes, requests)
        except RuntimeError:
            _log.debug("raft: a loop was closed before its requests were answered")


def _set_outcomes(requests: Sequence[Request]) -> None:
    for request in requests:
        future = request.owner[1]
        if future.done():
            continue
        if isinstance(request.outcome, Exception):
            future.set_exception(request.outcome)
        else:
            future.set_result(request.outcome)
