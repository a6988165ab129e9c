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
        connections: Connections at a time. For one more an idle one is closed: the oldest that never showed a bearer,
            or that which asked longest ago; where there is none, the new one is.
        handshakes: TLS handshakes under way at a time, beside the connections; for one more the oldest is cut. From one
            address as many as ``connections_per_address``.
        connections_per_address: Connections from one remote address at a time (IPv6: from one /64 network), one more is
            closed; not where a proxy stands in front. Setting ``http.connections_per_address``. Lower shares better,
            higher serves many users behind one address.
        head_s: Seconds in which a TLS handshake must be done, and the head of a request arrive, counted from the
            connection or its first byte.
        idle_s: Seconds an idle connection is kept after an answer.
        read_s: Seconds the body of a request may take beyond what it takes at ``body_rate``.
        body_rate: Bytes a second at which a body must arrive at least, the first ``read_s`` aside. Lower serves slower
            networks, and lets somebody who drips bytes hold a connection and what he sent for longer.
        write_s: Seconds in which a client must take an answer.
        requests_per_s: Requests one bearer may make a second on average, calls excepted; past it he is told to wait.
            Setting ``http.requests_per_s``. A person or a dashboard makes a few, a loop that never pauses thousands.
        burst: Requests, calls excepted, he may make at once.
        calls_per_s: Requests, calls included, one bearer may make a second on average. High enough that only a runaway
            client meets it: what bounds calls is the queue of each function.
        call_burst: Requests, calls included, he may make at once.
        streams: Event streams at a time.
        streams_per_bearer: Event streams of one bearer at a time. Setting ``http.streams_per_bearer``.
        streams_per_user: Event streams of all bearers of one user at a time.
        checks: Verifications of the ledger under way at a time; the same number of a node's self-checks. One more is
            told to come back: each takes processor time and disk from everybody.
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
    handshakes: int = 512
    connections_per_address: int = 256
    head_s: float = 10.0
    idle_s: float = 75.0
    read_s: float = 30.0
    body_rate: int = 64 << 10
    write_s: float = 60.0
    requests_per_s: int = 500
    burst: int = 1000
    calls_per_s: float = 20_000.0
    call_burst: int = 20_000
    streams: int = 128
    streams_per_bearer: int = 16
    streams_per_user: int = 64
    checks: int = 1
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
        return cls(head_s=5.0, read_s=5.0, write_s=5.0, heartbeat_s=1.0) if name == "test" else cls()
