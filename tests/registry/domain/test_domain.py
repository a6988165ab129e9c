"""What a domain says of keys, read strictly."""

from __future__ import annotations

import base64

import pytest
from hypothesis import given
from hypothesis import strategies as st

from osiris_mesh.errors import CheckFailed, UsageError
from osiris_mesh.registry.domain import (
    MAX_KEYS,
    Proof,
    claim,
    keys_of_document,
    keys_of_texts,
    prove,
    question,
    vendor_domain,
)

KEY = bytes(range(32))
OTHER = bytes(32)
P = base64.b64encode(KEY).decode()


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (claim(KEY), (KEY,)),
        (f"v=osiris1;k=ed25519;p={P}", (KEY,)),
        (f"v=osiris1; p={P}", (KEY,)),
        (f"V=osiris1 ; K=ed25519 ; P={KEY.hex()} ;", (KEY,)),
        (f"v=osiris1; k=ed25519; p={P}; note=later versions may say more", (KEY,)),
        (f"v=osiris2; k=ed25519; p={P}", ()),
        (f"v=osiris1; k=rsa; p={P}", ()),
        (f"v=osiris1; p={P}; p={P}", ()),
        (f"k=ed25519; p={P}", ()),
        ("v=osiris1; k=ed25519; p=AAAA", ()),
        (f"v=osiris1; k=ed25519; p={P}!", ()),
        (f"v=osiris1; k=ed25519; {P}", ()),
        ("v=osiris1; k=ed25519", ()),
        ("v=spf1 include:example.com -all", ()),
        ("", ()),
        (f"v=osiris1; p={P}; x=" + "a" * 2000, ()),
    ],
)
def test_a_text_names_a_key_or_is_passed_over(text: str, expected: tuple[bytes, ...]) -> None:
    assert keys_of_texts([b"something else", text.encode()]) == expected
    assert keys_of_document(b"# keys\n" + text.encode() + b"\r\n") == expected


def test_all_texts_are_tried_and_their_number_is_bounded() -> None:
    keys = [bytes([i]) * 32 for i in range(40)]
    assert len(keys_of_texts(claim(key).encode() for key in keys)) == MAX_KEYS
    assert keys_of_texts([b"x", claim(OTHER).encode(), claim(KEY).encode()]) == (OTHER, KEY)
    assert keys_of_document(b"#" * 4096 + claim(KEY).encode()) == ()


@given(st.binary(max_size=300))
def test_any_bytes_are_read(data: bytes) -> None:
    assert all(len(key) == 32 for key in keys_of_document(data))


@given(st.binary(min_size=32, max_size=32))
def test_what_is_claimed_is_what_is_read(key: bytes) -> None:
    assert keys_of_texts([claim(key).encode()]) == (key,)


def test_a_proof_holds_for_the_keys_it_names_alone() -> None:
    proof = Proof("acme.com", (KEY,), "dns", 7)
    assert prove("acme.com", KEY, proof) is proof
    with pytest.raises(CheckFailed, match="names other keys") as caught:
        prove("acme.com", OTHER, proof)
    assert claim(OTHER) in caught.value.fix
    assert question("acme.com") == "_osiris.acme.com."
    with pytest.raises(CheckFailed, match="names no key"):
        prove("acme.com", KEY, None)


@pytest.mark.parametrize("vendor", ["acme", "", "Acme.com", "bücher.de", "acme..com", "a/b.com", "-.com", "_"])
def test_what_is_no_domain_is_no_vendor(vendor: str) -> None:
    with pytest.raises(UsageError):
        vendor_domain(vendor)


def test_a_domain_is_a_vendor() -> None:
    assert vendor_domain("xn--bcher-kva.de") == "xn--bcher-kva.de"
