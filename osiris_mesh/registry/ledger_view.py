"""What a controller answers to who publishes to the registry in its ledger: files with their heads, piece by piece.

A core: pure answers from the ledger's state. The publisher makes and signs the entries himself, see
:mod:`osiris_mesh.registry.tree_ledger`.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Mapping
from typing import Any, Final

from osiris_mesh.errors import UsageError
from osiris_mesh.ledger.state import State

__all__ = ["PIECE", "file_answer", "paths_answer"]

PIECE: Final = 256 * 1024
"""Bytes of a file in one answer."""
_PATHS: Final = 1024
_MAX_PATH: Final = 512


def file_answer(state: State, body: Mapping[str, Any]) -> dict[str, Any]:
    """Answer ``registry.file``: ``{path, offset}`` to ``{data, head, size}``; ``head`` is empty where there is no file.

    Raises:
        UsageError: The body is of another form.
    """
    path, offset = body.get("path"), body.get("offset", 0)
    if not isinstance(path, str) or len(path) > _MAX_PATH or type(offset) is not int or offset < 0:
        raise UsageError("a file is asked for by its path and an offset")
    file = state.tree.get(path)
    if file is None:
        return {"data": b"", "head": b"", "size": 0}
    return {"data": file.data[offset : offset + PIECE], "head": file.head, "size": len(file.data)}


def paths_answer(state: State, body: Mapping[str, Any]) -> dict[str, Any]:
    """Answer ``registry.paths``: ``{after}`` to ``{files, more, height}``: paths after that one, ascending, and heads.

    Raises:
        UsageError: The body is of another form.
    """
    after = body.get("after", "")
    if not isinstance(after, str) or len(after) > _MAX_PATH:
        raise UsageError("paths are asked for by the one before them")
    paths = sorted(state.tree)
    first = bisect_right(paths, after) if after else 0
    return {
        "files": [[path, state.tree[path].head] for path in paths[first : first + _PATHS]],
        "more": first + _PATHS < len(paths),
        "height": state.tree_height,
    }
