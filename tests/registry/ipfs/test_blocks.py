"""Blocks: what is built is read, here and by a real Kubo; what contradicts itself is refused."""

from __future__ import annotations

from collections.abc import Mapping

import aiohttp
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from osiris_mesh.errors import RemoteProtocolError
from osiris_mesh.registry.ipfs_build import EMPTY, build
from osiris_mesh.registry.ipfs_cid import DAG_PB, RAW, Cid
from osiris_mesh.registry.ipfs_protobuf import field
from osiris_mesh.registry.ipfs_rpc import Kubo
from osiris_mesh.registry.ipfs_unixfs import Directory, File, Shard, name_hash, read_block
from osiris_mesh.registry.ipfs_walk import find, list_files, read_file
from tests.registry.ipfs.kit import run
from tests.registry.ipfs.kubo import Daemon

NAME = st.text("abc._-é", min_size=1, max_size=8).filter(lambda name: name not in {".", ".."})
# A number before each name, so that no file is another's directory.
PATH = st.lists(NAME, min_size=1, max_size=3).map(
    lambda parts: "/".join(f"{len(parts) - at}{part}" for at, part in enumerate(parts))
)
FILES = st.dictionaries(PATH, st.binary(max_size=40), max_size=60)


def everything(root: Cid, blocks: Mapping[Cid, bytes]) -> dict[str, bytes]:
    found = {}
    for path, cid in run(list_files(root, "", 100_000), blocks):
        assert run(find(root, path), blocks) == cid
        data = run(read_file(cid, 1 << 30), blocks)
        assert data is not None
        found[path] = data
    return found


@settings(max_examples=60, deadline=None)
@given(FILES, FILES, st.sampled_from((0, 100, 1000, 1 << 20)))
def test_what_is_built_is_read(first: dict[str, bytes], second: dict[str, bytes], spread_from: int) -> None:
    root, blocks = run(build(None, first, spread_from), {})
    assert everything(root, blocks) == first
    after, more = run(build(root, second, spread_from), blocks)
    assert everything(after, {**blocks, **more}) == first | second
    assert all(cid.holds(data) for cid, data in more.items())
    again, _ = run(build(after, second, spread_from), {**blocks, **more})
    assert again == after
    for path in ("none", "1a/none", "2a", *(f"{path}x" for path in list(first)[:5])):
        there = run(find(after, path), {**blocks, **more})
        assert (there is not None) == any(name == path or name.startswith(f"{path}/") for name in first | second)


@settings(max_examples=30, deadline=None)
@given(FILES, NAME)
def test_paths_by_their_beginning(files: dict[str, bytes], prefix: str) -> None:
    root, blocks = run(build(None, files, 200), {})
    for beginning in (
        "",
        prefix,
        f"1{prefix}",
        f"2{prefix}/",
        *(path[: len(path) // 2 + 1] for path in list(files)[:3]),
    ):
        wanted = sorted(path for path in files if path.startswith(beginning))
        assert [path for path, _ in run(list_files(root, beginning, 100_000), blocks)] == wanted


def test_a_spread_directory_is_entered_by_the_hash_of_the_name_alone() -> None:
    files = {f"ns/{number:05}.jsonl": b"%d" % number for number in range(3000)}
    root, blocks = run(build(None, files, 1000), {})
    asked: list[Cid] = []

    class Counting(dict[Cid, bytes]):
        def __getitem__(self, cid: Cid) -> bytes:
            asked.append(cid)
            return super().__getitem__(cid)

    found = run(find(root, "ns/01234.jsonl"), Counting(blocks))
    assert found is not None
    assert blocks[found] == b"1234"
    assert 2 <= len(asked) <= 4
    assert len(blocks) > 3000 + 200


async def test_a_kubo_reads_what_we_build_and_we_what_it_builds(kubo: Daemon, rpc: Kubo) -> None:
    small = {f"a/{number}.jsonl": b"%d\n" % number for number in range(5)}
    files = small | {"b/large": bytes(range(256)) * 4096, "b/empty": b"", "c/größer": b"x"}
    files |= {f"many/{number}": b"%d" % number for number in range(400)}
    root, blocks = run(build(None, files, 4096), {})
    await rpc.store(root, blocks)
    assert kubo.ipfs("cat", f"/ipfs/{root}/many/399") == "399"
    assert kubo.ipfs("cat", f"/ipfs/{root}/c/größer") == "x"
    assert len(kubo.ipfs("ls", f"/ipfs/{root}/many").splitlines()) == 400
    folder = kubo.repository / "to-add"
    for path, data in files.items():
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_bytes(data)
    theirs = Cid.parse(kubo.ipfs("add", "-r", "-Q", "--cid-version=1", str(folder)))
    refs = [str(theirs), *kubo.ipfs("refs", "-r", "-u", str(theirs)).split()]
    fetched = {Cid.parse(text): await block_of(rpc, text) for text in refs}
    assert all(cid.holds(data) for cid, data in fetched.items())
    assert everything(theirs, fetched) == files
    many = run(find(theirs, "many"), fetched)
    assert many is not None
    assert isinstance(read_block(many, fetched[many]), Shard)
    # Same files, same ids: also directories and files in several parts.
    assert run(find(root, "b/large"), blocks) == run(find(theirs, "b/large"), fetched)
    assert run(find(root, "a"), blocks) == run(find(theirs, "a"), fetched)
    old = Cid.parse(kubo.ipfs("add", "-r", "-Q", "--cid-version=0", str(folder / "a")))
    assert old.version == 0
    block = read_block(old, await block_of(rpc, str(old)))
    assert isinstance(block, Directory)
    assert set(block.entries) == {f"{number}.jsonl" for number in range(5)}


async def block_of(rpc: Kubo, text: str) -> bytes:
    async with aiohttp.ClientSession() as session, session.post(f"{rpc.url}/api/v0/block/get?arg={text}") as answer:
        return await answer.read()


@pytest.mark.parametrize(
    ("name", "digest"),
    [
        ("", 0),
        ("hello", 0xCBD8A7B341BD9B02),
        ("hello, world", 0x342FAC623A5EBC8E),
        ("19 Jan 2038 at 3:14:07 AM", 0xB89E5988B737AFFC),
        ("The quick brown fox jumps over the lazy dog.", 0xCD99481F9EE902C9),
    ],
)
def test_hashes_of_names(name: str, digest: int) -> None:
    """The known answers of the 128-bit variant for x64; their first half."""
    assert name_hash(name) == digest


ID = Cid.of(RAW, b"x")


def link(name: str = "x", cid: bytes = ID.to_bytes(), size: int = 1) -> bytes:
    return field(2, field(1, cid) + field(2, name.encode()) + field(3, size))


DIRECTORY, FILE = field(1, field(1, 1)), field(1, 2)
SHARD = field(1, 5) + field(2, b"\1") + field(5, 0x22) + field(6, 256)


@pytest.mark.parametrize(
    "data",
    [
        b"",  # no data
        b"\x0a",  # cut off
        b"\x0d\x01\x02\x03\x04",  # a fixed width
        DIRECTORY + link(),  # data before links
        DIRECTORY + DIRECTORY,
        link(),
        link() + link() + DIRECTORY,  # a name twice
        link("") + DIRECTORY,
        link(".") + DIRECTORY,
        link("..") + DIRECTORY,
        link("a/b") + DIRECTORY,
        link("a\0b") + DIRECTORY,
        link("x" * 256) + DIRECTORY,
        link(cid=b"\1") + DIRECTORY,
        field(2, field(2, b"x")) + DIRECTORY,  # a link to nothing
        field(2, field(2, b"x") + field(1, ID.to_bytes())) + DIRECTORY,  # out of order
        field(2, field(1, ID.to_bytes()) + field(2, b"\xff")) + DIRECTORY,
        field(2, 1) + DIRECTORY,
        field(1, field(1, 4)),  # a symbolic link
        field(1, field(1, 3)),
        field(1, field(2, b"x")),  # of no type
        field(1, FILE + field(9, 1)),
        field(1, FILE + field(2, b"x") + field(3, 2)),  # not as long as it says
        link() + field(1, FILE),  # a part of no size
        field(1, FILE + field(4, 1)),  # a size of no part
        link("00x") + field(1, field(1, 5) + field(5, 0x23) + field(6, 256)),
        link("00x") + field(1, field(1, 5) + field(5, 0x22) + field(6, 255)),
        link("00x") + field(1, field(1, 5) + field(5, 0x22) + field(6, 4)),
        link("00x") + field(1, field(1, 5) + field(5, 0x22) + field(6, 1 << 20)),
        link("00x") + field(1, field(1, 5) + field(6, 256)),
        link("0") + field(1, SHARD),
        link("GGx") + field(1, SHARD),
        link("0ax") + field(1, SHARD),
        link("00x") + link("00y") + field(1, SHARD),
        link("00a/b") + field(1, SHARD),
        link("80x") + field(1, field(1, 5) + field(5, 0x22) + field(6, 128)),  # a slot past the last
    ],
)
def test_blocks_that_contradict_themselves(data: bytes) -> None:
    with pytest.raises(RemoteProtocolError):
        read_block(Cid.of(DAG_PB, data), data)


def test_files_of_other_makers() -> None:
    inline = field(1, FILE + field(2, b"abc") + field(3, 3))
    assert read_block(Cid.of(DAG_PB, inline), inline) == File(3, b"abc")
    packed = link("") + link("") + field(1, FILE + field(3, 3) + field(4, b"\1\2"))
    assert read_block(Cid.of(DAG_PB, packed), packed) == File(3, b"", ((ID, 1), (ID, 2)))
    hollow = link("") + link("") + field(1, FILE + field(3, 1) + field(4, 0) + field(4, 1))
    assert read_block(Cid.of(DAG_PB, hollow), hollow) == File(1, b"", ((ID, 1),))
    timed = field(1, field(1, 1) + field(7, 0o755) + field(8, field(1, 5)))
    assert read_block(Cid.of(DAG_PB, timed), timed) == Directory({})


def test_a_file_is_as_long_as_it_says_and_no_longer_than_it_may_be() -> None:
    for size in (1, 2):
        data = link("") + field(1, FILE + field(3, size) + field(4, size))
        top = Cid.of(DAG_PB, data)
        if size == 1:
            assert run(read_file(top, 1), {top: data, ID: b"x"}) == b"x"
            with pytest.raises(RemoteProtocolError, match="more than"):
                run(read_file(top, 0), {top: data, ID: b"x"})
        else:
            with pytest.raises(RemoteProtocolError, match="not as long"):
                run(read_file(top, 100), {top: data, ID: b"x"})


def nested(depth: int) -> tuple[Cid, dict[Cid, bytes]]:
    cid, blocks = ID, {ID: b"x"}
    for _ in range(depth):
        data = link("d", cid.to_bytes()) + link("e", cid.to_bytes()) + DIRECTORY
        cid = Cid.of(DAG_PB, data)
        blocks[cid] = data
    return cid, blocks


def test_small_blocks_can_not_keep_a_reader_busy_for_ever() -> None:
    deep, blocks = nested(60)
    with pytest.raises(RemoteProtocolError):
        run(list_files(deep, "", 10_000), blocks)
    wide, blocks = nested(15)
    with pytest.raises(RemoteProtocolError, match="more than"):
        run(list_files(wide, "", 10_000), blocks)


def test_a_file_is_no_directory() -> None:
    root, blocks = run(build(None, {"a/b": b"x"}), {})
    for files in ({"a/b/c": b"y"}, {"a/b/c/d": b"y"}, {"q": b"1", "q/r": b"2"}, {"q/r": b"2", "q": b"1"}):
        with pytest.raises(RemoteProtocolError):
            run(build(root, files), blocks)
    assert run(read_file(root, 100), blocks) is None
    assert run(build(None, {}), {}) == (EMPTY, {EMPTY: b"\x0a\x02\x08\x01"})


@given(st.binary(max_size=200))
def test_noise_is_refused_or_read(data: bytes) -> None:
    try:
        read_block(Cid.of(DAG_PB, data), data)
    except RemoteProtocolError:
        pass
