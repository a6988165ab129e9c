"""The level of rules for settings: raised by the chain, never lowered, and judged by what stands before an entry."""

from __future__ import annotations

from typing import Any

import pytest

from osiris_mesh.ledger.kinds import ConfigReset, ConfigSet
from osiris_mesh.ledger.values import LEVEL_KEY
from tests.ledger.kit import ADMIN, Paper


def founded() -> Any:
    paper = Paper()
    paper.begin()
    return paper


def test_an_older_chain_keeps_its_meaning_and_a_raised_one_is_strict() -> None:
    paper = founded()
    assert paper.put(ConfigSet("max_retries", "many"), ADMIN).accepted
    assert paper.state.rules == 0
    assert paper.put(ConfigSet(LEVEL_KEY, "1"), ADMIN).accepted
    assert paper.state.rules == 1
    assert paper.state.settings["max_retries"] == "many"
    refused = paper.put(ConfigSet("max_retries", "lots"), ADMIN)
    assert (refused.accepted, refused.code) == (False, "value")
    assert paper.state.settings["max_retries"] == "many"
    assert paper.put(ConfigSet("max_retries", "3"), ADMIN).accepted
    assert paper.put(ConfigSet("some.later.key", "anything"), ADMIN).accepted


@pytest.mark.parametrize("value", ["0", "2", "", "one", "01"])
def test_the_level_only_goes_where_this_version_knows(value: str) -> None:
    paper = founded()
    assert paper.put(ConfigSet(LEVEL_KEY, value), ADMIN).accepted, "text like any other, as in older chains"
    assert paper.state.rules == 0
    paper.put(ConfigSet(LEVEL_KEY, "1"), ADMIN)
    assert paper.put(ConfigSet(LEVEL_KEY, value), ADMIN).code == "value"
    assert paper.state.rules == 1


def test_nothing_takes_the_level_back() -> None:
    paper = founded()
    paper.put(ConfigSet(LEVEL_KEY, "1"), ADMIN)
    paper.put(ConfigSet("max_retries", "3"), ADMIN)
    assert paper.put(ConfigReset(LEVEL_KEY), ADMIN).code == "value"
    assert paper.put(ConfigReset(""), ADMIN).accepted
    assert paper.state.settings == {LEVEL_KEY: "1"}
    assert paper.put(ConfigReset(""), ADMIN).code == "unchanged"
    assert paper.put(ConfigSet("max_retries", "many"), ADMIN).code == "value"


def test_the_shapes_of_level_1() -> None:
    paper = founded()
    paper.put(ConfigSet(LEVEL_KEY, "1"), ADMIN)
    table = {
        "max_retries": (["0", "10"], ["11", "01", "-1", "1 "]),
        "registry.policy": (["fastest", "custom"], ["", "cheapest"]),
        "registry.chooser": (
            ["team/choose", "acme.com/team/choose"],
            ["", "choose", "a/b/c/d", "/b", "a/", "a/b@1.0.0", "a/" + "b" * 64, "a" * 254 + "/b", "é/b"],
        ),
        "log.level": (["debug", "error"], ["loud", ""]),
        "http.allowed_origins": (["", "https://a.example, http://b:1"], ["*", "a.example", "https://a b", "https://ä"]),
        "http.requests_per_s": (["1", "999999"], ["0", "1000000", "1.5"]),
        "webhook.ops.url": (["https://a/", "HTTP://127.0.0.1/x"], ["ftp://a", "https://", "https://" + "a" * 2048]),
        "webhook.ops.events": (["*", "node.*, quorum.lost"], ["", "a.b.c.d.e", "A", ",".join(["a"] * 33)]),
        "alert.slow": (["off", "queue.depth>5", "node.cpu >= 1.5% for 5m"], ["", "on", "cpu", "a > b"]),
    }
    for key, (fits, does_not) in table.items():
        for value in fits:
            assert paper.put(ConfigSet(key, value), ADMIN).accepted, (key, value)
        for value in does_not:
            assert paper.put(ConfigSet(key, value), ADMIN).code == "value", (key, value)
