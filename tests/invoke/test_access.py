"""Whoever may not call is refused before anything is looked up."""

from __future__ import annotations

import random
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from osiris_mesh.clock import SYSTEM
from osiris_mesh.codec import pack, unpack
from osiris_mesh.errors import Denied, NotFound, UsageError
from osiris_mesh.invoke.invoker import Invoker
from osiris_mesh.link import Audience, Caller, Link, Router, UnixServer, connect_unix
from osiris_mesh.settings.invoke import InvokeSettings
from tests.invoke.fakes import FakeLedger, FakePeers, FakeRunner, spec

BODY = pack([[2, 3], {}])


class Only:
    """Lets clients use one name."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.asked: list[tuple[Audience, str]] = []

    def may_call(self, caller: Caller, name: str) -> bool:
        self.asked.append((caller.audience, name))
        if name.count("/") > 2:
            raise UsageError("not a name")
        return caller.audience is not Audience.CLIENT or name.partition("@")[0] == self.name

    may_resolve = may_call


class Place:
    def __init__(self, path: Path) -> None:
        self.runner = FakeRunner({"math/add": lambda a, b: a + b, "math/sub": lambda a, b: a - b})
        self.access = Only("math/add")
        self.invoker = Invoker(
            me="me",
            ledger=FakeLedger(spec("math/add"), spec("math/sub")),
            runner=self.runner,
            peers=FakePeers(),
            settings=InvokeSettings(),
            clock=SYSTEM,
            rng=random.Random(1),
            access=self.access,
        )
        router = Router()
        self.invoker.register(router)
        self.servers = {
            audience: UnixServer(path / f"{audience.value}.sock", router, audience)
            for audience in (Audience.CLIENT, Audience.LOCAL)
        }
        self.links: dict[Audience, Link] = {}

    async def open(self) -> None:
        for audience, server in self.servers.items():
            await server.start()
            self.links[audience] = await connect_unix(server.path)

    async def close(self) -> None:
        for link in self.links.values():
            await link.close()
        await self.invoker.close()
        for server in self.servers.values():
            await server.close()


@pytest.fixture
async def place(tmp_path: Path) -> AsyncIterator[Place]:
    place = Place(tmp_path)
    await place.open()
    yield place
    await place.close()


async def test_a_client_calls_and_resolves_what_it_may(place: Place) -> None:
    link = place.links[Audience.CLIENT]
    for name in ("math/add", "math/add@1.0.0"):
        assert unpack(await link.call("call", BODY, timeout=5, headers={"name": name})) == 5
        assert unpack(await link.call("resolve", pack({"name": name}), timeout=5))["name"] == "math/add"
    # What is there and what is not is refused alike.
    for name in ("math/sub", "math/nothing"):
        with pytest.raises(Denied, match=name) as caught:
            await link.call("call", BODY, timeout=5, headers={"name": name})
        assert caught.value.details["permission"] == "function.call"
        with pytest.raises(Denied, match=name):
            await link.call("resolve", pack({"name": name}), timeout=5)
    assert len(place.runner.runs) == 2
    assert place.invoker.in_flight == 0
    with pytest.raises(UsageError):
        await link.call("call", BODY, timeout=5, headers={"name": "a/b/c/d"})


async def test_the_homes_own_user_calls_what_there_is(place: Place) -> None:
    link = place.links[Audience.LOCAL]
    assert unpack(await link.call("call", BODY, timeout=5, headers={"name": "math/sub"})) == -1
    with pytest.raises(NotFound):
        await link.call("call", BODY, timeout=5, headers={"name": "math/nothing"})


async def test_a_call_begun_by_a_face_is_asked_about_too(place: Place) -> None:
    caller = Caller(b"k" * 32, "", Audience.CLIENT)
    with pytest.raises(Denied):
        await place.invoker.call("math/sub", BODY, deadline=None, headers={}, caller=caller)
    assert place.access.asked == [(Audience.CLIENT, "math/sub")]
