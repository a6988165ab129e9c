"""One mesh's ledger is another mesh's registry, and what the command line asks of registries is asked over HTTP."""

from __future__ import annotations

import tempfile
from base64 import b64encode
from collections.abc import Iterator
from hashlib import sha256
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from osiris_mesh.identity.keys import KeyPair
from osiris_mesh.ledger.kinds import UserAdd
from tests.http.client import Face
from tests.http.tokens import make_token, role_token, submit, user_token
from tests.system.harness import Mesh, Node, wait_until

pytestmark = pytest.mark.system

SOURCE = '''def add(a: int, b: int = 5) -> int:
    """Add two numbers."""
    return a + b
'''
TREE = "/v1/registry/tree"
FILE = f"{TREE}/ns/_/math/add.jsonl"


class World(SimpleNamespace):
    """A mesh whose ledger is a registry, one that asks it, and a registry in a folder for both."""

    theirs: Node
    ours: Node
    face: Face
    ask: Face
    source: Path
    folder: Path
    pin: str


@pytest.fixture(scope="module")
def world() -> Iterator[World]:
    with tempfile.TemporaryDirectory(prefix="om-", ignore_cleanup_errors=True) as folder:
        place = Path(folder)
        (place / "a").mkdir()
        (place / "b").mkdir()
        meshes = Mesh(place / "a"), Mesh(place / "b")
        try:
            theirs, ours = (mesh.init("--http", "127.0.0.1:0") for mesh in meshes)
            faces = [
                Face(node.report["http"], node.home, {"admin": role_token(node.home, "admin")})
                for node in (theirs, ours)
            ]
            source = place / "math" / "add.py"
            source.parent.mkdir()
            source.write_text(SOURCE)
            pin = theirs.ok("registry", "init", "--to", "ledger:", "--key", "owner")["pin"]
            yield World(
                theirs=theirs, ours=ours, face=faces[0], ask=faces[1], source=source, folder=place / "tree", pin=pin
            )
        finally:
            for mesh in meshes:
                mesh.close()


def published(world: World, version: str, to: str = "ledger:", *words: str) -> Any:
    return world.theirs.ok(
        "registry", "publish", str(world.source), "--to", to, "--key", "owner", "--version", version, *words
    )


def token_file(world: World, name: str, grants: list[str]) -> str:
    path = world.folder.with_name(name)
    path.write_text(make_token(world.theirs.home, name, grants))
    path.chmod(0o600)
    return str(path)


def test_another_mesh_reads_it_publishes_to_it_and_is_kept_to_its_token(world: World) -> None:
    published(world, "1.0.0")
    url = world.face.url + TREE
    reader = token_file(world, "reader", ["function.read"])
    world.ours.ok("registry", "add", "theirs", url, "--pin", world.pin, "--token-file", reader)
    found = world.ours.ok("registry", "resolve", "math/add")
    assert (found["version"], found["source"]) == ("1.0.0", "theirs")

    # Whoever holds the owner's key and a token publishes through the gateway; the entry is the token's.
    writer = token_file(world, "writer", ["function.read", "registry.publish"])
    published(world, "1.1.0", url, "--token-file", writer)
    world.ours.ok("registry", "sync", "theirs")
    assert world.ours.ok("registry", "resolve", "math/add")["version"] == "1.1.0"

    refused = world.theirs.run(
        *("registry", "publish", str(world.source), "--to", url, "--key", "owner", "--version", "1.2.0"),
        *("--token-file", reader, "--json"),
    )
    assert refused.code == 5, refused.out
    # A right to these names is enough; one to others is none to these: the ledger itself says so.
    mine = token_file(world, "mine", ["function.read", "registry.publish:math/*"])
    published(world, "1.1.1", url, "--token-file", mine)
    other = token_file(world, "other", ["function.read", "registry.publish:text/*"])
    denied = world.theirs.run(
        *("registry", "publish", str(world.source), "--to", url, "--key", "owner", "--version", "1.2.0"),
        *("--token-file", other, "--json"),
    )
    assert denied.code == 5, denied.out
    world.ours.ok("registry", "sync", "theirs")
    assert world.ours.ok("registry", "resolve", "math/add")["version"] == "1.1.1"


def test_a_publication_that_was_overtaken_is_409_and_changes_nothing(world: World) -> None:
    published(world, "1.3.0")
    before = world.face.get(FILE)
    batch = {
        "message": "again",
        "files": {"ns/_/math/add.jsonl": b64encode(before.body).decode()},
        "expected": {"ns/_/math/add.jsonl": sha256(b"older").hexdigest()},
    }
    answer = world.face.ask("PUT", TREE, batch)
    assert (answer.status, answer.json["details"]["reason"]) == (409, "moved")
    batch["expected"] = {"ns/_/math/add.jsonl": sha256(before.body).hexdigest()}
    assert world.face.ask("PUT", TREE, batch).status == 200
    assert world.face.get(FILE).body == before.body
    assert world.face.ask("PUT", TREE, batch | {"files": {"../x": ""}}).status == 400


def test_a_file_that_did_not_change_is_304(world: World) -> None:
    published(world, "1.4.0")
    first = world.face.get(f"{TREE}/index.json")
    tag = first.headers["ETag"]
    assert first.status == 200
    assert world.face.get(f"{TREE}/index.json", headers={"If-None-Match": tag}).status == 304
    published(world, "1.5.0")
    wait_until(
        lambda: world.face.get(f"{TREE}/index.json", headers={"If-None-Match": tag}).status == 200,
        seconds=10,
        what="the new index",
    )
    assert world.face.get(f"{TREE}/ns/_/math/none.jsonl").status == 404
    assert world.face.get(f"{TREE}/nothing").status == 404


def test_who_is_narrowed_reads_his_own_names_alone(world: World) -> None:
    published(world, "1.6.0")
    user = KeyPair.generate()
    submit(world.theirs.home, UserAdd(user.public, "narrowed", "viewer"))
    mine = user_token(world.theirs.home, user, "mine", ["function.read:math/*"])
    other = user_token(world.theirs.home, user, "not-mine", ["function.read:text/*"])
    assert world.face.get(FILE, token=mine).status == 200
    assert world.face.get(FILE, token=other).status == 403
    for path in (f"{TREE}/index.json", f"{TREE}/ns/_/_keys.json"):
        assert world.face.get(path, token=mine).status == 403
        assert world.face.get(path).status == 200
    assert world.face.get(f"{TREE}/checkpoint", token=other).status == 200


def test_a_nodes_registries_are_kept_over_http(world: World) -> None:
    published(world, "1.7.0")
    ask = world.ask
    folder = f"file://{world.folder}"
    # Nothing of the machine is named over HTTP.
    for url in (folder, f"FILE://{world.folder}", f"git+FILE://{world.folder}"):
        refused = ask.post("/v1/registries", {"name": "mine", "url": url})
        assert (refused.status, "machine" in refused.json["detail"]) == (400, True)
    assert ask.post("/v1/registries", {"name": "m", "url": "https://x", "token_file": "/etc/passwd"}).status == 400
    pin = world.theirs.ok("registry", "init", "--to", folder, "--key", "owner")["pin"]
    published(world, "1.0.0", folder, "--namespace", "text", "--provider", "eu=https://eu.example.com/v1/call/{name}")
    world.ours.ok("registry", "add", "folder", folder, "--pin", pin, "--route", "text/*")
    rows = ask.get("/v1/registries").json["registries"]
    row = next(row for row in rows if row["name"] == "folder")
    assert (row["kind"], row["ok"], row["routes"]) == ("folder", True, ["text/*"])
    assert all("token_file" not in row["options"] for row in rows)

    found = ask.get("/v1/registry/resolve/text/add?explain=true").json
    assert (found["version"], found["source"]) == ("1.0.0", "folder")
    assert found["providers"][0]["id"] == "eu"
    assert found["why"]
    assert ask.get("/v1/registry/resolve/text/add?context=nonsense").status == 400
    assert ask.get("/v1/registry/resolve/text/none").status == 404
    history = ask.get("/v1/registry/records/text/add").json
    assert (history["source"], len(history["statements"])) == ("folder", 1)
    assert "text/add" in [row["name"] for row in ask.get("/v1/registry/names").json["names"]]
    assert ask.get("/v1/registry/names?pattern=math/*").status == 200
    assert ask.get("/v1/registry/evidence").json == {"evidence": []}
    assert ask.get("/v1/registry/usage").json == {"usage": []}
    assert ask.post("/v1/registry/sync", {"registry": "folder"}).json["registries"][0]["name"] == "folder"

    # What he may not know of he is not told.
    user = KeyPair.generate()
    submit(world.ours.home, UserAdd(user.public, "few", "viewer"))
    few = user_token(world.ours.home, user, "few", ["function.read:math/*", "mesh.read"])
    assert [row["name"] for row in ask.get("/v1/registry/names?pattern=text/*", token=few).json["names"]] == []
    seen = ask.get("/v1/registries", token=few)
    assert b"text/*" not in seen.body
    assert ask.get("/v1/registry/resolve/text/add", token=few).status == 403

    names = [row["name"] for row in rows]
    turned = ask.ask("PUT", "/v1/registries", {"names": ["folder"]}).json["registries"]
    assert [row["name"] for row in turned] == ["folder", *(name for name in names if name != "folder")]
    assert ask.ask("PUT", "/v1/registries", {"names": ["none"]}).status == 404
    assert ask.ask("DELETE", "/v1/registries/folder").json == {"name": "folder", "removed": True}
    assert ask.ask("DELETE", "/v1/registries/folder").status == 404


def test_a_registry_without_a_token_is_added_over_http(world: World) -> None:
    # The ledger of the node's own mesh takes nothing of its machine.
    made = world.face.post("/v1/registries", {"name": "own", "url": "ledger:", "pin": world.pin})
    assert made.status == 200, made
    assert (made.json["registry"]["kind"], made.json["registry"]["pin"]) == ("ledger", world.pin)
    assert world.face.ask("DELETE", "/v1/registries/own").status == 200
    # Where nobody is asked, what the mesh does not have is nowhere.
    assert world.face.get("/v1/registries").json == {"registries": []}
    assert world.face.get("/v1/registry/resolve/math/none").status == 404


def test_what_is_no_publication_is_400(world: World) -> None:
    answer = world.face.ask("PUT", TREE, {"message": "", "files": {"config.json": "%"}, "expected": {}})
    assert answer.status == 400
