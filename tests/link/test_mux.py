"""The stream core: two ends back to back, hypothesis for what may be cut where, tables for what is refused."""

from __future__ import annotations

import os
from typing import Any

import msgpack
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from osiris_mesh.errors import FunctionError, LocalProtocolError, NotFound, Overloaded, RemoteProtocolError, UsageError
from osiris_mesh.link import frames
from osiris_mesh.link.mux import WINDOW, Ended, Mux, MuxLimits, MuxStream, Opened, Ponged, Received, WasReset


def framed(*items: Any) -> bytes:
    packed: bytes = msgpack.packb(list(items), use_bin_type=True)
    return len(packed).to_bytes(4, "big") + packed


class Pair:
    """Two ends; ``turn`` carries everything across, in chunks as told."""

    def __init__(self, **limits: int) -> None:
        self.a, self.b = Mux(), Mux(MuxLimits(**limits))

    def turn(self, chunk: int = 1 << 20, *, consume: bool = True) -> tuple[list[Any], list[Any]]:
        at_a: list[Any] = []
        at_b: list[Any] = []
        while self.a.wants_write or self.b.wants_write:
            at_b += self._carry(self.a, self.b, chunk, consume)
            at_a += self._carry(self.b, self.a, chunk, consume)
        return at_a, at_b

    @staticmethod
    def _carry(source: Mux, target: Mux, chunk: int, consume: bool) -> list[Any]:
        events: list[Any] = []
        data = b"".join(source.take(1 << 18))
        for start in range(0, len(data), chunk):
            new = target.receive(data[start : start + chunk])
            events += new
            for event in new:
                if consume and isinstance(event, Opened | Received):
                    target.consumed(event.stream, len(event.body))
        return events


def test_unary_call_is_one_frame_each_way() -> None:
    pair = Pair()
    ours = pair.a.open("echo", b"ping", headers={"deadline_ms": 5}, end=True)
    request = b"".join(pair.a.take(1 << 20))
    assert request == frames.open_frame(1, frames.FLAG_END, "echo", {"deadline_ms": 5}, b"ping")
    (opened,) = pair.b.receive(request)
    assert (opened.stream.method, opened.stream.headers, opened.body, opened.ended) == (
        "echo",
        {"deadline_ms": 5},
        b"ping",
        True,
    )
    pair.b.send(opened.stream, b"pong", end=True)
    answer = b"".join(pair.b.take(1 << 20))
    assert answer == frames.data_frame(-1, frames.FLAG_END, b"pong")
    assert pair.a.receive(answer) == [Received(ours, b"pong", ended=True)]
    assert pair.a.idle
    assert pair.b.idle
    assert pair.a.buffered == pair.b.buffered == 0


@settings(max_examples=40, deadline=None)
@given(
    sizes=st.lists(st.integers(0, 300_000), min_size=1, max_size=4),
    chunk=st.sampled_from([1, 7, 1000, 65_536, 1 << 20]),
    urgent=st.booleans(),
    end_apart=st.booleans(),
)
def test_messages_arrive_whole_and_in_order(sizes: list[int], chunk: int, urgent: bool, end_apart: bool) -> None:
    if chunk == 1:
        sizes = [size % 500 for size in sizes]
    messages = [bytes([number + 1]) * size for number, size in enumerate(sizes)]
    pair = Pair()
    last = len(messages) - 1
    stream = pair.a.open("m", messages[0], urgent=urgent, end=not end_apart and last == 0)
    for number, message in enumerate(messages[1:], 1):
        pair.a.send(stream, message, end=not end_apart and number == last)
    if end_apart:
        pair.a.end(stream)
    _, events = pair.turn(chunk)
    assert [event.body for event in events if not isinstance(event, Ended)] == messages
    assert isinstance(events[0], Opened)
    remote = events[0].stream
    assert remote.recv_ended
    assert remote.urgent is urgent
    pair.b.end(remote)
    at_a, _ = pair.turn(chunk)
    assert at_a == [Ended(stream)]
    assert pair.a.idle
    assert pair.b.idle
    assert pair.b.buffered == 0
    assert stream.queued == 0


def test_a_stream_nobody_reads_holds_one_window_and_blocks_no_other() -> None:
    pair = Pair()
    slow = pair.a.open("slow")
    for _ in range(5):
        pair.a.send(slow, bytes(WINDOW // 2))
    quick = pair.a.open("quick", b"q", end=True)
    _, events = pair.turn(consume=False)
    assert [event.body for event in events if event.stream.id == -quick.id] == [b"q"]
    received = [event for event in events if isinstance(event, Received)]
    assert sum(len(event.body) for event in received) == WINDOW
    assert pair.b.buffered < WINDOW + 4096
    for event in received:
        pair.b.consumed(event.stream, len(event.body))
    _, events = pair.turn()
    assert sum(len(event.body) for event in events) == 5 * (WINDOW // 2) - WINDOW


def test_a_message_larger_than_the_window_arrives_while_nothing_else_waits() -> None:
    pair = Pair()
    body = bytes(3 * WINDOW + 5)
    pair.a.open("big", body, end=True)
    _, (opened,) = pair.turn(consume=False)
    assert opened.body == body


def test_unread_message_keeps_the_next_large_one_out() -> None:
    pair = Pair()
    stream = pair.a.open("two")
    pair.a.send(stream, bytes(1000))
    pair.a.send(stream, bytes(3 * WINDOW), end=True)
    _, events = pair.turn(consume=False)
    assert [len(event.body) for event in events] == [0, 1000]
    assert pair.b.buffered <= WINDOW + 1000
    for event in events:
        pair.b.consumed(event.stream, len(event.body))
    _, events = pair.turn(consume=False)
    assert [len(event.body) for event in events] == [3 * WINDOW]


def test_urgent_and_control_frames_overtake_bulk() -> None:
    a = Mux()
    a.open("bulk", bytes(1 << 20), end=True)
    first = a.take(1)
    a.open("raft", b"heartbeat", end=True, urgent=True)
    a.ping(7)
    assert len(b"".join(first)) <= frames.MAX_PIECE + 64
    following = b"".join(a.take(1))
    assert b"heartbeat" in following
    assert frames.ping_frame(7) == b"".join(a.take(1))


def test_bulk_streams_take_turns() -> None:
    a, b = Mux(), Mux()
    for name in ("one", "two", "three"):
        a.open(name, name.encode() * 80_000, end=True)
    pieces = []
    while data := b"".join(a.take(1)):
        pieces.append(frames.parse(data[4:])[1])
        b.receive(data)
    # Each stands in line once with its OPEN and once for the rest; from there on they take turns to the end.
    assert pieces[:6] == [1, 1, 2, 2, 3, 3]
    assert pieces[6:12] == [1, 2, 3] * 2


def test_reset_carries_an_error_and_drops_what_is_queued() -> None:
    pair = Pair()
    stream = pair.a.open("f", b"x", end=True)
    _, (opened,) = pair.turn()
    pair.b.send(opened.stream, bytes(500_000))
    error = FunctionError("it raised", type="ValueError", message="no", traceback="line 1")
    pair.b.reset(opened.stream, error)
    ((event,), _) = pair.turn()
    assert isinstance(event, WasReset)
    assert event.stream is stream
    assert isinstance(event.error, FunctionError)
    assert event.error.details == error.details
    assert pair.a.idle
    assert pair.b.idle


@pytest.mark.parametrize(
    "details",
    [
        {"traceback": "x" * 300_000},
        {"object": object()},
        {"deep": [[[[[[[[[[[[1]]]]]]]]]]]]},
        {"many": list(range(10_000))},
        {"big": 1 << 70},
        {str(number): "y" * 60_000 for number in range(20)},
    ],
)
def test_an_error_too_large_or_strange_is_cut_never_lost(details: dict[str, Any]) -> None:
    frame = frames.reset_frame(3, NotFound("no such thing", fix="look elsewhere", **details))
    _, _, wire = frames.parse(frame[4:])
    assert (wire["code"], wire["what"], wire["fix"]) == ("not_found", "no such thing", "look elsewhere")
    if "traceback" in details:
        assert wire["details"]["traceback"] == "x" * 4096


def test_reset_before_the_open_was_written_sends_nothing() -> None:
    a = Mux()
    stream = a.open("never")
    a.reset(stream)
    assert a.take(1 << 20) == []
    assert a.idle
    assert not stream.sent


def test_finish_says_so_behind_everything_queued() -> None:
    pair = Pair()
    ours = pair.a.open("download")
    _, (opened,) = pair.turn()
    pair.b.send(opened.stream, bytes(200_000))
    pair.b.finish(opened.stream)
    at_a, _ = pair.turn()
    assert [type(event) for event in at_a] == [Received, WasReset]
    assert at_a[0].ended
    assert at_a[1].error is None
    assert ours.gone
    assert pair.b.idle


def test_too_many_streams_are_answered_overloaded_and_the_link_lives() -> None:
    pair = Pair(streams=2)
    streams = [pair.a.open("s") for _ in range(3)]
    at_a, at_b = pair.turn()
    assert [event.stream.id for event in at_b] == [-1, -2]
    (refused,) = at_a
    assert refused.stream is streams[2]
    assert isinstance(refused.error, Overloaded)
    assert refused.error.details["retry_after_ms"] > 0
    pair.a.reset(streams[0])
    pair.a.open("s")
    _, at_b = pair.turn()
    assert [type(event) for event in at_b] == [WasReset, Opened]


def test_what_is_buffered_is_bounded_over_all_streams() -> None:
    pair = Pair(buffered=1 << 20)
    for _ in range(4):
        pair.a.open("upload", bytes(400_000), end=True)
    at_a, at_b = pair.turn(consume=False)
    assert pair.b.buffered <= 1 << 20
    assert len([event for event in at_b if isinstance(event, Opened)]) == 2
    assert all(isinstance(event.error, Overloaded) for event in at_a)
    assert len(at_a) == 2


def test_empty_messages_are_not_free() -> None:
    pair = Pair(buffered=100 * 1024)
    stream = pair.a.open("flood")
    for _ in range(2000):
        pair.a.send(stream, b"")
    at_a, _ = pair.turn(consume=False)
    assert [type(event) for event in at_a] == [WasReset]
    assert pair.b.buffered == 0


def test_tiny_pieces_of_a_message_do_not_cost_an_object_each() -> None:
    b = Mux()
    b.receive(framed(0, 1, frames.FLAG_MORE, "m", {}, b"x"))
    for _ in range(5000):
        assert b.receive(framed(1, 1, frames.FLAG_MORE, b"y")) == []
    (stream,) = b.streams()
    assert stream.partial is not None
    assert len(stream.partial) == 1
    (opened,) = b.receive(framed(1, 1, frames.FLAG_END, b"z"))
    assert opened.body == b"x" + b"y" * 5000 + b"z"


@given(
    number=st.sampled_from([1, 127, 128, 255, 256, 65_535, 65_536, 1 << 32, frames.MAX_ID]),
    negative=st.booleans(),
    flags=st.integers(0, 4),
    size=st.sampled_from([200, 300, 5000, 65_535, 65_536, 65_537]),
)
@settings(max_examples=60)
def test_a_piece_read_in_place_is_what_the_decoder_reads(number: int, negative: bool, flags: int, size: int) -> None:
    frame = memoryview(frames.data_frame(-number if negative else number, flags, b"x" * size))[4:]
    try:
        expected = frames.parse(frame)
    except RemoteProtocolError:
        assert frames.data_piece(frame) is None
    else:
        assert frames.data_piece(frame) == (expected[1], expected[2], expected[3])
        assert frames.data_piece(frame[:-1]) is None


@pytest.mark.parametrize("chunk", [1 << 20, 200_000, 65_536, 65_000, 5000, 999])
@pytest.mark.parametrize("kind", [bytes, bytearray])
def test_what_was_handed_in_may_be_used_again_unless_it_is_bytes(kind: type, chunk: int) -> None:
    a, b = Mux(), Mux()
    body = os.urandom(700_000)
    a.open("m", body, end=True)
    wire = b"".join(a.take(1 << 30))
    events = []
    for start in range(0, len(wire), chunk):
        data = kind(wire[start : start + chunk])
        events += b.receive(data)
        if kind is bytearray:
            data[:] = bytes(len(data))  # as a reader does that fills its buffer again
    (opened,) = events
    assert type(opened.body) is bytes
    assert opened.body == body


def test_message_larger_than_the_limit_is_refused_at_both_ends() -> None:
    pair = Pair(message=100_000)
    pair.a.open("m", bytes(200_000), end=True)
    (event,), at_b = pair.turn()
    assert at_b == []
    assert isinstance(event.error, UsageError)
    small = Mux(MuxLimits(message=10))
    with pytest.raises(UsageError):
        small.open("m", bytes(11))
    assert small.idle


def test_frames_behind_a_reset_are_ignored_but_invented_streams_are_not() -> None:
    pair = Pair()
    stream = pair.a.open("s")
    pair.turn()
    pair.a.reset(stream)
    late = framed(1, -1, 0, b"crossed on the way") + framed(4, -1, 100) + framed(2, -1) + framed(3, -1, None)
    assert pair.a.receive(late) == []
    for number in (5, -5):
        with pytest.raises(RemoteProtocolError):
            Mux().receive(framed(1, number, 0, b""))


def test_sending_after_the_end_is_our_own_defect() -> None:
    a = Mux()
    stream = a.open("s", end=True)
    with pytest.raises(LocalProtocolError):
        a.send(stream, b"late")


def test_pings_are_answered_ahead_of_everything() -> None:
    pair = Pair()
    pair.a.ping(99)
    at_a, _ = pair.turn()
    assert at_a == [Ponged(99)]


def test_a_peer_that_asks_and_never_reads_is_cut() -> None:
    b = Mux(MuxLimits(control=10))
    with pytest.raises(RemoteProtocolError):
        b.receive(framed(5, 1) * 11)


def test_deadlines_name_each_stream_once() -> None:
    a = Mux()
    streams = [a.open("s") for _ in range(3)]
    for stream, deadline in zip(streams, (3.0, 1.0, 2.0), strict=True):
        a.set_deadline(stream, deadline)
    assert a.next_deadline == 1.0
    assert a.expire(0.5) == []
    assert a.expire(2.0) == [streams[1], streams[2]]
    assert a.next_deadline == 3.0
    a.reset(streams[0])
    assert a.expire(10.0) == []
    assert a.next_deadline is None


HEADS = frames.open_frame(1, 0, "m", {}, b"")
BAD: list[tuple[str, bytes]] = [
    ("no length", (0).to_bytes(4, "big")),
    ("announces too much", (frames.MAX_FRAME + 1).to_bytes(4, "big")),
    ("announces 4 GiB", b"\xff\xff\xff\xff"),
    ("not msgpack", b"\x00\x00\x00\x01\xc1"),
    ("not an array", b"\x00\x00\x00\x01\x05"),
    ("empty array", framed()),
    ("unknown kind", framed(7, 1)),
    ("kind is a bool", framed(*[True], 1, 0, b"")),
    ("kind is text", framed("OPEN", 1)),
    ("too few items", framed(1, 1, 0)),
    ("too many items", framed(2, 1, 0)),
    ("trailing byte", b"\x00\x00\x00\x04\x92\x02\x01\x00"),
    ("extension type", b"\x00\x00\x00\x05\x92\x05\xd4\x01\x00"),
    ("stream zero", framed(0, 0, 0, "m", {}, b"")),
    ("stream beyond 53 bits", framed(0, 1 << 53, 0, "m", {}, b"")),
    ("stream is a float", framed(0, 1.0, 0, "m", {}, b"")),
    ("open of our own", framed(0, -1, 0, "m", {}, b"")),
    ("open twice", HEADS + HEADS),
    ("open with both flags", framed(0, 1, 3, "m", {}, b"")),
    ("open with an unknown flag", framed(0, 1, 8, "m", {}, b"")),
    ("open of no method", framed(0, 1, 0, "", {}, b"")),
    ("open of a long method", framed(0, 1, 0, "m" * 129, {}, b"")),
    ("open of a method outside ASCII", framed(0, 1, 0, "é", {}, b"")),
    ("headers no map", framed(0, 1, 0, "m", [], b"")),
    ("headers with numbers as keys", framed(0, 1, 0, "m", {1: 2}, b"")),
    ("text for bytes", framed(0, 1, 0, "m", {}, "")),
    ("piece too long", framed(0, 1, 0, "m", {}, bytes(65_537))),
    ("data with both flags", HEADS + framed(1, 1, 3, b"")),
    ("data behind the end", framed(0, 1, 1, "m", {}, b"") + framed(1, 1, 0, b"")),
    ("end behind the end", framed(0, 1, 1, "m", {}, b"") + framed(2, 1)),
    ("end inside a message", framed(0, 1, 2, "m", {}, b"x") + framed(2, 1)),
    ("an empty piece that goes on", HEADS + framed(1, 1, 2, b"")),
    ("reset with text", HEADS + framed(3, 1, "error")),
    ("credit of nothing", HEADS + framed(4, 1, 0)),
    ("credit below nothing", HEADS + framed(4, 1, -1)),
    ("credit past counting", HEADS + framed(4, 1, 1 << 52) * 3),
    ("ping below zero", framed(5, -1)),
    ("more than the window", HEADS + framed(1, 1, 0, bytes(65_536)) * 17),
]


@pytest.mark.parametrize("data", [data for _, data in BAD], ids=[name for name, _ in BAD])
def test_what_breaks_the_protocol_is_refused(data: bytes) -> None:
    with pytest.raises(RemoteProtocolError):
        Mux().receive(data)


@settings(max_examples=150, deadline=None)
@given(st.lists(st.binary(max_size=60), max_size=5))
def test_garbage_is_refused_or_waited_for_never_something_else(blobs: list[bytes]) -> None:
    mux = Mux()
    for blob in blobs:
        try:
            mux.receive(len(blob).to_bytes(4, "big") + blob)
        except RemoteProtocolError:
            return
        assert mux.buffered < 1024


_ITEM = st.one_of(st.integers(-3, 9), st.binary(max_size=8), st.none(), st.text(max_size=3), st.just({}), st.booleans())


@settings(max_examples=300, deadline=None)
@given(st.lists(st.lists(_ITEM, max_size=6), max_size=12))
def test_any_sequence_of_arrays_keeps_the_books(sequence: list[list[Any]]) -> None:
    mux = Mux(MuxLimits(streams=3))
    try:
        for items in sequence:
            mux.receive(framed(*items))
            mux.take(1 << 16)
    except RemoteProtocolError:
        pass
    assert len(mux.streams()) <= 3
    assert mux.buffered == sum(stream.cost for stream in mux.streams())


@settings(max_examples=60, deadline=None)
@given(
    st.lists(
        st.tuples(
            st.sampled_from(["open", "send", "end", "reset", "carry"]),
            st.integers(0, 3),
            st.integers(0, 200_000),
            st.booleans(),
        ),
        max_size=25,
    )
)
def test_random_use_loses_and_mixes_nothing(steps: list[tuple[str, int, int, bool]]) -> None:
    pair = Pair()
    streams: list[MuxStream] = []
    sent: dict[int, list[int]] = {}
    got: dict[int, list[int]] = {}

    def carry() -> None:
        for event in pair.turn()[1]:
            if isinstance(event, Opened | Received):
                got.setdefault(-event.stream.id, []).append(len(event.body))

    for action, which, size, flag in steps:
        live = [stream for stream in streams if not stream.gone and not stream.send_ended]
        if action == "open":
            stream = pair.a.open("m", bytes(size), urgent=flag)
            streams.append(stream)
            sent[stream.id] = [size]
        elif action == "carry":
            carry()
        elif live:
            stream = live[which % len(live)]
            if action == "send":
                pair.a.send(stream, bytes(size), end=flag)
                sent[stream.id].append(size)
            elif action == "end":
                pair.a.end(stream)
            else:
                pair.a.reset(stream)
    carry()
    for stream in streams:
        arrived = got.get(stream.id, [])
        if stream.dropped:
            assert arrived == sent[stream.id][: len(arrived)]
        else:
            assert arrived == sent[stream.id]
    assert pair.b.buffered == sum(stream.cost for stream in pair.b.streams())
