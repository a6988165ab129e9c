"""What calls beyond the mesh came to is counted once each, under labels there are."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from osiris_mesh.clock import SYSTEM
from osiris_mesh.errors import Denied, NotFound, OsirisError, Unavailable
from osiris_mesh.node.beyond import Beyond
from osiris_mesh.node.tallies import PROVIDER_OUTCOMES, BeyondTallies
from tests.registry.resolve import kit

NAME = "acme.com/image/sharpen"


def beyond(resolver: object = None, *, well: bool = True) -> Beyond:
    made = Beyond.__new__(Beyond)
    made.tallies = BeyondTallies()
    made._clock = SYSTEM
    made.registries = SimpleNamespace(resolver=resolver)  # type: ignore[assignment]
    made.health = SimpleNamespace(  # type: ignore[assignment]
        began=lambda _: well, abandoned=lambda _: None, answered=lambda _p, _s: None, failed=lambda _: None
    )
    return made


async def test_a_name_is_counted_by_where_it_was_found() -> None:
    source = kit.Fake("corp", {NAME: kit.history(NAME, {"version": "1.0.0"})})
    async with kit.resolver(source) as resolver:
        node = beyond(resolver)
        until = SYSTEM.monotonic() + 5
        for _ in range(3):
            # As calls do: what is known, and only then what has to be asked.
            if node.resolve_now(NAME, SYSTEM.monotonic()) is None:
                await node.resolve(NAME, deadline=until)
        await node.resolve(NAME, deadline=until)
        await node.resolve(NAME, deadline=until, explain=True)
        for _ in range(2):
            with pytest.raises(NotFound):
                await node.resolve("acme.com/image/nothing", deadline=until)
    seen = {labels: count for labels, count in node.tallies.by_source().items() if count}
    assert seen == {
        ("registry", "ok"): 2,
        ("cache", "ok"): 3,
        ("registry", "unknown"): 1,
        ("cache", "unknown"): 1,
    }


@pytest.mark.parametrize(
    ("error", "outcome"), [(NotFound("x"), "unknown"), (Denied("x"), "denied"), (Unavailable("x"), "failed")]
)
def test_what_was_not_found_has_a_reason(error: OsirisError, outcome: str) -> None:
    tallies = BeyondTallies()
    tallies.missed(error, "registry")
    assert tallies.by_source()["registry", outcome] == 1


def test_calls_of_providers_are_counted_by_outcome() -> None:
    provider = kit.PROVIDERS[0]
    node = beyond()
    assert node.began(provider)
    node.answered(provider, 0.1)
    node.failed(provider)
    node.abandoned(provider)
    assert node.tallies.by_outcome() == {**dict.fromkeys(PROVIDER_OUTCOMES, 1), "left_alone": 0}
    alone = beyond(well=False)
    assert not alone.began(provider)
    assert alone.tallies.by_outcome()["left_alone"] == 1
