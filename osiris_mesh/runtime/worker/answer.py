"""One call inside a worker: from packed arguments to a packed result, or to the error the caller gets."""

from __future__ import annotations

import contextlib
import time
import types
from collections.abc import Awaitable, Callable
from contextlib import AbstractContextManager
from typing import Any, Final

from osiris_mesh.codec import VALUE, pack, unpack
from osiris_mesh.errors import DeadlineExceeded, FunctionError, LimitExceeded, OsirisError, UsageError
from osiris_mesh.link.blocking import BlockingLink
from osiris_mesh.link.request import Request
from osiris_mesh.runtime.worker.control import INHERITED
from osiris_mesh.runtime.worker.failure import Frames, describe
from osiris_mesh.runtime.worker.leftovers import Leftovers
from osiris_mesh.runtime.worker.output import CURRENT_CALL, LineStream
from osiris_sdk.inside import serving

__all__ = ["Answers"]

_SCALARS: Final = frozenset({str, bytes, int, float, bool, type(None)})
_CO_COROUTINE: Final = 0x80
_MAX_WHAT: Final = 4096
_SLACK_S: Final = 0.1
"""A function's own call is told a little before the deadline both share (``invoke/life.py``)."""


class Answers:
    """Runs one function for one link.

    Args:
        function: The function.
        name: Its name in the mesh, for texts.
        frames: Which frames of a traceback are its own.
        memory: Bytes it may use, for texts.
        streams: The standard streams, whose last lines go out with each call.

    Attributes:
        link: Where the function's own calls go out.
        leftovers: Ends the processes that calls leave behind; set in each worker.
        is_async: The function is an ``async def``.
    """

    def __init__(
        self, function: Callable[..., Any], name: str, frames: Frames, memory: int, streams: tuple[LineStream, ...]
    ) -> None:
        self.link: BlockingLink | None = None
        self.leftovers: Leftovers | None = None
        code = getattr(function, "__code__", None)
        self.is_async = bool(code is not None and code.co_flags & _CO_COROUTINE)
        self._function = function
        self._name = name
        self._frames = frames
        self._memory = memory
        self._streams = streams

    def __call__(self, request: Request, wait: Callable[[Awaitable[Any]], Any]) -> bytes:
        """Answer one call in this thread.

        Args:
            request: The call.
            wait: Runs an awaitable to its end, for an ``async def``.

        Raises:
            OsirisError: What the caller gets.
        """
        token = CURRENT_CALL.set(str(request.headers.get("call", "")))
        leftovers = self.leftovers
        assert leftovers is not None  # noqa: S101 - set before the first call
        leftovers.began()
        try:
            args, kwargs = _arguments(request)
            with self._serving(request):
                result = self._function(*args, **kwargs)
                if isinstance(result, types.CoroutineType):
                    result = wait(result)
            return self._encode(result)
        except BaseException as error:  # noqa: BLE001 - whatever a function raises belongs to its caller
            raise self._error(error, request) from None
        finally:
            self._flush()
            leftovers.ended()
            CURRENT_CALL.reset(token)

    async def on_loop(self, request: Request) -> bytes:
        """Answer one call of an ``async def`` on the running loop; raises as calling this object does."""
        CURRENT_CALL.set(str(request.headers.get("call", "")))
        leftovers = self.leftovers
        assert leftovers is not None  # noqa: S101 - set before the first call
        leftovers.began()
        try:
            args, kwargs = _arguments(request)
            with self._serving(request):
                result = await self._function(*args, **kwargs)
            return self._encode(result)
        except BaseException as error:  # noqa: BLE001 - whatever a function raises belongs to its caller
            raise self._error(error, request) from None
        finally:
            self._flush()
            leftovers.ended()

    def _serving(self, request: Request) -> AbstractContextManager[None]:
        assert self.link is not None  # noqa: S101 - set before the first call
        headers = request.headers
        return serving(
            self.link,
            depth=headers.get("depth", 0),
            deadline=request.deadline,
            traceparent=str(headers.get("traceparent", "")),
        )

    def _flush(self) -> None:
        for stream in self._streams:
            with contextlib.suppress(OSError):  # the function may have closed them
                stream.flush()

    def _error(self, error: BaseException, request: Request) -> OsirisError:
        if isinstance(error, _Answered):
            return error.error
        if isinstance(error, DeadlineExceeded) and _over(request):
            # Its caller's time ran out while a call of its own did: that is the caller's deadline, no exception.
            return DeadlineExceeded(
                f"{self._name} was not done in time, waiting: {error.what}"[:_MAX_WHAT], reason=INHERITED
            )
        return describe(error, self._frames, self._name, self._memory, function=self._name)

    def _encode(self, result: Any) -> bytes:
        if type(result) not in _SCALARS:
            problem = _unsendable(result)
            if problem:
                raise self._type_error(f"the result {problem}")
        try:
            packed = pack(result)
        except UsageError as error:
            raise self._type_error(f"the result can't be sent: {error.what}") from None
        if len(packed) > VALUE.size:
            raise _Answered(
                LimitExceeded(
                    f"{self._name} returned {len(packed)} bytes, more than the {VALUE.size} a call carries",
                    limit="result",
                )
            )
        return packed

    def _type_error(self, message: str) -> _Answered:
        return _Answered(
            FunctionError(
                f"{self._name} raised TypeError: {message}",
                fix="return JSON types or bytes",
                type="TypeError",
                message=message,
                traceback="",
                path=[self._name],
            )
        )


class _Answered(Exception):
    """The error to answer with is made already."""

    def __init__(self, error: OsirisError) -> None:
        super().__init__(error.what)
        self.error = error


def _over(request: Request) -> bool:
    """Say whether the time for a call is over, or as good as."""
    return request.deadline is not None and time.monotonic() > request.deadline - _SLACK_S


def _arguments(request: Request) -> tuple[list[Any], dict[str, Any]]:
    body = unpack(request.body, VALUE)
    if not isinstance(body, list) or len(body) != 2 or not isinstance(body[0], list) or not isinstance(body[1], dict):
        raise _Answered(UsageError("the body of a call is not [args, kwargs]"))
    return body[0], body[1]


def _unsendable(result: Any) -> str:
    """Return what of ``result`` no message can carry, with the path to it; empty if all of it can be sent."""
    level: list[tuple[str, Any]] = [("", result)]
    for _ in range(VALUE.depth):
        below: list[tuple[str, Any]] = []
        for path, value in level:
            if isinstance(value, dict):
                for key, item in value.items():
                    if type(key) is not str:
                        return f"has a key of type {type(key).__qualname__!r} at {path or 'its top'}, not a text"
                    if type(item) not in _SCALARS:
                        below.append((f"{path}[{key!r:.40}]", item))
            elif isinstance(value, list | tuple):
                below += [(f"{path}[{place}]", item) for place, item in enumerate(value) if type(item) not in _SCALARS]
            elif not isinstance(value, str | bytes | bytearray | memoryview | int | float):
                where = f" at {path}" if path else ""
                return f"is of type {type(value).__qualname__!r}{where}, which can't be sent"
        if not below:
            return ""
        level = below
    return f"is nested deeper than {VALUE.depth}"
