"""Addresses: one strict grammar, one spelling."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from osiris_mesh.errors import UsageError
from osiris_mesh.identity.keys import KeyPair
from osiris_mesh.identity.multiaddr import Multiaddr, parse_host_port
from osiris_mesh.identity.peer_id import peer_id

PEER = peer_id(KeyPair(b"\x01" * 32).public)
LABEL = st.from_regex(r"[a-z0-9]([a-z0-9-]{0,10}[a-z0-9])?", fullmatch=True)
HOSTS = st.one_of(
    st.ip_addresses(v=4).map(str),
    st.ip_addresses(v=6).map(str),
    st.lists(LABEL, min_size=1, max_size=4).map(".".join).filter(lambda host: not host.replace(".", "").isdigit()),
)


@settings(max_examples=150)
@given(HOSTS, st.integers(0, 65_535), st.sampled_from(["", PEER]))
def test_what_is_written_reads_back(host: str, port: int, peer: str) -> None:
    address = Multiaddr(host, port, peer)
    assert Multiaddr.parse(str(address)) == address


@settings(max_examples=300)
@given(st.text(alphabet="/ip46dnstcpp2[]:.%0189abfxyz-_ \n", max_size=60))
def test_any_text_is_an_address_or_refused(text: str) -> None:
    try:
        address = Multiaddr.parse(text)
    except UsageError:
        return
    assert address.host
    assert 0 <= address.port <= 65_535
    assert Multiaddr.parse(str(address)) == address


@pytest.mark.parametrize(
    ("text", "host", "port"),
    [
        ("127.0.0.1:7411", "127.0.0.1", 7411),
        ("[::1]:7411", "::1", 7411),
        ("[0:0::0001]:1", "::1", 1),
        ("[fe80::1%eth0]:1", "fe80::1%eth0", 1),
        ("node-1.example.com:80", "node-1.example.com", 80),
        (":0", "", 0),
    ],
)
def test_host_and_port(text: str, host: str, port: int) -> None:
    assert parse_host_port(text) == (host, port)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "host",
        "host:",
        "host:65536",
        "host:-1",
        "host:+1",
        "host: 1",
        "host:1_0",
        "host:٣",
        "host:" + "9" * 5000,
        "::1:7411",
        "[::1]",
        "[::1%a\n]:1",
        "[::1%a b]:1",
        "[1.2.3.4]:1",
        "[]:1",
        "a b:1",
        "a/b:1",
        "-a:1",
        "a..b:1",
        "a" * 254 + ":1",
        "host\n:1",
    ],
)
def test_what_is_no_host_and_port(text: str) -> None:
    with pytest.raises(UsageError):
        parse_host_port(text)


@pytest.mark.parametrize(
    "text",
    [
        "/",
        "/ip4/127.0.0.1",
        "/ip4/127.0.0.1/tcp",
        "/ip4/127.0.0.1/udp/1",
        "/ip4/::1/tcp/1",
        "/ip6/127.0.0.1/tcp/1",
        "/ip4/example.com/tcp/1",
        "/ip4//tcp/1",
        "/dns//tcp/1",
        "/dns/127.0.0.1/tcp/1",
        "/dns/a:b/tcp/1",
        "/dns/[::1]/tcp/1",
        "/ip4/127.0.0.1/tcp/1/",
        "/ip4/127.0.0.1/tcp/1/p2p/",
        "/ip4/127.0.0.1/tcp/1/p2p/nobody",
        f"/ip4/127.0.0.1/tcp/1/p2p/{PEER}/",
        f"/ip4/127.0.0.1/tcp/1/p2p/{PEER}/p2p/{PEER}",
        f"ip4/127.0.0.1/tcp/1/p2p/{PEER}",
        ":7411",
        "x" * 600,
    ],
)
def test_what_is_no_address(text: str) -> None:
    with pytest.raises(UsageError):
        Multiaddr.parse(text)


def test_dns4_and_dns6_are_read_as_dns() -> None:
    for kind in ("dns", "dns4", "dns6"):
        assert str(Multiaddr.parse(f"/{kind}/example.com/tcp/1")) == "/dns/example.com/tcp/1"
