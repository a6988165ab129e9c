"""PySyncObj's transport: it only buffers, so that nothing leaves before what it says is durable."""

from __future__ import annotations

import zlib
from typing import Any

from osiris_mesh.raft.ground import Node, Transport
from osiris_mesh.raft.message import Message

__all__ = ["Outbox", "Peer"]


class Peer(Node):  # type: ignore[misc]  # PySyncObj has no types
    """A node by its peer id, with a hash that is the same in every process, so that simulations replay."""

    def __init__(self, peer: str) -> None:
        super().__init__(peer)
        self._hash = zlib.crc32(peer.encode())

    def __hash__(self) -> int:
        return self._hash

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Node) and bool(self._id == other._id)


class Outbox(Transport):  # type: ignore[misc]  # PySyncObj has no types
    """Messages of one tick, by peer; PySyncObj calls ``send``, the engine the rest.

    Attributes:
        by_transfer: Votes are asked for because the leader handed over; voters then don't protect it (thesis, 3.10).
    """

    def __init__(self) -> None:
        super().__init__(None, None, [])
        self._messages: dict[str, list[Message]] = {}
        self._up: set[str] = set()
        self.by_transfer = False

    def send(self, node: Any, message: Message) -> bool:
        """Buffer ``message``; a peer that is not up gets nothing, as its link would lose it anyway."""
        peer = node.id
        if peer not in self._up:
            return False
        if message["type"] == "request_vote":
            message["transfer"] = self.by_transfer
        queue = self._messages.setdefault(peer, [])
        if queue and _supersedes(message, queue[-1]):
            queue[-1] = message
        else:
            queue.append(message)
        return True

    def take(self) -> dict[str, list[Message]]:
        """Return what was buffered, by peer, and forget it."""
        messages, self._messages = self._messages, {}
        return messages

    def is_up(self, peer: str) -> bool:
        """Whether there is a way to ``peer``."""
        return peer in self._up

    def connect(self, node: Any) -> None:
        """Note that messages to ``node`` go out from now on."""
        self._up.add(node.id)
        self._onNodeConnected(node)

    def disconnect(self, node: Any) -> None:
        """Note that messages to ``node`` are lost from now on."""
        self._up.discard(node.id)
        self._messages.pop(node.id, None)
        self._onNodeDisconnected(node)

    def addNode(self, node: Any) -> None:  # noqa: N802 - PySyncObj's name
        """Do nothing: who is up is told by the owner, whoever votes."""

    def dropNode(self, node: Any) -> None:  # noqa: N802 - PySyncObj's name
        """Do nothing: see :meth:`addNode`."""

    def destroy(self) -> None:
        """Do nothing: there is no connection of ours."""


def _supersedes(new: Message, old: Message) -> bool:
    """Whether ``new`` says all that ``old`` says: acknowledgements of one tick become one."""
    return bool(
        new["type"] == old["type"] == "next_node_idx"
        and new["success"]
        and old["success"]
        and new["term"] == old["term"]
        and new["next_node_idx"] >= old["next_node_idx"]
        and new["round"] >= old["round"]
    )
