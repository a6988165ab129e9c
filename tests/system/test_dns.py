"""A function of a real mesh, asked for as DNS asks."""

from __future__ import annotations

import socket
from pathlib import Path

import dns.message
import dns.query
import dns.rcode
import pytest

from tests.system.harness import Mesh, wait_until, write_function

pytestmark = pytest.mark.system


def ask(address: str, name: str, kind: str) -> dns.message.Message:
    host, _, port = address.rpartition(":")
    return dns.query.udp_with_fallback(dns.message.make_query(name, kind), host, timeout=5, port=int(port))[0]


def test_a_deployed_function_has_a_name_in_dns_until_it_is_removed(mesh: Mesh, tmp_path: Path) -> None:
    source = write_function(tmp_path, "sharpen", "def sharpen(data: str) -> str:\n    return data\n")
    node = mesh.init("--dns", "127.0.0.1:0", "--node-name", "Big_Box")
    status = node.status()
    address = status["dns"]
    assert ask(address, "sharpen.image-processing.mesh", "SRV").rcode() == dns.rcode.NXDOMAIN
    node.ok("deploy", str(source), "--namespace", "image-processing")
    port = int(status["listen"][0].split("/")[4])

    def found() -> bool:
        reply = ask(address, "sharpen.image-processing.mesh", "SRV")
        rows = [str(record) for rrset in reply.answer for record in rrset]
        return len(rows) == 1 and rows[0].endswith(f" {port} big-box.node.mesh.")

    wait_until(found, what="the function's place in DNS")
    addresses = ask(address, "big-box.node.mesh", "A")
    assert [str(record) for rrset in addresses.answer for record in rrset] == ["127.0.0.1"]
    text = str(ask(address, "sharpen.image-processing.mesh", "TXT").answer[0])
    assert '"name=image-processing/sharpen"' in text
    http = ask(address, "_http._tcp.sharpen.image-processing.mesh", "SRV")
    assert str(http.answer[0][0]).endswith(f" {status['http'].rpartition(':')[2]} big-box.node.mesh.")
    node.ok("remove", "image-processing/sharpen")
    wait_until(
        lambda: ask(address, "sharpen.image-processing.mesh", "SRV").rcode() == dns.rcode.NXDOMAIN,
        what="the name is gone",
    )
    # The chosen port is kept, so that a resolver can be told once.
    node.ok("stop")
    node.launch("start")
    assert node.status()["dns"] == address


def test_the_default_port_gives_way_and_off_is_off(mesh: Mesh) -> None:
    node = mesh.init("--dns", "off")
    assert node.status()["dns"] is None
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as taken:
        taken.bind(("127.0.0.1", 0))
        other = mesh.home()
        refused = other.run(
            "init",
            "--detach",
            "--listen",
            "127.0.0.1:0",
            "--no-mdns",
            "--http",
            "off",
            "--dns",
            f"127.0.0.1:{taken.getsockname()[1]}",
        )
        assert refused.code == 2
        assert "--dns" in refused.err
