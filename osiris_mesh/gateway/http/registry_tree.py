"""The registry in the mesh's own ledger, as the registry of other meshes: read by who may, published to by who may.

A publication is signed with the key of the bearer's API token, so that what he may write is decided by every node.
"""

from __future__ import annotations

from typing import Any, Final, cast

from osiris_mesh.errors import Denied
from osiris_mesh.gateway.http.route import Ask, Output
from osiris_mesh.gateway.registry_files import TreeRoutes, path_asked
from osiris_mesh.registry.layout import CHECKPOINT, CONFIG, ROOT, name_at
from osiris_mesh.registry.tree_http import Taken
from osiris_mesh.registry.tree_ledger import Book, TreeLedger, key_signer

__all__ = ["file", "publish", "published_name", "vendor_file"]

_READ: Final = "function.read"
_NAMELESS: Final = frozenset({CONFIG, ROOT, CHECKPOINT})


def _writer(ask: Ask) -> TreeLedger:
    parts = ask.parts
    # The ledger: what it is asked for here is more than what the other routes ask of it.
    book = cast("Book", parts.book)
    signer = key_signer(ask.bearer.key, book.state.mesh_id, parts.clock)
    return TreeLedger("ledger", book, signer=signer)


_routes = TreeRoutes(lambda ask: ask.parts.tree, _writer)


async def file(ask: Ask) -> Output:
    """Return the index, or a file about the whole registry."""
    return await _read(ask)


async def vendor_file(ask: Ask) -> Output:
    """Return a vendor's keys."""
    return await _read(ask)


async def published_name(ask: Ask) -> Output:
    """Return the history of one name."""
    return await _read(ask)


async def publish(ask: Ask) -> Taken:
    """Publish, all of it or nothing."""
    return await _routes.put(ask)


async def _read(ask: Ask) -> Output:
    principal: Any = ask.bearer.principal
    if not principal.may(_READ):
        # Whoever is narrowed by patterns learns of no other name: the index and the keys of vendors have them all.
        path = path_asked(ask)
        named = name_at(path)
        if path not in _NAMELESS and (named is None or not principal.may(_READ, str(named))):
            raise Denied(
                f"the bearer may read some functions alone, and {path[:200]} tells of others",
                fix="a mesh that reads this registry takes a token with function.read, without a pattern",
                permission=_READ,
            )
    return await _routes.get(ask)
