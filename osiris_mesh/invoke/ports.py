"""What the invoker needs of the parts below it, and of who decides about access: Protocols."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol

from osiris_mesh.errors import OsirisError
from osiris_mesh.function.spec import FunctionSpec
from osiris_mesh.invoke.choice import Candidate, Here
from osiris_mesh.link import Caller

__all__ = ["Access", "Beyond", "Contexts", "Peers", "Runner"]


class Runner(Protocol):
    """What runs functions on this node; all on the loop thread."""

    def begin(
        self,
        spec: FunctionSpec,
        body: bytes,
        done: Callable[[bytes | OsirisError], None],
        *,
        deadline: float | None,
        headers: Mapping[str, Any],
        caller: Caller,
    ) -> Callable[[], None] | None:
        """Hand a call to a warm instance with a free slot, or return None with nothing done.

        Args:
            spec: What to run.
            body: Opaque.
            done: Called once with the answer or the error, unless the call was given up.
            deadline: Monotonic seconds.
            headers: ``depth``, ``version``, ``call``, the call's id, and ``context`` if something limits the call.
            caller: For whom.

        Returns:
            What gives the call up.
        """
        ...

    async def run(
        self, spec: FunctionSpec, body: bytes, *, deadline: float | None, headers: Mapping[str, Any], caller: Caller
    ) -> bytes:
        """Run one call, starting an instance if there is none; ``body`` and the answer are opaque."""
        ...

    def here(self, spec: FunctionSpec) -> Here:
        """Return what this node has for a function now."""
        ...

    def pause(self, caller: Caller) -> Callable[[], None]:
        """Free the concurrency slot of the instance ``caller`` until the returned function is called."""
        ...


class Peers(Protocol):
    """The other nodes."""

    def candidates(self, digest: bytes) -> Sequence[Candidate]:
        """Return the live nodes but this one, with their load for the function whose bundle has this digest."""
        ...

    async def call(self, peer: str, method: str, body: bytes, *, timeout: float, headers: dict[str, Any]) -> bytes:
        """Call a method of another node; ``Unavailable`` says in ``maybe`` whether it may have arrived."""
        ...


class Access(Protocol):
    """Who may call what; asked for every call, on the loop thread, and answers from memory."""

    def may_call(self, caller: Caller, name: str) -> bool:
        """Say whether ``caller`` may call what he wrote as ``name``; ``UsageError`` if that is no name."""
        ...

    def may_resolve(self, caller: Caller, name: str) -> bool:
        """Say whether ``caller`` may learn what ``name`` means; ``UsageError`` if that is no name."""
        ...


class Contexts(Protocol):
    """What a call may reach; asked for every call, on the loop thread, and answers from memory."""

    def check(self, caller: Caller, headers: Mapping[str, Any], name: str) -> str:
        """Return the text of the security context a call carries on, empty without limits; Denied, UsageError."""
        ...


class Beyond(Protocol):
    """Functions that this mesh does not have; see :class:`osiris_mesh.invoke.outside.Outside`."""

    def asks(self) -> bool:
        """Say whether there is anybody to ask."""
        ...

    async def resolve(self, name: str, *, caller: Caller, headers: Mapping[str, Any]) -> dict[str, Any]:
        """Return what a caller must know of a function."""
        ...

    async def call(
        self, name: str, body: bytes, *, deadline: float | None, headers: Mapping[str, Any], caller: Caller
    ) -> tuple[bytes, dict[str, Any]]:
        """Have one call answered; return the packed result and the details."""
        ...
