"""The HTTP face of one node, and the gRPC one: bound with the links, served last, stopped first.

Nothing of it is imported while ``http`` is ``off``: the server and what it brings are a fifth of a small node's memory.
"""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import TYPE_CHECKING

from osiris_mesh.access.audit import Trail
from osiris_mesh.access.policy import Policy
from osiris_mesh.access.watch import Watch
from osiris_mesh.clock import Clock
from osiris_mesh.identity.multiaddr import parse_host_port
from osiris_mesh.node.options import OFF
from osiris_mesh.registry.tree_ledger import TreeLedger

if TYPE_CHECKING:
    from osiris_mesh.gateway.grpc.server import GrpcServer
    from osiris_mesh.gateway.http.listener import Listener
    from osiris_mesh.gateway.http.parts import Parts
    from osiris_mesh.gateway.http.server import HttpServer
    from osiris_mesh.node.controller import Controller

__all__ = ["Web"]


class Web:
    """The HTTP face, or none where the options say ``off``.

    Args:
        controller: Whose.
        policy: Who may do what.
        clock: Time.
    """

    def __init__(self, controller: Controller, policy: Policy, clock: Clock) -> None:
        self._node = controller
        self._policy = policy
        self._clock = clock
        self._listener: Listener | None = None
        self._server: HttpServer | None = None
        self._grpc: GrpcServer | None = None

    @property
    def grpc(self) -> str | None:
        """``HOST:PORT`` of the gRPC face; None: there is none."""
        return None if self._grpc is None else self._grpc.address

    @property
    def url(self) -> str | None:
        """``http://HOST:PORT`` or ``https://HOST:PORT``; None: there is no HTTP face."""
        return None if self._listener is None else self._listener.url

    def bind(self) -> None:
        """Take the port; nobody is answered yet.

        Raises:
            Conflict: It is taken, and was asked for.
            UsageError: It would be open to others without TLS, or the certificate can't be used.
        """
        node, options = self._node, self._node.options
        if options.grpc:
            # The extra may be missing, and is told now.
            from osiris_mesh.gateway.grpc.server import check_address  # noqa: PLC0415 - see above

            check_address(options.grpc, tls=bool(options.http_cert))
        if options.http == OFF:
            return
        from osiris_mesh.gateway.http.listener import Listener  # noqa: PLC0415 - see above

        self._listener = Listener.bind(
            options.http, cert=options.http_cert, key=options.http_key, proxied=options.http_proxy
        )
        if options.http and parse_host_port(options.http)[1] == 0:
            node.options = replace(options, http=self._listener.text)
            node.options.save(node.home)

    async def start(self) -> None:
        """Begin to answer."""
        options = self._node.options
        if self._listener is None and not options.grpc:
            return
        parts = self._parts()
        if self._listener is not None:
            from osiris_mesh.gateway.http.server import HttpServer  # noqa: PLC0415 - see above

            self._server = HttpServer(parts, self._listener)
            await self._server.start()
        if options.grpc:
            from osiris_mesh.gateway.grpc.server import GrpcServer  # noqa: PLC0415 - see above

            self._grpc = GrpcServer(parts, options.grpc, cert=options.http_cert, key=options.http_key)
            await self._grpc.start()
            if parse_host_port(options.grpc)[1] == 0:
                self._node.options = replace(options, grpc=self._grpc.address)
                self._node.options.save(self._node.home)

    def _parts(self) -> Parts:
        from osiris_mesh.gateway.http.parts import Parts  # noqa: PLC0415 - see above
        from osiris_mesh.gateway.registry_files import RegistryFiles  # noqa: PLC0415 - see above

        node = self._node
        settings = node.settings.gateway
        watch = Watch(self._clock)
        node.ledger.on_block(watch.on_block)
        return Parts(
            node=node.face,
            book=node.ledger,
            functions=node.functions,
            calls=node.functions.invoker,
            policy=self._policy,
            events=node.hooks.bus,
            hooks=node.hooks,
            overview=node.overview.view,
            metrics=node.hooks.metrics.scrape,
            trail=Trail(node.ledger),
            builds=node.builds,
            in_force=lambda: node.hooks.in_force,
            registries=node.beyond.methods,
            tree=RegistryFiles(TreeLedger("ledger", node.ledger), self._clock),
            settings=settings,
            clock=self._clock,
            watch=watch,
        )

    async def drain(self, seconds: float) -> None:
        """Take no new requests, and wait for those under way."""
        async with asyncio.TaskGroup() as group:
            if self._grpc is not None:
                group.create_task(self._grpc.close(seconds))
            if self._server is not None:
                group.create_task(self._drain_http(self._server, seconds))

    @staticmethod
    async def _drain_http(server: HttpServer, seconds: float) -> None:
        await server.drain(seconds)

    async def close(self) -> None:
        """Close every connection, and the ports."""
        if self._grpc is not None:
            await self._grpc.close()
        if self._server is not None:
            await self._server.close()
        elif self._listener is not None:
            self._listener.close()
