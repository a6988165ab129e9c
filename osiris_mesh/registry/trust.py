"""What this node holds true of one registry and has seen of it; refuses what is older, or was said otherwise before.

A registry is trusted from a *pin*, the digest of one of its roots, given by the user, or shown to him on first use.
Vendors may also be proven by their domain. From there on:

- roots, keys and names only ever grow: what was seen must still be there, byte for byte. Less is *rollback*, something
  else in its place is *equivocation*; both are refused and kept as evidence;
- a checkpoint's sequence never falls, and one sequence has one root;
- an expired checkpoint (*freeze*) makes answers stale; an expired root or an expired set of keys makes them none.

Everything here works without a network, and :meth:`Trust.to_wire` survives a restart.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, NoReturn, TypeVar

from osiris_mesh.codec import Limits, pack, unpack_canonical
from osiris_mesh.errors import CheckFailed, Conflict, RemoteProtocolError
from osiris_mesh.function.name import FunctionName
from osiris_mesh.registry.checkpoint import MAX_AHEAD_MS, Checkpoint, Config
from osiris_mesh.registry.history import follow
from osiris_mesh.registry.keys import Delegation, KeysStanding, Root, RootStanding, verify_keys, verify_roots
from osiris_mesh.registry.layout import NO_VENDOR
from osiris_mesh.registry.record import Record
from osiris_mesh.registry.statement import Statement

__all__ = ["MAX_EVIDENCE", "MAX_NAMES", "MAX_STEP", "Evidence", "Trust"]

MAX_EVIDENCE: Final = 256
MAX_NAMES: Final = 1_000_000
MAX_STEP: Final = 1 << 32
"""What a checkpoint's sequence may go up by since the one seen last: more than anybody publishes in between."""
_LIMITS: Final = Limits(size=1 << 28, depth=8, count=1 << 21)
_WIRE: Final = 1

_T = TypeVar("_T")

Seen = tuple[int, bytes]
"""Highest version or sequence seen, and its digest."""


@dataclass(frozen=True, slots=True)
class Evidence:
    """Something a registry should not have said.

    Attributes:
        reason: ``rollback``, ``equivocation``, ``history``, ``threshold``, ``pin``, ``signature`` or ``checkpoint``.
        subject: ``root``, ``checkpoint``, ``keys of acme.com`` or a name.
        what: For people.
        time_ms: When this node saw it.
        known: Digest of what was seen before; empty if nothing was.
        lines: The statements themselves, as far as this node has them.
    """

    reason: str
    subject: str
    what: str
    time_ms: int
    known: bytes = b""
    lines: tuple[bytes, ...] = ()


class Trust:
    """Trust in one registry.

    Args:
        pin: Digest of any of its roots; None: none is pinned.
        first_use: Without a pin, believe the first root that is seen, and pin it.
    """

    def __init__(self, pin: bytes | None = None, *, first_use: bool = False) -> None:
        self.pin = pin
        self.first_use = first_use
        self.registry = ""
        self.changed = False
        """Something new is to be saved; whoever saves sets it to False."""
        self.refused = 0
        """How often something was refused since this object was made."""
        self._root: RootStanding | None = None
        self._vendors: dict[str, KeysStanding] = {}
        self._domains: dict[str, tuple[Delegation, int]] = {}
        self._root_seen: Seen | None = None
        self._keys_seen: dict[str, Seen] = {}
        self._names: dict[str, Seen] = {}
        self._checkpoint: tuple[int, bytes, bytes] | None = None
        self._evidence: list[Evidence] = []

    # --- what is held ----------------------------------------------------------------------------------------------

    @property
    def root(self) -> Root | None:
        """The newest root that was accepted since this object was made."""
        return self._root.root if self._root else None

    @property
    def evidence(self) -> tuple[Evidence, ...]:
        """What was refused, oldest first, at most :data:`MAX_EVIDENCE`."""
        return tuple(self._evidence)

    @property
    def checkpoint_sequence(self) -> int:
        """Highest sequence of a checkpoint seen; 0: none."""
        return self._checkpoint[0] if self._checkpoint else 0

    def keys_of(self, vendor: str) -> KeysStanding | None:
        """Return the keys accepted of a vendor (empty or ``_`` for none) since this object was made."""
        return self._vendors.get(vendor or NO_VENDOR)

    def founded(self, vendor: str) -> bool:
        """Say whether the root delegates to a vendor, so that his domain need not prove anything."""
        return self._root is not None and (vendor or NO_VENDOR) in self._root.root.delegations

    def proven_until_ms(self, vendor: str) -> int:
        """Return when the proof of a vendor's domain ends; 0: there is none."""
        proven = self._domains.get(vendor)
        return proven[1] if proven is not None else 0

    def head_of(self, name: str) -> Seen | None:
        """Return the highest sequence seen of a name and its digest, or None."""
        return self._names.get(name)

    def newcomer(self) -> Trust:
        """Return the trust of somebody with the same pin and the same proven domains who never saw this registry."""
        trust = Trust(self.pin, first_use=self.first_use)
        trust._domains = dict(self._domains)
        return trust

    # --- what is offered -------------------------------------------------------------------------------------------

    def accept_config(self, config: Config) -> None:
        """Take the registry's id on first sight; afterwards it has to be the same.

        Raises:
            Conflict: It is another registry.
        """
        if not self.registry:
            self.registry = config.id
            self.changed = True
        elif self.registry != config.id:
            raise Conflict(
                f"this is registry {config.id}, and {self.registry} was here before",
                fix="check its address; if it is meant to be another one, remove it and add it anew",
            )

    def accept_roots(self, statements: Sequence[Statement], now_ms: int) -> Root | None:
        """Take the history of roots; None if there is none and never was.

        Args:
            statements: Proven statements, oldest first.
            now_ms: The time.

        Raises:
            CheckFailed: ``reason`` is ``history``, ``threshold``, ``pin``, ``rollback``, ``equivocation``, ``expired``.
            UsageError: A payload is wrong.
        """
        if not statements and self._root_seen is None and self.pin is None:
            return None
        standing = self._judged("root", statements, lambda: verify_roots(statements), self._root_seen, now_ms)
        if self.pin is None and not self.first_use:
            raise CheckFailed(
                "no root of this registry is pinned",
                fix=f"ask its owner whether {standing.digests[-1].hex()} is its root, and pin that",
                reason="pin",
                digest=standing.digests[-1].hex(),
            )
        if self.pin is None:
            self.pin = standing.digests[-1]
            self.changed = True
        elif self.pin not in standing.digests:
            self._refuse("pin", "root", "the registry's root is not the pinned one", now_ms, self.pin, statements[-1:])
        self._root = standing
        self._root_seen = self._seen_now(self._root_seen, standing.digests)
        if now_ms >= standing.root.expires_ms:
            raise _expired("the registry's root", "its keepers must sign a new one")
        return standing.root

    def accept_domain(self, vendor: str, keys: Sequence[bytes], until_ms: int) -> None:
        """Take the keys a vendor's domain proved; any one of them may found his keys.

        Args:
            vendor: The domain.
            keys: Public keys.
            until_ms: When the proof is to be made anew.
        """
        now_proven = tuple(sorted({key.hex() for key in keys}))
        before = self._domains.get(vendor)
        if before is not None and before[0].keys == now_proven and before[1] == until_ms:
            return
        proven = Delegation(now_proven)
        proven.check("")
        self._domains[vendor] = (proven, until_ms)
        self.changed = True

    def accept_keys(self, vendor: str, statements: Sequence[Statement], now_ms: int) -> KeysStanding:
        """Take the history of a vendor's keys.

        Args:
            vendor: Domain, or empty or ``_`` for none.
            statements: Proven statements, oldest first.
            now_ms: The time.

        Raises:
            CheckFailed: ``reason`` is ``history``, ``threshold``, ``rollback``, ``equivocation`` or ``expired``.
            UsageError: A payload is wrong.
        """
        vendor = vendor or NO_VENDOR
        self._vendors.pop(vendor, None)
        standing = self._judged(
            f"keys of {vendor}",
            statements,
            lambda: self.weigh_keys(vendor, statements, now_ms),
            self._keys_seen.get(vendor),
            now_ms,
        )
        self._keys_seen[vendor] = self._seen_now(self._keys_seen.get(vendor), standing.digests)
        if standing.keys.expires_ms and now_ms >= standing.keys.expires_ms:
            raise _expired(f"the keys of {vendor}", "the vendor must sign a new version")
        self._vendors[vendor] = standing
        return standing

    def weigh_keys(self, vendor: str, statements: Sequence[Statement], now_ms: int) -> KeysStanding:
        """Say what a history of a vendor's keys would come to, and remember nothing; raises as :meth:`accept_keys`."""
        vendor = vendor or NO_VENDOR
        founders = [self._root.root.delegations[vendor]] if self._root and vendor in self._root.root.delegations else []
        proven = self._domains.get(vendor)
        if proven is not None and now_ms < proven[1]:
            founders.append(proven[0])
        return verify_keys(vendor, statements, founders, self._root.revoked if self._root else ())

    def may_sign_checkpoint(self, key: bytes, now_ms: int) -> bool:
        """Say whether a key is the root's, one the root names for it, or one of any vendor accepted so far."""
        if self._root is not None:
            text = key.hex()
            if text in self._root.revoked:
                return False
            if text in self._root.root.keys or text in self._root.root.checkpoint_keys:
                return True
        return any(standing.publishes(key, now_ms) for standing in self._vendors.values())

    def accept_checkpoint(self, statement: Statement, now_ms: int) -> Checkpoint:
        """Take the head of the tree; whether it has expired is for the caller to say to his own.

        Args:
            statement: Proven.
            now_ms: The time.

        Raises:
            CheckFailed: ``reason`` is ``threshold``, ``rollback``, ``equivocation`` or ``checkpoint``.
            UsageError: The payload is wrong.
        """
        checkpoint = Checkpoint.from_payload(statement.payload)
        if checkpoint.registry != self.registry:
            self._refuse("checkpoint", "checkpoint", "the checkpoint is another registry's", now_ms, b"", [statement])
        if not any(self.may_sign_checkpoint(key, now_ms) for key in statement.keys):
            self._refuse("threshold", "checkpoint", "nobody who may signed the checkpoint", now_ms, b"", [statement])
        if checkpoint.time_ms > now_ms + MAX_AHEAD_MS:
            # No evidence: it may as well be this node's clock that is wrong.
            raise CheckFailed(
                f"the checkpoint {checkpoint.sequence} was made more than a day from now",
                fix="compare this node's clock, then the clock of whoever published last",
                reason="checkpoint",
                name="checkpoint",
            )
        if checkpoint.sequence - self.checkpoint_sequence > MAX_STEP:
            # One leaked publisher's key could use up all the numbers there are, and no head would follow it.
            what = f"the checkpoint went from {self.checkpoint_sequence} to {checkpoint.sequence} at once"
            known = self._checkpoint[2] if self._checkpoint is not None else b""
            self._refuse("checkpoint", "checkpoint", what, now_ms, known, [statement])
        if self._checkpoint is not None:
            sequence, root, known = self._checkpoint
            if checkpoint.sequence < sequence:
                what = f"the checkpoint went back from {sequence} to {checkpoint.sequence}"
                self._refuse("rollback", "checkpoint", what, now_ms, known, [statement])
            if checkpoint.sequence == sequence and checkpoint.root != root.hex():
                what = f"two different trees have checkpoint {sequence}"
                self._refuse("equivocation", "checkpoint", what, now_ms, known, [statement])
            if checkpoint.sequence == sequence:
                return checkpoint
        self._checkpoint = (checkpoint.sequence, bytes.fromhex(checkpoint.root), statement.digest)
        self.changed = True
        return checkpoint

    def check(self, name: FunctionName, statement: Statement, now_ms: int) -> None:
        """Check that whoever signed a statement may speak for a name.

        Raises:
            CheckFailed: ``reason`` is ``threshold``.
        """
        self._check_signers(name, [statement], now_ms)

    def accept_history(
        self, name: FunctionName, statements: Sequence[Statement], now_ms: int, known: Sequence[bytes] = ()
    ) -> Record:
        """Take the history of a name: signed by those who may, whole, and no shorter or other than it was.

        Args:
            name: The name; its vendor's keys have been accepted.
            statements: Proven statements, oldest first.
            now_ms: The time.
            known: Lines of it this node still has, for the evidence.

        Raises:
            CheckFailed: ``reason`` is ``threshold``, ``history``, ``equivocation`` or ``rollback``.
        """
        full = str(name)
        record = self._judged(
            full, statements, lambda: self.weigh_history(name, statements, now_ms), self._names.get(full), now_ms, known
        )
        if full in self._names or len(self._names) < MAX_NAMES:
            self._names[full] = self._seen_now(self._names.get(full), [item.digest for item in statements])
        return record

    def weigh_history(self, name: FunctionName, statements: Sequence[Statement], now_ms: int) -> Record:
        """Say what a history would come to, and remember nothing; raises as :meth:`accept_history`."""
        return follow(name, statements, self._check_signers(name, statements, now_ms).revoked_records)

    def keep(
        self, reason: str, subject: str, what: str, now_ms: int, known: bytes = b"", lines: Sequence[Statement] = ()
    ) -> None:
        """Keep evidence; the same reason and subject once, with the newest lines."""
        found = Evidence(reason, subject, what, now_ms, known, tuple(item.line for item in lines))
        rest = [item for item in self._evidence if (item.reason, item.subject) != (reason, subject)]
        self._evidence = [*rest, found][-MAX_EVIDENCE:]
        self.refused += 1
        self.changed = True

    # --- within ----------------------------------------------------------------------------------------------------

    def _check_signers(self, name: FunctionName, statements: Sequence[Statement], now_ms: int) -> KeysStanding:
        standing = self.keys_of(name.vendor)
        if standing is None:
            raise CheckFailed(f"no keys of {name.vendor or 'names without a vendor'} are known", reason="threshold")
        needed = standing.keys.record_threshold
        signers = standing.signers(name.namespace, now_ms)
        for statement in statements:
            if statement.digest not in standing.revoked_records and len(statement.keys & signers) < needed:
                raise CheckFailed(
                    f"{name}: sequence {statement.payload.get('sequence')} lacks {needed} signatures of keys for it",
                    fix="the vendor signs it anew with a key he uses now",
                    reason="threshold",
                    name=str(name),
                )
        return standing

    def _judged(
        self,
        subject: str,
        statements: Sequence[Statement],
        judge: Callable[[], _T],
        seen: Seen | None,
        now_ms: int,
        known: Sequence[bytes] = (),
    ) -> _T:
        """Judge a history by itself, then by what was seen of it; keep evidence of what is refused."""
        number, digest = seen or (0, b"")
        if not statements and number:
            self._refuse("rollback", subject, f"{subject} has vanished", now_ms, digest, (), known)
        try:
            result = judge()
        except CheckFailed as error:
            self.keep(str(error.details["reason"]), subject, error.what, now_ms, digest, statements[-2:])
            raise
        if len(statements) < number:
            what = f"{subject} went back from {number} to {len(statements)}"
            self._refuse("rollback", subject, what, now_ms, digest, statements[-1:], known)
        if number and statements[number - 1].digest != digest:
            what = f"{subject} says something else at {number} than it did before"
            self._refuse("equivocation", subject, what, now_ms, digest, [statements[number - 1]], known)
        return result

    def _seen_now(self, seen: Seen | None, digests: Sequence[bytes]) -> Seen:
        now = (len(digests), digests[-1])
        if seen != now:
            self.changed = True
        return now

    def _refuse(
        self,
        reason: str,
        subject: str,
        what: str,
        now_ms: int,
        digest: bytes,
        statements: Sequence[Statement],
        known: Sequence[bytes] = (),
    ) -> NoReturn:
        self.keep(reason, subject, what, now_ms, digest, statements)
        if known:
            kept = self._evidence[-1]
            self._evidence[-1] = Evidence(reason, subject, what, now_ms, digest, (*known[-1:], *kept.lines))
        raise CheckFailed(
            what,
            fix="ask the registry's owner; other registries are asked meanwhile",
            reason=reason,
            name=subject,
        )

    # --- keeping ---------------------------------------------------------------------------------------------------

    def to_wire(self) -> bytes:
        """Return all that was seen; the standing of roots and keys is read from the tree again."""
        return self.keeping()()

    def keeping(self) -> Callable[[], bytes]:
        """Return what makes :meth:`to_wire` of this moment: it takes long, and may run in another thread."""
        names, keys, domains, evidence = dict(self._names), dict(self._keys_seen), dict(self._domains), self.evidence
        head = {
            "format": _WIRE,
            "pin": self.pin or b"",
            "registry": self.registry,
            "root": list(self._root_seen or ()),
            "checkpoint": list(self._checkpoint or ()),
        }
        return lambda: pack(
            {
                **head,
                "keys": {vendor: list(seen) for vendor, seen in keys.items()},
                "names": {name: list(seen) for name, seen in names.items()},
                "domains": {vendor: [proven.payload(), until_ms] for vendor, (proven, until_ms) in domains.items()},
                "evidence": [
                    [item.reason, item.subject, item.what, item.time_ms, item.known, list(item.lines)]
                    for item in evidence
                ],
            }
        )

    @classmethod
    def from_wire(cls, data: bytes, *, first_use: bool = False) -> Trust:
        """Read what :meth:`to_wire` gave.

        Raises:
            RemoteProtocolError: It is something else.
        """
        value = unpack_canonical(data, _LIMITS)
        if not isinstance(value, dict) or value.get("format") != _WIRE:
            raise RemoteProtocolError("what was kept of a registry has another format")
        try:
            trust = cls(value["pin"] or None, first_use=first_use)
            trust.registry = _text(value["registry"])
            trust._root_seen = _seen(value["root"]) if value["root"] else None
            if value["checkpoint"]:
                sequence, root, digest = value["checkpoint"]
                trust._checkpoint = (*_seen([sequence, root]), _digest(digest))
            trust._keys_seen = {_text(vendor): _seen(item) for vendor, item in value["keys"].items()}
            trust._names = {_text(name): _seen(item) for name, item in value["names"].items()}
            trust._domains = {vendor: _domain(item) for vendor, item in value["domains"].items()}
            trust._evidence = [_evidence(item) for item in value["evidence"]]
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise RemoteProtocolError(f"what was kept of a registry is damaged: {type(error).__name__}") from None
        return trust


def _expired(what: str, fix: str) -> CheckFailed:
    return CheckFailed(f"{what} has expired", fix=fix, reason="expired")


def _text(value: Any) -> str:
    if type(value) is not str:
        raise TypeError("not a text")
    return value


def _digest(value: Any) -> bytes:
    if type(value) is not bytes or len(value) != 32:
        raise TypeError("not a digest")
    return value


def _seen(value: Any) -> Seen:
    number, digest = value
    if type(number) is not int or number < 1:
        raise ValueError("not a sequence")
    return number, _digest(digest)


def _domain(value: Any) -> tuple[Delegation, int]:
    payload, until_ms = value
    if type(until_ms) is not int or not isinstance(payload, Mapping):
        raise TypeError("not a proof")
    return Delegation.from_payload(payload), until_ms


def _evidence(value: Any) -> Evidence:
    reason, subject, what, time_ms, known, lines = value
    return Evidence(_text(reason), _text(subject), _text(what), int(time_ms), bytes(known), tuple(map(bytes, lines)))
