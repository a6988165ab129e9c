"""What others hook into: events, alert rules, webhooks and metrics of one node, fed from its other parts."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import random
from collections import Counter
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, Final

import osiris_mesh
from osiris_mesh.clock import Clock
from osiris_mesh.errors import Denied, UsageError
from osiris_mesh.function.spec import FunctionSpec
from osiris_mesh.gateway import config_keys
from osiris_mesh.gateway.alerts import Alerts, Fired, Transition
from osiris_mesh.gateway.deliveries import webhook_secret
from osiris_mesh.gateway.events import Bus, Event
from osiris_mesh.gateway.in_force import InForce
from osiris_mesh.gateway.metrics import Metrics
from osiris_mesh.gateway.readings import Rates, Readings, figures
from osiris_mesh.gateway.webhooks import Webhooks
from osiris_mesh.gossip import PeerState
from osiris_mesh.ledger.block import Block
from osiris_mesh.ledger.state import State
from osiris_mesh.node.news import News

if TYPE_CHECKING:
    from osiris_mesh.node.controller import Controller

__all__ = ["Hooks"]

_LOOK_SECONDS: Final = 1.0
_ALERT_SECONDS: Final = 5.0
_WHY: Final = 500
_log = logging.getLogger(__name__)


class Hooks:
    """The hooks of one node.

    Args:
        controller: Whose; its parts up to the functions are built.
        clock: Time.
        rng: Jitter.
        set_level: Sets what this process logs from; None: nobody can.

    Attributes:
        bus: Where events are published and read.
        metrics: What ``/metrics`` shows.
        webhooks: Where events go.
        in_force: Texts of the settings this node goes by, by key: :class:`osiris_mesh.gateway.in_force.InForce`.
    """

    def __init__(
        self, controller: Controller, clock: Clock, rng: random.Random, set_level: Callable[[str], None] | None = None
    ) -> None:
        self._node = controller
        self._clock = clock
        self._set_level = set_level
        self._level = ""
        self._settings: Mapping[str, str] | None = None
        self._in_force = InForce()
        self.in_force: Mapping[str, str] = {}
        self._shown: dict[str, bytes] = {}
        self._news = News(clock.monotonic())
        self._rates = Rates()
        self._alerts = Alerts()
        self._next_alerts = 0.0
        self.bus = Bus(clock)
        self.metrics = Metrics(self.readings)
        self.webhooks = Webhooks(
            controller.me,
            controller.options.name,
            self._secret_of,
            lambda: (controller.ledger.state.mesh_id, controller.ledger.state.name),
            clock,
            rng,
        )
        self.bus.on(self.webhooks.on_event)
        controller.functions.on_failed_tests(self._deploy_failed)

    # What the HTTP face asks.

    async def test_webhook(self, name: str) -> dict[str, Any]:
        """Send a test delivery now; return ok, status and detail."""
        return await self.webhooks.test(name)

    def webhook_secret(self, name: str, entry: bytes) -> str:
        """Return what a webhook's deliveries are signed with, once, to whoever just set it.

        Args:
            name: The webhook's.
            entry: Hash of the entry that set its URL.

        Raises:
            Denied: It was shown, set more than an hour ago, or set by another entry since.
        """
        state = self._node.ledger.state
        ours = entry and state.set_by.get(_url(name)) == entry
        if not ours or state.first_outcome(entry) is None or self._shown.get(name) == entry:
            raise Denied(
                "the secret of a webhook is shown once, to whoever sets it",
                fix=f"make a new one: osiris-mesh webhook add {name} URL",
            )
        self._shown[name] = entry
        return webhook_secret(self._node.network_key, name, entry)

    def _secret_of(self, name: str) -> str:
        return webhook_secret(self._node.network_key, name, self._node.ledger.state.set_by.get(_url(name), b""))

    def firing(self) -> list[tuple[str, str]]:
        """Return name and subject of the alert rules that hold now, as this node sees it."""
        return self._alerts.firing()

    # Running.

    def begin(self) -> None:
        """Take in the ledger as it stands, which is no news, and look about from now on."""
        state = self._node.ledger.state
        self._news = News(self._clock.monotonic())
        self._news.know(state)
        self._configure(state.settings)

    async def run(self) -> None:
        """Look about every second, and deliver webhooks, until cancelled."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self.webhooks.run(), name="webhooks")
            while True:
                if self._settings is not None:
                    self._look()
                await asyncio.sleep(_LOOK_SECONDS)

    def _look(self) -> None:
        now = self._clock.monotonic()
        functions = self._node.functions
        self.look_leader()
        self._publish(self._news.running(functions.running()))
        refused = {name: demand.refused for name, demand in functions.demand().items() if demand.refused}
        if functions.invoker.refused:
            refused[""] = functions.invoker.refused
        self._publish(self._news.refused(refused, now))
        if now >= self._next_alerts:
            self._next_alerts = now + _ALERT_SECONDS
            rates = self._rates.look(functions.invoker.meter.tallies, now)
            self._tell(self._alerts.look(figures(self.readings(), rates), now))

    # What happens.

    def on_peer(self, peer: str, state: PeerState) -> None:
        """Take in what gossip knows of a node now."""
        member = self._node.ledger.state.members.get(peer)
        if member is not None and peer != self._node.me:
            self._publish(self._news.peer(peer, member.name, state))

    def on_block(self, block: Block, state: State) -> None:
        """Take in a block."""
        self._publish(self._news.block(block, state, self._clock.time_ms()))
        if state.settings != self._settings:
            self._configure(state.settings)

    def look_leader(self) -> None:
        """See who leads."""
        leader, term, _, quorum = self._node.face.leadership()
        followed = leader if quorum else ""
        self.webhooks.leader(followed)
        self._publish(self._news.leadership(followed, term, self._clock.monotonic()))

    def _deploy_failed(self, spec: FunctionSpec, code: str, why: str) -> None:
        fields = {"function": spec.name, "version": spec.version, "code": code, "why": why[:_WHY]}
        self._publish([Event("deploy.failed", fields)])

    def _configure(self, settings: Mapping[str, str]) -> None:
        """Go by the settings as they are now; where one can't be read, by what its key says instead."""
        self._settings = dict(settings)
        in_force, unreadable = self._in_force.take(self._settings)
        self.in_force = in_force
        for one in unreadable:
            _log.warning("the setting %s can't be read, and %r holds: %s", one.key, one.holds, one.why)
            self._publish([Event("setting.unreadable", {"key": one.key, "why": one.why, "holds": one.holds})])
        for part in (self._set_webhooks, self._set_rules, self._set_retries, self._set_log_level):
            try:
                part(in_force)
            except Exception:  # noqa: BLE001 - the edge of what a setting may do: a node outlives any of them
                _log.exception("settings could not be put in force")

    def _set_webhooks(self, settings: Mapping[str, str]) -> None:
        # As they are set: without its events a webhook in force would get all of them.
        del settings
        self.webhooks.configure(config_keys.webhooks(self._settings or {}))

    def _set_rules(self, settings: Mapping[str, str]) -> None:
        self._tell(self._alerts.set_rules(config_keys.alert_rules(settings), self._clock.monotonic()))

    def _set_retries(self, settings: Mapping[str, str]) -> None:
        invoker = self._node.functions.invoker
        if "max_retries" in settings:
            invoker.attempts = 1 + config_keys.read(settings, "max_retries")
        else:
            invoker.attempts = self._node.settings.invoke.attempts

    def _set_log_level(self, settings: Mapping[str, str]) -> None:
        level = config_keys.read(settings, "log.level") if "log.level" in settings else ""
        if level != self._level and self._set_level is not None:
            self._level = level
            with contextlib.suppress(UsageError):
                self._set_level(level)

    def _tell(self, transitions: list[Transition]) -> None:
        for one in transitions:
            fields = {"alert": one.alert, "rule": one.rule.text, "figure": one.rule.figure, "subject": one.subject}
            if isinstance(one, Fired):
                value = round(one.value, 6)
                self._publish([Event("alert.firing", fields | {"value": value})])
                if one.rule.figure == "function.error_rate":
                    told = {"function": one.subject, "value": value, "alert": one.alert, "rule": one.rule.text}
                    self._publish([Event("function.error_rate", told)])
            else:
                self._publish([Event("alert.resolved", fields | {"seconds": round(one.seconds, 1)})])

    def tell(self, events: list[Event]) -> None:
        """Publish what another part of the node noticed."""
        self._publish(events)

    def _publish(self, events: list[Event]) -> None:
        for event in events:
            stamped = self.bus.publish(event)
            _log.info(event.name, extra={"sequence": stamped.sequence, "fields": dict(event.fields)})

    # What others ask.

    def readings(self) -> Readings:
        """Return this moment of the node."""
        node = self._node
        status, ledger, functions = node.raft.status(), node.ledger, node.functions
        leader, term, voters, quorum = node.face.leadership()
        return Readings(
            peer=node.me,
            node=node.options.name,
            version=osiris_mesh.__version__,
            calls=functions.invoker.meter.tallies,
            forgotten=functions.invoker.meter.forgotten,
            demand=functions.demand(),
            in_flight=functions.invoker.in_flight,
            refused=functions.invoker.refused,
            load=node.gossip.loads.get(node.me),
            members=Counter(node.face.states().values()),
            functions=len(ledger.state.functions),
            height=ledger.tip.height,
            entries=ledger.entries,
            lag=max(node.tips_height() - ledger.tip.height, 0),
            quorum=quorum,
            leads=leader == node.me,
            voters=len(voters),
            term=term,
            raft={"commit": status.commit_index, "applied": status.applied_index, "last": status.last_index},
            links=len(node.peers_linked()),
            gossip=node.gossip.counters(),
            events=self.bus.counts,
            readers=self.bus.readers,
            firing=Counter(alert for alert, _ in self._alerts.firing()),
            webhooks=self.webhooks.counts(),
            webhook_queue=self.webhooks.waiting(),
            registries=node.beyond.registries.readings(),
            provider_calls=node.beyond.tallies.by_outcome(),
            resolves=node.beyond.tallies.by_source(),
        )


def _url(name: str) -> str:
    return f"webhook.{name}.url"
