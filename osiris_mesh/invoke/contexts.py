"""Which security context a call is in. A pure core; what it asks answers from memory.

==========  ========================================================================================================
caller      begins with
==========  ========================================================================================================
LOCAL       everything: whoever opens the node's socket owns it
CLIENT      what its grants let it reach
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

from osiris_mesh.errors import UsageError
from osiris_mesh.ledger.permissions import Grants
from osiris_mesh.link import Audience, Caller
from osiris_mesh.registry.context import FULL, HEADER, Context, Level, from_grants, make, may_call, narrow, parse

__all__ = ["NOTHING", "Contexts"]

NOTHING: Final = make(Level.PURE, functions=())
"""What an instance reaches that serves no call."""
_of_grants = lru_cache(maxsize=1024)(from_grants)


class Contexts:
    """Says which context a call is in.

    Args:
        grants: What the holder of a public key may.
        mesh: The text of the setting ``registry.context``; empty: none.
        serving: The texts of the contexts of every call that the instance ``caller.name`` serves now, empty texts for
            calls without limits.
    """

    def __init__(
        self,
        *,
        grants: Callable[[bytes], Grants],
        mesh: Callable[[], str],
        serving: Callable[[Caller], Sequence[str]],
    ) -> None:
        self._grants = grants
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
        found = self.of(caller, headers)
        if found is FULL or found == FULL:
            return ""
        refusal = may_call(found, name)
        if refusal is not None:
            raise refusal.error()
        return found.text()

    def _begins(self, caller: Caller) -> Context:
        if caller.audience is Audience.CLIENT:
            return _of_grants(self._grants(caller.public_key))
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
