"""Messages waiting for one peer: bounded, with an urgent lane.

Of a latest-wins topic only the newest message of each origin waits. When the bounds are reached the oldest ordinary
message goes first, urgent ones last; what was dropped is counted.
"""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass

from osiris_mesh.gossip.topic import TopicMessage, policy_of

__all__ = ["Outbox", "Parcel"]


@dataclass(frozen=True, slots=True)
class Parcel:
    """One message on its way to one peer.

    Attributes:
        message: The message.
        onward: Public keys of members the peer shall pass it to, because its origin has no link to them.
    """

    message: TopicMessage
    onward: tuple[bytes, ...] = ()


class Outbox:
    """The queue.

    Args:
        max_messages: Messages that may wait.
        max_bytes: Their bytes.

    Attributes:
        dropped: Messages that fell out for want of room.
    """

    def __init__(self, *, max_messages: int, max_bytes: int) -> None:
        self._max_messages = max_messages
        self._max_bytes = max_bytes
        self._lanes: tuple[OrderedDict[object, Parcel], OrderedDict[object, Parcel]] = (OrderedDict(), OrderedDict())
        self._bytes = 0
        self._order = 0
        self.dropped = 0

    def __len__(self) -> int:
        return len(self._lanes[0]) + len(self._lanes[1])

    def put(self, parcel: Parcel) -> None:
        """Queue a message, dropping others if there is no room."""
        message = parcel.message
        policy = policy_of(message.topic)
        lane = self._lanes[0 if policy.urgent else 1]
        key: object
        if policy.latest:
            key = (message.topic, message.origin)
            older = lane.get(key)
            if older is not None:
                if older.message.sequence > message.sequence:
                    return
                # The newer one takes the older one's place in the queue, so that a busy topic still gets out.
                self._bytes -= len(older.message.raw)
        else:
            self._order += 1
            key = self._order
        lane[key] = parcel
        self._bytes += len(message.raw)
        while len(self) > 1 and (len(self) > self._max_messages or self._bytes > self._max_bytes):
            _, oldest = (self._lanes[1] or self._lanes[0]).popitem(last=False)
            self._bytes -= len(oldest.message.raw)
            self.dropped += 1

    def take(self, max_messages: int, max_bytes: int) -> list[Parcel]:
        """Return what goes next, urgent first, until a bound is passed; at least one if any waits."""
        taken: list[Parcel] = []
        size = 0
        for lane in self._lanes:
            while lane and len(taken) < max_messages and (not taken or size < max_bytes):
                _, parcel = lane.popitem(last=False)
                size += len(parcel.message.raw)
                taken.append(parcel)
        self._bytes -= size
        return taken
