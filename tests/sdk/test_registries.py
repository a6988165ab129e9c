"""Functions of registries, called through every line: socket, client link, HTTP, gRPC, from inside a function."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from osiris_sdk import AsyncMesh, Denied, NotFound, UsageError
from osiris_sdk import Mesh as Client
from tests.http.client import Face
from tests.http.tokens import make_token, role_token
from tests.system.harness import Mesh, Node

pytestmark = pytest.mark.system

SOURCE = '''def add(a: int, b: int = 5) -> int:
    """Add two numbers."""
    return a + b
'''
INSIDE = """import osiris_sdk

def twice(a: int) -> int:
    return osiris_sdk.current().call("far/add", a, a)
"""
NAME = "far/add"


class World(SimpleNamespace):
    """A mesh that has the function, two providers of it, and a mesh that knows them by a registry in a folder."""

    node: Node
    provider: Node
    face: Face


@pytest.fixture(scope="module")
def world() -> Iterator[World]:
    with tempfile.TemporaryDirectory(prefix="om-", ignore_cleanup_errors=True) as folder:
        place = Path(folder)
        (place / "a").mkdir()
        (place / "b").mkdir()
        meshes = Mesh(place / "a"), Mesh(place / "b")
        try:
            provider, node = meshes[0].init("--http", "127.0.0.1:0"), meshes[1].init("--http", "127.0.0.1:0", *_grpc())
            theirs = Face(provider.report["http"], provider.home, {"admin": role_token(provider.home, "admin")})
            assert theirs.post("/v1/functions", {"source": SOURCE, "name": NAME}).status == 200
            source = place / "far" / "add.py"
            source.parent.mkdir()
            source.write_text(SOURCE)
            url, endpoint = f"file://{place}/tree", theirs.url + "/v1/call/{name}"
            pin = node.ok("registry", "init", "--to", url, "--key", "owner")["pin"]
            words = ("--to", url, "--key", "owner", "--version", "1.2.0")
            said = ("--provider", f"one={endpoint}", "--provider", f"two={endpoint}")
            node.ok("registry", "publish", str(source), *words, *said)
            token = place / "token"
            token.write_text(make_token(provider.home, "caller", ["function.call"]))
            token.chmod(0o600)
            shown = {"origin": theirs.url, "token_file": str(token)}
            credentials = node.home / "registry" / "credentials.json"
            credentials.write_text(json.dumps({"one": shown, "two": shown}))
            credentials.chmod(0o600)
            node.ok("config", "set", "registry.allow_networks", "loopback")
            node.ok("registry", "add", "folder", url, "--pin", pin)
            face = Face(node.report["http"], node.home, {"admin": role_token(node.home, "admin")})
            yield World(node=node, provider=provider, face=face)
        finally:
            for mesh in meshes:
                mesh.close()


def _grpc() -> tuple[str, ...]:
    try:
        import grpc  # noqa: F401, PLC0415 - an extra
    except ImportError:
        return ()
    return ("--grpc", "127.0.0.1:0")


def _answers(mesh: Any) -> None:
    assert mesh.call(NAME, 2) == 7
    assert mesh.call(f"{NAME}@^1.0", 2, b=3) == 5
    assert list(mesh.map(NAME, range(4), concurrency=2)) == [5, 6, 7, 8]
    with pytest.raises(TypeError):
        mesh.call(NAME)
    with pytest.raises(NotFound):
        mesh.call("far/none")


def test_over_the_socket(world: World) -> None:
    with Client.connect(home=world.node.home) as mesh:
        _answers(mesh)
        resolved = mesh.resolve(f"{NAME}@^1.2")
        assert (resolved.name, resolved.version, resolved.source) == (NAME, "1.2.0", "folder")
        assert (resolved.stale, resolved.versions) == (False, ("1.2.0",))
        assert {row["id"] for row in resolved.providers} == {"one", "two"}
        assert resolved.requirements == {"level": "controlled", "permissions": [], "trusted_providers": []}
        assert 0 < resolved.ttl_ms <= 300_000
        assert {row["name"] for row in mesh.registry.find("far/*")} == {NAME}
        assert mesh.registry.resolve(NAME, explain=True)["why"]
        assert "why" not in mesh.registry.resolve(NAME)
        with pytest.raises(Denied):
            mesh.options(context="pure").call(NAME, 1)


def test_the_callers_own_choice_counts(world: World) -> None:
    seen: list[set[str]] = []

    def second(rows: Any) -> list[str]:
        seen.append({row["id"] for row in rows})
        assert all({"id", "endpoint", "response_ms", "availability", "open"} <= row.keys() for row in rows)
        return ["two"]

    with Client.connect(home=world.node.home) as mesh:
        for choice in ("one", "two"):
            chosen = mesh.options(choose=lambda _rows, choice=choice: [choice])
            assert {chosen.detailed(NAME, (1,))[1]["provider"] for _ in range(4)} == {choice}
        assert mesh.options(choose=second).detailed(NAME, (1,))[1]["provider"] == "two"
    with Client.connect(world.face.url, token=world.face.admin) as mesh:
        assert {mesh.options(choose=second).detailed(NAME, (1,))[1]["node"] for _ in range(4)} == {"two"}
    assert seen[0] == {"one", "two"}


async def test_awaited(world: World) -> None:
    async with await AsyncMesh.connect(home=world.node.home) as mesh:
        assert await mesh.call(NAME, 2) == 7
        assert (await mesh.resolve(NAME)).source == "folder"
        assert [row["name"] for row in await mesh.registry.find("far/*")] == [NAME]
        assert (await mesh.registry.resolve(NAME, explain=True))["why"]
        assert await mesh.options(choose=lambda _rows: ["two"]).call(NAME, 1) == 6


def test_over_a_client_link(world: World) -> None:
    token = world.node.run("token", "create", "--role", "client").out.strip()
    with Client.connect(token) as mesh:
        _answers(mesh)
        assert mesh.resolve(NAME).source == "folder"


def test_over_http(world: World) -> None:
    with Client.connect(world.face.url, token=world.face.admin) as mesh:
        _answers(mesh)
        assert mesh.resolve(NAME).providers[0]["id"] in {"one", "two"}
        assert [row["name"] for row in mesh.registry.find("far/*")] == [NAME]
        assert mesh.registry.resolve(NAME, explain=True)["why"]
    face = world.face
    assert face.post(f"/v1/call/{NAME}", {"args": [2], "kwargs": {"b": 1}}).json == 3
    assert face.post(f"/v1/call/{NAME}", {"args": []}).status == 400
    assert face.post("/v1/call/far/none", {"args": []}).status == 404
    answer = face.post(f"/v1/call/{NAME}", {"args": [2]}, headers={"Osiris-Providers": "two, unknown"})
    assert (answer.json, answer.headers["Osiris-Node"]) == (7, "two")
    assert face.get(f"/v1/resolve/{NAME}").json["source"] == "folder"
    made = face.post(f"/v1/map/{NAME}", {"items": [1, 2]})
    assert [row["result"] for row in made.json["results"]] == [6, 7]
    # Who may call other functions may not call this one.
    few = make_token(world.node.home, "few", ["function.call:near/*"])
    assert face.post(f"/v1/call/{NAME}", {"args": [2]}, token=few).status == 403
    assert face.get(f"/v1/resolve/{NAME}", token=few).status == 403


def test_over_grpc(world: World) -> None:
    grpc = pytest.importorskip("grpc")
    from osiris_mesh.gateway.grpc import osiris_pb2 as pb  # noqa: PLC0415 - an extra
    from osiris_mesh.gateway.grpc.osiris_pb2_grpc import OsirisStub  # noqa: PLC0415

    bearer = (("authorization", f"Bearer {world.face.admin}"),)
    with grpc.insecure_channel(world.node.report["grpc"]) as channel:
        stub = OsirisStub(channel)
        value = pb.Value(integer=2)
        reply = stub.Call(pb.CallRequest(name=NAME, values=pb.Arguments(args=[value])), metadata=bearer, timeout=20)
        assert reply.value.integer == 7
        assert stub.Call(pb.CallRequest(name=NAME, json=b'{"args": [3]}'), metadata=bearer, timeout=20).json == b"8"
        assert stub.Resolve(pb.ResolveRequest(name=NAME), metadata=bearer, timeout=20).version == "1.2.0"


def test_from_inside_a_function(world: World) -> None:
    assert world.face.post("/v1/functions", {"source": INSIDE, "name": "near/twice"}).status == 200
    with Client.connect(home=world.node.home) as mesh:
        assert mesh.call("near/twice", 4) == 8
        assert mesh.resolve("near/twice").source == "local"


def test_what_the_ids_of_providers_are_is_checked(world: World) -> None:
    with Client.connect(home=world.node.home) as mesh, pytest.raises(UsageError):
        mesh.registry.find("far/*", limit=0)
    answer = world.face.post(
        f"/v1/call/{NAME}", {"args": [2]}, headers={"Osiris-Providers": ",".join(f"p{at}" for at in range(65))}
    )
    assert answer.status == 400
