"""Another mesh: its ledger's registry read over HTTP, its functions called through records, in three ways."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.system.harness import Mesh, Node
from tests.system.registry_kit import NAME, Publisher

pytestmark = pytest.mark.system


def http_of(node: Node) -> str:
    return str(node.report["http"])


def secret(path: Path, text: str) -> str:
    path.touch(mode=0o600)
    path.write_text(text)
    return str(path)


def test_another_mesh_is_a_registry_and_a_provider(mesh: Mesh, tmp_path: Path) -> None:
    publisher = Publisher(tmp_path)
    theirs, ours = mesh.init("--http", "127.0.0.1:0"), mesh.init()
    theirs.ok("deploy", f"{publisher.source}::add", "--name", NAME)
    bearer = theirs.ok("apitoken", "create", "--grant", "function.read", "--grant", "function.call")["token"]
    client = theirs.ok("token", "create", "--role", "client")["token"]
    url, peer = http_of(theirs).rstrip("/"), theirs.status()["peer_id"]
    port = url.rpartition(":")[2]

    # Their registry is the one in their ledger; who answers is said by its records.
    begun = theirs.ok("registry", "init", "--to", "ledger:", "--key", "owner")
    to = ("--to", "ledger:", "--key", "owner")
    for version, provider in (("1.0.0", f"lab={url}/v1/call/{{name}}"), ("1.1.0", f"peer=mesh://{peer}")):
        theirs.ok("registry", "publish", str(publisher.source), *to, "--version", version, "--provider", provider)
    token = secret(tmp_path / "bearer", bearer)
    ours.ok("registry", "add", "theirs", f"{url}/v1/registry/tree", "--pin", begun["pin"], "--token-file", token)
    shown = ours.ok("registry", "show", NAME)
    theirs.ok("registry", "add", "ledger", "ledger:", "--pin", begun["pin"])
    assert shown["statements"] == theirs.ok("registry", "show", NAME)["statements"]
    assert ours.ok("registry", "resolve", NAME)["version"] == "1.1.0"

    # An address on this machine is nobody's provider unless the mesh says so; and nothing is shown to who is not named.
    closed = ours.run("call", f"{NAME}@1.0.0", "2", "3")
    assert closed.code != 0
    ours.ok("config", "set", "registry.allow_networks", "loopback")
    assert ours.run("call", f"{NAME}@1.0.0", "2", "3").code == 5
    place = ("--token-file", token)
    ours.ok("registry", "credential", "set", "lab", "--origin", url, *place)
    for name in ("127.0.0.1", "tools"):
        ours.ok("registry", "credential", "set", name, "--origin", f"mcp://127.0.0.1:{port}", *place)
    link = secret(tmp_path / "client", client)
    ours.ok("registry", "credential", "set", "peer", "--origin", f"mesh://{peer}", "--token-file", link)
    for version in ("1.0.0", "1.1.0"):
        answer = ours.run("call", f"{NAME}@{version}", "2", "3")
        assert (answer.code, answer.out.strip()) == (0, "5"), answer.err
    wrong = ours.run("call", f"{NAME}@1.0.0", '"x"', "3", "--json")
    assert wrong.code != 0, wrong.out
    pure = ours.run("call", f"{NAME}@1.0.0", "2", "3", "--context", "pure")
    assert pure.code == 5, pure.out

    # Tools of their MCP server, pinned to what they say of themselves, in a registry of ours.
    pytest.importorskip("mcp")
    mine = f"file://{tmp_path}/mine"
    pin = ours.ok("registry", "init", "--to", mine, "--key", "owner")["pin"]
    words = ("--publish-as", "tools", "--only", "math__add", "--to", mine, "--key", "owner")
    there = f"mcp://127.0.0.1:{port}/mcp"
    found = ours.ok("registry", "discover", there, "--provider", f"tools={there}", *words)
    ours.ok("registry", "add", "mine", mine, "--pin", pin)
    (name,) = (row["name"] for row in ours.ok("registry", "find", "tools/*")["names"])
    answer = ours.run("call", name, "--kwargs", json.dumps({"a": 2, "b": 3}))
    assert (answer.code, answer.out.strip()) == (0, "5"), f"{answer.err}\n{found}"
    usage = {row["provider"]: row for row in ours.ok("registry", "usage")["usage"]}
    assert {"lab", "peer"} <= usage.keys()
