"""The controller's side of a zygote and its workers: processes, sockets, pipes.

A worker is named by its number, never by a process id: only the zygote, its parent, signals it, so that no stranger's
process can be hit. The controller itself holds a handle on the zygote alone, and ending that one ends all below it.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import shutil
import socket
import subprocess
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from osiris_mesh.clock import Clock
from osiris_mesh.errors import (
    DeadlineExceeded,
    InternalError,
    LimitExceeded,
    OsirisError,
    RemoteProtocolError,
    WorkerDied,
)
from osiris_mesh.function.spec import FunctionSpec
from osiris_mesh.link import Audience, Caller, Link, Router, link_over
from osiris_mesh.runtime.bundle import Bundle
from osiris_mesh.runtime.capture import Capture
from osiris_mesh.runtime.disk import open_to_read
from osiris_mesh.runtime.interpreter import Interpreter
from osiris_mesh.runtime.logs import LogLine
from osiris_mesh.runtime.obituary import Exit
from osiris_mesh.runtime.sandbox import FIRST_UID, Sandbox
from osiris_mesh.runtime.worker.control import Inbox, frame
from osiris_mesh.settings.runtime import RuntimeSettings

__all__ = ["Place", "Worker", "Zygote"]

_FORK_S: Final = 10.0
_KILL_S: Final = 2.0
_GRACE_S: Final = 0.5  # to end by itself, so that its own exit code is seen
_UIDS: Final = 400_000_000
_BOOT: Final = (
    "import sys; sys.path.append({kit!r}); from osiris_mesh.runtime.worker.zygote import main; main({descriptor})"
)
_log = logging.getLogger("osiris.runtime")


@dataclass(frozen=True, slots=True)
class Place:
    """What all zygotes of a node share.

    Attributes:
        folder: Where each gets its folders.
        kit: What a worker needs of ours.
        sandbox: How it is confined.
        settings: Limits.
        router: What a worker may call here.
        clock: Time.
    """

    folder: Path
    kit: Path
    sandbox: Sandbox
    settings: RuntimeSettings
    router: Router
    clock: Clock


@dataclass(slots=True, eq=False)
class Worker:
    """One worker process.

    Attributes:
        zygote: Its parent.
        number: Its number there.
        name: How its own calls are attributed.
        link: Calls in both directions.
        output: Its standard output.
        errors: Its standard error.
        ended: How it ended, once it has.
        stopped: Why the runtime ended it; empty if it did not.
    """

    zygote: Zygote
    number: int
    name: str
    link: Link
    output: Capture
    errors: Capture
    ended: asyncio.Future[Exit] = field(default_factory=lambda: asyncio.get_running_loop().create_future())
    stopped: str = ""


class Zygote:
    """One zygote process; make it with :meth:`start`.

    Attributes:
        closed: It is gone, or going.
    """

    _counter = 0

    def __init__(self, bundle: Bundle, place: Place, sink: Callable[[Sequence[LogLine]], None]) -> None:
        Zygote._counter += 1
        self._number = Zygote._counter
        self._spec: FunctionSpec = bundle.spec
        self._bundle = bundle
        self._place = place
        self._sink = sink
        self._folder = place.folder / f"{bundle.digest.hex()[:16]}-{self._number}"
        self._loop = asyncio.get_running_loop()
        self._process: subprocess.Popen[bytes] | None = None
        self._control: socket.socket | None = None
        self._inbox: Inbox | None = None
        self._captures: list[Capture] = []
        self._ready: asyncio.Future[int] = self._loop.create_future()
        self._forking: dict[int, asyncio.Future[None]] = {}
        self._workers: dict[int, Worker] = {}
        self._last_worker = 0
        self._gone: asyncio.Future[None] = self._loop.create_future()
        self._on_gone: Callable[[], None] | None = None
        self.closed = False

    @classmethod
    async def start(
        cls,
        bundle: Bundle,
        site: Path | None,
        interpreter: Interpreter,
        place: Place,
        *,
        sink: Callable[[Sequence[LogLine]], None],
        on_gone: Callable[[], None],
    ) -> Zygote:
        """Start the process and wait until the function is imported.

        Args:
            bundle: The function.
            site: Its installed dependencies.
            interpreter: What runs it.
            place: What all zygotes share.
            sink: Takes what it prints.
            on_gone: Called once when it has ended.

        Raises:
            FunctionError: The import raised.
            LimitExceeded: The import needed too much memory, or took too long.
            WorkerDied: The process ended.
        """
        zygote = cls(bundle, place, sink)
        zygote._on_gone = on_gone
        try:
            await asyncio.to_thread(zygote._unpack)
            zygote._spawn(site, interpreter)
            async with asyncio.timeout(place.settings.start_timeout_s):
                await asyncio.shield(zygote._ready)
        except TimeoutError:
            await zygote.close()
            raise LimitExceeded(
                f"importing {bundle.spec.name} took longer than {place.settings.start_timeout_s:g} s",
                fix="do less when the module is imported",
                limit="start",
            ) from None
        except OSError as error:
            await zygote.close()
            raise InternalError(f"{bundle.spec.name} can't be started here: {error}") from None
        except BaseException:
            await zygote.close()
            raise
        return zygote

    async def fork(self) -> Worker:
        """Fork a worker.

        Raises:
            WorkerDied: The zygote is gone, or the system allows no further process.
            DeadlineExceeded: It did not answer.
        """
        if self.closed or self._control is None:
            raise WorkerDied(f"the zygote of {self._spec.name} is gone", fix="call again")
        self._last_worker += 1
        number = self._last_worker
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
        output, output_end = os.pipe()
        errors, errors_end = os.pipe()
        forked: asyncio.Future[None] = self._loop.create_future()
        self._forking[number] = forked
        captures: list[Capture] = []
        try:
            captures = [self._capture(output, "out"), self._capture(errors, "err")]
            try:
                socket.send_fds(
                    self._control, [frame("fork", number=number)], [theirs.fileno(), output_end, errors_end]
                )
            except OSError as error:
                raise WorkerDied(f"the zygote of {self._spec.name} is gone: {error.strerror}") from None
            name = f"{self._spec.name}@{self._spec.version}#{self._number}.{number}"
            link = await link_over(ours, self._place.router, Caller(b"", "", Audience.FUNCTION, name))
            worker = Worker(self, number, name, link, captures[0], captures[1])
            self._workers[number] = worker
            async with asyncio.timeout(_FORK_S):
                await forked
        except BaseException as error:
            self.kill(number, "its start was given up")
            for capture in captures:
                capture.close()
            ours.close()
            if isinstance(error, TimeoutError):
                self._end()
                raise DeadlineExceeded(f"the zygote of {self._spec.name} did not fork in {_FORK_S:g} s") from None
            raise
        finally:
            self._forking.pop(number, None)
            theirs.close()
            os.close(output_end)
            os.close(errors_end)
        return worker

    def kill(self, number: int, why: str) -> None:
        """End a worker and all it started, at once."""
        worker = self._workers.get(number)
        if worker is not None:
            worker.stopped = worker.stopped or why
            worker.link.fail(why)
        if self._control is not None and not self.closed:
            with contextlib.suppress(OSError):
                self._control.send(frame("kill", number=number))
            self._loop.call_later(_KILL_S, self._insist, number)

    def _insist(self, number: int) -> None:
        """End the zygote itself if it did not end a worker: a function may have stopped its own parent."""
        if number in self._workers and not self.closed:
            _log.warning("a zygote does not obey", extra={"function": self._spec.name})
            self._end()

    async def close(self) -> None:
        """End the process, and with it all its workers; return when it is gone."""
        self._end()
        if self._process is not None:
            await self._gone
        await asyncio.to_thread(shutil.rmtree, self._folder, ignore_errors=True)

    # within

    def _unpack(self) -> None:
        code = self._folder / "code"
        for path, content in self._bundle.files:
            target = code / path
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(content)
        open_to_read(code)
        scratch = self._folder / "scratch"
        scratch.mkdir(mode=0o700)
        if not self._place.sandbox.isolated and (user := self._user()):
            os.chown(scratch, user, user)

    def _user(self) -> int:
        """Return the user id the function gets; 0 to keep the controller's, which then is not root's."""
        if not self._place.sandbox.as_root or not self._place.sandbox.isolated:
            return 0
        return FIRST_UID + (os.getpid() * 4096 + self._number) % _UIDS

    def _spawn(self, site: Path | None, interpreter: Interpreter) -> None:
        settings, sandbox, spec = self._place.settings, self._place.sandbox, self._spec
        code, scratch = self._folder / "code", self._folder / "scratch"
        view = sandbox.view(code=code, site=site, kit=self._place.kit, scratch=scratch)
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
        output, output_end = os.pipe()
        errors, errors_end = os.pipe()
        boot = _BOOT.format(kit=view.kit, descriptor=theirs.fileno())
        argv = sandbox.argv(
            [os.fspath(interpreter.program), "-I", "-S", "-B", "-c", boot],
            code=code,
            site=site,
            kit=self._place.kit,
            prefix=interpreter.prefix,
            network=spec.network,
            scratch_size=settings.scratch,
        )
        self._captures = [self._capture(output, "out"), self._capture(errors, "err")]
        try:
            # From the loop's own thread: the kernel's "die with the parent" means the thread that started it.
            self._process = subprocess.Popen(
                argv,
                env=dict(sandbox.environment(view)),
                cwd="/",
                stdin=subprocess.DEVNULL,
                stdout=output_end,
                stderr=errors_end,
                pass_fds=[theirs.fileno()],
                start_new_session=True,
                umask=0o077,
            )
        except BaseException:
            ours.close()
            raise
        finally:
            theirs.close()
            os.close(output_end)
            os.close(errors_end)
        ours.setblocking(False)  # noqa: FBT003 - the standard library's own shape
        self._control, self._inbox = ours, Inbox(ours)
        self._loop.add_reader(ours.fileno(), self._hear)
        start = {
            "name": spec.name,
            "code": view.code,
            "roots": list(self._bundle.roots),
            "site": view.site,
            "kit": view.kit,
            "scratch": view.scratch,
            "file": self._bundle.entry_file,
            "function": self._bundle.function,
            "concurrency": spec.concurrency,
            "memory": spec.memory,
            "import_memory": settings.import_memory,
            "user": self._user(),
            "limits": {
                "files": settings.open_files,
                "file_size": settings.file_size,
                "processor_s": int(2 * (os.cpu_count() or 1) * (settings.retire_after_busy_s + spec.timeout_ms / 1000)),
                "processes": settings.processes + spec.concurrency if sandbox.isolated else 0,
            },
        }
        ours.send(frame("start", **start))

    def _capture(self, descriptor: int, stream: str) -> Capture:
        settings = self._place.settings
        return Capture(
            descriptor,
            stream,
            self._spec.version,
            self._sink,
            self._place.clock,
            line=settings.log_line,
            rate=settings.log_rate,
            tail=settings.error_tail,
        )

    def _hear(self) -> None:
        if self._inbox is None:
            return
        try:
            messages = self._inbox.receive()
            if messages is None:
                self._end(grace_s=_GRACE_S)
                return
            for message in messages:
                self._take(message)
        except BlockingIOError:
            return
        except (RemoteProtocolError, KeyError, TypeError, ValueError) as error:
            # Import-time code runs in that process: what it says is not to be trusted either.
            _log.warning("zygote broke the protocol", extra={"function": self._spec.name, "why": str(error)})
            self._end()
        for descriptor in self._inbox.descriptors:
            os.close(descriptor)
        self._inbox.descriptors.clear()

    def _take(self, message: dict[str, Any]) -> None:
        match message["kind"]:
            case "ready":
                if not self._ready.done():
                    self._ready.set_result(int(message["import_ms"]))
            case "failed":
                if not self._ready.done():
                    self._ready.set_exception(OsirisError.from_wire(message["error"]))
            case "forked":
                forked = self._forking.get(message["number"])
                if forked is not None and not forked.done():
                    forked.set_result(None)
            case "unforked":
                forked = self._forking.get(message["number"])
                if forked is not None and not forked.done():
                    reason = str(message["reason"])[:200]
                    forked.set_exception(WorkerDied(f"{self._spec.name} could not fork a worker: {reason}"))
            case "exited":
                worker = self._workers.pop(message["number"], None)
                if worker is not None:
                    self._bury(worker, int(message["status"]), int(message["memory"]))
            case other:
                raise RemoteProtocolError(f"a zygote said {other!r:.40}")

    def _bury(self, worker: Worker, status: int | None, memory: int = 0) -> None:
        worker.link.fail("the worker ended")
        worker.output.close()
        worker.errors.last_words()
        if not worker.ended.done():
            worker.ended.set_result(Exit(status, memory, worker.stopped))
        worker.errors.close()

    def _end(self, grace_s: float = 0.0) -> None:
        """Begin to end: nothing below this process survives it."""
        if self.closed:
            return
        self.closed = True
        if self._control is not None:
            self._loop.remove_reader(self._control.fileno())
            self._control.close()
            self._control = None
        process = self._process
        if process is not None:
            if not grace_s and not self._place.sandbox.isolated:
                grace_s = _GRACE_S  # no namespace ends with it: it has to end what left the workers' groups itself
            if not grace_s:
                process.kill()
            threading.Thread(target=self._wait, args=(process, grace_s), name="zygote-wait", daemon=True).start()

    def _wait(self, process: subprocess.Popen[bytes], grace_s: float) -> None:
        try:
            code = process.wait(grace_s or None)
        except subprocess.TimeoutExpired:
            process.kill()
            code = process.wait()
        with contextlib.suppress(RuntimeError):  # the loop is closed: nobody waits any more
            self._loop.call_soon_threadsafe(self._ended, code)

    def _ended(self, code: int) -> None:
        words = self._captures[1].last_words() if self._captures else ""
        for capture in self._captures:
            capture.close()
        if not self._ready.done():
            tail = f"; its last words: {words.splitlines()[-1][:300]}" if words else ""
            self._ready.set_exception(
                WorkerDied(
                    f"importing {self._spec.name} ended the process ({_how(code)}){tail}",
                    fix="see osiris-mesh logs",
                    stderr=words,
                )
            )
            self._ready.exception()  # it may be that nobody waits any more
        for forked in self._forking.values():
            if not forked.done():
                forked.set_exception(WorkerDied(f"the zygote of {self._spec.name} ended", fix="call again"))
        for worker in list(self._workers.values()):
            self._bury(worker, None)
        self._workers.clear()
        if not self._gone.done():
            self._gone.set_result(None)
        if self._on_gone is not None:
            self._on_gone()


def _how(code: int) -> str:
    return f"signal {-code}" if code < 0 else f"exit code {code}"
