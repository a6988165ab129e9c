"""Where webhooks may go."""

from __future__ import annotations

import pytest

from osiris_mesh.errors import UsageError
from osiris_mesh.gateway.webhook_target import Target, refusal


@pytest.mark.parametrize(
    ("url", "secure", "host", "port"),
    [
        ("https://hooks.example.org/osiris?x=1", True, "hooks.example.org", 443),
        ("https://Hooks.Example.org:8443/", True, "hooks.example.org", 8443),
        ("https://192.0.2.7/", True, "192.0.2.7", 443),
        ("https://[2001:db8::7]:9/", True, "2001:db8::7", 9),
        ("http://localhost:8080/hook", False, "localhost", 8080),
        ("http://127.0.0.1:1/", False, "127.0.0.1", 1),
        ("http://[::1]/", False, "::1", 80),
        ("http://hook.localhost/", False, "hook.localhost", 80),
    ],
)
def test_good_ones(url: str, secure: bool, host: str, port: int) -> None:
    assert Target.parse(url) == Target(url, secure, host, port)


@pytest.mark.parametrize(
    "url",
    [
        "",
        "hooks.example.org",
        "ftp://example.org/",
        "http://example.org/",
        "http://10.0.0.7/",
        "http://localhost.example.org/",
        "https://user:secret@example.org/",
        "https://example.org/#part",
        "https://example.org:0/",
        "https://example.org:99999/",
        "https://exa mple.org/",
        "https://exämple.org/",
        "https:///path",
        "https://169.254.169.254/latest/meta-data/",
        "https://[::ffff:169.254.169.254]/",
        "https://[fe80::1%25eth0]/",
        "https://0.0.0.0/",
        "https://224.0.0.1/",
        "https://example.org/" + "x" * 2100,
        "https://example.org/\r\nHost: other",
    ],
)
def test_bad_ones(url: str) -> None:
    with pytest.raises(UsageError):
        Target.parse(url)


@pytest.mark.parametrize(
    ("address", "https", "http"),
    [
        ("127.0.0.1", True, True),
        ("127.9.9.9", True, True),
        ("::1", True, True),
        ("::ffff:127.0.0.1", True, True),
        ("192.0.2.1", True, False),
        ("8.8.8.8", True, False),
        ("10.1.2.3", True, False),
        ("2001:db8::1", True, False),
        ("169.254.169.254", False, False),
        ("::ffff:169.254.169.254", False, False),
        ("64:ff9b::169.254.169.254", False, False),
        ("2002:a9fe:a9fe::1", False, False),
        ("fe80::1", False, False),
        ("fe80::1%eth0", False, False),
        ("0.0.0.0", False, False),  # noqa: S104 - refused
        ("::", False, False),
        ("239.1.1.1", False, False),
        ("255.255.255.255", False, False),
        ("localhost", False, False),
    ],
)
def test_addresses(address: str, https: bool, http: bool) -> None:
    assert (refusal(address, secure=True) == "") is https
    assert (refusal(address, secure=False) == "") is http
