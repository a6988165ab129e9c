"""Time as an argument."""

from __future__ import annotations

import time

import pytest

from osiris_mesh.clock import SYSTEM, FakeClock


def test_a_fake_clock_moves_only_when_told() -> None:
    clock = FakeClock(start=5.0, epoch_ms=1000)
    assert (clock.monotonic(), clock.time_ms()) == (5.0, 1000)
    clock.advance(1.5)
    assert (clock.monotonic(), clock.time_ms()) == (6.5, 2500)
    with pytest.raises(ValueError, match="back"):
        clock.advance(-0.1)


def test_the_system_clock_is_the_machines() -> None:
    before, wall = time.monotonic(), time.time() * 1000
    assert before <= SYSTEM.monotonic() <= time.monotonic()
    assert abs(SYSTEM.time_ms() - wall) < 1000
