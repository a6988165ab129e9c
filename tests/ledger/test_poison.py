"""No entry, however odd, may do anything but be accepted or refused: what raises at apply would stop every node."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from osiris_mesh.codec import pack
from osiris_mesh.errors import UsageError
from osiris_mesh.identity.keys import Domain
from osiris_mesh.identity.peer_id import peer_id
from osiris_mesh.ledger.entry import Entry
from osiris_mesh.ledger.kinds import KINDS
from tests.ledger.kit import ADMIN, FOUNDER, JOINER, MESH, TOKEN, Paper, spec

SCALARS = st.one_of(
    st.integers(-(1 << 63), (1 << 64) - 1),
    st.binary(max_size=70),
    st.text(max_size=20),
    st.booleans(),
    st.none(),
    st.floats(),
    st.sampled_from([ADMIN.public, TOKEN.public, JOINER.public, peer_id(FOUNDER.public), "default/add", "1.0.0", ""]),
    st.sampled_from(["voter", "client", "admin", "none", "12D3KooW" + "1" * 44, spec().to_wire(), bytes(64)]),
)
VALUES = st.recursive(
    SCALARS,
    lambda inner: st.one_of(st.lists(inner, max_size=4), st.dictionaries(st.text(max_size=3), inner, max_size=3)),
    max_leaves=8,
)


@settings(max_examples=300, deadline=None)
@given(st.sampled_from(sorted(KINDS)), st.lists(VALUES, max_size=8), st.sampled_from([ADMIN, FOUNDER]))
def test_any_body_of_any_kind_is_accepted_or_refused(kind: str, body: list[Any], author: Any) -> None:
    paper = Paper().begin()
    paper.token()
    try:
        payload = pack([1, MESH, kind, author.public, paper.clock.time_ms(), bytes(16), body])
    except UsageError:
        return
    block = paper.command([pack([payload, author.sign(Domain.ENTRY, payload)])])
    assert block is not None
    assert block.outcomes[0].accepted or block.outcomes[0].reason


@settings(max_examples=200, deadline=None)
@given(st.dictionaries(st.sampled_from([*spec().__slots__, "more"]), VALUES, max_size=3), st.booleans())
def test_any_specification_is_accepted_or_refused(changes: dict[str, Any], keep: bool) -> None:
    paper = Paper().begin()
    fields = {**asdict(spec(digest=b"d" * 32)), **changes} if keep else changes
    wire = pack(fields)
    entry = Entry.make("function.publish", [wire], ADMIN, MESH, paper.clock)
    block = paper.command([entry.bytes])
    assert block is not None
    assert block.outcomes[0].accepted or block.outcomes[0].reason
