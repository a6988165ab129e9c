"""A tree whose own history was rewritten: refused, and what it showed is kept as evidence."""

from __future__ import annotations

from pathlib import Path

import pytest

from osiris_mesh.errors import Conflict
from osiris_mesh.registry.tree_git import GitTree
from osiris_mesh.registry.trust import Trust
from tests.registry.core.kit import NAME, VENDOR_KEY, binding, reader_of, registry
from tests.registry.git.repository import Repository


async def test_what_a_rewritten_repository_shows_is_evidence_and_never_believed(tmp_path: Path) -> None:
    remote = Repository(tmp_path / "r.git")
    mine = await registry(GitTree("git", remote.url, tmp_path / "mine"))
    await mine.publish([binding()], [VENDOR_KEY])
    older = remote.head()
    await mine.publish([binding("1.1.0")], [VENDOR_KEY])
    reading = reader_of(GitTree("git", remote.url, tmp_path / "theirs"))
    await reading.sync()
    held = reading.trust.checkpoint_sequence
    try:
        for commit, reason in (
            (older, "rollback"),
            (remote.put(remote.files(), message="all anew"), "history"),
            (remote.put({"checkpoint": b"nonsense\n"}), "history"),
        ):
            remote.git("update-ref", "refs/heads/main", commit)
            reading.trust.changed = False
            with pytest.raises(Conflict):
                await reading.sync()
            (found,) = (item for item in reading.trust.evidence if item.reason == reason)
            assert found.subject == "checkpoint"
            shown = remote.files(commit)["checkpoint"]
            # git says what was there without its line's end.
            assert found.lines == (() if b"nonsense" in shown else (shown.removesuffix(b"\n"),))
            assert reading.trust.changed
        assert reading.trust.checkpoint_sequence == held
        assert len((await reading.lookup(NAME)).record.versions) == 2
        assert Trust.from_wire(reading.trust.to_wire()).evidence == reading.trust.evidence
        remote.git("update-ref", "-d", "refs/heads/main")
        with pytest.raises(Conflict):
            await reading.sync()
    finally:
        await reading.close()
        await mine.close()
