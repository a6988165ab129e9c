"""Running ``git`` as the user would: his credentials, his proxies, and nothing a remote could make of them.

A command gets an argument vector, an environment built here, a session of its own without a terminal (so nothing can
ask a question), a time limit that ends its whole process group, and a bound on what it may answer or write.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import re
import signal
from asyncio.subprocess import PIPE, Process
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final
from urllib.parse import unquote, urlsplit

from osiris_mesh.errors import LimitExceeded, Unavailable, UsageError

__all__ = ["MAX_URL", "Done", "Remote", "check_branch", "end", "environment", "run", "start"]

MAX_URL: Final = 2048
_PROTOCOLS: Final = "file:https:http:ssh"
_ANSWER: Final = 1 << 20
_COMPLAINT: Final = 16 << 10
_PIECE: Final = 64 << 10
_BLOCK: Final = 512
_GRACE: Final = 0.5
_INHERITED: Final = (
    "HOME", "USER", "LOGNAME", "PATH", "TMPDIR", "XDG_CONFIG_HOME", "XDG_RUNTIME_DIR", "DISPLAY", "WAYLAND_DISPLAY",
    "SSH_AUTH_SOCK", "SSH_AGENT_PID", "SSH_ASKPASS", "SSH_ASKPASS_REQUIRE", "GIT_SSH", "GIT_SSH_COMMAND",
    "GIT_SSH_VARIANT", "GIT_ASKPASS", "GIT_CONFIG_GLOBAL", "GIT_CONFIG_SYSTEM", "GIT_CONFIG_NOSYSTEM", "GIT_EXEC_PATH",
    "GIT_SSL_CAINFO", "GIT_SSL_CAPATH", "GIT_SSL_CERT", "GIT_SSL_KEY", "SSL_CERT_FILE", "SSL_CERT_DIR", "KRB5CCNAME",
    "DBUS_SESSION_BUS_ADDRESS", "http_proxy", "https_proxy", "all_proxy", "no_proxy",
    "HTTPS_PROXY", "ALL_PROXY", "NO_PROXY", "GIT_PROXY_COMMAND",
)  # fmt: skip
_VISIBLE: Final = re.compile(r"[!-~]+\Z")
_WORD: Final = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*\Z")
_BRANCH: Final = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._/-]{0,199}\Z")
_CREDENTIALS: Final = re.compile(r"://[^/@\s]{1,2048}@")


@dataclass(frozen=True, slots=True)
class Remote:
    """Where a repository is.

    Attributes:
        url: What git is given.
        secrets: Texts that no message shows: the password in the URL.
    """

    url: str
    secrets: tuple[str, ...] = ()

    def __repr__(self) -> str:
        return f"Remote({self.shown!r})"

    @property
    def shown(self) -> str:
        """The URL for people."""
        return self.mask(self.url)

    def mask(self, text: str) -> str:
        """Return a text without credentials."""
        for secret in self.secrets:
            text = text.replace(secret, "***")
        return _CREDENTIALS.sub("://***@", text)

    @classmethod
    def parse(cls, text: str) -> Remote:
        """Read what the user gave: a URL, ``host:path`` as ssh has it, or an absolute path.

        Raises:
            UsageError: git might take it for an option or a program, or it is no kind of remote a registry has.
        """
        fix = "give an https://, ssh:// or file:// URL, user@host:path, or an absolute path"
        text = text.removeprefix("git+")
        if not text or len(text) > MAX_URL or not _VISIBLE.match(text) or text.startswith("-"):
            raise UsageError(f"a repository's URL is at most {MAX_URL} visible letters, the first no dash", fix=fix)
        if text.startswith("/"):
            return cls(text)
        scheme, colons, rest = text.partition("::")
        if colons and "/" not in scheme:
            raise UsageError(f"{scheme[:40]!r} would have git run a helper for the registry", fix=fix)
        if "://" not in text:
            host, colon, rest = text.partition(":")
            if not colon or not rest or rest.startswith("-") or "/" in host or host.rpartition("@")[2][:1] in {"", "-"}:
                raise UsageError("that is not a repository's URL", fix=fix)
            return cls(text)
        try:
            parts = urlsplit(text)
            name, host = parts.username or "", parts.hostname or ""
            _ = parts.port
        except ValueError:
            raise UsageError("that is not a repository's URL", fix=fix) from None
        if parts.scheme not in _PROTOCOLS.split(":") or not _WORD.match(parts.scheme):
            raise UsageError(f"a registry is not reached by {parts.scheme[:40]!r}", fix=fix)
        if (not host and parts.scheme != "file") or host.startswith("-") or name.startswith("-"):
            raise UsageError("the repository's URL names no host", fix=fix)
        if parts.scheme == "http" and "@" in parts.netloc:
            raise UsageError("http would show the password to everybody on the way", fix="use https")
        secrets = {parts.password, unquote(parts.password)} if parts.password else set()
        if name and not parts.password and parts.scheme == "https":
            # Some hosts take a token for a user's name.
            secrets = {name, unquote(name)}
        return cls(text, tuple(sorted(secrets, key=len, reverse=True)))


def check_branch(branch: str) -> str:
    """Return a branch's name.

    Raises:
        UsageError: git would not take it for one, or for something else.
    """
    parts = branch.split("/")
    if (
        not _BRANCH.match(branch)
        or ".." in branch
        or any(not part or part.startswith(".") or part.endswith((".lock", ".")) for part in parts)
    ):
        raise UsageError(f"{branch[:200]!r} is not a branch's name", fix="use letters, digits, '.', '_', '-' and '/'")
    return branch


def environment(folder: Path, given: Mapping[str, str] | None = None, *, offline: bool = False) -> dict[str, str]:
    """Return the environment of a command.

    Args:
        folder: The bare repository it works on.
        given: The user's environment; this process's by default.
        offline: It must not reach any remote, whatever is missing.
    """
    given = os.environ if given is None else given
    found = {key: given[key] for key in _INHERITED if key in given}
    found.setdefault("PATH", os.defpath)
    found |= {
        "GIT_DIR": str(folder),
        "GIT_TERMINAL_PROMPT": "0",
        "GIT_ALLOW_PROTOCOL": "none" if offline else _PROTOCOLS,
        "GIT_OPTIONAL_LOCKS": "0",
        "GIT_NO_REPLACE_OBJECTS": "1",
        "GIT_LITERAL_PATHSPECS": "1",
        "GCM_INTERACTIVE": "never",
        "GIT_PAGER": "cat",
        "LC_ALL": "C",
    }
    if offline:
        found["GIT_NO_LAZY_FETCH"] = "1"
    return found


@dataclass(frozen=True, slots=True)
class Done:
    """A command that ended.

    Attributes:
        code: Exit code; negative: the signal that ended it.
        out: What it answered.
        complaint: What it said to people, credentials left in.
    """

    code: int
    out: bytes
    complaint: str


async def start(arguments: Sequence[str], folder: Path, *, offline: bool, largest_file: int = 0) -> Process:
    """Start ``git`` in a session of its own.

    Args:
        arguments: Behind ``git``.
        folder: The bare repository.
        offline: See :func:`environment`.
        largest_file: Bytes a file it writes may have; 0: as many as it likes.

    Raises:
        Unavailable: There is no git on this machine.
    """
    vector = ["git", *arguments]
    if largest_file:
        # The limit must hold before git starts, and a limit set in the child's fork would not be safe with threads.
        vector = ["/bin/sh", "-c", 'ulimit -f "$0" && exec "$@"', str(max(1, largest_file // _BLOCK)), *vector]
    try:
        return await asyncio.create_subprocess_exec(
            *vector,
            stdin=PIPE,
            stdout=PIPE,
            stderr=PIPE,
            cwd="/",
            env=environment(folder, offline=offline),
            start_new_session=True,
        )
    except FileNotFoundError:
        raise Unavailable("there is no git on this machine", fix="install git", maybe=False) from None


async def end(process: Process) -> None:
    """End a command and all it started."""
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(process.pid, signal.SIGKILL)
    # What it still had to say is not wanted; nothing else closes the pipes of a process whose words nobody took.
    transport: asyncio.SubprocessTransport = process._transport  # type: ignore[attr-defined]  # noqa: SLF001
    for descriptor in (0, 1, 2):
        if (pipe := transport.get_pipe_transport(descriptor)) is not None:
            pipe.close()
    await process.wait()
    # Closed earlier, it would ask for the exit code itself, and whoever watches children would miss it and say so.
    transport.close()


async def run(
    arguments: Sequence[str],
    folder: Path,
    *,
    seconds: float,
    data: bytes = b"",
    most: int = _ANSWER,
    offline: bool = True,
    largest_file: int = 0,
) -> Done:
    """Run a command to its end.

    Args:
        arguments: Behind ``git``.
        folder: The bare repository.
        seconds: After which it is ended.
        data: What it is told.
        most: Bytes it may answer.
        offline: See :func:`environment`.
        largest_file: See :func:`start`.

    Raises:
        Unavailable: It took too long (``reason`` is ``time``), or there is no git.
        LimitExceeded: It answered more than it may.
    """
    process = await start(arguments, folder, offline=offline, largest_file=largest_file)
    try:
        async with asyncio.timeout(seconds):
            return await _exchange(process, data, most)
    except TimeoutError:
        await end(process)
        raise Unavailable(
            f"git {_verb(arguments)} did not end within {seconds:g} s",
            fix="see whether the remote answers",
            maybe=True,
            reason="time",
        ) from None
    except BaseException:
        await end(process)
        raise


def _verb(arguments: Sequence[str]) -> str:
    return next((text for place, text in enumerate(arguments) if text[0] != "-" and arguments[place - 1] != "-c"), "")


async def _exchange(process: Process, data: bytes, most: int) -> Done:
    stdin, stdout, stderr = process.stdin, process.stdout, process.stderr
    if stdin is None or stdout is None or stderr is None:
        raise ValueError("git was started without pipes")
    answer, said = bytearray(), bytearray()

    async def tell() -> None:
        with contextlib.suppress(ConnectionError):
            stdin.write(data)
            await stdin.drain()
        stdin.close()

    async def complain() -> None:
        while piece := await stderr.read(_PIECE):
            # The last lines say what went wrong; a remote may say more than anybody reads.
            said.extend(piece)
            del said[:-_COMPLAINT]

    async def listen() -> None:
        while piece := await stdout.read(_PIECE):
            answer.extend(piece)
            if len(answer) > most:
                raise LimitExceeded(f"git answered more than {most} bytes", limit="registry.git")

    listening = asyncio.ensure_future(listen())
    ending = asyncio.ensure_future(process.wait())
    others = [asyncio.ensure_future(complain()), asyncio.ensure_future(tell())]
    try:
        await asyncio.wait({listening, ending}, return_when=asyncio.FIRST_COMPLETED)
        if listening.done():
            listening.result()
        code = await ending
        _, open_ = await asyncio.wait({listening, *others}, timeout=_GRACE)
        if open_:
            # What git leaves for the user, a shared ssh connection or a credential cache, holds no pipe of ours in our
            # group. What does so is a transport that goes on without git.
            await end(process)
        if listening.done():
            listening.result()
    finally:
        for task in (listening, ending, *others):
            task.cancel()
        await asyncio.gather(listening, ending, *others, return_exceptions=True)
    return Done(code, bytes(answer), said.decode("utf-8", "replace").strip())
