"""The shell: threads, real files, one to five nodes."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import pytest

from osiris_mesh.errors import Conflict, DeadlineExceeded, RemoteProtocolError, Unavailable, UsageError
from osiris_mesh.raft import Raft
from tests.raft.threads import TEST, Mesh, until


@pytest.fixture
async def mesh(tmp_path: Path) -> AsyncIterator[Mesh]:
    mesh = Mesh(tmp_path)
    yield mesh
    await mesh.close()


async def test_one_node_commits_and_keeps(mesh: Mesh) -> None:
    (node,) = mesh.form("a")
    places = [await node.raft.propose(b"%d" % number, timeout=5) for number in range(20)]
    assert node.commands == [b"%d" % number for number in range(20)]
    assert places == [(item.term, item.index) for item in node.committed]
    await node.stop()
    node.committed.clear()
    node.start(applied=places[9][1])
    await until(lambda: len(node.committed) == 10)
    assert node.commands == [b"%d" % number for number in range(10, 20)]


async def test_three_nodes_agree_and_followers_propose(mesh: Mesh) -> None:
    nodes = mesh.form("a", "b", "c")
    await mesh.elected()
    await asyncio.gather(
        *(node.raft.propose(b"%s%d" % (node.peer.encode(), n), timeout=5) for node in nodes for n in range(30))
    )
    await until(lambda: all(len(node.committed) == 90 for node in nodes))
    assert nodes[0].committed == nodes[1].committed == nodes[2].committed
    assert all(node.raft.status().quorum for node in nodes)


async def test_a_proposal_is_handed_over_before_its_proposer_hears_of_it(mesh: Mesh) -> None:
    nodes = mesh.form("a", "b", "c")
    leader = await mesh.elected()
    for node in nodes:
        for _ in range(10):
            term, index = await node.raft.propose(b"x", timeout=5)
            assert (node.committed[-1].term, node.committed[-1].index) == (term, index)
    assert leader.running


async def test_the_leader_dies_and_nothing_acknowledged_is_lost(mesh: Mesh) -> None:
    nodes = mesh.form("a", "b", "c")
    leader = await mesh.elected()
    acknowledged = [b"%d" % number for number in range(50)]
    for command in acknowledged:
        await leader.raft.propose(command, timeout=5)
    await leader.stop()
    begin = asyncio.get_running_loop().time()
    successor = await mesh.elected(other_than=leader)
    await successor.raft.propose(b"after", timeout=5)
    assert asyncio.get_running_loop().time() - begin < 1.5
    leader.committed.clear()
    leader.start(applied=0)
    await until(lambda: len(leader.committed) == 51)
    assert all(node.commands == [*acknowledged, b"after"] for node in nodes)


async def test_without_a_majority_nothing_is_promised(mesh: Mesh) -> None:
    mesh.form("a", "b", "c")
    leader = await mesh.elected()
    await leader.raft.propose(b"before", timeout=5)
    mesh.cut(leader.peer, [peer for peer in mesh.nodes if peer != leader.peer])
    with pytest.raises((DeadlineExceeded, Unavailable)) as under_way:
        await leader.raft.propose(b"lost", timeout=0.3)
    assert under_way.value.details["maybe"] is True
    await until(lambda: not leader.raft.status().quorum)
    with pytest.raises(Unavailable) as refused:
        await leader.raft.propose(b"never", timeout=0.2)
    assert refused.value.details["maybe"] is False
    successor = await mesh.elected(other_than=leader)
    await successor.raft.propose(b"other", timeout=5)
    mesh.heal()
    await until(lambda: b"other" in leader.commands)
    await successor.raft.propose(b"last", timeout=5)
    await until(lambda: all(node.commands[-1] == b"last" for node in mesh.nodes.values()))
    assert all(b"never" not in node.commands for node in mesh.nodes.values())
    assert len({tuple(node.commands) for node in mesh.nodes.values()}) == 1


async def test_membership_grows_and_shrinks(mesh: Mesh) -> None:
    (first,) = mesh.form("a")
    await mesh.elected()
    for number in range(300):
        await first.raft.propose(b"%d" % number, timeout=5)
    for peer in "bcde":
        mesh.add(peer, None)
        assert mesh.nodes[peer].raft.status().role == "passive"
        await first.raft.change_voters(add=peer, timeout=5)
        assert peer in first.raft.status().voters
    await until(lambda: all(node.commands == first.commands for node in mesh.nodes.values()))
    await until(lambda: all(node.raft.status().voters == tuple("abcde") for node in mesh.nodes.values()))
    # A forwarded proposal of a newcomer.
    await mesh.nodes["e"].raft.propose(b"from e", timeout=5)
    for peer in "de":
        await first.raft.change_voters(remove=peer, timeout=5)
        await until(lambda peer=peer: mesh.nodes[peer].raft.status().role == "passive")
    term = first.raft.status().term
    await first.raft.propose(b"three again", timeout=5)
    assert first.raft.status().voters == ("a", "b", "c")
    # Those who left keep quiet, and nobody was disturbed.
    assert first.raft.status().term == term
    assert first.raft.status().role == "leader"


async def test_changes_that_are_refused(mesh: Mesh) -> None:
    mesh.form("a", "b", "c")
    leader = await mesh.elected()
    other = next(node for node in mesh.nodes.values() if node is not leader)
    with pytest.raises(Conflict, match="hand leadership over"):
        await leader.raft.change_voters(remove=leader.peer, timeout=2)
    with pytest.raises(Unavailable) as refused:
        await other.raft.change_voters(remove=leader.peer, timeout=2)
    assert refused.value.details["maybe"] is False
    with pytest.raises(UsageError):
        await leader.raft.change_voters(timeout=2)
    # Nobody answers under that name: it never catches up, and the configuration stays.
    with pytest.raises((Unavailable, DeadlineExceeded)):
        await leader.raft.change_voters(add="nobody", timeout=0.3)
    await until(lambda: mesh.nodes[leader.peer].raft.status().role == "leader")
    assert leader.raft.status().voters == ("a", "b", "c")
    await leader.raft.change_voters(add=other.peer, timeout=2)  # it votes already: nothing to do


async def test_leadership_is_handed_over(mesh: Mesh) -> None:
    mesh.form("a", "b", "c")
    leader = await mesh.elected()
    await leader.raft.propose(b"x", timeout=5)
    target = next(peer for peer in mesh.nodes if peer != leader.peer)
    assert await leader.raft.transfer(5, to=target) == target
    await until(lambda: mesh.nodes[target].raft.status().role == "leader")
    # Proposals made meanwhile at the old leader are forwarded to the new one.
    await leader.raft.propose(b"y", timeout=5)
    assert mesh.nodes[target].commands == [b"x", b"y"]


async def test_a_linearizable_read_sees_what_was_acknowledged(mesh: Mesh) -> None:
    nodes = mesh.form("a", "b", "c")
    leader = await mesh.elected()
    for _ in range(5):
        _, index = await leader.raft.propose(b"x", timeout=5)
        for node in nodes:
            assert await node.raft.read_index(timeout=5) >= index
    mesh.cut(leader.peer, [peer for peer in mesh.nodes if peer != leader.peer])
    with pytest.raises(Unavailable):
        await leader.raft.read_index(timeout=0.3)


async def test_a_peer_far_behind_gets_a_snapshot(tmp_path: Path) -> None:
    mesh = Mesh(tmp_path, replace(TEST, compact_entries=50, keep_entries=10))
    try:
        mesh.form("a", "b", "c")
        leader = await mesh.elected()
        behind = next(node for node in mesh.nodes.values() if node is not leader)
        await behind.stop()
        for number in range(200):
            await leader.raft.propose(b"%d" % number, timeout=5)
        behind.start(applied=behind.committed[-1].index if behind.committed else 0)
        await until(lambda: behind.commands[-1:] == [b"199"])
        index, term, data = behind.installed[-1]
        assert data == f"{index}/{term}".encode()
        # What it was given continues exactly where the snapshot ends.
        after = [item for item in leader.committed if item.index > index]
        assert behind.committed[-len(after) :] == after
        # Killed before the owner caught up: the next start says so again.
        await behind.stop()
        behind.installed.clear()
        behind.start(applied=0)
        await until(lambda: bool(behind.installed))
        assert behind.installed[0][0] >= index
    finally:
        await mesh.close()


async def test_a_wiped_node_comes_back_under_a_new_name(mesh: Mesh) -> None:
    mesh.form("a", "b", "c")
    leader = await mesh.elected()
    lost = next(node for node in mesh.nodes.values() if node is not leader)
    for number in range(20):
        await leader.raft.propose(b"%d" % number, timeout=5)
    await lost.stop()
    await leader.raft.change_voters(remove=lost.peer, timeout=5)
    mesh.add("d", None)
    await leader.raft.change_voters(add="d", timeout=5)
    await until(lambda: mesh.nodes["d"].commands == leader.commands)
    assert set(leader.raft.status().voters) == (set("abcd") - {lost.peer})


async def test_an_owner_that_raises_stops_its_node_alone(mesh: Mesh) -> None:
    nodes = mesh.form("a", "b", "c")
    leader = await mesh.elected()
    victim = next(node for node in nodes if node is not leader)

    class Refuses(list):  # type: ignore[type-arg]
        def extend(self, _items: object) -> None:
            raise OSError("the ledger's disk is full")

    victim.raft._on_committed = Refuses().extend
    await leader.raft.propose(b"x", timeout=5)
    await until(lambda: victim.raft.status().role == "failed")
    assert "disk is full" in victim.raft.status().error
    assert victim.changes[-1].role == "failed"
    await leader.raft.propose(b"y", timeout=5)
    with pytest.raises(Unavailable) as refused:
        await victim.raft.propose(b"z", timeout=1)
    assert refused.value.details["maybe"] is False


async def test_what_can_not_be_proposed(mesh: Mesh) -> None:
    (node,) = mesh.form("a")
    with pytest.raises(UsageError):
        await node.raft.propose(b"", timeout=1)
    with pytest.raises(UsageError):
        await node.raft.propose(bytes(TEST.command_bytes + 1), timeout=1)
    await node.raft.propose(bytes(TEST.command_bytes), timeout=5)
    with pytest.raises(RemoteProtocolError):
        node.raft.deliver("b", b"\x80\x04nonsense")


async def test_requests_end_when_the_node_stops(tmp_path: Path) -> None:
    raft = Raft(
        peer="a",
        voters=["a", "b"],
        folder=tmp_path / "a",
        settings=TEST,
        send=lambda *_: None,
        on_committed=lambda _: None,
    )
    raft.start(0)
    waiting = asyncio.ensure_future(raft.propose(b"x", timeout=30))
    await asyncio.sleep(0)
    await raft.stop()
    with pytest.raises(Unavailable) as ended:
        await waiting
    assert ended.value.details["maybe"] is False
    assert raft.status().role == "stopped"
