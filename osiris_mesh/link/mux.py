"""Streams over one ordered byte pipe: the protocol core both shells share.

A *stream* carries messages in both directions; a message is cut into pieces of at most 64 KiB, so that a large one
never holds up a small one. A unary call is the special case of one message each way: OPEN with the END flag, answered
by DATA with the END flag (or RESET with an error).

One direction of a stream, seen by its sender::

    state     on            goes to   sends
    idle      open          open      OPEN
    open      send          open      DATA…
    open      end           ended     END, or the END flag on the last piece
    any       reset         gone      RESET
    ended     (both ends)   gone

Flow control: a sender may have :data:`WINDOW` bytes of payload under way on a stream; the receiver gives them back with
CREDIT once its application has taken them, or while it puts together a message longer than the window and nothing else
of that stream waits unread. So a receiver holds per stream at most one message and one window, and
:class:`MuxLimits` bounds the sum over the link.

Lanes: control frames (RESET, CREDIT, PING, PONG) and the frames of urgent streams are *urgent* and overtake all others;
*bulk* streams take turns, a piece each.

The peer breaking the protocol raises :class:`RemoteProtocolError`: the shell closes the link. What concerns one stream
alone (too many streams, too large a message) resets that stream.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final, NamedTuple

from osiris_mesh.errors import LocalProtocolError, OsirisError, Overloaded, RemoteProtocolError, UsageError
from osiris_mesh.link.frames import (
    CREDIT,
    DATA,
    END,
    FLAG_END,
    FLAG_MORE,
    FLAG_URGENT,
    MAX_FRAME,
    MAX_ID,
    MAX_PIECE,
    OPEN,
    PING,
    PONG,
    RESET,
    credit_frame,
    data_frame,
    data_lead,
    data_piece,
    end_frame,
    open_frame,
    parse,
    ping_frame,
    pong_frame,
    reset_frame,
)

__all__ = [
    "WINDOW",
    "Ended",
    "Event",
    "Mux",
    "MuxLimits",
    "MuxStream",
    "Opened",
    "Ponged",
    "Received",
    "WasReset",
]

WINDOW: Final = 1 << 20
"""Bytes a sender may have under way on one stream before the first CREDIT; both ends know it."""

_RETURN: Final = WINDOW // 4
_COPY_BELOW: Final = 4096
# What an empty message costs us in memory; without it a flood of tiny ones would be free.
_MESSAGE_COST: Final = 128


@dataclass(frozen=True, slots=True)
class MuxLimits:
    """What one link may cost us.

    Attributes:
        streams: Streams the peer may have open at a time; more are answered Overloaded.
        message: Bytes of one message; a longer one is refused.
        buffered: Bytes received on all streams and not yet taken by us; beyond, streams are answered Overloaded.
        control: Control frames waiting because the peer does not read; beyond, the link is closed.
    """

    streams: int = 1024
    message: int = (1 << 28) + 65_536
    buffered: int = 1 << 29
    control: int = 4096


class MuxStream:
    """One stream. Its fields are written by :class:`Mux` alone, except ``owner``; shells read those named here.

    Attributes:
        id: Positive if this end opened it, else negative.
        method: What it was opened for.
        headers: As sent by the opener.
        urgent: Its frames overtake bulk.
        owner: The shell's own object for it.
        deadline: Monotonic seconds, or None; set with :meth:`Mux.set_deadline`.
        sent: The OPEN frame was handed over for writing.
        queued: Bytes waiting to be handed over for writing.
        gone: Nothing more comes or goes.
        send_ended: This end has ended its direction.
        recv_ended: The peer has ended its direction.
    """

    __slots__ = (
        "cost",
        "credit",
        "deadline",
        "debt",
        "dropped",
        "finishing",
        "gone",
        "headers",
        "held",
        "id",
        "in_lane",
        "method",
        "opened",
        "owner",
        "partial",
        "partial_size",
        "pending",
        "queued",
        "recv_ended",
        "send_ended",
        "sent",
        "unread",
        "urgent",
        "window",
    )

    def __init__(self, stream_id: int, method: str, headers: dict[str, Any], *, urgent: bool) -> None:
        self.id = stream_id
        self.method = method
        self.headers = headers
        self.urgent = urgent
        self.owner: Any = None
        self.deadline: float | None = None
        self.sent = False
        self.queued = 0
        self.gone = False
        self.send_ended = False
        self.recv_ended = False
        self.opened = True
        self.pending: deque[tuple[memoryview, bool]] | None = None
        self.in_lane = False
        self.credit = WINDOW
        self.window = WINDOW  # what the peer may still send
        self.held = 0  # received, not yet given back as credit
        self.debt = 0  # to be given back, waiting to be worth a frame
        self.cost = 0  # its share of Mux.buffered
        self.unread = 0  # whole messages not yet taken by the application
        self.partial: list[bytes | bytearray | memoryview] | None = None
        self.partial_size = 0
        self.dropped = False
        self.finishing = False

    def __repr__(self) -> str:
        return f"MuxStream({self.id}, {self.method!r})"


class Opened(NamedTuple):
    """The peer opened ``stream``; ``body`` is its first message, whole; ``ended``: no other message follows."""

    stream: MuxStream
    body: bytes
    ended: bool


class Received(NamedTuple):
    """A whole message arrived on ``stream``; ``ended``: it was the last."""

    stream: MuxStream
    body: bytes
    ended: bool


class Ended(NamedTuple):
    """The peer sends nothing more on ``stream``."""

    stream: MuxStream


class WasReset(NamedTuple):
    """``stream`` is over, by the peer or by a limit of ours; ``error`` is None if it is just no longer wanted."""

    stream: MuxStream
    error: OsirisError | None


class Ponged(NamedTuple):
    """The peer answered the PING with this token."""

    token: int


Event = Opened | Received | Ended | WasReset | Ponged


def _length(prefix: memoryview | bytearray) -> int:
    length = int.from_bytes(prefix, "big")
    if not 0 < length <= MAX_FRAME:
        raise RemoteProtocolError(f"a frame of {length} bytes, outside 1 to {MAX_FRAME}")
    return length


# What waits to be written: a control frame (no stream), a stream's frame, or a stream's turn to cut a piece (no frame).
_Lane = deque[tuple[MuxStream | None, bytes | None]]


class Mux:
    """The streams of one link. Not thread-safe; no method blocks.

    Args:
        limits: What the peer may make us spend.

    Attributes:
        buffered: Bytes received and not yet taken, with what the messages cost besides.
        next_deadline: No stream's deadline is before this; monotonic seconds.
        just_opened: Streams whose OPEN was in what :meth:`take` returned last.
    """

    def __init__(self, limits: MuxLimits | None = None) -> None:
        self.limits = limits or MuxLimits()
        self.buffered = 0
        self.next_deadline: float | None = None
        self.just_opened: list[MuxStream] = []
        self._streams: dict[int, MuxStream] = {}
        self._last_local = 0
        self._last_remote = [0, 0]  # of bulk and of urgent streams: an urgent OPEN overtakes earlier bulk ones
        self._remote_open = 0
        self._urgent: _Lane = deque()
        self._bulk: _Lane = deque()
        self._controls = 0
        self._input = bytearray()

    # what the application does

    def open(
        self,
        method: str,
        body: bytes = b"",
        *,
        headers: Mapping[str, Any] | None = None,
        end: bool = False,
        urgent: bool = False,
    ) -> MuxStream:
        """Open a stream with its first message.

        Args:
            method: ASCII, at most 128 bytes.
            body: First message.
            headers: Map of JSON types and bytes, at most 32 KiB packed.
            end: No other message follows.
            urgent: Its frames overtake bulk.

        Raises:
            TypeError: ``body`` is not bytes.
            UsageError: Headers or body too large.
        """
        if type(body) is not bytes:
            body = bytes(memoryview(body))
        if len(body) > self.limits.message:
            raise UsageError(f"a message of {len(body)} bytes is larger than the {self.limits.message} a link carries")
        self._last_local += 1
        stream = MuxStream(self._last_local, method, {}, urgent=urgent)
        first: bytes | memoryview = body
        flags = FLAG_URGENT if urgent else 0
        rest = None
        if len(body) > MAX_PIECE:
            view = memoryview(body)
            first, rest = view[:MAX_PIECE], view[MAX_PIECE:]
            flags |= FLAG_MORE
        elif end:
            flags |= FLAG_END
        frame = open_frame(stream.id, flags, method, headers or {}, first)
        self._streams[stream.id] = stream
        stream.send_ended = end
        stream.credit -= len(first)
        self._enqueue(stream, frame)
        if rest is not None:
            self._queue(stream, rest, end)
        return stream

    def send(self, stream: MuxStream, body: bytes, *, end: bool = False) -> None:
        """Send a message; ``end`` says it is the last. Does nothing on a stream that is gone.

        Raises:
            LocalProtocolError: This end has ended the stream already.
            TypeError: ``body`` is not bytes.
            UsageError: The message is larger than a link carries.
        """
        if stream.gone:
            return
        if stream.send_ended:
            raise LocalProtocolError("a message after the end of its stream")
        if type(body) is not bytes:
            body = bytes(memoryview(body))
        size = len(body)
        if size > self.limits.message:
            raise UsageError(f"a message of {size} bytes is larger than the {self.limits.message} a link carries")
        stream.send_ended = end
        if size > _COPY_BELOW or stream.pending or size > stream.credit:
            self._queue(stream, memoryview(body), end)
            return
        stream.credit -= size
        self._enqueue(stream, data_frame(stream.id, FLAG_END if end else 0, body))
        if end and stream.recv_ended:
            self._forget(stream)

    def end(self, stream: MuxStream) -> None:
        """Say that no other message follows; does nothing if that was said."""
        if stream.gone or stream.send_ended:
            return
        stream.send_ended = True
        if stream.pending:
            view, _ = stream.pending.pop()
            stream.pending.append((view, True))
            return
        self._enqueue(stream, end_frame(stream.id))
        if stream.recv_ended:
            self._forget(stream)

    def finish(self, stream: MuxStream) -> None:
        """End our direction and tell the peer, behind all that is queued, that nothing more of its own is wanted."""
        self.end(stream)
        if stream.gone:
            return
        if stream.pending:
            stream.finishing = True
            return
        self._enqueue(stream, reset_frame(stream.id, None))
        self._forget(stream)

    def reset(self, stream: MuxStream, error: OsirisError | None = None) -> None:
        """End both directions at once; what is queued is dropped; does nothing on a stream that is gone."""
        if stream.gone:
            return
        if stream.sent or stream.id < 0:
            self._control(reset_frame(stream.id, error))
        self._drop(stream)

    def consumed(self, stream: MuxStream, size: int) -> None:
        """Say that the application took a message of ``size`` bytes off ``stream``, so that more may come."""
        if stream.gone:
            return
        stream.unread -= 1
        stream.cost -= size + _MESSAGE_COST
        self.buffered -= size + _MESSAGE_COST
        self._release(stream, min(size, stream.held) if stream.unread else stream.held)

    def ping(self, token: int) -> None:
        """Ask the peer for a sign of life; :class:`Ponged` answers."""
        self._control(ping_frame(token))

    def set_deadline(self, stream: MuxStream, deadline: float) -> None:
        """Let :meth:`expire` name ``stream`` from ``deadline`` (monotonic seconds) on."""
        stream.deadline = deadline
        if self.next_deadline is None or deadline < self.next_deadline:
            self.next_deadline = deadline

    def expire(self, now: float) -> list[MuxStream]:
        """Return the streams whose deadline has passed, each once; ``next_deadline`` becomes that of the others."""
        due: list[MuxStream] = []
        soonest: float | None = None
        for stream in self._streams.values():
            deadline = stream.deadline
            if deadline is None:
                continue
            if deadline <= now:
                stream.deadline = None
                due.append(stream)
            elif soonest is None or deadline < soonest:
                soonest = deadline
        self.next_deadline = soonest
        return due

    def streams(self) -> list[MuxStream]:
        """Return the streams that are open."""
        return list(self._streams.values())

    @property
    def idle(self) -> bool:
        """Whether no stream is open."""
        return not self._streams

    # what goes out

    @property
    def wants_write(self) -> bool:
        """Whether :meth:`take` may have something."""
        return bool(self._urgent or self._bulk)

    def take(self, limit: int) -> list[bytes | memoryview]:
        """Return what to write next, in order: urgent first, then bulk by turns, until ``limit`` bytes are passed."""
        out: list[bytes | memoryview] = []
        size = 0
        self.just_opened.clear()
        urgent, bulk = self._urgent, self._bulk
        while size < limit:
            if urgent:
                lane = urgent
            elif bulk:
                lane = bulk
            else:
                break
            stream, frame = lane.popleft()
            if stream is None:
                self._controls -= 1
            elif stream.dropped:
                continue
            elif frame is None:
                size += self._cut(stream, out)
                continue
            else:
                if not stream.sent:
                    stream.sent = True
                    self.just_opened.append(stream)
                stream.queued -= len(frame)
            assert frame is not None  # noqa: S101 - for the type checker: only streams have lazily cut frames
            out.append(frame)
            size += len(frame)
        return out

    def _control(self, frame: bytes) -> None:
        if self._controls >= self.limits.control:
            raise RemoteProtocolError("the peer makes work and does not read the answers")
        self._controls += 1
        self._urgent.append((None, frame))

    def _enqueue(self, stream: MuxStream, frame: bytes) -> None:
        stream.queued += len(frame)
        (self._urgent if stream.urgent else self._bulk).append((stream, frame))

    def _queue(self, stream: MuxStream, view: memoryview, end: bool) -> None:
        if stream.pending is None:
            stream.pending = deque()
        stream.pending.append((view, end))
        stream.queued += len(view)
        self._line_up(stream)

    def _line_up(self, stream: MuxStream) -> None:
        """Give the stream a turn in its lane if it has something it may send."""
        if stream.in_lane or not stream.pending:
            return
        if stream.credit > 0 or not stream.pending[0][0]:
            stream.in_lane = True
            (self._urgent if stream.urgent else self._bulk).append((stream, None))

    def _cut(self, stream: MuxStream, out: list[bytes | memoryview]) -> int:
        """Append the stream's next piece to ``out``, line the stream up again for the rest; return the size."""
        stream.in_lane = False
        pending = stream.pending
        if not pending:
            return 0
        view, end = pending[0]
        size = min(len(view), MAX_PIECE, stream.credit)
        if size < len(view):
            if not size:
                return 0
            piece, flags = view[:size], FLAG_MORE
            pending[0] = (view[size:], end)
        else:
            piece, flags = view, FLAG_END if end else 0
            pending.popleft()
        stream.credit -= size
        stream.queued -= size
        if size <= _COPY_BELOW:
            out.append(data_frame(stream.id, flags, piece))
        else:
            out.append(data_lead(stream.id, flags, size))
            out.append(piece)
        if pending:
            self._line_up(stream)
        elif stream.send_ended and stream.recv_ended:
            self._forget(stream)
        elif stream.finishing:
            out.append(reset_frame(stream.id, None))
            self._forget(stream)
        return size + 16

    # what comes in

    def receive(self, data: bytes | bytearray | memoryview) -> list[Event]:
        """Take bytes from the peer and return what they say, in order; keeps what is not yet a whole frame.

        Of ``bytes``, which nobody changes any more, large pieces of a message are kept in place until it is whole.

        Raises:
            RemoteProtocolError: The peer broke the protocol; the link is of no more use.
        """
        events: list[Event] = []
        offset, total = 0, len(data)
        # A piece in place holds all of ``data`` in memory, so it must be a good part of it.
        keep = max(_COPY_BELOW, total // 4) if type(data) is bytes else MAX_FRAME
        with memoryview(data) as view:
            if self._input:
                offset = self._complete(view, events)
            while total - offset >= 4:
                after = offset + 4 + _length(view[offset : offset + 4])
                if after > total:
                    break
                self._take_in(view[offset + 4 : after], keep, events)
                offset = after
            if offset < total:
                self._input += view[offset:]
        return events

    def _complete(self, view: memoryview, events: list[Event]) -> int:
        """Add to the frame that is held what it lacks; return how much of ``view`` that took."""
        held = self._input
        offset = 0
        if len(held) < 4:
            offset = 4 - len(held)
            held += view[:offset]
            if len(held) < 4:
                return len(view)
        missing = 4 + _length(held[:4]) - len(held)
        held += view[offset : offset + missing]
        if len(view) - offset < missing:
            return len(view)
        # What is held belongs to this frame alone: its piece may stay where it is.
        self._input = bytearray()
        self._take_in(memoryview(held)[4:], _COPY_BELOW, events)
        return offset + missing

    def _take_in(self, frame: memoryview, keep: int, events: list[Event]) -> None:
        """Act upon one frame; pieces of ``keep`` bytes or more need no copy."""
        piece = data_piece(frame) if len(frame) > _COPY_BELOW else None
        if piece is None:
            self._frame(parse(frame), events)
            return
        number, flags, payload = piece
        stream = self._streams.get(-number)
        if stream is None:
            self._check_known(number)
        elif stream.recv_ended:
            raise RemoteProtocolError("a frame behind the end of its stream")
        else:
            in_place = len(payload) >= keep and (flags & FLAG_MORE or stream.partial is not None)
            self._piece(stream, flags, payload if in_place else bytes(payload), events)

    def _check_known(self, number: int) -> None:
        """Pass over what crossed our RESET, or the end of the stream, on the way."""
        if number > max(self._last_remote) or -number > self._last_local:
            raise RemoteProtocolError("a frame for a stream that was never opened")

    def _frame(self, frame: list[Any], events: list[Event]) -> None:
        kind, number = frame[0], frame[1]
        if kind == OPEN:
            self._on_open(frame, events)
            return
        if kind == PING:
            self._control(pong_frame(number))
            return
        if kind == PONG:
            events.append(Ponged(number))
            return
        stream = self._streams.get(-number)
        if stream is None:
            self._check_known(number)
            return
        if kind == CREDIT:
            stream.credit += frame[2]
            if stream.credit > MAX_ID:
                raise RemoteProtocolError("more credit than can be counted")
            self._line_up(stream)
        elif kind == RESET:
            error = None if frame[2] is None else OsirisError.from_wire(frame[2])
            self._drop(stream)
            if stream.opened:
                events.append(WasReset(stream, error))
        elif stream.recv_ended:
            raise RemoteProtocolError("a frame behind the end of its stream")
        elif kind == DATA:
            self._piece(stream, frame[2], frame[3], events)
        elif kind == END:
            if stream.partial is not None or not stream.opened:
                raise RemoteProtocolError("an END inside a message")
            stream.recv_ended = True
            events.append(Ended(stream))
            if stream.send_ended and not stream.pending:
                self._forget(stream)

    def _on_open(self, frame: list[Any], events: list[Event]) -> None:
        _, number, flags, method, headers, piece = frame
        urgent = bool(flags & FLAG_URGENT)
        if number <= self._last_remote[urgent]:
            raise RemoteProtocolError("a stream was opened out of order")
        self._last_remote[urgent] = number
        stream = MuxStream(-number, method, headers, urgent=urgent)
        if self._remote_open >= self.limits.streams:
            error = Overloaded(f"more than {self.limits.streams} calls at a time on one link", retry_after_ms=100)
            self._control(reset_frame(stream.id, error))
            return
        stream.opened = False
        self._streams[-number] = stream
        self._remote_open += 1
        self._piece(stream, flags & 3, piece, events)

    def _piece(self, stream: MuxStream, flags: int, piece: bytes | memoryview, events: list[Event]) -> None:
        size = len(piece)
        if size > stream.window:
            raise RemoteProtocolError("more bytes on a stream than were allowed")
        stream.window -= size
        stream.held += size
        cost = size if flags & FLAG_MORE else size + _MESSAGE_COST
        stream.cost += cost
        self.buffered += cost
        if self.buffered > self.limits.buffered:
            self._refuse(stream, Overloaded("too much data waits on one link", retry_after_ms=100), events)
            return
        if size + stream.partial_size > self.limits.message:
            self._refuse(stream, UsageError(f"a message longer than {self.limits.message} bytes"), events)
            return
        if flags & FLAG_MORE:
            if not size:
                raise RemoteProtocolError("an empty piece in the midst of a message")
            self._keep(stream, piece)
            if not stream.unread:
                self._release(stream, stream.held)
            return
        if stream.partial is None:
            body = piece if type(piece) is bytes else bytes(piece)
        else:
            stream.partial.append(piece)
            body = b"".join(stream.partial)
            stream.partial = None
            stream.partial_size = 0
        stream.unread += 1
        ended = bool(flags & FLAG_END)
        stream.recv_ended = ended
        if stream.opened:
            events.append(Received(stream, body, ended))
        else:
            stream.opened = True
            events.append(Opened(stream, body, ended))
        if ended and stream.send_ended and not stream.pending:
            self._forget(stream)

    @staticmethod
    def _keep(stream: MuxStream, piece: bytes | memoryview) -> None:
        """Keep a piece of an unfinished message; tiny pieces are joined, so that each does not cost an object."""
        partial = stream.partial
        if partial is None:
            partial = stream.partial = []
        stream.partial_size += len(piece)
        if len(piece) >= _COPY_BELOW:
            partial.append(piece)
        elif partial and type(partial[-1]) is bytearray:
            partial[-1] += piece
        else:
            partial.append(bytearray(piece))

    def _release(self, stream: MuxStream, size: int) -> None:
        stream.held -= size
        stream.debt += size
        if stream.debt >= _RETURN and not stream.recv_ended:
            self._control(credit_frame(stream.id, stream.debt))
            stream.window += stream.debt
            stream.debt = 0

    def _refuse(self, stream: MuxStream, error: OsirisError, events: list[Event]) -> None:
        self._control(reset_frame(stream.id, error))
        self._drop(stream)
        if stream.opened:
            events.append(WasReset(stream, error))

    def _forget(self, stream: MuxStream) -> None:
        stream.gone = True
        del self._streams[stream.id]
        self.buffered -= stream.cost
        stream.cost = 0
        if stream.id < 0:
            self._remote_open -= 1

    def _drop(self, stream: MuxStream) -> None:
        self._forget(stream)
        stream.dropped = True
        stream.pending = None
        stream.partial = None
        stream.queued = 0
