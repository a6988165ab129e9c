"""No method, port or socket answers without credentials."""

from __future__ import annotations

import os
import re
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from osiris_mesh.errors import Denied, OsirisError
from osiris_mesh.identity.keys import KeyPair
from osiris_mesh.identity.multiaddr import Multiaddr
from osiris_mesh.ledger.kinds import FunctionRemove
from osiris_mesh.link import BlockingLink, Hello
from osiris_sdk import Mesh as Client
from tests.http.tokens import sign
from tests.system.harness import Mesh, Node, wait_until

pytestmark = pytest.mark.system
ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def node() -> Iterator[Node]:
    with tempfile.TemporaryDirectory(prefix="om-", ignore_cleanup_errors=True) as folder:
        mesh = Mesh(Path(folder))
        try:
            yield mesh.init()
        finally:
            mesh.close()


def methods(node: Node) -> dict[str, list[str]]:
    with Client.connect(home=node.home) as client:
        found: dict[str, list[str]] = client.request("node.methods")["methods"]
    assert len(found) > 20
    return found


def stranger(node: Node, network_key: bytes) -> BlockingLink:
    """A link of somebody nobody knows."""
    address = Multiaddr.parse(node.report["listen"][0])
    hello = Hello(bytes.fromhex(node.report["mesh_id"]), role="joiner")
    return BlockingLink.tcp(address, KeyPair.generate(), network_key, hello, timeout=5)


def network_key(node: Node) -> bytes:
    return bytes.fromhex((node.home / "keys" / "network.key").read_text().strip())


def test_a_stranger_with_the_network_key_may_present_himself_and_nothing_else(node: Node) -> None:
    served = methods(node)
    assert [name for name, audiences in served.items() if "joiner" in audiences] == ["join.present"]
    with stranger(node, network_key(node)) as link:
        for name in served:
            if name != "join.present":
                with pytest.raises(Denied, match="joiner"):
                    link.call(name, b"\x80", timeout=5)


def test_a_client_has_what_is_about_functions_and_nothing_else(node: Node) -> None:
    token = node.run("token", "create", "--role", "client").out.strip()
    allowed = {name for name, audiences in methods(node).items() if "client" in audiences}
    deploying = {"function.build", "function.change", "function.deploy"}
    assert allowed == {"call", "resolve", "function.list", "function.describe"} | deploying
    with Client.connect(token) as client, pytest.raises(OsirisError):
        client.request("node.status")


def test_a_client_without_a_grant_deploys_nothing(node: Node) -> None:
    token = node.run("token", "create", "--role", "client", "--grant", "none").out.strip()
    body = {"files": {"f.py": b"def f(): pass"}, "name": "d/f"}
    entry = sign(node.home, FunctionRemove("d/f", ""))
    with Client.connect(token) as client:
        assert client.request("function.list")["functions"] == []
        with pytest.raises(Denied):
            client.request("function.build", body)
        # What the home's own user has signed is not the client's to send.
        with pytest.raises(Denied):
            client.request("function.change", {"entries": [entry]})
    with_grant = node.run("token", "create", "--role", "client", "--grant", "developer").out.strip()
    with Client.connect(with_grant) as client, pytest.raises(Denied, match="itself"):
        client.request("function.change", {"entries": [entry]})


def test_nobody_answers_without_the_network_key(node: Node) -> None:
    with pytest.raises(OsirisError):
        stranger(node, bytes(32))


@pytest.mark.parametrize("sent", [b"GET / HTTP/1.1\r\nHost: x\r\n\r\n", b"\0" * 64, os.urandom(64), b"\xff" * 100_000])
def test_what_is_no_handshake_gets_not_one_byte(node: Node, sent: bytes) -> None:
    address = Multiaddr.parse(node.report["listen"][0])
    with socket.create_connection((address.host, address.port), timeout=10) as connection:
        received = b""
        try:
            connection.sendall(sent)
            received = connection.recv(100)
        except ConnectionError:
            pass
    assert received == b""
    assert node.status()["state"] == "ready"


def test_who_says_nothing_is_hung_up_on(node: Node) -> None:
    address = Multiaddr.parse(node.report["listen"][0])
    with socket.create_connection((address.host, address.port), timeout=10) as connection:
        assert connection.recv(1) == b""


def test_a_datagram_from_a_stranger_is_not_answered(node: Node) -> None:
    address = Multiaddr.parse(node.report["listen"][0])
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as datagrams:
        datagrams.settimeout(0.5)
        for size in (0, 1, 40, 200, 1400):
            datagrams.sendto(os.urandom(size), (address.host, address.port))
        with pytest.raises(TimeoutError):
            datagrams.recv(2048)


def test_only_the_known_ports_are_open(node: Node) -> None:
    inodes = set()
    for descriptor in Path(f"/proc/{node.pid}/fd").iterdir():
        match = re.fullmatch(r"socket:\[(\d+)\]", str(descriptor.readlink()))
        if match:
            inodes.add(match[1])
    listening = set()
    for table, state in (("tcp", "0A"), ("tcp6", "0A"), ("udp", "07"), ("udp6", "07")):
        for line in Path(f"/proc/{node.pid}/net/{table}").read_text().splitlines()[1:]:
            fields = line.split()
            if fields[3] == state and fields[9] in inodes:
                listening.add((table[:3], int(fields[1].rpartition(":")[2], 16)))
    port = Multiaddr.parse(node.report["listen"][0]).port
    web = int(node.report["http"].rpartition(":")[2])
    assert listening == {("tcp", port), ("udp", port), ("tcp", web)}


def test_the_homes_files_are_its_owners_alone(node: Node) -> None:
    for path in [node.home, *node.home.rglob("*")]:
        inside = path.relative_to(node.home).parts
        if path.is_symlink() or (
            inside[:1] == ("run",) and len(inside) > 1 and inside[1].startswith(("kit", "functions"))
        ):
            continue
        assert path.stat().st_mode & 0o077 == 0, path


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become somebody else")
def test_another_user_of_the_machine_can_not_use_the_socket(node: Node) -> None:
    code = (
        "import os, socket, sys\n"
        "os.setgroups([]); os.setgid(65534); os.setuid(65534)\n"
        "s = socket.socket(socket.AF_UNIX)\n"
        "try: s.connect(sys.argv[1])\n"
        "except PermissionError: sys.exit(42)\n"
    )
    done = subprocess.run([sys.executable, "-c", code, str(node.home / "run" / "node.sock")], check=False)
    assert done.returncode == 42


def test_a_removed_client_is_cut_within_a_second(node: Node) -> None:
    made = node.ok("token", "create", "--role", "client")
    with Client.connect(made["token"]) as client:
        with pytest.raises(OsirisError, match="nothing"):
            client.call("lab/nothing")
        node.ok("token", "revoke", made["id"])

        def refused() -> bool:
            try:
                client.call("lab/nothing")
            except OsirisError as error:
                return error.code != "not_found"
            return False

        wait_until(refused, seconds=1.0, what="the client refused")


def test_the_documented_table_of_methods_is_the_served_one(node: Node) -> None:
    text = (ROOT / "docs" / "methods.md").read_text("utf-8")
    documented = {
        match[1]: match[2].split(", ")
        for match in re.finditer(r"^\| `([a-z._]+)` \| ([a-z, ]+) \|", text, re.MULTILINE)
    }
    assert documented == methods(node)
