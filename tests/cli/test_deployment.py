"""Which version a deployment gets."""

from __future__ import annotations

import pytest

from osiris_mesh.errors import CheckFailed, Conflict
from osiris_mesh_cli.deployment import Known, Plan, choose_version, failed_tests


def code(text: str):
    """Digests of one and the same code, built as some version."""
    return lambda version: f"{text}@{version}"


@pytest.mark.parametrize(
    ("known", "wanted", "plan"),
    [
        (Known.of(None), None, Plan("1.0.0", changed=True)),
        (Known.of(None), "2.1.0", Plan("2.1.0", changed=True)),
        (Known("1.0.0", {"1.0.0": "old@1.0.0"}), None, Plan("1.0.1", changed=True)),
        (Known("1.0.0", {"1.0.0": "new@1.0.0"}), None, Plan("1.0.0", changed=False)),
        (Known("1.0.0", {"1.0.0": "new@1.0.0"}), "1.0.0", Plan("1.0.0", changed=False)),
        (Known("1.0.0", {"1.0.0": "new@1.0.0"}), "1.1.0", Plan("1.1.0", changed=True)),
        # The same code was rolled back from: asked for by number it is activated again, else it is a new version.
        (Known("1.0.0", {"1.0.0": "old@1.0.0", "1.0.1": "new@1.0.1"}), "1.0.1", Plan("1.0.1", changed=True)),
        (Known("1.0.0", {"1.0.0": "old@1.0.0", "1.0.1": "new@1.0.1"}), None, Plan("1.0.2", changed=True)),
        (Known("1.9.0", {"1.9.0": "a@1.9.0", "1.10.0": "b@1.10.0"}), None, Plan("1.10.1", changed=True)),
        (Known("2.0.0-rc.1", {"2.0.0-rc.1": "a@x"}), None, Plan("2.0.0", changed=True)),
        (Known(None, {"1.0.0": "old@1.0.0"}), None, Plan("1.0.1", changed=True)),
    ],
)
def test_the_version_a_deployment_gets(known: Known, wanted: str | None, plan: Plan) -> None:
    assert choose_version(known, wanted, code("new")) == plan


def test_a_version_never_changes_its_code() -> None:
    with pytest.raises(Conflict, match=r"1\.0\.0 is there with other code"):
        choose_version(Known("1.0.0", {"1.0.0": "old@1.0.0"}), "1.0.0", code("new"))


def test_what_the_controller_describes_is_what_is_known() -> None:
    described = {
        "active": "1.0.1",
        "history": [{"version": "1.0.0", "digest": "aa"}, {"version": "1.0.1", "digest": "bb"}],
    }
    assert Known.of(described) == Known("1.0.1", {"1.0.0": "aa", "1.0.1": "bb"})


def test_failed_tests_are_named() -> None:
    results = [
        {"name": "one", "ok": True, "expected": "4", "got": "4"},
        {"name": "two", "ok": False, "expected": "4", "got": "5"},
    ]
    tests = {"ok": False, "results": results}
    assert failed_tests(CheckFailed("no", tests=tests)) == ["  failed: two: expected 4, got 5"]
    assert failed_tests(CheckFailed("no")) == []
