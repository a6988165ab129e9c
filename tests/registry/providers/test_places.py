"""Where DNS says that a provider answers."""

from __future__ import annotations

import pytest

from osiris_mesh.registry.providers.places import place_of
from osiris_mesh.registry.record import Provider


@pytest.mark.parametrize(
    ("endpoint", "expected"),
    [
        ("https://functions.acme.com/add", ("functions.acme.com", 443, 7)),
        ("https://functions.acme.com:8443/add", ("functions.acme.com", 8443, 7)),
        ("mcp://tools.acme.com/mcp", ("tools.acme.com", 443, 7)),
        ("http://localhost:9000/x", ("localhost", 9000, 7)),
        ("https://192.0.2.7/add", None),
        ("https://[2001:db8::1]/add", None),
        ("mesh://12D3KooWBmwkafWE2fqfzS96VoTZgpGp6aJsF4N7cTLvcs2N8vH6", None),
        ("marketplace://ledger/acme/add", None),
    ],
)
def test_a_place_is_a_name_with_a_port(endpoint: str, expected: tuple[str, int, int] | None) -> None:
    assert place_of(Provider("acme", endpoint, weight=7)) == expected
