"""Join tokens: signed, bounded, secret."""

from __future__ import annotations

import base64
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from osiris_mesh.codec import pack, unpack
from osiris_mesh.errors import UsageError
from osiris_mesh.identity.keys import Domain, KeyPair
from osiris_mesh.identity.multiaddr import Multiaddr
from osiris_mesh.identity.peer_id import peer_id
from osiris_mesh.identity.token import GRANTS, ROLES, Token

ISSUER = KeyPair(b"\x07" * 32)
MEMBER = Multiaddr("192.0.2.1", 7411, peer_id(ISSUER.public))
TOKEN = Token(
    mesh_id=b"m" * 16,
    network_key=b"network-key-network-key-network!",
    role="voter",
    grant="developer",
    seed=b"seed-seed-seed-seed-seed-seed-se",
    uses=1,
    expires_ms=1_800_000_000_000,
    members=(MEMBER,),
).signed(ISSUER)


def spelled(payload: Any, issuer: Any = ISSUER.public, signature: Any = None) -> str:
    if signature is None:
        signature = ISSUER.sign(Domain.TOKEN, payload if isinstance(payload, bytes) else b"")
    raw = pack([payload, issuer, signature])
    return "osm1" + base64.urlsafe_b64encode(raw).decode().rstrip("=")


@settings(max_examples=40, deadline=None)
@given(
    st.sampled_from(ROLES),
    st.sampled_from(GRANTS),
    st.integers(1, 1 << 40),
    st.integers(0, 1 << 50),
    st.integers(0, 8),
)
def test_what_is_written_reads_back(role: str, grant: str, uses: int, expires_ms: int, members: int) -> None:
    token = replace(
        TOKEN, role=role, grant=grant, uses=uses, expires_ms=expires_ms, members=(MEMBER,) * members
    ).signed(ISSUER)
    assert Token.parse(token.text()) == token
    assert Token.parse(f"  {token.text()}\n") == token
    assert token.id == token.key.public.hex()[:16]


@settings(max_examples=120, deadline=None)
@given(st.data())
def test_one_changed_letter_anywhere_is_noticed(data: st.DataObject) -> None:
    text = TOKEN.text()
    place = data.draw(st.integers(0, len(text) - 2))  # the last letter holds bits that mean nothing
    letter = data.draw(st.sampled_from("abcXYZ019-_+/=. é"))
    changed = text[:place] + letter + text[place + 1 :]
    if changed.strip() == text:
        return
    with pytest.raises(UsageError):
        Token.parse(changed)


@settings(max_examples=100, deadline=None)
@given(st.text(max_size=80))
def test_other_texts_are_no_tokens(text: str) -> None:
    for each in (text, "osm1" + text):
        with pytest.raises(UsageError):
            Token.parse(each)


def test_a_huge_text_is_refused_at_once() -> None:
    with pytest.raises(UsageError):
        Token.parse("osm1" + "A" * 10_000_000)


def test_secrets_stay_out_of_reprs() -> None:
    for secret in (TOKEN.network_key, TOKEN.seed, TOKEN.payload):
        assert repr(secret) not in repr(TOKEN)
        assert secret.hex() not in repr(TOKEN)


PAYLOAD = unpack(TOKEN.payload)


@pytest.mark.parametrize(
    ("place", "value"),
    [
        (0, 2),
        (0, True),
        (1, b"short"),
        (1, "m" * 16),
        (2, b"k" * 31),
        (3, "king"),
        (3, ["voter"]),
        (4, "root"),
        (5, b""),
        (6, 0),
        (6, True),
        (6, "1"),
        (7, -1),
        (8, "none"),
        (8, [5]),
        (8, ["nowhere"]),
        (8, [["/ip4/127.0.0.1/tcp/1"]]),
    ],
)
def test_a_signed_payload_with_a_wrong_item_is_refused(place: int, value: Any) -> None:
    payload = list(PAYLOAD)
    payload[place] = value
    with pytest.raises(UsageError):
        Token.parse(spelled(pack(payload)))


@pytest.mark.parametrize("payload", [b"", b"\x90", pack({}), pack(PAYLOAD[:-1]), pack([*PAYLOAD, 1]), 5, "text", [1]])
def test_a_payload_of_another_shape_is_refused(payload: Any) -> None:
    with pytest.raises(UsageError):
        Token.parse(spelled(payload))


def test_another_issuer_can_not_stand_behind_it() -> None:
    with pytest.raises(UsageError, match="signature"):
        Token.parse(spelled(TOKEN.payload, KeyPair(b"\x08" * 32).public, TOKEN.signature))
    entry = ISSUER.sign(Domain.ENTRY, TOKEN.payload)
    with pytest.raises(UsageError, match="signature"):
        Token.parse(spelled(TOKEN.payload, ISSUER.public, entry))
