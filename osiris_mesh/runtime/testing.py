"""Deploy-time tests: the bundle's mock data against the function, in the worker and the sandbox that calls get.

Equality is Python's, after the result has travelled: tuples come back as lists. Numbers with a fraction may differ by
one part in a thousand million, so that a test need not spell out how a machine rounds.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, ClassVar, Final

from osiris_mesh.codec import VALUE, unpack
from osiris_mesh.errors import FunctionError, OsirisError
from osiris_mesh.runtime.metadata import MockTest

__all__ = ["TestReport", "TestResult", "judge"]

_TOLERANCE: Final = 1e-9
_SHOWN: Final = 500


@dataclass(frozen=True, slots=True)
class TestResult:
    """How one test went.

    Attributes:
        name: What the author calls it.
        ok: It passed.
        expected: What was expected, shortened for people.
        got: What came, likewise.
        duration_ms: How long the call took, its start included.
    """

    __test__: ClassVar = False  # pytest takes every class called Test… for one of its own

    name: str
    ok: bool
    expected: str
    got: str
    duration_ms: float


@dataclass(frozen=True, slots=True)
class TestReport:
    """How all tests of a bundle went.

    Attributes:
        name: The function.
        version: Its version.
        tests: One result a test, in the author's order.
    """

    __test__: ClassVar = False  # as above

    name: str
    version: str
    tests: Sequence[TestResult]

    @property
    def ok(self) -> bool:
        """Whether all passed; so it is without any."""
        return all(test.ok for test in self.tests)

    def to_wire(self) -> dict[str, Any]:
        """Return it as a map for ``--json``."""
        return {
            "name": self.name,
            "version": self.version,
            "ok": self.ok,
            "passed": sum(test.ok for test in self.tests),
            "failed": sum(not test.ok for test in self.tests),
            "results": [asdict(test) for test in self.tests],
        }


def judge(test: MockTest, answer: bytes | OsirisError, duration_ms: float) -> TestResult:
    """Return how a test went.

    Args:
        test: The test.
        answer: What the worker answered.
        duration_ms: How long it took.
    """
    expected = f"raises {test.raises}" if test.raises else repr(test.expect)
    if isinstance(answer, FunctionError):
        ok = bool(test.raises) and test.raises in {answer.type, answer.type.rpartition(".")[2]}
        got = f"raised {answer.type}: {answer.message}"
        if not ok and answer.traceback:
            got += f"\n{answer.traceback}"
    elif isinstance(answer, OsirisError):
        ok, got = False, str(answer)
    else:
        value = unpack(answer, VALUE)
        ok, got = not test.raises and same(test.expect, value), repr(value)
    return TestResult(test.name, ok, _short(expected), _short(got), round(duration_ms, 3))


def same(expected: Any, got: Any) -> bool:
    """Return whether two values are equal, as this module understands it."""
    if isinstance(expected, float) or isinstance(got, float):
        if isinstance(expected, bool) or isinstance(got, bool):
            return False
        if not isinstance(expected, int | float) or not isinstance(got, int | float):
            return False
        both_nan = math.isnan(expected) and math.isnan(got)
        return both_nan or math.isclose(expected, got, rel_tol=_TOLERANCE, abs_tol=0.0)
    if isinstance(expected, list) and isinstance(got, list):
        return len(expected) == len(got) and all(map(same, expected, got))
    if isinstance(expected, dict) and isinstance(got, dict):
        return expected.keys() == got.keys() and all(same(value, got[key]) for key, value in expected.items())
    return type(expected) is type(got) and bool(expected == got)


def _short(text: str) -> str:
    return text if len(text) <= _SHOWN else f"{text[: _SHOWN // 2]} … {text[-_SHOWN // 2 :]}"
