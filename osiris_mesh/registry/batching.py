"""Publications of one process to one remote: together where they can be, again where somebody else was faster.

Changes that wait become one publication, each made on top of the one before it, so that many publishers of a process
do not race each other. Across processes the remote is the judge: :class:`Moved` means that somebody was faster, and all
changes of the batch are made anew after a pause that grows with the races lost and is never the same for two.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Final, Protocol

from osiris_mesh.errors import Conflict, OsirisError, Overloaded, Unavailable
from osiris_mesh.registry.listing import Listing, check_files
from osiris_mesh.registry.tree import Blob, Change, Reader

__all__ = ["Batching", "Moved", "Overlay", "Publication", "State", "make", "message_of"]

_TOGETHER: Final = 64
_WAITING: Final = 1024
_CHANGE: Final = 30.0
_FIRST_PAUSE: Final = 0.05
_LONGEST_PAUSE: Final = 5.0
_TITLE: Final = 200


class Moved(Conflict):
    """Somebody else was faster: the remote is no longer where the publication began."""


class State(Reader, Protocol):
    """One state of a tree, and what tells its files' states apart."""

    async def tags(self) -> Listing:
        """Return the files with their tags; see :class:`~osiris_mesh.registry.tree.Tagged`."""
        ...


@dataclass(slots=True)
class Publication:
    """A change that waits.

    Attributes:
        change: See :data:`~osiris_mesh.registry.tree.Change`.
        message: One line.
        done: The tag of the tree that holds it.
    """

    change: Change
    message: str
    done: asyncio.Future[str]


class Overlay:
    """A tree's state with files over it that are not published yet.

    Args:
        below: The state.
        tag: Tag of what is read from over it.
        mark: Returns the tag a file will have in a listing, from its bytes.
    """

    def __init__(self, below: State, tag: str, mark: Callable[[bytes], str]) -> None:
        self._below = below
        self._tag = tag
        self._mark = mark
        self.files: dict[str, bytes] = {}

    async def read(self, path: str) -> Blob | None:
        """See :class:`~osiris_mesh.registry.tree.Reader`."""
        data = self.files.get(path)
        return await self._below.read(path) if data is None else Blob(data, self._tag)

    async def paths(self, prefix: str = "") -> list[str]:
        """See :class:`~osiris_mesh.registry.tree.Reader`."""
        found = await self._below.paths(prefix)
        more = {path for path in self.files if path.startswith(prefix)}
        return sorted(more.union(found)) if more else found

    async def tags(self) -> Listing:
        """See :class:`~osiris_mesh.registry.tree.Tagged`."""
        below = await self._below.tags()
        return below.changed({path: self._mark(data) for path, data in self.files.items()})


class Batching:
    """Publishes to one remote.

    Args:
        what: The remote, for people.
        attempt: Makes the changes of a batch, publishes them, and settles their futures; raises :class:`Moved` if
            somebody was faster, any other error for all of them. One call at a time.
        seconds: Longest time of one publication with all its races.
        rng: For the pauses.
    """

    def __init__(
        self,
        what: str,
        attempt: Callable[[Sequence[Publication]], Awaitable[None]],
        seconds: float,
        rng: random.Random | None = None,
    ) -> None:
        self._what = what
        self._attempt = attempt
        self._seconds = seconds
        self._rng = rng or random.SystemRandom()
        self._waiting: list[Publication] = []
        self._task: asyncio.Task[None] | None = None

    async def publish(self, change: Change, message: str) -> str:
        """See :meth:`osiris_mesh.registry.tree.Tree.publish`.

        Raises:
            Conflict: Lost races for too long.
            Overloaded: Too many publications wait.
        """
        if len(self._waiting) >= _WAITING:
            raise Overloaded(f"{_WAITING} publications wait for {self._what}", fix="try again", retry_after_ms=5000)
        done: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        title = " ".join(message.split())[:_TITLE] or "a publication"
        self._waiting.append(Publication(change, title, done))
        if self._task is None or self._task.done():
            self._task = asyncio.create_task(self._run(), name=f"publish to {self._what}")
        return await done

    async def close(self) -> None:
        """End; what waits fails."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    async def _run(self) -> None:
        while self._waiting:
            batch, self._waiting = self._waiting[:_TOGETHER], self._waiting[_TOGETHER:]
            try:
                await self._publish(batch)
            except OsirisError as error:
                _fail(batch, error)
            except BaseException as error:
                _fail([*batch, *self._waiting], error)
                self._waiting.clear()
                raise

    async def _publish(self, batch: Sequence[Publication]) -> None:
        loop = asyncio.get_running_loop()
        ends = loop.time() + self._seconds
        lost = 0
        while any(not each.done.done() for each in batch):
            began = loop.time()
            try:
                return await self._attempt(batch)
            except Moved as error:
                lost += 1
                if loop.time() >= ends:
                    raise Conflict(
                        f"others were faster {lost} times within {self._seconds:g} s: {error.what}", fix="try again"
                    ) from None
            # Attempts grow long where many try: who waits several of them leaves the way to others.
            longest = min(_LONGEST_PAUSE, (_FIRST_PAUSE + loop.time() - began) * 2 ** min(lost - 1, 10))
            await asyncio.sleep(self._rng.uniform(longest / 4, longest))
        return None


async def make(batch: Sequence[Publication], overlay: Overlay) -> list[Publication]:
    """Make the changes of a batch over a state; return those that could be made, the others failed alone."""
    made = []
    for each in batch:
        if each.done.done():
            continue
        try:
            async with asyncio.timeout(_CHANGE):
                files = dict(await each.change(overlay))
            check_files(files)
        except Exception as error:  # noqa: BLE001 - it is the publisher's own, and he gets it
            _fail([each], error)
            continue
        overlay.files.update(files)
        made.append(each)
    return made


def message_of(made: Sequence[Publication]) -> str:
    """Return one message for what is published together."""
    if len(made) == 1:
        return made[0].message
    return "\n".join([f"{len(made)} publications", "", *(each.message for each in made)])


def _fail(publications: Sequence[Publication], error: BaseException) -> None:
    for each in publications:
        if each.done.done():
            continue
        if isinstance(error, asyncio.CancelledError):
            each.done.set_exception(Unavailable("the registry was closed", maybe=True))
        elif isinstance(error, TimeoutError):
            each.done.set_exception(Unavailable(f"preparing the publication took over {_CHANGE:g} s", maybe=False))
        else:
            each.done.set_exception(error)
