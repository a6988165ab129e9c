"""Calls of functions that this mesh does not have: at the providers that their signed records name.

A record comes from a :class:`Names` (:class:`osiris_mesh.registry.resolver.Resolver`), its providers in the order they
are to be asked. They are asked one after another inside the caller's deadline; a call that may have taken effect is
asked of another only if it may be repeated. The security context of the caller, of the mesh and of the call, narrowed
into one, has its word about the function and about each provider.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, Protocol

from osiris_mesh.clock import Clock
from osiris_mesh.codec import VALUE, pack, unpack
from osiris_mesh.errors import Conflict, DeadlineExceeded, FunctionError, NotFound, OsirisError, Unavailable, UsageError
from osiris_mesh.function.signature import Signature, binding_of
from osiris_mesh.invoke.contexts import carried
from osiris_mesh.invoke.trace import HEADER as TRACE
from osiris_mesh.invoke.under_way import MORE_TIME
from osiris_mesh.link import Caller
from osiris_mesh.registry.context import HEADER as CONTEXT
from osiris_mesh.registry.context import Context
from osiris_mesh.registry.failover import Failover
from osiris_mesh.registry.providers.endpoint import surely_not
from osiris_mesh.registry.record import MAX_PROVIDERS, Provider
from osiris_mesh.registry.resolution import Resolution
from osiris_mesh.registry.selection import Standing

__all__ = ["ANY_ARGUMENTS", "Health", "Names", "Outside", "Providers", "Used"]

ANY_ARGUMENTS: Final[list[Any]] = [[["args", 2, False, ""], ["kwargs", 4, False, ""]], ""]
"""Wire form of a signature that takes whatever it is given: of a function whose record has none."""
TIMEOUT_S: Final = 60.0
"""Seconds a call may take that brings no deadline of its own."""
_LEAST_S: Final = 1.0
_MOST_S: Final = 300.0
_VERSIONS: Final = 64


class Names(Protocol):
    """Resolves names of registries."""

    def asks(self) -> bool:
        """Say whether there is any registry."""
        ...

    def resolve_now(self, text: str, now: float, context: Context = ...) -> Resolution | None:
        """Return what a reference comes to, if that is known and fresh."""
        ...

    async def resolve(self, text: str, *, deadline: float, context: Context = ..., explain: bool = False) -> Resolution:
        """Return what a reference comes to."""
        ...


class Providers(Protocol):
    """Asks providers; see :class:`osiris_mesh.registry.providers.endpoint.Endpoints`."""

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
        """Call a function of a provider."""
        ...


class Health(Protocol):
    """Told of every call; see :class:`osiris_mesh.registry.health.Health`."""

    def began(self, provider: Provider) -> bool:
        """Note the start of a call; False: do not make it."""
        ...

    def abandoned(self, provider: Provider) -> None:
        """Note that a call ended without saying anything about the provider."""
        ...

    def answered(self, provider: Provider, seconds: float) -> None:
        """Note that a call was answered."""
        ...

    def failed(self, provider: Provider) -> None:
        """Note that a call was not answered."""
        ...

    def response_ms(self, provider: Provider) -> float:
        """Return the time an answer is expected to take."""
        ...

    def standing(self, provider: Provider) -> Standing:
        """Return all that is known of a provider now."""
        ...


@dataclass(frozen=True, slots=True)
class Used:
    """One call that a provider was asked, for the meter.

    Attributes:
        provider: Who was asked.
        function: Full name.
        version: Which version.
        caller: For whom: a name or a peer id.
        seconds: How long it took.
        ok: It was answered, with a value or with the function's own error.
    """

    provider: Provider
    function: str
    version: str
    caller: str
    seconds: float
    ok: bool


class Outside:
    """Calls functions that only registries know.

    Args:
        names: Resolves them.
        providers: Asks those who have them.
        health: What is known of providers; told of every call.
        contexts: The security context a call is in: of its caller, the mesh and its header.
        attempts: Providers one call is tried at.
        clock: Time.
        used: Told of every call that a provider was asked.
    """

    def __init__(
        self,
        names: Names,
        providers: Providers,
        health: Health,
        *,
        contexts: Callable[[Caller, Mapping[str, Any]], Context],
        attempts: int,
        clock: Clock,
        used: Callable[[Used], None] = lambda _used: None,
    ) -> None:
        self._names = names
        self._providers = providers
        self._health = health
        self._contexts = contexts
        self._attempts = attempts
        self._clock = clock
        self._used = used

    def asks(self) -> bool:
        """Say whether there is any registry to ask."""
        return self._names.asks()

    async def resolve(self, name: str, *, caller: Caller, headers: Mapping[str, Any]) -> dict[str, Any]:
        """Return what a caller must know of a function, in the form the invoker's own resolver gives it.

        Raises:
            NotFound: No registry knows it.
            Denied: The security context does not allow it.
            Unavailable, DeadlineExceeded: Nobody could say.
        """
        now = self._clock.monotonic()
        found = await self._found(name, now, now + TIMEOUT_S, self._contexts(caller, headers))
        return self._facts(found)

    async def call(
        self, name: str, body: bytes, *, deadline: float | None, headers: Mapping[str, Any], caller: Caller
    ) -> tuple[bytes, dict[str, Any]]:
        """Have one call answered by a provider.

        Args:
            name: Name, with or without ``@version``.
            body: ``pack([args, kwargs])``.
            deadline: Monotonic seconds, or None.
            headers: ``binding``, ``idempotent``, ``context``, ``providers`` (ids, the first to be asked first;
                those that are not named come last, what may not be asked is not asked) and ``depth`` count.
            caller: Who asks.

        Returns:
            The packed result, and the details: provider, version, source and so on.

        Raises:
            NotFound: No registry knows it, or nobody serves it.
            Denied: The security context does not allow it.
            Conflict: The arguments were bound against another signature.
            UsageError: The arguments do not fit the signature.
            FunctionError: The function's own error.
            OsirisError: Why no provider answered: what the last one said.
        """
        began = self._clock.monotonic()
        ends = began + TIMEOUT_S if deadline is None else deadline
        context = self._contexts(caller, headers)
        found = await self._found(name, began, ends, context)
        args, kwargs = self._arguments(found, body, headers)
        wanted = _wanted(headers)
        if not found.providers:
            raise NotFound(
                f"nobody serves {found.name} {found.version}: its record names no provider, and it is not in this mesh",
                fix="deploy its bundle here, or have its owner name a provider",
                name=found.name,
            )
        onward = {key: headers[key] for key in ("idempotent", "depth", TRACE) if key in headers}
        # Not what the caller wrote: what it comes to with everything else that limits the call.
        text = carried(context)
        if text:
            onward[CONTEXT] = text
        value, provider = await self._ask(found, _ordered(found.providers, wanted), args, kwargs, ends, onward, caller)
        return pack(value), {
            "node": provider.id,
            "version": str(found.version),
            "warm": True,
            "provider": provider.id,
            "source": found.source,
            "age": round(found.age_ms / 1000, 3),
            "stale": found.stale,
        }

    async def _found(self, name: str, now: float, ends: float, context: Context) -> Resolution:
        found = self._names.resolve_now(name, now, context)
        if found is None:
            found = await self._names.resolve(name, deadline=ends, context=context)
        if found.bound is None:
            # It was deployed here after the ledger was asked.
            raise Unavailable(f"{found.name} has just come to this mesh", fix="call again", maybe=False)
        return found

    async def _ask(
        self,
        found: Resolution,
        providers: Sequence[Provider],
        args: list[Any],
        kwargs: dict[str, Any],
        ends: float,
        headers: Mapping[str, Any],
        caller: Caller,
    ) -> tuple[Any, Provider]:
        """Ask the providers in their order, until one answers."""
        clock, health = self._clock.monotonic, self._health
        plan = Failover(
            providers,
            deadline=ends,
            expected_ms=health.response_ms,
            may_repeat=headers.get("idempotent") is True,
            attempts=self._attempts,
        )
        last: OsirisError | None = None
        while (attempt := plan.next(clock())) is not None:
            provider, began = attempt.provider, clock()
            if not health.began(provider):
                last = last or Unavailable(f"{provider.id} failed lately and is left alone for a while", maybe=False)
                plan.failed(maybe=False)
                continue
            answered: bool | None = None
            try:
                async with asyncio.timeout(attempt.wait):
                    value = await self._providers.call(
                        provider, found.name, args, kwargs, deadline=began + attempt.wait, headers=headers
                    )
            except FunctionError:
                answered = True
                raise
            except TimeoutError:
                answered, maybe = False, True
                last = DeadlineExceeded(
                    f"{provider.id} did not answer for {found.name} in {attempt.wait:.3g} s", fix=MORE_TIME, maybe=True
                )
            except OsirisError as error:
                maybe = not surely_not(error)
                # What is refused for what it is, perhaps before anybody was asked, does not tell whether one is well.
                answered = False if isinstance(error, (Unavailable, DeadlineExceeded)) else True if maybe else None
                last = _said_by(provider, error)
            else:
                answered = True
                return value, provider
            finally:
                self._note(provider, found, caller, began, answered)
            if not plan.failed(maybe=maybe):
                break
        raise last or DeadlineExceeded(
            f"the time for {found.name} was over before it began", fix=MORE_TIME, maybe=False
        )

    def _arguments(
        self, found: Resolution, body: bytes, headers: Mapping[str, Any]
    ) -> tuple[list[Any], dict[str, Any]]:
        signature = _signature(found)
        binding = headers.get("binding")
        if binding is not None and binding != binding_of(signature):
            raise Conflict(
                f"the signature of {found.name} is not the one the arguments were bound against",
                fix="resolve the name again and bind anew",
                reason="binding",
                resolved=self._facts(found),
            )
        value = unpack(body, VALUE)
        if not (
            isinstance(value, list) and len(value) == 2 and isinstance(value[0], list) and isinstance(value[1], dict)
        ):
            raise UsageError("a call's body is [arguments, keyword arguments]")
        args, kwargs = value
        if binding is None:
            try:
                Signature.from_wire(signature, found.name).bind(args, kwargs)
            except TypeError as error:
                raise UsageError(str(error)) from None
        return args, kwargs

    def _facts(self, found: Resolution) -> dict[str, Any]:
        return facts(found, self._health.standing, self._clock.monotonic())

    def _note(self, provider: Provider, found: Resolution, caller: Caller, began: float, answered: bool | None) -> None:
        now = self._clock.monotonic()
        if answered is None:
            self._health.abandoned(provider)
            return
        if answered:
            self._health.answered(provider, now - began)
        else:
            self._health.failed(provider)
        who = caller.name or caller.peer
        self._used(Used(provider, found.name, str(found.version), who, now - began, answered))


def _said_by(provider: Provider, error: OsirisError) -> OsirisError:
    """Return a provider's error with who it is about: the caller only knows the function's name."""
    return type(error)(f"{provider.id}: {error.what}", fix=error.fix, **error.details)


def facts(found: Resolution, standing: Callable[[Provider], Standing], now: float) -> dict[str, Any]:
    """Return what a caller must know of a function of a registry, and what it may choose by.

    Args:
        found: What the name comes to.
        standing: Returns what is known of a provider.
        now: Monotonic seconds.
    """
    bound = found.bound
    if bound is None:
        raise NotFound(f"no registry has {found.name}", name=found.name)
    binding = bound.binding
    signature = _signature(found)
    return {
        "name": found.name,
        "version": str(found.version),
        "digest": bytes.fromhex(binding.digest),
        "signature": signature,
        "binding": binding_of(signature),
        "description": binding.description,
        "timeout_ms": int(TIMEOUT_S * 1000),
        "idempotent": False,
        "source": found.source,
        "age": round(found.age_ms / 1000, 3),
        "stale": found.stale,
        "deprecated": bound.deprecated,
        "requirements": {
            "level": binding.requirements.level,
            "permissions": list(binding.requirements.permissions),
            "trusted_providers": list(binding.requirements.trusted_providers),
        },
        "versions": [str(version) for version in found.record.versions][-_VERSIONS:] if found.record else [],
        "providers": [_row(provider, standing(provider)) for provider in found.providers],
        # What nobody could renew is asked for again soon, not at every call.
        "ttl_ms": int(min(max(found.fresh_until - now, _LEAST_S), _MOST_S) * 1000),
    }


def _row(provider: Provider, known: Standing) -> dict[str, Any]:
    return provider.payload() | {
        "response_ms": round(known.response_ms, 3),
        "availability": round(known.availability, 4),
        "open": known.open,
        "draining": known.draining,
        "in_flight": known.in_flight,
    }


def _wanted(headers: Mapping[str, Any]) -> list[str]:
    """Return the ids of the providers the caller wants asked first."""
    wanted = headers.get("providers", [])
    if not isinstance(wanted, list) or len(wanted) > MAX_PROVIDERS or not all(isinstance(name, str) for name in wanted):
        raise UsageError(f"the header providers is not a list of at most {MAX_PROVIDERS} ids")
    return wanted


def _ordered(providers: Sequence[Provider], wanted: Sequence[str]) -> Sequence[Provider]:
    if not wanted:
        return providers
    left = {provider.id: provider for provider in providers}
    first = [left.pop(name) for name in wanted if name in left]
    return [*first, *left.values()]


def _signature(found: Resolution) -> Any:
    bound = found.bound
    if bound is None or not bound.binding.signature:
        return ANY_ARGUMENTS
    return [[list(part) for part in bound.binding.signature[0]], bound.binding.signature[1]]
