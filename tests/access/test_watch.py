"""What is open for long ends when its bearer may not any longer, and shows what he may now."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence

import pytest

from osiris_mesh.access.policy import Policy
from osiris_mesh.access.watch import Hold, Watch
from osiris_mesh.errors import Denied
from osiris_mesh.identity.keys import KeyPair
from osiris_mesh.ledger.kinds import ApiTokenCreate, ApiTokenRevoke, Body, ConfigSet, RoleSet, UserRemove, UserUpdate
from osiris_mesh.ledger.principal import Principal
from osiris_mesh.ledger.state import State
from tests.ledger.kit import ADMIN, CLIENT, DEVELOPER, HOUR, MESH, OPERATOR, Paper


class Timer:
    """A timer that goes off when it is told."""

    def __init__(self, due: float, callback: Callable[[], None]) -> None:
        self.due = due
        self.callback = callback
        self.cancelled = False

    def cancel(self) -> None:
        self.cancelled = True


class Desk:
    """A paper ledger with a policy and a watch, on fake time."""

    def __init__(self) -> None:
        self.paper = Paper().begin()
        self.policy = Policy(lambda: self.paper.state, self.paper.clock)
        self.timers: list[Timer] = []
        self.asked = 0
        self.watch = Watch(self.paper.clock, self._later)
        self.watch.on_block(None, self.paper.state)

    def _later(self, seconds: float, callback: Callable[[], None]) -> Timer:
        self.timers.append(Timer(self.paper.clock.monotonic() + seconds, callback))
        return self.timers[-1]

    @property
    def live(self) -> list[Timer]:
        return [timer for timer in self.timers if not timer.cancelled]

    def token(self, *grants: str, owner: KeyPair = DEVELOPER, ttl_ms: int = HOUR) -> tuple[str, KeyPair]:
        text, key = Policy.make_token()
        expires = self.paper.clock.time_ms() + ttl_ms
        self.must(ApiTokenCreate(key.public, owner.public, text[-8:], sorted(grants), expires), owner)
        return text, key

    def must(self, body: Body, author: KeyPair) -> None:
        self.paper.must(body, author)
        self.watch.on_block(None, self.paper.state)

    def pass_time(self, seconds: float) -> None:
        """Move the clock, and let every timer go off that is due by then."""
        self.paper.clock.advance(seconds)
        for timer in self.live:
            if timer.due <= self.paper.clock.monotonic():
                timer.cancelled = True
                timer.callback()

    def ask(self, text: str) -> Callable[[], Principal]:
        def ask() -> Principal:
            self.asked += 1
            principal = self.policy.bearer(text)
            if principal is None or not principal.may_some("function.logs"):
                raise Denied("no more")
            return principal

        return ask


class Stream:
    """A task that holds something open until it is ended."""

    def __init__(self, desk: Desk, text: str) -> None:
        self.hold = desk.watch.hold(desk.ask(text))
        self.task = asyncio.create_task(self._run(self.hold))

    @staticmethod
    async def _run(hold: Hold) -> None:
        async with hold:
            await asyncio.Event().wait()

    async def begun(self) -> Stream:
        await asyncio.sleep(0)
        return self

    async def ended(self) -> None:
        async with asyncio.timeout(5):
            with pytest.raises(Denied, match="no more"):
                await self.task

    async def stays(self) -> bool:
        """Say whether it is open after the loop has had turns enough for any cancellation to arrive."""
        for _ in range(5):
            await asyncio.sleep(0)
        return not self.task.done()

    async def cancel(self) -> None:
        self.task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await self.task


@pytest.fixture
def desk() -> Desk:
    return Desk()


async def test_a_revoked_token_ends_its_stream_and_no_other(desk: Desk) -> None:
    (one, key), (other, _) = desk.token("function.logs"), desk.token("function.logs")
    ends, stays = await Stream(desk, one).begun(), await Stream(desk, other).begun()
    desk.must(ApiTokenRevoke(key.public), DEVELOPER)
    await ends.ended()
    assert not ends.hold.principal.may("function.logs", "a/b")
    assert await stays.stays()
    assert desk.watch.holds == 1
    await stays.cancel()
    assert desk.watch.holds == 0


@pytest.mark.parametrize(
    "bodies",
    [
        [UserRemove(DEVELOPER.public)],
        [RoleSet("callers", ["function.call"]), UserUpdate(DEVELOPER.public, "developer", "callers")],
    ],
    ids=["owner gone", "owner's role narrowed"],
)
async def test_what_the_owner_loses_ends_the_stream(desk: Desk, bodies: Sequence[Body]) -> None:
    text, _ = desk.token("function.logs")
    stream = await Stream(desk, text).begun()
    for body in bodies:
        assert await stream.stays()
        desk.must(body, ADMIN)
    await stream.ended()


async def test_a_narrowed_pattern_counts_at_once_and_the_stream_goes_on(desk: Desk) -> None:
    desk.must(RoleSet("team", ["function.logs:a/*", "function.logs:b/*"]), ADMIN)
    desk.must(UserUpdate(DEVELOPER.public, "developer", "team"), ADMIN)
    text, _ = desk.token("function.logs:a/*", "function.logs:b/*")
    stream = await Stream(desk, text).begun()
    assert stream.hold.principal.may("function.logs", "b/x")
    desk.must(RoleSet("team", ["function.logs:a/*"]), ADMIN)
    assert not stream.hold.principal.may("function.logs", "b/x")
    assert stream.hold.principal.may("function.logs", "a/x")
    assert await stream.stays()
    await stream.cancel()


async def test_expiry_ends_the_stream_by_one_timer_for_all(desk: Desk) -> None:
    late, soon = desk.token("function.logs", ttl_ms=900_000)[0], desk.token("function.logs", ttl_ms=60_000)[0]
    streams = [await Stream(desk, text).begun() for text in (late, soon, late)]
    assert [timer.due for timer in desk.live] == [60.0]
    desk.pass_time(59.999)
    assert await streams[1].stays()
    desk.pass_time(0.001)
    await streams[1].ended()
    assert [timer.due for timer in desk.live] == [900.0]
    assert await streams[0].stays()
    desk.pass_time(840.0)
    for stream in (streams[0], streams[2]):
        await stream.ended()
    assert not desk.live


async def test_the_clients_token_behind_the_owner_ends_it_too(desk: Desk) -> None:
    """A user who came with a client's token has its time, and his API tokens have no more."""
    expires = desk.paper.clock.time_ms() + 5_000
    desk.paper.token(CLIENT, role="client", grant="developer", name="app", expires_ms=expires)
    assert desk.policy.principal_of(CLIENT.public).until_ms == expires
    text, _ = desk.token("function.logs", owner=CLIENT)
    stream = await Stream(desk, text).begun()
    desk.pass_time(5.0)
    await stream.ended()


async def test_a_clock_that_is_set_back_or_a_timer_too_early_ends_nothing(desk: Desk) -> None:
    text, _ = desk.token("function.logs", ttl_ms=60_000)
    stream = await Stream(desk, text).begun()
    (timer,) = desk.live
    timer.cancelled = True
    timer.callback()
    assert await stream.stays()
    assert [timer.due for timer in desk.live] == [60.0]
    await stream.cancel()
    assert not desk.live


async def test_a_far_end_is_looked_at_now_and_then(desk: Desk) -> None:
    text, _ = desk.token("function.logs", ttl_ms=100 * HOUR)
    stream = await Stream(desk, text).begun()
    assert [timer.due for timer in desk.live] == [3600.0]
    await stream.cancel()


async def test_what_changes_nobodys_rights_is_not_even_asked_about(desk: Desk) -> None:
    text, _ = desk.token("function.logs")
    stream = await Stream(desk, text).begun()
    asked = desk.asked
    desk.must(ConfigSet("a", "1"), OPERATOR)
    assert desk.asked == asked
    desk.must(RoleSet("unused", ["mesh.read"]), ADMIN)
    assert desk.asked == asked + 1
    assert await stream.stays()
    await stream.cancel()


async def test_a_replaced_state_is_asked_anew(desk: Desk) -> None:
    text, _ = desk.token("function.logs")
    stream = await Stream(desk, text).begun()
    other = State(MESH)
    other.rights = desk.paper.state.rights
    desk.paper.replica.state = other
    desk.watch.on_block(None, other)
    await stream.ended()


async def test_who_may_not_does_not_come_in(desk: Desk) -> None:
    stream = await Stream(desk, desk.token("mesh.read")[0]).begun()
    await stream.ended()
    assert desk.watch.holds == 0


async def test_a_cancellation_from_elsewhere_is_not_silenced(desk: Desk) -> None:
    text, key = desk.token("function.logs")
    stream = await Stream(desk, text).begun()
    desk.must(ApiTokenRevoke(key.public), DEVELOPER)
    stream.task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await stream.task


async def test_after_it_the_task_goes_on_as_if_never_cancelled(desk: Desk) -> None:
    text, key = desk.token("function.logs")
    held = desk.watch.hold(desk.ask(text))

    async def hold() -> None:
        async with held:
            desk.must(ApiTokenRevoke(key.public), DEVELOPER)
            await asyncio.Event().wait()

    async def work() -> str:
        with pytest.raises(Denied):
            await hold()
        await asyncio.sleep(0)
        task = asyncio.current_task()
        assert task is not None
        assert task.cancelling() == 0
        return "told"

    assert await asyncio.create_task(work()) == "told"


async def test_the_running_loops_own_timer_works() -> None:
    paper = Paper()
    until = paper.clock.time_ms() + 1
    principals = [Principal("api_token", until_ms=until)]

    def ask() -> Principal:
        if not principals:
            raise Denied("no more")
        return principals.pop()

    async def wait() -> None:
        async with Watch(paper.clock).hold(ask):
            paper.clock.advance(1.0)
            await asyncio.Event().wait()

    async with asyncio.timeout(5):
        with pytest.raises(Denied):
            await wait()
