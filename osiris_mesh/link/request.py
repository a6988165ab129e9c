"""Who calls, and what arrives at a handler."""

from __future__ import annotations

import enum
from dataclasses import dataclass
from typing import Any

__all__ = ["Audience", "Caller", "Request"]


class Audience(enum.Flag):
    """Which kind of peer is at the other end of a link; every method names those it serves."""

    LOCAL = enum.auto()
    """A program of this home's user, over the Unix socket."""
    MEMBER = enum.auto()
    """A member by the ledger, voter or follower."""
    CLIENT = enum.auto()
    """The bearer of a client token."""
    JOINER = enum.auto()
    """A stranger who knows the network key, and nothing more."""
    FUNCTION = enum.auto()
    """A worker of ours, over its inherited socket."""


@dataclass(frozen=True, slots=True)
class Caller:
    """Who is at the other end of a link.

    Attributes:
        public_key: The peer's authenticated Ed25519 public key, 32 bytes; empty on a link without boxes.
        peer: Its peer id; empty likewise.
        audience: What it counts as here.
        name: For people and for attribution on links without boxes: ``uid:1000``, or what :func:`link_over` was told.
    """

    public_key: bytes
    peer: str
    audience: Audience
    name: str = ""


@dataclass(slots=True)
class Request:
    """One call as its handler sees it.

    Attributes:
        method: Name of the method.
        body: The first message; all there is for a unary method.
        headers: Small map of JSON types and bytes; ``deadline_ms`` is taken out of it.
        deadline: Monotonic seconds on this machine after which no answer is wanted, or None.
        caller: Who asks.
    """

    method: str
    body: bytes
    headers: dict[str, Any]
    deadline: float | None
    caller: Caller
