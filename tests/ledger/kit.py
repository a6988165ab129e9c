"""What the ledger's tests share: a mesh on paper, and the smallest engine that agrees with itself."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from osiris_mesh.clock import FakeClock
from osiris_mesh.errors import OsirisError, Unavailable
from osiris_mesh.function.spec import FunctionSpec
from osiris_mesh.identity.keys import KeyPair
from osiris_mesh.identity.peer_id import peer_id
from osiris_mesh.ledger.block import Block, Command
from osiris_mesh.ledger.entry import Entry
from osiris_mesh.ledger.kinds import Body, Genesis, TokenCreate, UserAdd, admission
from osiris_mesh.ledger.ledger import Ledger
from osiris_mesh.ledger.outcome import Outcome
from osiris_mesh.ledger.replica import Replica
from osiris_mesh.settings.ledger import LedgerSettings

MESH = bytes(range(16))
HOUR = 3_600_000


def key(name: str) -> KeyPair:
    """Return a key pair that is always the same for a name."""
    return KeyPair(name.encode().ljust(32, b"."))


FOUNDER, ADMIN, OPERATOR, DEVELOPER, VIEWER = map(key, ("founder", "admin", "operator", "developer", "viewer"))
STRANGER, JOINER, CLIENT, TOKEN = map(key, ("stranger", "joiner", "client", "token"))


def spec(name: str = "default/add", version: str = "1.0.0", digest: bytes = bytes(32), **more: Any) -> FunctionSpec:
    """Return a function's specification."""
    return FunctionSpec(name, version, digest, "add.py::add", "python3.11", [[], ""], **more)


class Paper:
    """A ledger without storage or engine: entries in, outcomes out, one command an entry."""

    def __init__(self, mesh_id: bytes = MESH) -> None:
        self.mesh_id = mesh_id
        self.clock = FakeClock()
        self.replica = Replica(mesh_id)
        self.index = 0
        self.blocks: list[Block] = []
        self.commands: list[tuple[int, int, bytes]] = []

    @property
    def state(self) -> Any:
        return self.replica.state

    def entry(
        self, body: Body, author: KeyPair, *, clock: FakeClock | None = None, nonce: bytes | None = None
    ) -> Entry:
        return Entry.make(body.KIND, body.body(), author, self.mesh_id, clock or self.clock, nonce=nonce)

    def command(self, entries: Sequence[bytes], *, proposer: KeyPair = FOUNDER) -> Block | None:
        """Apply a command of these entries."""
        self.index += 1
        wire = Command(proposer.public, self.clock.time_ms(), tuple(entries)).to_wire()
        self.commands.append((1, self.index, wire))
        block = self.replica.apply(1, self.index, wire)
        if block is not None:
            self.blocks.append(block)
        return block

    def put(self, body: Body, author: KeyPair) -> Outcome:
        """Apply one entry."""
        block = self.command([self.entry(body, author).bytes])
        assert block is not None
        return block.outcomes[0]

    def must(self, body: Body, author: KeyPair) -> None:
        outcome = self.put(body, author)
        assert outcome.accepted, outcome

    def begin(self) -> Paper:
        """Make a mesh with a founder and a user of each role."""
        self.must(genesis(), FOUNDER)
        for user, role in ((OPERATOR, "operator"), (DEVELOPER, "developer"), (VIEWER, "viewer")):
            self.must(UserAdd(user.public, role, role), ADMIN)
        return self

    def token(self, token: KeyPair = TOKEN, **changes: Any) -> None:
        """Create a token."""
        values: dict[str, Any] = {
            "key": token.public, "role": "voter", "grant": "developer", "uses": 1,
            "expires_ms": self.clock.time_ms() + HOUR, "name": "",
        }  # fmt: skip
        self.must(TokenCreate(**{**values, **changes}), ADMIN)

    def join(self, joiner: KeyPair = JOINER, token: KeyPair = TOKEN, user: bytes = b"", name: str = "joiner") -> Body:
        """Return an admission as a member proposes it."""
        return admission(
            self.mesh_id, token=token, joiner=joiner, user=user, name=name, addresses=["/ip4/127.0.0.1/tcp/1"]
        )


def genesis(founders: Sequence[KeyPair] = (FOUNDER,), admin: KeyPair = ADMIN) -> Genesis:
    """Return the body of a genesis."""
    return Genesis(
        name="paper",
        founders=[[each.public, f"node-{at}", ["/ip4/127.0.0.1/tcp/7411"]] for at, each in enumerate(founders)],
        admin=admin.public,
        admin_name="ada",
    )


@dataclass(frozen=True)
class Item:
    """A committed command."""

    index: int
    term: int
    command: bytes


@dataclass
class Status:
    """An engine's status."""

    leader: str | None = None
    voters: Sequence[str] = ()
    quorum: bool = True
    applied_index: int = 0


@dataclass
class Agreement:
    """An engine for tests: commands are agreed in the order they come, and handed to every ledger that joined."""

    log: list[Item] = field(default_factory=list)
    voters: list[str] = field(default_factory=list)
    handlers: list[Callable[[Sequence[Item]], None]] = field(default_factory=list)
    failures: list[OsirisError] = field(default_factory=list)
    lost: list[OsirisError] = field(default_factory=list)
    hold: asyncio.Event | None = None
    stale: bool = False

    async def propose(self, command: bytes, *, timeout: float) -> tuple[int, int]:
        if self.hold is not None:
            await self.hold.wait()
        if self.failures:
            raise self.failures.pop(0)
        item = Item(len(self.log) + 1, 1, command)
        self.log.append(item)
        for handler in self.handlers:
            handler([item])
        if self.lost:
            raise self.lost.pop(0)
        return item.term, item.index

    async def read_index(self, *, timeout: float) -> int:
        if self.stale:
            raise Unavailable("no leader confirmed the read in time", maybe=False)
        return len(self.log)

    def status(self) -> Status:
        return Status(self.voters[0] if self.voters else None, self.voters, applied_index=len(self.log))


class Node:
    """One ledger with its engine."""

    def __init__(self, folder: Path, agreement: Agreement, node_key: KeyPair, *, links: Any = None, **settings: Any):
        folder.mkdir(parents=True, exist_ok=True)
        self.agreement = agreement
        self.key = node_key
        self.peer = peer_id(node_key.public)
        self.clock = FakeClock()
        base = LedgerSettings.preset("test")
        self.ledger = Ledger(
            folder,
            MESH,
            public_key=node_key.public,
            raft=agreement,
            links=links,
            settings=LedgerSettings(**{**{name: getattr(base, name) for name in base.__slots__}, **settings}),
            clock=self.clock,
            rng=random.Random(1),
        )

    async def start(self, *, voter: bool = True) -> Node:
        await self.ledger.start()
        if voter:
            if self.peer not in self.agreement.voters:
                self.agreement.voters.append(self.peer)
            self.agreement.handlers.append(self.ledger.on_committed)
            self.ledger.on_committed(self.agreement.log[self.ledger.applied :])
        return self

    async def close(self) -> None:
        if self.ledger.on_committed in self.agreement.handlers:
            self.agreement.handlers.remove(self.ledger.on_committed)
        await self.ledger.close()

    async def put(self, body: Body, author: KeyPair) -> Outcome:
        entry = Entry.make(body.KIND, body.body(), author, MESH, self.clock)
        receipt = await self.ledger.propose([entry.bytes], timeout=5)
        return receipt.outcomes[0]


async def until(holds: Callable[[], bool], seconds: float = 10.0) -> None:
    """Return when ``holds()``; fail after ``seconds``."""
    loop = asyncio.get_running_loop()
    deadline = loop.time() + seconds
    while not holds():
        assert loop.time() < deadline, "it never came to hold"
        await asyncio.sleep(0.002)
