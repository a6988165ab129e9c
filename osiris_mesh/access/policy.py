"""Who asks, and may he: the one place every face asks before it acts.

What changes the mesh is checked again by every node when the entry is applied; this is where reading and calling are
decided, and where a refusal comes early. Answers are kept while the ledger says nothing new about anybody's rights
(:attr:`osiris_mesh.ledger.state.State.rights`) and no token's time has run out.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from hashlib import sha256
from typing import Final

from osiris_mesh.clock import Clock
from osiris_mesh.errors import UsageError
from osiris_mesh.function.name import qualified
from osiris_mesh.identity.api_token import ApiToken
from osiris_mesh.identity.keys import KeyPair
from osiris_mesh.ledger.principal import Principal
from osiris_mesh.ledger.state import State
from osiris_mesh.link import Audience, Caller

__all__ = ["Policy"]

_MAX_TOKENS: Final = 4096
_MAX_ANSWERS: Final = 8192


class Policy:
    """Answers for one node; belongs to the loop thread.

    Args:
        state_of: Gives the ledger's state; asked anew each time, because a repair replaces it.
        clock: Tells whether a token has expired.
    """

    def __init__(self, state_of: Callable[[], State], clock: Clock) -> None:
        self._state_of = state_of
        self._clock = clock
        # By hash of the text: a dump of this process' memory should not be full of tokens.
        self._keys: OrderedDict[bytes, KeyPair] = OrderedDict()
        self._answers: dict[tuple[bytes, str], bool] = {}
        self._answered_for: State | None = None
        self._rights = -1
        self._until_ms = 0

    # -- API tokens

    @staticmethod
    def make_token() -> tuple[str, KeyPair]:
        """Return a new API token and the key whose public half goes into ``apitoken.create``."""
        token = ApiToken.generate()
        return token.text(), token.key

    def bearer(self, token_text: str) -> Principal | None:
        """Return whose API token this is; None if it is none, or not known, expired or revoked."""
        digest = sha256(token_text.encode("utf-8", "surrogatepass")).digest()
        key = self._keys.get(digest)
        if key is None:
            try:
                key = ApiToken.parse(token_text).key
            except UsageError:
                return None
        principal = self.principal_of(key.public)
        if principal.kind != "api_token":
            self._keys.pop(digest, None)
            return None
        # Only tokens that count are kept, so that guesses don't push them out.
        self._keys[digest] = key
        self._keys.move_to_end(digest)
        if len(self._keys) > _MAX_TOKENS:
            self._keys.popitem(last=False)
        return principal

    def key_of(self, token_text: str) -> KeyPair:
        """Return the key with which entries are signed for the bearer of an API token.

        Raises:
            UsageError: Not an API token.
        """
        digest = sha256(token_text.encode("utf-8", "surrogatepass")).digest()
        return self._keys.get(digest) or ApiToken.parse(token_text).key

    # -- principals

    def principal_of(self, public_key: bytes) -> Principal:
        """Return who holds a public key now, and what he may."""
        return self._state_of().principal(public_key, self._clock.time_ms())

    def may_call(self, caller: Caller, name: str) -> bool:
        """Say whether ``caller`` may call a function; on every call's path, so mostly one look into a dict.

        A client's key decides, over a link or, for an API token's bearer, over HTTP. Whoever owns this home's socket
        calls what he likes; a member's calls were decided where they came in.

        Args:
            caller: Who asks.
            name: The function's name as he wrote it, perhaps with ``@version``.

        Raises:
            UsageError: Not a name.
        """
        if caller.audience is not Audience.CLIENT:
            return True
        state, now = self._state_of(), self._clock.time_ms()
        if state is not self._answered_for or state.rights != self._rights or now >= self._until_ms:
            self._forget(state, now)
        answer = self._answers.get((caller.public_key, name))
        if answer is None:
            answer = self.principal_of(caller.public_key).may("function.call", _full(name))
            if len(self._answers) >= _MAX_ANSWERS:
                self._answers.clear()
            self._answers[caller.public_key, name] = answer
        return answer

    def may_resolve(self, caller: Caller, name: str) -> bool:
        """Say whether ``caller`` may learn what a function's name means: who may call it must be able to.

        Raises:
            UsageError: Not a name.
        """
        if caller.audience is not Audience.CLIENT:
            return True
        principal, subject = self.principal_of(caller.public_key), _full(name)
        return principal.may("function.read", subject) or principal.may("function.call", subject)

    def _forget(self, state: State, now: int) -> None:
        self._answers.clear()
        self._answered_for, self._rights = state, state.rights
        self._until_ms = state.next_expiry(now)


def _full(name: str) -> str:
    return qualified(name.partition("@")[0])
