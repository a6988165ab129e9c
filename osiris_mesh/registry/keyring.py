"""What keepers of keys do, as pure steps from statements to statements.

Nothing here needs a network or a registry: a root's keeper can work on a machine without either. With a threshold above
one, the first keeper makes the statement, the others :func:`cosign` it, one after the other or apart and then
:func:`osiris_mesh.registry.statement.merge`. Only the publication checks that enough have signed.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final

import msgspec

from osiris_mesh.errors import UsageError
from osiris_mesh.identity.keys import KeyPair
from osiris_mesh.registry.keys import Delegation, NamespaceKeys, Publisher, Root
from osiris_mesh.registry.layout import NO_VENDOR
from osiris_mesh.registry.record import read_payload, sign
from osiris_mesh.registry.statement import Statement, make, merge

__all__ = ["cosign", "found_keys", "found_root", "next_keys", "next_root", "resign", "show", "text_of_key"]

_SEED: Final = 64


def found_root(
    keepers: Sequence[KeyPair],
    *,
    threshold: int,
    expires_ms: int,
    keys: Iterable[bytes] = (),
    checkpoint_keys: Iterable[bytes] = (),
    delegations: Mapping[str, Delegation] | None = None,
) -> Statement:
    """Return the first root.

    Args:
        keepers: Keys that sign now.
        threshold: How many keys must sign whatever follows, and this.
        expires_ms: When it counts no more.
        keys: Public keys of the keepers who sign later.
        checkpoint_keys: Public keys that may sign checkpoints.
        delegations: Vendor (``_`` for names without one) to the keys that found his.

    Raises:
        UsageError: Something is wrong with it; with the path.
    """
    root = Root(
        version=1,
        keys=_hex([*(keeper.public for keeper in keepers), *keys]),
        threshold=threshold,
        expires_ms=expires_ms,
        checkpoint_keys=_hex(checkpoint_keys),
        delegations=dict(delegations or {}),
    )
    return sign(root, keepers)


def next_root(
    before: Statement,
    keepers: Sequence[KeyPair],
    *,
    keys: Iterable[bytes] | None = None,
    threshold: int | None = None,
    expires_ms: int | None = None,
    checkpoint_keys: Iterable[bytes] | None = None,
    delegate: Mapping[str, Delegation | None] | None = None,
    revoke_keys: Iterable[bytes] = (),
) -> Statement:
    """Return the root that follows; what is not given stays.

    Args:
        before: The newest root.
        keepers: Keys that sign now: a threshold of the old set, and of the new one.
        keys: The whole new set.
        threshold: The new threshold.
        expires_ms: The new expiry.
        checkpoint_keys: The whole new set.
        delegate: Vendor to the keys that found his; None takes a delegation back.
        revoke_keys: Keys that nobody is to believe any more; they leave every set of the root.

    Raises:
        UsageError: Something is wrong with it; with the path.
    """
    old = Root.from_payload(before.payload)
    gone = set(_hex(revoke_keys))
    delegations = {**old.delegations, **(delegate or {})}
    root = Root(
        version=old.version + 1,
        keys=tuple(key for key in (old.keys if keys is None else _hex(keys)) if key not in gone),
        threshold=old.threshold if threshold is None else threshold,
        expires_ms=old.expires_ms if expires_ms is None else expires_ms,
        previous=before.digest.hex(),
        checkpoint_keys=tuple(
            key
            for key in (old.checkpoint_keys if checkpoint_keys is None else _hex(checkpoint_keys))
            if key not in gone
        ),
        delegations={vendor: keys for vendor, keys in delegations.items() if keys is not None},
        revoked_keys=tuple(sorted(gone.union(old.revoked_keys))),
    )
    return sign(root, keepers)


def found_keys(
    vendor: str,
    keepers: Sequence[KeyPair],
    *,
    threshold: int = 1,
    keys: Iterable[bytes] = (),
    publishers: Iterable[Publisher] = (),
    expires_ms: int = 0,
    record_threshold: int = 1,
) -> Statement:
    """Return the first version of a vendor's keys.

    Args:
        vendor: Domain, or empty or ``_`` for names without one.
        keepers: Keys that sign now; those the root delegates to, or the domain proves, must be among them.
        threshold: How many keys must sign the next version.
        keys: Public keys of the keepers who sign later.
        publishers: Further keys, for records alone.
        expires_ms: When they count no more; 0: no end.
        record_threshold: How many keys must sign a record.

    Raises:
        UsageError: Something is wrong with it; with the path.
    """
    said = NamespaceKeys(
        vendor=vendor or NO_VENDOR,
        version=1,
        keys=_hex([*(keeper.public for keeper in keepers), *keys]),
        threshold=threshold,
        expires_ms=expires_ms,
        publishers=_by_key(publishers),
        record_threshold=record_threshold,
    )
    return sign(said, keepers)


def next_keys(
    before: Statement,
    keepers: Sequence[KeyPair],
    *,
    keys: Iterable[bytes] | None = None,
    threshold: int | None = None,
    publishers: Iterable[Publisher] | None = None,
    expires_ms: int | None = None,
    record_threshold: int | None = None,
    revoke_keys: Iterable[bytes] = (),
    revoke_records: Iterable[bytes] = (),
) -> Statement:
    """Return the version of a vendor's keys that follows; what is not given stays.

    Args:
        before: The newest version.
        keepers: Keys that sign now: a threshold of the version before.
        keys: The whole new set.
        threshold: The new threshold.
        publishers: The whole new list.
        expires_ms: The new expiry.
        record_threshold: The new number of signatures a record needs.
        revoke_keys: Keys that are not to be believed any more; they leave the sets.
        revoke_records: Digests of statements to be without effect.

    Raises:
        UsageError: Something is wrong with it; with the path.
    """
    old = NamespaceKeys.from_payload(before.payload)
    gone = set(_hex(revoke_keys))
    said = NamespaceKeys(
        vendor=old.vendor,
        version=old.version + 1,
        keys=tuple(key for key in (old.keys if keys is None else _hex(keys)) if key not in gone),
        threshold=old.threshold if threshold is None else threshold,
        expires_ms=old.expires_ms if expires_ms is None else expires_ms,
        previous=before.digest.hex(),
        publishers=_by_key(
            item for item in (old.publishers if publishers is None else publishers) if item.key not in gone
        ),
        record_threshold=old.record_threshold if record_threshold is None else record_threshold,
        revoked_keys=tuple(sorted(gone.union(old.revoked_keys))),
        revoked_records=tuple(sorted({*_hex(revoke_records), *old.revoked_records})),
    )
    return sign(said, keepers)


def cosign(statement: Statement, keepers: Sequence[KeyPair]) -> Statement:
    """Return a statement with further signatures.

    Raises:
        UsageError: Too many signatures in all.
    """
    return merge([statement, make(statement.payload, keepers)])


def resign(statements: Sequence[Statement], keepers: Sequence[KeyPair]) -> list[Statement]:
    """Return the lines of a name signed anew, by these keys alone, after others of the vendor's went.

    What is said stays, and so do the digests: no history changes. Look at each line before you sign it.
    """
    return [make(statement.payload, keepers) for statement in statements]


def show(statement: Statement) -> dict[str, Any]:
    """Return a statement for people and programs: what it says, its digest as ``statement``, and who signed it.

    Raises:
        UsageError: Its payload is wrong.
    """
    kinds: dict[str, type[Root | NamespaceKeys]] = {"root": Root, "keys": NamespaceKeys}
    kind = kinds.get(statement.kind)
    said = read_payload(statement.payload) if kind is None else kind.from_payload(statement.payload)
    return {
        "type": statement.kind,
        "statement": statement.digest.hex(),
        "signed_by": [key.hex() for key in sorted(statement.keys)],
        **msgspec.to_builtins(said),
    }


def text_of_key(text: str) -> KeyPair:
    """Read a key as it stands in a key file, for a key that comes from the environment.

    Raises:
        UsageError: It is none; the text is not repeated.
    """
    text = text.strip()
    try:
        seed = bytes.fromhex(text) if len(text) == _SEED else b""
    except ValueError:
        seed = b""
    if not seed:
        raise UsageError("the key is not 64 hexadecimal digits", fix="osiris-mesh registry keys create writes one")
    return KeyPair(seed)


def _hex(keys: Iterable[bytes]) -> tuple[str, ...]:
    return tuple(sorted({key.hex() for key in keys}))


def _by_key(publishers: Iterable[Publisher]) -> tuple[Publisher, ...]:
    return tuple(sorted(publishers, key=lambda item: item.key))
