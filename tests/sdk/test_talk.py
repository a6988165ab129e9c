"""What is said to a controller and what its answers mean; no I/O."""

from __future__ import annotations

from typing import Any

import pytest

from osiris_mesh.codec import pack, unpack
from osiris_mesh.errors import Conflict, DeadlineExceeded, NotFound, RemoteProtocolError, Unavailable, UsageError
from osiris_mesh.function.signature import Parameter, Signature, binding_of
from osiris_sdk.options import Options
from osiris_sdk.resolved import ResolveCache, Resolved
from osiris_sdk.talk import Exchange, Talks, may_resend

ONE = Signature((Parameter("a", 1, annotation="int"),))
TWO = Signature((Parameter("a", 1), Parameter("b", 1)))


def answer(signature: Signature = ONE, **other: Any) -> dict[str, Any]:
    return {
        "name": "math/f",
        "version": "1.0.0",
        "digest": b"d" * 32,
        "signature": signature.to_wire(),
        "binding": binding_of(signature.to_wire()),
        "description": "",
        "timeout_ms": 1000,
        "idempotent": False,
        **other,
    }


CYCLE: list[Any] = []
CYCLE.append(CYCLE)


class Told:
    """Drives a talk by hand."""

    def __init__(self, talk: Any) -> None:
        self.talk = talk
        self.said: Exchange | None = next(talk)
        self.result: Any = None

    def reply(self, value: Any) -> Exchange | None:
        return self._go(lambda: self.talk.send(value if isinstance(value, bytes) else pack(value)))

    def fail(self, error: Exception) -> Exchange | None:
        return self._go(lambda: self.talk.throw(error))

    def _go(self, step: Any) -> Exchange | None:
        try:
            self.said = step()
        except StopIteration as end:
            self.said, self.result = None, end.value
        return self.said


@pytest.fixture
def now() -> list[float]:
    return [100.0]


@pytest.fixture
def talks(now: list[float]) -> Talks:
    return Talks(lambda: now[0])


def test_resolves_once_then_calls_at_once(talks: Talks, now: list[float]) -> None:
    told = Told(talks.call("math/f", (1,), {}, Options()))
    assert told.said is not None
    assert (told.said.method, unpack(told.said.body)) == ("resolve", {"name": "math/f"})
    said = told.reply(answer())
    assert said is not None
    assert (said.method, unpack(said.body)) == ("call", [[1], {}])
    assert said.headers == {"name": "math/f", "binding": binding_of(ONE.to_wire())}
    assert said.timeout == 6.0
    assert told.reply(7) is None
    assert told.result == 7
    assert Told(talks.call("math/f", (2,), {}, Options())).said.method == "call"  # type: ignore[union-attr]
    now[0] += 301
    assert Told(talks.call("math/f", (2,), {}, Options())).said.method == "resolve"  # type: ignore[union-attr]


def test_the_body_of_a_call_is_frozen(talks: Talks) -> None:
    image = Signature(
        (Parameter("image", 1, annotation="bytes"), Parameter("strength", 1, has_default=True, annotation="float")),
        "bytes",
    )
    told = Told(talks.call("math/f", (b"\x01\x02",), {"strength": 0.5}, Options()))
    said = told.reply(answer(image))
    assert said is not None
    assert said.body.hex() == "9291c402010281a8737472656e677468cb3fe0000000000000"


def test_options_stand_apart_from_arguments(talks: Talks) -> None:
    options = Options(timeout=0.5, idempotent=True, version="^1.2", context="controlled; functions=math/*")
    told = Told(talks.call("math/f", (1,), {}, options))
    assert unpack(told.said.body) == {"name": "math/f@^1.2"}  # type: ignore[union-attr]
    said = told.reply(answer())
    assert said is not None
    assert said.headers["name"] == "math/f@^1.2"
    assert said.headers["idempotent"] is True
    assert said.headers["context"] == "controlled; functions=math/*"
    assert said.timeout == 0.5
    assert said.safe


def test_a_changed_signature_is_bound_anew(talks: Talks) -> None:
    told = Told(talks.call("math/f", (1, 2), {}, Options()))
    with pytest.raises(TypeError, match="takes 1 positional argument but 2 were given"):
        told.reply(answer(ONE))
    told = Told(talks.call("math/f", (1,), {}, Options()))
    assert told.said is not None
    assert told.said.method == "call"
    with pytest.raises(TypeError, match="missing 1 required positional argument: 'b'"):
        told.fail(Conflict("changed", reason="binding", resolved=answer(TWO)))
    told = Told(talks.call("math/f", (1, 2), {}, Options()))
    assert told.said is not None
    assert told.said.headers["binding"] == binding_of(TWO.to_wire())


def test_arguments_that_fit_a_newer_version_are_not_refused_by_an_old_one(talks: Talks) -> None:
    told = Told(talks.call("math/f", (1,), {}, Options()))
    told.reply(answer(ONE))
    told = Told(talks.call("math/f", (1, 2), {}, Options()))
    assert told.said is not None
    assert told.said.method == "resolve"
    said = told.reply(answer(TWO))
    assert said is not None
    assert unpack(said.body) == [[1, 2], {}]


def test_a_signature_that_changes_without_end_is_given_up(talks: Talks) -> None:
    told = Told(talks.call("math/f", (1,), {}, Options()))
    told.reply(answer())
    changed = Conflict("changed", reason="binding", resolved=answer())
    for _ in range(2):
        said = told.fail(changed)
        assert said is not None
        assert said.method == "call"
    with pytest.raises(Conflict):
        told.fail(changed)


def test_another_conflict_is_the_callers(talks: Talks) -> None:
    told = Told(talks.call("math/f", (1,), {}, Options()))
    told.reply(answer())
    with pytest.raises(Conflict, match="else"):
        told.fail(Conflict("something else"))


@pytest.mark.parametrize(
    ("timeout", "text"), [(None, "math/f was not done in its time"), (0.5, "math/f was not done in 0.5 s")]
)
def test_running_out_of_time_names_the_function(talks: Talks, timeout: float | None, text: str) -> None:
    told = Told(talks.call("math/f", (1,), {}, Options(timeout=timeout)))
    told.reply(answer())
    with pytest.raises(DeadlineExceeded, match=text):
        told.fail(DeadlineExceeded("call was not done in time"))
    told = Told(talks.call("math/f", (1,), {}, Options()))
    with pytest.raises(DeadlineExceeded, match="node answered"):
        told.fail(DeadlineExceeded("the time for math/f ran out before a node answered"))


def test_not_found_forgets_the_name(talks: Talks) -> None:
    told = Told(talks.call("math/f", (1,), {}, Options()))
    told.reply(answer())
    with pytest.raises(NotFound):
        told.fail(NotFound("removed"))
    assert Told(talks.call("math/f", (1,), {}, Options())).said.method == "resolve"  # type: ignore[union-attr]


@pytest.mark.parametrize("argument", [object(), {1: 2}, 1 << 70, {"a": {1, 2}}, [[{"a": ({2: 3},)}]], {None: 1}, CYCLE])
def test_what_can_not_be_sent_is_a_type_error(talks: Talks, argument: Any) -> None:
    told = Told(talks.call("math/f", (argument,), {}, Options()))
    with pytest.raises(TypeError):
        told.reply(answer(Signature((Parameter("a", 1),))))


def test_details(talks: Talks) -> None:
    told = Told(talks.detailed("math/f", (1,), {}, Options()))
    said = told.reply(answer())
    assert said is not None
    assert said.headers["details"] is True
    told.reply([{"node": "n"}, pack(7)])
    assert told.result == (7, {"node": "n"})


@pytest.mark.parametrize(
    "wrong",
    [
        None,
        [],
        {},
        answer() | {"digest": "text"},
        answer() | {"timeout_ms": True},
        answer() | {"signature": [[["a", 9, False, ""]], ""]},
    ],
)
def test_a_controller_that_talks_nonsense(talks: Talks, wrong: Any) -> None:
    told = Told(talks.resolve("math/f"))
    with pytest.raises(RemoteProtocolError):
        told.reply(wrong)


def test_fields_of_later_versions_are_passed_over() -> None:
    assert Resolved.from_wire(answer(new="thing")).name == "math/f"


@pytest.mark.parametrize(
    ("safe", "details", "again"),
    [
        (False, {}, False),
        (False, {"maybe": True}, False),
        (False, {"maybe": False}, True),
        (True, {"maybe": True}, True),
    ],
)
def test_what_goes_over_a_new_link(safe: bool, details: dict[str, Any], again: bool) -> None:
    assert may_resend(Exchange("call", b"", {}, 1.0, safe), Unavailable("lost", **details)) is again


def test_time_left_for_an_exchange() -> None:
    exchange = Exchange("call", b"", {}, 5.0, safe=False)
    assert exchange.left(None, 100.0) == 5.0
    assert exchange.left(103.0, 100.0) == 3.0
    assert exchange.left(200.0, 100.0) == 5.0
    with pytest.raises(DeadlineExceeded):
        exchange.left(100.0, 100.0)


def test_wrong_options() -> None:
    for wrong in ({"timeout": 0.0}, {"timeout": float("nan")}, {"version": "1@2"}, {"version": "a/b"}):
        with pytest.raises(UsageError):
            Options(**wrong)  # type: ignore[arg-type]
    with pytest.raises(UsageError):
        Options(version="1").full("math/f@2")


def test_the_cache_is_bounded() -> None:
    cache = ResolveCache()
    one = Resolved.from_wire(answer())
    for number in range(5000):
        cache.put(f"math/f{number}", one, 0.0)
    assert sum(cache.get(f"math/f{number}", 1.0) is not None for number in range(5000)) <= 4096


ROWS = [{"id": "near", "response_ms": 9.0}, {"id": "far", "response_ms": 5.0}]
OUTSIDE: dict[str, Any] = {"source": "git", "age": 1.5, "stale": True, "providers": ROWS, "versions": ["1.0.0"]}


def test_what_a_registry_says_of_a_function_is_read() -> None:
    resolved = Resolved.from_wire(answer(**OUTSIDE, requirements={"level": "full"}, deprecated="old", ttl_ms=2000))
    assert (resolved.source, resolved.age, resolved.stale, resolved.deprecated) == ("git", 1.5, True, "old")
    assert resolved.to_json()["providers"] == ROWS
    assert Resolved.from_wire(answer()).source == "local"
    for wrong in ({"source": 1}, {"providers": {}}, {"providers": [1]}, {"providers": [{}]}, {"ttl_ms": "1"}):
        with pytest.raises(RemoteProtocolError):
            Resolved.from_wire(answer(**wrong))


def test_a_name_is_believed_as_long_as_the_controller_says_and_no_longer_than_five_minutes() -> None:
    cache = ResolveCache()
    cache.put("math/f", Resolved.from_wire(answer(ttl_ms=2000)), 10.0)
    assert cache.get("math/f", 11.9) is not None
    assert cache.get("math/f", 12.0) is None
    cache.put("math/f", Resolved.from_wire(answer(ttl_ms=10**9)), 10.0)
    assert cache.get("math/f", 309.9) is not None
    assert cache.get("math/f", 310.0) is None
    assert cache.recent("math/f", 11.9, 2.0) is not None
    assert cache.recent("math/f", 12.0, 2.0) is None


def test_the_callers_own_choice_orders_the_providers_by_what_is_known_now() -> None:
    now = [100.0]
    talks = Talks(lambda: now[0])
    shown: list[Any] = []

    def fastest(rows: Any) -> list[str]:
        shown.append(rows)
        return [row["id"] for row in sorted(rows, key=lambda row: row["response_ms"])]

    options = Options(choose=fastest)
    told = Told(talks.call("math/f", (1,), {}, options))
    said = told.reply(answer(**OUTSIDE))
    assert said is not None
    assert said.headers["providers"] == ["far", "near"]
    assert shown == [ROWS]
    now[0] += 1.0
    assert Told(talks.call("math/f", (1,), {}, options)).said.method == "call"  # type: ignore[union-attr]
    now[0] += 2.0
    assert Told(talks.call("math/f", (1,), {}, options)).said.method == "resolve"  # type: ignore[union-attr]
    # Where there is nothing to choose it is not asked, and without it nothing is sent.
    del shown[:]
    alone = Told(talks.call("math/f", (1,), {}, options)).reply(answer(providers=ROWS[:1]))
    assert alone is not None
    assert "providers" not in alone.headers
    assert shown == []
    wrong = Told(Talks(lambda: 0.0).call("math/f", (1,), {}, Options(choose=lambda _rows: [1])))  # type: ignore[list-item]
    with pytest.raises(TypeError, match="choose"):
        wrong.reply(answer(**OUTSIDE))
