"""Content ids and names, against those that everybody knows and those that a real Kubo makes."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from osiris_mesh.errors import RemoteProtocolError, UsageError
from osiris_mesh.registry.ipfs_build import EMPTY
from osiris_mesh.registry.ipfs_cid import DAG_PB, RAW, Cid, IpnsName, read_varint, varint
from tests.registry.ipfs.kubo import Daemon

EMPTY_V0 = "QmUNLLsPACCz1vLxQVkXqqLX5R1X345qqfHbsf67hvA3Nn"
EMPTY_V1 = "bafybeiczsscdsbs7ffqz55asqdf3smv6klcw3gofszvwlyarci47bgf354"
HELLO = "bafkreifzjut3te2nhyekklss27nh3k72ysco7y32koao5eei66wof36n5e"


def test_ids_everybody_knows() -> None:
    assert str(EMPTY) == EMPTY_V1
    assert str(Cid.of(RAW, b"hello world")) == HELLO
    old = Cid.parse(EMPTY_V0)
    assert (old.version, old.codec, old.digest, str(old)) == (0, DAG_PB, EMPTY.digest, EMPTY_V0)
    assert old.holds(b"\x0a\x02\x08\x01")
    assert not old.holds(b"\x0a\x02\x08\x02")
    assert Cid.parse("bafkqablimvwgy3y") == Cid(1, RAW, b"hello", inline=True)


def test_ids_a_kubo_makes(kubo: Daemon) -> None:
    for data in (b"", b"x", "größer\n".encode(), bytes(1000)):
        assert kubo.ipfs("add", "-Q", "--cid-version=1", "-n", data=data) == str(Cid.of(RAW, data))
        old = kubo.ipfs("add", "-Q", "--cid-version=0", "-n", data=data)
        assert str(Cid.parse(old)) == old
        new = kubo.ipfs("cid", "format", "-v", "1", "-b", "base36", old)
        assert Cid.parse(new).digest == Cid.parse(old).digest
        assert kubo.ipfs("cid", "base32", new) == str(Cid.parse(new))


def test_names_a_kubo_makes(kubo: Daemon) -> None:
    made = kubo.ipfs("key", "gen", "--type=ed25519", "names")
    forms = [
        made,
        kubo.ipfs("key", "list", "-l", "--ipns-base=b58mh"),
        kubo.ipfs("key", "list", "-l", "--ipns-base=base32"),
    ]
    peer, base32 = (
        next(line.split()[0] for line in form.splitlines() if line.endswith(" names")) for form in forms[1:]
    )
    name = IpnsName.parse(made)
    assert str(name) == made
    assert IpnsName.parse(peer) == IpnsName.parse(base32) == name
    rsa = kubo.ipfs("key", "gen", "--type=rsa", "rsa")
    with pytest.raises(UsageError, match="Ed25519"):
        IpnsName.parse(rsa)


@given(st.binary(max_size=200), st.sampled_from((RAW, DAG_PB)), st.sampled_from((0, 1)))
def test_ids_go_both_ways(data: bytes, codec: int, version: int) -> None:
    cid = Cid.of(codec, data) if version else Cid(0, DAG_PB, Cid.of(codec, data).digest)
    assert Cid.parse(str(cid)) == Cid.from_bytes(cid.to_bytes()) == cid
    assert cid.holds(data)
    assert not cid.holds(data + b"x")


@given(st.binary(min_size=32, max_size=32))
def test_names_go_both_ways(public: bytes) -> None:
    name = IpnsName(public)
    assert IpnsName.parse(str(name)) == IpnsName.parse(str(name.cid)) == name
    assert str(name).startswith("k51")


@pytest.mark.parametrize(
    "text",
    [
        "", "b", "z", "k", "Qm", "x" * 400, EMPTY_V0[:-1], EMPTY_V0 + "1", EMPTY_V0[:-1] + "0", EMPTY_V1 + "a",
        EMPTY_V1[:-1], EMPTY_V1.upper(), EMPTY_V1.replace("b", "B", 1),
        "z" + EMPTY_V0, "m" + EMPTY_V1[1:], HELLO[:-1] + "f",
        "bafyrgqhqb5e5fk7l2rm5jy5zwjivy", "bagaaierasords4njcts6vs7qvdjfcvgnume4hqohf65zsfguprqphs3icwea",
        "bafybeiczsscdsbs7ffqz55asqdf3smv6klcw3gofszvwlyarci47bgf35!", "/ipfs/" + EMPTY_V1, "12D3KooW",
    ],
)  # fmt: skip
def test_what_is_no_id(text: str) -> None:
    with pytest.raises(UsageError):
        Cid.parse(text)


@pytest.mark.parametrize("text", ["", EMPTY_V0, EMPTY_V1, HELLO, "acme.com", "12D3KooW", "k51", "bafkqablimvwgy3y"])
def test_what_is_no_name(text: str) -> None:
    with pytest.raises(UsageError):
        IpnsName.parse(text)


@pytest.mark.parametrize(
    "data",
    [
        b"", b"\x01", b"\x02\x55\x12\x20" + bytes(32), b"\x01\x55\x12\x1f" + bytes(31), b"\x01\x55\x12\x20" + bytes(33),
        b"\x01\x55\x13\x40" + bytes(64), b"\x01\x55\x00\x81\x01" + bytes(129), b"\x01\xd5\x80\x00\x12\x20" + bytes(32),
        b"\x81\x00\x55\x12\x20" + bytes(32), b"\x12\x20" + bytes(31), b"\x01\x71\x12\x20" + bytes(32),
    ],
)  # fmt: skip
def test_bytes_that_are_no_id(data: bytes) -> None:
    with pytest.raises(RemoteProtocolError):
        Cid.from_bytes(data)


@given(st.integers(0, (1 << 63) - 1), st.binary(max_size=3))
def test_numbers_go_both_ways(value: int, more: bytes) -> None:
    data = varint(value)
    assert read_varint(data + more) == (value, len(data))


@pytest.mark.parametrize("data", [b"", b"\x80", b"\x80\x00", b"\xff" * 9 + b"\x01", b"\x81\x80\x00"])
def test_numbers_that_are_none(data: bytes) -> None:
    with pytest.raises(RemoteProtocolError):
        read_varint(data)


@given(st.binary(max_size=60))
def test_noise_is_refused_or_read(data: bytes) -> None:
    try:
        cid = Cid.from_bytes(data)
    except RemoteProtocolError:
        return
    assert cid.to_bytes() == data
