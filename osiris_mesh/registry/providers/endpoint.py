"""What an endpoint is, and the one way from a provider to the endpoint that asks it.

Every error an endpoint raises says whether the call surely did not happen (:func:`surely_not`): a caller may then ask
the next provider, also for a function that is not idempotent.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, Protocol

import msgspec

from osiris_mesh.clock import Clock
from osiris_mesh.errors import (
    CheckFailed,
    Conflict,
    DeadlineExceeded,
    Denied,
    NotFound,
    OsirisError,
    Overloaded,
    Unavailable,
    UsageError,
)
from osiris_mesh.registry.record import Binding, Provider

__all__ = ["Capability", "Discovery", "Endpoint", "Endpoints", "Gap", "left", "surely_not", "unreachable"]

_MOST_SECONDS: Final = 7 * 24 * 3600.0
_REFUSED: Final = (UsageError, Conflict, NotFound, Denied, Overloaded, CheckFailed)


@dataclass(frozen=True, slots=True)
class Capability:
    """One thing a provider can do, found out by asking it.

    Attributes:
        reference: What to ask for there.
        name: A function's name made of it: letters, digits and ``_``.
        description: What the provider says it does.
        digest: SHA-256 of everything a caller relies on: name, description, schemas; hexadecimal.
        signature: Wire form of a signature.
        schema: JSON Schema of the arguments as text; empty if there is none, or if it is too long for a record.
    """

    reference: str
    name: str
    description: str
    digest: str
    signature: Sequence[Any]
    schema: str = ""

    def binding(
        self, name: str, version: str, provider: Provider, *, sequence: int = 1, previous: str = "", **more: Any
    ) -> Binding:
        """Return the record of it, to be looked at and signed.

        Args:
            name: Full name it gets.
            version: Semantic version.
            provider: Who answers; reference and capability are filled in, so the description is pinned.
            sequence: Place in the history of the name.
            previous: Digest of the statement before.
            more: Other fields of the binding.

        Raises:
            UsageError: Something is wrong with it; the text begins with the path.
        """
        pinned = msgspec.structs.replace(provider, reference=self.reference, capability=self.digest)
        made = Binding(
            name=name,
            version=version,
            sequence=sequence,
            previous=previous,
            signature=tuple(self.signature),
            schema=self.schema,
            description=self.description[:4096],
            providers=(pinned,),
            **more,
        )
        return Binding.from_payload(made.payload())


@dataclass(frozen=True, slots=True)
class Gap:
    """Something a provider offers that cannot be called from here.

    Attributes:
        where: Which operation or tool.
        what: Why not.
    """

    where: str
    what: str


@dataclass(frozen=True, slots=True)
class Discovery:
    """What a provider offers.

    Attributes:
        found: What can be called, by reference.
        gaps: What cannot, one by one.
    """

    found: Sequence[Capability]
    gaps: Sequence[Gap] = field(default=())


class Endpoint(Protocol):
    """Asks the providers of one scheme."""

    async def call(
        self,
        provider: Provider,
        name: str,
        args: Sequence[Any],
        kwargs: Mapping[str, Any],
        *,
        deadline: float | None,
        headers: Mapping[str, Any],
    ) -> Any:
        """Call a function.

        Args:
            provider: Who is asked.
            name: Full name of the function, with or without ``@version``.
            args: Positional arguments.
            kwargs: Keyword arguments.
            deadline: Monotonic seconds; None: the endpoint's own limit.
            headers: Of the call: ``idempotent``, ``context``, ``traceparent`` and ``depth`` count.

        Raises:
            OsirisError: The function's own error, or why it could not be called; see :func:`surely_not`.
        """
        ...

    async def probe(self, provider: Provider, *, deadline: float | None = None) -> None:
        """Find out whether a provider answers, without calling the function.

        Raises:
            OsirisError: It does not.
        """
        ...

    async def discover(self, endpoint: str, *, deadline: float | None = None) -> Discovery:
        """Return what is offered at an endpoint.

        Raises:
            UsageError: This kind of endpoint describes nothing.
            OsirisError: It does not answer, or not in bounds.
        """
        ...

    async def close(self) -> None:
        """Give up what is held."""
        ...


class Endpoints:
    """Every scheme this node can ask.

    Args:
        by_scheme: Endpoint by scheme, without ``://``.
        makers: By scheme, what makes an endpoint when it is first asked for; ImportError: its extra is not installed.
    """

    def __init__(
        self, by_scheme: Mapping[str, Endpoint], makers: Mapping[str, Callable[[], Endpoint]] | None = None
    ) -> None:
        self._by_scheme = dict(by_scheme)
        self._makers = dict(makers or {})

    @property
    def schemes(self) -> frozenset[str]:
        """The schemes that can be asked."""
        return frozenset(self._by_scheme) | frozenset(self._makers)

    def of(self, endpoint: str) -> Endpoint:
        """Return what asks an endpoint.

        Raises:
            UsageError: Nothing here does.
        """
        scheme = endpoint.partition("://")[0]
        found = self._by_scheme.get(scheme) or self._made(scheme)
        if found is None:
            raise UsageError(
                f"{endpoint[:200]} can't be asked from this node: it knows {', '.join(sorted(self._by_scheme))}",
                fix="for mcp:// install the extra: osiris-mesh[mcp]" if scheme == "mcp" else "name another provider",
            )
        return found

    def _made(self, scheme: str) -> Endpoint | None:
        maker = self._makers.pop(scheme, None)
        if maker is None:
            return None
        try:
            made = self._by_scheme[scheme] = maker()
        except ImportError:
            return None
        return made

    async def call(
        self,
        provider: Provider,
        name: str,
        args: Sequence[Any],
        kwargs: Mapping[str, Any],
        *,
        deadline: float | None,
        headers: Mapping[str, Any],
    ) -> Any:
        """Call a function of a provider; see :meth:`Endpoint.call`."""
        return await self.of(provider.endpoint).call(provider, name, args, kwargs, deadline=deadline, headers=headers)

    async def probe(self, provider: Provider, *, deadline: float | None = None) -> None:
        """Find out whether a provider answers; see :meth:`Endpoint.probe`."""
        await self.of(provider.endpoint).probe(provider, deadline=deadline)

    async def discover(self, endpoint: str, *, deadline: float | None = None) -> Discovery:
        """Return what is offered at an endpoint; see :meth:`Endpoint.discover`."""
        return await self.of(endpoint).discover(endpoint, deadline=deadline)

    async def close(self) -> None:
        """Give up what every endpoint holds."""
        for endpoint in {id(each): each for each in self._by_scheme.values()}.values():
            await endpoint.close()


def surely_not(error: OsirisError) -> bool:
    """Say whether the function surely did not run, so that asking another provider is safe."""
    maybe = error.details.get("maybe")
    if isinstance(maybe, bool):
        return not maybe
    return isinstance(error, _REFUSED) and not isinstance(error, DeadlineExceeded)


def left(clock: Clock, deadline: float | None, most: float) -> float:
    """Return the seconds a request may take: until ``deadline``, at most ``most``.

    Raises:
        DeadlineExceeded: There are none.
    """
    if deadline is None:
        return most
    seconds = min(deadline - clock.monotonic(), most, _MOST_SECONDS)
    if seconds <= 0:
        raise DeadlineExceeded(
            "the time was over before the provider was asked", fix="give the call more time", maybe=False
        )
    return seconds


def unreachable(endpoint: str, why: str, *, maybe: bool) -> Unavailable:
    """Return the error for a provider that does not answer."""
    return Unavailable(
        f"the provider at {endpoint[:200]} did not answer: {why[:300]}",
        fix="another provider of the function may; see: osiris-mesh registry resolve --explain NAME",
        maybe=maybe,
    )
