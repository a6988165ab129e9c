"""What survives a restart, and what does not survive damage."""

from __future__ import annotations

import asyncio
import re
import sqlite3
import time
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from osiris_mesh.errors import CheckFailed, Unavailable
from osiris_mesh.registry.context import matches
from osiris_mesh.registry.history import join_lines
from osiris_mesh.registry.memory import Kept, Memory, record_of
from osiris_mesh.registry.name_index import NameIndex
from tests.registry.resolve.kit import history, record

NAME = "acme.com/image/sharpen"


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "names.db"


def kept(name: str, said_ms: int = 1, *versions: str) -> Kept:
    lines = history(name, *({"version": item} for item in versions or ("1.0.0",)))
    return Kept(name, "r", said_ms, stale=False, data=join_lines(lines))


async def test_a_history_comes_back_as_it_was(path: Path) -> None:
    lines = history(NAME, {"version": "1.0.0"}, {"amend": True, "version": "1.0.0", "deprecated": "old"})
    async with Memory(path, limit=10) as memory:
        memory.put(Kept(NAME, "r", 7, stale=True, data=join_lines(lines)))
        waiting = await memory.get(NAME)
    assert path.stat().st_mode & 0o077 == 0  # noqa: ASYNC240 - a test's own file
    async with Memory(path, limit=10) as memory:
        found = await memory.get(NAME)
        assert found == waiting
        assert found is not None
        assert (found.registry, found.said_ms, found.stale) == ("r", 7, True)
        again, chain, signers = record_of(NAME, found.data)
        assert again == record(lines)
        assert chain == tuple(item.digest for item in lines)
        assert signers == tuple(item.keys for item in lines)
        assert await memory.get("team/none") is None


async def test_the_newest_of_a_name_counts_and_forgetting_lasts(path: Path) -> None:
    async with Memory(path, limit=10) as memory:
        memory.put(kept(NAME))
        memory.put(kept(NAME, 2, "1.0.0", "2.0.0"))
        memory.put(kept("team/f"))
        memory.forget("team/f")
        memory.forget("team/never")
        await memory.flush()
        assert await memory.get("team/f") is None
    async with Memory(path, limit=10) as memory:
        found = await memory.get(NAME)
        assert found is not None
        assert found.said_ms == 2
        assert memory.names("**", 10) == [NAME]


async def test_past_the_limit_what_was_said_longest_ago_goes(path: Path) -> None:
    async with Memory(path, limit=10) as memory:
        for number in range(30):
            memory.put(kept(f"team/f{number:02}", said_ms=number))
            await memory.flush()
        assert len(memory) == 10
        assert memory.names("**", 100)[0] == "team/f20"
    async with Memory(path, limit=10) as memory:
        assert len(memory) == 10


async def test_a_flipped_bit_is_a_missing_answer_never_a_wrong_one(path: Path) -> None:
    async with Memory(path, limit=10) as memory:
        memory.put(kept(NAME))
        memory.put(kept("team/f"))
        await memory.keep_trust("r", b"seen")
    with closing(sqlite3.connect(path)) as file:
        (data,) = file.execute("SELECT data FROM histories JOIN names USING (id) WHERE name = ?", (NAME,)).fetchone()
        bad = bytes([*data[:-9], data[-9] ^ 1, *data[-8:]])
        file.execute("UPDATE histories SET data = ? WHERE id = (SELECT id FROM names WHERE name = ?)", (bad, NAME))
        file.execute("UPDATE trust SET data = ?", (b"sewn",))
        file.commit()
    async with Memory(path, limit=10) as memory:
        assert await memory.get(NAME) is None
        assert await memory.get("team/f") is not None
        with pytest.raises(CheckFailed, match="damaged"):
            await memory.trust("r")


async def test_a_file_that_is_no_database_is_set_aside(path: Path) -> None:
    path.write_bytes(b"something else" * 1000)  # noqa: ASYNC240 - a test's own file
    async with Memory(path, limit=10) as memory:
        assert len(memory) == 0
        memory.put(kept(NAME))
    assert path.with_name("names.db.damaged").read_bytes().startswith(b"something else")
    async with Memory(path, limit=10) as memory:
        assert NAME in memory


async def test_trust_is_kept_by_registry(path: Path) -> None:
    async with Memory(path, limit=10) as memory:
        assert await memory.trust("r") is None
        await memory.keep_trust("r", b"one")
        await memory.keep_trust("r", b"two")
        await memory.keep_trust("s", b"three")
        await memory.keep_trust("s/files", b"four")
        await memory.keep_trust("s.t/files", b"five")
        memory.put(replace(kept(NAME), registry="s"))
        memory.put(kept("acme.com/image/blur"))
        await memory.forget_registry("s")
        assert (NAME in memory, "acme.com/image/blur" in memory) == (False, True)
    async with Memory(path, limit=10) as memory:
        assert await memory.trust("r") == b"two"
        assert await memory.trust("s") is None
        assert await memory.trust("s/files") is None
        assert await memory.trust("s.t/files") == b"five"
        assert await memory.get(NAME) is None
        assert await memory.get("acme.com/image/blur") == kept("acme.com/image/blur")
    with pytest.raises(Unavailable):
        await memory.trust("r")


async def test_killed_at_any_moment_it_opens_again(path: Path) -> None:
    memory = Memory(path, limit=1000)
    await memory.open()
    for number in range(50):
        memory.put(kept(f"team/f{number:02}"))
    await asyncio.sleep(0)
    # What a kill leaves: the files as they are now, read by somebody else.
    copy = path.with_name("copy.db")
    for ending in ("", "-wal"):
        source = path.with_name(path.name + ending)
        if source.exists():
            copy.with_name(copy.name + ending).write_bytes(source.read_bytes())
    async with Memory(copy, limit=1000) as other:
        for name in other.names("**", 1000):
            found = await other.get(name)
            assert found is None or record_of(name, found.data)
    await memory.close()


WORDS = st.text("ab-.", min_size=1, max_size=4)
NAMES = st.lists(st.lists(WORDS, min_size=2, max_size=3).map("/".join), max_size=30)
PATTERNS = st.one_of(
    st.just("**"), st.lists(st.text("ab-.*", min_size=1, max_size=6), min_size=1, max_size=3).map("/".join)
)


@settings(max_examples=300)
@given(NAMES, PATTERNS)
def test_a_pattern_finds_what_it_fits_as_in_contexts(names: list[str], pattern: str) -> None:
    index = NameIndex([])
    for name in names:
        index.add(name)
    if "**" in pattern and pattern != "**":
        pattern = re.sub(r"\*+", "*", pattern)
    assert index.find(pattern, 1000) == [name for name in sorted(set(names)) if matches(pattern, name)]
    index.drop(names[:5])
    assert index.find("**", 1000) == sorted(set(names) - set(names[:5]))


def test_no_pattern_takes_long() -> None:
    index = NameIndex(["a" * 180 + "/" + "a" * 180])
    began = time.perf_counter()
    assert index.find("*a" * 60 + "b/" + "*a" * 60 + "b", 10) == []
    assert index.find("*a" * 60 + "/" + "*a" * 60 + "b", 10) == []
    assert time.perf_counter() - began < 0.5
