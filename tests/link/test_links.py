"""All links of a node: over the in-memory network in simulated time, and over TCP on both loops."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Any

import pytest
import uvloop

from osiris_mesh.errors import Conflict, DeadlineExceeded, Denied, OsirisError, Unavailable, UsageError
from osiris_mesh.identity.keys import KeyPair
from osiris_mesh.identity.multiaddr import Multiaddr
from osiris_mesh.identity.peer_id import peer_id
from osiris_mesh.link import Audience, BlockingLink, Hello, Link, Links, Request, Router, Stream, connect_tcp
from osiris_mesh.link.memory import LoopClock, MemoryNetwork, MeshNode, mesh, simulate
from osiris_mesh.settings.link import LinkSettings

MEMBER = Audience.MEMBER
TEST = LinkSettings.preset("test")


async def echo(request: Request) -> bytes:
    return request.body


async def who(request: Request) -> bytes:
    return f"{request.caller.name} {request.caller.audience.name}".encode()


def in_time(main: Callable[[], Coroutine[Any, Any, None]]) -> None:
    """Run in simulated time, bounded."""

    async def bounded() -> None:
        async with asyncio.timeout(100_000):
            await main()

    simulate(bounded)


def newcomer(
    nodes: list[MeshNode],
    *,
    seed: int = 77,
    network_key: bytes | None = None,
    hello: Hello | None = None,
    admit: Audience | None = MEMBER,
) -> Links:
    first = nodes[0].links
    return Links(
        KeyPair(bytes([seed]) * 32),
        network_key or first._network_key,
        hello or Hello(first.hello.mesh_id, role="joiner", name="new"),
        Router(),
        admit=lambda _: admit,
        network=nodes[0].network.at("new"),
        settings=TEST,
        clock=LoopClock(),
    )


@asynccontextmanager
async def quiet_mesh(count: int, **options: Any) -> AsyncIterator[list[MeshNode]]:
    options.setdefault("network", MemoryNetwork(1, delay_s=(0.0005, 0.002)))
    async with mesh(count, clock=LoopClock(), **options) as nodes:
        for node in nodes:
            node.router.unary("echo", echo, allow=MEMBER)
            node.router.unary("who", who, allow=MEMBER | Audience.CLIENT | Audience.JOINER)
        yield nodes


def test_everyone_calls_everyone() -> None:
    async def main() -> None:
        async with quiet_mesh(4) as nodes:
            for one, other in itertools.permutations(nodes, 2):
                link = await one.links.to(other.links.peer)
                assert await link.call("who", timeout=5) == f"{one.host} MEMBER".encode()
                assert link.caller.peer == other.links.peer
                assert one.links.get(other.links.peer) is link
            assert all(len(node.links.peers()) == 3 for node in nodes)
            assert nodes[0].links.addresses(nodes[1].links.peer)[0] == nodes[1].address

    in_time(main)


def test_a_stranger_without_the_network_key_is_told_so() -> None:
    async def main() -> None:
        async with quiet_mesh(1) as nodes:
            stranger = newcomer(nodes, network_key=b"?" * 32)
            with pytest.raises(Denied, match="another mesh"):
                await stranger.dial(nodes[0].address)
            assert nodes[0].links.links() == []

    in_time(main)


def test_who_is_no_member_is_told_so() -> None:
    async def main() -> None:
        async with quiet_mesh(1) as nodes:
            with pytest.raises(Denied, match="not, or no longer, a member"):
                await newcomer(nodes).dial(nodes[0].address)
            assert nodes[0].links.links() == []

    in_time(main)


def test_an_impostor_at_a_known_address_is_refused() -> None:
    async def main() -> None:
        async with quiet_mesh(2) as nodes:
            address = Multiaddr(nodes[1].host, 7411, peer_id(KeyPair(b"z" * 32).public))
            with pytest.raises(Denied, match="another node answers there"):
                await nodes[0].links.dial(address)

    in_time(main)


def test_two_meshes_under_one_network_key_say_so_at_both_ends() -> None:
    async def main() -> None:
        async with quiet_mesh(1) as nodes:
            other = newcomer(nodes, hello=Hello(b"o" * 16))
            nodes[0].admitted[other._key.public] = MEMBER
            with pytest.raises(Conflict, match="another mesh"):
                await other.dial(nodes[0].address)
            await asyncio.sleep(1)
            assert nodes[0].links.links() == other.links() == []

    in_time(main)


def test_addresses_that_can_not_be_dialled() -> None:
    async def main() -> None:
        async with quiet_mesh(2, connected=False) as nodes:
            links = nodes[0].links
            with pytest.raises(UsageError, match="does not say which peer"):
                await links.dial(Multiaddr("n9", 7411))
            with pytest.raises(UsageError, match="this node itself"):
                await links.dial(nodes[0].address)
            # A seed without a peer id will do if the peer there is known.
            link = await links.dial(Multiaddr("n1", 7411))
            assert link.caller.peer == nodes[1].links.peer
            with pytest.raises(Unavailable, match="no address"):
                await links.to(peer_id(KeyPair(b"z" * 32).public))
            assert links.addresses(links.peer) == [nodes[0].address]

    in_time(main)


@pytest.mark.parametrize("seed", range(8))
def test_crossing_dials_leave_one_link_and_lose_no_call(seed: int) -> None:
    async def main() -> None:
        network = MemoryNetwork(seed, delay_s=(0.0001, 0.02))
        async with quiet_mesh(2, seed=seed, connected=False, network=network) as nodes:
            one, other = nodes

            async def dial_and_call(near: MeshNode, far: MeshNode) -> bytes:
                link = await near.links.to(far.links.peer)
                return await link.call("echo", near.host.encode(), timeout=5)

            answers = await asyncio.gather(dial_and_call(one, other), dial_and_call(other, one))
            assert answers == [b"n0", b"n1"]
            await asyncio.sleep(10)
            assert len(one.links.links()) == len(other.links.links()) == 1
            at_one, at_other = one.links.get(other.links.peer), other.links.get(one.links.peer)
            assert at_one is not None
            assert at_other is not None
            assert await at_one.call("echo", b"x", timeout=5) == b"x"
            assert await at_other.call("echo", b"y", timeout=5) == b"y"
            # Both ends chose the same connection of the two: it is dialled at one end and accepted at the other.
            facts = [node.links._entries[link].facts for node, link in ((one, at_one), (other, at_other))]
            assert facts[0].dialled is not facts[1].dialled

    in_time(main)


def test_a_restarted_peer_replaces_its_old_link_at_once() -> None:
    async def main() -> None:
        async with quiet_mesh(2) as nodes:
            survivor, dead = nodes
            downs: list[str] = []
            ups: list[Link] = []
            survivor.links.on_down(downs.append)
            survivor.links.on_up(ups.append)
            old = survivor.links.get(dead.links.peer)
            # It vanishes without a word, and comes back before anyone noticed.
            survivor.network.part([survivor.host], [dead.host])
            await asyncio.sleep(0.2)
            fresh = Links(
                dead.key,
                dead.links._network_key,
                replace(dead.links.hello, addresses=()),
                dead.router,
                admit=dead.admitted.get,
                network=dead.network.at("elsewhere"),
                settings=TEST,
                clock=LoopClock(),
            )
            new = await fresh.dial(survivor.address)
            assert await new.call("echo", b"back", timeout=5) == b"back"
            assert old is not None
            assert old.closed
            assert survivor.links.get(dead.links.peer) is ups[-1]
            assert downs == []
            await fresh.close()
            await asyncio.sleep(0.1)
            assert downs == [dead.links.peer]

    in_time(main)


def test_removed_members_are_cut_at_once_and_stay_out() -> None:
    async def main() -> None:
        async with quiet_mesh(3) as nodes:
            removed = nodes[2]
            downs: list[str] = []
            nodes[0].links.on_down(downs.append)
            link = await removed.links.to(nodes[0].links.peer)
            waits = asyncio.create_task(link.call("who", timeout=60))
            await waits
            del nodes[0].admitted[removed.key.public]
            for node in nodes[:2]:
                node.links.recheck()
            await asyncio.sleep(0.5)
            assert downs == [removed.links.peer]
            assert removed.links.peers() == []
            assert nodes[0].links.peers() == [nodes[1].links.peer]
            with pytest.raises(Denied):
                await removed.links.to(nodes[0].links.peer)

    in_time(main)


def test_a_joiner_becomes_a_member_on_the_same_link() -> None:
    async def main() -> None:
        async with quiet_mesh(1) as nodes:
            node = nodes[0]
            joiner = newcomer(nodes)
            node.admitted[joiner._key.public] = Audience.JOINER
            ups: list[Link] = []
            node.links.on_up(ups.append)
            link = await joiner.dial(node.address)
            assert await link.call("who", timeout=5) == b"new JOINER"
            with pytest.raises(Denied):
                await link.call("echo", timeout=5)
            assert node.links.peers() == []
            assert ups == []
            node.admitted[joiner._key.public] = MEMBER
            node.links.recheck()
            assert node.links.peers() == [joiner.peer]
            assert len(ups) == 1
            assert await link.call("who", timeout=5) == b"new MEMBER"
            assert await link.call("echo", bytes(3 << 20), timeout=5) == bytes(3 << 20)
            await asyncio.sleep(TEST.joiner_s * 20)
            assert not link.closed
            await joiner.close()

    in_time(main)


def test_joiners_are_few_and_have_little_time() -> None:
    async def main() -> None:
        async with quiet_mesh(1) as nodes:
            node = nodes[0]

            async def hang(request: Request) -> bytes:
                await asyncio.Event().wait()
                return b""

            node.router.unary("hang", hang, allow=Audience.JOINER)
            joiners = [newcomer(nodes, seed=100 + number) for number in range(TEST.joiners + 1)]
            for joiner in joiners:
                node.admitted[joiner._key.public] = Audience.JOINER
            links = [await joiner.dial(node.address) for joiner in joiners[:-1]]
            last = await joiners[-1].dial(node.address)
            with pytest.raises(Unavailable):
                await last.call("who", timeout=5)
            busy = asyncio.create_task(links[0].call("hang", timeout=None))
            await asyncio.sleep(TEST.joiner_s + 1)
            assert [link.closed for link in links] == [False] + [True] * (len(links) - 1)
            await asyncio.sleep(TEST.joiner_s * 10)
            with pytest.raises(Unavailable):
                await busy
            for joiner in joiners:
                await joiner.close()

    in_time(main)


def test_a_client_may_have_several_links_and_is_no_member() -> None:
    async def main() -> None:
        async with quiet_mesh(1) as nodes:
            node = nodes[0]
            key = KeyPair(b"c" * 32)
            node.admitted[key.public] = Audience.CLIENT
            hello = Hello(node.links.hello.mesh_id, role="client")
            links = [
                await connect_tcp(
                    node.address, key, node.links._network_key, hello, network=node.network, clock=LoopClock()
                )
                for _ in range(3)
            ]
            assert await asyncio.gather(*(link.call("who", timeout=5) for link in links)) == [b" CLIENT"] * 3
            with pytest.raises(Denied):
                await links[0].call("echo", timeout=5)
            assert node.links.peers() == []
            assert node.links.get(peer_id(key.public)) is not None
            await asyncio.gather(*(link.close() for link in links))

    in_time(main)


def test_silence_is_noticed_and_quiet_is_not_silence() -> None:
    async def main() -> None:
        async with quiet_mesh(3) as nodes:
            downs: list[str] = []
            nodes[0].links.on_down(downs.append)
            await asyncio.sleep(600)
            assert downs == []
            nodes[0].network.part(["n0"], ["n1"])
            started = asyncio.get_running_loop().time()
            while not downs:
                await asyncio.sleep(0.01)
            took = asyncio.get_running_loop().time() - started
            assert TEST.dead_s - TEST.keepalive_s < took <= TEST.dead_s + TEST.keepalive_s
            assert downs == [nodes[1].links.peer]
            with pytest.raises(Unavailable):
                await nodes[0].links.to(nodes[1].links.peer)
            nodes[0].network.heal()
            await asyncio.sleep(TEST.backoff_max_s)
            link = await nodes[0].links.to(nodes[1].links.peer)
            assert await link.call("echo", b"again", timeout=5) == b"again"

    in_time(main)


def test_a_pause_of_our_own_is_nobodys_fault() -> None:
    async def main() -> None:
        async with quiet_mesh(2) as nodes:
            loop: Any = asyncio.get_running_loop()
            await asyncio.sleep(1)
            loop._leaping.now += 600  # the machine was suspended
            await asyncio.sleep(1)
            assert nodes[0].links.peers() == [nodes[1].links.peer]

    in_time(main)


def test_dials_are_shared_and_failures_remembered_for_a_moment() -> None:
    async def main() -> None:
        async with quiet_mesh(2, connected=False) as nodes:
            one, other = nodes
            links = await asyncio.gather(*(one.links.to(other.links.peer) for _ in range(20)))
            assert len({id(link) for link in links}) == 1
            await asyncio.sleep(0.1)
            assert len(other.links.links()) == 1
            await other.links.close()
            await asyncio.sleep(0.1)
            assert one.links.peers() == []
            with pytest.raises(Unavailable, match="can't be reached"):
                await one.links.to(other.links.peer)
            with pytest.raises(Unavailable, match="a moment ago") as caught:
                await one.links.to(other.links.peer)
            assert caught.value.details["maybe"] is False
            assert caught.value.details["retry_after_ms"] > 0

    in_time(main)


def test_one_waiter_that_gives_up_does_not_end_the_dial_for_others() -> None:
    async def main() -> None:
        async with quiet_mesh(2, connected=False) as nodes:
            first = asyncio.create_task(nodes[0].links.to(nodes[1].links.peer))
            second = asyncio.create_task(nodes[0].links.to(nodes[1].links.peer))
            await asyncio.sleep(0)
            first.cancel()
            link = await second
            assert await link.call("echo", b"x", timeout=5) == b"x"

    in_time(main)


@pytest.mark.parametrize("seed", range(4))
def test_under_breaking_connections_every_answer_is_right_or_an_error(seed: int) -> None:
    async def main() -> None:
        network = MemoryNetwork(seed, delay_s=(0.0, 0.01))
        async with quiet_mesh(3, seed=seed, network=network) as nodes:
            network.break_rate = 0.02
            network.refuse_rate = 0.1
            right = 0

            async def caller(number: int) -> None:
                nonlocal right
                near, far = nodes[number % 3], nodes[(number + 1) % 3]
                for turn in range(40):
                    body = b"%d %d " % (number, turn) * 3000
                    try:
                        link = await near.links.to(far.links.peer)
                        assert await link.call("echo", body, timeout=2) == body
                        right += 1
                    except (Unavailable, DeadlineExceeded):
                        await asyncio.sleep(0.05)

            await asyncio.gather(*(caller(number) for number in range(6)))
            assert right > 40
            network.break_rate = network.refuse_rate = 0.0
            await asyncio.sleep(TEST.dead_s * 3)
            for one, other in itertools.permutations(nodes, 2):
                link = await one.links.to(other.links.peer)
                assert await link.call("echo", b"healed", timeout=5) == b"healed"
            assert all(len(node.links.links()) <= 4 for node in nodes)

    in_time(main)


def test_close_says_goodbye() -> None:
    async def main() -> None:
        async with quiet_mesh(2) as nodes:
            link = nodes[0].links.get(nodes[1].links.peer)
            assert link is not None
            await nodes[1].links.close()
            await asyncio.sleep(0.1)
            with pytest.raises(Unavailable, match="closed by the other end"):
                await link.call("echo", timeout=5)
            with pytest.raises(Unavailable, match="stopping"):
                await nodes[1].links.dial(nodes[0].address)

    in_time(main)


def test_the_same_seed_gives_the_same_run() -> None:
    def run() -> list[Any]:
        seen: list[Any] = []

        async def main() -> None:
            network = MemoryNetwork(9, delay_s=(0.001, 0.05))
            async with quiet_mesh(4, seed=9, network=network) as nodes:
                for node in nodes:
                    node.links.on_down(lambda peer, node=node: seen.append((LoopClock().monotonic(), node.host, peer)))
                network.break_rate = 0.01
                await asyncio.sleep(30)
                seen.append(LoopClock().monotonic())

        in_time(main)
        return seen

    first = run()
    assert len(first) > 1
    assert first == run()


# over TCP


@pytest.fixture(params=["asyncio", "uvloop"])
def run_tcp(request: pytest.FixtureRequest) -> Callable[[Callable[[], Coroutine[Any, Any, None]]], None]:
    factory = uvloop.new_event_loop if request.param == "uvloop" else asyncio.new_event_loop

    def runner(main: Callable[[], Coroutine[Any, Any, None]]) -> None:
        async def bounded() -> None:
            async with asyncio.timeout(30):
                await main()

        with asyncio.Runner(loop_factory=factory) as each:
            each.run(bounded())

    return runner


MESH, NETWORK_KEY = b"m" * 16, b"k" * 32


def tcp_links(seed: int, *, admit: Callable[[bytes], Audience | None] = lambda _: MEMBER) -> Links:
    router = Router()
    router.unary("echo", echo, allow=MEMBER | Audience.CLIENT)
    router.streaming("double", double, allow=MEMBER | Audience.CLIENT)
    return Links(
        KeyPair(bytes([seed]) * 32), NETWORK_KEY, Hello(MESH, name=f"t{seed}"), router, admit=admit, settings=TEST
    )


async def double(request: Request, stream: Stream) -> None:
    async for message in stream:
        await stream.send(message * 2)


def test_over_tcp(run_tcp: Callable[..., None]) -> None:
    async def main() -> None:
        one, other = tcp_links(1), tcp_links(2)
        try:
            (address,) = await one.listen("127.0.0.1", 0)
            assert address.peer == one.peer
            assert address.port > 0
            link = await other.dial(address)
            assert await link.call("echo", b"x" * 3_000_000, timeout=20) == b"x" * 3_000_000
            stream = link.open("double")
            for number in range(20):
                await stream.send(bytes([number]) * 90_000)
            await stream.end()
            assert [len(message) async for message in stream] == [180_000] * 20
            back = await one.to(other.peer)
            assert await back.call("echo", b"y", timeout=5) == b"y"
            assert one.addresses(other.peer) == []
            taken = tcp_links(3)
            with pytest.raises(Conflict, match="taken"):
                await taken.listen("127.0.0.1", address.port)
            with pytest.raises(UsageError):
                await taken.listen("192.0.2.1", 0)
            with pytest.raises(Unavailable, match="reached"):
                await taken.dial(Multiaddr("127.0.0.1", 1, one.peer))
        finally:
            await other.close()
            await one.close()

    run_tcp(main)


def test_wildcard_addresses_are_announced_as_real_ones(run_tcp: Callable[..., None]) -> None:
    async def main() -> None:
        links = tcp_links(1)
        addresses = await links.listen("0.0.0.0", 0)  # noqa: S104 - what is tested
        await links.close()
        assert addresses
        assert all(address.host != "0.0.0.0" for address in addresses)  # noqa: S104 - what is tested
        assert links.hello.addresses == tuple(addresses)

    run_tcp(main)


def test_a_blocking_client_over_tcp(run_tcp: Callable[..., None]) -> None:
    async def main() -> None:
        key = KeyPair(b"c" * 32)
        links = tcp_links(1, admit=lambda public: Audience.CLIENT if public == key.public else None)
        (address,) = await links.listen("127.0.0.1", 0)
        hello = Hello(MESH, role="client")

        def client() -> None:
            with BlockingLink.tcp(address, key, NETWORK_KEY, hello) as link:
                assert link.caller.peer == address.peer
                for size in (0, 100, 70_000, 2_000_000):
                    assert link.call("echo", b"z" * size, timeout=20) == b"z" * size
                stream = link.open("double")
                stream.send(b"ab" * 100_000)
                stream.end()
                assert list(stream) == [b"ab" * 200_000]
            wrong: list[tuple[type[OsirisError], dict[str, Any]]] = [
                (Denied, {"network_key": b"?" * 32}),
                (Denied, {"key": KeyPair(b"d" * 32)}),
                (Conflict, {"hello": Hello(b"o" * 16)}),
                (Denied, {"address": replace(address, peer=peer_id(key.public))}),
                (UsageError, {"address": replace(address, peer="")}),
                (Unavailable, {"address": replace(address, port=1)}),
            ]
            for kind, change in wrong:
                told = {"address": address, "key": key, "network_key": NETWORK_KEY, "hello": hello, **change}
                with pytest.raises(kind):
                    BlockingLink.tcp(**told)

        def idle(link: BlockingLink) -> None:
            # As if nothing had been read for long: it looks first, and so knows that this call was not taken.
            link._last_read -= 60
            with pytest.raises(Unavailable) as caught:
                link.call("echo", timeout=5)
            assert caught.value.details["maybe"] is False

        loop = asyncio.get_running_loop()
        try:
            await loop.run_in_executor(None, client)
            link = await loop.run_in_executor(None, lambda: BlockingLink.tcp(address, key, NETWORK_KEY, hello))
        finally:
            await links.close()
        await loop.run_in_executor(None, idle, link)

    run_tcp(main)
