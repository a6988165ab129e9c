"""One registry: what it believes, what it refuses, what it writes."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from hashlib import sha256
from pathlib import Path

import msgspec
import pytest

from osiris_mesh.clock import FakeClock
from osiris_mesh.errors import CheckFailed, Conflict, NotFound, OsirisError, Unavailable, UsageError
from osiris_mesh.function.name import FunctionName, Version
from osiris_mesh.registry.checkpoint import MAX_LIFE_MS, Checkpoint, Config, root_of
from osiris_mesh.registry.keyring import found_keys, next_keys, next_root, resign
from osiris_mesh.registry.keys import Publisher
from osiris_mesh.registry.layout import CHECKPOINT, CONFIG, ROOT, keys_path, path_of
from osiris_mesh.registry.record import Amendment, sign
from osiris_mesh.registry.registry import CHECKPOINT_TTL_MS, Registry
from osiris_mesh.registry.statement import read
from osiris_mesh.registry.tree import Reader
from osiris_mesh.registry.tree_folder import FolderTree
from osiris_mesh.registry.trust import Trust
from tests.registry.core.kit import (
    NAME,
    NOW,
    REGISTRY,
    ROOT_KEYS,
    STRANGER,
    VENDOR_KEY,
    YEAR,
    MemoryTree,
    binding,
    history,
    key,
    provider,
    reader_of,
    registry,
    root,
)

ADD = FunctionName("", "default", "add")
PATH = path_of(NAME)


async def reason(awaited: object) -> str:
    """Return the reason something awaited is refused for."""
    with pytest.raises(CheckFailed) as caught:
        await awaited  # type: ignore[misc]
    return str(caught.value.details["reason"])


def amendment(version: str = "", name: FunctionName = NAME, **more: object) -> Amendment:
    return Amendment(str(name), 1, "", version, **more)  # type: ignore[arg-type]


# --- reading and writing -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["folder", "memory"])
async def test_what_is_published_is_found_by_somebody_else(tmp_path: Path, kind: str) -> None:
    tree = FolderTree("mine", tmp_path / "r") if kind == "folder" else MemoryTree()
    mine = await registry(tree)
    done = await mine.publish([binding(), binding("1.1.0"), binding(name=ADD)], [VENDOR_KEY])
    assert done.changed
    assert len(done.statements) == 3
    await mine.publish([amendment("1.0.0", deprecated="old"), amendment(aliases={"stable": "1.1.0"})], [VENDOR_KEY])
    other = reader_of(tree)
    found = await other.lookup(str(NAME))
    assert found.attested
    assert not found.stale
    assert [str(version) for version in found.record.versions] == ["1.0.0", "1.1.0"]
    assert found.record.versions[Version(1, 0, 0)].deprecated == "old"
    assert found.record.aliases == {"stable": Version(1, 1, 0)}
    assert found.record.sequence == 4
    assert (await mine.lookup(NAME)).record == found.record
    assert (await other.lookup("add")).record.name == "default/add"
    assert [line.kind for line in await other.history(NAME)] == ["binding", "binding", "amendment", "amendment"]
    assert read(found.record.versions[Version(1, 1, 0)].line).digest == done.statements[1].digest
    with pytest.raises(NotFound):
        await other.lookup("acme.com/image/blur")
    with pytest.raises(NotFound):
        await other.lookup("nobody.org/a/b")
    with pytest.raises(UsageError):
        await other.lookup("a b")
    await other.close()


async def test_the_same_again_is_no_publication() -> None:
    mine = await registry()
    first = binding(providers=(provider(),))
    await mine.publish([first], [VENDOR_KEY])
    files = dict(mine.tree.files)  # type: ignore[attr-defined]
    again = await mine.publish([first], [VENDOR_KEY])
    assert (again.changed, again.statements) == (False, ())
    assert mine.tree.files == files  # type: ignore[attr-defined]
    said = amendment("1.0.0", deprecated="x", providers=(), aliases={"a": "1.0.0"})
    assert (await mine.publish([said], [VENDOR_KEY])).changed
    assert not (await mine.publish([said], [VENDOR_KEY])).changed
    with pytest.raises(Conflict, match="bound already"):
        await mine.publish([binding(digest="cd" * 32)], [VENDOR_KEY])
    for wrong in (amendment("9.0.0", deprecated="x"), amendment(aliases={"a": "9.0.0"})):
        with pytest.raises(UsageError, match=r"has no version 9\.0\.0"):
            await mine.publish([wrong], [VENDOR_KEY])


async def test_statements_signed_elsewhere() -> None:
    mine = await registry(checkpoint_key=VENDOR_KEY)
    lines = history({"version": "1.0.0"}, {"version": "1.0.0", "deprecated": "old"}, {"version": "2.0.0"})
    assert (await mine.register(lines[0])).changed
    assert not (await mine.register(lines[0])).changed
    with pytest.raises(Conflict) as caught:
        await mine.register(lines[2])
    assert caught.value.details == {"sequence": 2, "previous": lines[0].digest.hex()}
    with pytest.raises(UsageError, match="not a binding"):
        await mine.register(lines[1])
    assert (await mine.update(lines[1])).changed
    assert (await mine.register(lines[2])).changed
    assert (await mine.history(NAME)) == lines
    stranger = history({"version": "1.0.0"}, keys=[STRANGER], name=ADD)
    assert await reason(mine.register(stranger[0])) == "threshold"
    with pytest.raises(UsageError, match="sign the checkpoint"):
        await reader_of(mine.tree).register(lines[0])


async def test_nobody_else_writes() -> None:
    mine = await registry()
    before = dict(mine.tree.files)  # type: ignore[attr-defined]
    assert await reason(mine.publish([binding()], [STRANGER])) == "threshold"
    assert await reason(mine.publish([binding(name=FunctionName("evil.org", "a", "b"))], [STRANGER])) == "threshold"
    assert await reason(mine.renew([STRANGER])) == "threshold"
    assert mine.tree.files == before  # type: ignore[attr-defined]
    assert (
        await reason(
            Registry(MemoryTree(), Trust(), FakeClock(epoch_ms=NOW)).create(Config(REGISTRY), [STRANGER], root=root())
        )
        == "threshold"
    )


async def test_no_key_signs_the_checkpoint_of_its_own_end() -> None:
    tree = await filled()
    mine = reader_of(tree)
    before = dict(tree.files)
    rotated = next_keys(found_keys("acme.com", [VENDOR_KEY]), [VENDOR_KEY], keys=[key(11).public])
    vendorless = next_keys(found_keys("", [VENDOR_KEY]), [VENDOR_KEY], keys=[key(11).public])
    await mine.publish_keys(vendorless, [key(11), VENDOR_KEY], renew=True)
    middle = dict(tree.files)
    assert middle != before
    # The last set that names the old key goes: the new one has to sign.
    assert await reason(mine.publish_keys(rotated, [VENDOR_KEY], renew=True)) == "threshold"
    third = next_root(root(), [*ROOT_KEYS[:2], key(4)], keys=[key(4).public, ROOT_KEYS[1].public], threshold=2)
    assert await reason(mine.publish_root(third, [ROOT_KEYS[0]])) == "threshold"
    assert tree.files == middle
    await mine.publish_root(third, [ROOT_KEYS[1]])
    await mine.publish_keys(rotated, [key(11)], renew=True)
    assert (await reader_of(tree).lookup(NAME)).attested
    assert (await reader_of(tree).lookup(ADD)).attested


async def test_a_lost_race_is_made_anew() -> None:
    tree = MemoryTree()
    mine, theirs = await registry(tree), reader_of(MemoryTree())
    theirs.tree.files = dict(tree.files)  # type: ignore[attr-defined]
    await theirs.publish([binding("1.0.0")], [VENDOR_KEY])
    tree.faster.append(theirs.tree.files)  # type: ignore[attr-defined]
    done = await mine.publish([binding("2.0.0")], [VENDOR_KEY])
    assert done.statements[0].payload["sequence"] == 2
    assert len((await reader_of(tree).lookup(NAME)).record.versions) == 2


async def test_many_publishers_of_one_folder_lose_nothing(tmp_path: Path) -> None:
    await registry(FolderTree("mine", tmp_path))

    async def add(number: int) -> None:
        one = reader_of(FolderTree("mine", tmp_path))
        await one.publish([binding(f"{number}.0.0"), binding(name=FunctionName("", "n", f"f{number}"))], [VENDOR_KEY])

    await asyncio.gather(*map(add, range(20)))
    other = reader_of(FolderTree("mine", tmp_path))
    assert len((await other.lookup(NAME)).record.versions) == 20
    assert len(await other.list("n/*")) == 20


async def test_a_registry_is_begun_once() -> None:
    mine = await registry()
    with pytest.raises(Conflict, match="already"):
        await mine.create(Config("ab" * 16), [VENDOR_KEY], root=root())
    with pytest.raises(Unavailable, match="no registry"):
        await reader_of(MemoryTree()).lookup(NAME)
    stranger = Registry(MemoryTree(), Trust(root().digest), FakeClock(epoch_ms=NOW))
    wrong = [found_keys("acme.com", [STRANGER])]
    assert await reason(stranger.create(Config(REGISTRY), [STRANGER], root=root(), vendor_keys=wrong)) == "threshold"
    assert stranger.tree.files == {}  # type: ignore[attr-defined]


async def test_a_registry_without_a_root_believes_proven_domains() -> None:
    trust = Trust()
    trust.accept_domain("acme.com", [VENDOR_KEY.public], NOW + YEAR)
    tree = MemoryTree()
    mine = Registry(tree, trust, FakeClock(epoch_ms=NOW))
    await mine.create(Config(REGISTRY), [VENDOR_KEY], vendor_keys=[found_keys("acme.com", [VENDOR_KEY])])
    await mine.publish([binding()], [VENDOR_KEY])
    other = Trust()
    other.accept_domain("acme.com", [VENDOR_KEY.public], NOW + YEAR)
    assert (await Registry(tree, other, FakeClock(epoch_ms=NOW)).lookup(NAME)).attested
    assert await reason(Registry(tree, Trust(), FakeClock(epoch_ms=NOW)).lookup(NAME)) == "threshold"


# --- refusing ------------------------------------------------------------------------------------------------------


async def filled() -> MemoryTree:
    mine = await registry()
    await mine.publish([binding(), binding("1.1.0"), binding(name=ADD)], [VENDOR_KEY])
    assert isinstance(mine.tree, MemoryTree)
    return mine.tree


async def test_any_flipped_byte_anywhere_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    # What is damaged stays so: nothing is waited for between two looks.
    monkeypatch.setattr("osiris_mesh.registry.believed_tree._PAUSE_S", 0.0)
    tree = await filled()
    whole = dict(tree.files)
    for path, data in whole.items():
        for place in range(0, len(data), max(1, len(data) // 25)):
            bad = bytearray(data)
            bad[place] ^= 1 << (place % 8)
            tree.files = {**whole, path: bytes(bad)}
            with pytest.raises(OsirisError) as caught:
                await reader_of(tree, mirror=True).lookup(NAME)
            assert not isinstance(caught.value, NotFound)
            if path in {PATH, ROOT, CHECKPOINT, keys_path("acme.com")}:
                with pytest.raises(OsirisError):
                    await reader_of(tree, mirror=False).lookup(NAME)


async def test_cut_reordered_doubled_missing_added_files_are_refused_by_who_never_saw_better() -> None:
    tree = await filled()
    whole = dict(tree.files)
    lines = whole[PATH].splitlines(keepends=True)
    other = history({"version": "1.0.0"}, name=FunctionName("", "default", "more"))
    for change in (
        {PATH: lines[0]},
        {PATH: lines[1] + lines[0]},
        {PATH: lines[0] + lines[0] + lines[1]},
        {PATH: whole[PATH] + lines[1]},
        {PATH: b""},
        {PATH: None},
        {path_of(ADD): None},
        {path_of(FunctionName("", "default", "more")): other[0].line + b"\n"},
        {CHECKPOINT: None},
        {keys_path("acme.com"): None},
        {ROOT: None},
    ):
        tree.files = {path: data for path, data in {**whole, **change}.items() if data is not None}
        for _ in range(2):
            with pytest.raises(CheckFailed):
                await reader_of(tree).lookup(NAME)


async def test_an_older_tree_is_refused_by_who_saw_a_newer_one_and_the_newer_one_served_on() -> None:
    tree = await filled()
    old = dict(tree.files)
    publisher, reading, lean = reader_of(tree), reader_of(tree), reader_of(tree, mirror=False)
    await publisher.publish([binding("2.0.0"), binding("2.0.0", name=ADD)], [VENDOR_KEY])
    new = dict(tree.files)
    assert len((await reading.lookup(NAME)).record.versions) == 3
    assert len((await lean.lookup(NAME)).record.versions) == 3
    tree.files = old
    assert await reason(reading.sync()) == "rollback"
    assert await reason(reading.lookup(NAME)) == "rollback"
    assert await reason(lean.lookup(NAME)) == "rollback"
    assert {item.reason for item in reading.trust.evidence} == {"rollback"}
    # One file alone rolled back: that name is refused, others are not.
    tree.files = {**new, PATH: old[PATH]}
    again = reader_of(tree)
    again.trust = Trust.from_wire(reading.trust.to_wire())
    assert await reason(again.lookup(NAME)) == "checkpoint"
    assert await reason(lean.lookup(NAME)) == "rollback"
    tree.files = new
    assert len((await reading.lookup(NAME)).record.versions) == 3


async def test_one_bad_file_leaves_the_others_as_they_were() -> None:
    tree = await filled()
    reading = reader_of(tree)
    await reading.lookup(NAME)
    tree.files[path_of(ADD)] = tree.files[path_of(ADD)].replace(b"ab", b"ac")
    assert await reason(reading.lookup(ADD)) == "checkpoint"
    assert (await reading.lookup(NAME)).attested
    assert await reason(reading.lookup(ADD)) == "checkpoint"


async def test_memory_survives_a_restart() -> None:
    tree = await filled()
    old = dict(tree.files)
    publisher, reading = reader_of(tree), reader_of(tree)
    await publisher.publish([binding("2.0.0")], [VENDOR_KEY])
    await reading.sync()
    kept, files = reading.trust.to_wire(), reading.to_wire()
    restarted = Registry(tree, Trust.from_wire(kept), FakeClock(epoch_ms=NOW))
    restarted.restore(files)
    assert [item.name for item in await restarted.list()] == [str(NAME), str(ADD)]
    assert (await restarted.lookup(NAME)).attested
    tree.files = old
    assert await reason(Registry(tree, Trust.from_wire(kept), FakeClock(epoch_ms=NOW)).lookup(NAME)) == "rollback"
    for cut in range(0, len(files), 7):
        with pytest.raises(OsirisError):
            reading.restore(files[:cut])


async def test_two_histories_of_one_name() -> None:
    tree = await filled()
    reading, lean = reader_of(tree), reader_of(tree, mirror=False)
    await reading.lookup(NAME)
    await lean.lookup(NAME)
    fork = history({"version": "1.0.0"}, {"version": "1.1.0", "digest": "cd" * 32})
    tree.files[PATH] = b"".join(line.line + b"\n" for line in fork)
    assert await reason(lean.lookup(NAME)) == "equivocation"
    kept = lean.trust.evidence[-1]
    assert kept.lines[-1] == fork[1].line
    assert read(kept.lines[0]).payload["digest"] == "ab" * 32
    assert await reason(reading.lookup(NAME)) == "checkpoint"


async def test_two_trees_of_one_checkpoint() -> None:
    tree = await filled()
    reading, fork = reader_of(tree), MemoryTree(files=tree.files)
    await reader_of(fork).publish([binding("3.0.0")], [VENDOR_KEY])
    await reader_of(tree).publish([binding("2.0.0")], [VENDOR_KEY])
    await reading.lookup(NAME)
    tree.files = fork.files
    assert await reason(reading.sync()) == "equivocation"


async def test_a_frozen_tree_is_stale_and_says_so() -> None:
    tree, clock = await filled(), FakeClock(epoch_ms=NOW)
    reading = reader_of(tree, clock=clock)
    assert not (await reading.lookup(NAME)).stale
    clock.advance(CHECKPOINT_TTL_MS / 1000)
    found = await reading.lookup(NAME)
    assert found.stale
    assert found.age_ms == CHECKPOINT_TTL_MS
    assert (await reading.sync()).stale
    await reader_of(tree, clock=clock).renew([VENDOR_KEY])
    assert not (await reading.sync()).stale
    found = await reading.lookup(NAME)
    assert (found.stale, found.age_ms) == (False, 0)


async def test_a_head_that_never_ends_freezes_nobody() -> None:
    tree, clock = await filled(), FakeClock(epoch_ms=NOW)
    said = Checkpoint.from_payload(read(tree.files[CHECKPOINT].strip()).payload)
    tree.files[CHECKPOINT] = sign(msgspec.structs.replace(said, expires_ms=NOW + 100 * YEAR), [VENDOR_KEY]).line + b"\n"
    reading = reader_of(tree, clock=clock)
    assert not (await reading.lookup(NAME)).stale
    assert reading.expires_ms == NOW + MAX_LIFE_MS
    clock.advance(MAX_LIFE_MS / 1000)
    assert (await reading.lookup(NAME)).stale


async def test_an_expired_root_ends_belief() -> None:
    tree, clock = await filled(), FakeClock(epoch_ms=NOW)
    reading = reader_of(tree, clock=clock)
    await reading.lookup(NAME)
    clock.advance(YEAR / 1000)
    assert await reason(reading.lookup(NAME)) == "expired"
    assert await reason(reader_of(tree, clock=clock).lookup(NAME)) == "expired"


async def test_nobody_signs_over_a_bent_tree() -> None:
    tree = await filled()
    tree.files[path_of(ADD)] = b""
    assert await reason(reader_of(tree).publish([binding("9.0.0")], [VENDOR_KEY])) == "checkpoint"
    assert await reason(reader_of(tree).renew([VENDOR_KEY])) == "checkpoint"


async def test_a_strange_checkpoint_is_refused() -> None:
    tree = await filled()
    head = read(tree.files[CHECKPOINT].strip())
    for fields, signer, why in (
        ({}, STRANGER, "threshold"),
        ({"registry": "ab" * 16}, VENDOR_KEY, "checkpoint"),
        ({"root": "ab" * 32}, VENDOR_KEY, "checkpoint"),
        ({"files": 3}, VENDOR_KEY, "checkpoint"),
    ):
        forged = sign(Checkpoint.from_payload({**head.payload, **fields}), [signer])
        bent = MemoryTree(files={**tree.files, CHECKPOINT: forged.line + b"\n"})
        assert await reason(reader_of(bent).lookup(NAME)) == why


# --- keys ----------------------------------------------------------------------------------------------------------


async def test_rotation_renews_lines_and_keeps_history() -> None:
    tree = await filled()
    mine, reading = reader_of(tree), reader_of(tree)
    before = (await reading.lookup(NAME)).record
    new = key(11)
    rotated = next_keys(found_keys("acme.com", [VENDOR_KEY]), [VENDOR_KEY], keys=[new.public])
    assert await reason(mine.publish_keys(rotated, [VENDOR_KEY])) == "threshold"
    assert (await mine.publish_keys(rotated, [new], renew=True)).changed
    assert not (await mine.publish_keys(rotated, [new], renew=True)).changed
    await reading.sync()
    found = await reading.lookup(NAME)
    assert found.record.digest == before.digest
    assert found.attested
    assert await reason(mine.publish([binding("3.0.0")], [VENDOR_KEY])) == "threshold"
    await mine.publish([binding("3.0.0")], [new])
    assert len((await reading.lookup(NAME)).record.versions) == 3


async def test_a_stolen_publisher_key() -> None:
    ci = key(20)
    tree = await filled()
    mine, reading = reader_of(tree), reader_of(tree)
    first = found_keys("acme.com", [VENDOR_KEY])
    with_ci = next_keys(first, [VENDOR_KEY], publishers=[Publisher(ci.public.hex(), ("image",))])
    await mine.publish_keys(with_ci, [VENDOR_KEY])
    stolen = (await mine.publish([binding("6.6.6")], [ci])).statements[0]
    await mine.publish([binding("2.0.0")], [VENDOR_KEY])
    assert Version(6, 6, 6) in (await reading.lookup(NAME)).record.versions
    after = next_keys(with_ci, [VENDOR_KEY], revoke_keys=[ci.public], revoke_records=[stolen.digest])
    await mine.publish_keys(after, [VENDOR_KEY])
    await reading.sync()
    record = (await reading.lookup(NAME)).record
    assert Version(6, 6, 6) not in record.versions
    assert Version(2, 0, 0) in record.versions
    assert record.revoked == {stolen.digest}
    assert await reason(mine.publish([binding("7.0.0")], [ci])) == "threshold"


async def test_a_root_that_takes_a_delegation_back() -> None:
    tree = await filled()
    mine, reading = reader_of(tree), reader_of(tree)
    assert [item.name for item in await reading.list()] == [str(NAME), str(ADD)]
    second = next_root(root(), ROOT_KEYS[:2], delegate={"acme.com": None})
    await mine.publish_root(second, [ROOT_KEYS[0]])
    assert not (await mine.publish_root(second, [ROOT_KEYS[0]])).changed
    forged = next_root(second, ROOT_KEYS[:1])
    assert await reason(mine.publish_root(forged, [ROOT_KEYS[0]])) == "threshold"
    await reading.sync()
    assert await reason(reading.lookup(NAME)) == "threshold"
    assert [item.name for item in await reading.list()] == [str(ADD)]
    assert (await reading.lookup(ADD)).attested


# --- lists, moving trees -------------------------------------------------------------------------------------------


async def test_lists() -> None:
    tree = await filled()
    mine = reader_of(tree)
    await mine.publish(
        [
            binding("2.0.0-rc.1"),
            amendment("1.1.0", deprecated="old"),
            binding(name=FunctionName("", "n", "x"), description="d" * 500),
        ],
        [VENDOR_KEY],
    )
    listed = await reader_of(tree).list()
    assert [item.name for item in listed] == [str(NAME), "default/add", "n/x"]
    assert (listed[0].version, listed[0].deprecated, listed[0].sequence) == ("1.0.0", False, 4)
    assert len(listed[2].description) == 160
    assert [item.name for item in await mine.list("acme.com/*/sh*")] == [str(NAME)]
    assert [item.name for item in await mine.list("*/*", limit=1)] == ["default/add"]
    assert await mine.list("x/*") == []
    with pytest.raises(Unavailable, match="not mirrored"):
        await reader_of(tree, mirror=False).list()


async def test_sync_says_what_changed_and_reads_only_that(tmp_path: Path) -> None:
    mine = await registry(FolderTree("mine", tmp_path))
    await mine.publish([binding(name=FunctionName("", "n", f"x{number}")) for number in range(30)], [VENDOR_KEY])
    reads: list[str] = []

    class Counted(FolderTree):
        async def read(self, path: str):  # type: ignore[no-untyped-def]
            reads.append(path)
            return await super().read(path)

    reading = reader_of(Counted("mine", tmp_path))
    assert len((await reading.sync()).changed) == 30
    reads.clear()
    assert (await reading.sync()).changed == ()
    assert len(reads) <= 1
    await mine.publish([binding("2.0.0", name=FunctionName("", "n", "x3"))], [VENDOR_KEY])
    reads.clear()
    synced = await reading.sync()
    assert synced.changed == ("n/x3",)
    assert synced.names == 30
    assert synced.refused == {}
    assert len(reads) < 15


async def test_a_name_that_is_not_believed_is_named_and_the_rest_goes_on() -> None:
    tree = await filled()
    bad = resign(history({"version": "1.0.0"}, name=FunctionName("acme.com", "bad", "x")), [STRANGER])
    publisher = reader_of(tree)

    async def smuggle(_reader: Reader) -> Mapping[str, bytes]:
        return {"ns/acme.com/bad/x.jsonl": bad[0].line + b"\n"}

    await tree.publish(smuggle, "x")
    # A careless keeper signs over it.
    entries = {path: data for path, data in tree.files.items() if path != CHECKPOINT}
    digests = {path: sha256(data).digest() for path, data in entries.items()}
    head = sign(Checkpoint(REGISTRY, 50, root_of(digests).hex(), len(digests), NOW, NOW + 1), [VENDOR_KEY])
    tree.files[CHECKPOINT] = head.line + b"\n"
    synced = await publisher.sync()
    assert list(synced.refused) == ["acme.com/bad/x"]
    assert await reason(publisher.lookup("acme.com/bad/x")) == "threshold"
    assert (await publisher.lookup(NAME)).attested


async def test_a_tree_that_moves_is_followed_without_a_sync() -> None:
    tree = await filled()
    reading = reader_of(tree)
    await reading.lookup(NAME)
    await reader_of(tree).publish([binding("5.0.0")], [VENDOR_KEY])
    found = await reading.lookup(NAME)
    assert Version(5, 0, 0) in found.record.versions
    assert found.attested


async def test_another_registry_at_the_same_place_is_said() -> None:
    tree = await filled()
    reading = reader_of(tree)
    await reading.lookup(NAME)
    tree.files[CONFIG] = Config("ee" * 16).to_bytes()
    with pytest.raises(Conflict, match="another one"):
        await reading.sync()
    tree.files[CONFIG] = b"{}"
    assert await reason(reading.sync()) == "form"
