"""Names of tools, and back: a tool's name has letters, digits, ``_`` and ``-`` alone. A pure core.

``/`` is written ``__``, ``.`` is ``--d``. A ``_`` before what begins with ``_`` is ``--u``, and a ``-`` before what
begins with ``-`` is ``--h``, so that nothing is read in two ways. ``default/add`` is ``add``,
``acme.com/image/sharpen_it`` is ``acme--dcom__image__sharpen_it``.

A name that would be longer than 128 letters ends in ``--x`` and 32 digits of its hash; that one is found in the list.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from typing import Final

from osiris_mesh.errors import NotFound, OsirisError
from osiris_mesh.function.name import DEFAULT_NAMESPACE, qualified

__all__ = ["MAX_NAME", "function_name", "tool_name"]

MAX_NAME: Final = 128
"""Letters a tool's name may have."""
_HASHED: Final = "--x"
_DIGITS: Final = 32
_BACK: Final = {"d": ".", "u": "_", "h": "-"}


def tool_name(name: str) -> str:
    """Return the tool's name of a function.

    Args:
        name: Full name.
    """
    prefix = f"{DEFAULT_NAMESPACE}/"
    short = name.removeprefix(prefix) if name.count("/") == 1 else name
    written = ""
    for letter in reversed(short):
        if letter == "/":
            written = "__" + written
        elif letter == ".":
            written = "--d" + written
        elif letter == "_" and written.startswith("_"):
            written = "--u" + written
        elif letter == "-" and written.startswith("-"):
            written = "--h" + written
        else:
            written = letter + written
    if len(written) <= MAX_NAME:
        return written
    digest = hashlib.sha256(name.encode()).hexdigest()[:_DIGITS]
    # What is cut may end inside an escape, which nobody reads: the hash decides.
    return written[: MAX_NAME - len(_HASHED) - _DIGITS].rstrip("-_") + _HASHED + digest


def function_name(tool: str, known: Iterable[str] = ()) -> str:
    """Return the full name of a tool's function.

    Args:
        tool: The tool's name.
        known: Full names there are, for one whose name was too long.

    Raises:
        NotFound: It is no function's.
    """
    missing = NotFound(f"no tool is called {tool[:MAX_NAME]!r}", fix="list the tools")
    if not 0 < len(tool) <= MAX_NAME:
        raise missing
    if tool[-_DIGITS - len(_HASHED) : -_DIGITS] == _HASHED:
        found = next((name for name in known if tool_name(name) == tool), None)
        if found is None:
            raise missing
        return found
    read: list[str] = []
    at = 0
    while at < len(tool):
        if tool.startswith("__", at):
            read.append("/")
            at += 2
        elif tool.startswith("--", at):
            read.append(_BACK.get(tool[at + 2 : at + 3], "?"))
            at += 3
        else:
            read.append(tool[at])
            at += 1
    try:
        name = qualified("".join(read))
    except OsirisError:
        raise missing from None
    if tool_name(name) != tool:
        # A second spelling of one function would be a second tool for whoever approves tools by name.
        raise missing
    return name
