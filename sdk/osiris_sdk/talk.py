"""What is said to a controller, and what its answers mean; without I/O, for both :class:`Mesh` and :class:`AsyncMesh`.

A *talk* is a generator: it yields an :class:`Exchange`, is sent the answer's bytes (or has the error thrown in), and
returns what the caller asked for. Whoever drives it does the waiting.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Generator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, TypeVar

from osiris_mesh.codec import VALUE, pack, unpack
from osiris_mesh.errors import Conflict, DeadlineExceeded, NotFound, RemoteProtocolError, Unavailable, UsageError
from osiris_sdk.options import Choose, Options
from osiris_sdk.resolved import ResolveCache, Resolved
from osiris_sdk.trace import OPENTELEMETRY, traceparent

__all__ = ["GRACE_S", "REQUEST_S", "Exchange", "Talk", "Talks", "check_keys", "may_resend"]

REQUEST_S: Final = 30.0
"""Seconds a request that names no limit of its own may take."""
GRACE_S: Final = 5.0
"""Seconds beyond a function's own limit in which the controller must have said that it ran out."""
_REBINDS: Final = 3
_CHOOSE_S: Final = 2.0
_MOST_CHOSEN: Final = 64
_SCALARS: Final = frozenset({int, float, str, bytes, bool, type(None)})

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Exchange:
    """One request and its answer.

    Attributes:
        method: Method of the controller.
        body: What it is sent.
        headers: Beside it.
        timeout: Seconds for this exchange, if the deadline of the whole talk is not sooner.
        safe: It may be sent again although it may have arrived.
    """

    method: str
    body: bytes
    headers: dict[str, Any]
    timeout: float
    safe: bool

    def left(self, deadline: float | None, now: float) -> float:
        """Return the seconds this exchange may take, of a talk that must be over at ``deadline``.

        Raises:
            DeadlineExceeded: None.
        """
        if deadline is None:
            return self.timeout
        if deadline <= now:
            raise DeadlineExceeded(f"no time was left for {self.method}")
        return min(self.timeout, deadline - now)


Talk = Generator[Exchange, bytes, T]


def may_resend(exchange: Exchange, error: Unavailable) -> bool:
    """Say whether an exchange whose link was lost may go over a new link: it surely did not arrive, or is harmless."""
    return exchange.safe or error.details.get("maybe") is False


class Talks:
    """Makes talks that share one cache of names.

    Args:
        now: Monotonic seconds.
        inherited: Headers every call carries: inside a function, its depth.
    """

    def __init__(self, now: Callable[[], float], inherited: Mapping[str, Any] | None = None) -> None:
        self._now = now
        self._inherited = dict(inherited or {})
        self._cache = ResolveCache()

    def resolve(self, name: str, *, fresh: bool = False) -> Talk[Resolved]:
        """Look a name up.

        Args:
            name: Name, with or without ``@version``.
            fresh: Ask even if the answer is known.
        """
        known = None if fresh else self._cache.get(name, self._now())
        if known is not None:
            return known
        answer = yield Exchange("resolve", pack({"name": name}), {}, REQUEST_S, safe=True)
        resolved = Resolved.from_wire(unpack(answer))
        self._cache.put(name, resolved, self._now())
        return resolved

    def call(self, name: str, args: Sequence[Any], kwargs: Mapping[str, Any], options: Options) -> Talk[Any]:
        """Call a function and return its result."""
        answer = yield from self._call(options.full(name), args, kwargs, options, {})
        return unpack(answer, VALUE)

    def detailed(
        self, name: str, args: Sequence[Any], kwargs: Mapping[str, Any], options: Options
    ) -> Talk[tuple[Any, dict[str, Any]]]:
        """Call a function and return its result with the call's details: node, version, warm, elapsed_us."""
        answer = yield from self._call(options.full(name), args, kwargs, options, {"details": True})
        parts = unpack(answer, VALUE)
        if not (isinstance(parts, list) and len(parts) == 2 and type(parts[1]) is bytes):
            raise RemoteProtocolError("the controller answered a call without its details")
        return unpack(parts[1], VALUE), parts[0] if isinstance(parts[0], dict) else {}

    def request(self, method: str, body: Mapping[str, Any], *, timeout: float, safe: bool) -> Talk[dict[str, Any]]:
        """Ask a control method; map to map."""
        answer = unpack((yield Exchange(method, pack(dict(body)), {}, timeout, safe)), VALUE)
        if not isinstance(answer, dict):
            raise RemoteProtocolError(f"the controller answered {method} with no map")
        return answer

    def prepare(
        self, resolved: Resolved, name: str, args: Sequence[Any], kwargs: Mapping[str, Any], options: Options
    ) -> Exchange:
        """Bind and pack one call.

        Raises:
            TypeError: The arguments don't fit the signature, or are of a kind that can't be sent.
        """
        return self._exchange(resolved, name, _packed(resolved, args, kwargs), options, {})

    def _call(
        self, name: str, args: Sequence[Any], kwargs: Mapping[str, Any], options: Options, more: Mapping[str, Any]
    ) -> Talk[bytes]:
        chosen = options.choose is not None
        now = self._now()
        known = self._cache.recent(name, now, _CHOOSE_S) if chosen else self._cache.get(name, now)
        resolved = known or (yield from self.resolve(name, fresh=chosen))
        for attempt in range(_REBINDS):
            try:
                body = _packed(resolved, args, kwargs)
            except TypeError:
                if resolved is not known:
                    raise
                # By what was known they don't fit; the active version may have changed since.
                resolved = yield from self.resolve(name, fresh=True)
                body = _packed(resolved, args, kwargs)
            try:
                return (yield self._exchange(resolved, name, body, options, more))
            except Conflict as error:
                # The active version changed since we looked: the new signature came with the refusal.
                if error.details.get("reason") != "binding" or attempt == _REBINDS - 1:
                    raise
                resolved = Resolved.from_wire(error.details.get("resolved"))
                self._cache.put(name, resolved, self._now())
            except NotFound:
                self._cache.drop(name)
                raise
            except DeadlineExceeded as error:
                if resolved.name in error.what or error.fix or error.details:
                    raise
                # The link's own finding, which speaks of its method; the caller of his function.
                raise _too_late(resolved, options) from None
        raise AssertionError("unreachable")  # pragma: no cover - the last attempt returns or raises

    def _exchange(
        self, resolved: Resolved, name: str, body: bytes, options: Options, more: Mapping[str, Any]
    ) -> Exchange:
        headers = {"name": name, "binding": resolved.binding, **self._inherited, **more}
        if options.idempotent:
            headers["idempotent"] = True
        if options.context:
            headers["context"] = options.context
        if options.choose is not None and len(resolved.providers) > 1:
            headers["providers"] = _chosen(options.choose, resolved)
        if OPENTELEMETRY in sys.modules and (context := traceparent()):
            headers["traceparent"] = context
        own = resolved.timeout_ms / 1000 + GRACE_S
        timeout = own if options.timeout is None else min(options.timeout, own)
        return Exchange("call", body, headers, timeout, options.idempotent or resolved.idempotent)


def _chosen(choose: Choose, resolved: Resolved) -> list[str]:
    """Return ids of providers in the order the caller's own function gives."""
    ids = list(choose([dict(row) for row in resolved.providers]))
    if not all(type(name) is str for name in ids):
        raise TypeError("the option choose returned something else than ids of providers")
    return ids[:_MOST_CHOSEN]


def _packed(resolved: Resolved, args: Sequence[Any], kwargs: Mapping[str, Any]) -> bytes:
    bound_args, bound_kwargs = resolved.signature.bind(args, kwargs)
    try:
        body = pack([bound_args, bound_kwargs])
    except UsageError as error:
        raise TypeError(f"{resolved.signature.name}(): {error}") from None
    if not (_SCALARS.issuperset(map(type, bound_args)) and _SCALARS.issuperset(map(type, bound_kwargs.values()))):
        check_keys(resolved.signature.name, [*bound_args, *bound_kwargs.values()])
    return body


def _too_late(resolved: Resolved, options: Options) -> DeadlineExceeded:
    if options.timeout is None or options.timeout > resolved.timeout_ms / 1000 + GRACE_S:
        return DeadlineExceeded(
            f"{resolved.name} was not done in its time, and the controller did not say why",
            fix="see: osiris-mesh logs; its own limit is set with: osiris-mesh deploy --timeout",
        )
    return DeadlineExceeded(
        f"{resolved.name} was not done in {options.timeout:g} s",
        fix="give it more time: osiris-mesh call --timeout, or the option timeout",
    )


def check_keys(function: str, value: Any) -> None:
    """Refuse maps with keys that are not text, which the encoder lets through and no decoder takes.

    Looks into containers only; called after encoding, which refuses those that contain themselves.
    """
    stack = [value]
    while stack:
        container = stack.pop()
        items: Any = container
        if isinstance(container, dict):
            for key in container:
                if not isinstance(key, str):
                    raise TypeError(
                        f"{function}() got a map with a key of {type(key).__name__}; only text keys are sent"
                    )
            items = container.values()
        if not _SCALARS.issuperset(map(type, items)):
            stack.extend(item for item in items if isinstance(item, (list, tuple, dict)))
