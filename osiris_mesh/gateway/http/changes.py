"""Changes of the mesh: entries signed for the bearer, or those he signed himself, and what the ledger says to them."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Sequence
from typing import Final

from osiris_mesh.errors import Conflict, Denied, NotFound, OsirisError, RemoteProtocolError, UsageError
from osiris_mesh.gateway.http.route import Ask
from osiris_mesh.ledger.entry import MAX_ENTRY, Entry
from osiris_mesh.ledger.kinds import Body
from osiris_mesh.ledger.outcome import Outcome, Receipt

__all__ = ["PROPOSE_SECONDS", "own_entries", "prepare", "propose", "record", "refusal"]

PROPOSE_SECONDS: Final = 10.0
_DENIED: Final = frozenset({"author", "role", "grant", "signature"})


def own_entries(texts: Sequence[str]) -> list[Entry]:
    """Return the entries a bearer sent.

    Raises:
        UsageError: One of them is none.
    """
    entries = []
    for text in texts:
        try:
            data = base64.b64decode(text, validate=True)
            if len(data) > MAX_ENTRY:
                raise UsageError(f"an entry is at most {MAX_ENTRY} bytes")
            entries.append(Entry.parse(data))
        except (binascii.Error, ValueError):
            raise UsageError("an entry is not base64") from None
        except RemoteProtocolError as error:
            raise UsageError(f"an entry can't be read: {error.what}") from None
    return entries


def prepare(ask: Ask, bodies: Sequence[Body], texts: Sequence[str] | None) -> list[bytes]:
    """Return the entries of a change: the bearer's own if he sent them, which must be exactly this change.

    Args:
        ask: Who asks.
        bodies: What the change is.
        texts: Entries in base64, or None to sign them with the key of the bearer's token.

    Raises:
        UsageError: What he sent is not entries, or another change.
    """
    if texts is None:
        parts, key = ask.parts, ask.bearer.key
        mesh_id = parts.book.state.mesh_id
        return [Entry.make(body.KIND, body.body(), key, mesh_id, parts.clock).bytes for body in bodies]
    entries = own_entries(texts)
    if [(entry.kind, entry.body) for entry in entries] != [(body.KIND, body.body()) for body in bodies]:
        wanted = ", ".join(body.KIND for body in bodies)
        raise UsageError(
            "the entries are not this change", fix=f"send, in this order and for what the path names: {wanted}"
        )
    return [entry.bytes for entry in entries]


async def record(ask: Ask, bodies: Sequence[Body], texts: Sequence[str] | None = None) -> Receipt:
    """Put a change into the ledger.

    Raises:
        Denied, NotFound, Conflict: The ledger refuses it.
        Unavailable: No quorum.
    """
    return await propose(ask, prepare(ask, bodies, texts))


async def propose(ask: Ask, entries: Sequence[bytes]) -> Receipt:
    """Put signed entries into the ledger; raises as :func:`record`."""
    receipt = await ask.parts.book.propose(entries, timeout=PROPOSE_SECONDS)
    for outcome in receipt.outcomes:
        if not outcome.accepted:
            raise refusal(outcome)
    return receipt


def refusal(outcome: Outcome) -> OsirisError:
    """Return the error for an entry the ledger refused; ``refusal`` in its details is the ledger's word for why."""
    text = f"the ledger refuses it: {outcome.reason}"
    if outcome.code == "grant":
        return Denied(
            text,
            fix="nobody gives, or takes away, more than he holds: leave that grant out, or ask with a token that holds "
            "it too (user.manage and token.manage alone give nothing)",
            refusal=outcome.code,
        )
    if outcome.code in _DENIED:
        return Denied(text, fix="ask an administrator of the mesh for a role that may", refusal=outcome.code)
    if outcome.code == "unknown":
        return NotFound(text, refusal=outcome.code)
    if outcome.code in {"body", "kind"}:
        return UsageError(text, refusal=outcome.code)
    return Conflict(text, refusal=outcome.code)
