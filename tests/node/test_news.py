"""What of a node's doings is news, in simulated time; members and deployments from a ledger on paper."""

from __future__ import annotations

import pytest

from osiris_mesh.gateway.events import EVENTS, Event
from osiris_mesh.gossip import PeerState
from osiris_mesh.identity.peer_id import peer_id
from osiris_mesh.ledger.kinds import FunctionActivate, FunctionPublish, FunctionRemove, MemberRemove
from osiris_mesh.node.news import News
from tests.ledger.kit import ADMIN, DEVELOPER, FOUNDER, JOINER, Paper, spec


def names(events: list[Event]) -> list[str]:
    for event in events:
        assert set(event.fields) == set(EVENTS[event.name].fields), event.name
    return [event.name for event in events]


def test_a_member_is_lost_once_and_back_once() -> None:
    news = News(0)
    seen = [
        names(news.peer("p", "n", state))
        for state in (
            PeerState.ALIVE,
            PeerState.SUSPECT,
            PeerState.ALIVE,
            PeerState.SUSPECT,
            PeerState.DEAD,
            PeerState.DEAD,
            PeerState.ALIVE,
            PeerState.ALIVE,
        )
    ]
    assert seen == [[], [], [], [], ["node.lost"], [], ["node.back"], []]


def test_who_left_is_neither_lost_nor_back() -> None:
    news = News(0)
    assert [names(news.peer("p", "n", state)) for state in (PeerState.LEFT, PeerState.ALIVE)] == [[], []]
    news.peer("p", "n", PeerState.DEAD)
    assert [names(news.peer("p", "n", state)) for state in (PeerState.LEFT, PeerState.ALIVE)] == [[], []]


def test_an_election_is_no_news_but_a_new_leader_is() -> None:
    news = News(0)
    assert names(news.leadership("a", 1, 1)) == []
    assert names(news.leadership("", 1, 10)) == []
    assert names(news.leadership("", 2, 14.9)) == []
    [event] = news.leadership("b", 2, 15)
    assert (event.name, dict(event.fields)) == ("leader.changed", {"leader": "b", "before": "a", "term": 2})
    assert names(news.leadership("b", 3, 16)) == []


def test_without_a_leader_for_long_the_quorum_is_lost_until_there_is_one() -> None:
    news = News(0)
    news.leadership("a", 1, 1)
    news.leadership("", 1, 10)
    assert names(news.leadership("", 1, 15)) == ["quorum.lost"]
    assert names(news.leadership("", 1, 60)) == []
    [event] = news.leadership("a", 4, 70)
    assert (event.name, event.fields["seconds"]) == ("quorum.back", 60)
    assert names(news.leadership("", 4, 80)) == []


def test_a_node_that_starts_without_a_majority_says_so() -> None:
    news = News(100)
    assert names(news.leadership("", 0, 104)) == []
    assert names(news.leadership("", 0, 105)) == ["quorum.lost"]


def test_what_starts_and_stops() -> None:
    news = News(0)
    assert names(news.running([("x/a", "1.0.0", 2), ("x/b", "1.0.0", 0)])) == ["function.started"]
    assert names(news.running([("x/a", "1.0.0", 1)])) == []
    both = news.running([("x/a", "1.0.1", 1)])
    assert [(event.name, event.fields["version"]) for event in both] == [
        ("function.started", "1.0.1"),
        ("function.stopped", "1.0.0"),
    ]


def test_a_full_queue_is_told_once_a_minute() -> None:
    news = News(0)
    told: dict[str, list[tuple[int, int]]] = {}
    for now in range(150):
        for event in news.refused({"x/a": now * 2, "": 1}, now):
            told.setdefault(event.fields["function"], []).append((now, event.fields["refused"]))
    assert told == {"": [(0, 1)], "x/a": [(1, 2), (61, 120), (121, 120)]}


def test_a_queue_counted_anew() -> None:
    news = News(0)
    news.refused({"x/a": 100}, 0)
    assert news.refused({}, 50) == []
    assert [event.fields["refused"] for event in news.refused({"x/a": 3}, 100)] == [3]


@pytest.fixture
def book() -> Paper:
    made = Paper().begin()
    made.token()
    return made


def last(news: News, book: Paper, late_ms: int = 0) -> list[Event]:
    return news.block(book.blocks[-1], book.state, book.clock.time_ms() + late_ms)


def test_deployments(book: Paper) -> None:
    news = News(0)
    news.know(book.state)
    for version in ("1.0.0", "1.0.1"):
        book.must(FunctionPublish(spec(version=version, digest=version.encode().ljust(32)).to_wire()), DEVELOPER)
        assert names(last(news, book)) == []
    seen = []
    for version in ("1.0.0", "1.0.1", "1.0.1", "1.0.0"):
        book.put(FunctionActivate("default/add", version), DEVELOPER)
        seen += [(event.name, event.fields["version"], event.fields["before"]) for event in last(news, book)]
    assert seen == [
        ("deploy.done", "1.0.0", None),
        ("deploy.done", "1.0.1", "1.0.0"),
        ("deploy.done", "1.0.0", "1.0.1"),
    ]
    book.must(FunctionRemove("default/add", ""), DEVELOPER)
    assert names(last(news, book)) == []


def test_members_come_and_go(book: Paper) -> None:
    news = News(0)
    news.know(book.state)
    book.must(book.join(name="n9"), FOUNDER)
    [event] = last(news, book)
    fields = {"peer": peer_id(JOINER.public), "node": "n9", "role": "voter", "height": book.blocks[-1].height}
    assert (event.name, dict(event.fields)) == ("member.added", fields)
    book.must(MemberRemove(peer_id(JOINER.public)), ADMIN)
    [event] = last(news, book)
    assert (event.name, event.fields["node"]) == ("member.removed", "n9")


def test_what_was_refused_or_is_history_is_no_news(book: Paper) -> None:
    news = News(0)
    news.know(book.state)
    assert not book.put(MemberRemove(peer_id(JOINER.public)), ADMIN).accepted
    assert last(news, book) == []
    book.must(FunctionPublish(spec().to_wire()), DEVELOPER)
    book.must(FunctionActivate("default/add", "1.0.0"), DEVELOPER)
    assert last(news, book, late_ms=61_000) == []
    # It was taken in all the same: the same once more changes nothing.
    assert news.block(book.blocks[-1], book.state, book.clock.time_ms()) == []
