"""The node's small shells over links in memory: Raft's messages, redialling, announcing what runs."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable

import pytest

from osiris_mesh.clock import SYSTEM
from osiris_mesh.errors import Unavailable
from osiris_mesh.identity.keys import KeyPair
from osiris_mesh.ledger.entry import Entry
from osiris_mesh.ledger.kinds import ContainerFunctions
from osiris_mesh.ledger.outcome import ACCEPTED, Receipt
from osiris_mesh.link import Audience
from osiris_mesh.link.memory import MeshNode, mesh
from osiris_mesh.node import announcer
from osiris_mesh.node.announcer import Announcer
from osiris_mesh.node.linker import Linker
from osiris_mesh.node.raft_links import RaftLinks


async def until(probe: Callable[[], bool], seconds: float = 10.0) -> None:
    async with asyncio.timeout(seconds):
        while not probe():
            await asyncio.sleep(0.005)


class Receiver:
    def __init__(self) -> None:
        self.messages: list[tuple[str, bytes]] = []
        self.events: list[tuple[str, str]] = []

    def deliver(self, peer: str, message: bytes) -> None:
        self.messages.append((peer, message))

    def peer_up(self, peer: str) -> None:
        self.events.append(("up", peer))

    def peer_down(self, peer: str) -> None:
        self.events.append(("down", peer))


def carrier(node: MeshNode, voters: Callable[[str], bool] = lambda _peer: True) -> tuple[RaftLinks, Receiver]:
    receiver = Receiver()
    links = RaftLinks(node.router, asyncio.get_running_loop(), voters)
    links.attach(receiver)
    for peer in node.links.peers():
        link = node.links.get(peer)
        assert link is not None
        links.link_up(link)
    node.links.on_up(links.link_up)
    node.links.on_down(links.link_down)
    return links, receiver


async def test_messages_arrive_whole_and_in_order_from_any_thread() -> None:
    async with mesh(2) as (one, other):
        (sending, _), (receiving, heard) = carrier(one), carrier(other)
        sizes = [0, 1, 70_000, 3, 1_200_000, 5]
        sent = [bytes([number]) * size for number, size in enumerate(sizes)]

        def from_a_thread() -> None:
            for message in sent:
                sending.send(other.links.peer, message)

        try:
            await until(lambda: ("up", other.links.peer) in _events(sending))
            await asyncio.to_thread(from_a_thread)
            await until(lambda: len(heard.messages) == len(sent))
            assert heard.messages == [(one.links.peer, message) for message in sent]
        finally:
            await sending.close()
            await receiving.close()


async def test_who_does_not_vote_has_nothing_to_say_to_raft() -> None:
    async with mesh(2) as (one, other):
        voters = {one.links.peer}
        (sending, news), (receiving, heard) = carrier(one), carrier(other, voters.__contains__)
        try:
            await until(lambda: ("up", other.links.peer) in news.events)
            sending.send(other.links.peer, b"as a voter")
            await until(lambda: bool(heard.messages))
            voters.clear()
            sending.send(other.links.peer, b"forged")
            # The refusal ends the stream; so does it each further one, before a message of it counts.
            await until(lambda: ("down", other.links.peer) in news.events)
            sending.send(other.links.peer, b"forged")
            await until(lambda: news.events.count(("down", other.links.peer)) > 1)
            assert heard.messages == [(one.links.peer, b"as a voter")]
        finally:
            await sending.close()
            await receiving.close()


def _events(links: RaftLinks) -> list[tuple[str, str]]:
    receiver = links._receiver
    assert isinstance(receiver, Receiver)
    return receiver.events


async def test_a_lost_link_is_told_and_so_is_the_next() -> None:
    async with mesh(2) as (one, other):
        (sending, told), (receiving, heard) = carrier(one), carrier(other)
        try:
            await until(lambda: ("up", other.links.peer) in told.events)
            one.network.cut(one.host, other.host)
            await until(lambda: ("down", other.links.peer) in told.events)
            told.events.clear()
            await one.links.to(other.links.peer)
            await until(lambda: ("up", other.links.peer) in told.events)
            sending.send(other.links.peer, b"again")
            await until(lambda: (one.links.peer, b"again") in heard.messages)
        finally:
            await sending.close()
            await receiving.close()


async def test_a_peer_that_does_not_know_us_yet_is_asked_again() -> None:
    async with mesh(2) as (one, other):
        other.admitted[one.key.public] = Audience.JOINER
        other.links.recheck()
        (sending, _), (receiving, heard) = carrier(one), carrier(other)
        try:
            await until(lambda: ("down", other.links.peer) in _events(sending))
            other.admitted[one.key.public] = Audience.MEMBER
            other.links.recheck()

            def arrived() -> bool:
                sending.send(other.links.peer, b"now")
                return (one.links.peer, b"now") in heard.messages

            await until(arrived)
        finally:
            await sending.close()
            await receiving.close()


async def test_members_without_a_link_are_dialled_until_they_answer() -> None:
    async with mesh(3, connected=False) as nodes:
        one, others = nodes[0], nodes[1:]
        one.network.part([one.host], [others[1].host])
        linker = Linker(one.links, lambda: [node.links.peer for node in others], SYSTEM, random.Random(1))
        async with asyncio.TaskGroup() as group:
            task = group.create_task(linker.run())
            await until(lambda: one.links.get(others[0].links.peer) is not None)
            assert one.links.get(others[1].links.peer) is None
            one.network.heal()
            linker.look()
            await until(lambda: one.links.get(others[1].links.peer) is not None)
            task.cancel()


async def test_what_runs_is_recorded_once_it_has_settled(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(announcer, "_SETTLE_SECONDS", 0.01)
    monkeypatch.setattr(announcer, "_RETRY_SECONDS", 0.01)
    key, ledger, proposed = KeyPair.generate(), [()], []
    running = (("lab/add", "1.0.0", 2),)

    def make(rows: tuple[tuple[str, str, int], ...]) -> Entry:
        body = ContainerFunctions([list(row) for row in rows]).body()
        return Entry.make("container.functions", body, key, b"m" * 16, SYSTEM)

    async def propose(entries: list[bytes]) -> Receipt:
        proposed.append(Entry.parse(entries[0]).body)
        if len(proposed) == 1:
            raise Unavailable("no leader", maybe=False)
        ledger[0] = running
        return Receipt(2, (ACCEPTED,))

    shell = Announcer(lambda: running, lambda: ledger[0], make, propose)
    async with asyncio.TaskGroup() as group:
        task = group.create_task(shell.run())
        await until(lambda: ledger[0] == running)
        count = len(proposed)
        task.cancel()
    assert count == 2
    assert proposed[1] == [[["lab/add", "1.0.0", 2]]]
