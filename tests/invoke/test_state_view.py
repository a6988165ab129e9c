"""The ledger's state as the Invoker asks it; and the settings of the layer."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from osiris_mesh.errors import UsageError
from osiris_mesh.invoke.state_view import StateView
from osiris_mesh.ledger.records import FunctionRecord, VersionRecord
from osiris_mesh.ledger.state import State
from osiris_mesh.settings import PRESETS, InvokeSettings
from tests.invoke.fakes import spec


def test_follows_the_state_the_ledger_has_now() -> None:
    state = State(bytes(16))
    ledger = SimpleNamespace(state=state)
    view = StateView(ledger)
    assert view.active("math/add") is None
    assert view.versions("math/add") == ()
    old, new = spec("math/add", "1.0.0"), spec("math/add", "1.1.0")
    versions = {
        one.version: VersionRecord(one, deprecated=False, publisher=b"", since=1, time_ms=0) for one in (old, new)
    }
    state.functions["math/add"] = FunctionRecord("math/add", versions, active="1.0.0")
    assert view.active("math/add") == old
    assert view.versions("math/add") == [old, new]
    state.functions["math/add"] = FunctionRecord("math/add", versions, active=None)
    assert view.active("math/add") is None
    ledger.state = State(bytes(16))
    assert view.versions("math/add") == ()


@pytest.mark.parametrize("wrong", [{"attempts": 0}, {"max_depth": 0}, {"max_in_flight": 0}])
def test_settings_out_of_range(wrong: dict[str, Any]) -> None:
    with pytest.raises(UsageError):
        InvokeSettings(**wrong)


def test_presets() -> None:
    for name in PRESETS:
        assert InvokeSettings.preset(name).attempts >= 2
