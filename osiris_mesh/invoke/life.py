"""The life of one call between its arrival and its answer; a core.

A call is tried at one place after another until one answers, under one deadline and a capped number of attempts::

    CHOOSING --place--> RUNNING --answer--> done
        ^                  |
        +----failed, may--(+)--failed, may not be repeated--> done, with the error

Whether a failure may be repeated elsewhere:

==========================================  ==========================================================
failure                                     repeated
==========================================  ==========================================================
``Overloaded``                              always: it was refused before it ran
``Unavailable`` with ``maybe`` False        always: it never got there
``NotFound``, ``Denied`` from another node  always: that node's ledger is behind, nothing ran there
``Unavailable`` else, ``WorkerDied``,       only when the function or the caller says a repetition is harmless
a broken link
anything else                               never: it is the function's answer, or the caller's fault
==========================================  ==========================================================
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from osiris_mesh.errors import (
    DeadlineExceeded,
    Denied,
    NotFound,
    OsirisError,
    Overloaded,
    ProtocolError,
    Unavailable,
    WorkerDied,
)
from osiris_mesh.invoke.choice import Candidate, Here, choose, free_here

__all__ = ["CallLife", "Failed", "Forward", "Place", "RunHere", "earliest"]


@dataclass(frozen=True, slots=True)
class RunHere:
    """Run it on this node; ``warm`` if an instance was there already."""

    warm: bool


@dataclass(frozen=True, slots=True)
class Forward:
    """Send it to ``peer`` as ``call.run``."""

    peer: str


@dataclass(frozen=True, slots=True)
class Failed:
    """Answer with ``error``."""

    error: OsirisError


Place = RunHere | Forward | Failed


_TELL_S: Final = 0.03
_TELL_PART: Final = 0.03


def earliest(now: float, deadline: float | None, timeout_ms: int) -> float:
    """Return when a call must be over: the caller's deadline or the function's own limit, whichever comes first.

    The caller's is taken a little earlier (3 %, at most 30 ms), so that he still hears what the time was spent on, and
    a function that called another one can end by itself.
    """
    own = now + timeout_ms / 1000
    if deadline is None or own < deadline:
        return own
    return deadline - min(_TELL_S, (deadline - now) * _TELL_PART)


class CallLife:
    """One call.

    Args:
        name: The function's name, for the texts of errors.
        deadline: Monotonic seconds.
        attempts: Places it may be tried at.
        concurrency: Calls one instance works on at a time.
        idempotent: A repetition is harmless.
        retry_after_ms: For the answer when nobody takes it.
    """

    __slots__ = (
        "_attempts",
        "_concurrency",
        "_deadline",
        "_here_tried",
        "_idempotent",
        "_last",
        "_name",
        "_retry",
        "_tried",
    )

    def __init__(
        self,
        name: str,
        *,
        deadline: float,
        attempts: int,
        concurrency: int,
        idempotent: bool,
        retry_after_ms: int,
    ) -> None:
        self._name = name
        self._deadline = deadline
        self._attempts = attempts
        self._concurrency = concurrency
        self._idempotent = idempotent
        self._retry = retry_after_ms
        self._tried: set[str] = set()
        self._here_tried = False
        self._last: OsirisError | None = None

    def next(self, now: float, here: Here, others: Sequence[Candidate], rng: random.Random) -> Place:
        """Return what to do now: at the start, and after :meth:`failed` returned None.

        Args:
            now: Monotonic seconds.
            here: What this node has for the function.
            others: Live nodes but this one.
            rng: For the draw of :func:`osiris_mesh.invoke.choice.choose`.
        """
        if now >= self._deadline:
            return Failed(self._late())
        if self._attempts <= 0:
            return Failed(self._gave_up())
        self._attempts -= 1
        place = choose(
            None if self._here_tried else here, others, concurrency=self._concurrency, tried=self._tried, rng=rng
        )
        if place is None and isinstance(self._last, WorkerDied) and (here.room or here.instances > 0):
            # A worker's death says nothing against its node; a new instance is as good as one elsewhere.
            place = ""
        if place is None:
            return Failed(self._gave_up())
        if place == "":
            self._here_tried = True
            return RunHere(here.instances > 0)
        self._tried.add(place)
        return Forward(place)

    def asks_for_others(self, here: Here) -> bool:
        """Say whether :meth:`next` will look at the other nodes; their figures need not be gathered if not."""
        return self._here_tried or not free_here(here, self._concurrency)

    def began_here(self) -> None:
        """Take in that the first attempt was begun on this node without asking :meth:`next`."""
        self._attempts -= 1
        self._here_tried = True

    def failed(self, now: float, error: OsirisError, *, remote: bool) -> Failed | None:
        """Take in that the place just tried failed; return the end of the call, or None to go on with :meth:`next`."""
        if not self._may_repeat(error, remote=remote):
            return Failed(error)
        if remote and isinstance(error, (NotFound, Denied)):
            error = Unavailable(f"{self._name} can't run there yet: {error.what}", maybe=False)
        self._last = error
        return Failed(self._late()) if now >= self._deadline else None

    def _may_repeat(self, error: OsirisError, *, remote: bool) -> bool:
        match error:
            case Overloaded():
                return True
            case NotFound() | Denied():
                return remote
            case Unavailable() | WorkerDied() | ProtocolError():
                return self._idempotent or error.details.get("maybe") is False
            case _:
                return False

    def _late(self) -> OsirisError:
        tail = f"; the last attempt: {self._last.what}" if self._last else ""
        return DeadlineExceeded(f"the time for {self._name} ran out before a node answered{tail}")

    def _gave_up(self) -> OsirisError:
        if self._last is not None:
            return self._last
        return Overloaded(
            f"no node has room for {self._name} now",
            fix="call again a little later, or add a node",
            retry_after_ms=self._retry,
        )
