"""Each way of not getting in is an error of its own, and leaves a home that can try again."""

from __future__ import annotations

import socket
from dataclasses import replace

import pytest

from osiris_mesh.codec import pack
from osiris_mesh.errors import Denied, NotFound, OsirisError
from osiris_mesh.identity.keys import KeyPair
from osiris_mesh.identity.token import Token
from osiris_mesh.ledger.kinds import admission
from osiris_mesh.link import BlockingLink, Hello
from tests.system.harness import Mesh, wait_until

pytestmark = pytest.mark.system
LOCAL = ("--listen", "127.0.0.1:0", "--no-mdns", "--preset", "local")


def test_a_spent_token_is_refused_and_a_fresh_one_works(mesh: Mesh) -> None:
    first = mesh.init("--name", "lab")
    token = first.run("token", "create").out.strip()
    second = mesh.home()
    joined = second.launch("join", token, *LOCAL)
    assert joined["mesh_id"] == first.report["mesh_id"]
    third = mesh.home()
    refused = third.run("join", token, *LOCAL, "--detach")
    assert refused.code == 5, refused.err
    assert "spent" in refused.err or "used" in refused.err
    fresh = first.run("token", "create").out.strip()
    third.launch("join", fresh, *LOCAL)
    wait_until(lambda: len(third.status()["members"]) == 3, what="three members seen by the third")


def test_an_expired_a_revoked_and_a_damaged_token(mesh: Mesh) -> None:
    first = mesh.init()
    node = mesh.home()
    good = Token.parse(first.run("token", "create").out.strip())
    old = replace(good, expires_ms=1).signed(KeyPair.load(first.home / "keys" / "user.key"))
    expired = node.run("join", old.text(), *LOCAL, "--detach")
    assert expired.code == 2, expired.err
    assert "expired" in expired.err
    made = first.ok("token", "create")
    first.ok("token", "revoke", made["id"])
    revoked = node.run("join", made["token"], *LOCAL, "--detach")
    assert revoked.code == 5, revoked.err
    assert "revoked" in revoked.err
    damaged = node.run("join", made["token"][:-5], *LOCAL, "--detach")
    assert damaged.code == 2
    assert "damaged" in damaged.err


def test_nobody_answers_at_the_tokens_addresses(mesh: Mesh) -> None:
    first = mesh.init()
    token = first.run("token", "create").out.strip()
    first.ok("stop")
    node = mesh.home()
    answer = node.run("join", token, *LOCAL, "--detach")
    assert answer.code == 6, answer.err
    assert not (node.home / "mesh.json").exists()


def test_a_token_of_another_mesh_at_this_address(mesh: Mesh) -> None:
    one, other = mesh.init(), mesh.init()
    token = other.run("token", "create").out.strip()
    joined = mesh.home()
    joined.launch("join", token, *LOCAL)
    assert joined.status()["mesh_id"] == other.report["mesh_id"] != one.report["mesh_id"]
    again = joined.run("join", one.run("token", "create").out.strip(), *LOCAL, "--detach")
    assert again.code == 2, again.err


def test_a_taken_port_and_a_home_in_use(mesh: Mesh) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        answer = mesh.home().run("init", "--listen", f"127.0.0.1:{port}", "--no-mdns", "--detach")
        assert answer.code == 2, answer.err
        assert str(port) in answer.err
    node = mesh.init()
    again = node.run("start", "--detach")
    assert again.code == 2, again.err
    assert "in use" in again.err


def test_join_alone_finds_nobody_and_does_not_make_a_mesh(mesh: Mesh) -> None:
    node = mesh.home()
    answer = node.run("join", "--no-mdns", "--listen", "127.0.0.1:0", "--detach")
    assert answer.code == 3, answer.err
    assert "init" in answer.err
    assert not (node.home / "mesh.json").exists()


def test_start_uses_what_init_was_told_and_the_port_it_chose(mesh: Mesh) -> None:
    node = mesh.init("--node-name", "alpha")
    listen = node.report["listen"]
    before = node.status()
    node.ok("stop")
    assert node.gone()
    node.launch("start")
    assert node.report["listen"] == listen
    after = node.status()
    assert after["peer_id"] == before["peer_id"]
    assert after["height"] >= before["height"]
    assert after["members"][0]["name"] == "alpha"


def test_leave_removes_the_member_everywhere(mesh: Mesh) -> None:
    nodes = mesh.form(3)
    leaver = nodes[2].status()["peer_id"]
    nodes[2].ok("leave")
    for node in nodes[:2]:
        wait_until(
            lambda node=node: all(member["peer_id"] != leaver for member in node.status()["members"]),
            what="the member gone",
        )
        wait_until(lambda node=node: sum(m["voter"] for m in node.status()["members"]) == 1, what="one voter of two")
    assert nodes[0].ok("config", "set", "max_retries", "3")


def test_a_removed_node_says_so_stops_working_and_can_leave(mesh: Mesh) -> None:
    first, _, third = mesh.form(3)
    peer = third.status()["peer_id"]
    first.ok("member", "remove", peer)
    wait_until(lambda: third.status()["state"] == "removed", what="the removed node knows")
    assert third.status()["quorum"] is False
    third.ok("leave")
    assert third.gone()
    fresh = first.run("token", "create").out.strip()
    third.launch("join", fresh, *LOCAL)
    assert third.status()["peer_id"] != peer


def test_who_can_not_tell_the_mesh_leaves_by_force(mesh: Mesh) -> None:
    nodes = mesh.form(3)
    for node in nodes[:2]:
        node.kill()
    refused = nodes[2].run("leave", "--timeout", "20s", timeout=60)
    assert refused.code == 6, refused.err
    assert "--force" in refused.err
    nodes[2].ok("leave", "--force")
    assert not (nodes[2].home / "mesh.json").exists()


def test_a_stranger_with_the_network_key_can_not_fill_the_ledger(mesh: Mesh) -> None:
    node = mesh.init()
    made = Token.parse(node.run("token", "create", "--role", "client").out.strip())
    address, height = made.members[0], node.status()["height"]
    for _ in range(3):
        stranger, token = KeyPair.generate(), KeyPair.generate()
        hello = Hello(made.mesh_id, role="joiner")
        wanted = admission(made.mesh_id, token=token, joiner=stranger, user=b"", name="x", addresses=[])
        with (
            BlockingLink.tcp(address, stranger, made.network_key, hello, timeout=5) as link,
            pytest.raises(Denied, match="unknown"),
        ):
            link.call("join.present", pack(wanted.body()), timeout=5)
    assert node.status()["height"] == height


def test_a_clients_token_expires_under_a_live_link(mesh: Mesh) -> None:
    node = mesh.init()
    made = Token.parse(node.run("token", "create", "--role", "client", "--ttl", "2s").out.strip())
    hello = Hello(made.mesh_id, role="client")
    with BlockingLink.tcp(made.members[0], made.key, made.network_key, hello, timeout=5) as link:
        with pytest.raises(NotFound):
            link.call("resolve", pack({"name": "lab/nothing"}), timeout=5)

        def cut() -> bool:
            try:
                link.call("resolve", pack({"name": "lab/nothing"}), timeout=5)
            except NotFound:
                return False
            except OsirisError:
                return True
            return False

        wait_until(cut, seconds=5, what="the client cut when its token expired")
