# ruff: noqa: S608 - the only thing put into SQL texts here is the name of one of our four columns
"""One changed byte anywhere in a stored chain is found and named."""

from __future__ import annotations

import random
import shutil
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from osiris_mesh.codec import pack, unpack
from osiris_mesh.errors import CheckFailed
from osiris_mesh.ledger import wal
from osiris_mesh.ledger.block import Header, block_hash, read_wire, wire
from osiris_mesh.ledger.chain import FILE_NAME, Chain, pack_outcomes
from osiris_mesh.ledger.kinds import ConfigSet, UserAdd
from osiris_mesh.ledger.outcome import ACCEPTED
from osiris_mesh.ledger.rebuild import rebuild
from osiris_mesh.ledger.verify import MAX_PROBLEMS, VerifyReport, verify_folder
from tests.ledger.kit import ADMIN, MESH, OPERATOR, VIEWER, Paper, key

COLUMNS = ("hash", "wire", "hashes", "outcomes")


def write(folder: Path, paper: Paper) -> None:
    chain = Chain(folder)
    chain.append(paper.blocks)
    chain.close()


@pytest.fixture
def paper() -> Paper:
    paper = Paper().begin()
    paper.command([paper.entry(ConfigSet(f"k{at}", "1"), OPERATOR).bytes for at in range(3)])
    paper.command([paper.entry(ConfigSet("x", "1"), VIEWER).bytes, b"noise"])
    paper.must(UserAdd(key("new").public, "new", "viewer"), ADMIN)
    return paper


@pytest.fixture
def folder(tmp_path: Path, paper: Paper) -> Path:
    write(tmp_path, paper)
    return tmp_path


def change(folder: Path, sql: str, *args: Any) -> None:
    """Change rows as someone would who knows SQLite, and takes care of the checksums of its pages."""
    with closing(sqlite3.connect(folder / FILE_NAME)) as connection, connection:
        connection.execute(sql, args)
    (folder / "chain.pages").unlink(missing_ok=True)


def column(folder: Path, name: str, height: int) -> bytes:
    with closing(sqlite3.connect(folder / FILE_NAME)) as connection:
        return connection.execute(f"SELECT {name} FROM blocks WHERE height = ?", (height,)).fetchone()[0]


def test_a_chain_that_holds(folder: Path, paper: Paper) -> None:
    report = verify_folder(folder, MESH)
    assert report == VerifyReport(valid=True, height=7, tip=paper.replica.tip.hash, entries=10, problems=())
    assert report.view() == {
        "valid": True, "height": 7, "tip": paper.replica.tip.hash.hex(), "entries": 10, "problems": [],
    }  # fmt: skip


def positions(data: bytes, rng: random.Random) -> Iterator[int]:
    """Every position of short columns; the ends and a sample of long ones."""
    yield from range(len(data)) if len(data) <= 40 else sorted({0, 1, len(data) - 1, *rng.sample(range(len(data)), 12)})


@pytest.mark.parametrize("name", COLUMNS)
def test_a_changed_byte_in_any_column_of_any_row_is_found_there(folder: Path, paper: Paper, name: str) -> None:
    rng = random.Random(1)
    for height in range(1, 8):
        good = column(folder, name, height)
        for at in positions(good, rng):
            bad = bytearray(good)
            bad[at] ^= 1 << rng.randrange(8)
            change(folder, f"UPDATE blocks SET {name} = ? WHERE height = ?", bytes(bad), height)
            report = verify_folder(folder, MESH)
            assert not report.valid, (height, at)
            assert report.problems[0].height == height, (height, at, report.problems[0])
        change(folder, f"UPDATE blocks SET {name} = ? WHERE height = ?", good, height)
    assert verify_folder(folder, MESH).valid


def test_a_damaged_entry_is_named_by_its_index(folder: Path, paper: Paper) -> None:
    data = bytearray(column(folder, "wire", 5))
    second = read_wire(bytes(data))[1][1]
    data[bytes(data).index(second) + 100] ^= 1
    change(folder, "UPDATE blocks SET wire = ? WHERE height = 5", bytes(data))
    problem = verify_folder(folder).problems[0]
    assert (problem.height, problem.entry, problem.check) == (5, 5, "entry")


@pytest.mark.parametrize(
    ("field", "value", "check"),
    [
        ("mesh_id", bytes(16), "mesh_id"),
        ("height", 9, "height"),
        ("previous", bytes(32), "previous"),
        ("first", 0, "first"),
        ("count", 9, "count"),
        ("entries_root", bytes(32), "entries_root"),
        ("log_size", 99, "log_size"),
        ("log_root", bytes(32), "log_root"),
        ("raft_term", 0, "raft"),
        ("raft_index", 1, "raft"),
        ("time_ms", 0, "time"),
    ],
)
def test_a_header_that_was_rewritten_with_its_hash_is_found_and_the_field_named(
    folder: Path, paper: Paper, field: str, value: Any, check: str
) -> None:
    header_bytes, entries = read_wire(column(folder, "wire", 5))
    header = replace(Header.from_wire(header_bytes), **{field: value}).to_wire()
    change(folder, "UPDATE blocks SET wire = ?, hash = ? WHERE height = 5", wire(header, entries), block_hash(header))
    report = verify_folder(folder, MESH)
    assert (5, check) in {(problem.height, problem.check) for problem in report.problems}
    assert (6, "previous") in {(problem.height, problem.check) for problem in report.problems}


@pytest.mark.parametrize("height", [1, 3, 6])
def test_a_missing_block_is_named(folder: Path, height: int) -> None:
    change(folder, "DELETE FROM blocks WHERE height = ?", height)
    problem = verify_folder(folder).problems[0]
    assert (problem.check, problem.what) == ("height", f"block {height} is missing")


def test_a_block_out_of_its_place_is_named(folder: Path) -> None:
    change(folder, "UPDATE blocks SET height = 12 WHERE height = 7")
    report = verify_folder(folder)
    assert report.problems[0].what == "blocks 7 to 11 are missing"
    change(folder, "UPDATE blocks SET height = -3 WHERE height = 2")
    assert "row says it is block -3" in verify_folder(folder).problems[0].what


def test_an_outcome_that_was_rewritten_with_its_checksum_is_found(folder: Path) -> None:
    change(folder, "UPDATE blocks SET outcomes = ? WHERE height = 6", pack_outcomes([ACCEPTED, ACCEPTED]))
    problems = verify_folder(folder).problems
    assert [(problem.height, problem.entry, problem.check) for problem in problems] == [
        (6, 7, "outcome"), (6, 8, "outcome"),
    ]  # fmt: skip


def test_an_entry_that_was_stored_without_a_valid_signature_is_found(tmp_path: Path, paper: Paper) -> None:
    """As a node would that does not check: everything hashes well, but nobody signed it."""
    entry = paper.entry(ConfigSet("evil", "1"), OPERATOR)
    payload, signature = unpack(entry.bytes)
    forged = pack([payload, bytes(64)])
    block = paper.command([forged])
    assert block is not None
    write(tmp_path, paper)
    change(tmp_path, "UPDATE blocks SET outcomes = ? WHERE height = ?", pack_outcomes([ACCEPTED]), block.height)
    problem = verify_folder(tmp_path).problems[0]
    assert (problem.height, problem.check) == (block.height, "outcome")
    assert "signature" in problem.what
    assert signature != bytes(64)


def test_another_mesh_is_named(folder: Path) -> None:
    assert verify_folder(folder, bytes(16)).problems[0].check == "mesh_id"


def test_no_file_and_no_database(tmp_path: Path) -> None:
    assert verify_folder(tmp_path).problems[0].check == "file"
    (tmp_path / FILE_NAME).write_bytes(b"not a database, but long enough to be looked at" * 100)
    assert verify_folder(tmp_path).problems[0].check == "file"


def test_an_empty_chain_holds(tmp_path: Path) -> None:
    Chain(tmp_path).close()
    assert verify_folder(tmp_path).valid


@pytest.mark.parametrize("sql", ["PRAGMA user_version = 3", "CREATE TABLE more (x)", "CREATE INDEX i ON blocks (hash)"])
def test_a_file_of_another_format_is_named(folder: Path, sql: str) -> None:
    change(folder, sql)
    assert [problem.check for problem in verify_folder(folder).problems] == ["format"]


def test_problems_are_bounded(folder: Path, tmp_path: Path) -> None:
    change(folder, "UPDATE blocks SET hashes = x'00', hash = x'00', outcomes = x'00'")
    with closing(sqlite3.connect(folder / FILE_NAME)) as connection, connection:
        rows = connection.execute("SELECT hash, wire, hashes, outcomes FROM blocks").fetchall()
        for height in range(8, 60):
            connection.execute("INSERT INTO blocks VALUES (?, ?, ?, ?, ?)", (height, *rows[height % 7]))
    assert len(verify_folder(folder).problems) == MAX_PROBLEMS


def test_a_changed_byte_anywhere_in_the_file_is_found(folder: Path) -> None:
    path = folder / FILE_NAME
    good = path.read_bytes()
    rng = random.Random(2)
    missed = []
    for at in sorted({*range(110), *rng.sample(range(len(good)), 400)}):
        bad = bytearray(good)
        bad[at] ^= 1 << rng.randrange(8)
        path.write_bytes(bad)
        if verify_folder(folder, MESH).valid:
            missed.append(at)
        for name in ("-wal", "-shm"):
            path.with_name(FILE_NAME + name).unlink(missing_ok=True)
    path.write_bytes(good)
    assert verify_folder(folder, MESH).valid
    assert missed == []


def test_a_changed_byte_in_the_log_a_killed_node_leaves_is_found(
    tmp_path: Path, paper: Paper, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(wal, "_PAUSE_S", 0.0)
    live, dead = tmp_path / "live", tmp_path / "dead"
    live.mkdir()
    chain = Chain(live)
    chain.sync()
    for block in paper.blocks:
        chain.append([block])
    shutil.copytree(live, dead)
    chain.close()
    (dead / f"{FILE_NAME}-shm").unlink()
    log = dead / f"{FILE_NAME}-wal"
    good = log.read_bytes()
    assert verify_folder(dead, MESH) == verify_folder(live, MESH)
    rng = random.Random(3)
    last = (len(good) - 32) // 4120 * 4120 + 32 - 4120
    for at in sorted({*range(56), *rng.sample(range(56, last), 60)}):
        log.write_bytes(good[:at] + bytes([good[at] ^ 1 << rng.randrange(8)]) + good[at + 1 :])
        assert not verify_folder(dead, MESH).valid, at
        (dead / f"{FILE_NAME}-shm").unlink(missing_ok=True)
    # A tail that was cut off is what a power cut leaves, and no damage.
    for cut in (1, 5000, 4120, 100):
        log.write_bytes(good[:-cut])
        assert verify_folder(dead, MESH).valid
        (dead / f"{FILE_NAME}-shm").unlink(missing_ok=True)


def test_damaged_checksums_are_found_too(folder: Path) -> None:
    path = folder / "chain.pages"
    good = path.read_bytes()
    for at in range(len(good)):
        path.write_bytes(good[:at] + bytes([good[at] ^ 4]) + good[at + 1 :])
        assert not verify_folder(folder, MESH).valid, at


@pytest.mark.parametrize("name", COLUMNS)
def test_a_node_does_not_start_on_a_damaged_chain_and_says_where(folder: Path, name: str) -> None:
    bad = bytearray(column(folder, name, 4))
    bad[len(bad) // 2] ^= 1
    change(folder, f"UPDATE blocks SET {name} = ? WHERE height = 4", bytes(bad))
    chain = Chain(folder)
    with pytest.raises(CheckFailed, match="damaged at block 4") as caught:
        rebuild(chain, MESH)
    assert caught.value.details["height"] == 4
    chain.close()
