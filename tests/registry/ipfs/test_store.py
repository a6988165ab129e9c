"""What an IPFS registry keeps on disk."""

from __future__ import annotations

import sqlite3
from pathlib import Path

import pytest

from osiris_mesh.errors import Conflict, Unavailable
from osiris_mesh.registry.ipfs_cid import RAW, Cid
from osiris_mesh.registry.ipfs_store import BlockStore, Seen

LARGE = 100_000  # not kept in memory


def block(number: int, size: int = LARGE) -> tuple[Cid, bytes]:
    data = number.to_bytes(4, "big") * (size // 4)
    return Cid.of(RAW, data), data


async def test_blocks_and_pointers_survive_a_restart(tmp_path: Path) -> None:
    store = BlockStore(tmp_path / "b.db", 1 << 20)
    blocks = dict([block(1), block(2, 8)])
    seen = Seen("k51", 7, (1 << 70), next(iter(blocks)))
    await store.put(list(blocks.items()))
    await store.remember("/ipns/k51", seen)
    await store.close()
    await store.close()
    with pytest.raises(Unavailable):
        await store.get(list(blocks))
    again = BlockStore(tmp_path / "b.db", 1 << 20)
    assert await again.get([*blocks, Cid.of(RAW, b"none")]) == blocks
    assert (await again.seen("/ipns/k51"), await again.seen("/ipns/other")) == (seen, None)
    await again.close()


async def test_the_longest_unused_make_room(tmp_path: Path) -> None:
    path, limit = tmp_path / "b.db", 10 * LARGE
    store = BlockStore(path, limit)
    old = [block(number) for number in range(8)]
    await store.put(old)
    await store.close()
    store = BlockStore(path, limit)
    used = [cid for cid, _ in old[:2]]
    await store.get(used)
    await store.put([block(number) for number in range(100, 106)])
    kept = await store.get([cid for cid, _ in old])
    assert set(used) <= set(kept)
    assert len(kept) < len(old)
    assert len(await store.get([block(number)[0] for number in range(100, 106)])) == 6
    await store.close()
    with sqlite3.connect(path) as connection:
        assert connection.execute("SELECT sum(length(data)) FROM blocks").fetchone()[0] <= limit
    connection.close()


async def test_a_changed_block_is_not_there(tmp_path: Path) -> None:
    path = tmp_path / "b.db"
    store = BlockStore(path, 1 << 20)
    cid, data = block(1)
    await store.put([(cid, data)])
    await store.close()
    with sqlite3.connect(path) as connection:
        connection.execute("UPDATE blocks SET data = ?", (data[:-1] + b"x",))
    connection.close()
    again = BlockStore(path, 1 << 20)
    assert await again.get([cid]) == {}
    await again.put([(cid, data)])
    assert await again.get([cid]) == {cid: data}
    await again.close()


async def test_a_file_that_is_none(tmp_path: Path) -> None:
    (tmp_path / "noise").write_bytes(b"noise" * 1000)
    other = sqlite3.connect(tmp_path / "other")
    other.execute("PRAGMA application_id = 1234")
    other.execute("CREATE TABLE mine(x)")
    other.commit()
    other.close()
    for name in ("noise", "other"):
        store = BlockStore(tmp_path / name, 1 << 20)
        with pytest.raises(Conflict):
            await store.get([block(1)[0]])
        await store.close()
    missing = BlockStore(tmp_path / "no-folder" / "b.db", 1 << 20)
    with pytest.raises(Unavailable):
        await missing.get([block(1)[0]])
    await missing.close()
