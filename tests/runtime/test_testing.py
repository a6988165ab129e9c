from __future__ import annotations

from typing import Any

import pytest

from osiris_mesh.codec import pack
from osiris_mesh.errors import FunctionError, LimitExceeded, OsirisError
from osiris_mesh.runtime.metadata import MockTest
from osiris_mesh.runtime.testing import TestReport, judge, same

WRONG = FunctionError("x", type="mylib.errors.Wrong", message="no", traceback="File …")


@pytest.mark.parametrize(
    ("expect", "got", "equal"),
    [
        (1, 1, True),
        (1, 2, False),
        (1, 1.0, True),
        (1, True, False),
        (1.0, True, False),
        (0.3, 0.1 + 0.2, True),
        (0.3, 0.3001, False),
        (float("nan"), float("nan"), True),
        (0.0, 1e-12, False),
        ([1, [2]], [1, [2]], True),
        ([1], [1, 1], False),
        ({"a": 0.3}, {"a": 0.1 + 0.2}, True),
        ({"a": 1}, {"b": 1}, False),
        (b"x", b"x", True),
        (b"x", "x", False),
        (None, None, True),
        (None, 0, False),
    ],
)
def test_equal(expect: Any, got: Any, equal: bool) -> None:
    assert same(expect, got) is equal


@pytest.mark.parametrize(
    ("expect", "raises", "answer", "ok"),
    [
        (3, "", pack(3), True),
        (3, "", pack(4), False),
        (3, "", WRONG, False),
        (None, "Wrong", WRONG, True),
        (None, "mylib.errors.Wrong", WRONG, True),
        (None, "ValueError", WRONG, False),
        (None, "Wrong", pack(None), False),
        (None, "Wrong", LimitExceeded("too much"), False),
    ],
)
def test_judging(expect: Any, raises: str, answer: bytes | OsirisError, ok: bool) -> None:
    result = judge(MockTest("", "t", (), {}, expect, raises), answer, 1.23456)
    assert (result.ok, result.name, result.duration_ms) == (ok, "t", 1.235)


def test_a_report() -> None:
    results = [judge(MockTest("", "t", (), {}, 3, ""), pack(value), 1.0) for value in (3, "x" * 5000)]
    report = TestReport("maths/add", "1.0.0", results)
    wire = report.to_wire()
    assert (wire["ok"], wire["passed"], wire["failed"]) == (False, 1, 1)
    assert wire["results"][1]["expected"] == "3"
    assert len(wire["results"][1]["got"]) < 600
    assert TestReport("maths/add", "1.0.0", []).ok
