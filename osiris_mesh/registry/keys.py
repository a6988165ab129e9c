"""Who may say what: the offline root, and each vendor's keys.

The *root* is a threshold set of keys kept off any machine of the mesh. It names for each vendor the keys that may found
the vendor's own *namespace keys*; without it, keys proven by the vendor's domain may. From then on the vendor rotates
by himself: each version of his keys is signed by a threshold of the version before. A new root is signed by thresholds
of both the old and the new set.

A line of a name counts if keys that the *newest* namespace keys name have signed it: nobody signs for a vendor with a
key he gave up. A line's digest does not cover its signatures, so genuine lines are signed again when their key goes,
and no history changes. A revoked record stays in its history, without effect and whoever signed it.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Annotated, Final

import msgspec
from msgspec import Meta

from osiris_mesh.errors import CheckFailed, UsageError
from osiris_mesh.function.name import FunctionName
from osiris_mesh.registry.layout import NO_VENDOR
from osiris_mesh.registry.record import Hex32, MaybeHex32, Payload, Sequence_, TimeMs, wrong
from osiris_mesh.registry.statement import Statement

__all__ = [
    "MAX_KEYS",
    "Delegation",
    "KeysStanding",
    "NamespaceKeys",
    "Publisher",
    "Root",
    "RootStanding",
    "fits",
    "signed_by",
    "verify_keys",
    "verify_roots",
]

MAX_KEYS: Final = 16
"""Keys of one threshold set: as many as a statement can have signatures."""

KeySet = Annotated[tuple[Hex32, ...], Meta(min_length=1, max_length=MAX_KEYS)]
Threshold = Annotated[int, Meta(ge=1, le=MAX_KEYS)]
Revoked = Annotated[tuple[Hex32, ...], Meta(max_length=512)]
Vendor = Annotated[str, Meta(min_length=1, max_length=253)]
Pattern = Annotated[str, Meta(pattern=r"^[A-Za-z0-9._*-]{1,64}$(?!\n)", min_length=1, max_length=64)]


class Delegation(Payload, frozen=True, forbid_unknown_fields=True):
    """Keys that may found a vendor's namespace keys, and found them anew.

    Attributes:
        keys: Public keys, ascending.
        threshold: How many of them must sign.
    """

    keys: KeySet
    threshold: Threshold = 1

    def check(self, at: str) -> None:
        """See :meth:`Payload.check`."""
        _check_set(self.keys, self.threshold, at)


class Root(Payload, frozen=True, forbid_unknown_fields=True, tag_field="type", tag="root"):
    """The offline root.

    Attributes:
        version: From 1 without gaps.
        keys: Its own keys, ascending.
        threshold: How many of them must sign the next root.
        expires_ms: When it counts no more.
        previous: Digest of the root before; empty for the first.
        checkpoint_keys: Keys that may sign checkpoints and nothing else, ascending.
        delegations: Vendor (``_`` for names without one) to the keys that found his.
        revoked_keys: Keys that nobody is believed by, ascending.
    """

    version: Sequence_
    keys: KeySet
    threshold: Threshold
    expires_ms: TimeMs
    previous: MaybeHex32 = ""
    checkpoint_keys: Annotated[tuple[Hex32, ...], Meta(max_length=64)] = ()
    delegations: Annotated[dict[Vendor, Delegation], Meta(max_length=256)] = msgspec.field(default_factory=dict)
    revoked_keys: Revoked = ()

    def check(self, at: str) -> None:
        """See :meth:`Payload.check`."""
        _check_set(self.keys, self.threshold, at)
        _check_previous(self.version, self.previous, at)
        _check_ascending(self.checkpoint_keys, at + "checkpoint_keys")
        _check_ascending(self.revoked_keys, at + "revoked_keys")
        if not set(self.revoked_keys).isdisjoint(self.keys):
            raise wrong(at + "revoked_keys", "holds a key of the root itself")
        for vendor, delegation in self.delegations.items():
            _check_vendor(vendor, f"{at}delegations.{vendor}")
            delegation.check(f"{at}delegations.{vendor}.")


class Publisher(Payload, frozen=True, forbid_unknown_fields=True):
    """A key that may sign records, but not keys.

    Attributes:
        key: Public key.
        namespaces: Patterns of the namespaces it may sign for, ascending; ``*`` fits any letters.
        valid_until_ms: It counts no more from then on; 0: no end.
    """

    key: Hex32
    namespaces: Annotated[tuple[Pattern, ...], Meta(min_length=1, max_length=64)] = ("*",)
    valid_until_ms: TimeMs = 0

    def check(self, at: str) -> None:
        """See :meth:`Payload.check`."""
        _check_ascending(self.namespaces, at + "namespaces")


class NamespaceKeys(Payload, frozen=True, forbid_unknown_fields=True, tag_field="type", tag="keys"):
    """The keys of one vendor.

    Attributes:
        vendor: Domain, or ``_`` for the names without a vendor.
        version: From 1 without gaps.
        keys: Keys that sign the next version, and records of every namespace; ascending.
        threshold: How many of them must sign the next version.
        expires_ms: When they count no more; 0: no end.
        previous: Digest of the version before; empty for the first.
        publishers: Further keys for records, ascending by key.
        record_threshold: How many keys must sign a record.
        revoked_keys: Keys that count no more, ascending.
        revoked_records: Digests of statements without effect, ascending.
    """

    vendor: Vendor
    version: Sequence_
    keys: KeySet
    threshold: Threshold
    expires_ms: TimeMs = 0
    previous: MaybeHex32 = ""
    publishers: Annotated[tuple[Publisher, ...], Meta(max_length=64)] = ()
    record_threshold: Threshold = 1
    revoked_keys: Revoked = ()
    revoked_records: Revoked = ()

    def check(self, at: str) -> None:
        """See :meth:`Payload.check`."""
        _check_vendor(self.vendor, at + "vendor")
        _check_set(self.keys, self.threshold, at)
        _check_previous(self.version, self.previous, at)
        for place, publisher in enumerate(self.publishers):
            publisher.check(f"{at}publishers[{place}].")
        signers = [publisher.key for publisher in self.publishers]
        _check_ascending(signers, at + "publishers")
        _check_ascending(self.revoked_keys, at + "revoked_keys")
        _check_ascending(self.revoked_records, at + "revoked_records")
        if not set(self.keys).isdisjoint(signers):
            raise wrong(at + "publishers", "names a key that is among keys")
        if not set(self.revoked_keys).isdisjoint([*self.keys, *signers]):
            raise wrong(at + "revoked_keys", "holds a key that is also in use")


@dataclass(frozen=True, slots=True)
class RootStanding:
    """What a history of roots comes to.

    Attributes:
        root: The newest.
        revoked: Keys revoked in any version.
        digests: Of all versions, oldest first.
    """

    root: Root
    revoked: frozenset[str]
    digests: tuple[bytes, ...]


@dataclass(frozen=True, slots=True)
class KeysStanding:
    """What a history of a vendor's keys comes to.

    Attributes:
        keys: The newest version.
        revoked: Keys revoked in any version or by the root.
        revoked_records: Digests of statements revoked in any version.
        digests: Of all versions, oldest first.
    """

    keys: NamespaceKeys
    revoked: frozenset[str]
    revoked_records: frozenset[bytes]
    digests: tuple[bytes, ...]

    def signers(self, namespace: str, now_ms: int) -> frozenset[bytes]:
        """Return the public keys that may sign records of a namespace now."""
        may = {
            publisher.key
            for publisher in self.keys.publishers
            if (not publisher.valid_until_ms or now_ms < publisher.valid_until_ms)
            and any(fits(pattern, namespace) for pattern in publisher.namespaces)
        }
        return frozenset(map(bytes.fromhex, may.union(self.keys.keys).difference(self.revoked)))

    def publishes(self, key: bytes, now_ms: int) -> bool:
        """Say whether a key may sign records of any namespace now, and so a checkpoint."""
        text = key.hex()
        return text not in self.revoked and (
            text in self.keys.keys
            or any(
                publisher.key == text and (not publisher.valid_until_ms or now_ms < publisher.valid_until_ms)
                for publisher in self.keys.publishers
            )
        )


def fits(pattern: str, text: str) -> bool:
    """Say whether a pattern, whose ``*`` fits any letters, fits the whole text; linear in their product."""
    first, *rest = pattern.split("*")
    if not rest:
        return pattern == text
    *middle, last = rest
    if not text.startswith(first) or len(text) < len(first) + len(last) or not text.endswith(last):
        return False
    at, end = len(first), len(text) - len(last)
    for part in middle:
        at = text.find(part, at, end)
        if at < 0:
            return False
        at += len(part)
    return True


def signed_by(statement: Statement, keys: Iterable[str], threshold: int, revoked: Iterable[str] = ()) -> bool:
    """Say whether at least ``threshold`` of ``keys`` (hexadecimal), the revoked ones left out, signed a statement."""
    return len(statement.keys.intersection(map(bytes.fromhex, set(keys).difference(revoked)))) >= threshold


def verify_roots(statements: Sequence[Statement]) -> RootStanding:
    """Check a history of roots: every version follows from the one before.

    Args:
        statements: Proven statements, oldest first.

    Raises:
        CheckFailed: It does not; ``reason`` is ``history`` or ``threshold``.
        UsageError: A payload is wrong.
    """
    before: Root | None = None
    revoked: frozenset[str] = frozenset()
    for place, statement in enumerate(statements):
        root = Root.from_payload(statement.payload)
        what = f"version {root.version} of the root"
        _check_follows(root.version, root.previous, statements, place, "the root")
        if before is not None and not signed_by(statement, before.keys, before.threshold, revoked):
            raise _below(what, before.threshold, "the version before")
        revoked = _revoked_more(revoked, root.revoked_keys, root.keys, what)
        if not signed_by(statement, root.keys, root.threshold):
            raise _below(what, root.threshold, "its own keys")
        before = root
    if before is None:
        raise CheckFailed("the registry has no root", reason="history")
    return RootStanding(before, revoked, tuple(statement.digest for statement in statements))


def verify_keys(
    vendor: str, statements: Sequence[Statement], founders: Sequence[Delegation], revoked: Iterable[str] = ()
) -> KeysStanding:
    """Check a history of a vendor's keys.

    A version that founders signed needs no other; whatever follows it is signed by the version before. What was revoked
    once stays revoked, founders' keys too.

    Args:
        vendor: Domain, or ``_``.
        statements: Proven statements, oldest first.
        founders: The root's delegation, or what the domain proved.
        revoked: Keys the root revoked.

    Raises:
        CheckFailed: It does not hold; ``reason`` is ``history`` or ``threshold``.
        UsageError: A payload is wrong.
    """
    gone = frozenset(revoked)
    revoked_records: frozenset[str] = frozenset()
    before: NamespaceKeys | None = None
    founded = False
    for place, statement in enumerate(statements):
        keys = NamespaceKeys.from_payload(statement.payload)
        what = f"version {keys.version} of {vendor}'s keys"
        if keys.vendor != vendor:
            raise CheckFailed(f"keys of {keys.vendor} stand where those of {vendor} belong", reason="history")
        _check_follows(keys.version, keys.previous, statements, place, f"{vendor}'s keys")
        if any(signed_by(statement, founder.keys, founder.threshold, gone) for founder in founders):
            founded = True
        elif founded and before is not None and not signed_by(statement, before.keys, before.threshold, gone):
            raise _below(what, before.threshold, "the version before")
        gone = _revoked_more(gone, keys.revoked_keys, (), what)
        revoked_records |= set(keys.revoked_records)
        before = keys
    if before is None or not founded:
        raise CheckFailed(
            f"nobody who may has founded the keys of {vendor}",
            fix="the root must delegate to the keys that signed them, or the domain prove them",
            reason="threshold",
        )
    digests = tuple(statement.digest for statement in statements)
    return KeysStanding(before, gone, frozenset(map(bytes.fromhex, revoked_records)), digests)


def _revoked_more(revoked: frozenset[str], more: Iterable[str], used: Iterable[str], what: str) -> frozenset[str]:
    revoked = revoked.union(more)
    if not revoked.isdisjoint(used):
        raise CheckFailed(f"{what} uses a key that is revoked", reason="threshold")
    return revoked


def _below(what: str, threshold: int, keys: str) -> CheckFailed:
    return CheckFailed(f"{what} is signed by fewer than {threshold} of {keys}", reason="threshold")


def _check_follows(version: int, previous: str, statements: Sequence[Statement], place: int, what: str) -> None:
    before = statements[place - 1].digest.hex() if place else ""
    if version != place + 1 or previous != before:
        raise CheckFailed(f"version {place + 1} of {what} does not follow from the one before", reason="history")


def _check_set(keys: Sequence[str], threshold: int, at: str) -> None:
    _check_ascending(keys, at + "keys")
    if threshold > len(keys):
        raise wrong(at + "threshold", f"is {threshold}, more than the {len(keys)} keys")


def _check_previous(version: int, previous: str, at: str) -> None:
    if (version == 1) != (previous == ""):
        raise wrong(at + "previous", "is empty for version 1, and for that alone")


def _check_ascending(items: Sequence[str], at: str) -> None:
    if list(items) != sorted(set(items)):
        raise wrong(at, "is not in ascending order, each once")


def _check_vendor(vendor: str, at: str) -> None:
    if vendor == NO_VENDOR:
        return
    try:
        FunctionName.parse(f"{vendor}/a/a")
    except UsageError as error:
        raise wrong(at, error.what) from None
