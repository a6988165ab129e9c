"""What is open for long, a stream above all, lasts as long as its bearer may: one watch for every face of a node.

States of a hold: *open* -> *asked* (rights changed in the ledger, or its time has come) -> *open* with what he may now,
or *lost*: its task is cancelled, and the context raises why. Nothing is polled: the ledger's blocks and one timer, set
for the first of all holds whose time runs out, are what makes the watch ask.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from types import TracebackType
from typing import Final, Protocol

from osiris_mesh.clock import SYSTEM, Clock
from osiris_mesh.errors import OsirisError
from osiris_mesh.ledger.block import Block
from osiris_mesh.ledger.principal import NEVER, NOBODY, Principal
from osiris_mesh.ledger.state import State

__all__ = ["Hold", "Watch"]

# The wall clock may be set, and stands apart from the loop's while the machine sleeps: look again after this at most.
_LONGEST_SECONDS: Final = 3600.0
_SHORTEST_SECONDS: Final = 0.001


class Timer(Protocol):
    """What a set timer can be asked."""

    def cancel(self) -> None:
        """Let it not go off."""
        ...


def _later(seconds: float, callback: Callable[[], None]) -> Timer:
    return asyncio.get_running_loop().call_later(seconds, callback)


class Hold:
    """One thing that is open for somebody: an async context around what its task does for him.

    Args:
        watch: Which looks after it.
        ask: Returns who he is now; raises why he may not any longer.

    Attributes:
        principal: Who he is and what he may, as of the last entry; nobody once it is lost.

    Raises:
        OsirisError: What ``ask`` raised: on entry, or from inside the context as soon as it is lost.
    """

    __slots__ = ("_ask", "_cancelling", "_error", "_task", "_watch", "principal")

    def __init__(self, watch: Watch, ask: Callable[[], Principal]) -> None:
        self._watch = watch
        self._ask = ask
        self._task: asyncio.Task[object] | None = None
        self._cancelling = 0
        self._error: OsirisError | None = None
        self.principal = NOBODY

    def renew(self) -> None:
        """Ask anew; cancel the task if he may not any longer."""
        try:
            self.principal = self._ask()
        except OsirisError as error:
            self.principal = NOBODY
            self._error = error
            self._watch.drop(self)
            if self._task is not None:
                self._task.cancel()

    async def __aenter__(self) -> Hold:
        self._task = asyncio.current_task()
        self._cancelling = self._task.cancelling() if self._task is not None else 0
        self.principal = self._ask()
        self._watch.keep(self)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._watch.drop(self)
        task, self._task = self._task, None
        if self._error is None or task is None:
            return
        # Who else cancelled the task (a drain) is not to be silenced by this.
        alone = task.uncancel() <= self._cancelling
        if alone and (kind is None or kind is asyncio.CancelledError):
            raise self._error from None


class Watch:
    """Every hold of one node; belongs to the loop's thread.

    Args:
        clock: Tells when somebody's time has run out.
        later: Calls something after so many seconds; the running loop's own if None.
    """

    def __init__(
        self, clock: Clock = SYSTEM, later: Callable[[float, Callable[[], None]], Timer] | None = None
    ) -> None:
        self._clock = clock
        self._later = later or _later
        self._holds: set[Hold] = set()
        self._state: State | None = None
        self._rights = -1
        self._timer: Timer | None = None

    @property
    def holds(self) -> int:
        """How many are open."""
        return len(self._holds)

    def hold(self, ask: Callable[[], Principal]) -> Hold:
        """Return a context for something that is open for long; see :class:`Hold`."""
        return Hold(self, ask)

    def on_block(self, _block: Block | None, state: State) -> None:
        """Ask for every hold anew if somebody's rights may have changed; called after each block.

        A repair replaces the state, which then counts anew.
        """
        if state is self._state and state.rights == self._rights:
            return
        self._state, self._rights = state, state.rights
        for hold in tuple(self._holds):
            hold.renew()
        self._arm()

    def keep(self, hold: Hold) -> None:
        """Look after a hold."""
        self._holds.add(hold)
        self._arm()

    def drop(self, hold: Hold) -> None:
        """Look after a hold no more."""
        self._holds.discard(hold)
        if not self._holds:
            self._arm()

    def _arm(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        due = min((hold.principal.until_ms for hold in self._holds), default=NEVER)
        if due < NEVER:
            seconds = (due - self._clock.time_ms()) / 1000
            self._timer = self._later(min(max(seconds, _SHORTEST_SECONDS), _LONGEST_SECONDS), self._due)

    def _due(self) -> None:
        self._timer = None
        now = self._clock.time_ms()
        for hold in tuple(self._holds):
            if hold.principal.until_ms <= now:
                hold.renew()
        self._arm()
