"""Events and webhooks as the command line asks for them, over a Unix socket."""

from __future__ import annotations

import tempfile
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from osiris_mesh.clock import FakeClock
from osiris_mesh.codec import pack, unpack
from osiris_mesh.errors import NotFound, UsageError
from osiris_mesh.gateway.events import Bus, Event
from osiris_mesh.gateway.hook_methods import HookMethods
from osiris_mesh.link import Audience, Link, Router, UnixServer, connect_unix


class Webhooks:
    def webhook_secret(self, name: str, entry: bytes) -> str:
        return f"{name}:{entry.hex()}"

    async def test_webhook(self, name: str) -> dict[str, Any]:
        if name != "pager":
            raise NotFound("no such webhook")
        return {"ok": True, "status": 204, "detail": "answered 204"}


@pytest.fixture
def bus() -> Bus:
    return Bus(FakeClock())


@pytest.fixture
async def link(bus: Bus) -> AsyncIterator[Link]:
    router = Router()
    HookMethods(router, bus, Webhooks())
    assert set(router.methods().values()) == {Audience.LOCAL}
    # Not tmp_path: a Unix socket's path is at most 107 bytes long.
    with tempfile.TemporaryDirectory(prefix="og-") as folder:
        async with UnixServer(Path(folder) / "node.sock", router):
            connected = await connect_unix(Path(folder) / "node.sock")
            yield connected
            await connected.close()


async def ask(link: Link, method: str, body: dict[str, Any]) -> Any:
    return unpack(await link.call(method, pack(body), timeout=5))


async def test_events_are_listed_by_name_and_after_a_number(bus: Bus, link: Link) -> None:
    for name in ("node.lost", "quorum.lost", "node.back"):
        bus.publish(Event(name, {"peer": "p"}))
    listed = (await ask(link, "events.list", {}))["events"]
    assert [event["name"] for event in listed] == ["node.lost", "quorum.lost", "node.back"]
    assert listed[0].keys() == {"name", "sequence", "time_ms", "fields"}
    some = (await ask(link, "events.list", {"names": ["node.*"], "after": 1}))["events"]
    assert [event["name"] for event in some] == ["node.back"]


@pytest.mark.parametrize("body", [{"names": ["no.such"]}, {"names": "node.*"}, {"after": -1}, {"after": "x"}])
async def test_what_is_asked_wrongly_is_refused(link: Link, body: dict[str, Any]) -> None:
    with pytest.raises(UsageError):
        await ask(link, "events.list", body)


async def test_following_begins_with_what_is_remembered_and_ends_with_the_reader(bus: Bus, link: Link) -> None:
    bus.publish(Event("node.lost", {}))
    stream = link.open("events.follow", pack({"names": ["node.*"], "after": 0}), timeout=5)
    assert unpack(await stream.receive() or b"")["name"] == "node.lost"
    bus.publish(Event("quorum.lost", {}))
    bus.publish(Event("node.back", {}))
    assert unpack(await stream.receive() or b"")["name"] == "node.back"
    assert bus.readers == 1
    bus.close()
    assert await stream.receive() is None
    assert bus.readers == 0


async def test_secret_and_test_delivery(link: Link) -> None:
    assert (await ask(link, "webhook.secret", {"name": "pager", "entry": bytes(32)}))["secret"] == "pager:" + "00" * 32
    assert (await ask(link, "webhook.test", {"name": "pager"}))["ok"] is True
    with pytest.raises(NotFound):
        await ask(link, "webhook.test", {"name": "other"})
    for wrong in (
        {},
        {"name": ""},
        {"name": "x" * 65},
        {"name": 7},
        {"name": "pager"},
        {"name": "pager", "entry": b"short"},
    ):
        with pytest.raises(UsageError):
            await ask(link, "webhook.secret", wrong)
