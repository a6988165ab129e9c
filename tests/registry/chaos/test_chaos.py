"""Ten seconds of what ``python -m tests.registry.chaos`` does for longer."""

from __future__ import annotations

import logging

import pytest

from tests.registry.chaos.drive import drive


async def test_no_answer_is_forged_older_or_late_whatever_registries_do(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.CRITICAL, "osiris.registry")
    outcome = await drive(8.0, seed=6)
    assert outcome.is_good, outcome.to_json()
    assert len(outcome.faults) >= 4, outcome.faults
