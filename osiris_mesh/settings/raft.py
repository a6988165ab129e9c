"""Settings of ``osiris_mesh.raft``.

Election times follow the paper's rule (section 5.6): one round trip, its disk write included, is far shorter than the
election time, which is far shorter than the time between failures. They are multiples of what a busy two-core machine
was seen to delay a thread by (tens of milliseconds), not of the network alone.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from osiris_mesh.errors import UsageError

__all__ = ["RaftSettings"]


@dataclass(frozen=True, slots=True)
class RaftSettings:
    """Settings of the raft layer.

    Attributes:
        election_min_s: A voter that hears nothing from a leader for this long may stand for election; for as long it
            ignores the candidates of others (thesis 4.2.3). Shorter: quicker recovery, more false elections.
        election_max_s: Upper end of the random part; the wider, the fewer split votes.
        heartbeat_s: An idle leader speaks this often; below a third of ``election_min_s``.
        quorum_s: A leader that no majority answered for this long steps down (thesis 6.2); one to two times
            ``election_max_s``.
        leaderless_s: A command that found no leader for this long is refused: no majority can be reached. Two elections
            or more, else a leader's death shows; shorter: who writes hears sooner.
        command_bytes: Largest command; larger ones are refused before anything is sent.
        batch_bytes: A message of entries is closed once it holds this much; it may exceed it by one command.
        flight_messages: Messages of entries under way to one peer before its answers are awaited.
        queue_commands: Commands waiting for a leader on this node; beyond it callers get ``Overloaded``.
        compact_entries: Ask for a snapshot when the log holds more entries than this.
        compact_bytes: The same by size of the commands held; they are in memory as well.
        keep_entries: Entries left before a snapshot is used, so that a peer slightly behind catches up from the log.
    """

    election_min_s: float = 0.35
    election_max_s: float = 0.70
    heartbeat_s: float = 0.075
    quorum_s: float = 1.0
    leaderless_s: float = 2.5
    command_bytes: int = 1 << 20
    batch_bytes: int = 1 << 18
    flight_messages: int = 32
    queue_commands: int = 8192
    compact_entries: int = 16_384
    compact_bytes: int = 16 << 20
    keep_entries: int = 2048

    def __post_init__(self) -> None:
        """Check the fields against each other."""
        checks = {
            "heartbeat_s must be above 0": self.heartbeat_s > 0,
            "election_min_s must be above three heartbeats": self.election_min_s > 3 * self.heartbeat_s,
            "election_max_s must be above election_min_s": self.election_max_s > self.election_min_s,
            "quorum_s must be at least election_max_s": self.quorum_s >= self.election_max_s,
            "leaderless_s must be at least twice election_max_s": self.leaderless_s >= 2 * self.election_max_s,
            "command_bytes must be 1 to 1048576": 1 <= self.command_bytes <= 1 << 20,
            "batch_bytes must be 1 to 1048576": 1 <= self.batch_bytes <= 1 << 20,
            "flight_messages must be at least 1": self.flight_messages >= 1,
            "queue_commands must be at least 1": self.queue_commands >= 1,
            "keep_entries must be at least 0": self.keep_entries >= 0,
            "compact_entries must be at least 2": self.compact_entries >= 2,
            "compact_bytes must be at least 1": self.compact_bytes >= 1,
        }
        for rule, holds in checks.items():
            if not holds:
                raise UsageError(f"settings of raft: {rule}")

    @classmethod
    def preset(cls, name: str) -> RaftSettings:
        """Return the section of a preset (one of :data:`osiris_mesh.settings.PRESETS`)."""
        return _PRESETS[name]


_PRESETS: Final = {
    # The paper's own 150 to 300 ms assume cores to spare; nodes on one machine share theirs with functions.
    "local": RaftSettings(election_min_s=0.2, election_max_s=0.4, heartbeat_s=0.05, quorum_s=0.6, leaderless_s=2.0),
    "lan": RaftSettings(),
    # Ten times a round trip of 100 ms, as etcd's tuning guide advises.
    "wan": RaftSettings(election_min_s=1.5, election_max_s=3.0, heartbeat_s=0.3, quorum_s=4.5, leaderless_s=6.0),
    "test": RaftSettings(election_min_s=0.15, election_max_s=0.3, heartbeat_s=0.04, quorum_s=0.45, leaderless_s=1.5),
}
