"""A registry in IPFS, through a real Kubo: published, read through gateways, never believed, never taken back."""

from __future__ import annotations

import secrets
import sqlite3
from collections.abc import Sequence
from contextlib import closing

import aiohttp
import pytest
from aiohttp import web

from osiris_mesh.clock import SYSTEM, FakeClock
from osiris_mesh.errors import Conflict, Denied, Unavailable, UsageError
from osiris_mesh.identity.keys import KeyPair
from osiris_mesh.identity.peer_id import peer_id
from osiris_mesh.registry.ipfs_build import EMPTY
from osiris_mesh.registry.ipfs_cid import DAG_PB, RAW, Cid, IpnsName
from osiris_mesh.registry.ipfs_rpc import Kubo
from osiris_mesh.registry.tree import Tree
from osiris_mesh.registry.tree_ipfs import IpfsPublisher, TreeIpfs
from tests.registry import conformance
from tests.registry.conformance import ADD, HEAD, appending, everything, read, writing
from tests.registry.ipfs.conftest import Trees
from tests.registry.ipfs.kit import FakeGateway
from tests.registry.ipfs.kubo import Daemon


@pytest.mark.parametrize("check", conformance.CHECKS, ids=conformance.name_of)
async def test_it_is_a_tree(check: conformance.Check, trees: Trees) -> None:
    async def make() -> Tree:
        return trees.open()

    await check(make)


FIRST = {ADD: b"1\n", HEAD: b"1"}


async def test_a_large_registry_is_spread_and_read_without_its_gateway(trees: Trees, kubo: Daemon) -> None:
    files = {f"ns/_/many/of-{number:04}.jsonl": b"%d\n" % number for number in range(400)} | FIRST
    here = trees.open(spread_from=4096)
    await here.publish(writing(files), "many")
    there = trees.open(publishes=False)
    await there.refresh()
    assert await everything(there) == files
    await there.close()
    # The next start has the disk alone.
    offline = trees.open(publishes=False, path=there.path, gateways=["http://127.0.0.1:1"])
    assert await everything(offline) == files
    with pytest.raises(Unavailable):
        await offline.refresh()
    assert await everything(offline) == files
    fresh = trees.open(publishes=False, gateways=["http://127.0.0.1:1"])
    for asking in (fresh.read(ADD), fresh.paths(), fresh.refresh()):
        with pytest.raises(Unavailable):
            await asking


async def test_a_lying_gateway_beside_an_honest_one(trees: Trees, kubo: Daemon) -> None:
    await trees.open().publish(writing(conformance.CONTENT), "all")
    async with FakeGateway().serve() as liar:

        async def lie(_request: web.Request) -> web.Response:
            return web.Response(body=b"forged")

        liar.answer = lie
        tree = trees.open(publishes=False, gateways=[liar.url, kubo.gateway])
        await tree.refresh()
        assert await everything(tree) == conformance.CONTENT
        alone = trees.open(publishes=False, gateways=[liar.url])
        with pytest.raises(Unavailable):
            await alone.refresh()


async def test_the_pointer_never_goes_back(trees: Trees, kubo: Daemon, name: IpnsName) -> None:
    publisher = trees.open()
    await publisher.publish(writing(FIRST), "first")
    old = await record_of(kubo, name)
    tree = trees.open(publishes=False)
    await tree.refresh()
    newest = await publisher.publish(appending(ADD, b"2\n"), "second")
    assert await tree.refresh() == newest
    assert await read(tree, ADD) == b"1\n2\n"
    async with FakeGateway().serve() as behind:
        behind.records[name] = old
        path = tree.path
        await tree.close()
        # Whoever answers with the old record, however well signed, and also after a restart.
        again = trees.open(publishes=False, path=path, gateways=[behind.url])
        assert await again.refresh() == newest
        assert await read(again, ADD) == b"1\n2\n"
        await again.close()
        clock = FakeClock(epoch_ms=SYSTEM.time_ms())
        frozen = trees.open(publishes=False, path=path, gateways=[behind.url], clock=clock)
        clock.advance(49 * 3600)
        with pytest.raises(Unavailable, match="expired"):
            await frozen.refresh()
        assert await read(frozen, ADD) == b"1\n2\n"


async def test_a_domain_points_to_a_name_and_may_change_its_mind(trees: Trees, kubo: Daemon, rpc: Kubo) -> None:
    first, second = [await rpc.make_key(f"key-{secrets.token_hex(8)}") for _ in range(2)]
    for number, target in enumerate((first, second)):
        publisher = trees.open(pointer=str(target))
        for _ in range(3 - 2 * number):
            await publisher.publish(appending(ADD, b"%d\n" % number), "one more")
    zone: dict[str, list[bytes]] = {"_dnslink.acme.com": [b"v=spf1", b"dnslink=/ipns/other.org", b"dnslink=\xff"]}
    zone["_dnslink.other.org"] = [f"dnslink=/ipns/{first}".encode()]

    async def texts(domain: str) -> Sequence[bytes]:
        return zone.get(domain, [])

    tree = trees.open(pointer="acme.com", texts=texts)
    await tree.refresh()
    assert await read(tree, ADD) == b"0\n0\n0\n"
    # The other name is at a lower sequence; what refuses a rollback belongs to each name.
    zone["_dnslink.other.org"] = [f"dnslink=/ipns/{second}".encode()]
    await tree.refresh()
    assert await read(tree, ADD) == b"1\n"
    await tree.publish(appending(ADD, b"2\n"), "through the domain")
    assert await read(tree, ADD) == b"1\n2\n"
    root = await tree.refresh()
    zone["_dnslink.other.org"] = [f"dnslink=/ipfs/{root}".encode()]
    assert await tree.refresh() == root
    for answer in (
        [],
        [b"dnslink=/ipns/acme.com"],
        [b"dnslink=/ipns/k51"],
        [b"dnslink=/ipfs/none"],
        [b"dnslink=/http/x"],
    ):
        zone["_dnslink.other.org"] = answer
        with pytest.raises(Unavailable):
            await tree.refresh()
    with pytest.raises(Unavailable, match="can't be asked"):
        await trees.open(pointer="/ipns/acme.com").refresh()


async def test_fixed_content_is_read_and_not_changed(trees: Trees) -> None:
    root = await trees.open().publish(writing(FIRST), "first")
    tree = trees.open(pointer=f"/ipfs/{root}")
    assert await tree.refresh() == root
    assert await everything(tree) == FIRST
    with pytest.raises(Denied, match="fixed"):
        await tree.publish(writing({HEAD: b"2"}), "no")
    below = trees.open(pointer=f"{root}/ns")
    await below.refresh()
    assert await below.paths() == ["_/math/add.jsonl"]
    with pytest.raises(Unavailable, match="not there"):
        await trees.open(pointer=f"/ipfs/{root}/none").refresh()


async def test_who_can_not_publish(trees: Trees, kubo: Daemon) -> None:
    foreign = str(IpnsName(KeyPair(b"f" * 32).public))
    with pytest.raises(Denied, match="no Kubo"):
        await trees.open(publishes=False).publish(writing(FIRST), "no")
    with pytest.raises(Denied, match="no key"):
        await trees.open(pointer=foreign).publish(writing(FIRST), "no")
    with pytest.raises(Unavailable):
        await trees.open(pointer=foreign).refresh()
    with pytest.raises(Unavailable, match="could not be asked"):
        await trees.open(publisher=IpfsPublisher("http://127.0.0.1:1")).publish(writing(FIRST), "no")
    # A gateway is no RPC.
    with pytest.raises(Denied, match="does not let us"):
        await trees.open(publisher=IpfsPublisher(kubo.gateway)).publish(writing(FIRST), "no")
    assert "secret" not in repr(IpfsPublisher(kubo.api, "Bearer secret"))


async def test_gateways_that_lag_behind_lose_nobodys_publication(
    trees: Trees, kubo: Daemon, name: IpnsName, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("osiris_mesh.registry.tree_ipfs._TURNS_S", 0.3)
    await trees.open().publish(writing(FIRST), "first")
    old = await record_of(kubo, name)
    await trees.open().publish(appending(ADD, b"2\n"), "second")
    async with FakeGateway().serve() as behind:
        behind.records[name] = old

        lagging = trees.open(gateways=[behind.url, kubo.gateway])
        await lagging.publish(appending(ADD, b"3\n"), "third")
        assert await read(lagging, ADD) == b"1\n2\n3\n"
        alone = trees.open(gateways=[behind.url])
        behind.blocks |= await blocks_of(lagging)
        with pytest.raises((Conflict, Unavailable)):
            await alone.publish(appending(ADD, b"4\n"), "would overwrite")
    last = trees.open()
    await last.refresh()
    assert await everything(last) == {ADD: b"1\n2\n3\n", HEAD: b"3"}


async def test_old_directories_are_let_go(trees: Trees, kubo: Daemon, name: IpnsName, rpc: Kubo) -> None:
    clock = FakeClock(epoch_ms=SYSTEM.time_ms())
    tree = trees.open(clock=clock)
    roots = []
    for number in range(4):
        roots.append(await tree.publish(appending(ADD, b"%d\n" % number), "one more"))
        clock.advance(3 * 3600)
    kept = {str(cid) for cid in await rpc.pinned(f"osiris-registry:{name}:")}
    assert kept == set(roots[-2:])


@pytest.mark.parametrize(
    ("pointer", "form"),
    [
        (str(EMPTY), f"/ipfs/{EMPTY}"),
        (f"/ipfs/{EMPTY}/", f"/ipfs/{EMPTY}"),
        (f"ipfs/{EMPTY}/a/b", f"/ipfs/{EMPTY}/a/b"),
        ("QmUNLLsPACCz1vLxQVkXqqLX5R1X345qqfHbsf67hvA3Nn", "/ipfs/QmUNLLsPACCz1vLxQVkXqqLX5R1X345qqfHbsf67hvA3Nn"),
        ("acme.com", "/ipns/acme.com"),
        ("/ipns/acme.com", "/ipns/acme.com"),
        (peer_id(b"p" * 32), f"/ipns/{IpnsName(b'p' * 32)}"),
        (str(IpnsName(b"p" * 32).cid), f"/ipns/{IpnsName(b'p' * 32)}"),
    ],
)
async def test_forms_of_pointers(trees: Trees, pointer: str, form: str) -> None:
    assert trees.open(pointer=pointer).pointer == form


@pytest.mark.parametrize(
    "pointer", ["", "/", "x", "/ipfs/", "/ipfs/x", "/ipns/", "/ipns/acme", "/ipns/acme.com/x", "/http/x"]
)
async def test_what_is_no_pointer(trees: Trees, pointer: str) -> None:
    with pytest.raises(UsageError):
        trees.open(pointer=pointer)
    with pytest.raises(UsageError):
        trees.open(gateways=[])


async def record_of(kubo: Daemon, name: IpnsName) -> bytes:
    url = f"{kubo.gateway}/ipns/{name}?format=ipns-record"
    async with aiohttp.ClientSession() as session, session.get(url) as answer:
        return await answer.read()


async def blocks_of(tree: TreeIpfs) -> dict[Cid, bytes]:
    """Return all blocks a tree keeps."""
    await everything(tree)
    with closing(sqlite3.connect(tree.path)) as connection:
        rows = [row[0] for row in connection.execute("SELECT data FROM blocks")]
    return {Cid.of(codec, data): data for data in rows for codec in (RAW, DAG_PB)}
