"""What a node's ledger answers to peers: proposals, its tip, its blocks, and news of blocks to come."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, Final

from osiris_mesh.codec import Limits, pack, unpack
from osiris_mesh.errors import Overloaded, RemoteProtocolError, Unavailable, UsageError
from osiris_mesh.ledger.block import MAX_COMMAND, MAX_ENTRIES
from osiris_mesh.ledger.entry import MAX_ENTRY
from osiris_mesh.ledger.proposer import PROPOSE
from osiris_mesh.link.request import Audience, Request
from osiris_mesh.link.router import Router

if TYPE_CHECKING:
    from osiris_mesh.ledger.ledger import Ledger
    from osiris_mesh.link.stream import Stream

__all__ = ["BLOCKS", "FOLLOW", "TIP", "serve"]

TIP: Final = "ledger.tip"
BLOCKS: Final = "ledger.blocks"
FOLLOW: Final = "ledger.follow"
_ASK: Final = Limits(size=256, depth=1, count=4)
_ENTRIES: Final = Limits(size=MAX_COMMAND, depth=1, count=MAX_ENTRIES)
_MOST_SECONDS: Final = 60.0
_MAX_HEIGHT: Final = 1 << 53


def serve(ledger: Ledger, router: Router) -> None:
    """Register the methods.

    - ``ledger.propose``: ``[entry bytes…]`` -> height of the block that holds them, or, when some are refused, in it or
      without a block, ``[height, [[position, code, reason]…]]``; only a voter answers.
    - ``ledger.tip``: ``{}`` or ``{"at": height}`` -> ``{"height", "tip"}`` and, if asked, ``"at"``: the hash there.
    - ``ledger.blocks``: ``{"from": height, "limit": n}`` -> ``{"height", "blocks": [wire form…]}``.
    - ``ledger.follow``: ``{"from": height}`` -> a stream of blocks in wire form, without end.
    """
    service = _Service(ledger)
    router.unary(PROPOSE, service.propose, allow=Audience.MEMBER)
    router.unary(TIP, service.tip, allow=Audience.MEMBER | Audience.LOCAL)
    router.unary(BLOCKS, service.blocks, allow=Audience.MEMBER | Audience.LOCAL)
    router.streaming(FOLLOW, service.follow, allow=Audience.MEMBER)


def _height(body: dict[str, Any], name: str) -> int:
    value = body.get(name)
    if type(value) is not int or not 0 <= value <= _MAX_HEIGHT:
        raise UsageError(f"{name} is not a height")
    return value


def _map(request: Request) -> dict[str, Any]:
    body = unpack(request.body, _ASK) if request.body else {}
    if not isinstance(body, dict):
        raise UsageError("the request is not a map")
    return body


class _Service:
    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger
        self._followers = 0

    async def propose(self, request: Request) -> bytes:
        entries = unpack(request.body, _ENTRIES)
        if not isinstance(entries, list) or any(type(data) is not bytes or len(data) > MAX_ENTRY for data in entries):
            raise RemoteProtocolError("a proposal is not a list of entries")
        ledger = self._ledger
        if not ledger.voting():
            raise Unavailable("this node does not vote", fix="ask another member", maybe=False)
        left = _MOST_SECONDS if request.deadline is None else request.deadline - ledger.clock.monotonic()
        receipt = await ledger.propose(entries, timeout=min(max(left, 0.001), _MOST_SECONDS))
        refused = [
            [at, outcome.code, outcome.reason] for at, outcome in enumerate(receipt.outcomes) if not outcome.accepted
        ]
        return pack([receipt.height, refused] if refused else receipt.height)

    async def tip(self, request: Request) -> bytes:
        body = _map(request)
        tip = self._ledger.tip
        answer: dict[str, Any] = {"height": tip.height, "tip": tip.hash}
        if "at" in body:
            answer["at"] = self._ledger.hash_at(_height(body, "at")) or b""
        return pack(answer)

    async def blocks(self, request: Request) -> bytes:
        body = _map(request)
        settings = self._ledger.settings
        limit = min(max(_height(body, "limit"), 1), settings.pull_blocks)
        wires = self._ledger.wires(_height(body, "from"), limit, settings.pull_bytes)
        return pack({"height": self._ledger.tip.height, "blocks": wires})

    async def follow(self, request: Request, stream: Stream) -> None:
        ledger, settings = self._ledger, self._ledger.settings
        height = _height(_map(request), "from")
        if self._followers >= settings.followers:
            raise Overloaded(
                "this node has as many followers as it takes", fix="ask another member", retry_after_ms=1000
            )
        self._followers += 1
        try:
            while ledger.failed is None:
                news = ledger.news
                if height > ledger.tip.height:
                    await news.wait()
                    continue
                # The stream's flow control paces this: a slow follower costs a cursor, not a queue.
                for wire in ledger.wires(height, settings.pull_blocks, settings.pull_bytes):
                    await stream.send(wire)
                    height += 1
                    await asyncio.sleep(0)
        finally:
            self._followers -= 1
