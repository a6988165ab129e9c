"""Installed dependencies: one folder per lock and interpreter, built once, shared by all functions with that lock.

    <folder>/<key>/site/…        what is installed
    <folder>/<key>/complete      written last; without it the folder counts as absent
    <folder>/.<key>.<random>     one being built; a leftover of a killed build is removed by the next
    <folder>/.<key>.lock         held (flock) while building

Only wheels are installed, each checked against the lock's hashes: no build step of anybody's runs in the controller's
name. A package without a wheel for this machine is refused with the installer's words.
"""

from __future__ import annotations

import asyncio
import fcntl
import json
import os
import secrets
import shutil
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Final

from osiris_mesh.errors import DeadlineExceeded, RemoteProtocolError, Unavailable
from osiris_mesh.runtime.bundle import Bundle
from osiris_mesh.runtime.disk import open_to_read, sync_folder, write_whole
from osiris_mesh.runtime.installer import run_installer
from osiris_mesh.runtime.interpreter import Interpreter, environment_key, find_interpreter
from osiris_mesh.runtime.lockfile import check_lock

__all__ = ["SITE", "Environments"]

SITE: Final = "site"
"""Folder of an environment that the interpreter searches for modules."""

_MARKER: Final = "complete"
_LOCK_POLL_S: Final = 0.1
_BUILDS: Final = 2


class Environments:
    """The environments of this node.

    Args:
        folder: Where they lie; made if absent.
        timeout_s: Seconds one installation may take, waiting for another controller's build of it included.
    """

    def __init__(self, folder: Path, *, timeout_s: float = 600.0) -> None:
        self._folder = folder
        self._timeout_s = timeout_s
        self._building: dict[str, asyncio.Future[Path]] = {}
        # Threads of its own: an installation takes minutes, and the loop's threads are for short reads and writes.
        self._threads = ThreadPoolExecutor(_BUILDS, "environment")
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)

    async def ensure(self, bundle: Bundle) -> Path | None:
        """Return the environment of a bundle, building it if it is not here; many callers share one build.

        Returns:
            The environment's folder; None if the bundle has no dependencies.

        Raises:
            Unavailable: The installer failed (the text has its words), or the interpreter is missing.
            DeadlineExceeded: It took longer than allowed.
        """
        if not bundle.lock:
            return None
        interpreter = await asyncio.to_thread(find_interpreter, bundle.spec.runtime)
        key = environment_key(bundle.lock, interpreter)
        task = self._building.get(key)
        if task is None:
            loop = asyncio.get_running_loop()
            task = loop.run_in_executor(self._threads, self._ensure, key, bundle.lock, interpreter)
            self._building[key] = task
            task.add_done_callback(lambda done: self._built(key, done))
        return await asyncio.shield(task)

    def close(self) -> None:
        """Start no further build; one that runs ends by itself, at its time limit at the latest."""
        self._threads.shutdown(wait=False, cancel_futures=True)

    def _built(self, key: str, done: asyncio.Future[Path]) -> None:
        del self._building[key]
        if not done.cancelled():
            done.exception()  # every waiter gets it; without one it must not be reported as forgotten

    def _ensure(self, key: str, lock: bytes, interpreter: Interpreter) -> Path:
        folder = self._folder / key
        if (folder / _MARKER).is_file():
            return folder
        give_up = time.monotonic() + self._timeout_s
        handle = os.open(self._folder / f".{key}.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            _acquire(handle, give_up)
            if not (folder / _MARKER).is_file():
                self._build(folder, lock, interpreter, give_up)
        finally:
            os.close(handle)
        return folder

    def _build(self, folder: Path, lock: bytes, interpreter: Interpreter, give_up: float) -> None:
        # Whoever holds the lock is alone: what lies here half-built belongs to nobody any more.
        for leftover in self._folder.glob(f".{folder.name}.*"):
            if leftover.is_dir():
                shutil.rmtree(leftover, ignore_errors=True)
        shutil.rmtree(folder, ignore_errors=True)
        part = self._folder / f".{folder.name}.{secrets.token_hex(8)}"
        part.mkdir(mode=0o700)
        try:
            self._install(part, lock, interpreter, give_up)
            write_whole(part / _MARKER, json.dumps({"python": interpreter.version}).encode())
            part.rename(folder)
            sync_folder(self._folder)
        except BaseException:
            shutil.rmtree(part, ignore_errors=True)
            raise

    def _install(self, part: Path, lock: bytes, interpreter: Interpreter, give_up: float) -> None:
        try:
            pins = check_lock(lock)
        except RemoteProtocolError as error:
            raise Unavailable(f"the dependencies can't be installed: {error.what}", maybe=False) from None
        requirements = part / "requirements.txt"
        requirements.write_bytes(lock)
        outcome = run_installer(
            [
                "pip",
                "install",
                "--require-hashes",
                "--no-deps",
                "--only-binary=:all:",
                "--compile-bytecode",
                # The installer's cache belongs to the user; what functions run must not change with it.
                "--link-mode=copy",
                "--quiet",
                f"--python={interpreter.program}",
                f"--target={part / SITE}",
                f"--requirement={requirements}",
            ],
            timeout_s=max(give_up - time.monotonic(), 1.0),
        )
        if outcome.code:
            named = [pin.name for pin in pins if pin.name.lower() in outcome.words.lower()] or [
                pin.name for pin in pins
            ]
            raise Unavailable(
                f"the dependencies can't be installed ({', '.join(named)[:500]}): {outcome.words}",
                fix="check the package index (SSL_CERT_FILE, proxies and UV_* count as they were when the node was "
                "started), and that each package has a wheel for this machine",
                maybe=False,
            )
        (part / SITE).mkdir(exist_ok=True)  # all markers may exclude this machine
        open_to_read(part / SITE)
        _let_read(part / SITE)


def _let_read(site: Path) -> None:
    """Let functions read what was installed: they run as nobody in particular, the controller's umask is 077."""
    site.chmod(0o755)
    for parent, folders, names in os.walk(site):
        for name in folders:
            os.chmod(os.path.join(parent, name), 0o755)  # noqa: PTH101, PTH118, S103 - many files, no objects
        for name in names:
            path = os.path.join(parent, name)  # noqa: PTH118 - the same
            if not os.path.islink(path):  # noqa: PTH114 - the same
                os.chmod(path, 0o755 if os.access(path, os.X_OK) else 0o644)  # noqa: PTH101 - the same


def _acquire(handle: int, give_up: float) -> None:
    """Lock the file; another controller of this machine may be building the same."""
    while True:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if time.monotonic() >= give_up:
                raise DeadlineExceeded(
                    "another controller has been installing the same dependencies for too long"
                ) from None
            time.sleep(_LOCK_POLL_S)
        else:
            return
