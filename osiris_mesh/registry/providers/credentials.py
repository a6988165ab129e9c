"""What this node shows to providers: kept in its own settings under a name, never in a record or the ledger.

A credential belongs to one origin, and to the functions it was entered for. A record that names another host under the
same provider id gets nothing, else whoever may sign records could collect what operators entered; nor does a record of
another name, else its signer could have the node ask anything of that host with the operator's secret.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from urllib.parse import urlsplit

from osiris_mesh.errors import UsageError
from osiris_mesh.registry.context import matches

__all__ = ["NONE", "Credential", "Credentials"]

_PORTS = {"https": 443, "http": 80, "mcp": 443, "mesh": 443}


@dataclass(frozen=True, slots=True)
class Credential:
    """One secret for one origin.

    Attributes:
        origin: ``scheme://host`` or ``scheme://host:port`` it is shown to.
        value: What is shown; never printed.
        header: Name of the header it goes in.
        functions: Patterns of the names whose calls it is shown with; empty: of every name.
    """

    origin: str
    value: str = field(repr=False)
    header: str = "Authorization"
    functions: tuple[str, ...] = ()

    @classmethod
    def bearer(cls, origin: str, token: str, functions: tuple[str, ...] = ()) -> Credential:
        """Return a token that is shown as ``Authorization: Bearer``."""
        return cls(origin, f"Bearer {token}", functions=functions)


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

    def headers(self, provider: str, endpoint: str, name: str | None) -> dict[str, str]:
        """Return the headers a provider is shown at an endpoint; empty if they are not for that origin and name.

        Args:
            provider: The provider's id.
            endpoint: What is asked.
            name: Full name of the function that is called; None: nothing is called, and nothing but read.
        """
        found = self._for(provider, endpoint, name)
        return {found.header: found.value} if found else {}

    def value(self, provider: str, endpoint: str, name: str | None) -> str:
        """Return the secret itself, without the word before it; empty if there is none. See :meth:`headers`."""
        found = self._for(provider, endpoint, name)
        return found.value.removeprefix("Bearer ") if found else ""

    def _for(self, provider: str, endpoint: str, name: str | None) -> Credential | None:
        origin, found = self._known.get(provider, (None, None))
        if found is None or origin != _origin(endpoint):
            return None
        if name is None or not found.functions or any(matches(pattern, name) for pattern in found.functions):
            return found
        return None


def _origin(url: str) -> tuple[str, str, int]:
    parts = urlsplit(url)
    # An MCP server, or another mesh's gateway, is the same server as its https:// form.
    scheme = "https" if parts.scheme in {"mcp", "mesh"} else parts.scheme
    return scheme, parts.hostname or "", parts.port or _PORTS.get(parts.scheme, 0)


NONE = Credentials({})
"""A node that has none."""
