"""Metadata blocks are found as PEP 723's reference expression finds them, but in one pass."""

from __future__ import annotations

import re
import time

from hypothesis import given
from hypothesis import strategies as st

from osiris_mesh.runtime.metadata import _blocks

REFERENCE = re.compile(r"(?m)^# /// (?P<type>[a-zA-Z0-9-]+)$\s(?P<content>(^#(| .*)$\s)+)^# ///$")
LINES = st.sampled_from(["# /// script", "# /// a", "# ///", "#", "# x = 1", "x = 1", "#!", "# /// two words"])


@given(st.lists(LINES, max_size=14))
def test_as_the_reference_does(lines: list[str]) -> None:
    expected = [
        (match["type"], match["content"].splitlines()) for match in REFERENCE.finditer("\n".join([*lines, "end"]))
    ]
    assert [(kind, list(content)) for kind, content in _blocks([*lines, "end"])] == expected


def test_many_openings_take_no_longer_than_their_lines() -> None:
    began = time.perf_counter()
    assert list(_blocks(["# /// a"] * 100_000)) == []
    assert time.perf_counter() - began < 2
