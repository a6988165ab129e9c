"""The control methods of events and webhooks, for the command line over the Unix socket."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final, Protocol

from osiris_mesh.codec import FRAME, pack, unpack
from osiris_mesh.errors import UsageError
from osiris_mesh.gateway.events import Bus, check_patterns
from osiris_mesh.link import Audience, Request, Router, Stream

__all__ = ["HookMethods", "Tester"]

_MAX_NAME: Final = 64
_HASH: Final = 32


class Tester(Protocol):
    """What the methods need of the webhooks."""

    def webhook_secret(self, name: str, entry: bytes) -> str:
        """Return what a webhook's deliveries are signed with, once, for the hash of the entry that set its URL."""
        ...

    async def test_webhook(self, name: str) -> dict[str, Any]:
        """Send a test delivery now; return ok, status and detail."""
        ...


class HookMethods:
    """Registers ``events.list``, ``events.follow``, ``webhook.secret`` and ``webhook.test`` for :attr:`Audience.LOCAL`.

    Args:
        router: The node's methods.
        bus: Its events.
        webhooks: Its webhooks.
    """

    def __init__(self, router: Router, bus: Bus, webhooks: Tester) -> None:
        self._bus = bus
        self._webhooks = webhooks
        router.unary("events.list", self._list, allow=Audience.LOCAL)
        router.streaming("events.follow", self._follow, allow=Audience.LOCAL)
        router.unary("webhook.secret", self._secret, allow=Audience.LOCAL)
        router.unary("webhook.test", self._test, allow=Audience.LOCAL)

    async def _list(self, request: Request) -> bytes:
        body = _body(request)
        found = self._bus.history(check_patterns(_names(body)), _after(body) or 0)
        return pack({"events": [event.to_json() for event in found]})

    async def _follow(self, request: Request, stream: Stream) -> None:
        body = _body(request)
        with self._bus.subscribe(_names(body), _after(body)) as reader:
            async for event in reader:
                await stream.send(pack(event.to_json()))
        await stream.end()

    async def _secret(self, request: Request) -> bytes:
        body = _body(request)
        name, entry = _name(body), body.get("entry")
        if type(entry) is not bytes or len(entry) != _HASH:
            raise UsageError("the request's entry is not the hash of one")
        return pack({"secret": self._webhooks.webhook_secret(name, entry)})

    async def _test(self, request: Request) -> bytes:
        return pack(await self._webhooks.test_webhook(_name(_body(request))))


def _body(request: Request) -> Mapping[str, Any]:
    body = unpack(request.body, FRAME) if request.body else {}
    if not isinstance(body, dict):
        raise UsageError("the request is not a map")
    return body


def _names(body: Mapping[str, Any]) -> list[str]:
    names = body.get("names", ["*"])
    if not isinstance(names, list) or not all(type(name) is str for name in names):
        raise UsageError("the request's names are not a list of texts")
    return names


def _after(body: Mapping[str, Any]) -> int | None:
    after = body.get("after")
    if after is not None and (type(after) is not int or after < 0):
        raise UsageError("the request's after is not a number")
    return after


def _name(body: Mapping[str, Any]) -> str:
    name = body.get("name")
    if type(name) is not str or not 1 <= len(name) <= _MAX_NAME:
        raise UsageError("the request's name is not a webhook's")
    return name
