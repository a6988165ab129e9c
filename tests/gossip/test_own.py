"""What claims about ourselves amount to."""

from __future__ import annotations

import pytest

from osiris_mesh.gossip.message import MAX_INCARNATION, PeerState, Update
from osiris_mesh.gossip.own import Heard, Own
from tests.gossip.fake_mesh import fake_proof, fake_proven, name

ME, OTHER = name(0), name(1)


def own() -> Own:
    return Own(ME, 10, prove=lambda number, left: fake_proof(ME, number, left=left), proven=fake_proven)


def said(state: PeerState, incarnation: int, proof: bytes | None = None) -> Update:
    accuser = OTHER if state in {PeerState.SUSPECT, PeerState.DEAD} else ""
    real = fake_proof(ME, incarnation, left=state is PeerState.LEFT)
    return Update(state, ME, incarnation, proof or real, accuser)


@pytest.mark.parametrize(
    ("update", "heard", "incarnation"),
    [
        (said(PeerState.ALIVE, 10), Heard.KNOWN, 10),
        (said(PeerState.ALIVE, 9), Heard.OLD, 10),
        (said(PeerState.DEAD, 9), Heard.OLD, 10),
        (said(PeerState.SUSPECT, 10), Heard.REFUTED, 11),
        (said(PeerState.DEAD, 10), Heard.REFUTED, 11),
        (said(PeerState.LEFT, 10), Heard.REFUTED, 11),
        (said(PeerState.ALIVE, 50), Heard.REFUTED, 51),
        (said(PeerState.DEAD, 50), Heard.REFUTED, 51),
        (said(PeerState.LEFT, 50), Heard.REFUTED, 51),
        (said(PeerState.SUSPECT, 10, b"x" * 64), Heard.FORGED, 10),
        (said(PeerState.LEFT, 10, b"x" * 64), Heard.FORGED, 10),
        (said(PeerState.DEAD, 50, b"x" * 64), Heard.FORGED, 10),
        (said(PeerState.DEAD, MAX_INCARNATION - 1), Heard.FORGED, 10),
    ],
)
def test_a_claim_about_us(update: Update, heard: Heard, incarnation: int) -> None:
    me = own()
    assert me.hear(update) is heard
    assert me.incarnation == incarnation
    assert me.claim() == said(PeerState.ALIVE, incarnation)


@pytest.mark.parametrize("state", [PeerState.ALIVE, PeerState.SUSPECT, PeerState.DEAD, PeerState.LEFT])
def test_who_leaves_does_not_argue(state: PeerState) -> None:
    me = own()
    me.leave()
    assert me.hear(said(state, 10)) is Heard.KNOWN
    assert me.claim() == said(PeerState.LEFT, 10)
