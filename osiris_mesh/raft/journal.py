"""The write-ahead log: entries, term and vote, configuration and snapshot in one file, one sync for all of them.

The paper's persistent state (figure 2) as PySyncObj's ``Journal`` wants it: a sequence of tuples ``(command, index,
term)`` whose first is the *base*, the last entry a snapshot covers (section 7), known by index and term alone.

Nothing is durable before :meth:`Journal.sync`, which writes all records since the last one as one *frame*, followed by
one ``fdatasync``: that is the group commit. Layout in ``docs/protocol/raft.md``. A frame is written only after the one
before it was synced, hence on start:

    last frame short, or its checksum wrong, nothing valid after  -> a write that power cut off: cut, nobody was told
    the same with a valid later frame anywhere after it            -> damage to what was durable: stop the node

Compaction writes a new file with the base, the snapshot, term, vote and what is left, and renames it over: there is no
moment at which the snapshot and the log could disagree (row 7).
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterable, Iterator
from typing import Any, Final

from osiris_mesh.codec import Limits, pack, unpack
from osiris_mesh.errors import CheckFailed, ProtocolError
from osiris_mesh.raft.configuration import is_configuration, read_configuration
from osiris_mesh.raft.storage import Storage

__all__ = ["Entry", "Journal"]

Entry = tuple[bytes, int, int]

_HEAD: Final = struct.Struct(">4sIQI")
_MAGIC: Final = b"oRaf"
_VERSION: Final = 1
_FRAME: Final = Limits(size=1 << 28, depth=4, count=1 << 20)
# Records inside a frame: [kind, ...].
_BASE: Final = 0
_TERM: Final = 1
_ENTRY: Final = 2
_CUT: Final = 3


class Journal:
    """The log of one node.

    Args:
        storage: Where it is kept.
        voters: The configuration to begin with when nothing is stored; None or empty for a passive node.

    Attributes:
        voters: The configuration in force: the latest in the log, committed or not (thesis 4.1), sorted.
        voters_index: Index of the entry that set it; the base's index if a snapshot or the beginning did.
        snapshot: What the owner gave when the base was made; empty at the beginning.
        bytes_held: Bytes of all commands in the log.

    Raises:
        CheckFailed: What is stored is damaged.
    """

    def __init__(self, storage: Storage, voters: Iterable[str] | None) -> None:
        self._storage = storage
        self._entries: list[Entry] = []
        self._term = 0
        self._vote: str | None = None
        self._pending: list[list[Any]] = []
        self._sequence = 0
        self._configurations: list[tuple[int, tuple[str, ...]]] = []
        self.snapshot = b""
        self.bytes_held = 0
        self.broken = False
        data = storage.load()
        if data is None:
            self._begin(1, 0, tuple(sorted(voters or ())), b"")
            self._rewrite()
        else:
            self._recover(data)

    # What the log holds.

    @property
    def base(self) -> Entry:
        """The last entry the snapshot covers; its command is not kept."""
        return self._entries[0]

    @property
    def voters(self) -> tuple[str, ...]:
        """The configuration in force."""
        return self._configurations[-1][1]

    @property
    def voters_index(self) -> int:
        """Index of the entry that set the configuration in force."""
        return self._configurations[-1][0]

    def voters_at(self, index: int) -> tuple[str, ...]:
        """Return the configuration that was in force at ``index``, not before the base."""
        return next(voters for at, voters in reversed(self._configurations) if at <= index)

    def term_at(self, index: int) -> int | None:
        """Return the term of the entry at ``index``, None if the log does not hold it."""
        place = index - self._entries[0][1]
        return self._entries[place][2] if 0 <= place < len(self._entries) else None

    # What PySyncObj calls (pysyncobj/journal.py, class Journal).

    def __len__(self) -> int:
        return len(self._entries)

    def __getitem__(self, place: Any) -> Any:
        return self._entries[place]

    def add(self, command: bytes, index: int, term: int) -> None:
        """Append an entry."""
        self._append((command, index, term))
        self._pending.append([_ENTRY, index, term, command])

    def deleteEntriesFrom(self, place: int) -> None:  # noqa: N802 - PySyncObj's name
        """Cut the log from the entry at position ``place`` on; the base stays."""
        if place < 1:
            raise CheckFailed("the raft log can't be cut before its snapshot")
        if place < len(self._entries):
            self._pending.append([_CUT, self._entries[place][1]])
            self._cut(place)

    def setCurrentTerm(self, term: int, vote: str | None) -> None:  # noqa: N802 - PySyncObj's name
        """Set term and vote."""
        if (term, vote) != (self._term, self._vote):
            self._term, self._vote = term, vote
            self._pending.append([_TERM, term, vote])

    def getCurrentTerm(self) -> int:  # noqa: N802 - PySyncObj's name
        """Return the current term."""
        return self._term

    def getVotedForNodeId(self) -> str | None:  # noqa: N802 - PySyncObj's name
        """Return whom this node voted for in the current term."""
        return self._vote

    def setRaftCommitIndex(self, index: int) -> None:  # noqa: N802 - PySyncObj's name
        """Do nothing: the commit index is volatile in the paper, and learnt from the leader after a restart."""

    def getRaftCommitIndex(self) -> int:  # noqa: N802 - PySyncObj's name
        """Return what is surely committed at start: what the snapshot covers."""
        return self._entries[0][1]

    def onOneSecondTimer(self) -> None:  # noqa: N802 - PySyncObj's name
        """Do nothing: nothing is left to be written later."""

    def _destroy(self) -> None:
        self._storage.close()

    # Durability.

    def sync(self) -> bool:
        """Make everything since the last call durable; return whether there was anything.

        Raises:
            OSError: The disk refused; nothing may be sent any more, and no later sync can be believed.
        """
        if self.broken:
            raise CheckFailed("the raft log is closed after a disk error")
        if not self._pending:
            return False
        self.broken = True  # until proven otherwise
        self._storage.append(self._frame(self._pending))
        self._storage.sync()
        self.broken = False
        self._pending = []
        return True

    def compact(self, index: int, snapshot: bytes) -> None:
        """Forget the entries up to ``index``, which ``snapshot`` covers; durable when it returns."""
        place = index - self._entries[0][1]
        if not 0 < place < len(self._entries):
            raise CheckFailed(f"the raft log does not hold entry {index}")
        kept, term, voters = self._entries[place + 1 :], self._entries[place][2], self.voters_at(index)
        self._begin(index, term, voters, snapshot)
        for entry in kept:
            self._append(entry)
        self._rewrite()

    def install(self, index: int, term: int, voters: Iterable[str], snapshot: bytes) -> None:
        """Replace the whole log by a leader's snapshot; durable when it returns."""
        self._begin(index, term, tuple(sorted(voters)), snapshot)
        self._rewrite()

    # Inside.

    def _begin(self, index: int, term: int, voters: tuple[str, ...], snapshot: bytes) -> None:
        self._entries = [(b"", index, term)]
        self._configurations = [(index, voters)]
        self.snapshot = snapshot
        self.bytes_held = 0

    def _append(self, entry: Entry) -> None:
        self._entries.append(entry)
        self.bytes_held += len(entry[0])
        if is_configuration(entry[0]):
            self._configurations.append((entry[1], read_configuration(entry[0])))

    def _cut(self, place: int) -> None:
        first = self._entries[place][1]
        self.bytes_held -= sum(len(entry[0]) for entry in self._entries[place:])
        del self._entries[place:]
        while self._configurations[-1][0] >= first:
            self._configurations.pop()

    def _frame(self, records: list[list[Any]]) -> bytes:
        self._sequence += 1
        return _seal(self._sequence, pack(records))

    def _rewrite(self) -> None:
        """Replace the file by one that holds exactly the present state."""
        self.broken = True
        base = self._entries[0]
        self._sequence = 0
        first = [[_BASE, _VERSION, base[1], base[2], list(self.voters_at(base[1])), self.snapshot]]
        frames = [self._frame([*first, [_TERM, self._term, self._vote]])]
        frames.extend(self._frame(records) for records in _slices(self._entries[1:]))
        self._storage.replace(b"".join(frames))
        self._pending = []
        self.broken = False

    def _recover(self, data: bytes) -> None:
        end = 0
        for frame_end, payload in _frames(data):
            end = frame_end
            try:
                for record in unpack(payload, _FRAME):
                    self._replay(record)
            except (ProtocolError, ValueError, TypeError, IndexError) as error:
                # The checksum held: not the disk but another program, or another version, wrote this.
                raise _damaged(f"frame {self._sequence + 1} can't be read ({error})") from None
            self._sequence += 1
        if not self._entries:
            raise _damaged("its first frame is not valid")
        if end < len(data):
            if _later_frame(data, end, self._sequence):
                raise _damaged(f"the frame at byte {end} is not valid, though others follow it")
            self._storage.truncate(end)

    def _replay(self, record: list[Any]) -> None:
        match record:
            case [0, 1, int(index), int(term), list(voters), bytes(snapshot)] if not self._entries:
                self._begin(index, term, tuple(voters), snapshot)
            case [1, int(term), vote] if self._entries and term >= self._term:
                self._term, self._vote = term, vote
            case [2, int(index), int(term), bytes(command)] if self._entries and index == self._entries[-1][1] + 1:
                self._append((command, index, term))
            case [3, int(index)] if self._entries and 0 < index - self._entries[0][1] < len(self._entries):
                self._cut(index - self._entries[0][1])
            case _:
                raise ValueError("a record does not follow from those before it")


def _slices(entries: list[Entry]) -> Iterator[list[list[Any]]]:
    """Yield records of about a mebibyte each."""
    records: list[list[Any]] = []
    size = 0
    for command, index, term in entries:
        records.append([_ENTRY, index, term, command])
        size += len(command) + 32
        if size > 1 << 20:
            yield records
            records, size = [], 0
    if records:
        yield records


def _seal(sequence: int, payload: bytes) -> bytes:
    check = zlib.crc32(payload, zlib.crc32(struct.pack(">IQ", len(payload), sequence)))
    return _HEAD.pack(_MAGIC, len(payload), sequence, check) + payload


def _open(data: bytes, start: int) -> tuple[int, int, bytes] | None:
    """Return (end, sequence, payload) of the frame at ``start``, None if there is no valid one."""
    if len(data) - start < _HEAD.size:
        return None
    magic, length, sequence, check = _HEAD.unpack_from(data, start)
    end = start + _HEAD.size + length
    if magic != _MAGIC or length > _FRAME.size or end > len(data):
        return None
    payload = data[start + _HEAD.size : end]
    if zlib.crc32(payload, zlib.crc32(struct.pack(">IQ", length, sequence))) != check:
        return None
    return end, sequence, payload


def _frames(data: bytes) -> Iterator[tuple[int, bytes]]:
    """Yield (end, payload) of the valid frames in sequence, up to the first that is not."""
    end, expected = 0, 1
    while (found := _open(data, end)) is not None and found[1] == expected:
        end, _, payload = found
        yield end, payload
        expected += 1


def _later_frame(data: bytes, start: int, sequence: int) -> bool:
    """Whether a valid frame newer than ``sequence`` begins anywhere after ``start``."""
    at = data.find(_MAGIC, start + 1)
    while at >= 0:
        found = _open(data, at)
        if found is not None and found[1] > sequence:
            return True
        at = data.find(_MAGIC, at + 1)
    return False


def _damaged(why: str) -> CheckFailed:
    return CheckFailed(
        f"the raft log of this home is damaged: {why}",
        fix="remove this home's member from the mesh and join again from an empty home",
    )
