"""The vectors in docs/protocol/link.md are what the code does; a second implementation may trust them."""

from __future__ import annotations

import re
from pathlib import Path

from osiris_mesh.errors import NotFound
from osiris_mesh.identity.keys import KeyPair
from osiris_mesh.identity.multiaddr import Multiaddr
from osiris_mesh.identity.peer_id import peer_id
from osiris_mesh.link import frames, mux
from osiris_mesh.link.boxstream import BoxSealer
from osiris_mesh.link.handshake import ClientHandshake, ServerHandshake
from osiris_mesh.link.hello import MAX_HELLO, Hello

DOCUMENT = Path(__file__).parents[2] / "docs" / "protocol" / "link.md"


def test_every_vector() -> None:
    text = DOCUMENT.read_text("utf-8")
    told = dict(re.findall(r"^(\w+): ([0-9a-f]+)$", text, re.MULTILINE))
    client_key, server_key = KeyPair(b"\x01" * 32), KeyPair(b"\x02" * 32)
    network_key = bytes(range(32))
    client = ClientHandshake(client_key, network_key, server_key.public, b"a" * 32)
    server = ServerHandshake(server_key, network_key, b"b" * 32)
    done: dict[str, bytes] = {"client_public": client_key.public, "server_public": server_key.public}
    done["message_1"] = client.hello()
    done["message_2"] = server.receive_hello(done["message_1"])
    done["message_3"] = client.receive_hello(done["message_2"])
    server.receive_auth(done["message_3"])
    done["message_4"], _ = server.accept()
    keys = client.receive_accept(done["message_4"])
    done |= {
        "client_send_key": keys.send_key,
        "client_receive_key": keys.receive_key,
        "client_send_nonce": keys.send_nonce,
        "client_receive_nonce": keys.receive_nonce,
        "packet_hello": b"".join(BoxSealer(keys.send_key, keys.send_nonce).seal([b"hello"])),
        "packet_goodbye": BoxSealer(keys.send_key, keys.send_nonce).goodbye(),
        "hello": Hello(
            bytes(range(16)),
            role="follower",
            name="n1",
            addresses=(Multiaddr("192.0.2.1", 7411, peer_id(client_key.public)),),
            software="0.1.0",
            serial=7,
        ).to_wire(),
        "open": frames.open_frame(
            1, frames.FLAG_END, "call", {"deadline_ms": 1500, "name": "default/add"}, b"\x92\x01\x02"
        ),
        "data": frames.data_frame(-1, frames.FLAG_END, b"\x03"),
        "end": frames.end_frame(1),
        "reset": frames.reset_frame(-1, NotFound("no such function", fix="deploy it")),
        "stop": frames.reset_frame(1, None),
        "credit": frames.credit_frame(1, 262_144),
        "ping": frames.ping_frame(1),
        "pong": frames.pong_frame(1),
    }
    assert told == {name: value.hex() for name, value in done.items()}


def test_every_bound_it_names() -> None:
    text = DOCUMENT.read_text("utf-8").replace(",", "")
    limits = mux.MuxLimits()
    for number in (frames.MAX_FRAME, frames.MAX_PIECE, frames.MAX_HEADERS, mux.WINDOW, MAX_HELLO, limits.streams):
        assert re.search(rf"\b{number}\b", text), number
    assert limits.message == (256 << 20) + (64 << 10)
    assert limits.buffered == 512 << 20
    assert limits.control == 4096
