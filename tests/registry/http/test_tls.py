"""https is verified, with the system's certificates or with those that are named."""

from __future__ import annotations

import ssl
from pathlib import Path

import pytest
import trustme

from osiris_mesh.errors import Unavailable
from tests.registry.conformance import ADD, CONTENT, read
from tests.registry.http.conftest import Make
from tests.registry.http.hosts import StaticHost, serving


@pytest.fixture(scope="module")
def authority() -> trustme.CA:
    return trustme.CA()


def server_side(authority: trustme.CA, name: str) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert(name).configure_cert(context)
    return context


async def test_the_authority_that_is_named_counts_and_no_other(
    trees: Make, authority: trustme.CA, tmp_path: Path
) -> None:
    right, other = tmp_path / "right.pem", tmp_path / "other.pem"
    authority.cert_pem.write_to_path(str(right))
    trustme.CA().cert_pem.write_to_path(str(other))
    async with serving(StaticHost(CONTENT), server_side(authority, "localhost")) as address:
        assert await read(trees(address + "/some/place", ca_file=right, token="t"), ADD) == CONTENT[ADD]
        for ca_file in (other, None):
            with pytest.raises(Unavailable, match="certificate"):
                await trees(address + "/some/place", ca_file=ca_file).refresh()
    with pytest.raises(Unavailable, match="can't be read"):
        await trees(address, ca_file=tmp_path / "none.pem").refresh()


async def test_a_certificate_of_another_host_does_not_count(trees: Make, authority: trustme.CA, tmp_path: Path) -> None:
    authority.cert_pem.write_to_path(str(tmp_path / "ca.pem"))
    async with serving(StaticHost(CONTENT), server_side(authority, "elsewhere.example")) as address:
        with pytest.raises(Unavailable, match="certificate"):
            await trees(address + "/some/place", ca_file=tmp_path / "ca.pem").refresh()
