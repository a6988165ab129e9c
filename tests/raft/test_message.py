"""The wire: what goes out comes in, and nothing else does. Vectors as in docs/protocol/raft.md."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from osiris_mesh.codec import pack
from osiris_mesh.errors import RemoteProtocolError
from osiris_mesh.raft.configuration import configuration
from osiris_mesh.raft.message import MAX_COMMAND, MAX_SNAPSHOT, decode, encode

VECTORS: list[tuple[dict[str, Any], str]] = [
    (
        {
            "type": "append_entries",
            "term": 3,
            "commit_index": 7,
            "prevLogIdx": 7,
            "prevLogTerm": 2,
            "entries": [(b"\0hi", 8, 3), (b"\1", 9, 3)],
            "round": 1,
        },
        "920191970103070702 92 92c40300686903 92c4010103 01",
    ),
    (
        {
            "type": "install_snapshot",
            "term": 3,
            "commit_index": 9,
            "index": 8,
            "index_term": 2,
            "voters": ("a", "b"),
            "data": b"s",
        },
        "92019197020309080292a161a162c40173",
    ),
    (
        {"type": "next_node_idx", "term": 3, "next_node_idx": 10, "success": True, "reset": False, "round": 0},
        "9201919603030ac3c200",
    ),
    (
        {"type": "request_vote", "term": 4, "last_log_index": 9, "last_log_term": 3, "transfer": True},
        "92019195 04 04 09 03 c3",
    ),
    ({"type": "response_vote", "term": 4}, "920191920504"),
    ({"type": "pre_vote", "term": 4, "last_log_index": 9, "last_log_term": 3, "round": 2}, "9201919506 04 09 03 02"),
    ({"type": "pre_vote_answer", "term": 3, "round": 2, "granted": True}, "92019194070302c3"),
    ({"type": "commit", "term": 3, "commit_index": 9, "commit_term": 3}, "9201919408030903"),
    ({"type": "timeout_now", "term": 3}, "920191920903"),
    ({"type": "apply_command", "request_id": 5, "command": b"\0hi"}, "920191930a05c403006869"),
    ({"type": "apply_command_response", "request_id": 5, "log_idx": 9, "log_term": 3}, "920191950b05000903"),
    ({"type": "read_index", "request_id": 6}, "920191920c06"),
    ({"type": "read_index_answer", "request_id": 6, "index": 9}, "920191930d0609"),
]


@pytest.mark.parametrize(("message", "packet"), VECTORS, ids=[message["type"] for message, _ in VECTORS])
def test_vectors(message: dict[str, Any], packet: str) -> None:
    assert b"".join(encode([message])).hex() == packet.replace(" ", "")
    assert decode(bytes.fromhex(packet)) == [message]


def test_the_documented_vectors_are_these() -> None:
    page = (Path(__file__).parents[2] / "docs" / "protocol" / "raft.md").read_text()
    documented = {word for word in page.split() if word.startswith("9201")}
    assert documented == {packet.replace(" ", "") for _, packet in VECTORS}


def test_a_refusal_names_its_reason() -> None:
    (packet,) = encode([{"type": "apply_command_response", "request_id": 5, "error": 4}])
    assert decode(packet) == [
        {"type": "apply_command_response", "request_id": 5, "error": 4, "log_idx": 0, "log_term": 0}
    ]


def test_packets_are_cut_at_a_mebibyte() -> None:
    large = {"type": "apply_command", "request_id": 1, "command": bytes(MAX_COMMAND // 2)}
    packets = list(encode([large] * 5))
    assert [len(decode(packet)) for packet in packets] == [2, 2, 1] or [len(decode(packet)) for packet in packets] == [
        3,
        2,
    ]
    assert list(encode([])) == []


def body(message: list[Any]) -> bytes:
    return pack([1, [message]])


@pytest.mark.parametrize(
    "packet",
    [
        b"",
        b"\x80\x04\x95",
        pack([2, []]),
        pack([1]),
        pack({"1": []}),
        body([]),
        body([99]),
        body([5]),
        body([5, 1, 2]),
        body([5, -1]),
        body([5, 1 << 63]),
        body([5, "1"]),
        body([5, True]),
        body([3, 1, 1, 1, False, 0]),  # a number is no flag
        body([10, 1, b""]),
        body([10, 1, b"\1"]),  # a no-op can't be forwarded
        body([10, 1, configuration(["a"])]),  # nor a configuration
        body([10, 1, bytes(MAX_COMMAND + 2)]),
        body([2, 1, 1, 1, 1, ["a", "a"], b""]),
        body([2, 1, 1, 1, 1, ["a"], bytes(MAX_SNAPSHOT + 1)]),
        body([1, 3, 0, 1, 0, [[b"\0"]], 0]),
        body([1, 3, 0, 1, 0, [[b"", 1]], 0]),
        body([1, 3, 0, 1, 0, [[b"\3x", 1]], 0]),  # PySyncObj's VERSION
        body([1, 3, 0, 1, 0, [[b"\0", 2], [b"\0", 1]], 0]),  # terms go back
        body([1, 3, 0, 1, 2, [[b"\0", 1]], 0]),
        body([1, 3, 0, 1, 0, [[b"\0", 4]], 0]),  # from the future
        body([1, 3, 0, 1, 0, [[b"\2\xc0", 1]], 0]),
        body([1, 3, 0, 1, 0, {}, 0]),
        body([5, 1]) + b"\0",
    ],
)
def test_what_does_not_follow_the_protocol_is_refused(packet: bytes) -> None:
    with pytest.raises(RemoteProtocolError):
        decode(packet)


@settings(max_examples=200, deadline=None)
@given(st.binary(max_size=200))
def test_bytes_at_random_are_refused_or_sound(data: bytes) -> None:
    try:
        messages = decode(data)
    except RemoteProtocolError:
        return
    assert [message for packet in encode(messages) for message in decode(packet)] == messages


_number = st.integers(0, (1 << 62) - 1)


@settings(max_examples=100, deadline=None)
@given(
    st.lists(
        st.lists(st.one_of(_number, st.booleans(), st.binary(max_size=4), st.none()), min_size=1, max_size=7),
        max_size=4,
    )
)
def test_fields_at_random_are_refused_or_sound(items: list[Any]) -> None:
    try:
        messages = decode(pack([1, items]))
    except RemoteProtocolError:
        return
    assert [message for packet in encode(messages) for message in decode(packet)] == messages
