"""Which version a caller means."""

from __future__ import annotations

import pytest

from osiris_mesh.errors import UsageError
from osiris_mesh.function.name import Version
from osiris_mesh.function.reference import reference

VERSIONS = [
    Version.parse(item)
    for item in ("1.0.0", "1.2.0", "1.2.9", "1.10.1", "2.0.0-rc.1", "2.0.0", "0.3.1", "0.3.4", "0.4.0", "0.0.7")
]


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
        ("latest", "2.0.0"),
    ],
)
def test_chooses_the_highest_that_fits(text: str, version: str | None) -> None:
    found = reference(f"test/f@{text}").highest(VERSIONS)
    assert (str(found) if found else None) == version


def test_a_bare_name_means_the_active_version() -> None:
    assert reference("f").name == "default/f"
    assert reference("f").is_active
    assert reference("f").highest(VERSIONS) is None


def test_a_label_is_for_whoever_gives_labels() -> None:
    found = reference("f@stable-2")
    assert (found.name, found.label, found.is_active) == ("default/f", "stable-2", False)
    assert found.highest(VERSIONS) is None
    assert not reference("f@latest").label


@pytest.mark.parametrize(
    "text",
    ["", "f@", "f@^", "f@1.2.3.4", "f@X", "f@x_", "f@x\n", "f@1.02", "f@^1.2.3-rc", "f@1@2", "a b", "f@" + "1" * 99],
)
def test_refuses_what_means_nothing(text: str) -> None:
    with pytest.raises(UsageError):
        reference(text)
