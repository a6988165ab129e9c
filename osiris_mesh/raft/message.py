"""What voters say to each other: strict, bounded, typed; nothing reaches Raft that this file did not check.

One packet is ``[version, [message…]]``; a message is an array of its number and its fields in the order of
:data:`_SHAPES`. Inside, messages are the maps PySyncObj works with. Layout in ``docs/protocol/raft.md``.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Any, Final

from osiris_mesh.codec import Limits, pack, unpack
from osiris_mesh.errors import RemoteProtocolError
from osiris_mesh.raft.configuration import COMMAND, NO_OP, check_voters, is_configuration, read_configuration

__all__ = ["MAX_COMMAND", "MAX_NUMBER", "MAX_SNAPSHOT", "MAX_TERM_LEAP", "Message", "decode", "encode", "leaps"]

Message = dict[str, Any]

MAX_COMMAND: Final = 1 << 20
MAX_SNAPSHOT: Final = 1 << 16
_VERSION: Final = 1
_PACKET_BYTES: Final = 1 << 20
_LIMITS: Final = Limits(size=4 << 20, depth=5, count=1 << 16)

MAX_NUMBER: Final = (1 << 52) - 1
"""Largest term, index or number of a message: what follows from it still fits the 2^53 of a block's header."""

MAX_TERM_LEAP: Final = 1_000_000
"""By how much one message may raise the term: elections raise it by one, and nobody is behind by that many."""


def _number(value: Any) -> int:
    if type(value) is not int or not 0 <= value <= MAX_NUMBER:
        raise RemoteProtocolError("a Raft message holds a number out of range")
    return value


def _flag(value: Any) -> bool:
    if type(value) is not bool:
        raise RemoteProtocolError("a Raft message holds a flag that is not one")
    return value


def _snapshot(value: Any) -> bytes:
    if type(value) is not bytes or len(value) > MAX_SNAPSHOT:
        raise RemoteProtocolError("a Raft snapshot is malformed or too large")
    return value


def _entry_bytes(value: Any) -> bytes:
    if type(value) is not bytes or not 1 <= len(value) <= MAX_COMMAND + 1:
        raise RemoteProtocolError("a Raft entry is malformed or too large")
    if is_configuration(value):
        read_configuration(value)
    elif value[0] not in {COMMAND, NO_OP}:
        raise RemoteProtocolError("a Raft entry of an unknown kind")
    return value


def _command(value: Any) -> bytes:
    if type(value) is not bytes or not 1 <= len(value) <= MAX_COMMAND + 1 or value[0] != COMMAND:
        raise RemoteProtocolError("a forwarded command is malformed or too large")
    return value


def _entries(value: Any) -> list[tuple[bytes, int]]:
    """Check ``[[command, term]…]``; tuples come back, because PySyncObj compares with tuples (row 8)."""
    if type(value) is not list:
        raise RemoteProtocolError("Raft entries are not an array")
    entries: list[tuple[bytes, int]] = []
    term = 0
    for item in value:
        if type(item) is not list or len(item) != 2 or _number(item[1]) < term:
            raise RemoteProtocolError("a Raft entry is malformed, or its term goes back")
        term = item[1]
        entries.append((_entry_bytes(item[0]), term))
    return entries


_Shape = tuple[tuple[str, Callable[[Any], Any]], ...]
# Number -> (name, fields). Numbers are never used again for something else.
_SHAPES: Final[dict[int, tuple[str, _Shape]]] = {
    1: (
        "append_entries",
        (
            ("term", _number),
            ("commit_index", _number),
            ("prevLogIdx", _number),
            ("prevLogTerm", _number),
            ("entries", _entries),
            ("round", _number),
        ),
    ),
    2: (
        "install_snapshot",
        (
            ("term", _number),
            ("commit_index", _number),
            ("index", _number),
            ("index_term", _number),
            ("voters", check_voters),
            ("data", _snapshot),
        ),
    ),
    3: (
        "next_node_idx",
        (("term", _number), ("next_node_idx", _number), ("success", _flag), ("reset", _flag), ("round", _number)),
    ),
    4: (
        "request_vote",
        (("term", _number), ("last_log_index", _number), ("last_log_term", _number), ("transfer", _flag)),
    ),
    5: ("response_vote", (("term", _number),)),
    6: (
        "pre_vote",
        (("term", _number), ("last_log_index", _number), ("last_log_term", _number), ("round", _number)),
    ),
    7: ("pre_vote_answer", (("term", _number), ("round", _number), ("granted", _flag))),
    8: ("commit", (("term", _number), ("commit_index", _number), ("commit_term", _number))),
    9: ("timeout_now", (("term", _number),)),
    10: ("apply_command", (("request_id", _number), ("command", _command))),
    11: (
        "apply_command_response",
        (("request_id", _number), ("error", _number), ("log_idx", _number), ("log_term", _number)),
    ),
    12: ("read_index", (("request_id", _number),)),
    13: ("read_index_answer", (("request_id", _number), ("index", _number))),
}
_NUMBERS: Final = {name: number for number, (name, _) in _SHAPES.items()}
_DEFAULTS: Final[dict[str, Any]] = {"round": 0, "transfer": False, "error": 0, "log_idx": 0, "log_term": 0}


def _fields(message: Message) -> list[Any]:
    number = _NUMBERS[message["type"]]
    fields: list[Any] = [number]
    for name, _ in _SHAPES[number][1]:
        value = message.get(name)
        fields.append(_DEFAULTS[name] if value is None else value)
    if number == 1:
        fields[5] = [(entry[0], entry[2]) for entry in fields[5]]
    return fields


def encode(messages: Iterable[Message]) -> Iterator[bytes]:
    """Yield packets of about a mebibyte that hold ``messages`` in order."""
    packet: list[list[Any]] = []
    size = 0
    for message in messages:
        packet.append(_fields(message))
        size += 64 + len(message.get("command") or b"")
        size += sum(len(entry[0]) + 16 for entry in message.get("entries") or ())
        if size > _PACKET_BYTES:
            yield pack([_VERSION, packet])
            packet, size = [], 0
    if packet:
        yield pack([_VERSION, packet])


def decode(packet: bytes) -> list[Message]:
    """Return the messages in a packet.

    Raises:
        RemoteProtocolError: It does not follow the protocol in any respect.
    """
    value = unpack(packet, _LIMITS)
    if type(value) is not list or len(value) != 2 or value[0] != _VERSION or type(value[1]) is not list:
        raise RemoteProtocolError("not a Raft packet of version 1", fix="run the same release on all voters")
    return [_message(item) for item in value[1]]


def _message(item: Any) -> Message:
    if type(item) is not list or not item or type(item[0]) is not int:
        raise RemoteProtocolError("a Raft message is not an array")
    found = _SHAPES.get(item[0])
    if found is None:
        raise RemoteProtocolError(f"a Raft message of the unknown kind {item[0]}")
    name, shape = found
    if len(item) != len(shape) + 1:
        raise RemoteProtocolError(f"a Raft message {name} has {len(item) - 1} fields, not {len(shape)}")
    message: Message = {"type": name}
    for (field, check), value in zip(shape, item[1:], strict=True):
        message[field] = check(value)
    if name == "append_entries":
        first = message["prevLogIdx"] + 1
        message["entries"] = [
            (command, first + place, term) for place, (command, term) in enumerate(message["entries"])
        ]
        if message["entries"] and not message["prevLogTerm"] <= message["entries"][0][2]:
            raise RemoteProtocolError("the terms of Raft entries go back")
        if message["entries"] and message["entries"][-1][2] > message["term"]:
            raise RemoteProtocolError("a Raft entry is of a later term than the message that brings it")
    elif name == "install_snapshot" and message["index_term"] > message["term"]:
        raise RemoteProtocolError("a Raft snapshot is of a later term than the message that brings it")
    elif name == "apply_command_response" and message["error"] == 0:
        del message["error"]
    return message


def leaps(message: Message, term: int) -> bool:
    """Say whether a message's term is further ahead than elections explain; a node that has no term yet learns any."""
    return bool(0 < term < message.get("term", 0) - MAX_TERM_LEAP)
