"""Settings of ``osiris_mesh.ledger``."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Final

from osiris_mesh.errors import UsageError

__all__ = ["LedgerSettings"]


@dataclass(frozen=True, slots=True)
class LedgerSettings:
    """Settings of the ledger.

    Attributes:
        commands_in_flight: Raft commands a node has under way at once. Entries that arrive meanwhile share the next
            one: more means less waiting under load, fewer means larger batches and less work an entry.
        waiting_entries: Entries that may wait for a command; more are refused as overload.
        held_bytes: Committed commands kept while blocks are pulled up to a snapshot; past it the node must restart.
        apply_slice_s: Seconds of applying after which the loop gets its turn.
        sync_interval_s: How often what was applied is made durable. A shorter one lets Raft compact its journal
            sooner and costs an fsync each time something was applied.
        compare_interval_s: How often tips are compared with peers.
        compare_peers: How many of them are asked each time.
        followers: Streams of new blocks a node serves at a time; more are sent to other members.
        pull_blocks: Most blocks of one pull.
        pull_bytes: Bytes after which an answer to a pull ends; at least one block is always sent.
        pull_timeout_s: How long a peer may take to answer a pull.
        retry_first_s: How long a peer that failed is left alone at first; doubles up to ``retry_most_s``.
        retry_most_s: See there.
        bad_peer_s: How long a peer that sent a bad block is left alone.
        propose_retry_s: Pause before a proposal that failed for want of a leader or a voter is tried again.
        unreachable_s: A proposal for which no voter could be reached for this long is given up.
    """

    commands_in_flight: int = 2
    waiting_entries: int = 20_000
    held_bytes: int = 256 << 20
    apply_slice_s: float = 0.01
    sync_interval_s: float = 5.0
    compare_interval_s: float = 10.0
    compare_peers: int = 3
    followers: int = 64
    pull_blocks: int = 512
    pull_bytes: int = 256 << 10
    pull_timeout_s: float = 10.0
    retry_first_s: float = 0.5
    retry_most_s: float = 30.0
    bad_peer_s: float = 300.0
    propose_retry_s: float = 0.05
    unreachable_s: float = 4.0

    def __post_init__(self) -> None:
        for name in (
            "commands_in_flight",
            "waiting_entries",
            "compare_peers",
            "followers",
            "pull_blocks",
            "pull_bytes",
            "held_bytes",
            "apply_slice_s",
            "sync_interval_s",
            "compare_interval_s",
            "pull_timeout_s",
            "retry_first_s",
            "retry_most_s",
            "bad_peer_s",
            "propose_retry_s",
            "unreachable_s",
        ):
            if getattr(self, name) <= 0:
                raise UsageError(f"ledger.{name} is {getattr(self, name)}", fix="give a value above zero")
        if self.pull_bytes > _MOST_PULL:
            raise UsageError(f"ledger.pull_bytes is {self.pull_bytes}", fix=f"give at most {_MOST_PULL}")
        if self.retry_most_s < self.retry_first_s:
            raise UsageError("ledger.retry_most_s is below ledger.retry_first_s", fix="give it at least the same value")

    @classmethod
    def preset(cls, name: str) -> LedgerSettings:
        """Return the section of a preset (one of :data:`osiris_mesh.settings.PRESETS`)."""
        settings = cls()
        if name == "wan":
            return replace(settings, pull_timeout_s=30.0, retry_first_s=1.0, propose_retry_s=0.25, unreachable_s=8.0)
        if name == "test":
            return replace(
                settings,
                sync_interval_s=0.2,
                compare_interval_s=0.5,
                pull_timeout_s=2.0,
                retry_first_s=0.05,
                retry_most_s=0.5,
                bad_peer_s=5.0,
                propose_retry_s=0.01,
            )
        return settings


_MOST_PULL: Final = 448 << 10
"""An answer ends after the block that passes ``pull_bytes``; with the largest one it still fits one frame of 1 MiB."""
