"""What can be done where no controller runs: checking the stored chain."""

from __future__ import annotations

import socket
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from osiris_mesh.identity.home import Home
from osiris_mesh.ledger.chain import FILE_NAME, Chain
from osiris_mesh.ledger.kinds import ConfigSet
from osiris_mesh.node.options import MeshFile
from osiris_mesh.node.prepare import hold
from tests.cli.conftest import Line
from tests.ledger.kit import MESH, OPERATOR, Paper


@pytest.fixture
def stored(home: Path) -> Home:
    """A home with a chain of three blocks."""
    paper = Paper().begin()
    for value in ("1", "2"):
        paper.command([paper.entry(ConfigSet("max_retries", value), OPERATOR).bytes])
    made = Home(home)
    made.make()
    MeshFile(MESH, "lab", founder=False).save(made)
    chain = Chain(made.ledger)
    chain.append(paper.blocks)
    chain.close()
    return made


def test_the_folder_is_checked_where_no_controller_runs(line: Line, stored: Home) -> None:
    value = line("ledger", "verify", "--json")
    assert value.code == 0, value.err
    assert (value.json["valid"], value.json["offline"], value.json["height"]) == (True, True, value.json["height"])
    assert "no controller runs" in line("ledger", "verify").out
    # As a killed controller leaves it.
    with socket.socket(socket.AF_UNIX) as left_behind:
        left_behind.bind(str(stored.socket))
    assert line("ledger", "verify", "--json").json["offline"] is True


def test_a_changed_byte_is_1_and_says_what_to_do(line: Line, stored: Home) -> None:
    with closing(sqlite3.connect(stored.ledger / FILE_NAME)) as connection, connection:
        connection.execute("UPDATE blocks SET hash = zeroblob(32) WHERE height = 2")
    answer = line("ledger", "verify")
    assert answer.code == 1
    assert "NOT VALID" in answer.out
    assert "move the folder ledger" in answer.err
    value = line("ledger", "verify", "--json")
    assert (value.code, value.json["valid"]) == (1, False)
    assert any(problem["height"] == 2 for problem in value.json["problems"])


def test_a_controller_that_runs_but_does_not_answer_is_not_passed_by(line: Line, stored: Home) -> None:
    with hold(stored):
        assert line("ledger", "verify").code == 6
