"""Deliveries of webhooks: what is signed, when it is tried again, who of a mesh delivers. A core: time is an argument.

One delivery is one event for one webhook::

    state     on                                         goes to
    WAITING   its time has come, nothing else under way  UNDER WAY  (one at a time for each webhook)
    UNDER WAY answered with 2xx                          delivered
    UNDER WAY answered with 410                          failed
    UNDER WAY anything else                              WAITING, later each time; failed an hour after the event
    WAITING   the queue overflows                        dropped, the oldest first

An event of the mesh is noticed by every node. The leader delivers it (:class:`Duty`); when there is none, or the
event says that the leader itself is lost, every node keeps it for half a minute, and whoever leads then delivers it.
A leader that dies between the event and its delivery takes the delivery with it: normally exactly once, at most twice
with the same id.
"""

from __future__ import annotations

import base64
import hmac
import json
import random
from collections import Counter, deque
from collections.abc import Mapping
from dataclasses import dataclass
from hashlib import sha256
from typing import Any, Final

from osiris_mesh.gateway.events import Event

__all__ = ["Delivery", "Duty", "Queue", "body_of", "delivery_id", "headers_of", "sign", "webhook_secret"]

QUEUE: Final = 100
"""Deliveries that wait for one webhook."""
GIVE_UP_SECONDS: Final = 3600.0
_FIRST_SECONDS: Final = 2.0
_LONGEST_SECONDS: Final = 600.0
_JITTER: Final = 0.2
_HOLD_SECONDS: Final = 30.0
_HELD: Final = 256
_GONE: Final = 410
_SECRET: Final = b"osiris/webhook/v2\0"
_ID: Final = b"osiris/webhook-delivery/v1\0"


def webhook_secret(network_key: bytes, name: str, entry: bytes) -> str:
    """Return the signing secret of a webhook: ``osw1`` and 43 letters of base64url.

    Set anew, to the same URL too, it has a new one.

    Args:
        network_key: The mesh's 32 bytes; every member has them, so every member signs alike.
        name: The webhook's name.
        entry: Hash of the ledger's entry that set its URL, 32 bytes.
    """
    digest = hmac.digest(network_key, _SECRET + entry + name.encode(), "sha256")
    return "osw1" + base64.urlsafe_b64encode(digest).rstrip(b"=").decode()


def sign(secret: str, timestamp: int, body: bytes) -> str:
    """Return the value of ``Osiris-Signature``: ``v1=`` and HMAC-SHA-256 of ``timestamp.body`` in hexadecimal.

    Args:
        secret: As shown to the operator; its letters, ``osw1`` included, are the key.
        timestamp: Seconds since 1970, as ``Osiris-Timestamp`` says.
        body: Exactly what is sent.
    """
    return "v1=" + hmac.new(secret.encode(), b"%d." % timestamp + body, sha256).hexdigest()


def delivery_id(mesh_id: bytes, webhook: str, peer: str, event: Event) -> str:
    """Return the unique id of a delivery, 32 hexadecimal digits; the same when it is tried again.

    For what stands in the ledger it is the same on every node, so that a receiver can tell a repetition.
    """
    height = event.fields.get("height")
    if event.mesh and type(height) is int:
        which = json.dumps([event.name, dict(event.fields)], sort_keys=True)
    else:
        which = f"{event.name} {peer} {event.time_ms} {event.sequence}"
    digest = sha256(b"\0".join((_ID, mesh_id, webhook.encode(), which.encode())))
    return digest.hexdigest()[:32]


def body_of(event: Event, *, mesh: str, peer: str, node: str) -> bytes:
    """Return a delivery's body: JSON of the event, the mesh's name and the node that noticed it."""
    value = {
        "event": event.name,
        "time_ms": event.time_ms,
        "mesh": mesh,
        "node": node,
        "peer_id": peer,
        "fields": dict(event.fields),
    }
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"), sort_keys=True).encode()


@dataclass(slots=True, eq=False)
class Delivery:
    """One event on its way to one webhook.

    Attributes:
        id: Unique id.
        event: Name of the event.
        body: What is sent.
        since: When it was put in, monotonic seconds.
        due: When it is to be tried next.
        tries: How often it was tried.
    """

    id: str
    event: str
    body: bytes
    since: float
    due: float
    tries: int = 0


def headers_of(delivery: Delivery, secret: str, timestamp: int) -> dict[str, str]:
    """Return the headers of one try."""
    return {
        "Content-Type": "application/json",
        "Osiris-Event": delivery.event,
        "Osiris-Delivery": delivery.id,
        "Osiris-Timestamp": str(timestamp),
        "Osiris-Signature": sign(secret, timestamp, delivery.body),
    }


class Queue:
    """The deliveries of one webhook.

    Args:
        rng: Jitter.
        limit: Deliveries that may wait.

    Attributes:
        counts: Deliveries by what became of them: ``delivered``, ``failed``, ``dropped``, and ``retried`` for each try
            that was not the last.
    """

    def __init__(self, rng: random.Random, limit: int = QUEUE) -> None:
        self.counts: Counter[str] = Counter()
        self._rng = rng
        self._limit = limit
        self._waiting: list[Delivery] = []
        self._under_way: Delivery | None = None

    def __len__(self) -> int:
        return len(self._waiting) + (self._under_way is not None)

    def put(self, delivery: Delivery) -> None:
        """Put one in; the oldest is dropped if there is no room."""
        if len(self._waiting) >= self._limit:
            self._waiting.remove(min(self._waiting, key=lambda one: one.since))
            self.counts["dropped"] += 1
        self._waiting.append(delivery)

    def take(self, now: float) -> Delivery | None:
        """Return what is to be tried now, which is then under way; None if nothing is due or something is under way."""
        if self._under_way is not None or not self._waiting:
            return None
        first = min(self._waiting, key=lambda one: (one.due, one.since))
        if first.due > now:
            return None
        self._waiting.remove(first)
        first.tries += 1
        self._under_way = first
        return first

    def due(self) -> float | None:
        """Return when :meth:`take` has something next; None while nothing waits or something is under way."""
        if self._under_way is not None or not self._waiting:
            return None
        return min(one.due for one in self._waiting)

    def answered(self, status: int | None, now: float, retry_after: float = 0.0) -> str:
        """Take in how the delivery under way was answered.

        Args:
            status: HTTP status; None: no answer (not reached, too slow, refused address).
            now: Monotonic seconds.
            retry_after: Seconds the receiver asked for.

        Returns:
            ``delivered``, ``failed`` or ``retried``.
        """
        delivery, self._under_way = self._under_way, None
        assert delivery is not None  # noqa: S101 - for the type checker: only what was taken is answered
        pause = min(_FIRST_SECONDS * 2 ** min(delivery.tries - 1, 16), _LONGEST_SECONDS)
        pause *= 1 + self._rng.uniform(-_JITTER, _JITTER)
        pause = max(pause, min(retry_after, _LONGEST_SECONDS))
        if status is not None and 200 <= status < 300:
            became = "delivered"
        elif status == _GONE or now + pause - delivery.since > GIVE_UP_SECONDS:
            became = "failed"
        else:
            became = "retried"
            delivery.due = now + pause
            self.put(delivery)
        self.counts[became] += 1
        return became


class Duty:
    """Whether it is this node that delivers an event of the mesh.

    Args:
        me: Our peer id.
    """

    def __init__(self, me: str) -> None:
        self._me = me
        self._held: deque[tuple[float, Event]] = deque(maxlen=_HELD)

    def deliver(self, event: Event, leader: str, now: float) -> bool:
        """Say whether to deliver ``event`` now; it may be kept for :meth:`led`.

        Args:
            event: Just published.
            leader: Peer id of the leader as known here; empty if none is.
            now: Monotonic seconds.
        """
        if not event.mesh or leader == self._me:
            return True
        if not leader or _says_lost(event.fields, event.name, leader):
            self._held.append((now, event))
        return False

    def led(self, leader: str, now: float) -> list[Event]:
        """Return what is to be delivered now that ``leader`` leads; forgets what is too old or another's."""
        kept = [(since, event) for since, event in self._held if now - since <= _HOLD_SECONDS]
        if leader == self._me:
            self._held.clear()
            return [event for _, event in kept]
        # Who is told lost may still be held for the leader a moment longer; that says nothing about who delivers.
        self._held = deque(
            (item for item in kept if not leader or _says_lost(item[1].fields, item[1].name, leader)), maxlen=_HELD
        )
        return []


def _says_lost(fields: Mapping[str, Any], name: str, leader: str) -> bool:
    return name == "node.lost" and fields.get("peer") == leader
