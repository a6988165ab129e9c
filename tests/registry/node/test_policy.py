"""The mesh's setting says who is tried first, and counts without a restart."""

from __future__ import annotations

import time
from dataclasses import replace

import pytest

from osiris_mesh.errors import UsageError
from osiris_mesh.gateway import config_keys
from osiris_mesh.gateway.in_force import Held
from osiris_mesh.registry.record import Provider
from tests.registry.resolve import kit

NAME = "acme.com/image/sharpen"


def test_every_policy_is_a_setting_of_the_mesh() -> None:
    known = config_keys.known("registry.policy")
    assert known is not None
    for policy in ("balanced", "fastest", "lowest-cost", "highest-availability", "custom"):
        assert known.parse(policy) == policy
    for wrong in ("", "cheapest", "Custom"):
        with pytest.raises(UsageError):
            known.parse(wrong)


async def test_a_policy_that_is_set_counts_from_the_next_order_on() -> None:
    cheap = Provider("cheap", "https://cheap.example/", cost_micros=1, currency="EUR", response_ms=900)
    fast = Provider("fast", "https://fast.example/", cost_micros=900, currency="EUR", response_ms=1)
    lines = kit.history(NAME, {"version": "1.0.0", "providers": (cheap, fast)})
    settings: dict[str, str] = {}
    held = Held("registry.policy", "")
    resolver = kit.resolver(kit.Fake("corp", {NAME: lines}), settings=replace(kit.SETTINGS, policy="fastest"))
    resolver._policy = lambda: held.of(settings)
    async with resolver:
        for policy, first in (("", "fast"), ("lowest-cost", "cheap"), ("fastest", "fast"), ("", "fast")):
            settings.clear()
            if policy:
                settings["registry.policy"] = policy
            resolver._ready.clear()
            found = await resolver.resolve(NAME, deadline=time.monotonic() + 5)
            assert found.providers[0].id == first, policy
