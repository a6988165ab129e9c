"""Entries of the log: the kind in their first byte, and the one that names the voters.

A configuration entry holds the whole set of voters, not a change to it (rows 13 and 14): the configuration in force is
then a fact of the log, the last such entry in it, whatever was cut off, compacted or read again after a restart.
The numbers are PySyncObj's ``_COMMAND_TYPE``; its VERSION (3) is never used, and refused.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Final

from osiris_mesh.codec import Limits, pack, unpack
from osiris_mesh.errors import RemoteProtocolError

__all__ = [
    "COMMAND",
    "CONFIGURATION",
    "MAX_PEER_ID",
    "MAX_VOTERS",
    "NO_OP",
    "check_voters",
    "configuration",
    "is_configuration",
    "read_configuration",
]

COMMAND: Final = 0
NO_OP: Final = 1
CONFIGURATION: Final = 2
MAX_VOTERS: Final = 9
MAX_PEER_ID: Final = 128
_LIMITS: Final = Limits(size=4096, depth=1, count=MAX_VOTERS)


def configuration(voters: Iterable[str]) -> bytes:
    """Return the entry that makes ``voters`` the configuration."""
    return bytes([CONFIGURATION]) + pack(sorted(voters))


def is_configuration(entry: bytes) -> bool:
    """Whether an entry of the log sets the configuration."""
    return entry[:1] == b"\x02"


def read_configuration(entry: bytes) -> tuple[str, ...]:
    """Return the voters a configuration entry names, sorted.

    Raises:
        RemoteProtocolError: It is malformed.
    """
    return check_voters(unpack(entry[1:], _LIMITS))


def check_voters(voters: Any) -> tuple[str, ...]:
    """Return a decoded list of voters, sorted.

    Raises:
        RemoteProtocolError: Not a list of at most :data:`MAX_VOTERS` different peer ids.
    """
    if (
        not isinstance(voters, list)
        or len(voters) > MAX_VOTERS
        or not all(type(voter) is str and 0 < len(voter) <= MAX_PEER_ID for voter in voters)
        or len(set(voters)) != len(voters)
    ):
        raise RemoteProtocolError("a malformed set of voters")
    return tuple(sorted(voters))
