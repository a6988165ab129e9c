"""The shell around :mod:`osiris_mesh.gateway.deliveries`: sends what is due, over connections to checked addresses.

aiohttp is imported with the first delivery: a mesh without webhooks never pays for it.
"""

from __future__ import annotations

import asyncio
import json
import logging
import random
import secrets
import socket
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, Final

from osiris_mesh.clock import Clock
from osiris_mesh.errors import NotFound
from osiris_mesh.gateway.config_keys import Webhook
from osiris_mesh.gateway.deliveries import Delivery, Duty, Queue, body_of, delivery_id, headers_of
from osiris_mesh.gateway.events import Event, matches
from osiris_mesh.gateway.webhook_target import refusal

if TYPE_CHECKING:
    import aiohttp

__all__ = ["TEST", "Webhooks"]

TEST: Final = "webhook.test"
"""What ``Osiris-Event`` says of a test delivery; no event of the mesh is called so."""
_TRY_SECONDS: Final = 10.0
_CONNECT_SECONDS: Final = 5.0
_IDLE_SECONDS: Final = 3600.0
_MAX_ADDRESSES: Final = 16
_log = logging.getLogger("osiris.webhooks")


class Webhooks:
    """Delivers events to the webhooks of the mesh's settings.

    Args:
        me: Peer id of this node.
        node: Its name.
        secret: Returns what the deliveries of a webhook are signed with, by its name.
        mesh: Returns the mesh's id and name.
        clock: Time.
        rng: Jitter.
        context: TLS of https targets; None: the system's certificate authorities.
    """

    def __init__(
        self,
        me: str,
        node: str,
        secret: Callable[[str], str],
        mesh: Callable[[], tuple[bytes, str]],
        clock: Clock,
        rng: random.Random,
        *,
        context: Any = None,
    ) -> None:
        self._me = me
        self._node = node
        self._secret = secret
        self._mesh = mesh
        self._clock = clock
        self._rng = rng
        self._context = context
        self._duty = Duty(me)
        self._leader = ""
        self._hooks: dict[str, Webhook] = {}
        self._queues: dict[str, Queue] = {}
        self._wake = asyncio.Event()

    # What happens.

    def configure(self, hooks: Mapping[str, Webhook]) -> None:
        """Deliver to these from now on; what waits for others is forgotten."""
        if hooks != self._hooks:
            self._hooks = dict(hooks)
            self._queues = {name: self._queues.get(name) or Queue(self._rng) for name in hooks}
            self._wake.set()

    def on_event(self, event: Event) -> None:
        """Take an event from the bus."""
        if self._duty.deliver(event, self._leader, self._clock.monotonic()):
            self._put(event)

    def leader(self, peer: str) -> None:
        """Take in who leads; empty: nobody is known to."""
        self._leader = peer
        for event in self._duty.led(peer, self._clock.monotonic()):
            self._put(event)

    def _put(self, event: Event) -> None:
        now = self._clock.monotonic()
        mesh_id, mesh = self._mesh()
        body = b""
        for name, hook in self._hooks.items():
            if matches(hook.patterns, event.name):
                body = body or body_of(event, mesh=mesh, peer=self._me, node=self._node)
                which = delivery_id(mesh_id, name, self._me, event)
                self._queues[name].put(Delivery(which, event.name, body, now, now))
                self._wake.set()

    # What others ask.

    def counts(self) -> dict[tuple[str, str], int]:
        """Return deliveries by webhook and what became of them."""
        return {
            (name, became): queue.counts[became]
            for name, queue in self._queues.items()
            for became in ("delivered", "failed", "dropped", "retried")
        }

    def waiting(self) -> dict[str, int]:
        """Return deliveries that wait, by webhook."""
        return {name: len(queue) for name, queue in self._queues.items()}

    async def test(self, name: str) -> dict[str, Any]:
        """Send a test delivery, ``webhook.test``, now and once; return ok, status (or None) and detail.

        Raises:
            NotFound: There is no such webhook.
        """
        hook = self._hooks.get(name)
        if hook is None:
            raise NotFound(f"no webhook is called {name!r}", fix="see: osiris-mesh webhook list")
        _, mesh = self._mesh()
        now, wall = self._clock.monotonic(), self._clock.time_ms()
        body = {"event": TEST, "time_ms": wall, "mesh": mesh, "node": self._node, "peer_id": self._me, "fields": {}}
        data = json.dumps(body, ensure_ascii=False, separators=(",", ":"), sort_keys=True).encode()
        delivery = Delivery(secrets.token_hex(16), TEST, data, now, now)
        session = self._session(secure=hook.target.secure)
        try:
            status, why, _ = await self._post(session, hook, delivery)
        finally:
            await session.close()
        return {"ok": status is not None and 200 <= status < 300, "status": status, "detail": why}

    # Running.

    async def run(self) -> None:
        """Send what is due until cancelled."""
        sessions: dict[bool, aiohttp.ClientSession] = {}
        try:
            async with asyncio.TaskGroup() as group:
                while True:
                    self._wake.clear()
                    now = self._clock.monotonic()
                    for name, queue in self._queues.items():
                        delivery = queue.take(now)
                        if delivery is not None:
                            hook = self._hooks[name]
                            secure = hook.target.secure
                            if secure not in sessions:
                                sessions[secure] = self._session(secure=secure)
                            group.create_task(self._try(sessions[secure], hook, queue, delivery))
                    await self._pause(now)
        finally:
            for session in sessions.values():
                await session.close()

    def poke(self) -> None:
        """Look at once what is due, rather than when the time was said to have come."""
        self._wake.set()

    async def _pause(self, now: float) -> None:
        due = [when for queue in self._queues.values() if (when := queue.due()) is not None]
        try:
            async with asyncio.timeout(max(min(due, default=now + _IDLE_SECONDS) - now, 0.0)):
                await self._wake.wait()
        except TimeoutError:
            pass

    async def _try(self, session: aiohttp.ClientSession, hook: Webhook, queue: Queue, delivery: Delivery) -> None:
        try:
            status, why, later = await self._post(session, hook, delivery)
        except Exception as defect:  # noqa: BLE001 - a task's outermost edge; one try is lost, and it is logged
            _log.exception("a webhook could not be sent", extra={"webhook": hook.name})
            status, why, later = None, type(defect).__name__, 0.0
        became = queue.answered(status, self._clock.monotonic(), later)
        if became != "delivered":
            _log.warning(
                "webhook not delivered" if became == "failed" else "webhook to be tried again",
                extra={
                    "webhook": hook.name,
                    "delivery": delivery.id,
                    "event_name": delivery.event,
                    "tries": delivery.tries,
                    "why": why,
                },
            )
        self._wake.set()

    async def _post(
        self, session: aiohttp.ClientSession, hook: Webhook, delivery: Delivery
    ) -> tuple[int | None, str, float]:
        """Send one try; return status, or None and why there is none, and how long the receiver asks us to wait."""
        import aiohttp  # noqa: PLC0415 - imported by _session already

        headers = headers_of(delivery, self._secret(hook.name), self._clock.time_ms() // 1000)
        try:
            async with session.post(
                hook.target.url,
                data=delivery.body,
                headers=headers,
                allow_redirects=False,
                timeout=aiohttp.ClientTimeout(total=_TRY_SECONDS, sock_connect=_CONNECT_SECONDS),
            ) as answer:
                # Nothing of the body is read: what a receiver says beyond the status is nobody's business here.
                return answer.status, f"answered {answer.status}", _seconds(answer.headers.get("Retry-After", ""))
        except TimeoutError:
            return None, f"no answer within {_TRY_SECONDS:g} s", 0.0
        except (aiohttp.ClientError, OSError, ValueError) as error:
            return None, f"{type(error).__name__}: {error}"[:300], 0.0

    def _session(self, *, secure: bool) -> aiohttp.ClientSession:
        """Return a session whose connections go to checked addresses only, one at a time and never kept."""
        import aiohttp  # noqa: PLC0415 - heavy, and most nodes never deliver anything

        connector = aiohttp.TCPConnector(
            resolver=_resolver(secure=secure),
            force_close=True,
            use_dns_cache=False,
            ssl=True if self._context is None else self._context,
            limit=2 * len(self._queues) + 8,
        )
        return aiohttp.ClientSession(
            connector=connector,
            trust_env=False,
            cookie_jar=aiohttp.DummyCookieJar(),
            headers={"User-Agent": "osiris-mesh"},
        )


def _seconds(text: str) -> float:
    return float(text) if text.isascii() and text.isdigit() and len(text) <= 6 else 0.0


def _resolver(*, secure: bool) -> Any:
    """Return a resolver that finds nothing but addresses webhooks may go to.

    An address written into a URL never comes here; :class:`osiris_mesh.gateway.webhook_target.Target` checked it.
    """
    from aiohttp.abc import AbstractResolver, ResolveResult  # noqa: PLC0415 - with the session

    class Checked(AbstractResolver):
        async def resolve(
            self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_UNSPEC
        ) -> list[ResolveResult]:
            loop = asyncio.get_running_loop()
            found = await loop.getaddrinfo(host, port, type=socket.SOCK_STREAM, family=family)
            good: list[ResolveResult] = []
            reason = "it has no address"
            for kind, _, protocol, _, address in found[:_MAX_ADDRESSES]:
                reason = refusal(str(address[0]), secure=secure)
                if not reason:
                    good.append(
                        ResolveResult(
                            hostname=host,
                            host=str(address[0]),
                            port=port,
                            family=kind,
                            proto=protocol,
                            flags=int(socket.AI_NUMERICHOST),
                        )
                    )
            if not good:
                raise OSError(f"{host} can't be used: {reason}")
            return good

        async def close(self) -> None:
            """Nothing is held."""

    return Checked()
