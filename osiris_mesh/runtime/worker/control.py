"""What controller and zygote say to each other: length-prefixed msgpack maps, descriptors beside them.

==============  ======================================================================  =========================
message         fields                                                                  descriptors
==============  ======================================================================  =========================
to the zygote
``start``       everything it needs to know; see ``zygote.py``
``fork``        ``number``                                                              link, stdout, stderr
``kill``        ``number``
from it
``ready``       ``import_ms``
``failed``      ``error``: wire form of an error; it ends afterwards
``forked``      ``number``
``unforked``    ``number``, ``reason``
``exited``      ``number``, ``status`` as of ``waitpid``, ``memory``: most bytes it had
==============  ======================================================================  =========================
"""

from __future__ import annotations

import socket
from array import array
from typing import Any, Final

from osiris_mesh.codec import FRAME, pack, unpack
from osiris_mesh.errors import RemoteProtocolError

__all__ = ["BREEDS", "INHERITED", "NO_MEMORY", "Inbox", "frame"]

INHERITED: Final = "inherited"
"""``reason`` in a worker's ``DeadlineExceeded``: it has ended, and a call of its own ran out of the shared time."""
NO_MEMORY: Final = 71
"""Exit code of a worker that had no memory left to receive a call."""
BREEDS: Final = 72
"""Exit code of a worker whose call left processes that start others faster than they can be ended."""

_MAX: Final = FRAME.size
_MAX_DESCRIPTORS: Final = 16
_CLOSE_ON_EXEC: Final = getattr(socket, "MSG_CMSG_CLOEXEC", 0)


def frame(kind: str, **fields: Any) -> bytes:
    """Return a message."""
    packed = pack({"kind": kind, **fields})
    return len(packed).to_bytes(4, "big") + packed


class Inbox:
    """Puts messages together from a stream socket.

    Args:
        connection: Where they come from.
    """

    def __init__(self, connection: socket.socket) -> None:
        self._connection = connection
        self._input = bytearray()
        self.descriptors: list[int] = []

    def receive(self) -> list[dict[str, Any]] | None:
        """Read once and return the whole messages there are; None when the other end is gone.

        Descriptors that came are appended to ``descriptors``, in order; they are the caller's.

        Raises:
            RemoteProtocolError: Not a message.
            BlockingIOError: Nothing is there, on a socket that does not block.
        """
        size = _MAX_DESCRIPTORS * array("i").itemsize
        try:
            data, ancillary, _, _ = self._connection.recvmsg(65_536, socket.CMSG_SPACE(size), _CLOSE_ON_EXEC)
        except ConnectionError:
            return None
        for level, kind, content in ancillary:
            if level == socket.SOL_SOCKET and kind == socket.SCM_RIGHTS:
                received = array("i")
                received.frombytes(content[: len(content) - len(content) % received.itemsize])
                self.descriptors += received
        if not data:
            return None
        self._input += data
        messages: list[dict[str, Any]] = []
        while len(self._input) >= 4:
            length = int.from_bytes(self._input[:4], "big")
            if length > _MAX:
                raise RemoteProtocolError(f"a message of {length} bytes between controller and zygote")
            if len(self._input) < 4 + length:
                break
            message = unpack(bytes(self._input[4 : 4 + length]))
            del self._input[: 4 + length]
            if not isinstance(message, dict) or not isinstance(message.get("kind"), str):
                raise RemoteProtocolError("a message between controller and zygote has no kind")
            messages.append(message)
        return messages
