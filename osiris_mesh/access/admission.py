"""How a stranger with a token becomes a member.

States of a joiner: *bound* (its port is open, so that its address is known) -> *presented* (a member has its admission,
signed by the token key and by itself) -> *admitted* (the block with ``member.add`` is committed) or refused with the
reason. The joiner authenticates the mesh first: the handshake succeeds only with a peer that has the network key and
the key in the token. Presenting again after a lost answer is safe: a member is told that it is one.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final, Protocol

from osiris_mesh.clock import Clock
from osiris_mesh.codec import Limits, pack, unpack
from osiris_mesh.errors import Denied, OsirisError, Overloaded, RemoteProtocolError, Unavailable
from osiris_mesh.identity.keys import KeyPair
from osiris_mesh.identity.multiaddr import Multiaddr
from osiris_mesh.identity.token import Token
from osiris_mesh.ledger.entry import Entry
from osiris_mesh.ledger.kinds import MemberAdd, admission, read
from osiris_mesh.ledger.outcome import Receipt, Refused
from osiris_mesh.ledger.records import TokenRecord
from osiris_mesh.link import Audience, Link, Request, Router

__all__ = ["METHOD", "Admitted", "Doorkeeper", "present", "with_seeds"]

METHOD: Final = "join.present"
_AT_ONCE: Final = 4
_SECONDS: Final = 5.0
_UNKNOWN_SECONDS: Final = 0.5
_BODY: Final = Limits(size=8192, depth=3, count=64)
_ANSWER: Final = Limits(size=64 * 1024, depth=3, count=256)
_FIX: Final = "create a new one on a member with: osiris-mesh token create"


@dataclass(frozen=True, slots=True)
class Admitted:
    """A member's answer to a joiner.

    Attributes:
        name: Name of the mesh.
        height: Height of the block that admitted it.
        members: Addresses of members.
    """

    name: str
    height: int
    members: tuple[Multiaddr, ...]


class Book(Protocol):
    """What the doorkeeper needs of the ledger; called on the loop thread."""

    def mesh_name(self) -> str:
        """Return the name of the mesh."""
        ...

    def height(self) -> int:
        """Return the height of the newest block applied here."""
        ...

    def is_member(self, public_key: bytes) -> bool:
        """Say whether the ledger names this key as a member."""
        ...

    def token(self, public_key: bytes) -> TokenRecord | None:
        """Return what is public of the token with this key."""
        ...

    def member_addresses(self) -> Sequence[str]:
        """Return addresses of members, each ending in a peer id."""
        ...

    async def propose(self, entries: Sequence[bytes], *, timeout: float) -> Receipt:
        """Put entries into the ledger."""
        ...


class Doorkeeper:
    """The member's side: takes admissions, a few at a time.

    Args:
        key: The node's key; it authors the entry.
        mesh_id: The mesh.
        book: The ledger.
        clock: Gives the entry's time.
        router: Where ``join.present`` is registered.
    """

    def __init__(self, key: KeyPair, mesh_id: bytes, book: Book, clock: Clock, router: Router) -> None:
        self._key = key
        self._mesh_id = mesh_id
        self._book = book
        self._clock = clock
        self._room = _AT_ONCE
        router.unary(METHOD, self._present, allow=Audience.JOINER | Audience.MEMBER)

    async def _present(self, request: Request) -> bytes:
        if self._room == 0:
            raise Overloaded("this member admits others at the moment", fix="try again", retry_after_ms=1000)
        self._room -= 1
        try:
            return await self._admit(request)
        finally:
            self._room += 1

    async def _admit(self, request: Request) -> bytes:
        fields = unpack(request.body, _BODY)
        try:
            wanted = read("member.add", fields if isinstance(fields, list) else [])
        except Refused as refusal:
            raise RemoteProtocolError(f"not an admission: {refusal}") from None
        if not isinstance(wanted, MemberAdd) or wanted.public_key != request.caller.public_key:
            raise Denied("an admission is presented by the node that it names")
        height = self._book.height()
        if not self._book.is_member(wanted.public_key):
            await self._check(wanted)
            entry = Entry.make("member.add", wanted.body(), self._key, self._mesh_id, self._clock)
            receipt = await self._book.propose([entry.bytes], timeout=_SECONDS)
            outcome = receipt.outcomes[0]
            if not outcome.accepted:
                raise Denied(f"the mesh does not admit this node: {outcome.reason}", fix=_FIX, why=outcome.code)
            height = receipt.height
        answer = {
            "name": self._book.mesh_name(),
            "height": height,
            "members": list(self._book.member_addresses())[:64],
        }
        return pack(answer)

    async def _check(self, wanted: MemberAdd) -> None:
        """Refuse what the ledger would refuse: a stranger must not be able to fill it with refusals."""
        token = self._book.token(wanted.token)
        deadline = self._clock.monotonic() + _UNKNOWN_SECONDS
        while token is None and self._clock.monotonic() < deadline:
            # Created at another member a moment ago, perhaps, and not applied here yet.
            await asyncio.sleep(_UNKNOWN_SECONDS / 10)
            token = self._book.token(wanted.token)
        why = ""
        if token is None:
            why = "the token is unknown"
        elif token.revoked:
            why = "the token is revoked"
        elif token.role == "client":
            why = "the token is a client's"
        elif token.expires_ms <= self._clock.time_ms():
            why = "the token has expired"
        elif token.used >= token.uses:
            why = "the token is spent"
        elif not wanted.holds(self._mesh_id):
            why = "a signature of the admission does not hold"
        if why:
            raise Denied(f"the mesh does not admit this node: {why}", fix=_FIX, why="token")


class Dialler(Protocol):
    """What the joiner needs of its links."""

    async def dial(self, address: Multiaddr, *, audience: Audience = ...) -> Link:
        """Connect to ``address``; the peer counts as ``audience`` here."""
        ...


def with_seeds(token: Token, seeds: Sequence[Multiaddr]) -> Token:
    """Return ``token`` with further addresses to try, behind its own.

    A seed typed by hand names no peer: whoever answers there must be one of the members the token names.
    """
    peers = dict.fromkeys(member.peer for member in token.members)
    more = [Multiaddr(seed.host, seed.port, peer) for seed in seeds for peer in ([seed.peer] if seed.peer else peers)]
    return replace(token, members=tuple(dict.fromkeys((*token.members, *more))))


async def present(
    dialler: Dialler, token: Token, key: KeyPair, user: bytes, name: str, listen: Sequence[Multiaddr]
) -> Admitted:
    """Present an admission to the members named in ``token``, one after the other, until one answers.

    Args:
        dialler: The node's links, already listening.
        token: A voter's or follower's token.
        key: The node's key.
        user: Public key of this home's user.
        name: The node's name.
        listen: Where this node's links are accepted.

    Raises:
        Denied: The mesh refuses, for good.
        Unavailable: No member could be reached, or none could decide; trying again may help.
    """
    wanted = admission(
        token.mesh_id,
        token=token.key,
        joiner=key,
        user=user if token.grant != "none" else b"",
        name=name,
        addresses=[str(address) for address in listen],
    )
    body = pack(wanted.body())
    reasons: list[str] = []
    for address in token.members:
        try:
            link = await dialler.dial(address, audience=Audience.MEMBER)
            answer = await link.call(METHOD, body, timeout=2 * _SECONDS)
        except Denied as error:
            # A member that was removed, or lost its disk, can't say that the mesh refuses; one that decided can.
            if "why" in error.details:
                raise
            reasons.append(f"{address.host}:{address.port}: {error.what}")
        except (OsirisError, OSError) as error:
            reasons.append(f"{address.host}:{address.port}: {error.what if isinstance(error, OsirisError) else error}")
        else:
            return _read_answer(unpack(answer, _ANSWER))
    raise Unavailable(
        "no member named in the token could admit this node: " + "; ".join(reasons),
        fix="check that a member runs and that its port can be reached from here, then join again",
        maybe=False,
    )


def _read_answer(answer: Any) -> Admitted:
    if not isinstance(answer, Mapping):
        raise RemoteProtocolError("the member's answer is not a map")
    name, height, members = answer.get("name"), answer.get("height"), answer.get("members")
    if not isinstance(name, str) or not isinstance(height, int) or not isinstance(members, list):
        raise RemoteProtocolError("the member's answer lacks a field")
    return Admitted(name, height, tuple(Multiaddr.parse(str(member)) for member in members))
