r"""What a dependency lock may say: exact versions with hashes, and nothing else.

A requirements file could also name indexes, folders, repositories or options. A bundle travels between machines, so
its lock is held to one form, checked when it is made and again wherever a bundle is read::

    name==1.2.3 [; marker] \
        --hash=sha256:… [\
        --hash=sha256:…]
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final

from osiris_mesh.errors import RemoteProtocolError

__all__ = ["MAX_LOCK", "Locked", "check_lock"]

MAX_LOCK: Final = 8 << 20
_MAX_PINS: Final = 2000
_NAME = r"[A-Za-z0-9](?:[A-Za-z0-9._-]{0,126}[A-Za-z0-9])?"
_PIN = re.compile(
    rf"({_NAME})(?:\[{_NAME}(?:,{_NAME})*\])?==([A-Za-z0-9.!+_-]{{1,128}})"
    r"(?: ?; ?([A-Za-z0-9_.'\"<>=!~() ,+*-]{1,2000}))?\Z",
    re.ASCII,
)
_HASH = re.compile(r"--hash=sha256:([0-9a-f]{64})\Z", re.ASCII)


@dataclass(frozen=True, slots=True)
class Locked:
    """One line of a lock.

    Attributes:
        name: The package.
        version: Its exact version.
        marker: Environment marker (PEP 508), or empty.
        hashes: SHA-256 of each file that may be installed, hexadecimal.
    """

    name: str
    version: str
    marker: str
    hashes: tuple[str, ...]


def check_lock(data: bytes) -> tuple[Locked, ...]:
    """Return what a lock pins.

    Raises:
        RemoteProtocolError: Anything but pins with hashes; the text quotes the line.
    """
    if len(data) > MAX_LOCK:
        raise RemoteProtocolError(f"the lock has more than {MAX_LOCK} bytes")
    try:
        text = data.decode("ascii")
    except UnicodeDecodeError:
        raise RemoteProtocolError("the lock is not ASCII") from None
    pins: list[Locked] = []
    for line in text.replace("\\\n", " ").splitlines():
        pinned, *hashes = re.split(r"(?<! ) +(?=--)", line.strip())
        if not pinned:
            continue
        match = _PIN.match(pinned.rstrip())
        found = [_HASH.match(item.strip()) for item in hashes]
        if match is None or not found or None in found:
            raise RemoteProtocolError(
                f"the lock holds a line that is no pin with SHA-256 hashes: {line.strip()!r:.120}"
            )
        if len(pins) == _MAX_PINS:
            raise RemoteProtocolError(f"the lock pins more than {_MAX_PINS} packages")
        pins.append(Locked(match[1], match[2], (match[3] or "").strip(), tuple(one[1] for one in found if one)))
    if not pins:
        raise RemoteProtocolError("the lock pins nothing")
    return tuple(pins)
