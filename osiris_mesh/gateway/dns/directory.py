"""What the zone ``mesh`` is made from: functions with the places that serve them, and nodes; no lookup is a search.

A pure value: built anew when the ledger or the members change, never while a query waits for anything.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

__all__ = ["Directory", "DnsNode", "Place", "Service", "host_label", "service_text"]

MAX_LABEL: Final = 63
_NOT_HOST: Final = re.compile(r"[^a-z0-9-]+")


@dataclass(frozen=True, slots=True)
class DnsNode:
    """One node of the mesh.

    Attributes:
        label: Its host name below ``node.mesh``, unique in the mesh.
        peer: Peer id.
        addresses: IPv4 and IPv6 addresses, as text.
        port: Where it takes links.
    """

    label: str
    peer: str
    addresses: tuple[str, ...]
    port: int


@dataclass(frozen=True, slots=True)
class Place:
    """One place that serves a function.

    Attributes:
        host: Label of a node, or a host name outside of the mesh.
        port: Where.
        priority: Lower is asked first (RFC 2782): 0 has warm instances, 10 has not, 20 is a provider outside.
        weight: Share among those of one priority, 0 to 65,535.
        outside: ``host`` is a name outside of the mesh.
    """

    host: str
    port: int
    priority: int = 0
    weight: int = 1
    outside: bool = False


@dataclass(frozen=True, slots=True)
class Service:
    """One function.

    Attributes:
        name: Full name, ``namespace/name`` or ``vendor/namespace/name``.
        version: Active version.
        digest: Digest of its bundle, hexadecimal; empty for one that only providers outside have.
        places: Where it is served, the best first.
    """

    name: str
    version: str
    digest: str
    places: tuple[Place, ...] = ()


def host_label(name: str, peer: str, taken: Iterable[str] = ()) -> str:
    """Return a host name's label for a node (RFC 1123): its own name where that is one and free, else with its peer id.

    Args:
        name: Name of the node for people.
        peer: Peer id; its last letters tell nodes of one name apart.
        taken: Labels of other nodes.
    """
    label = _NOT_HOST.sub("-", name.lower()).strip("-")[:48].strip("-") or "node"
    return label if label not in set(taken) else f"{label}-{peer[-8:].lower()}"


def service_text(name: str) -> str:
    """Return what stands for a function below the zone: ``image-processing/sharpen`` is ``sharpen.image-processing``.

    Lower case, because DNS compares so (RFC 4343). ``acme.com/image/sharpen`` is ``sharpen.image.acme.com``.
    """
    *vendor, namespace, function = name.lower().split("/")
    return ".".join([function, namespace, *vendor])


@dataclass(frozen=True, slots=True)
class Directory:
    """Functions and nodes, by what DNS calls them.

    Attributes:
        serial: Serial of the zone; goes up with every change.
        services: By :func:`service_text`; names that differ in case only stand together.
        nodes: By label.
        children: For each name that stands between a function and the zone: the functions one label below.
        origin: Addresses this server is reached at, for its own host name.
        http_port: Port of this node's HTTP face, or 0.
        http_host: Label of this node.
    """

    serial: int = 1
    services: Mapping[str, Sequence[Service]] = field(default_factory=dict)
    nodes: Mapping[str, DnsNode] = field(default_factory=dict)
    children: Mapping[str, Sequence[str]] = field(default_factory=dict)
    origin: tuple[str, ...] = ("127.0.0.1",)
    http_port: int = 0
    http_host: str = ""

    @classmethod
    def build(
        cls,
        services: Iterable[Service],
        nodes: Iterable[DnsNode],
        *,
        serial: int = 1,
        origin: tuple[str, ...] = ("127.0.0.1",),
        http_port: int = 0,
        http_host: str = "",
    ) -> Directory:
        """Build one: linear in functions and nodes, so that a lookup is not."""
        by_text: dict[str, list[Service]] = {}
        children: dict[str, list[str]] = {}
        for service in services:
            text = service_text(service.name)
            row = by_text.setdefault(text, [])
            row.append(service)
            if len(row) == 1:
                below = text
                while below:
                    _, _, above = below.partition(".")
                    known = above in children
                    children.setdefault(above, [])
                    if below == text:
                        children[above].append(text)
                    if known or not above:
                        break
                    below = above
        return cls(
            serial=serial & 0xFFFFFFFF or 1,
            services=by_text,
            nodes={node.label: node for node in nodes},
            children=children,
            origin=origin,
            http_port=http_port,
            http_host=http_host,
        )

    def owns(self, text: str) -> bool:
        """Say whether a name below the zone is a node's or a namespace's, and so no function's."""
        label, _, rest = text.partition(".")
        return text in self.children or (rest == "node" and label in self.nodes)
