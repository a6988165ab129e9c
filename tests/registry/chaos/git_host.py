"""A bare repository over HTTP, by git's own http-backend; its branch goes wherever it is put."""

from __future__ import annotations

import asyncio
import os
import shutil
import subprocess
from asyncio.subprocess import DEVNULL, PIPE
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from aiohttp import web
from aiohttp.web_request import BaseRequest

_ME = {"GIT_CONFIG_GLOBAL": os.devnull, "GIT_CONFIG_NOSYSTEM": "1"}


class GitHost:
    """The host.

    Attributes:
        commits: What was committed in good faith, oldest first: commit and its files.
    """

    def __init__(self, folder: Path) -> None:
        if shutil.which("git") is None and not os.environ.get("CI"):
            pytest.skip("git is not installed")
        self.commits: list[tuple[str, Mapping[str, bytes]]] = []
        self._folder = folder
        self._last = ""
        """Where the branch goes on: the last commit that was put on top of others, good or damaged."""
        self._git("init", "--quiet", "--bare", "--initial-branch=main", str(folder))

    async def add(self, files: Mapping[str, bytes], *, good: bool = True) -> None:
        """Commit on top of the branch as it should be, and put the branch there."""
        self._last = await asyncio.to_thread(self._commit, files, self._last)
        if good:
            self.commits = [*self.commits, (self._last, files)][-30:]

    async def fork(self, files: Mapping[str, bytes], parent: str) -> None:
        """Put the branch to a new commit beside the others; without a parent, to another history."""
        await asyncio.to_thread(self._commit, files, parent)

    async def point(self, commit: str) -> None:
        """Put the branch to a commit, by force."""
        await asyncio.to_thread(self._git, "update-ref", "refs/heads/main", commit)

    def _commit(self, files: Mapping[str, bytes], parent: str) -> str:
        said = [b"commit refs/heads/main\ncommitter a <a@example.org> 1700000000 +0000\ndata 1\nx\n"]
        said += [b"from %b\n" % parent.encode()] if parent else []
        said.append(b"deleteall\n")
        for path, data in sorted(files.items()):
            said.append(b"M 100644 inline %b\ndata %d\n%b\n" % (path.encode(), len(data), data))
        if not parent and self._last:
            self._git("update-ref", "-d", "refs/heads/main")
        self._git("fast-import", "--force", "--quiet", data=b"".join(said))
        return self._git("rev-parse", "refs/heads/main")

    def _git(self, *words: str, data: bytes = b"") -> str:
        environment = {"PATH": os.environ["PATH"], "GIT_DIR": str(self._folder), **_ME}
        done = subprocess.run(["git", *words], env=environment, input=data, capture_output=True, check=True, timeout=60)
        return done.stdout.decode().strip()

    @asynccontextmanager
    async def serving(self) -> AsyncIterator[int]:
        """Serve it; the port."""
        server = web.Server(self._serve, access_log=None)  # type: ignore[arg-type]
        listening = await asyncio.get_running_loop().create_server(server, "127.0.0.1", 0)
        try:
            yield listening.sockets[0].getsockname()[1]
        finally:
            listening.close()
            await server.shutdown(0.1)
            await listening.wait_closed()

    async def _serve(self, request: BaseRequest) -> web.Response:
        environment = {
            "PATH": os.environ["PATH"],
            "GIT_PROJECT_ROOT": str(self._folder.parent),
            "GIT_HTTP_EXPORT_ALL": "1",
            "PATH_INFO": request.path,
            "QUERY_STRING": request.query_string,
            "REQUEST_METHOD": request.method,
            "CONTENT_TYPE": request.headers.get("Content-Type", ""),
            "GIT_PROTOCOL": request.headers.get("Git-Protocol", ""),
            "HTTP_CONTENT_ENCODING": request.headers.get("Content-Encoding", ""),
            **_ME,
        }
        asked = await request.content.read()
        child = await asyncio.create_subprocess_exec(
            "git", "http-backend", stdin=PIPE, stdout=PIPE, stderr=DEVNULL, env=environment
        )
        try:
            out, _ = await child.communicate(asked)
        finally:
            if child.returncode is None:
                child.kill()
                await child.wait()
        head, _, body = out.partition(b"\r\n\r\n")
        headers = dict(line.split(": ", 1) for line in head.decode().split("\r\n") if ": " in line)
        status = int(headers.pop("Status", "200").split()[0])
        return web.Response(status=status, headers=headers, body=body)
