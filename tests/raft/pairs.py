"""The same scenario for two: bare PySyncObj 0.3.17 and ours, each as one node with a fake network and a fake clock.

Bare is a second, untouched copy of the package, imported beside the one ``osiris_mesh.raft.ground`` has changed.
"""

from __future__ import annotations

import importlib
import random
import sys
import types
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar

from osiris_mesh.clock import FakeClock
from osiris_mesh.errors import OsirisError
from osiris_mesh.raft.configuration import COMMAND, configuration
from osiris_mesh.raft.engine import Engine
from osiris_mesh.raft.message import decode, encode
from osiris_mesh.raft.request import Change, Proposal
from osiris_mesh.raft.status import Installed
from osiris_mesh.settings import RaftSettings
from tests.raft.simulator import MemoryStorage

SETTINGS = replace(RaftSettings.preset("test"), batch_bytes=1000)
Message = dict[str, Any]


def _untouched() -> tuple[types.ModuleType, types.ModuleType]:
    def ours() -> list[str]:
        return [name for name in sys.modules if name == "pysyncobj" or name.startswith("pysyncobj.")]

    kept = {name: sys.modules.pop(name) for name in ours()}
    try:
        importlib.import_module("pysyncobj")
        return sys.modules["pysyncobj.syncobj"], sys.modules["pysyncobj.journal"]
    finally:
        for name in ours():
            del sys.modules[name]
        sys.modules.update(kept)


bare: Any
bare_journal: Any
bare, bare_journal = _untouched()
# Bare pickles nodes by the name of their class, which must lead to its own copy.
bare.Node.__module__ = "bare_pysyncobj_node"
sys.modules["bare_pysyncobj_node"] = types.SimpleNamespace(Node=bare.Node)  # type: ignore[assignment]


class Evil:
    """What a pickle may hold."""

    ran: ClassVar[list[str]] = []

    @staticmethod
    def run() -> None:
        Evil.ran.append("code of the peer")

    def __reduce__(self) -> Any:
        return Evil.run, ()


class _FakeTransport(bare.Transport):  # type: ignore[misc]
    def __init__(self) -> None:
        super().__init__(None, None, [])
        self.out: list[tuple[str, Message]] = []

    def send(self, node: Any, message: Message) -> bool:
        self.out.append((node.id, message))
        return True


class Bare:
    """Bare PySyncObj with one replicated method."""

    opened: ClassVar[list[Bare]] = []

    def __init__(
        self, peer: str, voters: Sequence[str], clock: FakeClock, folder: Path | None = None, **conf: Any
    ) -> None:
        self.peer, self.voters, self.clock, self.folder, self.conf = peer, voters, clock, folder, conf
        bare.monotonicTime = clock.monotonic
        self.applied: list[bytes] = []
        self.outcomes: dict[bytes, Any] = {}
        self.transport = _FakeTransport()
        self.on_apply: Callable[[bytes], None] = lambda _data: None
        harness = self

        class Replicated(bare.SyncObj):  # type: ignore[misc]
            @bare.replicated
            def put(self, data: bytes) -> None:
                harness.applied.append(data)
                harness.on_apply(data)

        values = {
            "autoTick": False,
            "raftMinTimeout": SETTINGS.election_min_s,
            "raftMaxTimeout": SETTINGS.election_max_s,
            "appendEntriesPeriod": SETTINGS.heartbeat_s,
            "appendEntriesBatchSizeBytes": SETTINGS.batch_bytes,
            "dynamicMembershipChange": True,
            "useFork": False,
            "logCompactionMinEntries": 1_000_000,
            "logCompactionMinTime": 1_000_000,
            **conf,
        }
        if folder is not None:
            values["journalFile"] = str(folder / "journal")
            values.setdefault("fullDumpFile", str(folder / "dump"))
        self.nodes = {voter: bare.Node(voter) for voter in voters}
        self.raft = Replicated(
            self.nodes[peer],
            [self.nodes[voter] for voter in voters if voter != peer],
            bare.SyncObjConf(**values),
            nodeClass=bare.Node,
            transport=self.transport,
        )
        Bare.opened.append(self)
        for voter in voters:
            if voter != peer:
                self.transport._onNodeConnected(self.nodes[voter])

    def close(self) -> None:
        if self in Bare.opened:
            Bare.opened.remove(self)
            self.raft.destroy()

    def get(self, name: str) -> Any:
        return getattr(self.raft, f"_SyncObj__{name}")

    def command(self, data: bytes) -> bytes:
        return b"\0" + bare.pickle.dumps((0, (data,)))

    def add_entry(self, peer: str) -> bytes:
        return b"\2" + bare.pickle.dumps(["add", peer, bare.Node(peer)])

    def remove_entry(self, peer: str, _left: Sequence[str]) -> bytes:
        return b"\2" + bare.pickle.dumps(["rem", peer, bare.Node(peer)])

    def inject(self, sender: str, message: Message) -> None:
        self.transport._onMessageReceived(self.nodes.setdefault(sender, bare.Node(sender)), message)

    def snapshot_message(self, term: int, commit: int) -> Message:
        """A snapshot that does not reach beyond what the receiver has."""
        return {"type": "append_entries", "term": term, "commit_index": commit, "serialized": None}

    def tick(self) -> None:
        self.raft.doTick(0.0)

    def take(self, kind: str = "") -> list[tuple[str, Message]]:
        out, self.transport.out = self.transport.out, []
        return [item for item in out if not kind or item[1]["type"] == kind]

    def propose(self, data: bytes) -> None:
        def answer(_result: Any, failure: int) -> None:
            self.outcomes[data] = "done" if failure == 0 else failure

        self.raft.put(data, callback=answer)

    def add_voter(self, peer: str) -> None:
        self.raft.addNodeToCluster(bare.Node(peer))

    def others(self) -> set[str]:
        return {node.id for node in self.raft.otherNodes}

    def log(self) -> list[tuple[int, int]]:
        return [(entry[1], entry[2]) for entry in self.get("raftLog")[:]]

    @property
    def commit(self) -> int:
        return int(self.raft.raftCommitIndex)

    @property
    def term(self) -> int:
        return int(self.raft.raftCurrentTerm)

    @property
    def leads(self) -> bool:
        return bool(self.raft._isLeader())

    def restart(self, **conf: Any) -> Bare:
        self.get("raftLog").flush()
        self.get("raftLog").onOneSecondTimer()
        self.close()
        return Bare(self.peer, self.voters, self.clock, self.folder, **{**self.conf, **conf})


class Ours:
    """Ours, as :class:`Bare` is driven."""

    def __init__(
        self, peer: str, voters: Sequence[str], clock: FakeClock, folder: Path | None = None, **conf: Any
    ) -> None:
        self.peer, self.voters, self.clock, self.conf = peer, voters, clock, conf
        self.storage = conf.pop("storage", None) or MemoryStorage()
        settings = replace(SETTINGS, **conf.pop("settings", {}))
        self.applied: list[bytes] = []
        self.installed: list[Installed] = []
        self.outcomes: dict[bytes, Any] = {}
        self.out: list[tuple[str, Message]] = []
        self.engine = Engine(
            peer=peer,
            voters=voters,
            storage=self.storage,
            settings=settings,
            applied=0,
            clock=clock,
            rng=random.Random(7),
            take_snapshot=lambda index, _term: b"%d" % index,
        )
        for voter in voters:
            if voter != peer:
                self.engine.connect(voter)

    def get(self, name: str) -> Any:
        return getattr(self.engine.raft, f"_SyncObj__{name}")

    def command(self, data: bytes) -> bytes:
        return bytes([COMMAND]) + data

    def add_entry(self, peer: str) -> bytes:
        return configuration({*self.voters, peer})

    def remove_entry(self, _peer: str, left: Sequence[str]) -> bytes:
        return configuration(left)

    def inject(self, sender: str, message: Message) -> None:
        self.engine.receive(sender, decode(next(encode([message]))))

    def snapshot_message(self, term: int, commit: int) -> Message:
        message = {"type": "install_snapshot", "term": term, "commit_index": commit}
        return {**message, "index": 1, "index_term": 0, "voters": list(self.voters), "data": b"x"}

    def tick(self) -> None:
        for peer, packet in self.engine.step():
            self.out.extend((peer, message) for message in decode(packet))
        for item in self.engine.handed_over:
            if isinstance(item, Installed):
                self.installed.append(item)
            else:
                self.applied.append(item.command)
        self.engine.handed_over = []
        for request in self.engine.settled:
            if isinstance(request, Proposal):
                failed = isinstance(request.outcome, OsirisError)
                self.outcomes[request.command] = request.outcome if failed else "done"
        self.engine.settled = []

    def take(self, kind: str = "") -> list[tuple[str, Message]]:
        out, self.out = self.out, []
        return [item for item in out if not kind or item[1]["type"] == kind]

    def propose(self, data: bytes) -> None:
        self.engine.submit(Proposal(self.clock.monotonic() + 100.0, command=data))

    def add_voter(self, peer: str) -> None:
        self.engine.connect(peer)
        self.engine.submit(Change(self.clock.monotonic() + 100.0, add=peer))

    def others(self) -> set[str]:
        return set(self.engine.raft.voters) - {self.peer}

    def log(self) -> list[tuple[int, int]]:
        return [(entry[1], entry[2]) for entry in self.engine.journal[:]]

    @property
    def commit(self) -> int:
        return int(self.engine.raft.raftCommitIndex)

    @property
    def term(self) -> int:
        return int(self.engine.raft.raftCurrentTerm)

    @property
    def leads(self) -> bool:
        return self.engine.status().role == "leader"

    def restart(self, **_conf: Any) -> Ours:
        return Ours(self.peer, self.voters, self.clock, storage=self.storage, **self.conf)


Either = Bare | Ours


def lead(node: Either, term_votes: Sequence[str], clock: FakeClock) -> None:
    """Make ``node`` the leader of the next term by the votes of ``term_votes``."""
    clock.advance(SETTINGS.election_max_s + 0.1)
    node.tick()
    node.tick()
    if isinstance(node, Ours):
        for peer, message in node.take("pre_vote"):
            if peer in term_votes:
                node.inject(
                    peer, {"type": "pre_vote_answer", "term": node.term, "round": message["round"], "granted": True}
                )
        node.tick()
    for peer in term_votes:
        node.inject(peer, {"type": "response_vote", "term": node.term})
    node.tick()
    assert node.leads


def append(
    node: Either,
    leader: str,
    term: int,
    previous: tuple[int, int],
    entries: Sequence[tuple[bytes, int]],
    commit: int = 1,
) -> None:
    """Give ``node`` entries (data or whole command, term) after ``previous``, from ``leader``."""
    first = previous[0] + 1
    node.inject(
        leader,
        {
            "type": "append_entries",
            "term": term,
            "commit_index": commit,
            "prevLogIdx": previous[0],
            "prevLogTerm": previous[1],
            "entries": [(data, first + place, term_) for place, (data, term_) in enumerate(entries)],
        },
    )
    node.tick()
