"""The policy ``custom``: a function of this mesh puts providers in order.

It is called like any other, in a context that lets it call nothing but itself. So what it does never comes back here,
on whatever node it runs: a chooser that asked a registry would have to be asked for the order of that one's providers.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final, Protocol

from osiris_mesh.clock import Clock
from osiris_mesh.codec import VALUE, pack, unpack
from osiris_mesh.errors import OsirisError, Overloaded, RemoteProtocolError, Unavailable
from osiris_mesh.link import Audience, Caller
from osiris_mesh.registry.context import HEADER, Level, make
from osiris_mesh.registry.selection import Key, Standing, key_of

__all__ = ["CALLER", "Calls", "MeshChooser"]

CALLER: Final = Caller(b"", "", Audience.LOCAL, "registry.chooser")
"""Who calls the function."""
_MAX_ASKED: Final = 32
_MAX_IDS: Final = 1024


class Calls(Protocol):
    """Calls functions of this mesh; :class:`osiris_mesh.invoke.invoker.Invoker`."""

    def find(self, name: str) -> Any:
        """Return the version a name means; raises NotFound where this mesh has none."""
        ...

    async def call(
        self, name: str, body: bytes, *, deadline: float | None, headers: Mapping[str, Any], caller: Caller
    ) -> bytes:
        """Have one call run."""
        ...


class MeshChooser:
    """A :class:`osiris_mesh.registry.selection.Chooser`; belongs to the loop.

    Whoever wants the same providers of the same function in order meanwhile shares one call; 32 are under way at most.

    Args:
        calls: Returns what calls functions.
        function: Returns the full name of the function, as it is now.
        clock: Time.
    """

    def __init__(self, calls: Callable[[], Calls], function: Callable[[], str], clock: Clock) -> None:
        self._calls = calls
        self._function = function
        self._clock = clock
        self._asked: dict[tuple[str, str, tuple[Key, ...]], asyncio.Task[list[str] | OsirisError]] = {}

    async def order(self, name: str, providers: Sequence[Standing], *, deadline: float) -> Sequence[str]:
        """Return ids of providers, first the one to try first.

        Raises:
            NotFound: This mesh has no such function.
            RemoteProtocolError: What it returned is no order of these providers.
            Overloaded: Too many of its calls are under way.
            OsirisError: It failed, or was too slow.
        """
        function = self._function()
        key = (function, name, tuple(key_of(item.provider) for item in providers))
        task = self._asked.get(key)
        if task is None:
            if len(self._asked) >= _MAX_ASKED:
                raise Overloaded(f"{function} works on {_MAX_ASKED} orders of providers already")
            task = asyncio.get_running_loop().create_task(self._ask(function, name, providers, deadline))
            self._asked[key] = task
            task.add_done_callback(lambda _done: self._asked.pop(key, None))
        try:
            found = await asyncio.shield(task)
        except asyncio.CancelledError:
            if not task.cancelled():
                raise
            raise Unavailable("this node stops", maybe=False) from None
        if isinstance(found, OsirisError):
            # One each: an error that is raised gathers the traces of all who raise it.
            raise type(found)(found.what, fix=found.fix, **found.details)
        return found

    async def close(self) -> None:
        """End all its calls."""
        tasks = list(self._asked.values())
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _ask(
        self, function: str, name: str, providers: Sequence[Standing], deadline: float
    ) -> list[str] | OsirisError:
        try:
            # Only what this mesh has: a registry's function could not be called without an order of its providers.
            self._calls().find(function)
            async with asyncio.timeout(max(deadline - self._clock.monotonic(), 0.0)):
                answer = await self._calls().call(
                    function,
                    pack([[name, [_told(item) for item in providers]], {}]),
                    deadline=deadline,
                    headers={HEADER: make(Level.FULL, functions=(function,)).text()},
                    caller=CALLER,
                )
            return _ids(unpack(answer, VALUE), {item.provider.id for item in providers}, function)
        except TimeoutError:
            return Unavailable(f"{function} did not say in time which provider comes first", maybe=False)
        except OsirisError as error:
            return error


def _told(item: Standing) -> dict[str, Any]:
    provider = item.provider
    return {
        "id": provider.id,
        "endpoint": provider.endpoint,
        "cost_micros": provider.cost_micros,
        "currency": provider.currency,
        "region": provider.region,
        "weight": provider.weight,
        "sla": provider.sla,
        "response_ms": item.response_ms,
        "availability": item.availability,
        "open": item.open,
        "draining": item.draining,
        "in_flight": item.in_flight,
    }


def _ids(value: Any, known: set[str], function: str) -> list[str]:
    right = isinstance(value, list) and len(value) <= _MAX_IDS and all(type(each) is str for each in value)
    if not right or known.isdisjoint(value):
        raise RemoteProtocolError(
            f"{function} did not return a list of ids of the providers it was given",
            fix='return ids, the first to be tried first: [provider["id"] for provider in ...]',
        )
    return list(value)
