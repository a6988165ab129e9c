"""Nobody shuts out others: connections by address, streams and requests by bearer, few of what takes much."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Any

import pytest
import uvloop
from hypothesis import given, settings
from hypothesis import strategies as st

from osiris_mesh.errors import Overloaded
from osiris_mesh.gateway import config_keys
from osiris_mesh.gateway.http.admission import Admission, network_of
from osiris_mesh.gateway.http.routes import ROUTES
from osiris_mesh.gateway.http.server import HEAVY
from osiris_mesh.gateway.http.shares import Shares
from osiris_mesh.settings.gateway import GatewaySettings
from tests.http import test_limits
from tests.http.test_limits import CALL, SETTINGS, TOKEN, answer, closed, head, until

ANONYMOUS = b"GET /v1/health HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n"


class Visitor:
    """A connection on paper."""

    def __init__(self, *, idle: bool = True) -> None:
        self.is_idle = idle
        self.was_cut = False

    def cut(self) -> None:
        self.was_cut = True


# Decisions.


def test_the_oldest_idle_unknown_connection_makes_room() -> None:
    admission = Admission(3)
    busy, first, second = Visitor(idle=False), Visitor(), Visitor()
    for each in (busy, first, second):
        assert admission.enter(each, "192.0.2.1", None)
    admission.known(first)
    third = Visitor()
    assert admission.enter(third, "192.0.2.2", None)
    assert [each.was_cut for each in (busy, first, second)] == [False, False, True]
    third.is_idle = first.is_idle = False
    assert not admission.enter(Visitor(), "192.0.2.3", None), "busy ones stay"
    admission.leave(first)
    assert admission.enter(Visitor(), "192.0.2.3", None)


def test_one_bearers_idle_connections_keep_no_other_out() -> None:
    admission = Admission(4)
    mine = [Visitor() for _ in range(4)]
    for each in mine:
        assert admission.enter(each, "192.0.2.1", None)
        admission.known(each)
    admission.known(mine[0])
    mine[1].is_idle = False
    fourth, fifth = Visitor(), Visitor()
    assert admission.enter(fourth, "192.0.2.2", None)
    assert [each.was_cut for each in mine] == [False, False, True, False], "idle, and its last request the longest ago"
    assert admission.enter(fifth, "192.0.2.2", None)
    assert fourth.was_cut, "one that is not known goes first"
    admission.known(mine[2])
    assert len(admission) == 4, "one that was cut does not come back"


def test_an_address_has_a_bound_of_its_own() -> None:
    admission = Admission(100)
    mine = [Visitor(idle=False) for _ in range(3)]
    assert [admission.enter(each, "192.0.2.1", 2) for each in mine] == [True, True, False]
    assert admission.enter(Visitor(), "192.0.2.2", 2)
    assert admission.enter(Visitor(idle=False), "::ffff:192.0.2.1", 3), "the same address in IPv6's clothes: three now"
    assert not admission.enter(Visitor(), "192.0.2.1", 3)
    admission.leave(mine[0])
    assert admission.enter(Visitor(), "192.0.2.1", 3)
    assert all(admission.enter(Visitor(), "", 1) for _ in range(2)), "no address, no bound"


def test_at_an_address_of_many_who_only_connects_shuts_nobody_out() -> None:
    admission = Admission(100)
    other, idle, known = Visitor(), Visitor(), Visitor()
    assert admission.enter(other, "192.0.2.2", 2)
    assert admission.enter(known, "192.0.2.1", 2)
    admission.known(known)
    assert admission.enter(idle, "192.0.2.1", 2)
    assert admission.enter(Visitor(idle=False), "192.0.2.1", 2)
    assert [each.was_cut for each in (other, idle, known)] == [False, True, False]
    known.is_idle = False
    assert not admission.enter(Visitor(), "192.0.2.1", 2), "busy ones stay"
    known.is_idle = True
    assert admission.enter(Visitor(), "192.0.2.1", 2)
    assert known.was_cut
    assert not other.was_cut


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        ("2001:db8::1", "2001:db8::ffff:1", True),
        ("2001:db8::1", "2001:db8:0:1::1", False),
        ("::1", "::2", False),
        ("fe80::1%eth0", "fe80::2%eth1", True),
        ("192.0.2.1", "192.0.2.2", False),
        ("nonsense", "nonsense", True),
    ],
)
def test_what_counts_as_one_address(one: str, other: str, *, same: bool) -> None:
    assert (network_of(one) == network_of(other)) is same


@settings(max_examples=60)
@given(st.lists(st.tuples(st.sampled_from("eklb"), st.integers(0, 9), st.integers(0, 3)), max_size=80))
def test_the_bounds_hold_whatever_comes(steps: list[tuple[str, int, int]]) -> None:
    admission = Admission(5)
    visitors: dict[int, Visitor] = {}
    for step, number, address in steps:
        visitor = visitors.get(number)
        if step == "e" and visitor is None:
            new = Visitor()
            if admission.enter(new, f"192.0.2.{address}", 3):
                visitors[number] = new
        elif visitor is not None and step == "k":
            admission.known(visitor)
        elif visitor is not None and step == "l":
            admission.leave(visitors.pop(number))
        elif visitor is not None:
            visitor.is_idle = not visitor.is_idle
        visitors = {key: each for key, each in visitors.items() if not each.was_cut}
        assert len(admission) == len(visitors) <= 5
        assert sum(admission._counts.values()) == len(visitors)
        assert all(0 < count <= 3 for count in admission._counts.values())


def test_streams_by_bearer_by_user_and_in_all() -> None:
    shares = Shares(replace(GatewaySettings(), streams=4, streams_per_user=3))
    open_ = [shares.stream("a", b"ann", 2) for _ in range(2)]
    for each in open_:
        each.__enter__()
    with pytest.raises(Overloaded, match="this bearer has 2"), shares.stream("a", b"ann", 2):
        pass
    with shares.stream("a2", b"ann", 2):
        with pytest.raises(Overloaded, match="this user"), shares.stream("a3", b"ann", 2):
            pass
        with (
            shares.stream("b", b"bob", 2),
            pytest.raises(Overloaded, match="at this node"),
            shares.stream("c", b"cy", 2),
        ):
            pass
    for each in open_:
        each.__exit__(None, None, None)
    assert not shares._streams


def test_requests_are_counted_by_bearer_and_the_rate_may_change() -> None:
    shares = Shares(replace(GatewaySettings(), requests_per_s=10, burst=20))
    for _ in range(20):
        shares.ask("a", 10, 0.0)
    with pytest.raises(Overloaded) as caught:
        shares.ask("a", 10, 0.0)
    assert caught.value.details["retry_after_ms"] >= 100
    shares.ask("b", 10, 0.0)
    for _ in range(200):
        shares.ask("a", 100, 0.0)
    with pytest.raises(Overloaded, match="100 requests"):
        shares.ask("a", 100, 0.0)
    shares.ask("a", 100, 1.0)
    for number in range(5000):
        shares.ask(f"t{number}", 10, 2.0)
    assert len(shares._buckets) <= 4096


def test_the_defaults_are_those_of_the_settings() -> None:
    defaults = GatewaySettings()
    for name in ("requests_per_s", "streams_per_bearer", "connections_per_address"):
        assert config_keys.read({}, f"http.{name}") == getattr(defaults, name)


def test_heavy_routes_are_routes() -> None:
    assert {route.path for route in ROUTES} >= HEAVY


# Real sockets.

_writers: list[asyncio.StreamWriter] = []


@asynccontextmanager
async def gateway(kept: GatewaySettings = SETTINGS, **more: Any) -> AsyncIterator[tuple[Any, Any, int]]:
    """A gateway, and an end for every connection made to it."""
    try:
        async with test_limits.gateway(kept, **more) as made:
            yield made
    finally:
        for writer in _writers:
            writer.transport.abort()
        _writers.clear()
        # Transports tell their protocols of the end a turn later.
        await asyncio.sleep(0)


async def connect(port: int) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    reader, writer = await test_limits.connect(port)
    _writers.append(writer)
    return reader, writer


def test_idle_strangers_shut_nobody_out() -> None:
    uvloop.run(_idle_strangers())


async def _idle_strangers() -> None:
    async with gateway(replace(SETTINGS, connections=8)) as (server, calls, port):
        known, known_writer = await connect(port)
        known_writer.write(head("GET", "/v1/members"))
        assert (await answer(known))[0] == 200
        busy, busy_writer = await connect(port)
        busy_writer.write(CALL)
        await until(lambda: calls.waiting)
        strangers = [await connect(port) for _ in range(6)]
        strangers[0][1].write(ANONYMOUS)
        assert (await answer(strangers[0][0]))[0] == 200
        strangers[1][1].write(ANONYMOUS[:20])
        await until(lambda: len(server.admission) == 8)
        for turn in range(6):
            reader, writer = await connect(port)
            writer.write(head("GET", "/v1/members"))
            assert (await answer(reader))[0] == 200, turn
            assert await closed(strangers[turn][0]), "the oldest first"
        newcomer, newcomer_writer = await connect(port)
        assert await closed(known), "of those that are known and idle the one that asked longest ago"
        newcomer_writer.write(ANONYMOUS)
        assert (await answer(newcomer))[0] == 200
        calls.waiting.pop()()
        assert (await answer(busy))[0] == 200


async def test_a_remote_address_has_its_share_by_setting() -> None:
    async with gateway(replace(SETTINGS, connections_per_address=3)) as (server, _, port):
        pairs = []

        async def shown() -> None:
            reader, writer = await connect(port)
            writer.write(head("GET", "/v1/members"))
            assert (await answer(reader))[0] == 200
            pairs.append((reader, writer))

        for _ in range(3):
            await shown()
        await shown()
        assert await closed(pairs[0][0])
        assert len(server.admission) == 3
        server.parts.book.state.settings["http.connections_per_address"] = "5"
        await shown()
        await shown()
        assert len(server.admission) == 5
        server.parts.book.state.settings["http.connections_per_address"] = "hostile"
        await shown()
        assert await closed(pairs[1][0]), "the default holds"
        assert len(server.admission) == 5


async def test_behind_a_proxy_all_come_from_one_address() -> None:
    async with gateway(replace(SETTINGS, connections_per_address=1), proxied=True) as (_, _, port):
        for _ in range(3):
            reader, writer = await connect(port)
            writer.write(ANONYMOUS)
            assert (await answer(reader))[0] == 200


@pytest.mark.parametrize(("before", "part"), [(0, b""), (0, ANONYMOUS[:30]), (1, ANONYMOUS[:30]), (2, ANONYMOUS[:1])])
async def test_a_head_has_its_time_though_the_connection_may_idle_for_longer(before: int, part: bytes) -> None:
    async with gateway(replace(SETTINGS, head_s=0.3, idle_s=60.0)) as (server, _, port):
        reader, writer = await connect(port)
        for _ in range(before):
            writer.write(ANONYMOUS)
            assert (await answer(reader))[0] == 200
        writer.write(part)
        assert await closed(reader)
        await until(lambda: not len(server.admission))


async def test_between_requests_a_connection_may_idle() -> None:
    async with gateway(replace(SETTINGS, head_s=0.2, idle_s=60.0)) as (_, calls, port):
        reader, writer = await connect(port)
        later = asyncio.Event()
        for request, wait in ((ANONYMOUS, False), (CALL, True)):
            writer.write(request)
            if wait:
                await until(lambda: calls.waiting)
                calls.waiting.pop()()
            assert (await answer(reader))[0] == 200
            asyncio.get_running_loop().call_later(0.5, later.set)
            await later.wait()
            later.clear()
        writer.write(ANONYMOUS)
        assert (await answer(reader))[0] == 200


async def test_a_body_may_take_what_its_size_takes_and_no_longer() -> None:
    kept = replace(SETTINGS, read_s=0.3, body_rate=1000)
    async with gateway(kept) as (_, calls, port):
        reader, writer = await connect(port)
        size = 2000
        writer.write(head("POST", "/v1/call/t/add", "Content-Type: application/msgpack", f"Content-Length: {size}"))
        step = asyncio.Event()
        for _ in range(5):
            # 0.5 s in all: longer than read_s, and faster than the rate.
            writer.write(b"\x01" * (size // 5))
            asyncio.get_running_loop().call_later(0.1, step.set)
            await step.wait()
            step.clear()
        await until(lambda: calls.waiting)
        calls.waiting.pop()()
        assert (await answer(reader))[0] == 200
        writer.write(head("POST", "/v1/call/t/add", "Content-Type: application/msgpack", f"Content-Length: {size}"))
        writer.write(b"\x01" * 10)
        status, _, body = await answer(reader)
        assert (status, b"too slowly" in body) == (400, True)


async def test_one_bearers_streams_leave_others_theirs() -> None:
    async with gateway(replace(SETTINGS, streams_per_bearer=2)) as (server, _, port):

        async def stream(token: str) -> int:
            reader, writer = await connect(port)
            writer.write(head("GET", "/v1/events").replace(TOKEN.encode(), token.encode()))
            status, headers, _ = await answer(reader)
            if status == 429:
                assert int(headers["Retry-After"]) >= 1
            return status

        assert [await stream(TOKEN) for _ in range(3)] == [200, 200, 429]
        assert await stream(TOKEN + "2") == 200
        server.parts.book.state.settings["http.streams_per_bearer"] = "3"
        assert [await stream(TOKEN) for _ in range(2)] == [200, 429]
        _writers[0].transport.abort()
        await until(lambda: len(server._streams) == 3)
        assert await stream(TOKEN) == 200


async def test_a_runaway_loop_is_told_to_wait_and_calls_are_not() -> None:
    async with gateway(replace(SETTINGS, requests_per_s=1, burst=3)) as (server, calls, port):
        reader, writer = await connect(port)
        for expected in (200, 200, 200, 429):
            writer.write(head("GET", "/v1/members"))
            status, headers, _ = await answer(reader)
            assert status == expected
            assert (int(headers.get("Retry-After", "0")) >= 1) == (status == 429)
        for _ in range(5):
            writer.write(CALL)
            await until(lambda: calls.waiting)
            calls.waiting.pop()()
            assert (await answer(reader))[0] == 200
        server.parts.book.state.settings["http.requests_per_s"] = "100"
        writer.write(head("GET", "/v1/members"))
        assert (await answer(reader))[0] == 200


async def test_one_check_of_the_ledger_at_a_time() -> None:
    async with gateway() as (server, _, port):
        going = asyncio.Event()
        book: Any = server.parts.book

        async def verify() -> dict[str, Any]:
            await going.wait()
            return {"height": 1}

        book.verify = verify
        first, first_writer = await connect(port)
        first_writer.write(head("GET", "/v1/ledger/verify"))
        await until(lambda: server._shares._checks["/v1/ledger/verify"])
        second, second_writer = await connect(port)
        second_writer.write(head("GET", "/v1/ledger/verify"))
        status, headers, _ = await answer(second)
        assert (status, headers["Retry-After"]) == (429, "2")
        second_writer.write(head("GET", "/v1/members"))
        assert (await answer(second))[0] == 200
        going.set()
        assert (await answer(first))[0] == 200
        second_writer.write(head("GET", "/v1/ledger/verify"))
        assert (await answer(second))[0] == 200
