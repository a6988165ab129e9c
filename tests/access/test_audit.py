"""The audit trail: who, what, when, from where."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from osiris_mesh.access import audit
from osiris_mesh.access.audit import Filter, Trail, events, read_filter
from osiris_mesh.access.sight import Sight
from osiris_mesh.errors import UsageError
from osiris_mesh.identity.keys import KeyPair
from osiris_mesh.identity.peer_id import peer_id
from osiris_mesh.ledger.chain import Chain
from osiris_mesh.ledger.kinds import (
    ApiTokenCreate,
    ApiTokenRevoke,
    Body,
    ConfigSet,
    ContainerFunctions,
    FunctionActivate,
    FunctionPublish,
    MemberRemove,
    RoleSet,
    UserAdd,
    UserRemove,
    UserUpdate,
)
from osiris_mesh.ledger.permissions import Grants
from osiris_mesh.ledger.principal import Principal
from osiris_mesh.ledger.search import Search
from osiris_mesh.ledger.state import State
from tests.ledger.kit import (
    ADMIN,
    DEVELOPER,
    FOUNDER,
    JOINER,
    OPERATOR,
    STRANGER,
    TOKEN,
    VIEWER,
    Paper,
    key,
    spec,
)

API = key("api")


class Shelf:
    """A stored chain with its state, as the trail wants it."""

    def __init__(self, folder: Path, paper: Paper) -> None:
        self.paper = paper
        self.chain = Chain(folder)
        self.chain.append(paper.blocks)

    @property
    def state(self) -> State:
        state: State = self.paper.state
        return state

    @property
    def search(self) -> Search:
        return Search(self.chain.path)

    async def all(self, **asked: Any) -> list[dict[str, Any]]:
        """Return every event, through as many pages as it takes."""
        found: list[dict[str, Any]] = []
        wanted = Filter(**asked)
        while True:
            page = await Trail(self).page(wanted)
            found += page.events
            if page.next is None:
                return found
            assert wanted.before is None or page.next < wanted.before
            wanted = Filter(**{**asked, "before": page.next})

    async def kinds(self, **asked: Any) -> list[str]:
        return [event["kind"] for event in await self.all(**asked)]


def history() -> Paper:
    """A mesh with a day of changes, one hour apart."""
    paper = Paper().begin()
    hour: list[tuple[Body, KeyPair]] = [
        (FunctionPublish(spec("team-a/add", "1.0.0", b"d" * 32).to_wire()), DEVELOPER),
        (FunctionActivate("team-a/add", "1.0.0"), DEVELOPER),
        (ContainerFunctions([["team-a/add", "1.0.0", 1]]), FOUNDER),
        (ConfigSet("invoke.max_retries", "3"), OPERATOR),
        (ConfigSet("invoke.max_retries", "4"), VIEWER),
        (RoleSet("ci", ["function.call:team-a/*"]), ADMIN),
        (UserAdd(key("john").public, "john", "ci"), ADMIN),
        (ApiTokenCreate(API.public, OPERATOR.public, "pipeline", ["config.write"], 1 << 50), OPERATOR),
        (ConfigSet("log.level", "debug"), API),
        (ApiTokenRevoke(API.public), ADMIN),
        (UserUpdate(key("john").public, "johnny", "viewer"), ADMIN),
        (UserRemove(key("john").public), ADMIN),
        (ConfigSet("a.b", "1"), STRANGER),
    ]
    for body, author in hour:
        paper.clock.advance(3600)
        paper.put(body, author)
    paper.clock.advance(3600)
    paper.token()
    paper.must(paper.join(), FOUNDER)
    paper.must(MemberRemove(peer_id(JOINER.public)), ADMIN)
    paper.command([b"noise", paper.entry(ConfigSet("z", "1"), OPERATOR).bytes], proposer=FOUNDER)
    return paper


@pytest.fixture
async def shelf(tmp_path: Path) -> AsyncIterator[Shelf]:
    shelf = Shelf(tmp_path, history())
    yield shelf
    shelf.chain.close()


async def test_an_event_says_who_what_when_and_from_where(shelf: Shelf) -> None:
    (event,) = await shelf.all(subject="log.level")
    block = next(block for block in shelf.paper.blocks if block.height == event["height"])
    assert event == {
        "time_ms": block.header.time_ms,
        "height": block.height,
        "index": block.header.first,
        "hash": block.hashes[0].hex(),
        "node": "node-0",
        "node_id": peer_id(FOUNDER.public),
        "kind": "config.set",
        "subject": "log.level",
        "subject_id": "",
        "summary": "log.level = debug",
        "accepted": True,
        "code": "",
        "reason": "",
        "who": "pipeline",
        "who_kind": "api_token",
        "owner": "operator",
        "author": API.public.hex(),
    }


async def test_all_of_it_newest_first_but_what_nodes_say_of_themselves(shelf: Shelf) -> None:
    found = await shelf.all()
    indices = [event["index"] for event in found]
    assert indices == sorted(indices, reverse=True)
    entries = sum(block.header.count for block in shelf.paper.blocks)
    assert len(found) == entries - 1
    assert found[-1]["kind"] == "genesis"
    assert found[1]["kind"] == ""
    assert (found[1]["code"], found[1]["who"]) == ("malformed", "")
    assert await shelf.kinds(kind="container.functions") == ["container.functions"]


@pytest.mark.parametrize(
    ("asked", "kinds"),
    [
        ({"user": "developer"}, ["function.activate", "function.publish"]),
        ({"user": "operator"}, ["config.set", "config.set", "apitoken.create", "config.set"]),
        ({"user": OPERATOR.public.hex(), "kind": "config."}, ["config.set"] * 3),
        ({"user": "pipeline"}, ["config.set"]),
        ({"user": API.public.hex()}, ["config.set"]),
        ({"user": STRANGER.public.hex()}, ["config.set"]),
        ({"user": "nobody"}, []),
        ({"kind": "function."}, ["function.activate", "function.publish"]),
        ({"kind": "user.*"}, ["user.remove", "user.update", "user.add", "user.add", "user.add", "user.add"]),
        ({"kind": "user.add", "limit": 1}, ["user.add"] * 4),
        ({"accepted": False}, ["", "config.set", "config.set"]),
        ({"accepted": False, "user": "viewer"}, ["config.set"]),
        ({"subject": "team-a/add"}, ["function.activate", "function.publish"]),
        ({"subject": "team-a/*"}, ["function.activate", "function.publish"]),
        ({"subject": "invoke.max_retries"}, ["config.set", "config.set"]),
        ({"subject": "invoke.*", "accepted": True}, ["config.set"]),
        ({"subject": "johnny"}, ["user.remove", "user.update"]),
        ({"subject": "john*"}, ["user.remove", "user.update", "user.add"]),
        ({"subject": key("john").public.hex()}, ["user.remove", "user.update", "user.add"]),
        ({"subject": key("john").public.hex()[:16]}, ["user.remove", "user.update", "user.add"]),
        ({"subject": key("john").public.hex()[:5] + "*"}, ["user.remove", "user.update", "user.add"]),
        ({"subject": "pipeline"}, ["apitoken.revoke", "apitoken.create"]),
        ({"subject": "joiner"}, ["member.remove", "member.add"]),
        ({"subject": peer_id(JOINER.public)}, ["member.remove", "member.add"]),
        ({"subject": TOKEN.public.hex()[:16]}, ["token.create"]),
        ({"subject": "ci"}, ["role.set"]),
        ({"subject": "node-0", "kind": "container.functions"}, ["container.functions"]),
        ({"subject": "nothing"}, []),
    ],
)
@pytest.mark.parametrize("rows", [1, 256])
async def test_filters(
    shelf: Shelf, monkeypatch: pytest.MonkeyPatch, asked: dict[str, Any], kinds: list[str], rows: int
) -> None:
    monkeypatch.setattr(audit, "_ROWS", rows)
    assert await shelf.kinds(**asked) == kinds


async def test_times_and_cursors_are_found(shelf: Shelf) -> None:
    blocks = shelf.paper.blocks
    everything = await shelf.all()
    for since, until in ((0, None), (None, 1 << 50), (4, 9), (9, 4), (1 << 50, None), (None, 0)):
        since_ms = blocks[since].header.time_ms if since is not None and since < 20 else since
        until_ms = blocks[until].header.time_ms if until is not None and until < 20 else until
        expected = [
            event
            for event in everything
            if (since_ms is None or event["time_ms"] >= since_ms) and (until_ms is None or event["time_ms"] < until_ms)
        ]
        assert await shelf.all(since_ms=since_ms, until_ms=until_ms) == expected
    for limit in (1, 2, 7):
        assert await shelf.all(limit=limit) == everything
    for before in range(22):
        page = await Trail(shelf).page(Filter(before=before, limit=1000))
        assert [event["index"] for event in page.events] == [
            event["index"] for event in everything if event["index"] < before
        ]


async def test_bounds_of_a_page_lose_nothing(shelf: Shelf, monkeypatch: pytest.MonkeyPatch) -> None:
    everything = await shelf.all()
    monkeypatch.setattr(audit, "_WINDOW", 3)
    for name, value in (("_MAX_DECODED", 1), ("_PAGE_SECONDS", -1.0), ("_BYTES", 1), ("_ROWS", 2)):
        with monkeypatch.context() as narrower:
            narrower.setattr(audit, name, value)
            assert await shelf.all() == everything
            assert await shelf.kinds(kind="role.set") == ["role.set"]


async def test_an_empty_chain_has_no_events(tmp_path: Path) -> None:
    shelf = Shelf(tmp_path, Paper())
    page = await Trail(shelf).page(Filter())
    shelf.chain.close()
    assert (page.events, page.next) == ((), None)


def test_events_of_one_block_are_a_pure_view() -> None:
    paper = history()
    block = paper.blocks[-1]
    assert [event["subject"] for event in events(block, paper.state, Filter())] == ["z", ""]
    assert list(events(block, paper.state, Filter(before=block.header.first))) == []


@pytest.mark.parametrize("limit", [1, 3, 1000])
async def test_who_is_narrowed_learns_nothing_of_other_functions(shelf: Shelf, limit: int) -> None:
    sight = Sight(Principal("user", grants=Grants(["audit.read", "function.read:team-b/*"])))
    found: list[dict[str, Any]] = []
    before: int | None = None
    while True:
        page = await Trail(shelf).page(Filter(limit=limit, before=before), sight.entry)
        found += page.events
        if page.next is None:
            break
        before = page.next
    assert not any("team-a" in str(event) for event in found)
    kinds = {event["kind"] for event in await shelf.all()} - {event["kind"] for event in found}
    assert kinds == {"function.publish", "function.activate", "role.set"}
    # Nor by asking for it.
    for asked in ({"subject": "team-a/add"}, {"kind": "function."}, {"subject": "ci"}):
        assert (await Trail(shelf).page(Filter(**asked), sight.entry)).events == ()
    whole = Sight(Principal("user", grants=Grants(["function.call"])))
    assert list((await Trail(shelf).page(Filter(), whole.entry)).events) == await shelf.all()


@pytest.mark.parametrize(
    "asked",
    [
        {"kind": "user.fly"},
        {"kind": "usr."},
        {"limit": 0},
        {"limit": 1001},
        {"limit": "1"},
        {"user": 1},
        {"accepted": 1},
        {"since_ms": 1.5},
        {"before": True},
    ],
)
def test_filters_that_are_none(asked: dict[str, Any]) -> None:
    with pytest.raises(UsageError):
        read_filter(asked)


def test_a_filter_is_read_from_a_request() -> None:
    assert read_filter({}) == Filter()
    assert read_filter({"user": "ada", "refused": True, "limit": 5, "before": None, "more": 1}) == Filter(
        user="ada", accepted=False, limit=5
    )
    assert read_filter({"refused": False}) == Filter()
