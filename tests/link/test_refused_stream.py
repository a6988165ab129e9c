"""What is sent on a stream that was refused in the same breath is dropped, and the link lives on."""

from __future__ import annotations

import tempfile
from pathlib import Path

import pytest

from osiris_mesh.errors import Denied
from osiris_mesh.link import Audience, Request, Router, UnixServer, connect_unix


async def echo(request: Request) -> bytes:
    return request.body


async def test_messages_behind_a_refused_open_do_not_end_the_link() -> None:
    router = Router()
    router.unary("echo", echo, allow=Audience.LOCAL)
    with tempfile.TemporaryDirectory(prefix="om-") as folder:
        server = UnixServer(Path(folder) / "s", router, Audience.LOCAL)
        await server.start()
        link = await connect_unix(Path(folder) / "s")
        try:
            stream = link.open("nothing.of.this.name")
            for number in range(10):
                await stream.send(b"%d" % number)
            with pytest.raises(Denied):
                await stream.receive()
            assert await link.call("echo", b"still here", timeout=5) == b"still here"
        finally:
            await link.close()
            await server.close()
