"""Settings of ``osiris_mesh.gateway``: what the HTTP face lets a client make this node spend."""

from __future__ import annotations

from dataclasses import dataclass, fields

from osiris_mesh.errors import UsageError

__all__ = ["GatewaySettings"]


@dataclass(frozen=True, slots=True)
class GatewaySettings:
    """Settings of the HTTP face.

    Attributes:
        body: Bytes of a request's body, calls and bundles excepted.
        call_body: Bytes of the body of a call, a map or a bundle. Larger serves larger arguments and lets one client
            hold that much memory of the controller.
        header_line: Bytes of the request line, and of one header.
        headers: Headers of one request.
        connections: Connections at a time; one more is closed at once.
        read_s: Seconds in which the head of a request must arrive, counted from the connection or the answer before
            (so an idle connection is closed after as long), and then its body.
        write_s: Seconds in which a client must take an answer.
        requests_per_s: Requests one bearer may make a second on average; past it he is told to wait. High enough that
            only a runaway client meets it: one controller answers fewer small calls a second than this.
        burst: Requests he may make at once.
        streams: Event streams at a time.
        heartbeat_s: Seconds without an event after which a stream says that it lives.
        map_items: Items of one map.
        map_concurrency: Calls of one map that may be under way at a time.
        builds: Functions built from source at a time.
        retry_after_s: What a controller that stops, or is full, tells a client to wait, whole seconds.
    """

    body: int = 16 << 20
    call_body: int = 64 << 20
    header_line: int = 8190
    headers: int = 64
    connections: int = 1024
    read_s: float = 60.0
    write_s: float = 60.0
    requests_per_s: float = 20_000.0
    burst: int = 20_000
    streams: int = 128
    heartbeat_s: float = 15.0
    map_items: int = 10_000
    map_concurrency: int = 64
    builds: int = 2
    retry_after_s: int = 1

    def __post_init__(self) -> None:
        for item in fields(self):
            if getattr(self, item.name) <= 0:
                raise UsageError(f"gateway.{item.name} is {getattr(self, item.name)}, not above 0")

    @classmethod
    def preset(cls, name: str) -> GatewaySettings:
        """Return the section of a preset (one of :data:`osiris_mesh.settings.PRESETS`)."""
        return cls(read_s=5.0, write_s=5.0, heartbeat_s=1.0) if name == "test" else cls()
