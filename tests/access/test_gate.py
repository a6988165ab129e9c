"""Whom a link is for, by the ledger."""

from __future__ import annotations

import pytest

from osiris_mesh.access.gate import Gate
from osiris_mesh.clock import FakeClock
from osiris_mesh.identity.keys import KeyPair
from osiris_mesh.identity.peer_id import peer_id
from osiris_mesh.ledger.records import Member, TokenRecord
from osiris_mesh.link import Audience

VOTER, FOLLOWER, CLIENT, STRANGER = (KeyPair(bytes([number]) * 32) for number in range(4))


def member(key: KeyPair, role: str) -> Member:
    return Member(peer_id(key.public), key.public, role, role, (), 1)


def gate(clock: FakeClock, *, revoked: bool = False, provisional: frozenset[str] = frozenset()) -> Gate:
    members = {
        entry.peer: entry for entry in (member(VOTER, "voter"), member(FOLLOWER, "follower"), member(CLIENT, "client"))
    }
    token = TokenRecord(CLIENT.public, "client", "none", 1, 0, clock.time_ms() + 1000, b"", revoked, 1)
    return Gate(lambda: members, lambda: {CLIENT.public: token}, lambda: provisional, clock)


@pytest.mark.parametrize(
    ("key", "audience"),
    [
        (VOTER, Audience.MEMBER),
        (FOLLOWER, Audience.MEMBER),
        (CLIENT, Audience.CLIENT),
        (STRANGER, Audience.JOINER),
    ],
)
def test_the_ledger_says_who_someone_is(key: KeyPair, audience: Audience) -> None:
    assert gate(FakeClock()).audience(key.public) is audience


def test_a_clients_token_expires() -> None:
    clock = FakeClock()
    door = gate(clock)
    clock.advance(0.999)
    assert door.audience(CLIENT.public) is Audience.CLIENT
    clock.advance(0.001)
    assert door.audience(CLIENT.public) is None


def test_a_revoked_client_is_refused() -> None:
    assert gate(FakeClock(), revoked=True).audience(CLIENT.public) is None


def test_a_new_node_trusts_whom_the_admitting_member_named() -> None:
    door = gate(FakeClock(), provisional=frozenset({peer_id(STRANGER.public)}))
    assert door.audience(STRANGER.public) is Audience.MEMBER
