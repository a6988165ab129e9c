"""Calls without a pause from a thread of its own, each answer compared with the first, which was checked."""

from __future__ import annotations

import threading
import time
from types import TracebackType
from typing import Final, Self

from osiris_mesh.errors import OsirisError
from osiris_mesh.identity.home import Home
from osiris_sdk import Mesh

__all__ = ["Caller"]

_CALL_SECONDS: Final = 10.0
_JOIN_SECONDS: Final = 15.0


class Caller:
    """Calls one function in a loop through the SDK.

    Args:
        home: The node that is asked.
        name: The function.
        argument: Its argument.
        expected: The one right answer.

    Attributes:
        ok: Calls answered right.
        failed: Calls that were answered wrong or not at all.
        faults: The first few failures, in words.
        longest: Longest time of one call, seconds.
    """

    def __init__(self, home: Home, name: str, argument: bytes, expected: bytes) -> None:
        self.ok = 0
        self.failed = 0
        self.faults: list[str] = []
        self.longest = 0.0
        self._home = home
        self._name = name
        self._argument = argument
        self._expected = expected
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="demo caller", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stop.set()
        self._thread.join(_JOIN_SECONDS)

    def _run(self) -> None:
        with Mesh.connect(home=self._home.path) as mesh:
            bound = mesh.options(timeout=_CALL_SECONDS)
            while not self._stop.is_set():
                begin = time.monotonic()
                try:
                    answer = bound.call(self._name, self._argument)
                except OsirisError as error:
                    self._fault(f"{type(error).__name__}: {error}")
                else:
                    if answer == self._expected:
                        self.ok += 1
                    else:
                        self._fault("a wrong answer")
                self.longest = max(self.longest, time.monotonic() - begin)

    def _fault(self, text: str) -> None:
        self.failed += 1
        if len(self.faults) < 5:
            self.faults.append(text)
