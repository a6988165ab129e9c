"""The stored chain: what is kept through crashes, and what an unwilling disk does."""

from __future__ import annotations

import asyncio
import shutil
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from osiris_mesh.errors import CheckFailed, Conflict, RemoteProtocolError, Unavailable
from osiris_mesh.ledger.block import Tip
from osiris_mesh.ledger.chain import FILE_NAME, Chain, pack_outcomes, unpack_outcomes
from osiris_mesh.ledger.kinds import ConfigSet
from osiris_mesh.ledger.outcome import ACCEPTED, UNCHANGED, Outcome
from osiris_mesh.ledger.pages import check_pages
from osiris_mesh.ledger.rebuild import rebuild
from osiris_mesh.ledger.verify import verify_folder
from tests.ledger.kit import ADMIN, FOUNDER, MESH, OPERATOR, VIEWER, Agreement, Node, Paper, genesis, until


def paper_of(count: int) -> Paper:
    paper = Paper().begin()
    for at in range(count):
        paper.command([paper.entry(ConfigSet(f"k{at}", "x" * 50), author).bytes for author in (OPERATOR, VIEWER)])
    return paper


def test_rows_wires_and_what_is_found_in_them(tmp_path: Path) -> None:
    paper = paper_of(20)
    chain = Chain(tmp_path)
    assert (chain.tip(), chain.row(1), chain.wires(1, 10, 100), chain.tip_at(9)) == (None, None, [], None)
    chain.append(paper.blocks)
    assert chain.tip() == paper.replica.tip
    assert chain.wires(3, 100, 1 << 20) == [block.wire for block in paper.blocks[2:]]
    assert chain.wires(3, 2, 1 << 20) == [block.wire for block in paper.blocks[2:4]]
    assert chain.wires(1, 100, 1) == [paper.blocks[0].wire]
    assert chain.leaves() == [digest for block in paper.blocks for digest in block.hashes]
    assert chain.find(paper.blocks[9].hashes[1]) == (10, 1)
    assert chain.find(bytes(32)) is None
    assert [chain.row(height) for height in (-1, 0, len(paper.blocks) + 1)] == [None] * 3
    assert [chain.tip_at(index) for index in (0, 1, 7, 99)] == [
        None, paper.blocks[0].tip, paper.blocks[6].tip, paper.blocks[-1].tip,
    ]  # fmt: skip
    chain.close()


def test_what_was_appended_is_there_again_with_state_and_outcomes(tmp_path: Path) -> None:
    paper = paper_of(5)
    chain = Chain(tmp_path)
    chain.append(paper.blocks)
    chain.close()
    again = Chain(tmp_path)
    replica = rebuild(again, MESH)
    assert (replica.tip, replica.state.settings) == (paper.replica.tip, paper.state.settings)
    row = again.row(9)
    assert row is not None
    assert unpack_outcomes(row.outcomes, 2) == paper.blocks[8].outcomes
    again.close()


def test_a_batch_is_stored_whole_or_not_at_all(tmp_path: Path) -> None:
    paper = paper_of(3)
    chain = Chain(tmp_path)
    chain.append(paper.blocks[:2])
    with pytest.raises(Unavailable, match="can't be written"):
        chain.append([*paper.blocks[2:4], paper.blocks[0]])
    assert chain.tip() == Tip(2, paper.blocks[1].hash)
    chain.append(paper.blocks[2:])
    chain.close()


def test_a_copy_taken_at_any_moment_is_a_chain_that_ends_earlier(tmp_path: Path) -> None:
    """What a killed node leaves behind."""
    paper = paper_of(12)
    live = tmp_path / "live"
    live.mkdir()
    chain = Chain(live)
    for at, block in enumerate(paper.blocks):
        chain.append([block])
        if at % 5 == 2:
            chain.sync()
        copy = tmp_path / f"copy{at}"
        shutil.copytree(live, copy)
        (copy / f"{FILE_NAME}-shm").unlink(missing_ok=True)
        assert verify_folder(copy, MESH).valid
        found = Chain(copy)
        assert rebuild(found, MESH).tip == block.tip
        found.sync()
        found.close()
        assert check_pages(copy / FILE_NAME) == []
        assert (copy / "chain.pages").exists()
    chain.close()


def test_a_copy_without_its_log_is_a_chain_that_ends_at_the_last_sync(tmp_path: Path) -> None:
    """What a power cut leaves at the least."""
    paper = paper_of(12)
    live, copy = tmp_path / "live", tmp_path / "copy"
    live.mkdir()
    copy.mkdir()
    chain = Chain(live)
    chain.append(paper.blocks[:8])
    chain.sync()
    chain.append(paper.blocks[8:])
    for name in (FILE_NAME, "chain.pages"):
        shutil.copy(live / name, copy / name)
    found = Chain(copy)
    assert rebuild(found, MESH).tip == paper.blocks[7].tip
    found.close()
    chain.close()


def test_a_crash_between_the_checksums_and_the_checkpoint_leaves_none_rather_than_wrong_ones(tmp_path: Path) -> None:
    paper = paper_of(4)
    chain = Chain(tmp_path)
    chain.append(paper.blocks)
    chain.close()
    (tmp_path / "chain.pages").unlink()
    assert verify_folder(tmp_path, MESH).valid
    again = Chain(tmp_path)
    again.sync()
    again.close()
    assert (tmp_path / "chain.pages").exists()
    assert verify_folder(tmp_path, MESH).valid


def test_a_changed_page_is_seen_at_the_start(tmp_path: Path) -> None:
    Chain(tmp_path).close()
    path = tmp_path / FILE_NAME
    data = bytearray(path.read_bytes())
    data[4000] ^= 1
    path.write_bytes(data)
    with pytest.raises(CheckFailed, match="changed between byte 0 and 4095"):
        Chain(tmp_path)


def test_files_that_are_none_of_ours(tmp_path: Path) -> None:
    (tmp_path / FILE_NAME).write_bytes(b"x" * 8192)
    with pytest.raises(CheckFailed, match="damaged"):
        Chain(tmp_path)
    (tmp_path / FILE_NAME).unlink()
    with closing(sqlite3.connect(tmp_path / FILE_NAME)) as connection:
        connection.execute("PRAGMA user_version = 9")
    with pytest.raises(Conflict, match="format 9"):
        Chain(tmp_path)


@pytest.mark.parametrize(
    "outcomes",
    [
        [ACCEPTED],
        [ACCEPTED, UNCHANGED, ACCEPTED],
        [Outcome(accepted=False, reason="no, né", code="role"), ACCEPTED, Outcome(accepted=True, code="duplicate")],
    ],
)
def test_outcomes_are_kept_as_they_are(outcomes: list[Outcome]) -> None:
    stored = pack_outcomes(outcomes)
    assert unpack_outcomes(stored, len(outcomes)) == tuple(outcomes)
    for at in range(len(stored)):
        with pytest.raises(RemoteProtocolError):
            unpack_outcomes(stored[:at] + bytes([stored[at] ^ 1]) + stored[at + 1 :], len(outcomes))


async def test_a_disk_that_refuses_stops_the_ledger_with_the_reason(tmp_path: Path) -> None:
    node = await Node(tmp_path, Agreement(), FOUNDER).start()
    await node.put(genesis(), FOUNDER)
    node.ledger._open().chain._connection.execute("PRAGMA query_only=1")
    with pytest.raises(Unavailable, match="readonly") as caught:
        await node.put(ConfigSet("a", "1"), ADMIN)
    assert caught.value.details["maybe"] is True
    assert node.ledger.failed is not None
    with pytest.raises(Unavailable):
        await node.ledger.propose([], timeout=1)
    await node.close()


async def test_verifying_while_blocks_come_finds_nothing(tmp_path: Path) -> None:
    node = await Node(tmp_path, Agreement(), FOUNDER, sync_interval_s=0.01).start()
    await node.put(genesis(), FOUNDER)
    running = asyncio.ensure_future(node.ledger.run())
    writing = True

    async def write() -> None:
        at = 0
        while writing:
            at += 1
            await node.put(ConfigSet(f"k{at % 50}", str(at)), ADMIN)
            await asyncio.sleep(0)

    writer = asyncio.ensure_future(write())
    for _ in range(6):
        report = await node.ledger.verify()
        assert report["valid"], report
        assert report["height"] > 0
    writing = False
    await writer
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)
    await until(lambda: node.ledger.tip.height > 0)
    await node.close()
    assert verify_folder(tmp_path, MESH).height == node.agreement.log[-1].index
