"""Which endpoint asks a provider."""

from __future__ import annotations

from typing import Any, cast

import pytest

from osiris_mesh.errors import UsageError
from osiris_mesh.registry.providers.endpoint import Endpoint, Endpoints


class Fake:
    closed = 0

    async def close(self) -> None:
        self.closed += 1


def missing() -> Endpoint:
    raise ImportError("an extra")


async def test_an_endpoint_is_made_when_it_is_first_asked_for_and_closed_once() -> None:
    https, mcp, made = Fake(), Fake(), list[Any]()

    def make() -> Endpoint:
        made.append(mcp)
        return cast(Endpoint, mcp)

    endpoints = Endpoints({"https": cast(Endpoint, https), "http": cast(Endpoint, https)}, {"mcp": make})
    assert endpoints.schemes == {"https", "http", "mcp"}
    assert made == []
    assert endpoints.of("mcp://tools.acme.com/") is endpoints.of("mcp://other.example/")
    assert made == [mcp]
    await endpoints.close()
    assert (https.closed, mcp.closed) == (1, 1)


def test_what_nobody_here_asks_says_so() -> None:
    endpoints = Endpoints({}, {"mcp": missing})
    with pytest.raises(UsageError) as caught:
        endpoints.of("mcp://tools.acme.com/")
    assert "extra" in caught.value.fix
    with pytest.raises(UsageError, match="can't be asked"):
        endpoints.of("gopher://old.example/")
