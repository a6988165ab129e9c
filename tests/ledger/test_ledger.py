"""The ledger of one node, with an engine that agrees with itself."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from osiris_mesh.codec import unpack
from osiris_mesh.errors import DeadlineExceeded, NotFound, OsirisError, Overloaded, Unavailable, UsageError
from osiris_mesh.ledger.block import Command
from osiris_mesh.ledger.entry import Entry
from osiris_mesh.ledger.kinds import ConfigSet, UserAdd
from tests.ledger.kit import ADMIN, FOUNDER, MESH, STRANGER, VIEWER, Agreement, Item, Node, genesis, key, until


@pytest.fixture
async def node(tmp_path: Path) -> AsyncIterator[Node]:
    made = await Node(tmp_path, Agreement(), FOUNDER).start()
    assert (await made.put(genesis(), FOUNDER)).accepted
    yield made
    await made.close()


def setting(node: Node, name: str, author=ADMIN) -> bytes:
    body = ConfigSet(f"test.{name}", "1")
    return Entry.make(body.KIND, body.body(), author, MESH, node.clock).bytes


async def test_a_receipt_says_what_became_of_each_entry_once_it_is_applied_here(node: Node) -> None:
    receipt = await node.ledger.propose([setting(node, "a"), setting(node, "b", VIEWER)], timeout=5)
    assert receipt.height == node.ledger.tip.height == 2
    assert [(outcome.accepted, outcome.code) for outcome in receipt.outcomes] == [(True, ""), (False, "author")]
    assert node.ledger.state.settings == {"test.a": "1"}


async def test_what_waits_at_one_moment_shares_a_command(node: Node) -> None:
    receipts = await asyncio.gather(*(node.ledger.propose([setting(node, f"k{n}")], timeout=5) for n in range(50)))
    assert {receipt.height for receipt in receipts} == {2}
    assert len(node.agreement.log) == 2


async def test_what_comes_while_commands_are_under_way_shares_the_next(node: Node) -> None:
    node.agreement.hold = asyncio.Event()
    work = []
    for n in range(20):
        work.append(asyncio.ensure_future(node.ledger.propose([setting(node, f"k{n}")], timeout=5)))
        for _ in range(3):
            await asyncio.sleep(0)
    node.agreement.hold.set()
    await asyncio.gather(*work)
    assert [len(Command.from_wire(item.command).entries) for item in node.agreement.log[1:]] == [1, 1, 18]


async def test_an_entry_proposed_again_has_one_effect_and_no_new_block(node: Node) -> None:
    entry = setting(node, "a")
    first = await node.ledger.propose([entry], timeout=5)
    again = await node.ledger.propose([entry], timeout=5)
    assert (again.height, again.outcomes[0].accepted) == (first.height, True)
    assert node.ledger.tip.height == 2


async def test_a_definite_failure_is_tried_again_until_it_is_done(node: Node) -> None:
    node.agreement.failures = [Unavailable("no leader", maybe=False), Overloaded("queue full", retry_after_ms=1)]
    receipt = await node.ledger.propose([setting(node, "a")], timeout=5)
    assert receipt.outcomes[0].accepted
    assert node.ledger.tip.height == 2


async def test_an_answer_lost_on_the_way_does_not_matter(node: Node) -> None:
    node.agreement.lost = [Unavailable("the leader changed", maybe=True)]
    receipt = await node.ledger.propose([setting(node, "a")], timeout=5)
    assert receipt.outcomes[0].accepted


@pytest.mark.parametrize(("error", "maybe"), [(Unavailable("no", maybe=False), False), (DeadlineExceeded("?"), True)])
async def test_a_deadline_says_whether_it_may_have_happened(node: Node, error: Exception, maybe: bool) -> None:
    node.agreement.failures = [error] * 10_000
    with pytest.raises(DeadlineExceeded) as caught:
        await node.ledger.propose([setting(node, "a")], timeout=0.1)
    assert caught.value.details["maybe"] is maybe
    assert node.ledger._proposer.proposals.entries == 0


async def test_what_is_surely_refused_makes_no_block(node: Node) -> None:
    receipt = await node.ledger.propose([setting(node, "a", VIEWER), setting(node, "b", STRANGER)], timeout=5)
    assert [(outcome.accepted, outcome.code) for outcome in receipt.outcomes] == [(False, "author")] * 2
    assert (receipt.height, node.ledger.tip.height, len(node.agreement.log)) == (1, 1, 1)
    receipt = await node.ledger.propose([setting(node, "c", VIEWER), setting(node, "d")], timeout=5)
    assert [(outcome.accepted, outcome.code) for outcome in receipt.outcomes] == [(False, "author"), (True, "")]
    assert len(Command.from_wire(node.agreement.log[-1].command).entries) == 1


async def test_who_can_not_be_sure_leaves_the_refusal_to_the_block(node: Node) -> None:
    node.agreement.stale = True
    receipt = await node.ledger.propose([setting(node, "a", VIEWER)], timeout=5)
    assert (receipt.outcomes[0].accepted, receipt.height) == (False, 2)


async def test_entries_that_build_on_each_other_are_tried_together(node: Node) -> None:
    user = UserAdd(key("eve").public, "eve", "operator")
    entries = [Entry.make(user.KIND, user.body(), ADMIN, MESH, node.clock).bytes, setting(node, "a", key("eve"))]
    before = dict(node.ledger.state.users)
    assert node.ledger._try([Entry.parse(entries[1])])[0].code == "author"
    assert node.ledger._try([Entry.parse(data) for data in entries]) == {}
    assert node.ledger.state.users == before
    receipt = await node.ledger.propose(entries, timeout=5)
    assert all(outcome.accepted for outcome in receipt.outcomes)


async def test_a_leader_takes_no_command_of_a_time_to_come(node: Node) -> None:
    def command(ahead: int) -> bytes:
        return Command(FOUNDER.public, node.clock.time_ms() + ahead, (setting(node, "a"),)).to_wire()

    assert node.ledger.may_append(command(300_000))
    assert not node.ledger.may_append(command(300_001))
    assert not node.ledger.may_append(b"noise")


def no_quorum() -> Unavailable:
    return Unavailable("there is no quorum: 1 of 3 voters", maybe=False, why="quorum", reachable=1, voters=3)


@pytest.mark.parametrize("before", [None, DeadlineExceeded("?")])
async def test_no_quorum_is_said_at_once_and_not_when_time_is_up(node: Node, before: OsirisError | None) -> None:
    node.agreement.failures = [before, no_quorum()] if before else [no_quorum()]
    async with asyncio.timeout(5):
        with pytest.raises(Unavailable, match="1 of 3 voters") as caught:
            await node.ledger.propose([setting(node, "a")], timeout=60)
    assert caught.value.details == {**no_quorum().details, "maybe": before is not None}
    assert node.ledger._proposer.proposals.entries == 0


async def test_what_raft_refuses_for_good_is_not_tried_again(node: Node) -> None:
    node.agreement.failures = [UsageError("too large")]
    with pytest.raises(UsageError, match="too large"):
        await node.ledger.propose([setting(node, "a")], timeout=5)


async def test_an_entry_that_can_be_seen_to_be_wrong_never_reaches_raft(node: Node) -> None:
    good = setting(node, "a")
    forged = good[:-1] + bytes([good[-1] ^ 1])
    other = Entry.make("config.set", ["a", "1"], ADMIN, bytes(16), node.clock).bytes
    for entries, text in (
        ([forged], "not signed"),
        ([b"\xc0"], "not well-formed"),
        ([other], "another mesh"),
        ([], "nothing"),
    ):
        with pytest.raises(UsageError, match=text):
            await node.ledger.propose(entries, timeout=5)
    assert len(node.agreement.log) == 1


async def test_more_than_may_wait_is_refused_as_overload(tmp_path: Path) -> None:
    node = await Node(tmp_path, Agreement(), FOUNDER, waiting_entries=4).start()
    await node.put(genesis(), FOUNDER)
    node.agreement.hold = asyncio.Event()
    work = [asyncio.ensure_future(node.ledger.propose([setting(node, f"k{n}")], timeout=5)) for n in range(4)]
    await asyncio.sleep(0)
    with pytest.raises(Overloaded):
        await node.ledger.propose([setting(node, "x")], timeout=5)
    node.agreement.hold.set()
    assert len(await asyncio.gather(*work)) == 4
    await node.close()


async def test_before_the_genesis_nothing_else_is_proposed(tmp_path: Path) -> None:
    node = await Node(tmp_path, Agreement(), FOUNDER).start()
    with pytest.raises(Unavailable, match="no genesis") as caught:
        await node.ledger.propose([setting(node, "a")], timeout=5)
    assert caught.value.details["maybe"] is False
    await node.close()


async def test_a_restart_finds_the_same_chain_and_state(tmp_path: Path) -> None:
    agreement = Agreement()
    node = await Node(tmp_path, agreement, FOUNDER).start()
    await node.put(genesis(), FOUNDER)
    for n in range(5):
        await node.ledger.propose([setting(node, f"k{n}"), setting(node, f"v{n}", VIEWER)], timeout=5)
    tip, applied, settings = node.ledger.tip, node.ledger.applied, dict(node.ledger.state.settings)
    await node.close()
    again = await Node(tmp_path, agreement, FOUNDER).start()
    assert (again.ledger.tip, again.ledger.applied, again.ledger.state.settings) == (tip, applied, settings)
    # What Raft hands over once more makes nothing new.
    again.ledger.on_committed(agreement.log)
    await again.ledger.propose([setting(again, "new")], timeout=5)
    assert again.ledger.tip.height == tip.height + 1
    await again.close()


async def test_two_nodes_that_apply_the_same_commands_have_the_same_chain(tmp_path: Path) -> None:
    agreement = Agreement()
    nodes = [await Node(tmp_path / str(n), agreement, key(f"node{n}")).start() for n in range(2)]
    nodes[1].clock.advance(1000)  # its clock is wrong, which must not matter to what it applies
    await nodes[0].put(genesis(), FOUNDER)
    await asyncio.gather(*(nodes[0].ledger.propose([setting(nodes[0], f"k{n}")], timeout=5) for n in range(20)))
    await nodes[1].ledger.wait_for(nodes[0].ledger.tip.height, timeout=5)
    assert nodes[0].ledger.tip == nodes[1].ledger.tip
    for node in nodes:
        await node.close()


async def test_subscribers_see_every_block_in_order_and_their_errors_stay_theirs(
    node: Node, caplog: pytest.LogCaptureFixture
) -> None:
    seen = []

    def broken(_block, _state) -> None:
        raise RuntimeError("a subscriber's own")

    node.ledger.on_block(broken)
    node.ledger.on_block(lambda block, state: seen.append((block.height, len(state.settings))))
    for n in range(3):
        await node.ledger.propose([setting(node, f"k{n}")], timeout=5)
    assert seen == [(2, 1), (3, 2), (4, 3)]
    assert "ledger.subscriber" in caplog.text


async def test_waiting_for_a_height(node: Node) -> None:
    waiting = asyncio.ensure_future(node.ledger.wait_for(2, timeout=5))
    await node.ledger.propose([setting(node, "a")], timeout=5)
    await waiting
    with pytest.raises(DeadlineExceeded, match="block 9"):
        await node.ledger.wait_for(9, timeout=0.01)


async def test_a_snapshot_names_the_block_once_it_is_durable(node: Node) -> None:
    await node.ledger.propose([setting(node, "a")], timeout=5)
    assert node.ledger.take_snapshot(2) is None
    await node.ledger.sync()
    tip = node.ledger.tip
    assert unpack(node.ledger.take_snapshot(2)) == [2, tip.hash]
    assert unpack(node.ledger.take_snapshot(1)) == [1, node.ledger.hash_at(1)]
    # Raft's own entries after the last command do not hold a snapshot up.
    assert unpack(node.ledger.take_snapshot(7)) == [2, tip.hash]


async def test_commands_that_make_no_block_do_not_hold_a_snapshot_up(node: Node) -> None:
    node.ledger.on_committed([Item(2, 1, b"\xc0")])
    await until(lambda: node.ledger.applied == 2)
    await node.ledger.sync()
    assert node.ledger.take_snapshot(2) is not None
    assert node.ledger.tip.height == 1


async def test_after_a_snapshot_commands_wait_for_the_blocks_before_them(tmp_path: Path) -> None:
    agreement = Agreement()
    ahead = await Node(tmp_path / "ahead", agreement, FOUNDER).start()
    await ahead.put(genesis(), FOUNDER)
    for n in range(4):
        await ahead.ledger.propose([setting(ahead, f"k{n}")], timeout=5)
    await ahead.ledger.sync()
    snapshot = ahead.ledger.take_snapshot(3)
    late = await Node(tmp_path / "late", Agreement(voters=[]), key("late")).start()
    late.ledger.install_snapshot(snapshot, 3)
    late.ledger.on_committed(agreement.log[3:])
    await until(lambda: late.ledger.target is not None)
    assert late.ledger.tip.height == 0
    late.ledger.ingest(ahead.ledger.wires(1, 100, 1 << 20))
    assert late.ledger.target is None
    await late.ledger.wait_for(5, timeout=5)
    assert late.ledger.tip == ahead.ledger.tip
    for node in (ahead, late):
        await node.close()


async def test_blocks_that_do_not_lead_to_the_snapshot_are_forgotten(tmp_path: Path) -> None:
    agreement = Agreement()
    ahead = await Node(tmp_path / "ahead", agreement, FOUNDER).start()
    await ahead.put(genesis(), FOUNDER)
    await ahead.ledger.propose([setting(ahead, "a")], timeout=5)
    other = Agreement(log=[agreement.log[0]])
    forked = await Node(tmp_path / "forked", other, FOUNDER).start()
    await forked.ledger.wait_for(1, timeout=5)
    await forked.ledger.propose([setting(forked, "b")], timeout=5)
    await ahead.ledger.sync()
    late = await Node(tmp_path / "late", Agreement(), key("late")).start()
    late.ledger.install_snapshot(ahead.ledger.take_snapshot(2), 2)
    await until(lambda: late.ledger.target is not None)
    with pytest.raises(Exception, match="not the block the snapshot names"):
        late.ledger.ingest(forked.ledger.wires(1, 100, 1 << 20))
    assert late.ledger.tip.height == 0
    late.ledger.ingest(ahead.ledger.wires(1, 100, 1 << 20))
    assert late.ledger.tip == ahead.ledger.tip
    for node in (ahead, forked, late):
        await node.close()


async def test_reading_a_block_that_is_not_there(node: Node) -> None:
    with pytest.raises(NotFound, match="no block 7"):
        node.ledger.show(7)


async def test_closing_fails_what_waits(node: Node) -> None:
    node.agreement.hold = asyncio.Event()
    waiting = asyncio.ensure_future(node.ledger.propose([setting(node, "a")], timeout=5))
    height = asyncio.ensure_future(node.ledger.wait_for(9, timeout=5))
    await asyncio.sleep(0)
    await node.close()
    for task in (waiting, height):
        with pytest.raises(Unavailable):
            await task


async def test_a_large_command_of_another_node_is_checked_in_slices_and_applied_the_same(tmp_path: Path) -> None:
    here = await Node(tmp_path / "here", Agreement(), FOUNDER).start()
    there = await Node(tmp_path / "there", Agreement(), key("there"), apply_slice_s=0.001).start()
    await here.put(genesis(), FOUNDER)
    entries = [setting(here, f"k{n}") for n in range(300)]
    entries[7] = entries[7][:-1] + bytes([entries[7][-1] ^ 1])
    entries[9] = b"noise"
    command = Command(FOUNDER.public, here.clock.time_ms(), tuple(entries)).to_wire()
    here.agreement.log.append(Item(2, 1, command))
    for node in (here, there):
        node.ledger.on_committed(here.agreement.log if node is there else here.agreement.log[1:])
    turns = 0

    def applied() -> bool:
        nonlocal turns
        turns += 1
        return there.ledger.tip.height == 2

    await until(applied)
    await here.ledger.wait_for(2, timeout=5)
    assert here.ledger.tip == there.ledger.tip
    outcomes = there.ledger.block(2).outcomes
    assert (outcomes[7].code, outcomes[9].code) == ("signature", "malformed")
    assert sum(outcome.accepted for outcome in outcomes) == 298
    assert turns > 2
    for node in (here, there):
        await node.close()
