"""The vectors in docs/protocol/gossip.md are what the code makes."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from osiris_mesh.gossip.boxes import MAX_DATAGRAM
from osiris_mesh.gossip.load import FunctionLoad, Load
from tests.gossip import test_boxes, test_message, test_topic

TEXT = (Path(__file__).resolve().parents[2] / "docs" / "protocol" / "gossip.md").read_text("utf-8")
BLOCKS = {
    re.sub(r"\s", "", block)
    for block in re.findall(r"(?:^ {4}.*\n|^\n(?= {4}))+", TEXT, re.MULTILINE)
    if re.fullmatch(r"[0-9a-f\s]+", block)
}


@pytest.mark.parametrize(
    "vector",
    [
        test_boxes.VECTOR,
        test_message.VECTOR,
        test_topic.VECTOR,
        Load(0.5, 1, 2, 3, True, {bytes(range(32)): FunctionLoad(1, 2, 3, 1.5)}).encode().hex(),  # noqa: FBT003
    ],
    ids=["datagram", "membership message", "topic message", "load"],
)
def test_the_documented_vector_is_the_codes(vector: str) -> None:
    assert vector in BLOCKS


def test_no_documented_vector_is_left_unchecked() -> None:
    assert len(BLOCKS) == 4
    assert f"at most {MAX_DATAGRAM} bytes" in TEXT
