"""Settings of ``osiris_mesh.link``."""

from __future__ import annotations

from dataclasses import dataclass, fields

from osiris_mesh.errors import UsageError

__all__ = ["LinkSettings"]


@dataclass(frozen=True, slots=True)
class LinkSettings:
    """Settings of the link layer.

    Attributes:
        handshake_s: Seconds for the whole handshake, from the connection's first moment to the peer's HELLO. Longer
            lets slow peers in, and lets strangers hold half-open connections longer.
        connect_s: Seconds to wait for a TCP connection to one address before the next is tried.
        half_open: Connections that may be in the handshake at a time, in all. Memory of one: about 4 KiB.
        half_open_per_address: The same, from one IP address; a shared address of many honest nodes needs more.
        links: Established links at a time, in all.
        links_per_key: Established links at a time with one client's or joiner's key (members have one).
        joiners: Links of strangers who know the network key only, at a time.
        joiner_s: Seconds such a link may live without a call in progress; ten times that in all.
        keepalive_s: Seconds without a byte from the peer after which it is asked for a sign of life.
        dead_s: Seconds without a byte after which the link is cut; at least twice ``keepalive_s``. Shorter notices a
            dead machine sooner, and cuts links in a short network outage.
        streams: Calls and streams a peer may have open at a time on one link.
        message: Bytes of one message: the largest argument, result or chunk. The largest call needs it.
        buffered: Bytes received on one link and not yet taken; bounds what one peer can make us hold.
        backoff_s: Seconds after a failed dial in which :meth:`Links.to` fails at once; doubles with each failure.
        backoff_max_s: The longest such time.
    """

    handshake_s: float = 5.0
    connect_s: float = 3.0
    half_open: int = 128
    half_open_per_address: int = 16
    links: int = 2048
    links_per_key: int = 64
    joiners: int = 8
    joiner_s: float = 5.0
    keepalive_s: float = 5.0
    dead_s: float = 15.0
    streams: int = 1024
    message: int = (1 << 28) + 65_536
    buffered: int = 1 << 29
    backoff_s: float = 0.1
    backoff_max_s: float = 5.0

    def __post_init__(self) -> None:
        for item in fields(self):
            if getattr(self, item.name) <= 0:
                raise UsageError(f"link.{item.name} is not above zero")
        if self.dead_s < 2 * self.keepalive_s:
            raise UsageError(
                f"link.dead_s ({self.dead_s}) is less than twice link.keepalive_s ({self.keepalive_s})",
                fix="a peer needs the time to answer",
            )
        if self.message < 65_536 or self.buffered < self.message:
            raise UsageError("link.message is at least 65536, and link.buffered at least link.message")

    @classmethod
    def preset(cls, name: str) -> LinkSettings:
        """Return the section of a preset (one of :data:`osiris_mesh.settings.PRESETS`).

        ``local`` and ``test``: round trips are microseconds, so a silent peer is soon a dead one. ``wan``: patience.
        """
        if name == "local":
            return cls(half_open_per_address=64, keepalive_s=1.0, dead_s=3.0, backoff_max_s=1.0)
        if name == "test":
            return cls(half_open_per_address=64, keepalive_s=0.5, dead_s=2.0, backoff_s=0.02, backoff_max_s=0.2)
        if name == "wan":
            return cls(connect_s=8.0, keepalive_s=10.0, dead_s=30.0, backoff_s=0.5, backoff_max_s=15.0)
        return cls()
