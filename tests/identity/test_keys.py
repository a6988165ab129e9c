"""Keys, peer ids and signatures."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from nacl.bindings import crypto_scalarmult_base

from osiris_mesh.errors import Conflict, UsageError
from osiris_mesh.identity.home import Home
from osiris_mesh.identity.keys import Domain, KeyPair, curve_public, verify, verify_bare
from osiris_mesh.identity.peer_id import peer_id, public_key

KEY = KeyPair(b"\x01" * 32)


def test_rfc_8032_vector() -> None:
    # RFC 8032, section 7.1, test 1: the empty message.
    key = KeyPair(bytes.fromhex("9d61b19deffd5a60ba844af492ec2cc44449c5697b326919703bac031cae7f60"))
    assert key.public.hex() == "d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a"
    assert key.sign_bare(b"").hex() == (
        "e5564300c360ac729086e2cc806e828a84877f1eb8e5d974d873e06522490155"
        "5fb8821590a33bacc61e39701cf9b46bd25bf5f0595bbe24655141438e7a100b"
    )


@settings(max_examples=40, deadline=None)
@given(st.binary(max_size=200), st.sampled_from(Domain), st.sampled_from(Domain))
def test_a_signature_is_for_one_message_key_and_domain(message: bytes, domain: Domain, other: Domain) -> None:
    signature = KEY.sign(domain, message)
    assert verify(KEY.public, domain, message, signature)
    assert verify(KEY.public, other, message, signature) is (domain is other)
    assert not verify(KEY.public, domain, message + b"x", signature)
    assert not verify(KeyPair(b"\x02" * 32).public, domain, message, signature)
    assert not verify_bare(KEY.public, message, signature)


def test_no_domain_is_the_beginning_of_another() -> None:
    for one in Domain:
        assert one.value.endswith(b"\0")
        assert one.value.count(b"\0") == 1
        assert not any(other is not one and other.value.startswith(one.value) for other in Domain)


@pytest.mark.parametrize(
    ("public", "signature"), [(b"", b""), (b"x" * 31, b"y" * 64), (bytes(32), bytes(64)), (b"x" * 32, b"y" * 63)]
)
def test_nonsense_is_no_signature(public: bytes, signature: bytes) -> None:
    assert not verify_bare(public, b"m", signature)


def test_secrets_stay_out_of_reprs() -> None:
    text = repr(KEY) + str(KEY)
    assert KEY.public.hex() in text
    assert KEY.seed.hex() not in text
    assert KEY.curve_secret.hex() not in text


def test_seeds_make_the_same_key_again() -> None:
    key = KeyPair.generate()
    assert KeyPair(key.seed).public == key.public
    assert KeyPair.generate().public != key.public
    for wrong in (b"", b"x" * 31, b"x" * 64):
        with pytest.raises(UsageError):
            KeyPair(wrong)


def test_both_halves_of_the_curve_key_belong_together() -> None:
    assert crypto_scalarmult_base(KEY.curve_secret) == curve_public(KEY.public)
    for wrong in (b"", b"\xff" * 32, bytes(31)):
        with pytest.raises(UsageError):
            curve_public(wrong)


def test_key_files(tmp_path: Path) -> None:
    path = tmp_path / "node.key"
    KEY.save(path)
    assert path.stat().st_mode & 0o777 == 0o600
    assert KeyPair.load(path).public == KEY.public
    with pytest.raises(Conflict, match="exists"):
        KEY.save(path)
    path.chmod(0o640)
    with pytest.raises(Conflict, match="chmod 600"):
        KeyPair.load(path)
    path.chmod(0o600)
    for text in ("", "00", "zz" * 32, "é"):
        path.write_text(text, "utf-8")
        with pytest.raises(Conflict, match="not a key file"):
            KeyPair.load(path)


# peer ids


def test_peer_id_is_libp2ps() -> None:
    # The development key "Alice" of Substrate, whose nodes use libp2p: node key, public key and peer id are published.
    key = KeyPair(bytes.fromhex("c12b6d18942f5ee8528c8e2baf4e147b5c5c18710926ea492d09cbd9f6c9f82a"))
    assert key.public.hex() == "1ce5f00ef6e89374afb625f1ae4c1546d31234e87e3c3f51a62b91dd6bfa57df"
    assert peer_id(key.public) == "12D3KooWBmAwcd4PJNJvfV89HwE48nwkRmAgo8Vy3uQEyNNHBox2"


@settings(max_examples=200)
@given(st.binary(min_size=32, max_size=32))
def test_peer_ids_are_one_to_one(public: bytes) -> None:
    text = peer_id(public)
    assert text.startswith("12D3KooW")
    assert len(text) == 52
    assert public_key(text) == public


@settings(max_examples=200)
@given(st.text(alphabet="12D3KoWabcxyz0OIl/é", max_size=70))
def test_other_texts_are_no_peer_ids(text: str) -> None:
    with pytest.raises(UsageError):
        public_key(text)


@pytest.mark.parametrize(
    "change", [lambda t: "1" + t, lambda t: t[:-1], lambda t: t + "1", lambda t: " " + t, lambda t: t + "\n"]
)
def test_a_peer_id_has_one_spelling(change) -> None:
    with pytest.raises(UsageError):
        public_key(change(peer_id(KEY.public)))


def test_keys_of_another_size_have_no_peer_id() -> None:
    with pytest.raises(UsageError):
        peer_id(b"x" * 33)


# homes


def test_a_home_is_for_its_owner_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    old = os.umask(0)
    try:
        home = Home(tmp_path / "deep" / "home")
        home.make()
        home.make()
    finally:
        os.umask(old)
    for folder in (home.path, home.node_key.parent, home.ledger, home.raft, home.library, home.run, home.logs):
        assert folder.stat().st_mode & 0o777 == 0o700
    monkeypatch.setenv("OSIRIS_HOME", str(home.path))
    assert Home.default() == home
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("OSIRIS_HOME", "relative")
    assert Home.default().path == tmp_path / "relative"
    monkeypatch.delenv("OSIRIS_HOME")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert Home.default().path == tmp_path / ".osiris"
