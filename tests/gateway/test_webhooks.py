"""Webhooks over real connections: to servers that take, refuse, redirect, hang, and to addresses that are refused."""

from __future__ import annotations

import asyncio
import contextlib
import json
import random
import socket
import ssl
from collections.abc import AsyncIterator, Callable

import pytest
import trustme
from aiohttp import web

from osiris_mesh.clock import FakeClock
from osiris_mesh.errors import NotFound
from osiris_mesh.gateway import webhooks as shell
from osiris_mesh.gateway.config_keys import webhooks as read_webhooks
from osiris_mesh.gateway.deliveries import sign, webhook_secret
from osiris_mesh.gateway.events import Bus, Event
from osiris_mesh.gateway.webhooks import Webhooks

KEY = bytes(range(32))


class Receiver:
    """A server that answers as told and remembers what it was sent."""

    def __init__(self) -> None:
        self.answers: list[int] = []
        self.headers: dict[str, str] = {}
        self.got: list[tuple[web.Request, bytes]] = []
        self.hangs = asyncio.Event()
        self.hangs.set()
        self.other = 0
        self.arrived = asyncio.Event()

    async def hook(self, request: web.Request) -> web.Response:
        self.got.append((request, await request.read()))
        self.arrived.set()
        await self.hangs.wait()
        return web.Response(status=self.answers.pop(0) if self.answers else 204, headers=self.headers)

    async def elsewhere(self, _request: web.Request) -> web.Response:
        self.other += 1
        return web.Response()


@contextlib.asynccontextmanager
async def serving(receiver: Receiver, context: ssl.SSLContext | None = None) -> AsyncIterator[int]:
    app = web.Application()
    app.router.add_post("/hook", receiver.hook)
    app.router.add_route("*", "/elsewhere", receiver.elsewhere)
    runner = web.AppRunner(app, shutdown_timeout=0.1)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0, ssl_context=context)
    await site.start()
    try:
        yield runner.addresses[0][1]
    finally:
        receiver.hangs.set()
        await runner.cleanup()


def secret_of(name: str) -> str:
    return webhook_secret(KEY, name, bytes(32))


class Sender:
    """A bus and the webhooks behind it, with time in hand."""

    def __init__(self, me: str = "me", context: ssl.SSLContext | None = None) -> None:
        self.clock = FakeClock()
        self.bus = Bus(self.clock)
        self.hooks = Webhooks(
            me, "n1", secret_of, lambda: (b"mesh", "lab"), self.clock, random.Random(1), context=context
        )
        self.bus.on(self.hooks.on_event)
        self.hooks.leader(me)

    def configure(self, **settings: str) -> None:
        self.hooks.configure(read_webhooks({f"webhook.{key.replace('_', '.')}": url for key, url in settings.items()}))

    def later(self, seconds: float) -> None:
        self.clock.advance(seconds)
        self.hooks.poke()

    async def became(self, **counts: int) -> None:
        async with asyncio.timeout(10):
            while any(self.hooks.counts().get(("ops", name), 0) < count for name, count in counts.items()):
                await asyncio.sleep(0.005)
        seen = {name: self.hooks.counts()["ops", name] for name in counts}
        assert seen == counts


@contextlib.asynccontextmanager
async def running(sender: Sender) -> AsyncIterator[None]:
    task = asyncio.create_task(sender.hooks.run())
    try:
        yield
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


@pytest.fixture
async def receiver() -> Receiver:
    return Receiver()


async def test_a_delivery_is_signed_and_complete(receiver: Receiver) -> None:
    sender = Sender()
    async with serving(receiver) as port, running(sender):
        sender.configure(ops_url=f"http://localhost:{port}/hook", ops_events="node.*")
        sender.bus.publish(Event("quorum.lost"))
        event = sender.bus.publish(Event("node.lost", {"peer": "p", "node": "n2"}))
        await sender.became(delivered=1)
    [(request, body)] = receiver.got
    assert json.loads(body) == {
        "event": "node.lost",
        "fields": {"node": "n2", "peer": "p"},
        "mesh": "lab",
        "node": "n1",
        "peer_id": "me",
        "time_ms": event.time_ms,
    }
    timestamp = request.headers["Osiris-Timestamp"]
    assert int(timestamp) == sender.clock.time_ms() // 1000
    assert request.headers["Osiris-Signature"] == sign(secret_of("ops"), int(timestamp), body)
    assert request.headers["Osiris-Event"] == "node.lost"
    assert len(request.headers["Osiris-Delivery"]) == 32
    assert request.headers["Content-Type"] == "application/json"


async def test_failures_are_tried_again_with_the_same_id(receiver: Receiver) -> None:
    sender = Sender()
    receiver.answers = [500, 404]
    async with serving(receiver) as port, running(sender):
        sender.configure(ops_url=f"http://127.0.0.1:{port}/hook")
        sender.bus.publish(Event("node.lost"))
        await sender.became(retried=1, delivered=0)
        sender.later(3)
        await sender.became(retried=2, delivered=0)
        sender.later(5)
        await sender.became(delivered=1)
    assert len({request.headers["Osiris-Delivery"] for request, _ in receiver.got}) == 1
    assert len({request.headers["Osiris-Signature"] for request, _ in receiver.got}) == 3
    assert sender.hooks.waiting() == {"ops": 0}


@pytest.mark.parametrize("status", [301, 302, 307, 308])
async def test_redirects_are_not_followed(receiver: Receiver, status: int) -> None:
    sender = Sender()
    receiver.answers = [status]
    receiver.headers = {"Location": "/elsewhere"}
    async with serving(receiver) as port, running(sender):
        sender.configure(ops_url=f"http://127.0.0.1:{port}/hook")
        sender.bus.publish(Event("node.lost"))
        await sender.became(retried=1)
    assert (len(receiver.got), receiver.other) == (1, 0)


async def test_a_receiver_that_hangs_costs_its_own_time_only(
    receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shell, "_TRY_SECONDS", 0.2)
    sender, quick = Sender(), Receiver()
    receiver.hangs.clear()
    async with serving(receiver) as port, serving(quick) as other, running(sender):
        sender.configure(ops_url=f"http://127.0.0.1:{port}/hook", quick_url=f"http://127.0.0.1:{other}/hook")
        for _ in range(3):
            sender.bus.publish(Event("queue.full"))
        async with asyncio.timeout(5):
            while len(quick.got) < 3:
                await asyncio.sleep(0.005)
        await sender.became(retried=3)
        assert sender.hooks.waiting() == {"ops": 3, "quick": 0}


async def test_nobody_listens(unused: int) -> None:
    sender = Sender()
    async with running(sender):
        sender.configure(ops_url=f"http://127.0.0.1:{unused}/hook")
        sender.bus.publish(Event("node.lost"))
        await sender.became(retried=1)


@pytest.fixture
def unused() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


async def test_the_address_is_checked_after_the_name_was_looked_up(
    receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    sender = Sender()
    meant = {"hook.localhost": "192.0.2.1", "metadata.example": "169.254.169.254"}
    loop = asyncio.get_running_loop()
    asked: list[str] = []

    async def getaddrinfo(host: str, port: int, **_: object) -> list[tuple[object, ...]]:
        asked.append(host)
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (meant[host], port))]

    monkeypatch.setattr(loop, "getaddrinfo", getaddrinfo)
    async with serving(receiver) as port, running(sender):
        sender.configure(ops_url=f"http://hook.localhost:{port}/hook", meta_url=f"https://metadata.example:{port}/hook")
        sender.bus.publish(Event("node.lost"))
        await sender.became(retried=1)
        async with asyncio.timeout(5):
            while sender.hooks.counts()["meta", "retried"] < 1:
                await asyncio.sleep(0.005)
    assert sorted(asked) == ["hook.localhost", "metadata.example"]
    assert receiver.got == []


async def test_https_with_a_certificate_that_holds_and_one_that_does_not(receiver: Receiver) -> None:
    authority, stranger = trustme.CA(), trustme.CA()
    client = ssl.create_default_context()
    authority.configure_trust(client)
    for issuer, counts in ((authority, {"delivered": 1}), (stranger, {"retried": 1, "delivered": 0})):
        server = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        issuer.issue_cert("localhost").configure_cert(server)
        sender = Sender(context=client)
        async with serving(receiver, server) as port, running(sender):
            sender.configure(ops_url=f"https://localhost:{port}/hook")
            sender.bus.publish(Event("node.lost"))
            await sender.became(**counts)
    assert len(receiver.got) == 1


async def test_of_three_nodes_the_leader_delivers_once(receiver: Receiver) -> None:
    senders = [Sender(name) for name in ("a", "b", "c")]
    async with contextlib.AsyncExitStack() as stack:
        port = await stack.enter_async_context(serving(receiver))
        for sender in senders:
            await stack.enter_async_context(running(sender))
            sender.configure(ops_url=f"http://127.0.0.1:{port}/hook")
            sender.hooks.leader("b")
        for sender in senders:
            sender.bus.publish(Event("node.lost", {"peer": "d"}))
        await senders[1].became(delivered=1)
        # The leader is lost: whoever leads next says so, once.
        for sender in (senders[0], senders[2]):
            sender.bus.publish(Event("node.lost", {"peer": "b"}))
            sender.hooks.leader("")
        for sender in (senders[0], senders[2]):
            sender.hooks.leader("c")
        await senders[2].became(delivered=1)
        assert senders[0].hooks.waiting() == {"ops": 0}
    assert [json.loads(body)["fields"]["peer"] for _, body in receiver.got] == ["d", "b"]


async def test_a_webhook_that_goes_is_not_delivered_to(receiver: Receiver) -> None:
    sender = Sender()
    async with serving(receiver) as port, running(sender):
        receiver.hangs.clear()
        sender.configure(ops_url=f"http://127.0.0.1:{port}/hook")
        for _ in range(5):
            sender.bus.publish(Event("queue.full"))
        async with asyncio.timeout(5):
            await receiver.arrived.wait()
        sender.configure()
        receiver.hangs.set()
        sender.configure(ops_url=f"http://127.0.0.1:{port}/hook", ops_events="quorum.lost")
        sender.bus.publish(Event("quorum.lost"))
        await sender.became(delivered=1)
    assert [request.headers["Osiris-Event"] for request, _ in receiver.got] == ["queue.full", "quorum.lost"]


async def test_the_environments_proxy_is_not_used(receiver: Receiver, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("http_proxy", "HTTP_PROXY", "ALL_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    monkeypatch.delenv("no_proxy", raising=False)
    sender = Sender()
    async with serving(receiver) as port, running(sender):
        sender.configure(ops_url=f"http://127.0.0.1:{port}/hook")
        sender.bus.publish(Event("node.lost"))
        await sender.became(delivered=1)


async def test_a_defect_costs_one_try(receiver: Receiver, monkeypatch: pytest.MonkeyPatch) -> None:
    broken: list[int] = [1]
    genuine: Callable[..., dict[str, str]] = shell.headers_of

    def headers_of(*arguments: object) -> dict[str, str]:
        if broken.pop() if broken else 0:
            raise TypeError("a defect")
        return genuine(*arguments)

    monkeypatch.setattr(shell, "headers_of", headers_of)
    sender = Sender()
    async with serving(receiver) as port, running(sender):
        sender.configure(ops_url=f"http://127.0.0.1:{port}/hook")
        sender.bus.publish(Event("node.lost"))
        await sender.became(retried=1)
        sender.later(5)
        await sender.became(delivered=1)


async def test_a_test_delivery_is_signed_and_sent_once() -> None:
    receiver, sender = Receiver(), Sender()
    async with serving(receiver) as port:
        sender.configure(ops_url=f"http://127.0.0.1:{port}/hook")
        assert await sender.hooks.test("ops") == {"ok": True, "status": 204, "detail": "answered 204"}
        receiver.answers = [500]
        refused = await sender.hooks.test("ops")
        assert (refused["ok"], refused["status"]) == (False, 500)
        assert len(receiver.got) == 2
        request, body = receiver.got[0]
        stamp = int(request.headers["Osiris-Timestamp"])
        assert request.headers["Osiris-Signature"] == sign(secret_of("ops"), stamp, body)
        assert request.headers["Osiris-Event"] == json.loads(body)["event"] == "webhook.test"
    assert (await sender.hooks.test("ops"))["status"] is None
    with pytest.raises(NotFound):
        await sender.hooks.test("other")
