"""Bearers that are remembered: never past what is known of them."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from osiris_mesh.access.policy import Policy
from osiris_mesh.gateway.http.bearer import Bearers
from osiris_mesh.gateway.http.problem import Anonymous
from osiris_mesh.ledger.kinds import ApiTokenCreate, ApiTokenRevoke
from osiris_mesh.settings.gateway import GatewaySettings
from tests.ledger.kit import DEVELOPER, Paper


class Desk:
    """A paper ledger with a policy, and the bearers of a face, on fake time."""

    def __init__(self) -> None:
        self.paper = Paper().begin()
        policy = Policy(lambda: self.paper.state, self.paper.clock)
        parts: Any = SimpleNamespace(
            policy=policy, book=self.paper, clock=self.paper.clock, settings=GatewaySettings.preset("test")
        )
        self.bearers = Bearers(parts)
        self.text, self.key = Policy.make_token()

    def create(self, ttl_ms: int) -> None:
        expires = self.paper.clock.time_ms() + ttl_ms
        self.paper.must(ApiTokenCreate(self.key.public, DEVELOPER.public, "t", ["mesh.read"], expires), DEVELOPER)

    def come(self) -> None:
        self.bearers.of(f"Bearer {self.text}", self.paper.clock.monotonic()).require("mesh.read")


@pytest.mark.parametrize("ttl_ms", [250, 1000, 2500])
def test_a_token_is_worth_nothing_from_the_moment_it_expires(ttl_ms: int) -> None:
    desk = Desk()
    desk.create(ttl_ms)
    for _ in range(ttl_ms // 125):
        desk.come()
        desk.paper.clock.advance(0.125)
    with pytest.raises(Anonymous):
        desk.come()


def test_a_revoked_token_is_worth_nothing_with_the_next_request() -> None:
    desk = Desk()
    desk.create(60_000)
    desk.come()
    desk.paper.must(ApiTokenRevoke(desk.key.public), DEVELOPER)
    with pytest.raises(Anonymous):
        desk.come()
