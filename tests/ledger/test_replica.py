"""Blocks: the same on every node, from a command as from a peer, and nothing that does not follow."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from osiris_mesh.clock import FakeClock
from osiris_mesh.codec import pack
from osiris_mesh.errors import CheckFailed, RemoteProtocolError, UsageError
from osiris_mesh.identity.keys import KeyPair
from osiris_mesh.identity.peer_id import peer_id
from osiris_mesh.ledger.block import (
    MAX_COMMAND,
    MAX_ENTRIES,
    Block,
    Command,
    Header,
    block_hash,
    read_wire,
    wire,
)
from osiris_mesh.ledger.draft import draft
from osiris_mesh.ledger.entry import Entry
from osiris_mesh.ledger.kinds import (
    Body,
    ConfigReset,
    ConfigSet,
    ContainerFunctions,
    FunctionActivate,
    FunctionPublish,
    FunctionRemove,
    MemberRemove,
    TokenCreate,
    UserAdd,
    UserRemove,
)
from osiris_mesh.ledger.merkle import tree_root
from osiris_mesh.ledger.replica import BadBlock, Replica
from osiris_mesh.ledger.state import Context
from tests.ledger.kit import (
    ADMIN,
    DEVELOPER,
    FOUNDER,
    HOUR,
    JOINER,
    MESH,
    OPERATOR,
    STRANGER,
    VIEWER,
    Paper,
    genesis,
    key,
    spec,
)


def make(paper: Paper, count: int = 3) -> list[Block]:
    for at in range(count):
        paper.must(ConfigSet(f"k{at}", "1"), OPERATOR)
    return paper.blocks


def test_a_header_is_what_the_protocol_says() -> None:
    paper = Paper().begin()
    first, second = paper.blocks[0], paper.command([paper.entry(ConfigSet("a", "1"), OPERATOR).bytes, b"noise"])
    assert second is not None
    header = second.header
    assert (first.header.previous, first.header.height, first.header.first) == (bytes(32), 1, 0)
    assert header == Header(
        mesh_id=MESH,
        height=5,
        previous=paper.blocks[3].hash,
        container=peer_id(FOUNDER.public),
        first=4,
        count=2,
        entries_root=tree_root(second.hashes),
        log_size=6,
        log_root=tree_root([digest for block in paper.blocks for digest in block.hashes]),
        raft_term=1,
        raft_index=5,
        time_ms=paper.clock.time_ms(),
    )
    header_bytes, entries = read_wire(second.wire)
    assert (Header.from_wire(header_bytes), block_hash(header_bytes), entries[1]) == (header, second.hash, b"noise")
    assert second.outcomes[1].code == "malformed"


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\xc0",
        pack([2, FOUNDER.public, 1, [b"x"]]),
        pack([1, FOUNDER.public, 1, []]),
        pack([1, FOUNDER.public[:31], 1, [b"x"]]),
        pack([1, FOUNDER.public, -1, [b"x"]]),
        pack([1, FOUNDER.public, 1, ["x"]]),
        pack([1, FOUNDER.public, 1, [b"x"], 0]),
        pack([1, FOUNDER.public, 1.0, [b"x"]]),
        pack([1, FOUNDER.public, 1, [b"x" * (MAX_COMMAND // 4 + 1)]]),
    ],
)
def test_a_command_of_another_form_makes_no_block_anywhere(data: bytes) -> None:
    paper = Paper().begin()
    tip = paper.replica.tip
    assert paper.replica.apply(1, 99, data) is None
    assert paper.replica.tip == tip
    with pytest.raises(RemoteProtocolError):
        Command.from_wire(data)


def test_a_command_of_nothing_but_noise_makes_a_block_of_refusals() -> None:
    paper = Paper().begin()
    block = paper.command([b"", b"noise", b"\xff" * 50])
    assert block is not None
    assert [outcome.code for outcome in block.outcomes] == ["malformed"] * 3


def test_a_command_handed_over_again_makes_nothing() -> None:
    paper = Paper().begin()
    tip = paper.replica.tip
    for term, index, data in paper.commands:
        assert paper.replica.apply(term, index, data) is None
    assert paper.replica.tip == tip


def test_block_time_is_never_before_the_block_before() -> None:
    paper = Paper().begin()
    paper.clock.advance(100)
    make(paper, 1)
    late = paper.replica.time_ms
    command = Command(FOUNDER.public, late - 50_000, (b"x",)).to_wire()
    block = paper.replica.apply(1, 100, command)
    assert block is not None
    assert block.header.time_ms == late


@pytest.mark.parametrize("entries", [(), (b"x",) * (MAX_ENTRIES + 1), (b"x" * 100_000,) * 6])
def test_commands_are_bounded(entries: tuple[bytes, ...]) -> None:
    with pytest.raises(UsageError):
        Command(FOUNDER.public, 1, entries).to_wire()


# Determinism

PEOPLE = [FOUNDER, ADMIN, OPERATOR, DEVELOPER, VIEWER, STRANGER, JOINER]
VERSIONS = ["1.0.0", "1.1.0", "2.0.0"]


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 1 << 32))
def test_a_draft_says_what_will_become_of_entries_and_leaves_no_trace(seed: int) -> None:
    rng = random.Random(seed)
    paper = Paper().begin()
    for at in range(12):
        authors = (ADMIN, OPERATOR, DEVELOPER, FOUNDER, STRANGER)
        entries = [paper.entry(any_body(rng, paper), rng.choice(authors)) for _ in range(4)]
        before = everything(paper.replica)
        over = draft(paper.state)
        context = Context(paper.replica.tip.height + 1, paper.clock.time_ms())
        tried = [over.apply(entry, context) for entry in entries]
        assert everything(paper.replica) == before, at
        block = paper.command([entry.bytes for entry in entries])
        assert block is not None
        assert tried == list(block.outcomes)
        for name in ("members", "users", "tokens", "functions", "settings", "containers", "tombs"):
            assert dict(getattr(over, name)) == getattr(paper.state, name)


def test_a_proposer_far_ahead_does_not_take_the_mesh_along() -> None:
    paper = Paper().begin()
    now = paper.clock.time_ms()
    honest = paper.entry(ConfigSet("a", "1"), OPERATOR).bytes
    command = Command(FOUNDER.public, now + 1000 * HOUR, (honest, b"noise")).to_wire()
    block = paper.replica.apply(1, 50, command)
    assert block is not None
    assert block.header.time_ms == now + HOUR + 1
    assert [outcome.code for outcome in block.outcomes] == ["time", "malformed"]
    noise = paper.replica.apply(1, 51, Command(FOUNDER.public, now + 1000 * HOUR, (b"noise",)).to_wire())
    assert noise is not None
    assert noise.header.time_ms == now + HOUR + 1
    paper.index = 51
    paper.clock.advance(2)
    assert paper.put(ConfigSet("a", "1"), OPERATOR).accepted


def test_a_peers_block_of_a_time_far_ahead_is_refused() -> None:
    paper = Paper().begin()
    other = Replica(MESH)
    for block in paper.blocks:
        other.follow(block.wire)
    block = paper.command([paper.entry(ConfigSet("a", "1"), OPERATOR).bytes])
    assert block is not None
    late = replace(block.header, time_ms=paper.clock.time_ms() + HOUR + 2)
    with pytest.raises(BadBlock) as caught:
        other.follow(wire(late.to_wire(), [entry.bytes for entry in block.entries if entry is not None]))
    assert caught.value.check == "time"


@settings(max_examples=60, deadline=None)
@given(
    st.one_of(st.integers(0, 1 << 54), st.integers((1 << 53) - 2, (1 << 53) + 2), st.integers(1 << 60, (1 << 64) - 1)),
    st.one_of(st.integers(2, 1 << 54), st.integers((1 << 53) - 2, (1 << 53) + 2), st.integers(1 << 60, (1 << 64) - 1)),
)
def test_what_is_applied_can_be_read_back(term: int, index: int) -> None:
    paper = Paper()
    paper.must(genesis(), FOUNDER)
    before = everything(paper.replica)
    wire_ = Command(FOUNDER.public, paper.clock.time_ms(), (paper.entry(ConfigSet("a", "1"), ADMIN).bytes,)).to_wire()
    try:
        block = paper.replica.apply(term, index, wire_)
    except CheckFailed:
        assert max(term, index) > 1 << 53
        assert everything(paper.replica) == before
        return
    assert block is not None
    assert Header.from_wire(read_wire(block.wire)[0]) == block.header


def any_body(rng: random.Random, paper: Paper) -> Body:
    token = key(f"token{rng.randrange(4)}")
    user = key(f"user{rng.randrange(4)}")
    return rng.choice(
        [
            lambda: ConfigSet(f"k{rng.randrange(3)}", str(rng.randrange(3))),
            lambda: ConfigReset(rng.choice(["", "k0"])),
            lambda: UserAdd(user.public, f"u{rng.randrange(4)}", rng.choice(["viewer", "developer", "king"])),
            lambda: UserRemove(user.public),
            lambda: TokenCreate(
                token.public,
                rng.choice(["voter", "follower", "client"]),
                rng.choice(["none", "developer", "admin"]),
                rng.choice([1, 2]),
                paper.clock.time_ms() + rng.choice([-1, 1, 10**7]),
                rng.choice(["", "app"]),
            ),
            lambda: paper.join(JOINER, token, user.public),
            lambda: MemberRemove(peer_id(rng.choice([JOINER, FOUNDER]).public)),
            lambda: FunctionPublish(spec("a/b", rng.choice(VERSIONS), bytes([rng.randrange(2)]) * 32).to_wire()),
            lambda: FunctionActivate("a/b", rng.choice(VERSIONS)),
            lambda: FunctionRemove("a/b", rng.choice(["", *VERSIONS])),
            lambda: ContainerFunctions([["a/b", "1.0.0", rng.randrange(3)]]),
        ]
    )()


def everything(replica: Replica) -> object:
    state = replica.state
    return (
        replica.tip, replica.frontier.root(), replica.time_ms, state.name, state.members, state.users, state.tokens,
        state.functions, state.containers, state.settings, state.tombs, state.admitted,
    )  # fmt: skip


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 1 << 32))
def test_the_same_commands_make_the_same_chain_and_state_on_every_node(seed: int) -> None:
    rng = random.Random(seed)
    paper = Paper().begin()
    skewed = [FakeClock(epoch_ms=paper.clock.time_ms() + rng.randrange(-400_000, 400_000)) for _ in range(3)]
    old: list[bytes] = []
    for _ in range(rng.randrange(1, 25)):
        entries = []
        for _ in range(rng.randrange(1, 6)):
            entry = paper.entry(any_body(rng, paper), rng.choice(PEOPLE), clock=rng.choice(skewed))
            entries.append(rng.choice([entry.bytes, entry.bytes, entry.bytes, entry.bytes[:-1], *old[-2:]]))
            old.append(entry.bytes)
        # Each command comes from another proposer with a clock of its own.
        clock = rng.choice(skewed)
        clock.advance(rng.random() * 600)
        paper.clock, mine = clock, paper.clock
        paper.command(entries, proposer=rng.choice(PEOPLE))
        paper.clock = mine
    twin, peer, stored = Replica(MESH), Replica(MESH), Replica(MESH)
    for term, index, data in paper.commands:
        twin.apply(term, index, data, lambda _digest: None)
    for block in paper.blocks:
        followed = peer.follow(block.wire)
        assert followed is not None
        assert (followed.hash, followed.outcomes) == (block.hash, block.outcomes)
        unsigned = {at for at, outcome in enumerate(block.outcomes) if outcome.code == "signature"}
        stored.follow(block.wire, unsigned=unsigned)
    assert everything(paper.replica) == everything(twin) == everything(peer) == everything(stored)


def test_entries_checked_at_the_proposer_count_the_same_as_those_checked_at_apply() -> None:
    paper = Paper().begin()
    entry = paper.entry(ConfigSet("a", "1"), OPERATOR)
    command = Command(FOUNDER.public, paper.clock.time_ms(), (entry.bytes, b"x")).to_wire()
    twin = Replica(MESH)
    for block in paper.blocks:
        twin.follow(block.wire)
    one = paper.replica.apply(1, 9, command, {entry.hash: entry}.get)
    two = twin.apply(1, 9, command)
    assert one is not None
    assert two is not None
    assert (one.hash, one.outcomes) == (two.hash, two.outcomes)


# Peers that lie


def change_header(**changes: object) -> Callable[[Block], bytes]:
    def change(block: Block) -> bytes:
        return wire(replace(block.header, **changes).to_wire(), read_wire(block.wire)[1])

    return change


def drop_entry(block: Block) -> bytes:
    return wire(read_wire(block.wire)[0], [*read_wire(block.wire)[1], b"more"])


def forge_entry(block: Block) -> bytes:
    header, entries = read_wire(block.wire)
    return wire(header, [entries[0][:-1] + bytes([entries[0][-1] ^ 1])])


@pytest.mark.parametrize(
    ("change", "check"),
    [
        (lambda _block: b"", "form"),
        (lambda block: block.wire + b"\0", "form"),
        (lambda block: wire(b"", read_wire(block.wire)[1]), "form"),
        (change_header(container="nobody"), "form"),
        (change_header(mesh_id=bytes(16)), "mesh_id"),
        (change_header(height=7), "height"),
        (change_header(previous=bytes(32)), "previous"),
        (change_header(first=3), "first"),
        (change_header(count=2), "count"),
        (change_header(entries_root=bytes(32)), "entries_root"),
        (change_header(log_size=9), "log_size"),
        (change_header(log_root=bytes(32)), "log_root"),
        (change_header(raft_index=4), "raft"),
        (change_header(raft_term=0), "raft"),
        (change_header(time_ms=1), "time"),
        (drop_entry, "count"),
        (forge_entry, "entries_root"),
    ],
)
def test_a_block_that_does_not_follow_is_refused_and_changes_nothing(
    change: Callable[[Block], bytes], check: str
) -> None:
    paper = Paper().begin()
    make(paper, 3)
    good = paper.blocks[4]
    peer = Replica(MESH)
    for block in paper.blocks[:4]:
        peer.follow(block.wire)
    before = everything(peer)
    with pytest.raises(BadBlock) as caught:
        peer.follow(change(good))
    assert (caught.value.check, caught.value.height) == (check, 5)
    assert everything(peer) == before
    assert peer.follow(good.wire) is not None


def test_a_block_the_chain_has_is_passed_over() -> None:
    paper = Paper().begin()
    assert paper.replica.follow(paper.blocks[0].wire) is None


def test_a_chain_that_begins_with_no_genesis_is_refused() -> None:
    paper = Paper()
    entry = paper.entry(ConfigSet("a", "1"), ADMIN)
    header, _ = Replica(MESH)._header(peer_id(FOUNDER.public), [entry.hash], 1, 1, paper.clock.time_ms())
    with pytest.raises(BadBlock) as caught:
        Replica(MESH).follow(wire(header.to_wire(), [entry.bytes]))
    assert caught.value.check == "genesis"


def test_a_peer_that_rewrites_who_signed_gets_refusals_not_effects() -> None:
    """A dishonest leader may order and leave out; he can't make anyone do what no author signed."""
    paper = Paper().begin()
    forged = Entry.make("config.set", ["a", "1"], STRANGER, MESH, paper.clock)
    payload = forged.payload.replace(STRANGER.public, ADMIN.public)
    block = paper.command([pack([payload, forged.signature])], proposer=KeyPair(bytes(32)))
    assert block is not None
    assert block.outcomes[0].code == "signature"
    assert paper.state.settings == {}
