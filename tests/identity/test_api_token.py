"""API tokens as text."""

from __future__ import annotations

import base64

import pytest
from hypothesis import given
from hypothesis import strategies as st

from osiris_mesh.errors import UsageError
from osiris_mesh.identity.api_token import ApiToken
from osiris_mesh.identity.keys import KeyPair


@given(st.binary(min_size=32, max_size=32))
def test_the_text_is_the_seed_and_back(seed: bytes) -> None:
    token = ApiToken(seed)
    text = token.text()
    assert text.startswith("osa1")
    assert len(text) == 47
    assert ApiToken.parse(text) == token
    assert token.key.public == KeyPair(seed).public
    assert token.id == token.key.public.hex()[:16]


def test_a_vector() -> None:
    token = ApiToken(bytes(range(32)))
    assert token.text() == "osa1AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8"
    assert token.key.public.hex().startswith("03a107bff3ce10be")


def test_its_repr_hides_the_seed() -> None:
    token = ApiToken(b"k" * 32)
    assert token.text() not in repr(token)
    assert "kkk" not in repr(token)
    assert token.seed.hex() not in repr(token.key)


def test_two_tokens_are_never_the_same() -> None:
    assert len({ApiToken.generate().text() for _ in range(8)}) == 8


GOOD = ApiToken(b"\xff" * 32).text()


@pytest.mark.parametrize(
    "text",
    [
        "", "osa1", GOOD[:-1], GOOD + "A", GOOD + "=", " " + GOOD, GOOD + "\n", GOOD.replace("osa1", "osm1"),
        GOOD[:-1] + "9", GOOD[:10] + "+" + GOOD[11:], GOOD[:10] + "é" + GOOD[11:], GOOD[:10] + "." + GOOD[11:],
        "osa1" + base64.urlsafe_b64encode(bytes(31)).decode(), "x" * 1_000_000,
    ],
)  # fmt: skip
def test_what_is_no_token(text: str) -> None:
    with pytest.raises(UsageError) as caught:
        ApiToken.parse(text)
    assert "apitoken create" in caught.value.fix
    assert GOOD not in str(caught.value)
