"""Which version a caller means."""

from __future__ import annotations

import pytest

from osiris_mesh.errors import UsageError
from osiris_mesh.function.spec import FunctionSpec
from osiris_mesh.invoke.reference import reference

VERSIONS = ["1.0.0", "1.2.0", "1.2.9", "1.10.1", "2.0.0-rc.1", "2.0.0", "0.3.1", "0.3.4", "0.4.0", "0.0.7"]


def spec(version: str) -> FunctionSpec:
    return FunctionSpec(
        name="test/f", version=version, digest=b"", entry="f.py::f", runtime="python3.11", signature=[[], ""]
    )


@pytest.mark.parametrize(
    ("text", "version"),
    [
        ("1.2.0", "1.2.0"),
        ("1.2", "1.2.9"),
        ("1", "1.10.1"),
        ("^1.2", "1.10.1"),
        ("^1.2.3", "1.10.1"),
        ("~1.2", "1.2.9"),
        ("~1.2.3", "1.2.9"),
        ("~1", "1.10.1"),
        ("^2", "2.0.0"),
        ("2.0.0-rc.1", "2.0.0-rc.1"),
        ("^0.3.1", "0.3.4"),
        ("^0", "0.4.0"),
        ("^0.0", "0.0.7"),
        ("^0.0.7", "0.0.7"),
        ("^0.0.8", None),
        ("3", None),
        ("1.2.1", None),
    ],
)
def test_chooses_the_highest_that_fits(text: str, version: str | None) -> None:
    found = reference(f"test/f@{text}").choose([spec(item) for item in VERSIONS])
    assert (found.version if found else None) == version


def test_a_bare_name_means_the_active_version() -> None:
    assert reference("f").name == "default/f"
    assert reference("f").low is None
    assert reference("f").choose([spec("1.0.0")]) is None


@pytest.mark.parametrize(
    "text", ["", "f@", "f@^", "f@1.2.3.4", "f@x", "f@1.02", "f@^1.2.3-rc", "f@1@2", "a b", "f@" + "1" * 99]
)
def test_refuses_what_means_nothing(text: str) -> None:
    with pytest.raises(UsageError):
        reference(text)
