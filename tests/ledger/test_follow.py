"""Nodes that do not vote, and voters left behind: over real links in memory."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from osiris_mesh.clock import FakeClock
from osiris_mesh.codec import pack, unpack
from osiris_mesh.errors import DeadlineExceeded, Unavailable
from osiris_mesh.ledger.block import Command
from osiris_mesh.ledger.entry import Entry
from osiris_mesh.ledger.kinds import ConfigSet, MemberAdd, TokenCreate, admission
from osiris_mesh.ledger.serve import BLOCKS, FOLLOW, TIP
from osiris_mesh.link.memory import MemoryNetwork, MeshNode, mesh
from osiris_mesh.link.request import Audience
from tests.ledger.kit import ADMIN, MESH, TOKEN, Agreement, Item, Node, genesis, until


class Town:
    """Nodes with links between them; the first ``voters`` of them agree with each other."""

    def __init__(self, folder: Path, places: list[MeshNode], agreement: Agreement) -> None:
        self.folder = folder
        self.places = places
        self.agreement = agreement
        self.nodes: list[Node] = []
        self.tasks: list[asyncio.Task[None]] = []

    async def add(self, *, voter: bool, agreement: Agreement | None = None, run: bool = True, **settings: Any) -> Node:
        place = self.places[len(self.nodes)]
        node = Node(self.folder / place.host, agreement or self.agreement, place.key, links=place.links, **settings)
        node.ledger.register(place.router)
        await node.start(voter=voter)
        self.nodes.append(node)
        if run:
            self.tasks.append(asyncio.ensure_future(node.ledger.run()))
        return node

    async def found(self, members: int) -> None:
        """Write the genesis, and make the first ``members`` places members."""
        first = self.nodes[0]
        await first.put(genesis([self.places[0].key]), self.places[0].key)
        body = TokenCreate(TOKEN.public, "follower", "none", 100, first.clock.time_ms() + 10**7, "")
        assert (await first.put(body, ADMIN)).accepted
        for place in self.places[1:members]:
            joins: MemberAdd = admission(MESH, token=TOKEN, joiner=place.key, user=b"", name=place.host, addresses=[])
            assert (await first.put(joins, self.places[0].key)).accepted

    async def fill(self, count: int, name: str = "k") -> None:
        for at in range(count):
            assert (await self.nodes[0].put(ConfigSet(f"{name}{at}", "1"), ADMIN)).accepted

    async def close(self) -> None:
        for task in self.tasks:
            task.cancel()
        await asyncio.gather(*self.tasks, return_exceptions=True)
        for node in self.nodes:
            await node.close()


@asynccontextmanager
async def town(folder: Path, count: int, **kwargs: Any) -> AsyncIterator[Town]:
    async with mesh(count, **kwargs) as places:
        made = Town(folder, places, Agreement())
        try:
            yield made
        finally:
            await made.close()


def setting(name: str) -> bytes:
    body = ConfigSet(name, "1")
    return Entry.make(body.KIND, body.body(), ADMIN, MESH, FakeClock()).bytes


async def test_a_follower_gets_what_was_there_and_what_comes(tmp_path: Path) -> None:
    async with town(tmp_path, 3) as it:
        await it.add(voter=True)
        await it.found(3)
        await it.fill(30)
        followers = [await it.add(voter=False) for _ in range(2)]
        for follower in followers:
            await follower.ledger.wait_for(it.nodes[0].ledger.tip.height, timeout=10)
        await it.fill(5, "later")
        for follower in followers:
            await follower.ledger.wait_for(it.nodes[0].ledger.tip.height, timeout=10)
            assert follower.ledger.tip == it.nodes[0].ledger.tip
            assert follower.ledger.state.settings == it.nodes[0].ledger.state.settings
            assert (await follower.ledger.verify())["valid"]


async def test_a_follower_proposes_through_a_voter_and_has_the_block_when_it_returns(tmp_path: Path) -> None:
    async with town(tmp_path, 2) as it:
        await it.add(voter=True)
        await it.found(2)
        follower = await it.add(voter=False)
        receipt = await follower.ledger.propose([setting("a"), b"".join([setting("b")])], timeout=10)
        assert [outcome.accepted for outcome in receipt.outcomes] == [True, True]
        assert follower.ledger.tip.height >= receipt.height
        assert follower.ledger.state.settings == {"a": "1", "b": "1"}


async def test_a_proposal_whose_voter_is_away_is_taken_by_another(tmp_path: Path) -> None:
    network = MemoryNetwork(3)
    async with town(tmp_path, 3, network=network) as it:
        for _ in range(2):
            await it.add(voter=True)
        await it.found(3)
        follower = await it.add(voter=False)
        await follower.ledger.wait_for(it.nodes[0].ledger.tip.height, timeout=10)
        network.part(["n2"], ["n0"])  # the leader, which is asked first
        receipt = await follower.ledger.propose([setting("a")], timeout=20)
        assert receipt.outcomes[0].accepted


async def test_without_any_voter_the_error_says_that_nothing_happened(tmp_path: Path) -> None:
    network = MemoryNetwork(2)
    async with town(tmp_path, 2, network=network) as it:
        lonely = await it.add(voter=False)
        # Else the time may be over while a voter is being asked, who might do it all the same.
        network.part(["n1"], ["n0"])
        with pytest.raises(DeadlineExceeded) as caught:
            await lonely.ledger.propose([setting("a")], timeout=0.3)
        assert caught.value.details["maybe"] is False


async def test_a_follower_hears_from_its_voter_that_there_is_no_quorum(tmp_path: Path) -> None:
    async with town(tmp_path, 2) as it:
        await it.add(voter=True)
        await it.found(2)
        follower = await it.add(voter=False)
        lost = Unavailable("there is no quorum: 1 of 3 voters", maybe=False, why="quorum", reachable=1, voters=3)
        it.agreement.failures = [lost]
        async with asyncio.timeout(10):
            with pytest.raises(Unavailable, match="1 of 3 voters") as caught:
                await follower.ledger.propose([setting("a")], timeout=60)
        assert caught.value.details["maybe"] is False


async def test_a_voter_refuses_a_followers_entries_without_a_block(tmp_path: Path) -> None:
    async with town(tmp_path, 2) as it:
        await it.add(voter=True)
        await it.found(2)
        follower = await it.add(voter=False)
        await follower.ledger.wait_for(it.nodes[0].ledger.tip.height, timeout=10)
        blocks = len(it.agreement.log)
        bad = ConfigSet("b", "1")
        entry = Entry.make(bad.KIND, bad.body(), follower.key, MESH, follower.clock).bytes
        receipt = await follower.ledger.propose([entry], timeout=10)
        assert (receipt.outcomes[0].accepted, receipt.outcomes[0].code) == (False, "role")
        assert len(it.agreement.log) == blocks
        receipt = await follower.ledger.propose([setting("a"), entry], timeout=10)
        assert [outcome.accepted for outcome in receipt.outcomes] == [True, False]
        assert len(it.agreement.log) == blocks + 1


async def test_whom_nobody_can_hear_gives_up_before_time_is_up(tmp_path: Path) -> None:
    network = MemoryNetwork(3)
    async with town(tmp_path, 2, network=network) as it:
        lonely = await it.add(voter=False, unreachable_s=0.2)
        network.cut("n0", "n1")
        network.part(["n0"], ["n1"])
        async with asyncio.timeout(10):
            with pytest.raises(Unavailable) as caught:
                await lonely.ledger.propose([setting("a")], timeout=60)
        assert caught.value.details["maybe"] is False


async def test_a_node_that_does_not_vote_takes_no_proposals_of_others(tmp_path: Path) -> None:
    async with town(tmp_path, 2) as it:
        await it.add(voter=False)
        link = await it.places[1].links.to(it.places[0].links.peer)
        with pytest.raises(Unavailable, match="does not vote") as caught:
            await link.call("ledger.propose", pack([setting("a")]), timeout=5)
        assert caught.value.details["maybe"] is False


async def test_a_follower_left_behind_by_a_broken_link_catches_up(tmp_path: Path) -> None:
    network = MemoryNetwork(5)
    async with town(tmp_path, 2, network=network) as it:
        await it.add(voter=True)
        await it.found(2)
        follower = await it.add(voter=False)
        await follower.ledger.wait_for(it.nodes[0].ledger.tip.height, timeout=10)
        network.cut("n0", "n1")
        network.part(["n0"], ["n1"])
        await it.fill(10)
        assert follower.ledger.tip.height < it.nodes[0].ledger.tip.height
        network.heal()
        await follower.ledger.wait_for(it.nodes[0].ledger.tip.height, timeout=20)
        assert follower.ledger.tip == it.nodes[0].ledger.tip


async def test_a_voter_behind_a_snapshot_pulls_up_to_it_and_goes_on(tmp_path: Path) -> None:
    async with town(tmp_path, 3) as it:
        first = await it.add(voter=True)
        await it.found(3)
        await it.fill(20)
        await first.ledger.sync()
        index = first.ledger.applied
        snapshot = first.ledger.take_snapshot(index)
        assert snapshot is not None
        await it.fill(3, "after")
        late = await it.add(voter=False)
        it.agreement.voters.append(late.peer)
        late.ledger.install_snapshot(snapshot, index)
        late.ledger.on_committed(it.agreement.log[index:])
        await late.ledger.wait_for(first.ledger.tip.height, timeout=10)
        assert (late.ledger.tip, late.ledger.target, late.ledger.applied) == (
            first.ledger.tip,
            None,
            first.ledger.applied,
        )


class Liar:
    """A peer that serves blocks of its own making."""

    def __init__(self, place: MeshNode, wires: list[bytes]) -> None:
        place.router.unary(TIP, self.tip, allow=Audience.MEMBER)
        place.router.unary(BLOCKS, self.blocks, allow=Audience.MEMBER)
        place.router.streaming(FOLLOW, self.follow, allow=Audience.MEMBER)
        self.wires = wires
        self.asked = 0

    async def tip(self, _request) -> bytes:
        return pack({"height": 1_000_000, "tip": bytes(32)})

    async def blocks(self, request) -> bytes:
        self.asked += 1
        start = unpack(request.body)["from"]
        return pack({"height": 1_000_000, "blocks": self.wires[start - 1 : start]})

    async def follow(self, request, stream) -> None:
        self.asked += 1
        await stream.send(self.wires[unpack(request.body)["from"] - 1])


async def test_a_peer_that_sends_a_bad_block_is_named_and_left_alone(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    network = MemoryNetwork(7)
    async with town(tmp_path, 3, network=network) as it:
        first = await it.add(voter=True)
        await it.found(3)
        await it.fill(10)
        wires = first.ledger.wires(1, 100, 1 << 20)
        liar = Liar(it.places[1], [*wires[:4], *(wire[:-1] + bytes([wire[-1] ^ 1]) for wire in wires[4:])])
        lies_at = it.places[1].links.peer
        it.places[1:] = it.places[2:]
        network.part(["n0"], ["n2"])
        follower = await it.add(voter=False, bad_peer_s=1000.0)
        await until(lambda: "ledger.bad_block" in caplog.text)
        assert follower.ledger.tip.height == 4
        asked = liar.asked
        network.heal()
        await it.fill(3, "more")
        await follower.ledger.wait_for(first.ledger.tip.height, timeout=10)
        assert follower.ledger.tip == first.ledger.tip
        # One request may have been under way when the first bad block was noticed.
        assert liar.asked <= asked + 1
        named = [record for record in caplog.records if record.message == "ledger.bad_block"]
        assert {(record.peer_id, record.height, record.check) for record in named} == {(lies_at, 5, "entries_root")}


async def test_methods_are_for_members_only(tmp_path: Path) -> None:
    async with town(tmp_path, 1) as it:
        await it.add(voter=True, run=False)
        audiences = {
            method: allow for method, allow in it.places[0].router.methods().items() if method.startswith("ledger.")
        }
        assert audiences == {
            "ledger.propose": Audience.MEMBER,
            "ledger.tip": Audience.MEMBER | Audience.LOCAL,
            "ledger.blocks": Audience.MEMBER | Audience.LOCAL,
            "ledger.follow": Audience.MEMBER,
        }


@pytest.mark.parametrize(
    ("method", "body"),
    [
        ("ledger.propose", b"x"),
        ("ledger.propose", pack("x")),
        ("ledger.propose", pack([1])),
        ("ledger.propose", pack([b"x"])),
        ("ledger.tip", pack([1])),
        ("ledger.tip", pack({"at": -1})),
        ("ledger.blocks", pack({"from": "x", "limit": 1})),
        ("ledger.blocks", pack({"from": 1})),
        ("ledger.blocks", b"\xc1"),
    ],
)
async def test_requests_that_are_none_are_refused(tmp_path: Path, method: str, body: bytes) -> None:
    async with town(tmp_path, 2) as it:
        await it.add(voter=True)
        await it.found(1)
        link = await it.places[1].links.to(it.places[0].links.peer)
        with pytest.raises(Exception, match=r"\w+") as caught:
            await link.call(method, body, timeout=5)
        assert caught.value.code in {"usage", "protocol_remote", "protocol"}


async def test_answers_to_pulls_are_bounded(tmp_path: Path) -> None:
    async with town(tmp_path, 2) as it:
        node = await it.add(voter=True, pull_bytes=2000)
        await it.found(1)
        await it.fill(30)
        link = await it.places[1].links.to(it.places[0].links.peer)
        answer = unpack(await link.call("ledger.blocks", pack({"from": 1, "limit": 1000}), timeout=5))
        assert answer["height"] == node.ledger.tip.height
        assert 1 < len(answer["blocks"]) < 8
        asked = unpack(await link.call("ledger.tip", pack({"at": 1}), timeout=5))
        assert asked == {"height": 32, "tip": node.ledger.tip.hash, "at": node.ledger.hash_at(1)}


async def test_streams_of_blocks_are_bounded_in_number(tmp_path: Path) -> None:
    async with town(tmp_path, 2) as it:
        await it.add(voter=True, followers=1)
        await it.found(1)
        link = await it.places[1].links.to(it.places[0].links.peer)
        first = link.open("ledger.follow", pack({"from": 1}))
        assert await first.receive() is not None
        second = link.open("ledger.follow", pack({"from": 1}))
        with pytest.raises(Exception, match="as many followers"):
            await second.receive()
        first.reset()


async def test_a_node_whose_chain_is_not_the_others_says_so(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    async with town(tmp_path, 2) as it:
        await it.add(voter=True)
        await it.found(2)
        shared = list(it.agreement.log)
        await it.fill(2)
        other = Agreement()
        second = await it.add(voter=True, agreement=other)
        for item in shared:
            other.log.append(item)
        stray = Command(ADMIN.public, second.clock.time_ms(), (setting("stray"),)).to_wire()
        other.log.append(Item(len(shared) + 1, 1, stray))
        second.ledger.on_committed(other.log)
        await until(lambda: "ledger.diverged" in caplog.text)
