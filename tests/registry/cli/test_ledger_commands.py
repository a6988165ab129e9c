"""The registry in the ledger from the command line: read through the controller, entries signed by the home's user."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from osiris_mesh.clock import SYSTEM, FakeClock
from osiris_mesh.errors import RemoteProtocolError, UsageError
from osiris_mesh.identity.home import Home
from osiris_mesh.identity.keys import KeyPair
from osiris_mesh.ledger.kinds import RegistryWrite, UserAdd
from osiris_mesh.registry import ledger_view
from osiris_mesh.registry.ledger_view import file_answer, paths_answer
from osiris_mesh_cli.registry_ledger import ledger_tree
from osiris_mesh_cli.session import Session
from tests.cli.conftest import Line
from tests.cli.fake import Answer, FakeController
from tests.ledger.kit import ADMIN, Paper


@pytest.fixture
def paper() -> Paper:
    paper = Paper()
    paper.clock = FakeClock(epoch_ms=SYSTEM.time_ms())
    return paper.begin()


def methods_of(paper: Paper) -> dict[str, Answer]:
    def submit(body: dict[str, Any]) -> dict[str, Any]:
        block = paper.command(body["entries"])
        assert block is not None
        outcomes = [{"accepted": one.accepted, "reason": one.reason, "code": one.code} for one in block.outcomes]
        return {"height": block.header.height, "outcomes": outcomes}

    return {
        "registry.file": lambda body: file_answer(paper.state, body),
        "registry.paths": lambda body: paths_answer(paper.state, body),
        "ledger.submit": submit,
    }


def controller_of(home: Path, paper: Paper, role: str) -> FakeController:
    """Return a controller whose ledger is the paper, for a home whose user has a role."""
    made = FakeController(Home(home), methods_of(paper))
    paper.must(UserAdd(KeyPair.load(Home(home).user_key).public, "me", role), ADMIN)
    return made


@pytest.fixture
def controller(home: Path, paper: Paper) -> FakeController:
    return controller_of(home, paper, "operator")


def test_begun_published_to_and_read_in_the_ledger(
    line: Line, controller: FakeController, paper: Paper, source: Path
) -> None:
    with controller:
        begun = line("registry", "init", "--to", "ledger:", "--json")
        assert begun.code == 0, begun.err
        words = ("registry", "publish", str(source), "--to", "ledger:", "--key", "owner", "--json")
        first = line(*words)
        assert first.code == 0, first.err
        assert (first.json["changed"], first.json["source"]) == (True, "ledger:")
        assert line(*words).json["changed"] is False
        assert line("registry", "keys", "show", "ledger:", "--json").json["pin"] == begun.json["pin"]
        assert line("registry", "deprecate", "math/add@1.0.0", "old", "--to", "ledger:", "--key", "owner").code == 0
    assert "ns/_/math/add.jsonl" in paper.state.tree
    assert paper.state.tree["ns/_/math/add.jsonl"].data.count(b"\n") == 2


def test_a_spoiled_head_is_mended_by_signing_it_anew(
    line: Line, controller: FakeController, paper: Paper, source: Path
) -> None:
    publish = ("registry", "publish", str(source), "--to", "ledger:", "--key", "owner")
    with controller:
        assert line("registry", "init", "--to", "ledger:").code == 0
        head = paper.state.tree["checkpoint"].head
        paper.must(RegistryWrite([["checkpoint", head, b"noise"]]), ADMIN)
        assert "not JSON" in line(*publish).err
        assert line("registry", "renew", "--to", "ledger:", "--key", "owner").code == 0
        assert line(*publish).code == 0


def test_who_has_no_right_in_the_mesh_is_5(line: Line, home: Path, paper: Paper, source: Path) -> None:
    with controller_of(home, paper, "viewer"):
        assert line("registry", "init", "--to", "ledger:").code == 5
        assert line("registry", "publish", str(source), "--to", "ledger:", "--key", "owner").code == 3


def test_without_a_controller_it_is_6(line: Line, source: Path) -> None:
    answer = line("registry", "publish", str(source), "--to", "ledger:", "--dry-run")
    assert answer.code == 6
    assert "osiris-mesh init" in answer.err


async def test_a_large_file_comes_in_pieces_and_many_paths_in_pages(
    home: Path, controller: FakeController, paper: Paper, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ledger_view, "PIECE", 100)
    monkeypatch.setattr(ledger_view, "_PATHS", 3)
    files = {f"ns/_/math/f{number}.jsonl": b'{"payload":{}}\n' * 40 for number in range(8)}

    async def change(_reader: Any) -> dict[str, bytes]:
        return files

    with controller, ledger_tree(Session(Home(home)), "mesh") as tree:
        await tree.publish(change, "many")
        assert await tree.paths() == sorted(files)
        blob = await tree.read("ns/_/math/f3.jsonl")
        assert blob is not None
        assert blob.data == files["ns/_/math/f3.jsonl"]
        assert await tree.read("ns/_/math/none.jsonl") is None
        assert await tree.refresh() == str(paper.state.tree_height)


@pytest.mark.parametrize(
    "answer",
    [
        {"data": b"", "head": b"\x01", "size": 5},
        {"data": b"abc", "head": b"\x01", "size": 1 << 40},
        {"data": b"abcdef", "head": b"\x01", "size": -1},
    ],
)
async def test_a_damaged_answer_is_an_error_and_no_loop(home: Path, answer: dict[str, Any]) -> None:
    methods: dict[str, Answer] = {
        "registry.file": lambda _body: answer,
        "registry.paths": lambda _body: {"files": [], "more": True},
    }
    with FakeController(Home(home), methods), ledger_tree(Session(Home(home)), "mesh") as tree:
        with pytest.raises(RemoteProtocolError):
            await tree.read("config.json")
        with pytest.raises(RemoteProtocolError):
            await tree.paths()


@pytest.mark.parametrize(
    "body", [{}, {"path": 1}, {"path": "a", "offset": -1}, {"path": "a" * 999}, {"path": "a", "offset": "0"}]
)
def test_a_wrong_question_about_a_file_is_refused(paper: Paper, body: dict[str, Any]) -> None:
    with pytest.raises(UsageError):
        file_answer(paper.state, body)


def test_a_wrong_question_about_paths_is_refused(paper: Paper) -> None:
    with pytest.raises(UsageError):
        paths_answer(paper.state, {"after": 5})
