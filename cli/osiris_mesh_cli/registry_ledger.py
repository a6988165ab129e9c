"""The registry in the mesh's ledger, as a command reaches it: read through the controller, entries signed here.

:class:`osiris_mesh.registry.tree_ledger.TreeLedger` does the work; what it sees is this home's ledger from outside.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, cast

from osiris_mesh.clock import SYSTEM
from osiris_mesh.errors import CheckFailed, RemoteProtocolError
from osiris_mesh.ledger.block import Block
from osiris_mesh.ledger.outcome import Outcome, Receipt
from osiris_mesh.ledger.records import TreeFile
from osiris_mesh.registry.tree import MAX_FILE, MAX_PATHS
from osiris_mesh.registry.tree_ledger import TreeLedger, key_signer
from osiris_mesh_cli.control import Controller
from osiris_mesh_cli.session import Session

if TYPE_CHECKING:
    from osiris_mesh.ledger.state import State

__all__ = ["ledger_tree"]


@contextmanager
def ledger_tree(session: Session, name: str) -> Iterator[TreeLedger]:
    """Return the tree in the ledger of the home's mesh; entries are signed with the home's user key.

    Raises:
        Unavailable: No controller answers.
        NotFound: The home has no user key, or belongs to no mesh.
    """
    with Controller(session.home) as controller:
        signer = key_signer(controller.signer(), controller.mesh_id(), SYSTEM)
        yield TreeLedger(name, _Book(controller), signer=signer)


class _Files:
    """The tree's files, asked for one by one."""

    def __init__(self, controller: Controller) -> None:
        self._controller = controller

    def get(self, path: str) -> TreeFile | None:
        data, head, size = b"", b"", -1
        while len(data) != size:
            answer = self._controller.ask("registry.file", {"path": path, "offset": len(data)})
            if head not in {b"", answer["head"]}:
                # It changed between two pieces.
                data = b""
                head = b""
                continue
            head, size = answer["head"], answer["size"]
            if not head:
                return None
            if not 0 <= size <= MAX_FILE or (not answer["data"] and len(data) < size):
                raise RemoteProtocolError(f"the controller's answer about {path} is damaged")
            data += answer["data"]
        return TreeFile(data, head, b"")

    def items(self) -> Iterator[tuple[str, TreeFile]]:
        """Yield the files with their heads alone: no bytes come with a list."""
        after, count, more = "", 0, True
        while more:
            answer = self._controller.ask("registry.paths", {"after": after})
            files, more = answer["files"], answer["more"]
            count += len(files)
            if count > MAX_PATHS or (more and not files):
                raise RemoteProtocolError("the controller's list of the registry's files does not end")
            for path, head in files:
                yield path, TreeFile(b"", head, b"")
                after = path

    def __iter__(self) -> Iterator[str]:
        return (path for path, _ in self.items())


class _View:
    """As much of the ledger's state as a tree needs."""

    def __init__(self, controller: Controller) -> None:
        self._controller = controller
        self.tree = _Files(controller)

    @property
    def tree_height(self) -> int:
        return int(self._controller.ask("registry.paths", {"after": "\U0010ffff"})["height"])


class _Book:
    """The ledger from outside its controller."""

    def __init__(self, controller: Controller) -> None:
        self._controller = controller
        self._view = _View(controller)

    @property
    def state(self) -> State:
        return cast("State", self._view)

    def block(self, height: int) -> Block:
        raise CheckFailed(f"block {height} is not read from here", fix=f"osiris-mesh ledger show {height}")

    async def propose(self, entries: Sequence[bytes], *, timeout: float) -> Receipt:
        answer = self._controller.ask(
            "ledger.submit", {"entries": list(entries), "timeout_ms": int(timeout * 1000)}, timeout=timeout + 2
        )
        outcomes = tuple(
            Outcome(bool(one["accepted"]), str(one.get("reason", "")), str(one.get("code", "")))
            for one in answer["outcomes"]
        )
        return Receipt(int(answer["height"]), outcomes)
