"""Settings of raft: presets hold together, contradictions are refused."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from osiris_mesh.errors import UsageError
from osiris_mesh.settings import PRESETS, RaftSettings


@pytest.mark.parametrize("name", PRESETS)
def test_presets_hold_together(name: str) -> None:
    preset = RaftSettings.preset(name)
    assert preset.heartbeat_s * 3 < preset.election_min_s < preset.election_max_s <= preset.quorum_s
    assert preset.quorum_s <= 2 * preset.election_max_s


@pytest.mark.parametrize(
    "change",
    [
        {"heartbeat_s": 0.0},
        {"election_min_s": 0.2},
        {"election_max_s": 0.3},
        {"quorum_s": 0.5},
        {"command_bytes": 0},
        {"command_bytes": (1 << 20) + 1},
        {"batch_bytes": 0},
        {"flight_messages": 0},
        {"queue_commands": 0},
        {"keep_entries": -1},
        {"compact_entries": 1},
        {"compact_bytes": 0},
    ],
)
def test_contradictions_are_refused(change: dict[str, Any]) -> None:
    with pytest.raises(UsageError, match=next(iter(change))):
        replace(RaftSettings(), **change)
