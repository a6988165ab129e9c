"""What a node reaches beyond its mesh: registries, the providers of their records, and what calls of these come to."""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Final, Literal

from osiris_mesh.clock import Clock
from osiris_mesh.errors import OsirisError
from osiris_mesh.gateway.events import Event
from osiris_mesh.gateway.in_force import Held
from osiris_mesh.gateway.registry_methods import RegistryMethods
from osiris_mesh.identity.keys import KeyPair
from osiris_mesh.invoke.outside import Outside, Used
from osiris_mesh.invoke.state_view import StateView
from osiris_mesh.link import Audience, Links, Request, Router
from osiris_mesh.node.choosing import MeshChooser
from osiris_mesh.node.credentials import CredentialFile, KeptCredentials
from osiris_mesh.node.placing import Placing
from osiris_mesh.node.registries import Registries
from osiris_mesh.node.registry_news import RegistryNews, problems_of
from osiris_mesh.node.tallies import BeyondTallies
from osiris_mesh.registry.context import FULL, Context, parse
from osiris_mesh.registry.guard import Guard
from osiris_mesh.registry.health import Health
from osiris_mesh.registry.metering_store import Metering
from osiris_mesh.registry.providers.endpoint import Discovery, Endpoint, Endpoints
from osiris_mesh.registry.record import Provider, Record
from osiris_mesh.registry.region_peers import METHOD as PEEK
from osiris_mesh.registry.reputation import Reputation
from osiris_mesh.registry.resolution import Resolution
from osiris_mesh.registry.selection import Standing

if TYPE_CHECKING:
    from osiris_mesh.gateway.dns.directory import Service
    from osiris_mesh.invoke.contexts import Contexts
    from osiris_mesh.node.controller import Controller
    from osiris_mesh.settings.registry import Policy, RegistrySettings

__all__ = ["Beyond"]

_TOPIC: Final = "health"
_DISCOVER_S: Final = 30.0
_FIND_S: Final = 1.4
_WATCH_S: Final = 5.0
_MAX_TOLD: Final = 300
_log = logging.getLogger(__name__)


class Beyond:
    """Registries and providers of one node; belongs to the loop.

    Args:
        controller: Whose.
        links: Its links.
        contexts: Which security context a call is in.
        clock: Time.
        rng: Jitter and turns.

    Attributes:
        placing: Tells where the providers answer that this node is.
        registries: The node's registries.
        outside: Calls what only they know; for the invoker.
        metering: What calls of providers amount to.
        methods: What faces ask; there once it is registered.
        tallies: What calls beyond the mesh came to.
    """

    methods: RegistryMethods

    def __init__(
        self, controller: Controller, links: Links, contexts: Contexts, clock: Clock, rng: random.Random
    ) -> None:
        self._node = controller
        self._links = links
        self._clock = clock
        self._rng = rng
        settings = replace(controller.settings.registry, region=controller.options.region)
        self.tallies = BeyondTallies()
        self._mesh_context = Held("registry.context", "")
        self._allowed = Held("registry.allow_networks", ())
        self._policy = Held("registry.policy", "")
        self._chooser = Held("registry.chooser", "")
        self._choosing = MeshChooser(lambda: controller.functions.invoker, lambda: self._chooser_now(settings), clock)
        self.registries = Registries(
            controller.home.path,
            controller.ledger,
            StateView(controller.ledger),
            settings=settings,
            clock=clock,
            rng=rng,
            near=self._near,
            call=self._ask_peer,
            policy=lambda: self._policy_now(settings),
            chooser=self._choosing,
            tell_names=lambda names: self.health.tell_names(names),  # noqa: PLW0108 - made below
        )
        self._shown = KeptCredentials(CredentialFile(controller.home.path), clock)
        self._endpoints: Endpoints | None = None
        self._endpoints_for: tuple[str, ...] = ()
        self._reputation = Reputation(half_life=settings.half_life_s, limit=settings.providers)
        self.health = Health(
            self.registries.resolver,
            self.registries.standings,
            self._reputation,
            self.registries.placements,
            prober=self,
            publish=lambda body: controller.gossip.publish(_TOPIC, body),
            settings=settings,
            clock=clock,
            rng=rng,
            on_state=self._provider_changed,
        )
        self.placing = Placing(
            KeyPair.load(controller.home.node_key),
            self._records,
            self.health.tell_placement,
            region=controller.options.region,
            clock=clock,
        )
        self.metering = Metering(controller.home.path / "registry" / "usage.sqlite3", clock)
        self.outside = Outside(
            self,
            self,
            self,
            contexts=contexts.of,
            attempts=controller.settings.invoke.attempts,
            clock=clock,
            used=self._used,
        )

    def register(self, router: Router) -> None:
        """Serve ``registry.*`` and listen to what other members say of providers."""
        self.methods = RegistryMethods(
            router, self.registries, self.metering, self.discover, self.mesh_context, self._clock
        )
        router.unary(PEEK, self._answer_peer, allow=Audience.MEMBER)
        self._node.gossip.on(_TOPIC, self.health.on_news)

    def mesh_context(self) -> Context:
        """Return the mesh's own security context: its setting ``registry.context``."""
        text = self._mesh_context.of(self._node.ledger.state.settings)
        return parse(text) if text else FULL

    # --- life ------------------------------------------------------------------------------------------------------

    async def open(self) -> None:
        """Read what was kept.

        Raises:
            Conflict: A file of it is damaged.
        """
        await self.registries.open()
        await self.metering.start()

    async def run(self) -> None:
        """Keep registries in step and probe providers, until cancelled; then write down what was seen."""
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(self.registries.run(), name="registries")
                group.create_task(self.health.run(), name="health")
                group.create_task(self.metering.run(), name="metering")
                group.create_task(self.placing.run(), name="placing")
                group.create_task(self._watch(), name="registry news")
        finally:
            await self._close()

    async def _close(self) -> None:
        await self.registries.close()
        await self._choosing.close()
        await self.metering.close()
        if self._endpoints is not None:
            await self._endpoints.close()

    # --- what the outside needs (:class:`osiris_mesh.invoke.outside.Names`, ``Providers``, ``Health``) ----------------

    def asks(self) -> bool:
        """Say whether there is any registry."""
        return bool(self.registries.roster.entries)

    def resolve_now(self, text: str, now: float, context: Context = FULL) -> Resolution | None:
        """Return what a reference comes to, if that is known and fresh."""
        try:
            found = self.registries.resolver.resolve_now(text, now, context)
        except OsirisError as error:
            self.tallies.missed(error, "cache")
            raise
        if found is not None:
            self.tallies.found(found, "cache")
        return found

    async def resolve(
        self, text: str, *, deadline: float, context: Context = FULL, explain: bool = False
    ) -> Resolution:
        """Return what a reference comes to."""
        found = None if explain else self.resolve_now(text, self._clock.monotonic(), context)
        if found is not None:
            return found
        try:
            found = await self.registries.resolver.resolve(text, deadline=deadline, context=context, explain=explain)
        except OsirisError as error:
            self.tallies.missed(error, "registry")
            raise
        self.tallies.found(found, "registry")
        return found

    async def call(
        self,
        provider: Provider,
        name: str,
        args: Any,
        kwargs: Mapping[str, Any],
        *,
        deadline: float | None,
        headers: Mapping[str, Any],
    ) -> Any:
        """Call a function of a provider."""
        endpoints = await self._reachable()
        return await endpoints.call(provider, name, args, kwargs, deadline=deadline, headers=headers)

    async def probe(self, provider: Provider) -> None:
        """Find out whether a provider answers."""
        await (await self._reachable()).probe(provider)

    def began(self, provider: Provider) -> bool:
        """Note the start of a call."""
        began = self.health.began(provider)
        if not began:
            self.tallies.calls["left_alone"] += 1
        return began

    def abandoned(self, provider: Provider) -> None:
        """Note that a call ended without saying anything about the provider."""
        self.tallies.calls["abandoned"] += 1
        self.health.abandoned(provider)

    def answered(self, provider: Provider, seconds: float) -> None:
        """Note that a call was answered."""
        self.tallies.calls["answered"] += 1
        self.health.answered(provider, seconds)

    def failed(self, provider: Provider) -> None:
        """Note that a call was not answered."""
        self.tallies.calls["failed"] += 1
        self.health.failed(provider)

    def response_ms(self, provider: Provider) -> float:
        """Return the time an answer is expected to take."""
        return self.registries.standings.response_ms(provider, self._clock.monotonic())

    def standing(self, provider: Provider) -> Standing:
        """Return all that is known of a provider now."""
        return self.registries.standings.standing(provider, self._clock.monotonic())

    # --- what faces ask ----------------------------------------------------------------------------------------------

    async def discover(self, endpoint: str) -> Discovery:
        """Ask an endpoint what it offers.

        Raises:
            UsageError: This kind of endpoint describes nothing.
            OsirisError: It does not answer, or not in bounds.
        """
        endpoints = await self._reachable()
        return await endpoints.discover(endpoint, deadline=self._clock.monotonic() + _DISCOVER_S)

    async def services(self, name: str) -> list[Service]:
        """Return a function of a registry as DNS tells it; none: nobody knows it.

        Raises:
            OsirisError: Nobody could say.
        """
        from osiris_mesh.gateway.dns.directory import Place, Service  # noqa: PLC0415 - not loaded where DNS is off
        from osiris_mesh.registry.providers.places import place_of  # noqa: PLC0415

        if not self.asks():
            return []
        try:
            found = await self.resolve(name, deadline=self._clock.monotonic() + _FIND_S, context=self.mesh_context())
        except OsirisError as error:
            if error.code == "not_found":
                return []
            raise
        if found.bound is None:
            return []
        places = [place for place in map(place_of, found.providers) if place is not None]
        kept = tuple(Place(host, port, 20, weight, outside=True) for host, port, weight in places)
        return [Service(found.name, str(found.version), found.bound.binding.digest, kept)]

    def _chooser_now(self, settings: RegistrySettings) -> str:
        return str(self._chooser.of(self._node.ledger.state.settings)) or settings.chooser

    def _policy_now(self, settings: RegistrySettings) -> Policy | Literal[""]:
        policy: Policy | Literal[""] = self._policy.of(self._node.ledger.state.settings)
        # Both settings come one after the other; until the function is named, the default holds.
        return "balanced" if policy == "custom" and not self._chooser_now(settings) else policy

    async def _records(self) -> list[Record]:
        if not self.asks():
            return []
        return await self.registries.records_of(self._node.ledger.state.functions)

    async def _watch(self) -> None:
        """Tell of what registries said that was refused, of checkpoints that end soon, and renew those it may."""
        news = RegistryNews()
        while True:
            try:
                await self.registries.renew()
                told = news.look(self.registries.states(), self._clock.time_ms())
                self._node.hooks.tell([Event(name, fields) for name, fields in told])
            except Exception:  # noqa: BLE001 - a defect met at one registry must not end the node
                _log.exception("registry_news_defect")
            await asyncio.sleep(_WATCH_S)

    def _provider_changed(self, provider: Provider, is_down: bool) -> None:
        fields = {"provider": provider.id, "endpoint": provider.endpoint[:_MAX_TOLD]}
        self._node.hooks.tell([Event("provider.down" if is_down else "provider.up", fields)])

    def problems(self) -> list[tuple[str, str, str]]:
        """Return what is wrong with registries, for the doctor: name, what, and what to do."""
        return problems_of(self.registries.states(), self._clock.time_ms())

    def _near(self) -> list[str]:
        return [peer for peer in self.health.near() if self._node.gossip.alive(peer)]

    async def _ask_peer(self, peer: str, body: bytes, deadline: float) -> bytes:
        link = await self._links.to(peer)
        return await link.call(PEEK, body, timeout=max(deadline - self._clock.monotonic(), 0.001))

    async def _answer_peer(self, request: Request) -> bytes:
        return await self.registries.peers.answer(request.body)

    # --- within ------------------------------------------------------------------------------------------------------

    def _used(self, used: Used) -> None:
        provider = used.provider
        self.metering.add(
            provider=provider.id,
            caller=used.caller,
            function=used.function,
            cost_micros=provider.cost_micros if used.ok else 0,
            currency=provider.currency,
            time_us=int(used.seconds * 1e6),
            ok=used.ok,
        )

    async def _reachable(self) -> Endpoints:
        """Return what asks providers, made when it is first needed, and anew when the networks it may reach change."""
        allowed = tuple(self._allowed.of(self._node.ledger.state.settings))
        if self._endpoints is None or allowed != self._endpoints_for:
            before, self._endpoints = self._endpoints, self._make(allowed)
            self._endpoints_for = allowed
            if before is not None:
                await before.close()
        return self._endpoints

    def _make(self, allowed: tuple[str, ...]) -> Endpoints:
        from osiris_mesh.registry.providers.exchange import Exchange  # noqa: PLC0415 - most nodes never need them
        from osiris_mesh.registry.providers.https import HttpsEndpoint  # noqa: PLC0415
        from osiris_mesh.registry.providers.mesh import MeshEndpoint  # noqa: PLC0415
        from osiris_mesh.registry.providers.network import open_session  # noqa: PLC0415

        guard = Guard(allowed)
        credentials = self._shown
        exchange = Exchange(open_session(guard), guard)
        https = HttpsEndpoint(exchange, self._clock, credentials)
        mesh = MeshEndpoint(self._links, https, self._clock, credentials, rng=self._rng)

        def make_mcp() -> Endpoint:
            # An extra, and 30 MB of a node that asks nobody by it.
            from osiris_mesh.registry.providers.mcp import McpEndpoint  # noqa: PLC0415 - see above

            return McpEndpoint(exchange, self._clock, credentials)

        def make_market() -> Endpoint:
            from osiris_mesh.node.markets import NodeMarkets  # noqa: PLC0415 - see above
            from osiris_mesh.registry.providers.market import MarketEndpoint  # noqa: PLC0415

            markets = NodeMarkets(self.registries.in_ledger, self.registries.shelf, self._clock)
            return MarketEndpoint(markets, endpoints)

        endpoints = Endpoints(
            {"https": https, "http": https, "mesh": mesh}, {"mcp": make_mcp, "marketplace": make_market}
        )
        return endpoints
