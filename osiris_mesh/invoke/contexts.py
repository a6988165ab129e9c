"""Which security context a call is in. A pure core; what it asks answers from memory.

==========  ========================================================================================================
caller      begins with
==========  ========================================================================================================
LOCAL       everything: whoever opens the node's socket owns it
CLIENT      what its grants let it reach; an API token's bearer, what both it and its owner may
MEMBER      everything: the node where the call came in has decided, and says so in the header
FUNCTION    what all calls that its instance serves now have in common: a function can't say for which of them it calls,
            and must not choose. An instance that serves none reaches nothing: what is left over from a call that has
            ended is in nobody's name
==========  ========================================================================================================

That is narrowed by the mesh's setting and by the call's own header. The result goes on in the header: to the node that
runs the call, to the instance's record of what it serves, and so to the function's own calls.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache
from typing import Any, Final

from osiris_mesh.errors import Denied, UsageError
from osiris_mesh.ledger.permissions import Grants
from osiris_mesh.ledger.principal import Principal
from osiris_mesh.link import Audience, Caller
from osiris_mesh.registry.context import (
    FULL,
    HEADER,
    MAX_PATTERNS,
    MAX_TEXT,
    Context,
    Level,
    from_grants,
    make,
    may_call,
    narrow,
    parse,
)

__all__ = ["NOTHING", "Contexts", "carried", "of_principal"]

NOTHING: Final = make(Level.PURE, functions=())
"""What an instance reaches that serves no call."""


def of_principal(principal: Principal) -> Context:
    """Return what somebody, and whatever he calls, reaches."""
    return _of_grants(principal.grants, principal.limits)


@lru_cache(maxsize=1024)
def _of_grants(grants: Grants, limits: Grants | None) -> Context:
    own = from_grants(grants)
    return own if limits is None else narrow(own, from_grants(limits))


@lru_cache(maxsize=1024)
def carried(context: Context) -> str:
    """Return the text a call carries on; empty if nothing limits it.

    One that would be too long to be read again becomes :data:`NOTHING`: what is called may call nothing, which is
    less than the context says and never more.
    """
    if context == FULL:
        return ""
    text = context.text()
    clauses = (*context.functions, *context.providers, *context.permissions, *context.trusted)
    if len(text) > MAX_TEXT or any(len(clause) > MAX_PATTERNS for clause in clauses):
        return NOTHING.text()
    return text


@lru_cache(maxsize=4096)
def _onward(context: Context, name: str) -> str:
    refusal = may_call(context, name)
    if refusal is not None:
        raise refusal.error()
    return carried(context)


class Contexts:
    """Says which context a call is in.

    Args:
        principal: Who holds a public key now.
        mesh: The text of the setting ``registry.context``; empty: none.
        serving: The texts of the contexts of every call that the instance ``caller.name`` serves now, empty texts for
            calls without limits.
    """

    def __init__(
        self,
        *,
        principal: Callable[[bytes], Principal],
        mesh: Callable[[], str],
        serving: Callable[[Caller], Sequence[str]],
    ) -> None:
        self._principal = principal
        self._mesh = mesh
        self._serving = serving

    def of(self, caller: Caller, headers: Mapping[str, Any]) -> Context:
        """Return the context of a call.

        Raises:
            UsageError: The header, or the mesh's setting, is no context.
            LimitExceeded: Too many different contexts in a row.
        """
        found = self._begins(caller)
        for text in (self._mesh(), headers.get(HEADER, "")):
            if type(text) is not str:
                raise UsageError(f"the header {HEADER} of a call is no text")
            if text:
                found = narrow(found, parse(text))
        return found

    def check(self, caller: Caller, headers: Mapping[str, Any], name: str) -> str:
        """Return the text a call of ``name`` carries on; empty without limits.

        Args:
            caller: Who calls.
            headers: Of the call.
            name: Full name of a function of this mesh.

        Raises:
            Denied: Its context does not allow it; ``details["rule"]`` says which rule.
            UsageError, LimitExceeded: As :meth:`of`.
        """
        if not self._mesh() and HEADER not in headers:
            # Nearly every call: nothing is made or read where nothing limits.
            audience = caller.audience
            if audience is Audience.LOCAL or audience is Audience.MEMBER:
                return ""
            if audience is Audience.FUNCTION:
                texts = self._serving(caller)
                if texts and not any(texts):
                    return ""
        found = self.of(caller, headers)
        try:
            return _onward(found, name)
        except Denied as error:
            if caller.audience is not Audience.FUNCTION:
                raise
            raise _of_instance(error, name, len(set(self._serving(caller)))) from None

    def _begins(self, caller: Caller) -> Context:
        if caller.audience is Audience.CLIENT:
            return of_principal(self._principal(caller.public_key))
        if caller.audience is Audience.FUNCTION:
            texts = self._serving(caller)
            if not texts:
                return NOTHING
            found = FULL
            for text in set(texts):
                if text:
                    found = narrow(found, parse(text))
            return found
        return FULL


def _of_instance(refused: Denied, name: str, contexts: int) -> Denied:
    """Return a refusal that says so if it is about what else the instance does, or does not."""
    if contexts == 1:
        return refused
    rule = refused.details["rule"]
    if contexts:
        fix = f"its instance works on calls in {contexts} contexts; keep them apart: osiris-mesh deploy --concurrency 1"
        return Denied(refused.what, fix=fix, rule=rule)
    return Denied(
        f"the security context refuses the call: {name} was called by an instance that works on no call",
        fix="call functions from inside a call, not while a module is imported or after the call has ended",
        rule=rule,
    )
