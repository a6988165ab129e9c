"""The serving side: ETags, HEAD, places, publications."""

from __future__ import annotations

import base64
from collections.abc import AsyncIterator
from io import BytesIO
from typing import Any

import aiohttp
import msgspec
import pytest
from yarl import URL

from osiris_mesh.clock import FakeClock
from osiris_mesh.gateway.registry_files import LINES, TREE, RegistryFiles
from osiris_mesh.registry.listing import digest_of, read_index
from osiris_mesh.registry.tree import MAX_FILE, Blob
from osiris_mesh.registry.tree_folder import FolderTree
from tests.registry.conformance import ADD, CONTENT, HEAD, KEYS, SHARPEN, everything, writing
from tests.registry.http.hosts import TOKEN, Controller, serving


@pytest.fixture
async def client(controller: Controller) -> AsyncIterator[aiohttp.ClientSession]:
    async with aiohttp.ClientSession(headers={"Authorization": f"Bearer {TOKEN}"}) as session:
        yield session


async def test_every_file_has_a_strong_etag_and_is_not_sent_twice(
    controller: Controller, client: aiohttp.ClientSession, folder: FolderTree
) -> None:
    await folder.publish(writing(CONTENT), "x")
    for path, data in CONTENT.items():
        url = f"{controller.url}/{path}"
        async with client.get(url) as answer:
            assert (answer.status, await answer.read()) == (200, data)
            etag = answer.headers["ETag"]
            assert etag == f'"{digest_of(data)}"'
            assert answer.headers["Cache-Control"] == "no-cache"
            assert answer.content_type == ("application/json" if path == "config.json" else LINES)
        for given in (etag, f"W/{etag}", f'"x", {etag}', "*"):
            async with client.get(url, headers={"If-None-Match": given}) as answer:
                assert (answer.status, await answer.read(), answer.headers["ETag"]) == (304, b"", etag)
        for given in ('"x"', etag[1:-1], etag + "," * 5000):
            async with client.get(url, headers={"If-None-Match": given}) as answer:
                assert answer.status == 200
        async with client.head(url) as answer:
            assert (answer.status, answer.headers["ETag"]) == (200, etag)
            assert int(answer.headers["Content-Length"]) == len(data)
            assert await answer.read() == b""


async def test_the_index_lists_it_all(
    controller: Controller, client: aiohttp.ClientSession, folder: FolderTree
) -> None:
    await folder.publish(writing(CONTENT), "x")
    async with client.get(f"{controller.url}/index.json") as answer:
        data = await answer.read()
        assert answer.headers["ETag"] == f'"{digest_of(data)}"'
    assert dict(read_index(data).items()) == {path: digest_of(each) for path, each in CONTENT.items()}


@pytest.mark.parametrize(
    "path",
    [
        "none.json", "CONFIG.JSON", "ns/_/math/none.jsonl", "ns/_/math/add.json", "ns/_/math", "ns/_/_keys.json",
        "ns/_/math/..%2f..%2f..%2fconfig.json", "..%2fconfig.json", "ns/%2e%2e/config.json", "ns/_/math/%00.jsonl",
        "ns/_/%2e%2e/add.jsonl", ".lock", ".publish", "ns/_/math/" + "x" * 600 + ".jsonl",
        "ns/no vendor/math/add.jsonl",
        "ns/_/math/add.jsonl%2f", "%2fetc%2fpasswd",
    ],
)  # fmt: skip
async def test_what_is_no_file_of_a_registry_is_not_found(
    controller: Controller, client: aiohttp.ClientSession, folder: FolderTree, path: str
) -> None:
    await folder.publish(writing(CONTENT), "x")
    url = URL(f"{controller.url}/{path.replace(' ', '%20')}", encoded=True)
    async with client.get(url) as answer:
        assert answer.status == 404
        assert msgspec.json.decode(await answer.read())["code"] == "not_found"


def batch(files: dict[str, bytes], expected: dict[str, str] | None = None, **more: Any) -> dict[str, Any]:
    encoded = {path: base64.b64encode(data).decode() for path, data in files.items()}
    return {"message": "x", "files": encoded, "expected": dict.fromkeys(files, "") | (expected or {}), **more}


async def test_a_publication_is_taken_whole(
    controller: Controller, client: aiohttp.ClientSession, folder: FolderTree
) -> None:
    async with client.put(controller.url, json=batch({ADD: b"1\n", HEAD: b"1"})) as answer:
        assert answer.status == 200
        tag = (await answer.json())["tag"]
    async with client.get(f"{controller.url}/index.json", headers={"If-None-Match": f'"{tag}"'}) as answer:
        assert answer.status == 304
    assert await everything(folder) == {ADD: b"1\n", HEAD: b"1"}


@pytest.mark.parametrize(
    ("body", "status", "says"),
    [
        (batch({ADD: b"2\n", SHARPEN: b"1\n"}), 409, "changed since"),
        (batch({ADD: b"2\n"}, {ADD: digest_of(b"0\n")}), 409, "changed since"),
        (batch({SHARPEN: b"2\n"}, {HEAD: digest_of(b"0")}), 409, "checkpoint changed"),
        (batch({SHARPEN: b"2\n"}, {"../x": "0"}), 409, "changed since"),
        (batch({SHARPEN: b"2\n"}, listed={"ns/": digest_of(b"")}), 409, "list of ns/"),
        ({"message": "x", "files": {SHARPEN: ""}, "expected": {}}, 400, "expected lacks"),
        (batch({"ns/_/math/add.txt": b""}), 400, "no place"),
        (batch({"ns/UPPER/math/add.jsonl": b""}), 400, "no place"),
        (batch({"../x": b""}), 400, "no place"),
        (batch({"index.json": b""}), 400, "no place"),
        (batch({ADD: b"x" * (MAX_FILE + 1)}), 400, "more than"),
        (batch({KEYS: b"x" * MAX_FILE, ADD: b"x" * MAX_FILE, SHARPEN: b"x" * MAX_FILE}), 400, "at most"),
    ],
    ids=range(12),
)
async def test_a_publication_that_is_refused_writes_nothing(
    controller: Controller,
    client: aiohttp.ClientSession,
    folder: FolderTree,
    body: dict[str, Any],
    status: int,
    says: str,
) -> None:
    await folder.publish(writing({ADD: b"1\n", HEAD: b"1"}), "x")
    async with client.put(controller.url, data=BytesIO(msgspec.json.encode(body))) as answer:
        problem = msgspec.json.decode(await answer.read())
        assert (answer.status, problem["status"]) == (status, status)
        assert says in problem["detail"]
        assert (problem.get("details", {}).get("reason") == "moved") is (status == 409)
    assert await everything(folder) == {ADD: b"1\n", HEAD: b"1"}


async def test_a_controller_without_a_registry() -> None:
    controller = Controller(None)
    async with (
        serving(controller) as address,
        aiohttp.ClientSession() as session,
        session.get(address + TREE + "/config.json") as answer,
    ):
        assert answer.status == 404
        assert "serves no registry" in await answer.text()


class Counting:
    """A tree that counts how often it is read; with tags only if told."""

    name, kind = "counting", "test"

    def __init__(self, files: dict[str, bytes]) -> None:
        self.files = files
        self.reads: list[str] = []

    async def read(self, path: str) -> Blob | None:
        self.reads.append(path)
        return Blob(self.files[path], "t") if path in self.files else None

    async def paths(self, prefix: str = "") -> list[str]:
        return sorted(path for path in self.files if path.startswith(prefix))

    async def publish(self, change: Any, message: str) -> str:
        raise NotImplementedError

    async def refresh(self) -> str:
        return "t"

    async def close(self) -> None:
        pass


async def test_the_index_of_a_tree_without_tags_is_made_when_the_checkpoint_moves() -> None:
    tree, clock = Counting(dict(CONTENT)), FakeClock()
    files = RegistryFiles(tree, clock, fresh_s=1.0)
    first = await files.index()
    assert await files.index() == first
    assert len(tree.reads) == len(CONTENT) + 1
    tree.reads.clear()
    clock.advance(1.5)
    assert await files.index() == first
    assert tree.reads == [HEAD]
    tree.files |= {ADD: b"new\n", HEAD: b"2"}
    clock.advance(1.5)
    data, etag = await files.index()
    assert dict(read_index(data).items())[ADD] == digest_of(b"new\n")
    assert etag == digest_of(data) != first[1]
