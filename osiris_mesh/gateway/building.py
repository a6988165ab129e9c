"""Building bundles from sources that arrive over a face, each in a process of its own with limits and an end.

The parser of a language is a large piece of C that holds the interpreter's lock while it works: a mebibyte of nested
brackets would stop the controller's loop for as long as it takes. So a controller never parses what it was sent: it
starts this module as a program, gives it the files on standard input and reads the bundles from its standard output::

    request   one packed map, the fields of Job
    answer    0x00, then bundles: 4-byte big-endian length and the bytes, each; or 0x01 and a packed error

Nothing of the source is run there either. What may take long besides is locking, which asks the package index.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import resource
import signal
import sys
from asyncio.subprocess import PIPE
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from shutil import rmtree
from tempfile import TemporaryDirectory, mkdtemp
from typing import TYPE_CHECKING, Any, Final

from osiris_mesh.codec import Limits, pack, unpack
from osiris_mesh.errors import (
    LimitExceeded,
    OsirisError,
    Overloaded,
    RemoteProtocolError,
    UsageError,
)

if TYPE_CHECKING:
    from osiris_mesh.runtime.bundle import Bundle

__all__ = ["FIRST_VERSION", "MAX_SOURCE_BYTES", "Builds", "Job"]

FIRST_VERSION: Final = "1.0.0"
"""The version of a function that had none, where none is asked for."""
MAX_SOURCE_BYTES: Final = 64 << 20
"""Bytes of all files of one job."""
_MAX_FILES: Final = 4096
_REQUEST: Final = Limits(size=MAX_SOURCE_BYTES + (8 << 20), depth=8)
_SECONDS: Final = 240.0
_CPU_SECONDS: Final = 30
_MEMORY: Final = 2 << 30
_FILE: Final = 128 << 20
_ANSWER: Final = 256 << 20
_PIECE: Final = 256 << 10
_OK: Final = b"\x00"
_FAILED: Final = b"\x01"
_OVERRIDES: Final[Mapping[str, type]] = {
    **dict.fromkeys(("memory", "timeout", "idle"), str),
    **dict.fromkeys(("concurrency", "min", "max"), int),
    **dict.fromkeys(("idempotent", "network"), bool),
}
_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Job:
    """What is to be built.

    Attributes:
        files: Content by path, relative, with slashes.
        folder: Name of the folder they lie in, which gives the namespace; empty: none, as ``namespace`` says.
        whole: The folder is the function; False: it is the only file.
        function: Which of its functions; empty: all public ones.
        name: Its name; with several functions their namespace; empty: as its file says.
        namespace: Namespace of names that have none.
        version: As which version it is built.
        runtime: Interpreter; empty: what the metadata allows.
        overrides: Fields of :class:`osiris_mesh.runtime.build.Overrides`.
    """

    files: Mapping[str, bytes]
    folder: str = ""
    whole: bool = False
    function: str = ""
    name: str = ""
    namespace: str = ""
    version: str = FIRST_VERSION
    runtime: str = ""
    overrides: Mapping[str, Any] = field(default_factory=dict)

    @classmethod
    def from_wire(cls, value: Any) -> Job:
        """Read a job out of an unpacked map.

        Raises:
            UsageError: A field nobody knows, of another kind, or past its bound.
        """
        if not isinstance(value, dict) or not set(value) <= {*cls.__dataclass_fields__}:
            raise UsageError("what is to be built is not described as a map of known fields")
        job = cls(**value) if "files" in value else cls({}, **value)
        texts = (job.folder, job.function, job.name, job.namespace, job.version, job.runtime)
        if any(type(text) is not str or len(text) > 1024 for text in texts) or type(job.whole) is not bool:
            raise UsageError("a field of what is to be built is not a text, or too long")
        if not isinstance(job.files, dict) or not isinstance(job.overrides, dict):
            raise UsageError("files and overrides of what is to be built are not maps")
        return job.checked()

    def checked(self) -> Job:
        """Return the same job.

        Raises:
            UsageError: No files, too many, too large, or a path that leads elsewhere.
        """
        from osiris_mesh.runtime.bundle import check_path  # noqa: PLC0415 - most controllers never build

        if not 1 <= len(self.files) <= _MAX_FILES or (not self.whole and len(self.files) != 1):
            raise UsageError(f"a function is one file, or a folder with at most {_MAX_FILES} files")
        for key, value in self.overrides.items():
            if type(value) is not _OVERRIDES.get(key):
                raise UsageError(f"{key!r:.40} is no limit of a function, or not a value of it")
        if any(type(content) is not bytes for content in self.files.values()):
            raise UsageError("a file's content is not bytes")
        if sum(map(len, self.files.values())) > MAX_SOURCE_BYTES:
            raise UsageError(f"the files have more than {MAX_SOURCE_BYTES >> 20} MiB together")
        for path in (*self.files, *([self.folder] if self.folder else [])):
            try:
                check_path(path)
            except RemoteProtocolError as error:
                raise UsageError(error.what) from None
        if "/" in self.folder or (not self.whole and "/" in next(iter(self.files))):
            raise UsageError("a folder, or a single file, is named by one name")
        return self


class Builds:
    """Builds, a few at a time.

    Args:
        most: Builds at a time; one more is refused.
        seconds: After which one is given up.
    """

    def __init__(self, most: int, *, seconds: float = _SECONDS) -> None:
        self._most = most
        self._seconds = seconds
        self._now = 0

    async def run(self, job: Job) -> list[Bundle]:
        """Build in a process of its own.

        Raises:
            Overloaded: Too many are under way.
            UsageError, NotFound: It can't be built.
            LimitExceeded: It took more time or memory than a build may.
        """
        if self._now >= self._most:
            raise Overloaded(f"{self._most} functions are being built already", fix="try again", retry_after_ms=2000)
        self._now += 1
        try:
            # Everything it writes lies in here, so that nothing is left of one that was killed.
            folder = mkdtemp(prefix="osiris-build-")
            try:
                answer, code = await self._carry_out(pack(asdict(job)), folder)
            finally:
                await asyncio.shield(asyncio.to_thread(rmtree, folder, ignore_errors=True))
        finally:
            self._now -= 1
        if code:
            _log.warning("a build ended badly", extra={"code": code})
        return await asyncio.to_thread(_read, answer, code)

    async def _carry_out(self, request: bytes, folder: str) -> tuple[bytes, int]:
        from osiris_mesh.runtime.installer import installer_environment  # noqa: PLC0415 - most controllers never build

        # Of its own session, so that the installer it starts ends with it. Of this process's environment it gets what
        # says where packages come from; what else an operator gave the controller is nobody's who parses a source.
        child = await asyncio.create_subprocess_exec(
            sys.executable,
            "-P",
            "-m",
            __name__,
            stdin=PIPE,
            stdout=PIPE,
            stderr=asyncio.subprocess.DEVNULL,
            cwd=folder,
            env={**installer_environment(os.environ), "TMPDIR": folder},
            start_new_session=True,
        )
        try:
            async with asyncio.timeout(self._seconds):
                return await _exchange(child, request), await child.wait()
        except TimeoutError:
            raise LimitExceeded(
                f"building took longer than {self._seconds:g} s", limit="build", fix="build it with the command line"
            ) from None
        finally:
            if child.returncode is None:
                with contextlib.suppress(ProcessLookupError):
                    os.killpg(child.pid, signal.SIGKILL)
                await child.wait()


async def _exchange(child: asyncio.subprocess.Process, request: bytes) -> bytes:
    stdin, stdout = child.stdin, child.stdout
    if stdin is None or stdout is None:
        raise ValueError("the program was started without pipes")
    with contextlib.suppress(ConnectionError):
        stdin.write(request)
        await stdin.drain()
    stdin.close()
    answer = bytearray()
    while piece := await stdout.read(_PIECE):
        answer += piece
        if len(answer) > _ANSWER:
            raise LimitExceeded(f"the bundles have more than {_ANSWER >> 20} MiB together", limit="build")
    return bytes(answer)


def _read(answer: bytes, code: int) -> list[Bundle]:
    from osiris_mesh.runtime.bundle import Bundle  # noqa: PLC0415 - as above

    if answer[:1] == _FAILED:
        raise OsirisError.from_wire(unpack(answer[1:]))
    if code or answer[:1] != _OK:
        raise LimitExceeded(
            "the source can't be built within the time and memory of a build",
            limit="build",
            fix="nest it less deeply, make it smaller, or build it with the command line",
        )
    bundles, at = [], 1
    while at < len(answer):
        size = int.from_bytes(answer[at : at + 4], "big")
        bundles.append(Bundle.parse(answer[at + 4 : at + 4 + size]))
        at += 4 + size
    return bundles


# --- the program -----------------------------------------------------------------------------------------------------


def _bounded() -> None:
    """Put limits on this process; that of memory is soft, because the installer maps more than it uses."""
    os.umask(0o077)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    resource.setrlimit(resource.RLIMIT_FSIZE, (_FILE, _FILE))
    resource.setrlimit(resource.RLIMIT_CPU, (_CPU_SECONDS, _CPU_SECONDS))
    _limit_memory(_MEMORY)


def _limit_memory(most: int) -> None:
    hard = resource.getrlimit(resource.RLIMIT_AS)[1]
    if hard != resource.RLIM_INFINITY:
        most = hard if most == resource.RLIM_INFINITY else min(most, hard)
    resource.setrlimit(resource.RLIMIT_AS, (most, hard))


def _lock(requirements: Sequence[str], python: str) -> bytes:
    from osiris_mesh.runtime.lock import lock_dependencies  # noqa: PLC0415 - few functions depend on anything

    _limit_memory(resource.RLIM_INFINITY)
    try:
        return lock_dependencies(requirements, python)
    finally:
        _limit_memory(_MEMORY)


def _build(job: Job) -> list[Bundle]:
    from osiris_mesh.runtime.build import Overrides, build_bundles  # noqa: PLC0415 - this program alone builds

    with TemporaryDirectory(prefix="osiris-build-") as parent:
        folder = Path(parent) / (job.folder or "default")
        try:
            for path, content in job.files.items():
                target = folder / path
                target.parent.mkdir(parents=True, exist_ok=True)
                target.write_bytes(content)
        except OSError as error:
            raise UsageError(f"the files do not fit into a folder: {error.strerror}") from None
        place = folder if job.whole else folder / next(iter(job.files))
        try:
            return build_bundles(
                place,
                function=job.function or None,
                name=job.name or None,
                namespace=job.namespace or None,
                version=job.version,
                runtime=job.runtime or None,
                overrides=Overrides(**job.overrides),
                lock=_lock,
            )
        except (RecursionError, MemoryError):
            raise UsageError("the source can't be parsed: it is nested too deep") from None
        except OsirisError as error:
            # The folder's name is nobody's business, and changes with every request.
            shown = [
                text.replace(f"{folder}/", "").replace(str(folder), folder.name) for text in (error.what, error.fix)
            ]
            raise type(error)(shown[0], fix=shown[1], **error.details) from None


def _answer(request: bytes) -> Iterator[bytes]:
    try:
        bundles = _build(Job.from_wire(unpack(request, _REQUEST)))
    except OsirisError as error:
        yield _FAILED + pack(error.to_wire())
        return
    yield _OK
    for bundle in bundles:
        yield len(bundle.data).to_bytes(4, "big")
        yield bundle.data


def main() -> None:
    """Build what standard input asks for."""
    _bounded()
    for piece in _answer(sys.stdin.buffer.read(_REQUEST.size + 1)):
        sys.stdout.buffer.write(piece)


if __name__ == "__main__":
    main()
