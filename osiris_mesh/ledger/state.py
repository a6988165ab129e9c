"""The ledger's state and the effect of each entry on it: a pure core, the same on every node.

An entry passes through these gates, in this order, and the first that fails is its outcome::

    gate        refused as   asks
    mesh        mesh         is it for this mesh?
    seen        duplicate    was this very entry applied in the last hour of block time? (its first outcome stands)
    time        time         is it at most one hour older, and five minutes newer, than the block?
    signature   signature    is it the author's?
    genesis     genesis      genesis first, and once
    kind, body  kind, body   does every field obey its rule?
    authority   author, role may this author do this?
    effect      as named     does it fit what is there?

The effects are in :mod:`osiris_mesh.ledger.effects`.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from typing import Final

from osiris_mesh.identity.peer_id import peer_id
from osiris_mesh.ledger import kinds
from osiris_mesh.ledger.authority import Author
from osiris_mesh.ledger.effects import EFFECTS
from osiris_mesh.ledger.entry import Entry
from osiris_mesh.ledger.outcome import Outcome, Refused
from osiris_mesh.ledger.permissions import BUILT_IN_ROLES, CLIENT_GRANTS, NOTHING, Grants
from osiris_mesh.ledger.principal import NEVER, NOBODY, Principal
from osiris_mesh.ledger.records import (
    ApiTokenRecord,
    FunctionRecord,
    Member,
    Named,
    Role,
    TokenRecord,
    TreeFile,
    User,
    VersionRecord,
)

__all__ = ["AHEAD_MS", "WINDOW_MS", "Context", "State"]

WINDOW_MS: Final = 3_600_000
"""How long an entry may be under way, and how long its hash is remembered."""

AHEAD_MS: Final = 300_000
"""How far an author's clock may be ahead of the proposer's."""

_OTHER_MESH: Final = Outcome(accepted=False, reason="the entry is for another mesh", code="mesh")
# Kinds that change nobody's rights; all others count in :attr:`State.rights`.
_NO_RIGHTS: Final = ("function.", "container.", "config.", "registry.")
_TOO_OLD: Final = Outcome(
    accepted=False, reason="the entry is more than an hour older than its block; sign it again", code="time"
)
_TOO_NEW: Final = Outcome(
    accepted=False, reason="the entry is more than five minutes newer than its block; check the clocks", code="time"
)
_NOT_SIGNED: Final = Outcome(accepted=False, reason="the signature is not the author's", code="signature")


@dataclass(frozen=True, slots=True)
class Context:
    """Where an entry is applied.

    Attributes:
        height: Height of its block.
        time_ms: The block's time.
    """

    height: int
    time_ms: int


class State:
    """What the entries so far amount to; read on the loop thread, changed by :meth:`apply` alone.

    Args:
        mesh_id: The mesh's 16 bytes.

    Attributes:
        name: The mesh's name; empty before the genesis.
        members: Nodes and clients by peer id.
        users: By public key.
        roles: Custom roles by name.
        tokens: Join and client tokens by public half of the token key.
        api_tokens: By public half of the token's key.
        functions: By full name.
        containers: What each node said it runs: ``(name, version, instances)`` by peer id.
        settings: Values by key.
        set_by: Hash of the entry that set each of them last, to the same value too.
        rules: Level of the rules that values of settings obey; see :mod:`osiris_mesh.ledger.values`.
        names: Every key that ever was a user's, a member's or an API token's, with what it was called.
        tree: Files of the registry by path.
        tree_files: How many they are.
        tree_bytes: Bytes of all of them.
        tree_height: Height at which one changed last; 0 before the first.
        rights: Goes up whenever what somebody may could have changed, time passing aside.
    """

    def __init__(self, mesh_id: bytes) -> None:
        self.mesh_id = mesh_id
        self.name = ""
        self.members: dict[str, Member] = {}
        self.users: dict[bytes, User] = {}
        self.roles: dict[str, Role] = {}
        self.tokens: dict[bytes, TokenRecord] = {}
        self.api_tokens: dict[bytes, ApiTokenRecord] = {}
        self.functions: dict[str, FunctionRecord] = {}
        self.containers: dict[str, tuple[tuple[str, str, int], ...]] = {}
        self.settings: dict[str, str] = {}
        self.set_by: dict[str, bytes] = {}
        self.rules = 0
        self.names: dict[bytes, Named] = {}
        self.tree: dict[str, TreeFile] = {}
        self.tree_files = 0
        self.tree_bytes = 0
        self.tree_height = 0
        self.rights = 0
        self._authors: dict[bytes, Author] = {}
        # Digests of removed versions: a version number never comes to mean other code.
        self.tombs: dict[tuple[str, str], bytes] = {}
        # A node joins once with a token, so that its old admission can't bring it back after it was removed.
        self.admitted: set[tuple[bytes, bytes]] = set()
        self._seen: dict[bytes, tuple[int, Outcome]] = {}
        self._expiries: deque[tuple[int, bytes]] = deque()

    # -- reading

    def first_outcome(self, entry_hash: bytes) -> tuple[int, Outcome] | None:
        """Return the height and outcome of an entry applied within the last hour of block time."""
        return self._seen.get(entry_hash)

    def active(self, name: str) -> VersionRecord | None:
        """Return the active version of a function, by full name."""
        record = self.functions.get(name)
        return record.versions[record.active] if record is not None and record.active is not None else None

    def voters(self) -> list[str]:
        """Return the peers that may vote, in ascending order."""
        return sorted(member.peer for member in self.members.values() if member.role == "voter")

    def role(self, name: str) -> Grants | None:
        """Return the grants of a built-in or custom role, or None if there is none of this name."""
        built_in = BUILT_IN_ROLES.get(name)
        if built_in is not None:
            return built_in
        custom = self.roles.get(name)
        return custom.grants if custom is not None else None

    def principal(self, key: bytes, time_ms: int) -> Principal:
        """Return who holds a public key, and what he may at a time; an expired token's bearer is nobody.

        Args:
            key: Public key, 32 bytes.
            time_ms: Wall clock or block time, milliseconds.
        """
        user = self.users.get(key)
        if user is not None:
            return self._user_principal(user, time_ms)
        token = self.api_tokens.get(key)
        if token is not None:
            owner = self.users.get(token.owner)
            if owner is None or not token.lives(time_ms) or self.expired(token.owner, time_ms):
                return NOBODY
            behind = self._user_principal(owner, time_ms)
            until_ms = min(token.expires_ms, behind.until_ms)
            return Principal("api_token", token.name, token.owner, token.grants, behind.grants, until_ms)
        member = self.members.get(peer_id(key))
        if member is None or self.expired(key, time_ms):
            return NOBODY
        if member.role == "client":
            return Principal("client", member.name, b"", CLIENT_GRANTS, until_ms=self._until(key))
        return Principal("node", member.name)

    def _user_principal(self, user: User, time_ms: int) -> Principal:
        if self.expired(user.key, time_ms):
            return NOBODY
        return Principal("user", user.name, user.key, self.role(user.role) or NOTHING, until_ms=self._until(user.key))

    def _until(self, key: bytes) -> int:
        token = self.tokens.get(key)
        return token.expires_ms if token is not None and token.role == "client" else NEVER

    def expired(self, key: bytes, time_ms: int) -> bool:
        """Say whether a key is a client token's that has expired."""
        token = self.tokens.get(key)
        return token is not None and token.role == "client" and token.expires_ms <= time_ms

    def next_expiry(self, time_ms: int) -> int:
        """Return when, after a time, the first client's or API token expires; a time never reached if none will."""
        ends = [token.expires_ms for token in self.tokens.values() if token.role == "client" and not token.revoked]
        ends += [token.expires_ms for token in self.api_tokens.values() if not token.revoked]
        return min((end for end in ends if end > time_ms), default=NEVER)

    def author(self, key: bytes, time_ms: int) -> Author:
        """Return what is known of a public key at a block time; a client whose token has expired is nobody."""
        known = self._authors.get(key)
        if known is not None:
            return known
        peer = peer_id(key)
        if self.expired(key, time_ms):
            return Author(peer)
        member, user = self.members.get(peer), self.users.get(key)
        author = Author(
            peer, member.role if member else "", self.principal(key, time_ms), user.role if user is not None else ""
        )
        if author.principal.kind in {"user", "node"} and key not in self.tokens:
            # Time changes nothing about these.
            self._authors[key] = author
        return author

    # -- writing

    def apply(self, entry: Entry, context: Context, *, trusted: bool = False) -> Outcome:
        """Apply one entry and return what became of it.

        Args:
            entry: The entry.
            context: The block it stands in.
            trusted: This very program checked its signature before (when it was proposed here, or before it was
                stored); all else is checked again.
        """
        if entry.mesh_id != self.mesh_id:
            return _OTHER_MESH
        first = self._seen.get(entry.hash)
        if first is not None:
            return _again(*first)
        if entry.time_ms < context.time_ms - WINDOW_MS:
            return _TOO_OLD
        if entry.time_ms > context.time_ms + AHEAD_MS:
            return _TOO_NEW
        if not trusted and not entry.holds():
            return _NOT_SIGNED
        try:
            outcome = self._effect(entry, context)
        except Refused as refused:
            outcome = refused.outcome
        else:
            if not entry.kind.startswith(_NO_RIGHTS):
                self.rights += 1
                self._authors.clear()
        self._seen[entry.hash] = (context.height, outcome)
        self._expiries.append((context.time_ms + WINDOW_MS + AHEAD_MS, entry.hash))
        return outcome

    def forget(self, time_ms: int) -> None:
        """Drop the hashes of entries that would be refused as too old from this block time on."""
        expiries = self._expiries
        while expiries and expiries[0][0] < time_ms:
            del self._seen[expiries.popleft()[1]]

    def _effect(self, entry: Entry, context: Context) -> Outcome:
        if (entry.kind == kinds.Genesis.KIND) == bool(self.members):
            raise Refused("genesis", "there is a genesis already" if self.members else "there is no genesis yet")
        body = kinds.read(entry.kind, entry.body)
        return EFFECTS[entry.kind](self, body, entry, context)


def _again(height: int, first: Outcome) -> Outcome:
    if first.accepted:
        return Outcome(accepted=True, reason=f"it was applied at height {height}", code="duplicate")
    return Outcome(accepted=False, reason=f"it was refused at height {height}: {first.reason}", code="duplicate")
