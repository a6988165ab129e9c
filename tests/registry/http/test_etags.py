"""What a damaged answer says of itself is never said back."""

from __future__ import annotations

import asyncio

from osiris_mesh.registry.tree_http import HttpTree


async def test_an_etag_that_is_no_text_is_none() -> None:
    asked: list[bytes] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        asked.append(await reader.readuntil(b"\r\n\r\n"))
        missing = b" /index.json " in asked[-1]
        status = b"404 Not Found" if missing else b"200 OK"
        head = b'HTTP/1.1 %b\r\nETag: "7d\xce27"\r\nContent-Length: 2\r\nConnection: close\r\n\r\n{}' % status
        writer.write(head)
        await writer.drain()
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    tree = HttpTree("t", f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}", None, seconds=5.0, index_s=5.0)
    try:
        await tree.refresh()
        for _ in range(2):
            blob = await tree.read("config.json")
            assert blob is not None
            assert blob.data == b"{}"
            await tree.refresh()
    finally:
        await tree.close()
        server.close()
        await server.wait_closed()
    assert sum(b" /checkpoint " in each for each in asked) >= 2
    assert not any(b"If-None-Match" in each for each in asked)
