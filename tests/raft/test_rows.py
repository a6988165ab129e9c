"""Every row of ``osiris_mesh/raft/DESIGN.md``: the defect shows on bare PySyncObj 0.3.17, and not on ours."""

from __future__ import annotations

import logging
import mmap
import os
import pickle  # noqa: TID251 - what bare uses, and ours must not
import struct
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from osiris_mesh.clock import FakeClock
from osiris_mesh.errors import CheckFailed, InternalError, ProtocolError, Unavailable
from osiris_mesh.raft import ground
from osiris_mesh.raft.journal import Journal
from osiris_mesh.raft.storage import FileStorage
from tests.raft.pairs import SETTINGS, Bare, Either, Evil, Ours, append, bare, bare_journal, lead
from tests.raft.simulator import MemoryStorage

# Bare leaves files for the collector to close.
pytestmark = pytest.mark.filterwarnings("ignore::ResourceWarning", "ignore::pytest.PytestUnraisableExceptionWarning")
Make = Callable[..., Either]
ABC = ("a", "b", "c")


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock(start=1000.0)


@pytest.fixture(autouse=True)
def _closed() -> Iterator[None]:
    yield
    for node in list(Bare.opened):
        node.close()


@pytest.fixture(params=[Bare, Ours], ids=["bare", "ours"])
def make(request: pytest.FixtureRequest, clock: FakeClock, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> Make:
    """Make a node of one kind or the other; each test says what it expects of which."""
    caplog.set_level(logging.CRITICAL + 1)

    def build(peer: str = "a", voters: tuple[str, ...] = ABC, *, stored: bool = False, **conf: Any) -> Either:
        return request.param(peer, voters, clock, tmp_path if stored else None, **conf)  # type: ignore[no-any-return]

    build.defective = request.param is Bare  # type: ignore[attr-defined]
    return build


def defective(make: Make) -> bool:
    return bool(make.defective)  # type: ignore[attr-defined]


def test_row_1_a_snapshot_message_commits_only_what_was_verified(make: Make, clock: FakeClock) -> None:
    node = make()
    lead(node, ["b"], clock)
    node.propose(b"unreplicated")
    node.tick()
    node.tick()
    last = node.log()[-1][0]
    node.inject("b", node.snapshot_message(term=node.term + 1, commit=last))
    node.tick()
    node.tick()
    assert (b"unreplicated" in node.applied) is defective(make)
    assert (node.outcomes.get(b"unreplicated") == "done") is defective(make)


def test_row_2_a_resent_batch_drops_nothing(make: Make) -> None:
    node = make()
    four = [(node.command(b"%d" % n), 1) for n in range(2, 6)]
    append(node, "b", 1, (1, 0), four)
    acknowledged = node.take("next_node_idx")[-1][1]
    assert acknowledged["success"]
    assert acknowledged["next_node_idx"] == 6
    append(node, "b", 1, (1, 0), four[:2])
    assert node.log()[-1][0] == (3 if defective(make) else 5)
    append(node, "b", 1, (1, 0), [])
    assert node.log()[-1][0] == (1 if defective(make) else 5)


def test_row_2_commits_no_further_than_the_message_vouches_for(make: Make) -> None:
    node = make()
    append(node, "b", 1, (1, 0), [(node.command(b"old"), 1), (node.command(b"lost"), 1)])
    # Leader c of term 2 knows only the first; it has committed 3, which is not our 3.
    node.inject("c", node.snapshot_message(term=2, commit=3))
    node.tick()
    assert (node.commit == 3) is defective(make)


def test_row_3_a_snapshot_that_does_not_load_is_not_acknowledged(make: Make, tmp_path: Path) -> None:
    node = make(stored=True)
    append(node, "b", 1, (1, 0), [(node.command(b"x"), 1)])
    node.take()
    if isinstance(node, Bare):
        for part in ((b"garbage", True, False), (b"", False, True)):
            node.inject("b", {"type": "append_entries", "term": 1, "commit_index": 1, "serialized": part})
        assert node.take("next_node_idx")[-1][1]["success"] is True
        return
    snapshot = {**node.snapshot_message(1, 9), "index": 9, "index_term": 1}
    with pytest.raises(ProtocolError):
        node.inject("b", {**snapshot, "data": "garbage"})

    def fails(_data: bytes) -> None:
        raise OSError("no space left")

    node.storage.replace = fails  # type: ignore[method-assign]
    node.inject("b", snapshot)
    with pytest.raises(OSError, match="no space"):
        node.tick()
    assert node.take("next_node_idx") == []


@pytest.mark.parametrize("ack", ["absurd", "stale"])
def test_row_4_an_acknowledgement_counts_in_its_term_and_within_the_log(make: Make, clock: FakeClock, ack: str) -> None:
    node = make()
    lead(node, ["b"], clock)
    node.propose(b"x")
    node.tick()
    node.tick()
    last = node.log()[-1][0]
    term, following = (node.term, 1000) if ack == "absurd" else (node.term - 1, last + 1)
    message = {"type": "next_node_idx", "term": term, "next_node_idx": following, "success": True, "reset": False}
    node.inject("b", message)
    node.tick()
    assert (node.commit == last) is defective(make)
    # The true one commits on both.
    node.inject("b", {**message, "term": node.term, "next_node_idx": last + 1})
    node.tick()
    assert node.commit == last


@pytest.mark.parametrize("voters", [("b", "b"), ("b", "stranger")])
def test_row_5_one_vote_each_of_members_only(make: Make, clock: FakeClock, voters: tuple[str, str]) -> None:
    node = make(voters=("a", "b", "c", "d", "e"))
    clock.advance(1.0)
    node.tick()
    if isinstance(node, Ours):
        for peer, message in node.take("pre_vote"):
            node.inject(peer, {"type": "pre_vote_answer", "term": 0, "round": message["round"], "granted": True})
        node.tick()
    for voter in voters:
        node.inject(voter, {"type": "response_vote", "term": node.term})
    node.tick()
    assert node.leads is defective(make)


def test_row_6_one_change_of_the_voters_at_a_time(make: Make, clock: FakeClock) -> None:
    node = make()
    lead(node, ["b"], clock)
    node.inject("b", _ack(node))
    node.tick()
    for newcomer in ("d", "e"):
        node.add_voter(newcomer)
        node.tick()
        node.inject(newcomer, _ack(node))
        node.tick()
        node.tick()
    assert {"d", "e"} <= node.others() or not defective(make)
    if isinstance(node, Ours):
        assert node.others() == {"b", "c", "d"}
        assert not node.engine.raft.may_change_voters
        last = node.log()[-1][0]
        node.engine.raft.change_voters({*"abcde"}, lambda _place, failure: node.outcomes.update({b"second": failure}))
        assert node.outcomes[b"second"] == bare.FAIL_REASON.REQUEST_DENIED
        assert node.log()[-1][0] == last


def _ack(node: Either) -> dict[str, Any]:
    following = node.log()[-1][0] + 1
    return {"type": "next_node_idx", "term": node.term, "next_node_idx": following, "success": True, "reset": False}


def test_row_7_a_crash_between_snapshot_and_compaction_loses_nothing_bare(clock: FakeClock, tmp_path: Path) -> None:
    node = Bare("a", ABC, clock, tmp_path)
    append(node, "b", 1, (1, 0), [(node.command(b"%d" % n), 1) for n in range(2, 11)], commit=5)
    node.tick()
    assert node.take("next_node_idx")[-1][1]["next_node_idx"] == 11
    node.raft.forceLogCompaction()
    node.tick()  # writes and renames the dump; the journal would be cut in the next tick, which never comes
    again = node.restart()
    again.tick()
    assert again.log()[-1][0] == 5, "bare forgets 6 to 10, which it acknowledged"


def test_row_7_a_crash_between_snapshot_and_compaction_loses_nothing_ours(
    clock: FakeClock, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every call compaction makes to the system fails once; whatever it left, the acknowledged entries are there."""

    class Crash(Exception):
        pass

    for crash_at in range(1, 20):
        folder = tmp_path / str(crash_at)
        node = Ours("a", ABC, clock, storage=FileStorage(folder))
        append(node, "b", 1, (1, 0), [(node.command(b"%d" % n), 1) for n in range(2, 11)], commit=5)
        calls = 0

        def dies(name: str, owner: Any, at: int = crash_at) -> None:
            original = getattr(owner, name)

            def call(*args: Any, **named: Any) -> Any:
                nonlocal calls
                calls += 1
                if calls == at:
                    raise Crash
                return original(*args, **named)

            monkeypatch.setattr(owner, name, call)

        with monkeypatch.context():
            for name in ("open", "write", "fsync", "close"):
                dies(name, os)
            dies("replace", Path)
            try:
                node.engine.journal.compact(5, b"five")
                finished = True
            except Crash:
                finished = False
            monkeypatch.undo()
        journal = Journal(FileStorage(folder), None)
        assert journal[-1][1] == 10
        assert journal.base[1] in {1, 5}
        assert (journal.snapshot == b"five") is (journal.base[1] == 5)
        assert journal.getCurrentTerm() == 1
        if finished:
            assert crash_at > 5, "the crashes were meant to hit every call"
            return
    pytest.fail("compaction never finished")


def test_row_8_a_restart_keeps_the_tail(make: Make) -> None:
    """Bare with any deserialiser that gives lists, as msgpack does."""
    kept: dict[str, Any] = {}
    conf: dict[str, Any] = {"settings": {"compact_entries": 3, "keep_entries": 0}}
    if defective(make):
        as_lists = lambda entry: [list(part) if isinstance(part, tuple) else part for part in entry]  # noqa: E731
        conf = {
            "serializer": lambda name, data: (Path(name).touch(), kept.update(data=as_lists(data))),
            "deserializer": lambda _name: tuple(kept["data"]),
        }
    node = make(stored=True, **conf)
    append(node, "b", 1, (1, 0), [(node.command(b"%d" % n), 1) for n in range(2, 11)], commit=5)
    if isinstance(node, Bare):
        node.raft.forceLogCompaction()
    for _ in range(4):
        node.tick()
    assert node.log()[0][0] >= 4
    again = node.restart()
    again.tick()
    assert again.log()[-1][0] == (5 if defective(make) else 10)
    if isinstance(again, Ours):
        assert all(type(entry) is tuple for entry in again.engine.journal[:])


def test_row_9_what_is_acknowledged_was_synced(make: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    synced: list[str] = []

    class Map(mmap.mmap):
        def flush(self, *args: int) -> None:
            synced.append("msync")
            super().flush(*args)

    monkeypatch.setattr(bare_journal, "mmap", SimpleNamespace(mmap=Map))
    monkeypatch.setattr(os, "fsync", lambda _file: synced.append("fsync"))
    monkeypatch.setattr(os, "fdatasync", lambda _file: synced.append("fdatasync"))
    monkeypatch.setattr("osiris_mesh.raft.storage._sync", lambda _file: synced.append("fdatasync"))
    conf: dict[str, Any] = {} if defective(make) else {"storage": FileStorage(tmp_path / "raft")}
    node = make(stored=True, **conf)
    synced.clear()
    append(node, "b", 1, (1, 0), [(node.command(b"x"), 1)])
    node.inject("c", {"type": "request_vote", "term": 2, "last_log_index": 2, "last_log_term": 1, "transfer": True})
    node.tick()
    kinds = [message["type"] for _, message in node.take()]
    assert "next_node_idx" in kinds
    assert "response_vote" in kinds
    assert synced == ([] if defective(make) else ["fdatasync", "fdatasync"])


def test_row_9_a_flipped_bit_is_noticed(make: Make, tmp_path: Path) -> None:
    storage = MemoryStorage()
    node = make(stored=True) if defective(make) else make(storage=storage)
    for n in range(2, 6):
        append(node, "b", 1, (n - 1, min(n - 2, 1)), [(node.command(b"command %d" % n), 1)])
    if isinstance(node, Bare):
        node.get("raftLog").flush()
        path = tmp_path / "journal"
        content = bytearray(path.read_bytes())
        content[content.index(b"command 3")] ^= 1
        path.write_bytes(content)
        # A restart reads it as if nothing had happened.
        assert any(b"bommand 3" in entry[0] for entry in node.restart().get("raftLog")[:])
        return
    assert storage.durable is not None
    content = bytearray(storage.durable)
    content[content.index(b"command 3")] ^= 1
    storage.durable = bytes(content)
    with pytest.raises(CheckFailed, match="damaged"):
        node.restart()


def test_row_9_a_vote_is_not_forgotten(make: Make, tmp_path: Path) -> None:
    storage = MemoryStorage()
    node = make(stored=True) if defective(make) else make(storage=storage)
    node.inject("c", {"type": "request_vote", "term": 7, "last_log_index": 9, "last_log_term": 6, "transfer": True})
    node.tick()
    assert node.take("response_vote")
    if isinstance(node, Bare):
        (tmp_path / "journal.meta").write_bytes(b"")  # what a crash leaves of a file that was renamed and not synced
        assert node.restart().term == 0
        return
    assert storage.durable is not None
    again = node.restart()
    assert again.term == 7
    again.inject("b", {"type": "request_vote", "term": 7, "last_log_index": 9, "last_log_term": 6, "transfer": True})
    again.tick()
    assert again.take("response_vote") == []
    storage.durable = b""
    with pytest.raises(CheckFailed):
        node.restart()


def test_row_10_what_an_owner_does_wrong_is_not_done_twice(make: Make, clock: FakeClock) -> None:
    node = make(voters=("a",))
    if isinstance(node, Bare):
        lead(node, [], clock)

        def raises(_data: bytes) -> None:
            raise RuntimeError("the owner failed")

        node.on_apply = raises
        node.propose(b"x")
        for _ in range(4):
            try:
                node.tick()
            except RuntimeError:
                continue
        assert node.applied.count(b"x") > 1
        return
    node.tick()
    node.propose(b"x")
    node.engine.step()
    # The owner takes it and fails; nothing is left that would be handed over again.
    taken, node.engine.handed_over = node.engine.handed_over, []
    assert [item.command for item in taken if hasattr(item, "command")] == [b"x"]
    for _ in range(3):
        node.engine.step()
    assert node.engine.handed_over == []


def test_row_11_every_size_is_replicated(make: Make, clock: FakeClock) -> None:
    """Batches hold 1000 bytes here; bare cuts a larger command up, and calls a part of some sizes the end too early."""
    assert all(_arrives(make, clock, size) for size in (900, 999, 1000, 1001, 3000, 5000))
    delicate = [_arrives(make, clock, size) for size in range(1900, 2001, 3)]
    assert all(delicate) is not defective(make)


def _arrives(make: Make, clock: FakeClock, size: int) -> bool:
    leader = make("a", ("a", "b"))
    lead(leader, ["b"], clock)
    follower = make("b", ("a", "b"))
    leader.propose(b"x" * size)
    for _ in range(8):
        for one, other in ((leader, follower), (follower, leader)):
            one.tick()
            for _, message in one.take():
                try:
                    other.inject(one.peer, message)
                except (pickle.UnpicklingError, EOFError, struct.error):
                    return False
        clock.advance(SETTINGS.heartbeat_s)
    return b"x" * size in follower.applied


def test_row_12_compaction_keeps_what_it_cuts(make: Make, clock: FakeClock, tmp_path: Path) -> None:
    if defective(make):
        node = make(voters=("a",), stored=True, fullDumpFile=None)
        lead(node, [], clock)
    else:
        node = make(voters=("a",), settings={"compact_entries": 5, "keep_entries": 2})
    for n in range(20):
        node.propose(b"%d" % n)
        node.tick()
        node.tick()
    if isinstance(node, Bare):
        node.raft.forceLogCompaction()
    for _ in range(3):
        node.tick()
    base = node.log()[0][0]
    assert base > 2
    again = node.restart()
    again.tick()
    if isinstance(again, Bare):
        assert again.applied == []
        assert again.log()[0][0] == base, "bare starts in the middle, with nothing that stands for the beginning"
    else:
        assert isinstance(again, Ours)
        assert [item.index for item in again.installed] == [base]
        assert again.installed[0].snapshot == b"%d" % base


def test_row_13_a_configuration_not_yet_committed_survives_a_restart(make: Make) -> None:
    node = make(stored=True)
    append(node, "b", 1, (1, 0), [(node.add_entry("d"), 1)])
    assert node.others() == {"b", "c", "d"}
    again = node.restart()
    again.tick()
    assert ("d" in again.others()) is not defective(make)


def test_row_13_a_newcomer_follows_before_it_votes(make: Make, clock: FakeClock) -> None:
    node = make()
    lead(node, ["b"], clock)
    node.inject("b", _ack(node))
    node.tick()
    node.add_voter("d")
    for _ in range(3):
        node.tick()
    assert ("d" in node.others()) is defective(make)
    node.inject("d", _ack(node))
    node.tick()
    node.tick()
    assert "d" in node.others()


def test_row_14_cutting_a_change_off_restores_what_was(make: Make) -> None:
    node = make()
    entry = node.add_entry("c") if isinstance(node, Bare) else node.remove_entry("", ABC)
    append(node, "b", 1, (1, 0), [(entry, 1)])  # c votes already: a change that changes nothing
    assert node.others() == {"b", "c"}
    append(node, "c", 2, (1, 0), [(node.command(b"x"), 2)])
    assert ("c" in node.others()) is not defective(make)


def test_row_14_a_voter_that_is_removed_knows_it(make: Make, clock: FakeClock) -> None:
    node = make()
    append(node, "b", 1, (1, 0), [(node.remove_entry("a", ("b", "c")), 1)])
    term = node.term
    for _ in range(20):
        clock.advance(0.4)
        node.tick()
    assert (node.term > term) is defective(make)


def test_row_14_a_leader_does_not_remove_itself(clock: FakeClock) -> None:
    node = Ours("a", ABC, clock)
    lead(node, ["b"], clock)
    node.inject("b", _ack(node))
    node.tick()
    denied: list[int] = []
    node.engine.raft.change_voters({"b", "c"}, lambda _place, failure: denied.append(failure))
    assert denied == [bare.FAIL_REASON.REQUEST_DENIED]


def test_row_15_a_node_that_returns_deposes_nobody(make: Make, clock: FakeClock) -> None:
    node = make()
    lead(node, ["b"], clock)
    last, last_term = node.log()[-1]
    node.inject("c", {"type": "request_vote", "term": 9, "last_log_index": last, "last_log_term": last_term})
    node.tick()
    assert node.leads is not defective(make)


def test_row_15_an_isolated_node_does_not_raise_its_term(make: Make, clock: FakeClock) -> None:
    node = make()
    for _ in range(20):
        clock.advance(0.4)
        node.tick()
    assert (node.term > 0) is defective(make)


def test_row_15_a_handover_needs_no_patience(clock: FakeClock) -> None:
    node = Ours("a", ABC, clock)
    lead(node, ["b"], clock)
    last, last_term = node.log()[-1]
    vote = {"type": "request_vote", "term": 9, "last_log_index": last, "last_log_term": last_term, "transfer": True}
    node.inject("c", vote)
    node.tick()
    assert node.take("response_vote")
    assert not node.leads


def test_row_16_logs_that_parted_long_ago_are_reconciled_at_once(make: Make, clock: FakeClock) -> None:
    follower = make("b", ("a", "b", "c"))
    for n in range(2, 142):
        append(follower, "c", 1, (n - 1, 0 if n == 2 else 1), [(follower.command(b"lost"), 1)])
    follower.take()
    leader = make("a", ("a", "b", "c"))
    append(leader, "c", 2, (1, 0), [(leader.command(b"%d" % n), 2) for n in range(2, 142)])
    leader.take()
    clock.advance(1.0)
    lead(leader, ["c"], clock)
    rounds = 0
    while follower.log() != leader.log() and rounds < 130:
        rounds += 1
        clock.advance(SETTINGS.heartbeat_s + 0.001)
        leader.tick()
        for peer, message in leader.take():
            if peer == "b":
                follower.inject("a", message)
        follower.tick()
        for _, message in follower.take("next_node_idx"):
            leader.inject("b", message)
        # The third voter keeps the leader in office.
        leader.inject("c", {**_ack(leader), "next_node_idx": 2})
    assert (rounds >= 130) is defective(make)
    assert defective(make) or rounds <= 5


def test_row_16_a_deposed_leader_is_told(make: Make, clock: FakeClock) -> None:
    node = make()
    append(node, "b", 5, (1, 0), [])
    node.take()
    append(node, "c", 4, (1, 0), [])
    answers = node.take("next_node_idx")
    assert bool(answers) is not defective(make)
    if isinstance(node, Ours):
        leader = Ours("c", ABC, clock)
        lead(leader, ["a"], clock)
        leader.inject("a", answers[0][1])
        leader.tick()
        assert not leader.leads
        assert leader.term == 5


def test_row_17_a_leader_nobody_answers_steps_down(make: Make, clock: FakeClock) -> None:
    node = make()
    lead(node, ["b"], clock)
    for _ in range(50):
        clock.advance(0.1)
        node.tick()
    assert node.leads is defective(make)  # bare waits 30 s


def test_row_18_an_older_snapshot_does_not_rewind(make: Make, clock: FakeClock, tmp_path: Path) -> None:
    node = make(stored=True)
    append(node, "b", 1, (1, 0), [(node.command(b"%d" % n), 1) for n in range(2, 11)], commit=10)
    node.tick()
    assert node.get("raftLastApplied") == 10
    if isinstance(node, Bare):
        node.applied.clear()
        for part in ((_bare_dump(node, 5), True, False), (b"", False, True)):
            node.inject("b", {"type": "append_entries", "term": 1, "commit_index": 5, "serialized": part})
        assert node.get("raftLastApplied") == 5
        assert node.log()[-1][0] == 5
        return
    node.inject("b", {**node.snapshot_message(1, 5), "index": 5, "index_term": 1})
    node.tick()
    assert node.get("raftLastApplied") == 10
    assert node.log()[-1][0] == 10


def _bare_dump(node: Bare, index: int) -> bytes:
    entries = node.get("raftLog")[:]
    nodes = [bare.Node(voter) for voter in node.voters]
    import gzip  # noqa: PLC0415 - only bare's format needs it

    return gzip.compress(bare.pickle.dumps(({}, entries[index - 1], entries[index - 2], nodes)))


def test_row_18_who_waits_for_a_skipped_entry_is_answered(make: Make, clock: FakeClock, tmp_path: Path) -> None:
    node = make(stored=True)
    append(node, "b", 1, (1, 0), [])
    node.propose(b"forwarded")
    node.tick()
    (_, sent), *_ = node.take("apply_command")
    answer = {"type": "apply_command_response", "request_id": sent["request_id"], "log_idx": 4, "log_term": 1}
    node.inject("b", answer)
    node.tick()
    if isinstance(node, Bare):
        other = Bare("c", ABC, clock)
        append(other, "b", 1, (1, 0), [(other.command(b"%d" % n), 1) for n in range(2, 11)], commit=10)
        for part in ((_bare_dump(other, 10), True, False), (b"", False, True)):
            node.inject("b", {"type": "append_entries", "term": 1, "commit_index": 10, "serialized": part})
        for _ in range(5):
            node.tick()
        assert node.get("raftLastApplied") == 10
        assert b"forwarded" not in node.outcomes
        return
    node.inject("b", {**node.snapshot_message(1, 10), "index": 10, "index_term": 1})
    node.tick()
    outcome = node.outcomes[b"forwarded"]
    assert isinstance(outcome, Unavailable)
    assert outcome.details["maybe"] is True


def test_row_21_no_peer_runs_code(make: Make) -> None:
    Evil.ran.clear()
    node = make()
    entry = b"\0" + pickle.dumps(Evil())
    try:
        append(node, "b", 1, (1, 0), [(entry, 1)], commit=2)
    except KeyError:
        assert isinstance(node, Bare)  # it ran, and then was no command
    assert bool(Evil.ran) is defective(make)
    if isinstance(node, Ours):
        assert node.applied == [entry[1:]]


def test_row_21_pickle_is_out_of_reach(clock: FakeClock, monkeypatch: pytest.MonkeyPatch) -> None:
    ours = ground.syncobj.pickle
    assert ours is not bare.pickle
    assert ours.pickle is None
    for name in ("load", "loads", "dump", "dumps"):
        with pytest.raises(InternalError):
            getattr(ours, name)(b"")

    def tripwire(*_args: Any, **_named: Any) -> None:
        raise AssertionError("pickle was used")

    for name in ("load", "loads", "dump", "dumps", "Unpickler", "Pickler", "_loads", "_load", "_Unpickler"):
        monkeypatch.setattr(pickle, name, tripwire)
    # A life with an election, commands, a change of voters, compaction, a snapshot, a restart.
    leader = Ours("a", ("a",), clock, settings={"compact_entries": 5, "keep_entries": 1})
    leader.tick()
    for n in range(20):
        leader.propose(b"%d" % n)
        leader.tick()
    follower = Ours("b", (), clock)
    follower.engine.connect("a")
    leader.add_voter("b")
    for _ in range(10):
        for one, other in ((leader, follower), (follower, leader)):
            one.tick()
            for _, message in one.take():
                other.inject(one.peer, message)
        clock.advance(0.02)
    assert follower.others() == {"a"}
    assert follower.installed
    follower.restart().tick()


def test_row_23_a_peer_that_does_not_answer_is_not_flooded(make: Make, clock: FakeClock) -> None:
    node = make()
    lead(node, ["b"], clock)
    for n in range(100):
        node.propose(bytes(900) + b"%d" % n)
        node.tick()
        clock.advance(SETTINGS.heartbeat_s + 0.001)
        node.tick()
        node.inject("b", _ack(node))  # keeps it in office; c never answers
    sizes = [len(message.get("entries") or ()) for peer, message in node.take("append_entries") if peer == "c"]
    sent = sum(1 for size in sizes if size)
    assert (sent >= 90) is defective(make)
    assert defective(make) or sent <= SETTINGS.flight_messages


def test_the_source_is_the_one_that_was_read(monkeypatch: pytest.MonkeyPatch) -> None:
    ground._check_sources()
    monkeypatch.setitem(ground.SOURCES, "syncobj.py", "0" * 64)
    with pytest.raises(InternalError, match="not the one"):
        ground._check_sources()
