"""Calls of functions that this mesh does not have."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any

import pytest

from osiris_mesh.clock import SYSTEM
from osiris_mesh.codec import pack, unpack
from osiris_mesh.errors import (
    Conflict,
    DeadlineExceeded,
    Denied,
    FunctionError,
    NotFound,
    OsirisError,
    Overloaded,
    Unavailable,
    UsageError,
)
from osiris_mesh.function.name import Version
from osiris_mesh.function.signature import Parameter, Signature, binding_of
from osiris_mesh.invoke.invoker import Invoker
from osiris_mesh.invoke.outside import ANY_ARGUMENTS, Outside, Used
from osiris_mesh.link import Audience, Caller
from osiris_mesh.registry.breaker import Breakers
from osiris_mesh.registry.context import FULL, Context, Level, make, may_call
from osiris_mesh.registry.record import Binding, Provider, Record, VersionRecord
from osiris_mesh.registry.resolution import Resolution
from osiris_mesh.registry.selection import Standing, Standings, key_of
from osiris_mesh.settings.invoke import InvokeSettings
from tests.invoke.fakes import FakeLedger, FakePeers, FakeRunner, spec

ADD = Signature((Parameter("a", 1, annotation="int"), Parameter("b", 1, annotation="int")), name="add")
ONE = Provider("one", "https://one.example")
TWO = Provider("two", "https://two.example")
BODY = pack([[2, 3], {}])
CALLER = Caller(b"k" * 32, "peer", Audience.LOCAL, "somebody")


def resolution(*providers: Provider, signature: Any = ADD.to_wire()) -> Resolution:  # noqa: B008 - a constant
    binding = Binding("far/add", "1.2.0", 1, digest="ab" * 32, signature=tuple(signature), providers=providers)
    bound = VersionRecord(binding, None, providers, b"d" * 32, b"{}")
    version = Version.parse("1.2.0")
    record = Record("far/add", MappingProxyType({version: bound}), 1, b"d" * 32)
    return Resolution("far/add", version, providers, "git", record, bound, None, 1500, stale=False)


class Names:
    """A registry with one function.

    Attributes:
        known: It.
        any: Whether there is a registry at all.
        at_once: Whether it is cached.
        asked: Contexts it was asked in.
    """

    def __init__(self, known: Resolution) -> None:
        self.known = known
        self.any = True
        self.at_once = True
        self.asked: list[Context] = []

    def asks(self) -> bool:
        return self.any

    def resolve_now(self, text: str, now: float, context: Context = FULL) -> Resolution | None:
        assert now > 0
        return self._answer(text, context) if self.at_once else None

    async def resolve(
        self, text: str, *, deadline: float, context: Context = FULL, explain: bool = False
    ) -> Resolution:
        assert deadline > 0
        assert not explain
        return self._answer(text, context)

    def _answer(self, text: str, context: Context) -> Resolution:
        self.asked.append(context)
        if text.partition("@")[0] != "far/add":
            raise NotFound(f"no registry knows {text}")
        refusal = may_call(context, "far/add", None, self.known.providers[0] if self.known.providers else None)
        if refusal is not None:
            raise refusal.error()
        return self.known


class Providers:
    """Providers that do as they are told.

    Attributes:
        told: What each does, by id: an error to raise, ``hang``, or nothing.
        asked: Ids, arguments and headers in order.
    """

    def __init__(self) -> None:
        self.told: dict[str, OsirisError | str] = {}
        self.asked: list[tuple[str, Any, Any, dict[str, Any]]] = []

    async def call(
        self,
        provider: Provider,
        name: str,
        args: Sequence[Any],
        kwargs: Mapping[str, Any],
        *,
        deadline: float | None,
        headers: Mapping[str, Any],
    ) -> Any:
        assert name == "far/add"
        assert deadline is not None
        self.asked.append((provider.id, list(args), dict(kwargs), dict(headers)))
        told = self.told.get(provider.id)
        if isinstance(told, OsirisError):
            raise told
        if told == "hang":
            await asyncio.Event().wait()
        return sum(args)


class Health:
    """What calls show, and nothing that is told to others."""

    def __init__(self, standings: Standings) -> None:
        self._standings = standings

    def began(self, provider: Provider) -> bool:
        return self._standings.began(provider, SYSTEM.monotonic())

    def abandoned(self, provider: Provider) -> None:
        self._standings.abandoned(provider)

    def answered(self, provider: Provider, seconds: float) -> None:
        self._standings.answered(provider, seconds, SYSTEM.monotonic())

    def failed(self, provider: Provider) -> None:
        self._standings.failed(provider, SYSTEM.monotonic())

    def response_ms(self, provider: Provider) -> float:
        return self._standings.response_ms(provider, SYSTEM.monotonic())

    def standing(self, provider: Provider) -> Standing:
        return self._standings.standing(provider, SYSTEM.monotonic())


class Bench:
    def __init__(self, *providers: Provider, **more: Any) -> None:
        self.names = Names(resolution(*providers, **more))
        self.providers = Providers()
        self.breakers: Breakers[Any] = Breakers(failures=1, pause=60, longest=60, limit=16)
        self.standings = Standings(half_life=60, breakers=self.breakers, limit=16)
        self.context = FULL
        self.used: list[Used] = []
        self.outside = Outside(
            self.names,
            self.providers,
            Health(self.standings),
            contexts=lambda _caller, _headers: self.context,
            attempts=3,
            clock=SYSTEM,
            used=self.used.append,
        )
        self.runner = FakeRunner({"near/id": lambda a: a})
        self.invoker = Invoker(
            me="me",
            ledger=FakeLedger(spec("near/id")),
            runner=self.runner,
            peers=FakePeers(),
            settings=InvokeSettings(max_depth=4),
            clock=SYSTEM,
            rng=random.Random(1),
            beyond=self.outside,
        )

    async def call(self, name: str = "far/add", body: bytes = BODY, seconds: float = 5.0, **headers: Any) -> Any:
        deadline = SYSTEM.monotonic() + seconds
        return unpack(await self.invoker.call(name, body, deadline=deadline, headers=headers, caller=CALLER))


async def test_what_is_not_here_is_asked_of_its_provider() -> None:
    bench = Bench(ONE, TWO)
    assert await bench.call() == 5
    assert await bench.call("far/add@^1.0") == 5
    assert [asked[0] for asked in bench.providers.asked] == ["one", "one"]
    assert bench.used[0] == Used(ONE, "far/add", "1.2.0", "somebody", bench.used[0].seconds, ok=True)
    assert bench.invoker.in_flight == 0


async def test_what_is_here_comes_first() -> None:
    bench = Bench(ONE)
    assert await bench.call("near/id", pack([[7], {}])) == 7
    assert bench.providers.asked == []


async def test_details_say_who_answered() -> None:
    bench = Bench(ONE)
    details, result = await bench.call(details=True)
    assert unpack(result) == 5
    assert details["elapsed_us"] >= 0
    kept = {key: details[key] for key in ("provider", "version", "source", "age", "stale")}
    assert kept == {"provider": "one", "version": "1.2.0", "source": "git", "age": 1.5, "stale": False}


async def test_what_is_not_cached_is_waited_for() -> None:
    bench = Bench(ONE)
    bench.names.at_once = False
    assert await bench.call() == 5


async def test_nobody_knows_it() -> None:
    bench = Bench(ONE)
    with pytest.raises(NotFound, match="no registry knows far/sub"):
        await bench.call("far/sub")
    assert bench.invoker.in_flight == 0


async def test_without_a_registry_the_mesh_itself_says_that_it_is_not_there() -> None:
    bench = Bench(ONE)
    bench.names.any = False
    with pytest.raises(NotFound, match="no function is called far/add"):
        await bench.call()


async def test_a_record_without_a_provider_says_so() -> None:
    with pytest.raises(NotFound, match="names no provider"):
        await Bench().call()


async def test_another_is_asked_when_the_first_surely_did_nothing() -> None:
    bench = Bench(ONE, TWO)
    bench.providers.told["one"] = Unavailable("refused", maybe=False)
    assert await bench.call() == 5
    assert [asked[0] for asked in bench.providers.asked] == ["one", "two"]
    assert not bench.breakers.allows(key_of(ONE), SYSTEM.monotonic())
    assert [used.ok for used in bench.used] == [False, True]
    # Left alone from now on, and not even asked.
    assert await bench.call() == 5
    assert [asked[0] for asked in bench.providers.asked] == ["one", "two", "two"]


@pytest.mark.parametrize(("idempotent", "asked"), [(False, ["one"]), (True, ["one", "two"])])
async def test_what_may_have_happened_is_asked_again_only_if_it_may_be_repeated(
    idempotent: bool, asked: list[str]
) -> None:
    bench = Bench(ONE, TWO)
    bench.providers.told["one"] = Unavailable("cut off", maybe=True)
    if idempotent:
        assert await bench.call(idempotent=True) == 5
    else:
        with pytest.raises(Unavailable, match="cut off"):
            await bench.call()
    assert [each[0] for each in bench.providers.asked] == asked


async def test_a_hanging_provider_leaves_time_for_the_next() -> None:
    bench = Bench(ONE, TWO)
    bench.providers.told["one"] = "hang"
    assert await bench.call(seconds=0.4, idempotent=True) == 5


async def test_the_deadline_holds_when_all_hang() -> None:
    bench = Bench(ONE, TWO)
    bench.providers.told = {"one": "hang", "two": "hang"}
    began = SYSTEM.monotonic()
    with pytest.raises(DeadlineExceeded):
        await bench.call(seconds=0.2, idempotent=True)
    assert SYSTEM.monotonic() - began < 2


async def test_the_functions_own_error_is_an_answer() -> None:
    bench = Bench(ONE, TWO)
    bench.providers.told["one"] = FunctionError("no", type="ValueError")
    with pytest.raises(FunctionError, match="no"):
        await bench.call()
    assert [asked[0] for asked in bench.providers.asked] == ["one"]
    assert bench.used[0].ok
    assert bench.breakers.allows(key_of(ONE), SYSTEM.monotonic())


@pytest.mark.parametrize("error", [Denied("no bearer"), UsageError("not so"), Overloaded("busy")])
async def test_a_refusal_names_who_refused_counts_as_no_call_and_leaves_the_provider_well(error: OsirisError) -> None:
    bench = Bench(ONE)
    bench.providers.told["one"] = error
    with pytest.raises(type(error), match=f"one: {error.what}"):
        await bench.call()
    assert bench.used == []
    assert bench.breakers.allows(key_of(ONE), SYSTEM.monotonic())


async def test_a_context_is_kept_to() -> None:
    bench = Bench(ONE)
    bench.context = make(Level.PURE)
    with pytest.raises(Denied) as caught:
        await bench.call()
    assert caught.value.details["rule"] == "level"
    assert bench.providers.asked == []


async def test_arguments_are_checked_before_anybody_is_asked() -> None:
    bench = Bench(ONE)
    with pytest.raises(UsageError, match="missing"):
        await bench.call(body=pack([[1], {}]))
    with pytest.raises(UsageError, match="expected int"):
        await bench.call(body=pack([[1, "x"], {}]))
    with pytest.raises(UsageError, match="a call's body"):
        await bench.call(body=pack([1, 2]))
    with pytest.raises(Conflict) as caught:
        await bench.call(binding=b"x" * 16)
    assert caught.value.details["resolved"]["binding"] == binding_of(ADD.to_wire())
    assert bench.providers.asked == []
    assert await bench.call(binding=binding_of(ADD.to_wire())) == 5


async def test_resolving_gives_what_a_caller_binds_against() -> None:
    known = await Bench(ONE).outside.resolve("far/add", caller=CALLER, headers={})
    assert known["binding"] == binding_of(ADD.to_wire())
    assert (known["name"], known["version"], known["digest"]) == ("far/add", "1.2.0", b"\xab" * 32)
    free = await Bench(ONE, signature=()).outside.resolve("far/add", caller=CALLER, headers={})
    assert free["signature"] == ANY_ARGUMENTS
    Signature.from_wire(free["signature"], "far/add").bind([1, 2], {"c": 3})


async def test_depth_and_context_go_on_and_the_depth_is_bounded() -> None:
    bench = Bench(ONE)
    bench.context = make(Level.CONTROLLED, functions=["far/*"])
    # What goes on is what the call's context comes to, not what its caller wrote.
    await bench.call(depth=3, context="controlled", idempotent=True)
    told = {"depth": 3, "context": "controlled; functions=far/*", "idempotent": True}
    assert bench.providers.asked[-1][3] == told
    bench.context = FULL
    await bench.call(context="full")
    assert "context" not in bench.providers.asked[-1][3]
    with pytest.raises(OsirisError, match="deep"):
        await bench.call(depth=5)


async def test_the_callers_own_order_counts_within_what_may_be_asked() -> None:
    bench = Bench(ONE, TWO)
    assert await bench.call(providers=["two", "unknown"]) == 5
    assert [asked[0] for asked in bench.providers.asked] == ["two"]
    for wrong in ("two", [1], ["x"] * 65):
        with pytest.raises(UsageError, match="providers"):
            await bench.call(providers=wrong)


async def test_who_resolves_learns_by_what_to_choose_and_for_how_long_it_holds() -> None:
    bench = Bench(ONE, TWO)
    told = await bench.invoker.look_up("far/add", caller=CALLER, headers={})
    assert (told["source"], told["age"], told["stale"]) == ("git", 1.5, False)
    assert [row["id"] for row in told["providers"]] == ["one", "two"]
    assert {"endpoint", "response_ms", "availability", "open", "draining", "in_flight"} <= told["providers"][0].keys()
    assert told["requirements"]["level"] == "controlled"
    assert told["ttl_ms"] == 1000
    assert "providers" not in await bench.invoker.look_up("near/id", caller=CALLER, headers={})
    assert bench.invoker.asks_beyond
