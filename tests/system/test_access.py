"""Roles, API tokens and the audit trail on real nodes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from osiris_mesh.access.policy import Policy
from osiris_mesh.clock import SYSTEM
from osiris_mesh.errors import Denied
from osiris_mesh.identity.keys import KeyPair
from osiris_mesh.ledger.entry import Entry
from osiris_mesh.ledger.kinds import ApiTokenCreate, Body, ConfigSet, RoleSet, UserUpdate
from osiris_sdk import Mesh as Client
from tests.system.harness import Mesh, Node, wait_until

pytestmark = pytest.mark.system


def user_key(node: Node) -> KeyPair:
    return KeyPair.load(node.home / "keys" / "user.key")


def put(node: Node, body: Body, author: KeyPair) -> dict[str, Any]:
    """Have an entry applied; return its outcome."""
    with Client.connect(home=node.home) as client:
        mesh_id = bytes.fromhex(client.request("node.status")["mesh_id"])
        entry = Entry.make(body.KIND, body.body(), author, mesh_id, SYSTEM)
        answer = client.request("ledger.submit", {"entries": [entry.bytes], "timeout_ms": 10_000})
    outcome: dict[str, Any] = answer["outcomes"][0]
    return outcome


def ask(node: Node, method: str, **body: Any) -> Any:
    with Client.connect(home=node.home) as client:
        return client.request(method, body)


def test_a_client_with_a_custom_role_calls_what_its_grants_cover(mesh: Mesh, tmp_path: Path) -> None:
    node = mesh.init()
    source = tmp_path / "double.py"
    source.write_text("def double(x: int) -> int:\n    return 2 * x\n")
    for namespace in ("team-a", "team-b"):
        node.ok("deploy", str(source), "--namespace", namespace)
    made = node.ok("token", "create", "--role", "client", "--grant", "developer")
    key = next(token["key"] for token in ask(node, "token.list")["tokens"] if token["id"] == made["id"])
    admin = user_key(node)
    with Client.connect(made["token"]) as client:
        assert client.call("team-a/double", 2) == 4
        assert client.call("team-b/double", 2) == 4
        assert put(node, RoleSet("team-a", ["function.call:team-a/*"]), admin)["accepted"]
        assert put(node, UserUpdate(key, "pipeline", "team-a"), admin)["accepted"]
        assert client.call("team-a/double", 3) == 6
        with pytest.raises(Denied):
            client.call("team-b/double", 3)
        # One who may look but not call.
        assert put(node, UserUpdate(key, "pipeline", "viewer"), admin)["accepted"]
        with pytest.raises(Denied, match="may not call"):
            client.call("team-a/double", 3)


def test_an_api_token_signs_for_its_owner_on_every_node_and_the_trail_says_so(mesh: Mesh) -> None:
    nodes = mesh.form(3)
    admin = user_key(nodes[0])
    _, key = Policy.make_token()
    expires = SYSTEM.time_ms() + 3_600_000
    created = ApiTokenCreate(key.public, admin.public, "pipeline", ["config.write"], expires)
    assert put(nodes[0], created, admin)["accepted"]
    assert put(nodes[1], ConfigSet("log.level", "debug"), key)["accepted"]
    refused = put(nodes[2], RoleSet("mine", ["config.write"]), key)
    assert (refused["accepted"], refused["code"]) == (False, "role")
    (token,) = ask(nodes[1], "apitoken.list")["tokens"]
    assert (token["name"], token["grants"], token["revoked"]) == ("pipeline", ["config.write"], False)
    assert "admin" in {role["name"] for role in ask(nodes[1], "role.list")["roles"]}

    def trail() -> bool:
        # Each node answers from its own copy, the same.
        answers = [ask(node, "audit.list", user="pipeline", accepted=True)["events"] for node in nodes]
        assert answers[0] == answers[1] == answers[2]
        rows = [(event["kind"], event["subject"], event["accepted"], event["who"]) for event in answers[0]]
        assert rows == [("config.set", "log.level", True, "pipeline")]
        assert {event["owner"] for event in answers[0]} == {"admin"}
        assert all(event["node"] for event in answers[0])
        return True

    wait_until(trail, what="the same trail on every node")
    first = ask(nodes[0], "audit.list", limit=1)
    assert len(first["events"]) == 1
    assert ask(nodes[0], "audit.list", limit=1, before=first["next"])["events"][0]["index"] < first["next"]
