"""No host's name takes long to refuse, whatever somebody wrote into the settings."""

from __future__ import annotations

import time

import pytest

from osiris_mesh.errors import UsageError
from osiris_mesh.gateway.webhook_target import Target


@pytest.mark.parametrize("host", ["a" * 60 + "!", "a." * 120 + "!", "a-" * 900, "." * 500, "a..b", "-a", "a" * 64])
def test_a_wrong_host_is_refused_at_once(host: str) -> None:
    began = time.perf_counter()
    with pytest.raises(UsageError):
        Target.parse(f"https://{host}/")
    assert time.perf_counter() - began < 1


@pytest.mark.parametrize("host", ["example.org", "a", "hooks.example.org.", "x_y.example", "a-b.c-d"])
def test_a_right_host_is_taken(host: str) -> None:
    assert Target.parse(f"https://{host}/in")
