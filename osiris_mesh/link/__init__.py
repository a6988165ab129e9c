"""Authenticated encrypted links and the streams on them; see DESIGN.md.

Names are loaded when first used: the SDK and the sandboxed worker need the blocking half alone, which imports neither
asyncio nor nacl (``from osiris_mesh.link.blocking import BlockingLink`` is the same thing without the detour).
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from osiris_mesh.link.aio import Link as Link
    from osiris_mesh.link.blocking import BlockingLink as BlockingLink
    from osiris_mesh.link.blocking import BlockingStream as BlockingStream
    from osiris_mesh.link.hello import Hello as Hello
    from osiris_mesh.link.links import Links as Links
    from osiris_mesh.link.memory import MemoryNetwork as MemoryNetwork
    from osiris_mesh.link.network import Network as Network
    from osiris_mesh.link.network import TcpNetwork as TcpNetwork
    from osiris_mesh.link.request import Audience as Audience
    from osiris_mesh.link.request import Caller as Caller
    from osiris_mesh.link.request import Request as Request
    from osiris_mesh.link.router import Reply as Reply
    from osiris_mesh.link.router import Router as Router
    from osiris_mesh.link.secure import connect_tcp as connect_tcp
    from osiris_mesh.link.stream import Stream as Stream
    from osiris_mesh.link.unix import UnixServer as UnixServer
    from osiris_mesh.link.unix import connect_unix as connect_unix
    from osiris_mesh.link.unix import link_over as link_over

_HOME: Final = {
    "Audience": "request",
    "BlockingLink": "blocking",
    "BlockingStream": "blocking",
    "Caller": "request",
    "Hello": "hello",
    "Link": "aio",
    "Links": "links",
    "MemoryNetwork": "memory",
    "Network": "network",
    "Reply": "router",
    "Request": "request",
    "Router": "router",
    "Stream": "stream",
    "TcpNetwork": "network",
    "UnixServer": "unix",
    "connect_tcp": "secure",
    "connect_unix": "unix",
    "link_over": "unix",
}

__all__ = [  # noqa: PLE0604 - the table above is the list
    *_HOME
]


def __getattr__(name: str) -> Any:
    home = _HOME.get(name)
    if home is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(importlib.import_module(f"{__name__}.{home}"), name)
    globals()[name] = value
    return value
