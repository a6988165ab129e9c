"""Tools made of functions, each pinned to the version it describes. A pure core.

A version is immutable and its description is part of what was signed, so name, description and schemas of a tool follow
from the digest of the version's bundle. ``_meta`` says that digest, and ``pin``, the SHA-256 of everything a model
reads of the tool. A client that has shown a tool to a person keeps the pin and sends it back in ``_meta`` of a call: a
tool that has changed since is then refused until it is looked at anew.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Final

import msgspec

from osiris_mesh.errors import Conflict
from osiris_mesh.function.signature import Signature
from osiris_mesh.gateway.mcp.names import tool_name
from osiris_mesh.gateway.mcp.schema import input_schema, output_schema

__all__ = ["DIGEST", "PIN", "VERSION", "Described", "Tool", "check_pin", "page", "tool_of"]

DIGEST: Final = "osiris-mesh/digest"
VERSION: Final = "osiris-mesh/version"
PIN: Final = "osiris-mesh/pin"
PAGE: Final = 200
"""Tools of one answer to ``tools/list``."""


@dataclass(frozen=True, slots=True)
class Described:
    """What must be known of a version to make a tool of it.

    Attributes:
        name: Full name.
        version: Semantic version.
        digest: SHA-256 of the bundle.
        description: First paragraph of the docstring.
        signature: Wire form.
        idempotent: A call may be repeated safely.
    """

    name: str
    version: str
    digest: bytes
    description: str
    signature: Signature
    idempotent: bool = False


@dataclass(frozen=True, slots=True)
class Tool:
    """One tool.

    Attributes:
        described: The function.
        wire: What ``tools/list`` says of it.
        pin: SHA-256 of what a model reads, hexadecimal.
        structured: The result has a schema.
    """

    described: Described
    wire: dict[str, Any]
    pin: str
    structured: bool


@lru_cache(maxsize=4096)
def tool_of(described: Described) -> Tool:
    """Return the tool a version of a function is."""
    signature = described.signature
    wire: dict[str, Any] = {
        "name": tool_name(described.name),
        "title": described.name,
        "description": described.description or signature.text(),
        "inputSchema": input_schema(signature),
    }
    output = output_schema(signature)
    if output is not None:
        wire["outputSchema"] = output
    if described.idempotent:
        wire["annotations"] = {"idempotentHint": True}
    pin = hashlib.sha256(msgspec.json.encode(wire, order="sorted")).hexdigest()
    wire["_meta"] = {VERSION: described.version, DIGEST: described.digest.hex(), PIN: pin}
    return Tool(described, wire, pin, output is not None)


def check_pin(tool: Tool, meta: Any) -> None:
    """Check that a call means the tool as it is now, if it says which it means.

    Raises:
        Conflict: It was shown another.
    """
    if not isinstance(meta, dict):
        return
    name = tool.described.name
    for key, now in ((PIN, tool.pin), (DIGEST, tool.described.digest.hex())):
        meant = meta.get(key)
        if meant is not None and meant != now:
            raise Conflict(
                f"the tool of {name} is not the one that was approved: it is version {tool.described.version} now",
                fix="list the tools, look at the description, and approve it anew",
                reason="pin",
                pin=tool.pin,
            )


def page(tools: Sequence[Tool], cursor: str) -> tuple[Sequence[Tool], str]:
    """Return the tools after ``cursor`` that make one answer, and the next cursor or an empty text.

    Args:
        tools: Ascending by the name of their function.
        cursor: Full name of the last function seen; empty at first.
    """
    rest = [tool for tool in tools if tool.described.name > cursor] if cursor else list(tools)
    shown = rest[:PAGE]
    return shown, shown[-1].described.name if len(rest) > PAGE else ""
