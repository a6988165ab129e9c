"""Offers are listed, accepted in the ledger and withdrawn, each exactly as it stands."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from osiris_mesh.clock import SYSTEM, FakeClock
from osiris_mesh.identity.home import Home
from osiris_mesh.identity.keys import KeyPair
from osiris_mesh.ledger.kinds import UserAdd
from tests.cli.conftest import Line
from tests.cli.fake import FakeController
from tests.ledger.kit import ADMIN, Paper
from tests.registry.cli.test_ledger_commands import methods_of

NAME = "math/add"


@pytest.fixture
def paper() -> Paper:
    paper = Paper()
    paper.clock = FakeClock(epoch_ms=SYSTEM.time_ms())
    return paper.begin()


def told(line: Line, *words: str) -> Any:
    answer = line(*words, "--json")
    assert answer.code == 0, answer.err
    return json.loads(answer.out)


def priced(line: Line, source: Path, place: str, cost: str, version: str) -> None:
    words = ("--provider", "acme=https://api.acme.com/add", "--cost", cost, "--currency", "EUR")
    to = ("--to", place, "--key", "owner", "--version", version)
    answer = line("registry", "publish", str(source), *to, *words)
    assert answer.code == 0, answer.err


@pytest.mark.parametrize("where", ["ledger", "folder"])
def test_offers_are_accepted_and_withdrawn(line: Line, paper: Paper, source: Path, url: str, where: str) -> None:
    place = "ledger:" if where == "ledger" else url
    market = () if where == "ledger" else ("--market", url)
    with FakeController(Home(line.home), methods_of(paper)):
        paper.must(UserAdd(KeyPair.load(Home(line.home).user_key).public, "me", "operator"), ADMIN)
        assert line("registry", "init", "--to", "ledger:", "--key", "owner").code == 0
        priced(line, source, place, "100", "1.0.0")
        assert [row["accepted"] for row in told(line, "registry", "market", "list", NAME, *market)["offers"]] == [False]
        assert line("registry", "market", "withdraw", f"{NAME}@1.0.0", *market, "--key", "owner").code == 3
        assert line("registry", "market", "accept", NAME, *market, "--key", "owner").code == 2

        # Accepted, withdrawn, and accepted once more; what is so already is no change.
        for changed in (True, False):
            found = told(line, "registry", "market", "accept", f"{NAME}@1.0.0", *market, "--key", "owner")
            assert (found["accepted"], found["changed"]) == (True, changed)
        taken = told(line, "registry", "market", "withdraw", f"{NAME}@1.0.0", "slow", *market, "--key", "owner")
        assert taken["accepted"] is False
        assert told(line, "registry", "market", "accept", f"{NAME}@1.0.0", *market, "--key", "owner")["accepted"]

        # Another price is another offer.
        priced(line, source, place, "200", "1.0.1")
        offers = told(line, "registry", "market", "list", f"{NAME}@1.0.1", *market)["offers"]
        assert [(row["provider"]["cost_micros"], row["accepted"]) for row in offers] == [(200, False)]
        wrong = line("registry", "market", "accept", f"{NAME}@1.0.1", "--offer", "zz", *market, "--key", "owner")
        assert wrong.code != 0
        shown = line("registry", "market", "list", f"{NAME}@1.0.0", *market)
        assert "0.0001 EUR" in shown.out
        assert "yes" in shown.out
