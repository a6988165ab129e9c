"""Settings of ``osiris_mesh.gossip``.

Sources: the SWIM paper (Das, Gupta, Motivala, 2002) for the protocol period and the dissemination factor, the Lifeguard
paper (Dadgar, Phillips, Currey, 2018) for suspicion and awareness, and hashicorp/memberlist's LAN and WAN presets, from
which ``lan`` and ``wan`` start.

Time until a killed member is known to be dead by all, with N members: until a probe hits it (a link that went down
starts one at once; else at most ``N / (N - 1)`` periods on average) + one period + the suspicion's timeout, which is
``suspicion_multiplier * max(1, log10(N)) * probe_interval_s`` once enough members confirm it, and at most
``suspicion_max`` times that.
"""

from __future__ import annotations

from dataclasses import dataclass

from osiris_mesh.errors import UsageError

__all__ = ["GossipSettings"]


@dataclass(frozen=True, slots=True)
class GossipSettings:
    """Settings of the gossip layer.

    Attributes:
        probe_interval_s: SWIM's protocol period, seconds: one member is probed each period. Shorter notices deaths
            sooner and costs two datagrams of about 100 bytes more a second for each probe a second.
        probe_timeout_s: How long a direct probe may go unanswered before others are asked and the link is tried,
            seconds; above the round trip's 99th percentile, below ``probe_interval_s``.
        indirect_probes: Members asked to probe in our place (the paper's k).
        suspicion_multiplier: Least time a suspicion lasts, in periods times ``log10(N)``: the time a live member has
            to refute it. Smaller is quicker, and wrong more often when processes pause.
        suspicion_max: How many times longer an unconfirmed suspicion lasts (Lifeguard's beta).
        retransmit_multiplier: An update is passed on ``this * ceil(log10(N + 1))`` times (the paper's lambda).
        awareness_max: Highest score of our own ill health; probes slow down by ``score + 1`` (Lifeguard's S).
        gossip_interval_s: While updates wait, they are also sent on their own, this often.
        gossip_fanout: Members they are then sent to.
        dead_probe_interval_s: One member known dead is probed this often, so that a healed partition is noticed.
        sync_interval_s: Whole views are exchanged with a random member over a link this often (push/pull).
        link_retry_s: A member without a link is dialled again after this long, growing to eight times that.
        load_interval_s: The node's load is sampled this often.
        load_refresh_s: It is published at least this often, and at once when it changed significantly.
        load_change: Change of a fraction (CPU, memory) that is significant.
        message_bytes: Largest body of a topic message.
        queue_messages: Messages waiting for one peer before the oldest are dropped.
        queue_bytes: Bytes waiting for one peer before the oldest are dropped.
    """

    probe_interval_s: float = 0.5
    probe_timeout_s: float = 0.25
    indirect_probes: int = 3
    suspicion_multiplier: float = 5.0
    suspicion_max: float = 4.0
    retransmit_multiplier: int = 4
    awareness_max: int = 8
    gossip_interval_s: float = 0.2
    gossip_fanout: int = 3
    dead_probe_interval_s: float = 5.0
    sync_interval_s: float = 30.0
    link_retry_s: float = 1.0
    load_interval_s: float = 1.0
    load_refresh_s: float = 5.0
    load_change: float = 0.05
    message_bytes: int = 65_536
    queue_messages: int = 4096
    queue_bytes: int = 8 << 20

    def __post_init__(self) -> None:
        if not 0 < self.probe_timeout_s < self.probe_interval_s:
            raise UsageError("gossip.probe_timeout_s must be above 0 and below gossip.probe_interval_s")
        if self.indirect_probes < 0 or self.gossip_fanout < 1 or self.retransmit_multiplier < 1:
            raise UsageError("gossip.indirect_probes must be at least 0, gossip_fanout and retransmit_multiplier 1")
        if self.suspicion_multiplier < 1 or self.suspicion_max < 1 or self.awareness_max < 1:
            raise UsageError("gossip.suspicion_multiplier, suspicion_max and awareness_max must be at least 1")
        if not 0 < self.message_bytes <= 1 << 19:
            raise UsageError("gossip.message_bytes must be between 1 byte and 512 KiB: a message travels in one frame")
        if not 16 <= self.queue_messages <= 4096 or self.queue_bytes < 2 * self.message_bytes:
            raise UsageError("gossip.queue_messages must be 16 to 4096, queue_bytes at least twice message_bytes")

    @classmethod
    def preset(cls, name: str) -> GossipSettings:
        """Return the section of a preset (one of :data:`osiris_mesh.settings.PRESETS`).

        ``local``: one machine, round trips below a millisecond; a killed node is dead to all within 1.5 s as a rule
        and 3 s at most. ``lan``: 3 to 4 s. ``wan``: half a minute, for round trips up to a second.
        """
        match name:
            case "local":
                return _LOCAL
            case "test":
                return _TEST
            case "wan":
                return _WAN
            case _:
                return cls()


_LOCAL = GossipSettings(
    probe_interval_s=0.25,
    probe_timeout_s=0.1,
    suspicion_multiplier=3.0,
    suspicion_max=2.0,
    gossip_interval_s=0.05,
    dead_probe_interval_s=1.0,
    sync_interval_s=15.0,
    link_retry_s=0.25,
    load_refresh_s=2.0,
)
_TEST = GossipSettings(
    probe_interval_s=0.2,
    probe_timeout_s=0.08,
    suspicion_multiplier=3.0,
    suspicion_max=2.0,
    gossip_interval_s=0.05,
    dead_probe_interval_s=0.5,
    sync_interval_s=5.0,
    link_retry_s=0.1,
    load_interval_s=0.2,
    load_refresh_s=1.0,
)
_WAN = GossipSettings(
    probe_interval_s=3.0,
    probe_timeout_s=1.5,
    suspicion_multiplier=6.0,
    suspicion_max=6.0,
    gossip_interval_s=0.5,
    gossip_fanout=4,
    dead_probe_interval_s=30.0,
    sync_interval_s=60.0,
    link_retry_s=2.0,
    load_refresh_s=10.0,
)
