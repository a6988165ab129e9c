"""Keys and trust: who is believed, and what is never taken back."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from osiris_mesh.errors import CheckFailed, Conflict, NotFound, RemoteProtocolError, UsageError
from osiris_mesh.function.name import FunctionName
from osiris_mesh.identity.keys import KeyPair
from osiris_mesh.registry.checkpoint import MAX_AHEAD_MS, MAX_LIFE_MS, Checkpoint, Config
from osiris_mesh.registry.key_folder import KeyFolder
from osiris_mesh.registry.keyring import (
    cosign,
    found_keys,
    found_root,
    next_keys,
    next_root,
    resign,
    show,
    text_of_key,
)
from osiris_mesh.registry.keys import NamespaceKeys, Publisher, fits
from osiris_mesh.registry.record import sign
from osiris_mesh.registry.statement import Statement, make
from osiris_mesh.registry.trust import MAX_EVIDENCE, MAX_STEP, Trust
from tests.registry.core.kit import (
    NAME,
    NOW,
    REGISTRY,
    ROOT_KEYS,
    STRANGER,
    VENDOR_KEY,
    YEAR,
    delegation,
    history,
    key,
    root,
    trusting,
)

CI = key(20)
LINES = history({"version": "1.0.0"}, {"version": "1.1.0"}, {"version": "1.0.0", "deprecated": "old"})


def refused(do: Callable[[], object]) -> str:
    """Return the reason something is refused for."""
    with pytest.raises(CheckFailed) as caught:
        do()
    return str(caught.value.details["reason"])


def keys(**more: Any) -> Statement:
    return found_keys("acme.com", [VENDOR_KEY], **more)


# --- the root ------------------------------------------------------------------------------------------------------


def test_a_root_is_believed_by_its_pin_alone() -> None:
    assert refused(lambda: Trust().accept_roots([root()], NOW)) == "pin"
    assert refused(lambda: Trust(b"\1" * 32).accept_roots([root()], NOW)) == "pin"
    trust = Trust(first_use=True)
    assert trust.accept_roots([root()], NOW) is not None
    assert trust.pin == root().digest
    other = root(expires_ms=NOW + 1)
    assert refused(lambda: trust.accept_roots([other], NOW)) == "equivocation"
    assert refused(lambda: Trust(trust.pin).accept_roots([other], NOW)) == "pin"


def test_a_root_needs_its_threshold() -> None:
    one = found_root(ROOT_KEYS[:1], threshold=2, expires_ms=NOW + 1, keys=[ROOT_KEYS[1].public])
    assert refused(lambda: Trust(one.digest).accept_roots([one], NOW)) == "threshold"
    both = cosign(one, ROOT_KEYS[1:2])
    assert both.digest == one.digest
    assert Trust(one.digest).accept_roots([both], NOW) is not None


def test_a_new_root_needs_thresholds_of_both_sets() -> None:
    new = [key(4), key(5)]
    change: dict[str, Any] = {"keys": [item.public for item in new], "threshold": 2}
    for keepers, ok in (
        ([*ROOT_KEYS[:2], *new], True),
        ([*ROOT_KEYS[1:], *new], True),
        ([*ROOT_KEYS[:1], *new], False),
        (new, False),
        ([*ROOT_KEYS, new[0]], False),
        ([STRANGER, *new], False),
    ):
        trust = Trust(root().digest)
        roots = [root(), next_root(root(), keepers, **change)]
        if ok:
            found = trust.accept_roots(roots, NOW)
            assert found is not None
            assert found.version == 2
        else:
            assert refused(partial(trust.accept_roots, roots, NOW)) == "threshold"


def test_a_root_never_goes_back_nor_changes() -> None:
    second = next_root(root(), ROOT_KEYS[:2], expires_ms=NOW + 2 * YEAR)
    fork = next_root(root(), ROOT_KEYS[:2], expires_ms=NOW + 3 * YEAR)
    trust = Trust(root().digest)
    trust.accept_roots([root(), second], NOW)
    assert refused(lambda: trust.accept_roots([root()], NOW)) == "rollback"
    assert refused(lambda: trust.accept_roots([], NOW)) == "rollback"
    assert refused(lambda: trust.accept_roots([root(), fork], NOW)) == "equivocation"
    assert refused(lambda: trust.accept_roots([second], NOW)) == "history"
    assert refused(lambda: trust.accept_roots([root(), second, second], NOW)) == "history"
    assert {item.reason for item in trust.evidence} == {"rollback", "equivocation", "history"}
    assert next(item for item in trust.evidence if item.reason == "equivocation").lines == (fork.line,)


def test_an_expired_root_is_no_root_but_an_expired_one_before_it_may_be() -> None:
    old = root(expires_ms=NOW - 1)
    assert refused(lambda: Trust(old.digest).accept_roots([old], NOW)) == "expired"
    renewed = next_root(old, ROOT_KEYS[:2], expires_ms=NOW + 1)
    assert Trust(old.digest).accept_roots([old, renewed], NOW) is not None


def test_a_key_the_root_revoked_is_nobody_s() -> None:
    second = next_root(root(), ROOT_KEYS[:2], revoke_keys=[VENDOR_KEY.public, ROOT_KEYS[2].public])
    trust = Trust(root().digest)
    trust.accept_roots([root(), second], NOW)
    assert refused(lambda: trust.accept_keys("acme.com", [keys()], NOW)) == "threshold"
    with pytest.raises(UsageError, match="revoked_keys"):
        next_root(second, ROOT_KEYS[:2], keys=[item.public for item in ROOT_KEYS])
    payload = {name: value for name, value in second.payload.items() if name != "revoked_keys"}
    payload |= {"version": 3, "previous": second.digest.hex(), "keys": sorted(item.public.hex() for item in ROOT_KEYS)}
    assert refused(lambda: trust.accept_roots([root(), second, make(payload, ROOT_KEYS[:2])], NOW)) == "threshold"


# --- keys of a vendor ----------------------------------------------------------------------------------------------


def test_keys_are_founded_by_whom_the_root_names() -> None:
    trust = trusting()
    assert refused(lambda: trust.accept_keys("acme.com", [found_keys("acme.com", [STRANGER])], NOW)) == "threshold"
    assert refused(lambda: trust.accept_keys("evil.org", [found_keys("evil.org", [VENDOR_KEY])], NOW)) == "threshold"
    assert refused(lambda: trust.accept_keys("acme.com", [found_keys("", [VENDOR_KEY])], NOW)) == "history"
    assert trust.accept_keys("", [found_keys("", [VENDOR_KEY])], NOW).keys.vendor == "_"


def test_keys_of_a_proven_domain() -> None:
    trust = Trust()
    assert trust.accept_roots([], NOW) is None
    trust.accept_domain("acme.com", [VENDOR_KEY.public, key(99).public], NOW + 1)
    trust.accept_keys("acme.com", [keys()], NOW)
    assert trust.accept_history(NAME, LINES, NOW).sequence == 3
    assert refused(lambda: trust.accept_keys("acme.com", [keys()], NOW + 1)) == "threshold"


def test_rotation_is_signed_by_the_set_before() -> None:
    new = key(11)
    change: dict[str, Any] = {"keys": [new.public]}
    trust = trusting()
    assert (
        refused(lambda: trust.accept_keys("acme.com", [keys(), next_keys(keys(), [new], **change)], NOW)) == "threshold"
    )
    trust = trusting()
    rotated = [keys(), next_keys(keys(), [VENDOR_KEY], **change)]
    assert trust.accept_keys("acme.com", rotated, NOW).keys.version == 2
    # Lines by the key that went do not count; signed anew they are the same lines.
    assert refused(lambda: trust.accept_history(NAME, LINES, NOW)) == "threshold"
    again = resign(LINES, [new])
    assert [item.digest for item in again] == [item.digest for item in LINES]
    assert trust.accept_history(NAME, again, NOW).sequence == 3
    assert refused(lambda: trust.accept_keys("acme.com", [keys()], NOW)) == "rollback"
    fork = next_keys(keys(), [VENDOR_KEY], threshold=1, keys=[key(12).public])
    assert refused(lambda: trust.accept_keys("acme.com", [keys(), fork], NOW)) == "equivocation"


def test_a_threshold_of_keys() -> None:
    three = [key(30), key(31), key(32)]
    first = found_keys("acme.com", [VENDOR_KEY, *three[:1]], keys=[item.public for item in three], threshold=3)
    rotated = [first, next_keys(first, three, threshold=1)]
    assert trusting(vendor=first).accept_keys("acme.com", rotated, NOW).keys.threshold == 1
    for keepers in (three[:2], [*three[:2], STRANGER]):
        too_few = [first, next_keys(first, keepers, threshold=1)]
        assert refused(partial(trusting(vendor=first).accept_keys, "acme.com", too_few, NOW)) == "threshold"


def test_founders_may_found_anew_unless_they_are_revoked() -> None:
    new = key(11)
    second = next_keys(keys(), [VENDOR_KEY], keys=[new.public])
    third = next_keys(second, [VENDOR_KEY], keys=[VENDOR_KEY.public])
    assert trusting().accept_keys("acme.com", [keys(), second, third], NOW).keys.version == 3
    revoking = next_keys(keys(), [VENDOR_KEY], keys=[new.public], revoke_keys=[VENDOR_KEY.public])
    stolen = sign(
        NamespaceKeys("acme.com", 3, (STRANGER.public.hex(),), 1, previous=revoking.digest.hex()), [VENDOR_KEY]
    )
    assert refused(lambda: trusting().accept_keys("acme.com", [keys(), revoking, stolen], NOW)) == "threshold"


def test_a_publisher_signs_for_his_namespaces_until_his_time() -> None:
    said = keys(publishers=[Publisher(CI.public.hex(), ("im*",), NOW + 10)])
    trust = trusting(vendor=said)
    lines = history({"version": "1.0.0"}, keys=[CI])
    assert trust.accept_history(NAME, lines, NOW + 9).sequence == 1
    assert refused(lambda: trust.accept_history(NAME, lines, NOW + 10)) == "threshold"
    elsewhere = FunctionName("acme.com", "sound", "x")
    other = history({"version": "1.0.0"}, keys=[CI], name=elsewhere)
    assert refused(lambda: trust.accept_history(elsewhere, other, NOW)) == "threshold"
    rotation = next_keys(said, [CI], keys=[CI.public], publishers=[])
    assert refused(lambda: trust.accept_keys("acme.com", [said, rotation], NOW)) == "threshold"


def test_records_that_need_two() -> None:
    said = keys(publishers=[Publisher(CI.public.hex())], record_threshold=2)
    trust = trusting(vendor=said)
    assert refused(lambda: trust.accept_history(NAME, LINES, NOW)) == "threshold"
    one = history({"version": "1.0.0"}, keys=[VENDOR_KEY, STRANGER])
    assert refused(lambda: trust.accept_history(NAME, one, NOW)) == "threshold"
    assert trust.accept_history(NAME, history({"version": "1.0.0"}, keys=[VENDOR_KEY, CI]), NOW).sequence == 1


def test_revoked_keys_and_records() -> None:
    said = keys(publishers=[Publisher(CI.public.hex())])
    good, bad = history({"version": "1.0.0"}, {"version": "1.1.0"}, keys=[CI])
    trust = trusting(vendor=said)
    trust.accept_history(NAME, [good, bad], NOW)
    after = next_keys(said, [VENDOR_KEY], revoke_keys=[CI.public], revoke_records=[bad.digest])
    standing = trust.accept_keys("acme.com", [said, after], NOW)
    assert standing.keys.publishers == ()
    assert refused(lambda: trust.accept_history(NAME, [good, bad], NOW)) == "threshold"
    record = trust.accept_history(NAME, [*resign([good], [VENDOR_KEY]), bad], NOW)
    assert [str(version) for version in record.versions] == ["1.0.0"]
    assert record.revoked == {bad.digest}
    # Revoked once is revoked for ever, whatever a later version leaves out.
    later = sign(NamespaceKeys("acme.com", 3, (VENDOR_KEY.public.hex(),), 1, previous=after.digest.hex()), [VENDOR_KEY])
    assert trust.accept_keys("acme.com", [said, after, later], NOW).revoked_records == {bad.digest}


def test_expired_keys_are_none() -> None:
    said = keys(expires_ms=NOW + 1)
    trust = trusting(vendor=said)
    assert refused(lambda: trust.accept_keys("acme.com", [said], NOW + 1)) == "expired"
    assert refused(lambda: trust.accept_history(NAME, LINES, NOW + 1)) == "threshold"


@pytest.mark.parametrize(
    "change",
    [
        {"threshold": 3},
        {"keys": ["00" * 32, "00" * 32]},
        {"keys": ["11" * 32, "00" * 32]},
        {"keys": []},
        {"revoked_keys": [VENDOR_KEY.public.hex()]},
        {"publishers": [{"key": VENDOR_KEY.public.hex()}]},
        {"publishers": [{"key": "00" * 32, "namespaces": ["a", "a"]}]},
        {"publishers": [{"key": "00" * 32, "namespaces": ["a b"]}]},
        {"vendor": "acme"},
        {"vendor": "ACME.com"},
        {"version": 2},
    ],
)
def test_wrong_keys_are_refused(change: dict[str, Any]) -> None:
    with pytest.raises(UsageError):
        NamespaceKeys.from_payload({**keys().payload, **change})


# --- names ---------------------------------------------------------------------------------------------------------


def test_nobody_else_s_lines_are_believed() -> None:
    trust = trusting()
    for number in range(len(LINES)):
        forged = [*LINES]
        forged[number] = resign([LINES[number]], [STRANGER])[0]
        assert refused(partial(trust.accept_history, NAME, forged, NOW)) == "threshold"
    assert trust.head_of(str(NAME)) is None
    other = FunctionName("other.org", "a", "b")
    assert refused(lambda: trust.accept_history(other, history({"version": "1.0.0"}, name=other), NOW)) == "threshold"


@settings(max_examples=40)
@given(st.sets(st.integers(0, 6), max_size=5), st.integers(1, 3))
def test_a_record_is_believed_exactly_if_enough_of_the_right_keys_signed(signers: set[int], needed: int) -> None:
    ring = [key(40 + number) for number in range(7)]
    ring[0] = VENDOR_KEY
    publishers = [Publisher(ring[1].public.hex()), Publisher(ring[2].public.hex(), ("image",))]
    publishers += [Publisher(ring[3].public.hex(), ("sound",)), Publisher(ring[4].public.hex(), ("*",), NOW)]
    trust = trusting(vendor=keys(publishers=publishers, record_threshold=needed))
    if not signers:
        return
    lines = history({"version": "1.0.0"}, keys=[ring[number] for number in signers])
    if len(signers & {0, 1, 2}) >= needed:
        assert trust.accept_history(NAME, lines, NOW).sequence == 1
    else:
        assert refused(lambda: trust.accept_history(NAME, lines, NOW)) == "threshold"


def test_a_name_never_goes_back_nor_changes() -> None:
    trust = trusting()
    trust.accept_history(NAME, LINES, NOW)
    assert refused(lambda: trust.accept_history(NAME, LINES[:2], NOW)) == "rollback"
    assert refused(lambda: trust.accept_history(NAME, [], NOW)) == "rollback"
    fork = history(
        {"version": "1.0.0"}, {"version": "1.1.0"}, {"version": "1.0.0", "deprecated": "other"}, {"version": "2.0.0"}
    )
    known = [item.line for item in LINES]
    assert refused(lambda: trust.accept_history(NAME, fork, NOW, known)) == "equivocation"
    kept = trust.evidence[-1]
    assert (kept.reason, kept.known, kept.lines) == ("equivocation", LINES[-1].digest, (LINES[-1].line, fork[2].line))
    assert (
        trust.accept_history(
            NAME, [*LINES, *history(*[{"version": f"{n}.0.0"} for n in range(1, 5)])[3:]][:3], NOW
        ).sequence
        == 3
    )


# --- checkpoints ---------------------------------------------------------------------------------------------------


def head(
    sequence: int, *, root_hash: str = "aa" * 32, signer: KeyPair = VENDOR_KEY, registry: str = REGISTRY
) -> Statement:
    return sign(Checkpoint(registry, sequence, root_hash, 3, NOW, NOW + YEAR), [signer])


def test_checkpoints_go_forward() -> None:
    trust = trusting()
    assert trust.accept_checkpoint(head(5), NOW).sequence == 5
    assert trust.accept_checkpoint(head(5), NOW).sequence == 5
    assert trust.accept_checkpoint(head(9), NOW).sequence == 9
    assert trust.checkpoint_sequence == 9
    assert refused(lambda: trust.accept_checkpoint(head(8), NOW)) == "rollback"
    assert refused(lambda: trust.accept_checkpoint(head(9, root_hash="bb" * 32), NOW)) == "equivocation"
    assert refused(lambda: trust.accept_checkpoint(head(10, signer=STRANGER), NOW)) == "threshold"
    assert refused(lambda: trust.accept_checkpoint(head(10, registry="ab" * 16), NOW)) == "checkpoint"
    assert trust.checkpoint_sequence == 9


def test_no_key_uses_up_the_numbers_of_checkpoints() -> None:
    trust = trusting()
    assert refused(lambda: trust.accept_checkpoint(head((1 << 53) - 1), NOW)) == "checkpoint"
    trust.accept_checkpoint(head(MAX_STEP), NOW)
    assert refused(lambda: trust.accept_checkpoint(head(2 * MAX_STEP + 1), NOW)) == "checkpoint"
    assert trust.accept_checkpoint(head(2 * MAX_STEP), NOW).sequence == 2 * MAX_STEP
    assert trust.evidence[-1].subject == "checkpoint"


def test_no_key_switches_staleness_off() -> None:
    assert Checkpoint(REGISTRY, 1, "aa" * 32, 3, NOW, NOW + 100 * YEAR).stale_ms == NOW + MAX_LIFE_MS
    assert Checkpoint(REGISTRY, 1, "aa" * 32, 3, NOW, NOW + 1).stale_ms == NOW + 1
    trust = trusting()
    assert refused(lambda: trust.accept_checkpoint(head(5), NOW - MAX_AHEAD_MS - 1)) == "checkpoint"
    assert (trust.evidence, trust.checkpoint_sequence) == ((), 0)
    assert trust.accept_checkpoint(head(5), NOW - MAX_AHEAD_MS).sequence == 5


def test_who_may_sign_checkpoints() -> None:
    trust = trusting(vendor=keys(publishers=[Publisher(CI.public.hex(), ("image",), NOW + 1)]))
    for signer in (*ROOT_KEYS, VENDOR_KEY, CI):
        trust.accept_checkpoint(head(1, signer=signer), NOW)
    assert refused(lambda: trust.accept_checkpoint(head(2, signer=CI), NOW + 1)) == "threshold"
    second = next_root(root(), ROOT_KEYS[:2], checkpoint_keys=[key(50).public], revoke_keys=[ROOT_KEYS[2].public])
    trust.accept_roots([root(), second], NOW)
    trust.accept_checkpoint(head(3, signer=key(50)), NOW)
    assert refused(lambda: trust.accept_checkpoint(head(4, signer=ROOT_KEYS[2]), NOW)) == "threshold"


# --- keeping -------------------------------------------------------------------------------------------------------


def test_what_was_seen_survives() -> None:
    trust = trusting()
    trust.accept_domain("proven.org", [CI.public], NOW + 5)
    trust.accept_history(NAME, LINES, NOW)
    trust.accept_checkpoint(head(5), NOW)
    refused(lambda: trust.accept_history(NAME, LINES[:1], NOW))
    again = Trust.from_wire(trust.to_wire())
    assert again.to_wire() == trust.to_wire()
    assert (again.pin, again.registry, again.evidence) == (trust.pin, REGISTRY, trust.evidence)
    assert refused(lambda: again.accept_roots([], NOW)) == "rollback"
    again.accept_roots([root()], NOW)
    again.accept_keys("acme.com", [keys()], NOW)
    again.accept_keys("proven.org", [found_keys("proven.org", [CI])], NOW)
    assert refused(lambda: again.accept_history(NAME, LINES[:2], NOW)) == "rollback"
    assert refused(lambda: again.accept_checkpoint(head(4), NOW)) == "rollback"
    with pytest.raises(Conflict):
        again.accept_config(Config("ee" * 16))


def test_damaged_memory_is_refused() -> None:
    trust = trusting()
    trust.accept_history(NAME, LINES, NOW)
    wire = trust.to_wire()
    for cut in range(len(wire)):
        with pytest.raises(RemoteProtocolError):
            Trust.from_wire(wire[:cut])


def test_evidence_is_bounded_and_each_once() -> None:
    trust = trusting()
    for number in range(MAX_EVIDENCE + 10):
        trust.keep("history", f"a/n{number}", "x", NOW)
        trust.keep("history", "a/same", "x", NOW + number)
    assert len(trust.evidence) == MAX_EVIDENCE
    assert [item.time_ms for item in trust.evidence if item.subject == "a/same"] == [NOW + MAX_EVIDENCE + 9]


# --- patterns, key files -------------------------------------------------------------------------------------------


@settings(max_examples=200)
@given(st.text("ab*", max_size=8), st.text("ab", max_size=10))
def test_patterns_fit_as_a_slow_definition_says(pattern: str, text: str) -> None:
    def slow(pattern: str, text: str) -> bool:
        if not pattern:
            return not text
        if pattern[0] == "*":
            return any(slow(pattern[1:], text[start:]) for start in range(len(text) + 1))
        return text[:1] == pattern[0] and slow(pattern[1:], text[1:])

    assert fits(pattern, text) == slow(pattern, text)


def test_key_files(tmp_path: Path) -> None:
    folder = KeyFolder(tmp_path / "keys")
    assert folder.names() == []
    made = folder.create("ci")
    assert folder.get("ci").public == made.public
    assert text_of_key((tmp_path / "keys" / "ci.key").read_text()).public == made.public
    assert ((tmp_path / "keys" / "ci.key").stat().st_mode & 0o777, (tmp_path / "keys").stat().st_mode & 0o777) == (
        0o600,
        0o700,
    )
    assert folder.names() == ["ci"]
    with pytest.raises(Conflict):
        folder.create("ci")
    with pytest.raises(NotFound, match="ci"):
        folder.get("other")
    for name in ("", "../x", "a/b", ".x", "x" * 65):
        with pytest.raises(UsageError):
            folder.get(name)
    (tmp_path / "keys" / "ci.key").chmod(0o644)
    with pytest.raises(Conflict, match="chmod 600"):
        folder.get("ci")


@pytest.mark.parametrize("text", ["", "ab", "zz" * 32, "ab" * 33])
def test_a_key_that_is_none_is_not_repeated(text: str) -> None:
    with pytest.raises(UsageError) as caught:
        text_of_key(text)
    assert not text or text not in str(caught.value)


def test_show() -> None:
    shown = show(root())
    assert (shown["type"], shown["statement"], shown["threshold"]) == ("root", root().digest.hex(), 2)
    assert shown["signed_by"] == sorted(item.public.hex() for item in ROOT_KEYS[:2])
    assert show(keys())["vendor"] == "acme.com"
    assert show(LINES[0])["version"] == "1.0.0"
    assert delegation(CI).payload() == {"keys": [CI.public.hex()]}
