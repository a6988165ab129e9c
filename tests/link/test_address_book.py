"""Addresses of peers and when to try them again."""

from __future__ import annotations

from osiris_mesh.identity.keys import KeyPair
from osiris_mesh.identity.multiaddr import Multiaddr
from osiris_mesh.identity.peer_id import peer_id
from osiris_mesh.link.address_book import AddressBook

PEER, OTHER = (peer_id(KeyPair(bytes([number]) * 32).public) for number in (1, 2))


def at(port: int, peer: str = PEER) -> Multiaddr:
    return Multiaddr("192.0.2.1", port, peer)


def test_new_addresses_come_first_and_what_worked_before_them() -> None:
    book = AddressBook(0.1, 5.0)
    book.learn(PEER, [at(1), at(2)])
    book.learn(PEER, [at(3), at(1), at(3, "")])
    assert book.addresses(PEER) == [at(3), at(1), at(2)]
    book.succeeded(PEER, at(2))
    assert book.addresses(PEER) == [at(2), at(3), at(1)]
    book.succeeded(PEER, None)
    assert book.addresses(PEER) == [at(2), at(3), at(1)]
    assert book.addresses(OTHER) == []


def test_addresses_of_other_peers_are_passed_over() -> None:
    book = AddressBook(0.1, 5.0)
    book.learn(PEER, [at(1, OTHER), at(2, "")])
    assert book.addresses(PEER) == [at(2)]


def test_a_peer_is_known_by_its_place_if_it_is_alone_there() -> None:
    book = AddressBook(0.1, 5.0)
    book.learn(PEER, [at(1), at(2)])
    book.learn(OTHER, [at(2, OTHER)])
    assert book.peer_at("192.0.2.1", 1) == PEER
    assert book.peer_at("192.0.2.1", 2) == ""
    assert book.peer_at("192.0.2.1", 3) == ""


def test_waits_double_up_to_the_longest_and_end_with_success() -> None:
    book = AddressBook(0.1, 0.5)
    waits = []
    for _ in range(5):
        book.failed(PEER, 100.0, "no route")
        waits.append(round(book.waiting(PEER, 100.0)[0], 3))
    assert waits == [0.1, 0.2, 0.4, 0.5, 0.5]
    assert book.waiting(PEER, 100.3) == (book.waiting(PEER, 100.3)[0], "no route")
    assert book.waiting(PEER, 100.5) == (0.0, "")
    book.failed(PEER, 200.0, "no route")
    book.succeeded(PEER, None)
    assert book.waiting(PEER, 200.0) == (0.0, "")
    book.failed(PEER, 300.0, "no route")
    assert round(book.waiting(PEER, 300.0)[0], 3) == 0.1


def test_a_new_address_is_worth_a_try_at_once_an_old_one_is_not() -> None:
    book = AddressBook(0.1, 5.0)
    book.learn(PEER, [at(1)])
    book.failed(PEER, 0.0, "no route")
    book.learn(PEER, [at(1)])
    assert book.waiting(PEER, 0.0)[0] > 0
    book.learn(PEER, [at(2)])
    assert book.waiting(PEER, 0.0) == (0.0, "")


def test_it_is_bounded() -> None:
    book = AddressBook(0.1, 5.0)
    for number in range(5000):
        book.learn(f"peer {number}", [Multiaddr("192.0.2.1", 1)])
    assert book.addresses("peer 0") == []
    assert book.addresses("peer 4999")
    book.learn(PEER, [at(port) for port in range(100)])
    assert len(book.addresses(PEER)) == 16
