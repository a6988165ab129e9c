"""What a dialler makes of an address, and of a peer that closes without a word."""

from __future__ import annotations

from osiris_mesh.errors import Denied, OsirisError, Unavailable, UsageError
from osiris_mesh.identity.multiaddr import Multiaddr
from osiris_mesh.identity.peer_id import public_key
from osiris_mesh.link.session import State

__all__ = ["expected_key", "named", "refusal"]


def refusal(state: State) -> OsirisError:
    """Return what it means that the peer closed in the midst of the handshake without a word."""
    if state in {State.START, State.HELLO}:
        return Denied(
            "the peer does not accept us: it belongs to another mesh, or is no node of a mesh at all",
            fix="check the address, or use a token of that mesh",
        )
    if state in {State.AUTH, State.ACCEPT}:
        return Denied(
            "the peer does not accept us: this node is not, or no longer, a member, or another node answers there",
            fix="join with a new token, or check the address",
        )
    return Unavailable("the peer closed before the link was up", maybe=False)


def expected_key(address: Multiaddr) -> bytes:
    """Return the public key that must answer at ``address``.

    Raises:
        UsageError: The address names no peer.
    """
    if not address.peer:
        raise UsageError(
            f"{address} does not say which peer answers there, so it can't be authenticated",
            fix="add /p2p/ and the peer id, as `osiris-mesh status` on that node prints it",
        )
    return public_key(address.peer)


def named(error: OsirisError, address: Multiaddr) -> OsirisError:
    """Return ``error`` with the address in its text."""
    return type(error)(f"{address}: {error.what}", fix=error.fix, **error.details)
