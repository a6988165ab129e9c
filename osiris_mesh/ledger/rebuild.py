"""State from the stored chain, at the start of a node.

Signatures were checked before a block was stored and are not checked again; everything else is: hashes, both roots,
headers, and every outcome against the rules. ``ledger verify`` checks the signatures too.
"""

from __future__ import annotations

import sqlite3

from osiris_mesh.errors import CheckFailed, OsirisError, RemoteProtocolError
from osiris_mesh.ledger.chain import Chain, unpack_outcomes
from osiris_mesh.ledger.outcome import ACCEPTED
from osiris_mesh.ledger.replica import BadBlock, Replica

__all__ = ["rebuild"]


def rebuild(chain: Chain, mesh_id: bytes) -> Replica:
    """Return the replica that the stored chain amounts to.

    Raises:
        CheckFailed: The chain does not hold; details give height and check.
    """
    replica = Replica(mesh_id)
    try:
        for row in chain.rows(1):
            height = replica.tip.height + 1
            count = len(row.hashes) // 32
            stored = unpack_outcomes(row.outcomes, count)
            unsigned = {at for at, outcome in enumerate(stored) if outcome.code == "signature"}
            block = replica.follow(row.wire, unsigned=unsigned)
            if block is None or row.height != height:
                raise _broken(chain, height, "height", "a block is missing or there twice")
            if block.hash != row.hash:
                raise _broken(chain, height, "hash", "the block does not have the hash stored beside it")
            if b"".join(block.hashes) != row.hashes:
                raise _broken(chain, height, "entry", "an entry does not have the hash stored beside it")
            for there, now in zip(stored, block.outcomes, strict=True):
                if there is not ACCEPTED and (there.accepted, there.code) != (now.accepted, now.code):
                    raise _broken(chain, height, "outcome", "an entry is stored with another outcome than it has")
                if there is ACCEPTED and now is not ACCEPTED:
                    raise _broken(chain, height, "outcome", "an entry is stored with another outcome than it has")
    except BadBlock as error:
        raise _broken(chain, error.height, error.check, error.what) from None
    except RemoteProtocolError as error:
        raise _broken(chain, replica.tip.height + 1, "outcome", error.what) from None
    except sqlite3.Error as error:
        raise _broken(chain, replica.tip.height + 1, "file", str(error)) from None
    return replica


def _broken(chain: Chain, height: int, check: str, what: str) -> OsirisError:
    return CheckFailed(
        f"the ledger at {chain.path} is damaged at block {height}: {what}",
        fix=f"move {chain.path.parent} away and start again: the chain is pulled from the other members",
        height=height,
        check=check,
    )
