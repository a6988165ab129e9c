"""Names resolved: in which order who is asked, what is served when nobody answers, and always in time."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from osiris_mesh.errors import CheckFailed, DeadlineExceeded, Denied, NotFound, OsirisError, Unavailable, UsageError
from osiris_mesh.registry.context import Level, make
from osiris_mesh.registry.federation import Answer
from osiris_mesh.registry.memory import Memory
from osiris_mesh.registry.resolver import Resolver
from osiris_mesh.registry.selection import Standing
from tests.registry.resolve.kit import SETTINGS, Fake, Functions, answer, history, key, resolver

NAME = "acme.com/image/sharpen"
ONE, TWO = {"version": "1.0.0"}, {"version": "2.0.0"}
DOWN = Unavailable("no route")


def soon(seconds: float = 5.0) -> float:
    return time.monotonic() + seconds


async def until_idle(names: Resolver) -> None:
    async with asyncio.timeout(5):
        while len(names.questions):
            await asyncio.sleep(0.002)


async def test_local_functions_come_first_then_the_registries() -> None:
    functions, source = Functions(), Fake("r", {NAME: history(NAME, ONE, TWO)})
    async with resolver(source, functions=functions) as names:
        found = await names.resolve(NAME, deadline=soon())
        assert (found.source, str(found.version), len(found.providers)) == ("r", "2.0.0", 2)
        assert (await names.resolve(f"{NAME}@^1", deadline=soon())).version.major == 1
        functions.deploy(NAME, "1.5.0")
        now = names.resolve_now(NAME, time.monotonic())
        assert now is not None
        assert (now.source, str(now.version)) == ("local", "1.5.0")
        assert (await names.resolve(f"{NAME}@1.0.0", deadline=soon())).source == "r", "the mesh has no 1.0.0"
        assert (await names.resolve(f"{NAME}@^1", deadline=soon())).source == "local"
    assert source.asked == 1


async def test_one_question_at_a_time_for_many_callers() -> None:
    source = Fake("r", {NAME: history(NAME, ONE)}, gate=asyncio.Event())
    async with resolver(source) as names:
        calls = [asyncio.create_task(names.resolve(NAME, deadline=soon())) for _ in range(50)]
        hasty = asyncio.create_task(names.resolve(NAME, deadline=soon(0.05)))
        with pytest.raises(DeadlineExceeded):
            await hasty
        assert source.gate is not None
        source.gate.set()
        assert {str(item.version) for item in await asyncio.gather(*calls)} == {"1.0.0"}
    assert source.asked == 1


async def test_a_cached_answer_is_there_at_once_whatever_the_registries_do() -> None:
    source = Fake("r", {NAME: history(NAME, ONE)})
    async with resolver(source) as names:
        assert names.resolve_now(NAME, time.monotonic()) is None
        await names.resolve(NAME, deadline=soon())
        source.hangs = True
        assert names.resolve_now(NAME, time.monotonic()) is not None


async def test_one_that_hangs_or_lies_stops_nobody() -> None:
    lies = CheckFailed("forged", reason="signature")
    sources = [Fake("hangs", hangs=True), Fake("lies", error=lies), Fake("good", {NAME: history(NAME, ONE)})]
    async with resolver(*sources) as names:
        began = time.monotonic()
        found = await names.resolve(NAME, deadline=soon(), explain=True)
        assert time.monotonic() - began < 1.0
        assert [(step.registry, step.outcome) for step in found.why] == [
            ("hangs", "failed"),
            ("lies", "failed"),
            ("good", "holds"),
        ]
        sources[2].has["acme.com/image/blur"] = history("acme.com/image/blur", ONE)
        await names.resolve("acme.com/image/blur", deadline=soon())
        assert sources[0].asked == 1, "it is left alone for a while"
        assert sources[1].asked == 2, "that it lied about one name says nothing of others"


async def test_not_found_and_not_known_are_different() -> None:
    source = Fake("r", error=DOWN)
    async with resolver(source) as names:
        with pytest.raises(Unavailable, match="no route"):
            await names.resolve(NAME, deadline=soon())
        with pytest.raises(Unavailable):
            await names.resolve(NAME, deadline=soon())
        assert source.asked == 1, "a failure is remembered, as a failure"
        source.error = None
        names.questions.registry_back()
        async with asyncio.timeout(5):
            while True:
                try:
                    await names.resolve(NAME, deadline=soon())
                except Unavailable:
                    await asyncio.sleep(0.01)
                    names.questions.registry_back()
                except NotFound:
                    break
        with pytest.raises(NotFound):
            names.resolve_now(NAME, time.monotonic())


async def test_stale_is_served_after_a_while_and_says_so() -> None:
    source = Fake("r", {NAME: history(NAME, ONE)})
    async with resolver(source) as names:
        await names.resolve(NAME, deadline=soon())
        source.hangs = True
        names.questions.forget(NAME)
        began = time.monotonic()
        found = await names.resolve(NAME, deadline=soon())
        assert found.stale
        assert SETTINGS.stale_after_s <= time.monotonic() - began < 1.0
        found = await names.resolve(NAME, deadline=soon(0.03))
        assert found.stale, "an old answer before the deadline, not an error after it"


async def test_what_is_revoked_is_not_served_even_as_stale() -> None:
    lines = history(NAME, ONE)
    source = Fake("r", {NAME: lines})
    async with resolver(source) as names:
        await names.resolve(NAME, deadline=soon())
        source.revoked.add(lines[0].digest)
        source.error = DOWN
        assert names.questions.recheck() == [NAME]
        assert names.resolve_now(NAME, time.monotonic()) is None
        with pytest.raises(Unavailable):
            await names.resolve(NAME, deadline=soon())


async def test_a_newer_version_that_is_heard_of_is_asked_for() -> None:
    source = Fake("r", {NAME: history(NAME, ONE)})
    async with resolver(source) as names:
        await names.resolve(NAME, deadline=soon())
        assert not names.questions.heard(NAME, 1)
        source.has[NAME] = history(NAME, ONE, TWO)
        assert names.questions.heard(NAME, 2)
        assert str((await names.resolve(NAME, deadline=soon())).version) == "2.0.0"


async def test_using_an_answer_late_in_its_life_asks_for_a_new_one_in_the_background() -> None:
    source = Fake("r", {NAME: history(NAME, {**ONE, "ttl_s": 1})}, age_ms=0)
    async with resolver(source, settings=replace(SETTINGS, refresh_ahead=0.0001, jitter=0.01)) as names:
        await names.resolve(NAME, deadline=soon())
        async with asyncio.timeout(5):
            while source.asked < 2:
                assert names.resolve_now(NAME, time.monotonic()) is not None
                await asyncio.sleep(0.002)
        await until_idle(names)


async def test_a_context_refuses_with_its_rule_and_filters_providers() -> None:
    source = Fake("r", {NAME: history(NAME, ONE)})
    async with resolver(source) as names:
        await names.resolve(NAME, deadline=soon())
        pure, picky = make(Level.PURE), make(Level.FULL, providers=["https://two.test"])
        for _ in range(2):
            with pytest.raises(Denied) as caught:
                names.resolve_now(NAME, time.monotonic(), pure)
            assert caught.value.details["rule"] == "level"
            found = names.resolve_now(NAME, time.monotonic(), picky)
            assert found is not None
            assert [item.id for item in found.providers] == ["two"]
        turns = [names.resolve_now(NAME, time.monotonic()) for _ in range(8)]
        first = [item.providers[0].id for item in turns if item is not None]
        assert (first.count("one"), first.count("two")) == (6, 2)


async def test_equivocation_between_registries_is_kept_as_evidence() -> None:
    sources = [Fake("a", {NAME: history(NAME, ONE)}), Fake("b", {NAME: history(NAME, {**ONE, "description": "x"})})]
    async with resolver(*sources) as names:
        found = await names.resolve(NAME, deadline=soon())
        assert found.source == "a"
        assert [item.registry for item in names.questions.evidence] == ["b"]


async def test_after_a_restart_without_a_network_the_disk_answers(tmp_path: Path) -> None:
    lines = history(NAME, ONE, TWO)
    first = Memory(tmp_path / "names.db", limit=100)
    async with first, resolver(Fake("r", {NAME: lines}), memory=first) as names:
        await names.resolve(NAME, deadline=soon())
    async with Memory(tmp_path / "names.db", limit=100) as memory:
        async with resolver(Fake("r", error=DOWN), memory=memory) as names:
            found = await names.resolve(NAME, deadline=soon())
            assert (found.source, str(found.version), found.stale) == ("r", "2.0.0", False)
            names.questions.forget(NAME)
            assert (await names.resolve(NAME, deadline=soon())).stale
        bad = Fake("r", error=DOWN, revoked={lines[0].digest})
        async with resolver(bad, memory=memory) as names:
            with pytest.raises(Unavailable):
                await names.resolve(NAME, deadline=soon())
        async with resolver(Fake("other", error=DOWN), memory=memory) as names:
            with pytest.raises(Unavailable):
                await names.resolve(NAME, deadline=soon())


@pytest.mark.parametrize("many", [False, True])
async def test_what_changed_before_the_disk_was_read_is_asked_for_anew(tmp_path: Path, many: bool) -> None:
    async with Memory(tmp_path / "names.db", limit=100) as memory:
        async with resolver(Fake("r", {NAME: history(NAME, ONE)}), memory=memory) as names:
            await names.resolve(NAME, deadline=soon())
        changed = Fake("r", {NAME: history(NAME, ONE, TWO)})
        async with resolver(changed, memory=memory) as names:
            names.questions.doubt() if many else names.questions.forget(NAME)
            assert str((await names.resolve(NAME, deadline=soon())).version) == "2.0.0"
            await names.resolve(NAME, deadline=soon())
            assert changed.asked == 1


class Near:
    """Peers of the region."""

    def __init__(self, said: Answer | None) -> None:
        self.said = said

    async def ask(self, name: str, order: Sequence[str], *, deadline: float) -> Answer | None:
        return self.said


@pytest.mark.parametrize(
    ("said", "source"),
    [
        (answer("r", history(NAME, ONE), age_ms=1000), "peer r"),
        (answer("r", history(NAME, ONE), age_ms=4_000_000), "r"),
        (answer("r", history(NAME, ONE), stale=True), "r"),
        (answer("elsewhere", history(NAME, ONE)), "r"),
        (None, "r"),
    ],
)
async def test_peers_of_the_region_are_asked_before_registries(said: Answer | None, source: str) -> None:
    asked = Fake("r", {NAME: history(NAME, ONE)})
    async with resolver(asked, neighbours=Near(said)) as names:
        assert (await names.resolve(NAME, deadline=soon())).source == source
        assert asked.asked == (source == "r")


class Chosen:
    def __init__(self) -> None:
        self.calls = 0
        self.fails = False

    async def order(self, name: str, providers: Sequence[Standing], *, deadline: float) -> Sequence[str]:
        self.calls += 1
        if self.fails:
            raise Unavailable("the function is gone")
        return [item.provider.id for item in sorted(providers, key=lambda item: -item.response_ms)]


async def test_a_function_of_the_mesh_may_choose() -> None:
    chooser = Chosen()
    settings = replace(SETTINGS, policy="custom", chooser="team/choose")
    async with resolver(Fake("r", {NAME: history(NAME, ONE)}), settings=settings, chooser=chooser) as names:
        found = await names.resolve(NAME, deadline=soon())
        assert [item.id for item in found.providers] == ["two", "one"]
        assert names.resolve_now(NAME, time.monotonic()) is not None, "its word holds for a moment"
        assert chooser.calls == 1
    chooser.fails = True
    async with resolver(Fake("r", {NAME: history(NAME, ONE)}), settings=settings, chooser=chooser) as names:
        assert len((await names.resolve(NAME, deadline=soon())).providers) == 2


async def test_labels_deprecation_and_validity_say_which_version_is_meant() -> None:
    ends = int(time.time() * 1000)
    lines = history(
        NAME,
        ONE,
        TWO,
        {"version": "3.0.0-rc.1"},
        {"version": "4.0.0", "valid_until_ms": ends - 1000},
        {"amend": True, "version": "2.0.0", "deprecated": "use 1"},
        {"amend": True, "aliases": {"next": "3.0.0-rc.1"}},
    )
    async with resolver(Fake("r", {NAME: lines})) as names:
        for text, version in [("", "1.0.0"), ("@latest", "1.0.0"), ("@2", "2.0.0"), ("@next", "3.0.0-rc.1")]:
            assert str((await names.resolve(NAME + text, deadline=soon())).version) == version, text
        for text in ("@4.0.0", "@none", "@^9"):
            with pytest.raises(NotFound):
                await names.resolve(NAME + text, deadline=soon())
        with pytest.raises(UsageError):
            await names.resolve(NAME + "@", deadline=soon())


async def test_no_answer_is_later_than_its_deadline() -> None:
    sources = [Fake("a", hangs=True), Fake("b", error=DOWN), Fake("c", {NAME: history(NAME, ONE, by=key(1))})]
    async with resolver(*sources) as names:

        async def one(number: int) -> float:
            deadline = soon(0.01 * (number % 20))
            try:
                await names.resolve(f"team/f{number}" if number % 3 else NAME, deadline=deadline)
            except OsirisError:
                pass
            return time.monotonic() - deadline

        async def lag() -> float:
            """Return by how much the loop itself was late, at most: a busy machine is not the resolver's doing."""
            most = 0.0
            while True:
                began = time.monotonic()
                try:
                    await asyncio.sleep(0.005)
                except asyncio.CancelledError:
                    return most
                most = max(most, time.monotonic() - began - 0.005)

        measuring = asyncio.create_task(lag())
        late = max(await asyncio.gather(*(one(number) for number in range(100))))
        measuring.cancel()
        assert late < 0.1 + await measuring
