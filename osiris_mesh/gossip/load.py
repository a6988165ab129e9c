"""How loaded nodes are: the record each publishes on the topic ``load``, and the table of the newest of each.

The record is a strict msgpack array of integers ``[version, cpu, memory used, memory total, disk free, room,
[[digest, instances, in flight, queued, p50]…]]``: cpu in thousandths, sizes in bytes, room 0 or 1, p50 in microseconds.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from osiris_mesh.codec import Limits, pack, unpack_canonical
from osiris_mesh.errors import RemoteProtocolError

__all__ = ["MAX_FUNCTIONS", "TOPIC", "FunctionLoad", "Load", "LoadTable", "Sample"]

TOPIC: Final = "load"
VERSION: Final = 1
MAX_FUNCTIONS: Final = 512
"""Functions one record names; the busiest, if a node runs more."""
_LIMITS: Final = Limits(size=65_536, depth=3, count=MAX_FUNCTIONS)
_MAX: Final = 2**53


@dataclass(frozen=True, slots=True)
class FunctionLoad:
    """Demand for one version of a function on one node.

    Attributes:
        instances: Warm instances.
        in_flight: Calls they work on.
        queued: Calls that wait for one.
        p50_ms: Median time of recent calls, milliseconds; 0 if there were none.
    """

    instances: int
    in_flight: int = 0
    queued: int = 0
    p50_ms: float = 0.0


@dataclass(frozen=True, slots=True)
class Load:
    """Resources and demand of one node.

    Attributes:
        cpu: Share of its processors in use, 0 to 1.
        memory_used: Bytes.
        memory_total: Bytes.
        disk_free: Bytes, where its home lies.
        room: It takes new instances.
        functions: By the digest of the bundle, 32 bytes.
    """

    cpu: float = 0.0
    memory_used: int = 0
    memory_total: int = 0
    disk_free: int = 0
    room: bool = True
    functions: Mapping[bytes, FunctionLoad] = field(default_factory=dict)

    @property
    def memory(self) -> float:
        """Share of its memory in use, 0 to 1."""
        return self.memory_used / self.memory_total if self.memory_total else 0.0

    def encode(self) -> bytes:
        """Return the record's bytes."""
        rows = sorted(self.functions.items(), key=lambda row: (-row[1].in_flight - row[1].queued, row[0]))
        return pack(
            [
                VERSION,
                round(min(max(self.cpu, 0.0), 1.0) * 1000),
                self.memory_used,
                self.memory_total,
                self.disk_free,
                int(self.room),
                [
                    [digest, load.instances, load.in_flight, load.queued, round(load.p50_ms * 1000)]
                    for digest, load in rows[:MAX_FUNCTIONS]
                ],
            ]
        )

    @classmethod
    def decode(cls, data: bytes) -> Load:
        """Read a record.

        Raises:
            RemoteProtocolError: Not a record, past a bound, or not in the shortest form.
        """
        value = unpack_canonical(data, _LIMITS)
        if type(value) is not list or len(value) != 7 or value[0] != VERSION or type(value[0]) is not int:
            raise RemoteProtocolError("a load record is of a form this version does not know")
        _, cpu, used, total, free, room, rows = value
        if not _counts(cpu, used, total, free, room) or cpu > 1000 or room > 1 or type(rows) is not list:
            raise RemoteProtocolError("a load record has a number out of range")
        functions: dict[bytes, FunctionLoad] = {}
        for row in rows:
            if type(row) is not list or len(row) != 5 or type(row[0]) is not bytes or len(row[0]) != 32:
                raise RemoteProtocolError("a load record names a function that is no digest")
            digest, instances, in_flight, queued, p50 = row
            if not _counts(instances, in_flight, queued, p50) or digest in functions:
                raise RemoteProtocolError("a load record has a number out of range or a function twice")
            functions[digest] = FunctionLoad(instances, in_flight, queued, p50 / 1000)
        return cls(cpu / 1000, used, total, free, bool(room), functions)

    def differs(self, other: Load, fraction: float) -> bool:
        """Say whether the difference is worth a message.

        Args:
            other: What was published last.
            fraction: Change of CPU or memory share that is significant.
        """
        return (
            abs(self.cpu - other.cpu) >= fraction
            or abs(self.memory - other.memory) >= fraction
            or self.room != other.room
            or self.functions.keys() != other.functions.keys()
            or any(
                load.instances != before.instances or load.in_flight != before.in_flight or load.queued != before.queued
                for load, before in ((load, other.functions[digest]) for digest, load in self.functions.items())
            )
        )


def _counts(*values: Any) -> bool:
    return all(type(value) is int and 0 <= value < _MAX for value in values)


@dataclass(frozen=True, slots=True)
class Sample:
    """A node's newest record and when it arrived here.

    Attributes:
        load: The record.
        at: Monotonic seconds on this machine.
    """

    load: Load
    at: float


class LoadTable:
    """The newest record of every member, ourselves included. A core: times are arguments."""

    def __init__(self) -> None:
        self._samples: dict[str, Sample] = {}

    def __len__(self) -> int:
        return len(self._samples)

    def __iter__(self) -> Iterator[str]:
        return iter(self._samples)

    def put(self, peer: str, load: Load, now: float) -> None:
        """Note ``peer``'s newest record."""
        self._samples[peer] = Sample(load, now)

    def get(self, peer: str) -> Load | None:
        """Return the newest record of ``peer``, however old."""
        sample = self._samples.get(peer)
        return None if sample is None else sample.load

    def age(self, peer: str, now: float) -> float | None:
        """Return how old that record is, seconds."""
        sample = self._samples.get(peer)
        return None if sample is None else now - sample.at

    def fresh(self, now: float, within: float) -> dict[str, Load]:
        """Return the records that are at most ``within`` seconds old."""
        return {peer: sample.load for peer, sample in self._samples.items() if now - sample.at <= within}

    def keep(self, peers: Iterable[str]) -> None:
        """Forget everybody but ``peers``."""
        for peer in self._samples.keys() - set(peers):
            del self._samples[peer]

    def forget(self, peer: str) -> None:
        """Forget ``peer``."""
        self._samples.pop(peer, None)
