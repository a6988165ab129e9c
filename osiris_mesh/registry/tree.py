"""A tree of files that holds records: what every back-end of the registry is.

A tree keeps bytes under paths and knows nothing of what they say: :mod:`osiris_mesh.registry.registry` verifies them.
So a new back-end is this Protocol, and nothing else.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final, Protocol, runtime_checkable

__all__ = [
    "MAX_FILE",
    "MAX_MANY",
    "MAX_PATH",
    "MAX_PATHS",
    "Blob",
    "Bulk",
    "Change",
    "Keeping",
    "Reader",
    "Tagged",
    "Tags",
    "Tree",
]

MAX_FILE: Final = 4 * 1024 * 1024
"""Bytes a file of a tree may have; a larger one is not read."""
MAX_PATH: Final = 512
"""Bytes a path may have."""
MAX_PATHS: Final = 1_000_000
"""Files a tree may have; more are not listed."""
MAX_MANY: Final = 32
"""Files asked for at one go."""


@dataclass(frozen=True, slots=True)
class Blob:
    """One file as it was read.

    Attributes:
        data: Its bytes, at most :data:`MAX_FILE`.
        tag: Names the state of the tree it was read from, or of the file: a commit, a content id, an ETag.
    """

    data: bytes
    tag: str


class Reader(Protocol):
    """What a change reads while it is being made: the newest state of the tree."""

    async def read(self, path: str) -> Blob | None:
        """Return a file, or None where there surely is none.

        Raises:
            Unavailable: It is not known.
        """
        ...

    async def paths(self, prefix: str = "") -> list[str]:
        """Return the paths that begin with ``prefix``, ascending.

        Raises:
            Unavailable: They are not known.
        """
        ...


class Tags(Protocol):
    """Files with their tags; :class:`osiris_mesh.registry.listing.Listing` is one."""

    def items(self) -> Iterable[tuple[str, str]]:
        """Return paths and tags."""
        ...


@runtime_checkable
class Tagged(Protocol):
    """What a reader or tree may offer besides, so that only changed files are read again: in Git, their object ids."""

    async def tags(self) -> Tags:
        """Return every file with a text, at most 128 letters, that changes whenever its bytes do.

        A wrong one gets no wrong bytes believed: it only makes reading refuse them.

        Raises:
            Unavailable: They are not known.
        """
        ...


@runtime_checkable
class Bulk(Protocol):
    """What a reader or tree may offer besides: several files for one wait, where each wait costs more than a file."""

    async def read_many(self, paths: Sequence[str]) -> list[Blob | None]:
        """Return files as :meth:`Reader.read` does: the first, and those after it up to :data:`MAX_FILE` bytes in all.

        Args:
            paths: One to :data:`MAX_MANY`.

        Raises:
            Unavailable: One of them is not known.
        """
        ...


@runtime_checkable
class Keeping(Protocol):
    """What a tree may offer besides: states it refused, kept to be looked at.

    Its ``refresh`` raises Conflict with ``reason`` ``rollback`` or ``rewritten``, and ``now``: the state it met.
    """

    async def read_at(self, commit: str, path: str) -> bytes | None:
        """Return a file as it is in a state that is kept.

        Raises:
            Unavailable: It is not kept.
        """
        ...


Change = Callable[[Reader], Awaitable[Mapping[str, bytes]]]
"""Reads the newest state and returns the files to write; called anew whenever somebody else was faster.

An empty map is no publication: nothing is written, and the tag stays."""


class Tree(Reader, Protocol):
    """One back-end."""

    @property
    def name(self) -> str:
        """What the user calls this registry."""
        ...

    @property
    def kind(self) -> str:
        """``folder``, ``git``, ``http``, ``ipfs`` or ``ledger``."""
        ...

    async def publish(self, change: Change, message: str) -> str:
        """Write files in one step, nobody else's change lost; return the tree's new tag.

        Args:
            change: Called with the newest state, again after each lost race.
            message: One line for people: what was published.

        Raises:
            Conflict: Lost too many races.
            Denied: The remote does not let us write.
            Unavailable: It cannot be reached; ``maybe`` says whether it may have happened.
        """
        ...

    async def refresh(self) -> str:
        """Fetch what is new and return the tree's tag; reading goes on meanwhile with what was there.

        Raises:
            Unavailable: It cannot be reached.
        """
        ...

    async def close(self) -> None:
        """Give up what is held."""
        ...
