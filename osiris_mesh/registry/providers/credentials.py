"""What this node shows to providers: kept in its own settings under a name, never in a record or the ledger.

A credential belongs to one origin. A record that names another host under the same provider id gets nothing: else
whoever may sign records could collect what operators entered.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from urllib.parse import urlsplit

from osiris_mesh.errors import UsageError

__all__ = ["NONE", "Credential", "Credentials"]

_PORTS = {"https": 443, "http": 80, "mcp": 443, "mesh": 443}


@dataclass(frozen=True, slots=True)
class Credential:
    """One secret for one origin.

    Attributes:
        origin: ``scheme://host`` or ``scheme://host:port`` it is shown to.
        value: What is shown; never printed.
        header: Name of the header it goes in.
    """

    origin: str
    value: str = field(repr=False)
    header: str = "Authorization"

    @classmethod
    def bearer(cls, origin: str, token: str) -> Credential:
        """Return a token that is shown as ``Authorization: Bearer``."""
        return cls(origin, f"Bearer {token}")


class Credentials:
    """The credentials of this node.

    Args:
        by_name: Credential by the id of the provider it is for.

    Raises:
        UsageError: One can't be a header.
    """

    def __init__(self, by_name: Mapping[str, Credential]) -> None:
        self._known: dict[str, tuple[tuple[str, str, int], Credential]] = {}
        for name, credential in by_name.items():
            text = credential.header + credential.value
            if not text.isascii() or not text.isprintable() or not credential.header.replace("-", "").isalnum():
                raise UsageError(f"the credential {name[:64]!r} can't be sent in a header", fix="enter it anew")
            self._known[name] = _origin(credential.origin), credential

    def __repr__(self) -> str:
        return f"Credentials({', '.join(sorted(self._known))})"

    def headers(self, provider: str, endpoint: str) -> dict[str, str]:
        """Return the headers a provider is shown at an endpoint; empty if it is not the origin they are for."""
        found = self._known.get(provider)
        if found is None or found[0] != _origin(endpoint):
            return {}
        return {found[1].header: found[1].value}

    def value(self, provider: str, endpoint: str) -> str:
        """Return the secret itself, without the word before it; empty if there is none for that origin."""
        found = self._known.get(provider)
        if found is None or found[0] != _origin(endpoint):
            return ""
        return found[1].value.removeprefix("Bearer ")


def _origin(url: str) -> tuple[str, str, int]:
    parts = urlsplit(url)
    # An MCP server, or another mesh's gateway, is the same server as its https:// form.
    scheme = "https" if parts.scheme in {"mcp", "mesh"} else parts.scheme
    return scheme, parts.hostname or "", parts.port or _PORTS.get(parts.scheme, 0)


NONE = Credentials({})
"""A node that has none."""
