"""What a field of an entry's body may hold.

Only rules that give the same answer in every Python version and on every machine belong here: an entry that one node
accepts and another refuses would split the ledger. That is why names are checked against control characters by number
and not with ``str.isprintable``, and addresses by their letters and not with ``ipaddress``.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

from osiris_mesh.errors import UsageError
from osiris_mesh.function.name import Version, qualified
from osiris_mesh.ledger.permissions import MAX_GRANTS, check_grant

__all__ = [
    "ADDRESSES",
    "CONTAINER_LIST",
    "EMPTY",
    "FOUNDERS",
    "FUNCTION_NAME",
    "GRANT_LIST",
    "MAX_CHANGES",
    "MAX_PIECE",
    "NAME",
    "PEER_ID",
    "ROLE_NAME",
    "SETTING_KEY",
    "TREE_CHANGES",
    "TREE_PATH",
    "VERSION",
    "Shape",
    "blob",
    "choice",
    "number",
    "octets",
    "one_of",
    "pattern",
    "text",
]

_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029]")
_ADDRESS = re.compile(r"/[!-~]{1,511}\Z")
PEER_ID: Final = re.compile(r"12D3KooW[1-9A-HJ-NP-Za-km-z]{44}\Z")
_SETTING = re.compile(r"[a-z][a-z0-9_]{0,63}(?:\.[a-z0-9][a-z0-9_-]{0,63}){0,7}\Z")
_ROLE = re.compile(r"[a-z][a-z0-9_-]{0,63}\Z")
_TREE_PATH = re.compile(r"[!-~]{1,512}\Z")
MAX_CHANGES: Final = 256
"""Files one entry writes."""
MAX_PIECE: Final = 96 * 1024
"""Bytes one entry adds to a file: a statement of the largest size and room beside it."""


@dataclass(frozen=True, slots=True)
class Shape:
    """A rule for one value.

    Attributes:
        says: The rule in words, to follow "is not".
        holds: Whether a decoded value obeys it; never raises.
    """

    says: str
    holds: Callable[[Any], bool]


def octets(*lengths: int) -> Shape:
    """Bytes of one of these lengths."""
    return Shape(
        f"{' or '.join(map(str, lengths))} bytes", lambda value: type(value) is bytes and len(value) in lengths
    )


def blob(low: int, high: int) -> Shape:
    """From ``low`` to ``high`` opaque bytes."""
    return Shape(f"{low} to {high} bytes", lambda value: type(value) is bytes and low <= len(value) <= high)


def number(low: int, high: int) -> Shape:
    """An integer in a range, ends included."""
    return Shape(f"an integer from {low} to {high}", lambda value: type(value) is int and low <= value <= high)


def text(low: int, high: int) -> Shape:
    """A text of ``low`` to ``high`` bytes of UTF-8 without control characters."""
    return Shape(
        f"a text of {low} to {high} bytes without control characters",
        lambda value: type(value) is str and low <= len(value.encode()) <= high and not _CONTROL.search(value),
    )


def choice(*words: str) -> Shape:
    """One of these words."""
    return Shape(f"one of {', '.join(words)}", lambda value: type(value) is str and value in words)


def pattern(says: str, rule: re.Pattern[str]) -> Shape:
    """A text that matches."""
    return Shape(says, lambda value: type(value) is str and rule.match(value) is not None)


def one_of(*shapes: Shape) -> Shape:
    """What obeys one of several rules."""
    return Shape(" or ".join(shape.says for shape in shapes), lambda value: any(shape.holds(value) for shape in shapes))


def _is_function(value: Any) -> bool:
    if type(value) is not str:
        return False
    try:
        return qualified(value) == value
    except UsageError:
        return False


def _is_version(value: Any) -> bool:
    if type(value) is not str:
        return False
    try:
        Version.parse(value)
    except UsageError:
        return False
    return True


def _are_addresses(value: Any) -> bool:
    return type(value) is list and len(value) <= 16 and all(type(a) is str and _ADDRESS.match(a) for a in value)


def _are_founders(value: Any) -> bool:
    if type(value) is not list or not 1 <= len(value) <= 64:
        return False
    keys = set()
    for founder in value:
        if type(founder) is not list or len(founder) != 3:
            return False
        key, name, addresses = founder
        if not (type(key) is bytes and len(key) == 32 and NAME.holds(name) and _are_addresses(addresses)):
            return False
        keys.add(key)
    return len(keys) == len(value)


def _is_container_list(value: Any) -> bool:
    if type(value) is not list or len(value) > 1024:
        return False
    last = ("", "")
    for item in value:
        if type(item) is not list or len(item) != 3:
            return False
        name, version, count = item
        if not (_is_function(name) and _is_version(version) and type(count) is int and 1 <= count <= 1_000_000):
            return False
        if (name, version) <= last:
            return False
        last = (name, version)
    return True


def _are_grants(value: Any) -> bool:
    if type(value) is not list or not 1 <= len(value) <= MAX_GRANTS:
        return False
    last = ""
    for item in value:
        if type(item) is not str or item <= last:
            return False
        try:
            last = check_grant(item)
        except UsageError:
            return False
    return True


def _are_changes(value: Any) -> bool:
    if type(value) is not list or not 1 <= len(value) <= MAX_CHANGES:
        return False
    last = ""
    for item in value:
        if type(item) is not list or len(item) != 3:
            return False
        path, previous, data = item
        if not (TREE_PATH.holds(path) and path > last and type(previous) is bytes and len(previous) in {0, 32}):
            return False
        if not (type(data) is bytes and 1 <= len(data) <= MAX_PIECE):
            return False
        last = path
    return True


NAME: Final = text(1, 128)
FUNCTION_NAME: Final = Shape("a function's full name", _is_function)
VERSION: Final = Shape("a version", _is_version)
EMPTY: Final = Shape("empty", lambda value: type(value) is str and not value)
ADDRESSES: Final = Shape("a list of at most 16 multiaddrs", _are_addresses)
FOUNDERS: Final = Shape("a list of 1 to 64 [public key, name, addresses], no key twice", _are_founders)
CONTAINER_LIST: Final = Shape(
    "a list of at most 1024 [name, version, count from 1], ascending by name and version", _is_container_list
)
ROLE_NAME: Final = pattern("a role's name of a-z, 0-9, '_' and '-'", _ROLE)
GRANT_LIST: Final = Shape(f"a list of 1 to {MAX_GRANTS} grants, ascending", _are_grants)
SETTING_KEY: Final = pattern("a setting's key like invoke.max_retries", _SETTING)
TREE_PATH: Final = pattern("a path of the registry's tree", _TREE_PATH)
TREE_CHANGES: Final = Shape(
    f"a list of 1 to {MAX_CHANGES} [path, head of 0 or 32 bytes, 1 to {MAX_PIECE} bytes], ascending by path",
    _are_changes,
)
