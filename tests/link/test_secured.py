"""Handshake, box stream and session as pure cores, two ends back to back."""

from __future__ import annotations

import itertools
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from nacl import bindings

from osiris_mesh.errors import Conflict, LocalProtocolError, RemoteProtocolError
from osiris_mesh.identity.keys import KeyPair
from osiris_mesh.identity.multiaddr import Multiaddr
from osiris_mesh.identity.peer_id import peer_id
from osiris_mesh.link.boxstream import BIG_BODY, SMALL_BODY, BoxOpener, BoxSealer, make_boxes
from osiris_mesh.link.handshake import ClientHandshake, ServerHandshake, SessionKeys, make_hello
from osiris_mesh.link.hello import BIG_BODIES, Facts, Hello, keep
from osiris_mesh.link.session import Session, State

A, B, C = (KeyPair(bytes([number]) * 32) for number in (1, 2, 3))
K = bytes(range(32))
EA, EB = b"a" * 32, b"b" * 32
MESH = b"m" * 16


def shaken() -> tuple[SessionKeys, SessionKeys]:
    client, server = ClientHandshake(A, K, B.public, EA), ServerHandshake(B, K, EB)
    proof = client.receive_hello(server.receive_hello(client.hello()))
    assert server.receive_auth(proof) == A.public
    accept, server_keys = server.accept()
    return client.receive_accept(accept), server_keys


def test_both_ends_come_to_the_same_keys() -> None:
    client, server = shaken()
    assert client.send_key == server.receive_key
    assert client.receive_key == server.send_key
    assert client.send_nonce == server.receive_nonce
    assert client.receive_nonce == server.send_nonce
    assert client.send_key != client.receive_key


def test_keys_stay_out_of_reprs() -> None:
    keys, _ = shaken()
    sealer, opener = make_boxes(keys)
    for secret in (keys.send_key, keys.receive_key):
        assert secret.hex() not in repr((keys, sealer, opener)) + str(keys)
        assert repr(secret) not in repr((keys, sealer, opener))


def test_another_network_key_gets_no_answer() -> None:
    with pytest.raises(RemoteProtocolError):
        ServerHandshake(B, K, EB).receive_hello(ClientHandshake(A, b"k" * 32, B.public, EA).hello())


def test_a_reflected_challenge_is_refused() -> None:
    client = ClientHandshake(A, K, B.public, EA)
    with pytest.raises(RemoteProtocolError, match="came back"):
        client.receive_hello(client.hello())
    server = ServerHandshake(B, K, EA)
    with pytest.raises(RemoteProtocolError, match="came back"):
        server.receive_hello(client.hello())


def test_a_low_order_challenge_is_refused() -> None:
    with pytest.raises(RemoteProtocolError):
        ServerHandshake(B, K, EB).receive_hello(make_hello(K, bytes(32)))


def test_a_client_that_expects_another_server_is_not_understood() -> None:
    client, server = ClientHandshake(A, K, C.public, EA), ServerHandshake(B, K, EB)
    proof = client.receive_hello(server.receive_hello(client.hello()))
    with pytest.raises(RemoteProtocolError):
        server.receive_auth(proof)


def test_a_server_without_the_key_can_not_accept() -> None:
    client, server = ClientHandshake(A, K, B.public, EA), ServerHandshake(C, K, EB)
    client.receive_hello(server.receive_hello(client.hello()))
    with pytest.raises(RemoteProtocolError):
        client.receive_accept(bytes(80))


@settings(max_examples=60, deadline=None)
@given(step=st.integers(0, 3), position=st.integers(0, 111), bit=st.integers(0, 7))
def test_one_flipped_bit_anywhere_in_the_handshake_ends_it(step: int, position: int, bit: int) -> None:
    client, server = ClientHandshake(A, K, B.public, EA), ServerHandshake(B, K, EB)

    def flip(message: bytes, at: int) -> bytes:
        if at != step:
            return message
        place = position % len(message)
        return message[:place] + bytes([message[place] ^ (1 << bit)]) + message[place + 1 :]

    with pytest.raises(RemoteProtocolError):  # noqa: PT012 - any of the steps may be the one that refuses
        answer = server.receive_hello(flip(client.hello(), 0))
        proof = client.receive_hello(flip(answer, 1))
        server.receive_auth(flip(proof, 2))
        accept, _ = server.accept()
        client.receive_accept(flip(accept, 3))


# box stream


def boxes() -> tuple[BoxSealer, BoxOpener]:
    client, server = shaken()
    return make_boxes(client)[0], make_boxes(server)[1]


def seal(sealer: BoxSealer, *data: bytes) -> bytes:
    return b"".join(sealer.seal(data))


def drain(opener: BoxOpener) -> bytes:
    return b"".join(iter(opener.next_body, None))  # type: ignore[arg-type]


@settings(max_examples=40, deadline=None)
@given(st.lists(st.binary(max_size=10_000), max_size=5), st.sampled_from([1, 33, 34, 35, 1000, 1 << 20]))
def test_what_is_sealed_opens_however_it_is_cut(parts: list[bytes], chunk: int) -> None:
    if chunk == 1:
        parts = [part[:100] for part in parts]
    sealer, opener = boxes()
    wire = b"".join(seal(sealer, part) for part in parts) + sealer.goodbye()
    opened = b""
    for start in range(0, len(wire), chunk):
        assert not opener.ended
        opener.feed(wire[start : start + chunk])
        opened += drain(opener)
    assert opened == b"".join(parts)
    assert opener.ended
    opener.check_end()


def test_packet_layout_is_the_reference_one() -> None:
    sealer = BoxSealer(b"k" * 32, bytes(23) + b"\xff")
    packet = seal(sealer, b"hello")
    first, second = bytes(23) + b"\xff", bytes(22) + b"\x01\x00"
    boxed = bindings.crypto_secretbox_easy(b"hello", second, b"k" * 32)
    assert packet == bindings.crypto_secretbox_easy(b"\x00\x05" + boxed[:16], first, b"k" * 32) + boxed[16:]
    assert len(packet) == 34 + 5


def test_small_buffers_share_a_packet_and_large_ones_fill_theirs() -> None:
    sealer, opener = boxes()
    wire = seal(sealer, b"a" * 10, b"", b"b" * 5000, b"c" * 3182, b"d")
    assert len(wire) == 3 * 34 + 10 + 5000 + 3182 + 1
    opener.feed(wire)
    assert drain(opener) == b"a" * 10 + b"b" * 5000 + b"c" * 3182 + b"d"


def test_the_nonce_wraps_as_24_bytes() -> None:
    sealer, opener = BoxSealer(b"k" * 32, b"\xff" * 24), BoxOpener(b"k" * 32, b"\xff" * 24)
    opener.feed(seal(sealer, b"one") + seal(sealer, b"two"))
    assert drain(opener) == b"onetwo"


def test_bodies_are_4096_bytes_until_told_otherwise() -> None:
    sealer, opener = boxes()
    assert len(seal(sealer, bytes(SMALL_BODY + 1))) == 2 * 34 + SMALL_BODY + 1
    sealer, opener = boxes()
    sealer.max_body = BIG_BODY
    opener.feed(seal(sealer, bytes(BIG_BODY)))
    with pytest.raises(RemoteProtocolError, match="packet of 65535"):
        opener.next_body()


@pytest.mark.parametrize("damage", ["replay", "swap", "flip header", "flip body", "cut"])
def test_replayed_swapped_changed_and_cut_packets_do_not_open(damage: str) -> None:
    sealer, opener = boxes()
    one, two = seal(sealer, b"first"), seal(sealer, b"second")
    wire = {
        "replay": one + one,
        "swap": two + one,
        "flip header": bytes([one[0] ^ 1]) + one[1:],
        "flip body": one[:-1] + bytes([one[-1] ^ 1]),
        "cut": one[:20] + two,
    }[damage]
    opener.feed(wire)
    with pytest.raises(RemoteProtocolError):
        drain(opener)


def test_an_end_without_goodbye_is_a_cut() -> None:
    sealer, opener = boxes()
    opener.feed(seal(sealer, b"half"))
    assert drain(opener) == b"half"
    with pytest.raises(RemoteProtocolError, match="cut"):
        opener.check_end()


def test_nothing_follows_goodbye() -> None:
    sealer, opener = boxes()
    opener.feed(sealer.goodbye() + b"x")
    with pytest.raises(RemoteProtocolError):
        opener.next_body()
    for say in (sealer.goodbye, lambda: seal(sealer, b"x")):
        with pytest.raises(LocalProtocolError):
            say()


# session


def sessions(
    *, admit: bool = True, client: Hello | None = None, server: Hello | None = None
) -> tuple[Session, Session]:
    ours = Session.client(A, K, B.public, EA, lambda: client or Hello(MESH, name="a"))
    theirs = Session.server(B, K, EB, lambda: server or Hello(MESH, name="b"), lambda key: admit and key == A.public)
    ours.start()
    theirs.start()
    return ours, theirs


def exchange(one: Session, other: Session, chunk: int = 1 << 20) -> tuple[bytes, bytes]:
    got = {id(one): b"", id(other): b""}
    while one.outgoing or other.outgoing:
        for source, target in ((one, other), (other, one)):
            wire = b"".join(source.outgoing)
            source.outgoing.clear()
            for start in range(0, len(wire), chunk):
                got[id(target)] += target.receive(wire[start : start + chunk])
    return got[id(one)], got[id(other)]


@pytest.mark.parametrize("chunk", [1, 63, 64, 65, 1 << 20])
def test_a_session_opens_whatever_the_chunks(chunk: int) -> None:
    one, other = sessions()
    exchange(one, other, chunk)
    assert one.state is other.state is State.OPEN
    assert one.peer_hello is not None
    assert other.peer_hello is not None
    assert (one.peer_hello.name, other.peer_hello.name) == ("b", "a")
    assert other.peer_key == A.public
    one.outgoing += [bytes(packet) for packet in one.seal([b"x" * 100_000, b"y"])]
    assert exchange(one, other, chunk)[1] == b"x" * 100_000 + b"y"
    other.outgoing.append(other.goodbye())
    exchange(one, other, chunk)
    assert one.said_goodbye


def test_who_is_not_admitted_gets_no_message_4() -> None:
    one, other = sessions(admit=False)
    with pytest.raises(RemoteProtocolError, match="not admitted"):
        exchange(one, other)
    assert other.outgoing == []
    assert other.state is State.BROKEN
    assert other.goodbye() == b""


@pytest.mark.parametrize("silent", ["client", "server"])
def test_big_bodies_only_if_both_say_so(silent: str) -> None:
    one, other = sessions(**{silent: Hello(MESH, features=())})  # type: ignore[arg-type]
    exchange(one, other)
    assert len(b"".join(one.seal([bytes(BIG_BODY)]))) > BIG_BODY + 34 * 2
    one, other = sessions()
    exchange(one, other)
    assert len(b"".join(one.seal([bytes(BIG_BODY)]))) == BIG_BODY + 34


@pytest.mark.parametrize("size", [0, 8193, 1 << 31])
def test_a_hello_of_impossible_size_ends_the_session(size: int) -> None:
    one, other = sessions()
    for receiver, sender in ((other, one), (one, other), (other, one)):
        for message in sender.outgoing[:1]:
            receiver.receive(message)
        sender.outgoing = sender.outgoing[1:]
    one.receive(b"".join(other.outgoing))
    # Box a length with the nonces the client's HELLO, never sent, would have used.
    sealer = one._sealer
    assert sealer is not None
    forged = seal(BoxSealer(sealer._key, (sealer._nonce - 2).to_bytes(24, "big")), size.to_bytes(4, "big"))
    with pytest.raises(RemoteProtocolError, match="a HELLO of"):
        other.receive(forged)


# HELLO


ADDRESS = Multiaddr("127.0.0.1", 7411, peer_id(A.public))


def test_hello_round_trip() -> None:
    hello = Hello(MESH, role="follower", name="n", addresses=(ADDRESS,), features=("x", BIG_BODIES), serial=1 << 60)
    assert Hello.from_wire(hello.to_wire()) == hello


@pytest.mark.parametrize(
    "wrong",
    [
        {"mesh_id": b"short"},
        {"role": "king"},
        {"name": "n" * 65},
        {"lowest": 0},
        {"lowest": 3, "highest": 2},
        {"serial": -1},
        {"features": (5,)},
        {"software": 1},
    ],
)
def test_hello_with_a_wrong_item_is_refused(wrong: dict[str, object]) -> None:
    with pytest.raises(RemoteProtocolError):
        Hello.from_wire(replace(Hello(MESH), **wrong).to_wire())  # type: ignore[arg-type]


@given(st.binary(max_size=80))
@settings(max_examples=80)
def test_hello_of_garbage_is_refused(data: bytes) -> None:
    with pytest.raises(RemoteProtocolError):
        Hello.from_wire(data)


def test_another_mesh_and_another_age_are_said_clearly() -> None:
    with pytest.raises(Conflict, match="another mesh"):
        Hello(MESH).check(Hello(b"x" * 16))
    with pytest.raises(Conflict, match="protocols 7 to 9"):
        Hello(MESH).check(Hello(MESH, lowest=7, highest=9))


# which of two links stays


def verdicts(x1: int, x2: int, y1: int, y2: int, *, first_at_x: int, first_at_y: int) -> tuple[int, int]:
    """Link 1 was dialled by X (serials x1 there, y1 at Y), link 2 by Y (x2, y2). Which one each end keeps."""
    at_x = {1: Facts(True, x1, y1), 2: Facts(False, x2, y2)}  # noqa: FBT003 - dialled
    at_y = {1: Facts(False, y1, x1), 2: Facts(True, y2, x2)}  # noqa: FBT003 - dialled
    result = []
    for facts, first, lower in ((at_x, first_at_x, True), (at_y, first_at_y, False)):
        second = 3 - first
        stays, _ = keep(facts[first], facts[second], lower=lower)
        result.append(second if stays else first)
    return result[0], result[1]


def test_both_ends_keep_the_same_link() -> None:
    # X dials 1 (serial x1) and accepts 2 (x2), in either order; likewise Y. An accept comes after the dial it accepts.
    for first_at_x, first_at_y in itertools.product((1, 2), repeat=2):
        crossed = verdicts(1, 2, 2, 1, first_at_x=first_at_x, first_at_y=first_at_y)
        assert crossed == (1, 1)  # dialled by X, whose key is lower
        redialled_by_x = verdicts(2, 1, 2, 1, first_at_x=first_at_x, first_at_y=first_at_y)
        assert redialled_by_x == (1, 1)
        redialled_by_y = verdicts(1, 2, 1, 2, first_at_x=first_at_x, first_at_y=first_at_y)
        assert redialled_by_y == (2, 2)


def test_of_two_links_by_one_dialler_the_later_dialled_stays() -> None:
    assert keep(Facts(True, 5, 1), Facts(True, 6, 2), lower=True) == (True, False)  # noqa: FBT003
    assert keep(Facts(True, 6, 1), Facts(True, 5, 2), lower=True) == (False, False)  # noqa: FBT003
    assert keep(Facts(False, 1, 5), Facts(False, 2, 6), lower=True) == (True, False)  # noqa: FBT003
