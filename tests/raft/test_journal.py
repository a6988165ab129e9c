"""The write-ahead log: what survives a cut at any byte, a flipped bit, a restart."""

from __future__ import annotations

import random
import stat
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from osiris_mesh.codec import pack
from osiris_mesh.errors import CheckFailed, RemoteProtocolError
from osiris_mesh.raft.configuration import configuration, read_configuration
from osiris_mesh.raft.journal import Journal, _seal
from osiris_mesh.raft.storage import FileStorage
from tests.raft.simulator import MemoryStorage


def filled(storage: MemoryStorage, frames: int = 4) -> Journal:
    journal = Journal(storage, ["a", "b"])
    journal.setCurrentTerm(3, "a")
    for number in range(frames):
        journal.add(b"\0command %d" % number, number + 2, 3)
        journal.add(b"\0other %d" % number, number + 3, 3) if number == frames - 1 else None
        journal.sync()
    return journal


def state(journal: Journal) -> object:
    return (
        journal[:],
        journal.getCurrentTerm(),
        journal.getVotedForNodeId(),
        journal.voters,
        journal.voters_index,
        journal.snapshot,
        journal.bytes_held,
    )


def test_a_new_journal_is_durable_at_once() -> None:
    storage = MemoryStorage()
    journal = Journal(storage, ["b", "a"])
    assert journal.voters == ("a", "b")
    assert state(Journal(storage, None)) == state(journal)
    assert journal[:] == [(b"", 1, 0)]


def test_nothing_is_durable_before_the_sync() -> None:
    storage = MemoryStorage()
    journal = Journal(storage, None)
    before = storage.durable
    journal.add(b"\0x", 2, 1)
    journal.setCurrentTerm(1, "a")
    assert (storage.durable, storage.written) == (before, b"")
    assert journal.sync() is True
    assert journal.sync() is False
    assert state(Journal(storage, None)) == state(journal)


def test_a_record_cut_at_any_byte_is_dropped_and_the_rest_kept() -> None:
    storage = MemoryStorage()
    filled(storage, 3)
    whole = storage.durable
    assert whole is not None
    journal = filled(storage2 := MemoryStorage(), 4)
    longer = storage2.durable
    assert longer is not None
    # The last frame of 4 holds two entries: both or neither.
    start = len(longer) - len(_last_frame(longer))
    for cut in range(start, len(longer)):
        torn = MemoryStorage()
        torn.durable = longer[:cut]
        read = Journal(torn, None)
        assert [entry[1] for entry in read[:]] == [1, 2, 3, 4]
        assert torn.durable == longer[:start], "the torn part is cut off, so that nothing can follow it"
        read.add(b"\0after", 5, 4)
        read.sync()
        assert Journal(torn, None)[-1] == (b"\0after", 5, 4)
    assert state(Journal(storage2, None)) == state(journal)


def _last_frame(data: bytes) -> bytes:
    return data[data.rindex(b"oRaf") :]


def test_a_torn_write_of_garbage_or_zeros_is_dropped() -> None:
    storage = MemoryStorage()
    journal = filled(storage)
    whole = storage.durable
    assert whole is not None
    for rest in (b"\0" * 4096, random.Random(1).randbytes(300), b"oRaf" + b"\xff" * 40, b"oRaf"):
        torn = MemoryStorage()
        torn.durable = whole + rest
        assert state(Journal(torn, None)) == state(journal)


def test_every_flipped_bit_before_the_last_frame_stops_the_node() -> None:
    storage = MemoryStorage()
    filled(storage)
    whole = storage.durable
    assert whole is not None
    for at in range(len(whole) - len(_last_frame(whole))):
        broken = bytearray(whole)
        broken[at] ^= 1 << (at % 8)
        damaged = MemoryStorage()
        damaged.durable = bytes(broken)
        with pytest.raises(CheckFailed, match="damaged"):
            Journal(damaged, None)


@pytest.mark.parametrize("content", [b"", b"\0" * 64, b"PYSYNCOBJ" + b"\0" * 100])
def test_a_file_without_a_beginning_is_damage_never_an_empty_log(content: bytes) -> None:
    storage = MemoryStorage()
    storage.durable = content
    with pytest.raises(CheckFailed):
        Journal(storage, ["a"])


@pytest.mark.parametrize(
    "records",
    [
        [[2, 2, 1, b"\0x"]],  # an entry before the base
        [[0, 2, 1, 0, [], b""]],  # a version to come
        [[0, 1, 1, 0, [], b""], [2, 5, 1, b"\0x"]],  # a gap
        [[0, 1, 1, 0, [], b""], [1, 5, None], [1, 4, None]],  # a term that goes back
        [[0, 1, 1, 0, [], b""], [3, 1]],  # a cut of the base
        [[0, 1, 1, 0, [], b""], [9]],
        "text",
    ],
)
def test_records_that_do_not_follow_are_refused(records: object) -> None:
    storage = MemoryStorage()
    storage.durable = _seal(1, pack(records))
    with pytest.raises(CheckFailed):
        Journal(storage, None)


def test_a_failed_sync_is_never_tried_again() -> None:
    class Fails(MemoryStorage):
        def sync(self) -> None:
            raise OSError("I/O error")

    journal = Journal(Fails(), None)
    journal.add(b"\0x", 2, 1)
    with pytest.raises(OSError, match="I/O"):
        journal.sync()
    with pytest.raises(CheckFailed, match="disk error"):
        journal.sync()


def test_the_configuration_follows_the_log() -> None:
    journal = Journal(MemoryStorage(), ["a"])
    journal.add(configuration(["a", "b"]), 2, 1)
    journal.add(b"\0x", 3, 1)
    journal.add(configuration(["a", "b", "c"]), 4, 1)
    assert (journal.voters, journal.voters_index) == (("a", "b", "c"), 4)
    assert journal.voters_at(3) == ("a", "b")
    journal.deleteEntriesFrom(3)
    assert (journal.voters, journal.voters_index) == (("a", "b"), 2)
    journal.compact(3, b"snap")
    assert (journal.voters, journal.base, journal.snapshot) == (("a", "b"), (b"", 3, 1), b"snap")
    journal.install(9, 2, ["z", "y"], b"other")
    assert (journal.voters, journal[:]) == (("y", "z"), [(b"", 9, 2)])
    with pytest.raises(CheckFailed):
        journal.compact(10, b"")
    with pytest.raises(CheckFailed):
        journal.deleteEntriesFrom(0)


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 5), st.integers(1, 6), st.binary(max_size=40)), max_size=40), st.randoms())
def test_whatever_is_synced_is_read_again(steps: list[tuple[int, int, bytes]], rng: random.Random) -> None:
    storage = MemoryStorage()
    journal = Journal(storage, ["a"])
    durable = state(journal)
    for kind, number, data in steps:
        last = journal[-1]
        match kind:
            case 0 | 1:
                journal.add(b"\0" + data, last[1] + 1, max(last[2], journal.getCurrentTerm()))
            case 2:
                journal.setCurrentTerm(journal.getCurrentTerm() + number, rng.choice([None, "a", "b"]))
            case 3 if len(journal) > number:
                journal.deleteEntriesFrom(number)
            case 4 if len(journal) > number:
                journal.compact(journal.base[1] + number, data)
                durable = state(journal)
            case 5:
                journal.add(configuration({"a", f"v{number}"}), last[1] + 1, max(last[2], journal.getCurrentTerm()))
        if rng.random() < 0.4:
            journal.sync()
            durable = state(journal)
    storage.power_loss(rng)
    assert state(Journal(storage, None)) == durable


def test_files_are_private_and_leftovers_are_removed(tmp_path: Path) -> None:
    folder = tmp_path / "raft"
    journal = Journal(FileStorage(folder), ["a"])
    journal.add(b"\0" + bytes(3 << 20), 2, 0)
    journal.sync()
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    assert stat.S_IMODE((folder / "raft.log").stat().st_mode) == 0o600
    (folder / "raft.new").write_bytes(b"a compaction that never finished")
    again = Journal(FileStorage(folder), None)
    assert again[:] == journal[:]
    assert [path.name for path in folder.iterdir()] == ["raft.log"]
    again.compact(2, b"s")
    assert (folder / "raft.log").stat().st_size < 4096
    assert Journal(FileStorage(folder), None).base == (b"", 2, 0)


@pytest.mark.parametrize(
    "entry",
    [
        b"\2",
        b"\2\xc0",
        b"\2" + pack(["a", "a"]),
        b"\2" + pack([1]),
        b"\2" + pack([""]),
        b"\2" + pack([str(n) for n in range(10)]),
    ],
)
def test_malformed_configurations_are_refused(entry: bytes) -> None:
    with pytest.raises(RemoteProtocolError):
        read_configuration(entry)
