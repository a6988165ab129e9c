"""Which addresses may be asked."""

from __future__ import annotations

import pytest

from osiris_mesh.errors import Denied, UsageError
from osiris_mesh.registry.guard import Guard
from osiris_mesh.registry.providers.exchange import Exchange
from osiris_mesh.registry.providers.network import open_session


@pytest.mark.parametrize(
    "address",
    [
        "127.0.0.1", "::1", "10.1.2.3", "172.16.0.1", "192.168.1.1", "169.254.169.254", "169.254.1.1", "0.0.0.1",
        "100.64.0.1", "224.0.0.1", "255.255.255.255", "fe80::1", "fe80::1%eth0", "fc00::1", "fd00:ec2::254", "::",
        "::ffff:127.0.0.1", "::ffff:169.254.169.254", "64:ff9b::7f00:1", "2002:7f00:1::", "100.100.100.200", "name",
        "fec0::1",
    ],
)  # fmt: skip
def test_refused(address):
    assert Guard().refusal(address)


@pytest.mark.parametrize("address", ["1.1.1.1", "2606:4700::1111", "::ffff:1.1.1.1"])
def test_public(address):
    assert not Guard().refusal(address)


def test_networks_allowed_by_the_setting():
    guard = Guard(["10.0.0.0/8", "loopback"])
    assert not guard.refusal("10.9.9.9")
    assert not guard.refusal("127.0.0.1")
    assert not guard.refusal("::1")
    assert not guard.refusal("::ffff:10.0.0.1")
    assert guard.refusal("192.168.0.1")


def test_metadata_needs_its_own_mention():
    assert Guard(["169.254.0.0/16"]).refusal("169.254.169.254")
    assert not Guard(["169.254.169.254/32"]).refusal("169.254.169.254")


def test_what_is_no_network():
    with pytest.raises(UsageError):
        Guard(["intranet"])


@pytest.mark.parametrize("host", ["localhost", "127.0.0.1", "2130706433", "0x7f.1", "[::1]"])
async def test_no_way_to_this_machine_by_any_spelling(host):
    guard = Guard()
    session = open_session(guard)
    try:
        with pytest.raises((Denied, UsageError)):
            await Exchange(session, guard).send("GET", f"https://{host}:9/", seconds=5)
    finally:
        await session.close()
