"""A function of the mesh puts providers in order; whatever it does wrong, somebody is asked."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import pytest

from osiris_mesh.clock import SYSTEM
from osiris_mesh.codec import VALUE, pack, unpack
from osiris_mesh.errors import Denied, FunctionError, NotFound, Overloaded, RemoteProtocolError, UsageError
from osiris_mesh.gateway import config_keys
from osiris_mesh.link import Audience, Caller
from osiris_mesh.node.choosing import MeshChooser
from osiris_mesh.registry.context import HEADER, may_call, parse
from osiris_mesh.registry.selection import Standing
from tests.registry.resolve import kit

NAME = "acme.com/image/sharpen"
CHOOSER = "team/choose"
LINES = kit.history(NAME, {"version": "1.0.0"})
KNOWN = [Standing(each, 20.0, 0.5, open=False, draining=True, in_flight=3) for each in kit.PROVIDERS]


@dataclass
class Mesh:
    """Functions of a mesh: one, which does as it is told."""

    does: Callable[[list[Any]], Any]
    has: str = CHOOSER
    calls: int = 0
    gate: asyncio.Event | None = None
    headers: Mapping[str, Any] | None = None
    caller: Caller | None = None

    def find(self, name: str) -> str:
        if name != self.has:
            raise NotFound(f"no function {name}")
        return name

    async def call(
        self, name: str, body: bytes, *, deadline: float | None, headers: Mapping[str, Any], caller: Caller
    ) -> bytes:
        assert deadline is not None
        assert name == self.has
        self.calls, self.headers, self.caller = self.calls + 1, headers, caller
        if self.gate is not None:
            await self.gate.wait()
        args, kwargs = unpack(body, VALUE)
        assert kwargs == {}
        return pack(self.does(args))


def chooser(mesh: Mesh) -> MeshChooser:
    return MeshChooser(lambda: mesh, lambda: CHOOSER, SYSTEM)


def soon(seconds: float = 5.0) -> float:
    return time.monotonic() + seconds


async def test_it_is_given_all_that_is_known_and_may_call_nothing() -> None:
    told: list[Any] = []

    def does(args: list[Any]) -> Any:
        told.extend(args)
        return ["two", "one"]

    mesh = Mesh(does)
    assert await chooser(mesh).order(NAME, KNOWN, deadline=soon()) == ["two", "one"]
    name, (first, second) = told
    assert name == NAME
    assert first == {
        "id": "one",
        "endpoint": "https://one.test/",
        "cost_micros": 0,
        "currency": "",
        "region": "",
        "weight": 3,
        "sla": kit.PROVIDERS[0].sla,
        "response_ms": 20.0,
        "availability": 0.5,
        "open": False,
        "draining": True,
        "in_flight": 3,
    }
    assert second["id"] == "two"
    assert mesh.caller == Caller(b"", "", Audience.LOCAL, "registry.chooser")
    assert mesh.headers is not None
    context = parse(mesh.headers[HEADER])
    assert may_call(context, CHOOSER) is None
    for other in (NAME, "team/other"):
        refusal = may_call(context, other)
        assert refusal is not None
        assert isinstance(refusal.error(), Denied)


def _raises(_args: list[Any]) -> Any:
    raise FunctionError("team/choose raised KeyError: 1")


@pytest.mark.parametrize(
    ("does", "error"),
    [
        (_raises, FunctionError),
        (lambda _: None, RemoteProtocolError),
        (lambda _: "one", RemoteProtocolError),
        (lambda _: [], RemoteProtocolError),
        (lambda _: ["nobody"], RemoteProtocolError),
        (lambda _: ["one", 2], RemoteProtocolError),
        (lambda _: [["one"]], RemoteProtocolError),
        (lambda _: ["one"] * 2000, RemoteProtocolError),
    ],
)
async def test_what_is_no_order_is_an_error_and_balance_goes_on(
    does: Callable[[list[Any]], Any], error: type[Exception], caplog: pytest.LogCaptureFixture
) -> None:
    mesh = Mesh(does)
    with pytest.raises(error):
        await chooser(mesh).order(NAME, KNOWN, deadline=soon())
    settings = replace(kit.SETTINGS, policy="custom", chooser=CHOOSER)
    async with kit.resolver(kit.Fake("r", {NAME: LINES}), settings=settings, chooser=chooser(mesh)) as names:
        found = await names.resolve(NAME, deadline=soon())
    assert {each.id for each in found.providers} == {"one", "two"}
    assert "chooser_failed" in caplog.text


async def test_one_that_is_slow_costs_its_time_and_no_more() -> None:
    mesh = Mesh(lambda _: ["two"], gate=asyncio.Event())
    slow = chooser(mesh)
    settings = replace(kit.SETTINGS, policy="custom", chooser=CHOOSER, chooser_s=0.05)
    async with kit.resolver(kit.Fake("r", {NAME: LINES}), settings=settings, chooser=slow) as names:
        began = time.monotonic()
        assert len((await names.resolve(NAME, deadline=soon())).providers) == 2
        assert time.monotonic() - began < 2
    await slow.close()


async def test_many_who_want_the_same_order_ask_once_and_many_orders_are_refused() -> None:
    mesh = Mesh(lambda _: ["two", "one"], gate=asyncio.Event())
    asked = chooser(mesh)
    same = [asyncio.ensure_future(asked.order(NAME, KNOWN, deadline=soon())) for _ in range(50)]
    others = [asyncio.ensure_future(asked.order(f"team/f{n}", KNOWN, deadline=soon())) for n in range(40)]
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    assert mesh.gate is not None
    same[0].cancel()
    mesh.gate.set()
    found = await asyncio.gather(*same[1:])
    assert all(each == ["two", "one"] for each in found)
    told = await asyncio.gather(*others, return_exceptions=True)
    assert sum(isinstance(each, Overloaded) for each in told) == 9
    assert mesh.calls == 32
    assert await asked.order(NAME, KNOWN, deadline=soon()) == ["two", "one"], "there is room again"
    await asked.close()


async def test_a_function_that_only_a_registry_has_is_not_called() -> None:
    mesh = Mesh(lambda _: ["one"], has="team/other")
    with pytest.raises(NotFound):
        await chooser(mesh).order(NAME, KNOWN, deadline=soon())
    assert mesh.calls == 0


def test_the_setting_is_a_full_name() -> None:
    known = config_keys.known("registry.chooser")
    assert known is not None
    for right in ("team/choose", "acme.com/team/choose"):
        assert known.parse(right) == right
    for wrong in ("", "choose", "team/choose@1.0.0", "a/b/c/d", "acme/team/choose"):
        with pytest.raises(UsageError):
            known.parse(wrong)
