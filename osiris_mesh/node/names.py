"""The mesh's names in DNS, as this node sees them: the directory kept in step, and the server."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Final
from urllib.parse import urlsplit

from osiris_mesh.clock import Clock
from osiris_mesh.identity.multiaddr import parse_host_port
from osiris_mesh.node.options import OFF

if TYPE_CHECKING:
    from osiris_mesh.gateway.dns.directory import Directory, DnsNode, Place, Service
    from osiris_mesh.gateway.dns.server import DnsServer, Find
    from osiris_mesh.node.controller import Controller

__all__ = ["Names"]

_FRESH_S: Final = 1.0
"""Seconds a directory serves queries before it is compared with the ledger again."""
_MAX_WEIGHT: Final = 65_535


class Names:
    """DNS of one node, or none where the options say ``off``; nothing of it is imported then.

    Args:
        controller: Whose.
        clock: Time.
    """

    def __init__(self, controller: Controller, clock: Clock) -> None:
        self._node = controller
        self._clock = clock
        self._server: DnsServer | None = None
        self._directory: Directory | None = None
        self._built = (0.0, -1)
        self._serial = 0

    @property
    def address(self) -> str | None:
        """``HOST:PORT`` of the server; None: there is none."""
        return None if self._server is None else self._server.address

    def bind(self, find: Find | None = None) -> None:
        """Take the port.

        Args:
            find: Asks registries for what the mesh does not have.

        Raises:
            Conflict: It is taken, and was asked for.
        """
        node, options = self._node, self._node.options
        if options.dns == OFF:
            return
        from osiris_mesh.gateway.dns.server import DnsServer  # noqa: PLC0415 - see the class

        self._server = DnsServer(self.directory, find)
        self._server.bind(options.dns)
        if options.dns and parse_host_port(options.dns)[1] == 0:
            node.options = replace(options, dns=self._server.address)
            node.options.save(node.home)

    async def start(self) -> None:
        """Begin to answer."""
        if self._server is not None:
            await self._server.start()

    async def close(self) -> None:
        """Stop answering."""
        if self._server is not None:
            await self._server.close()

    def directory(self) -> Directory:
        """Return what DNS knows of the mesh, at most a second behind the ledger."""
        now, height = self._clock.monotonic(), self._node.ledger.tip.height
        then, built = self._built
        if self._directory is None or (now - then >= _FRESH_S and (built != height or not self._nodes_same())):
            self._directory = self._build()
            self._built = (now, height)
        return self._directory

    def _nodes_same(self) -> bool:
        return self._directory is not None and dict(self._directory.nodes) == {n.label: n for n in self._nodes()}

    def _build(self) -> Directory:
        from osiris_mesh.gateway.dns.directory import Directory, Service  # noqa: PLC0415 - see the class

        self._serial += 1
        state = self._node.ledger.state
        nodes = self._nodes()
        http = self._node.web.url
        me = next((node.label for node in nodes if node.peer == self._node.me), "")
        host = parse_host_port(self._server.address)[0] if self._server is not None else "127.0.0.1"
        directory = Directory.build(
            [Service(record.name, record.active, "") for record in state.functions.values() if record.active],
            nodes,
            # As zones usually count: by time, so that it goes up over restarts too (RFC 1912, 2.2).
            serial=self._clock.time_ms() // 1000 + self._serial,
            origin=(host,),
            http_port=(urlsplit(http).port or 0) if http else 0,
            http_host=me,
        )
        return replace(directory, services=_Placed(directory.services, self))

    def _nodes(self) -> list[DnsNode]:
        from osiris_mesh.gateway.dns.directory import DnsNode, host_label  # noqa: PLC0415 - see the class

        node, found = self._node, list[DnsNode]()
        taken: set[str] = set()
        members = node.ledger.state.members
        for peer, known in sorted(node.neighbours.addresses().items()):
            if peer not in members or (peer != node.me and not node.gossip.alive(peer)):
                continue
            addresses = node.addresses if peer == node.me else known
            texts = tuple(dict.fromkeys(each.host for each in addresses if _is_address(each.host)))
            label = host_label(members[peer].name, peer, taken)
            taken.add(label)
            found.append(DnsNode(label, peer, texts, addresses[0].port if addresses else 0))
        return found

    def placed(self, service: Service) -> Service:
        """Return a function with its active version and the places that serve it now."""
        from osiris_mesh.gateway.dns.directory import Place  # noqa: PLC0415 - see the class

        node, directory = self._node, self._directory
        record = node.ledger.state.active(service.name)
        if record is None or directory is None:
            return service
        instances = node.functions.instances(service.name)
        # Without an instance anywhere every node may start one.
        places: list[Place] = [
            Place(
                each.label,
                each.port,
                0 if each.peer in instances else 10,
                min(instances.get(each.peer, 0) + 1, _MAX_WEIGHT),
            )
            for each in directory.nodes.values()
            if each.port
        ]
        return replace(service, version=record.spec.version, digest=record.spec.digest.hex(), places=tuple(places))


class _Placed(Mapping[str, "Sequence[Service]"]):
    """Services by what DNS calls them, each with its places of the moment: looked up for what is asked, not for all."""

    def __init__(self, services: Mapping[str, Sequence[Service]], names: Names) -> None:
        self._services = services
        self._names = names

    def __getitem__(self, text: str) -> Sequence[Service]:
        return [self._names.placed(service) for service in self._services[text]]

    def __iter__(self) -> Iterator[str]:
        return iter(self._services)

    def __len__(self) -> int:
        return len(self._services)


def _is_address(host: str) -> bool:
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True
