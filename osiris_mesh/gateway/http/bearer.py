"""Who a request speaks for: bearers, remembered for as long as what was found out about them surely holds.

Asking the policy costs a key derivation; a bearer is asked about anew once a second (the wall clock may be set), when
his time runs out, and whenever an entry may have changed what somebody may, so in between a call costs two lookups.
"""

from __future__ import annotations

from typing import Final

from osiris_mesh.access.watch import Hold
from osiris_mesh.errors import Denied, Overloaded
from osiris_mesh.function.name import qualified
from osiris_mesh.gateway.http.guard import Bucket
from osiris_mesh.gateway.http.parts import Parts
from osiris_mesh.gateway.http.problem import Anonymous
from osiris_mesh.identity.keys import KeyPair
from osiris_mesh.identity.peer_id import peer_id
from osiris_mesh.ledger.principal import Principal
from osiris_mesh.link import Audience, Caller

__all__ = ["Bearer", "Bearers", "hold"]

_KEEP_SECONDS: Final = 1.0
_MOST: Final = 4096
_MOST_ANSWERS: Final = 4096
_MAX_TOKEN: Final = 256
_FIX: Final = "send Authorization: Bearer osa1…; a token is made with: osiris-mesh apitoken create"


class Bearer:
    """One bearer.

    Args:
        token: His token.
        principal: Who he is.
        key: Signs for him.
        bucket: Counts his requests.
    """

    __slots__ = ("_allowed", "bucket", "caller", "key", "principal", "rights", "token", "until")

    def __init__(self, token: str, principal: Principal, key: KeyPair, bucket: Bucket) -> None:
        self.token = token
        self.principal = principal
        self.key = key
        self.bucket = bucket
        self.until = 0.0
        self.rights = -1
        self.caller = Caller(key.public, peer_id(key.public), Audience.CLIENT)
        self._allowed: set[tuple[str, str]] = set()

    def __repr__(self) -> str:
        return f"Bearer({self.caller.peer})"

    def renew(self, principal: Principal, rights: int, until: float) -> None:
        """Take in what the policy says now."""
        self.principal = principal
        self.rights = rights
        self.until = until
        self._allowed.clear()

    def require(self, permission: str, name: str = "") -> None:
        """Check that he has a permission, for the function of this name where it is about one.

        Raises:
            Denied: He has not.
            UsageError: Not a function's name.
        """
        asked = (permission, name)
        if asked in self._allowed:
            return
        _demand(self.principal, permission, name)
        if len(self._allowed) >= _MOST_ANSWERS:
            self._allowed.clear()
        self._allowed.add(asked)


def _demand(principal: Principal, permission: str, name: str) -> None:
    subject = qualified(name.partition("@")[0]) if name else ""
    # A route about functions that names none shows, or checks, each by itself.
    some = not subject and permission.startswith(("function.", "registry.publish"))
    if not (principal.may_some(permission) if some else principal.may(permission, subject)):
        about = f" for {subject}" if subject else ""
        raise Denied(
            f"the bearer has no permission {permission}{about}",
            fix=_remedy(principal, permission, subject, some=some),
            permission=permission,
        )


def _remedy(principal: Principal, permission: str, subject: str, *, some: bool) -> str:
    """Say what gives a bearer what he lacks: a token with more grants where its owner holds it, else a role."""
    owner = principal.limits
    if owner is not None and (owner.some(permission) if some else owner.covers(permission, subject)):
        wanted = f"{permission}:{subject}" if subject else permission
        return (
            "the token was made without it; make one with it and whatever else it is for: "
            f"osiris-mesh apitoken create --grant {wanted}"
        )
    return "ask an administrator of the mesh for a role that has it"


def hold(parts: Parts, bearer: Bearer, permission: str, name: str = "") -> Hold:
    """Return a context for a stream: it ends with an error once the bearer may not any longer.

    Args:
        parts: Policy and watch.
        bearer: Whose stream it is.
        permission: What he must have all the while, as :meth:`Bearer.require` has it.
        name: For which function.

    Raises:
        Anonymous: From inside the context: his token is revoked, expired, or its owner gone.
        Denied: From inside the context: he has the permission no more.
    """

    def ask() -> Principal:
        principal = parts.policy.bearer(bearer.token)
        if principal is None:
            raise Anonymous("the bearer's token has expired or was revoked, which ends the stream", fix=_FIX)
        _demand(principal, permission, name)
        return principal

    return parts.watch.hold(ask)


class Bearers:
    """The bearers seen of late.

    Args:
        parts: Policy, ledger, clock and bounds.
    """

    def __init__(self, parts: Parts) -> None:
        self._parts = parts
        self._known: dict[str, Bearer] = {}
        self._state = parts.book.state

    def of(self, header: str | None, now: float) -> Bearer:
        """Return who an Authorization header speaks for, and count his request.

        Args:
            header: The header, or None.
            now: Monotonic seconds.

        Raises:
            Anonymous: Nobody.
            Overloaded: He asks too often.
        """
        token = _token(header)
        state = self._parts.book.state
        if state is not self._state:
            # A repair replaces the whole state, and begins to count anew.
            self._state = state
            for known in self._known.values():
                known.until = 0.0
        bearer = self._known.get(token)
        if bearer is None or bearer.until <= now or bearer.rights != state.rights:
            bearer = self._look(token, bearer, now)
        wait = bearer.bucket.take(now)
        if wait > 0.0:
            raise Overloaded(
                "this bearer asks more often than a bearer may",
                fix="ask again a little later",
                retry_after_ms=int(wait * 1000) + 1,
            )
        return bearer

    def _look(self, token: str, known: Bearer | None, now: float) -> Bearer:
        parts = self._parts
        principal = parts.policy.bearer(token)
        if principal is None:
            self._known.pop(token, None)
            raise Anonymous("this mesh does not know the bearer: the token is wrong, expired or revoked", fix=_FIX)
        if known is None:
            if len(self._known) >= _MOST:
                del self._known[next(iter(self._known))]
            bucket = Bucket(parts.settings.calls_per_s, parts.settings.call_burst, now)
            known = self._known[token] = Bearer(token, principal, parts.policy.key_of(token), bucket)
        left = (principal.until_ms - parts.clock.time_ms()) / 1000
        known.renew(principal, parts.book.state.rights, now + min(left, _KEEP_SECONDS))
        return known


def _token(header: str | None) -> str:
    if header is not None and header.startswith("Bearer "):
        token = header[7:]
    else:
        scheme, _, token = (header or "").partition(" ")
        if scheme.lower() != "bearer":
            raise Anonymous("the request has no bearer", fix=_FIX)
    if not 0 < len(token) <= _MAX_TOKEN:
        raise Anonymous("the request has no bearer", fix=_FIX)
    return token
