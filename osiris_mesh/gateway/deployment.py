"""What a deployment goes through before its entries are proposed, whichever face it came in by.

The order is the point: nothing of a stranger's is installed or run before it is certain who asks and that the ledger
would take it; nothing is proposed before the bundle is where it outlives this node.
"""

from __future__ import annotations

import asyncio
import copy
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from typing import Any, Final, Protocol

from osiris_mesh.clock import SYSTEM, Clock
from osiris_mesh.errors import CheckFailed, OsirisError, UsageError
from osiris_mesh.function.spec import FunctionSpec
from osiris_mesh.invoke.contexts import carried, of_principal
from osiris_mesh.ledger import kinds
from osiris_mesh.ledger.effects import EFFECTS
from osiris_mesh.ledger.entry import Entry
from osiris_mesh.ledger.outcome import Outcome, Refused
from osiris_mesh.ledger.state import Context, State
from osiris_mesh.registry.context import FULL, narrow

__all__ = ["Copies", "Ready", "check", "make_ready"]

_KINDS: Final = frozenset({kinds.FunctionPublish.KIND, kinds.FunctionActivate.KIND})


class Copies(Protocol):
    """How many nodes have a bundle."""

    @property
    def have(self) -> int:
        """Nodes that have it on disk, this one included."""
        ...

    @property
    def nodes(self) -> int:
        """Nodes that live, this one included."""
        ...


class _Functions(Protocol):
    async def test(self, digest: bytes, context: str = "") -> dict[str, Any]: ...

    def check_bundle(self, spec: FunctionSpec) -> None: ...

    async def spread(self, digest: bytes) -> Copies: ...


@dataclass(frozen=True, slots=True)
class Ready:
    """A bundle that is ready to be published.

    Attributes:
        tests: How its tests went.
        copies: Nodes that have it on disk, this one included.
        nodes: Nodes that live, this one included.
    """

    tests: dict[str, Any]
    copies: int
    nodes: int


async def make_ready(
    state: State,
    functions: _Functions,
    spec: FunctionSpec,
    entries: Sequence[bytes],
    refuse: Callable[[Outcome], OsirisError],
    clock: Clock = SYSTEM,
) -> Ready:
    """Check who asks and what for, test the bundle here, and have a majority of the nodes that live store it.

    Args:
        state: The ledger's state now.
        functions: This node's library and runtime; the bundle is in the library.
        spec: What is published.
        entries: The signed entries that publish it.
        refuse: Makes the error of an outcome that is not accepted.
        clock: Time, for tokens that have expired.

    Raises:
        OsirisError: What ``refuse`` made; nothing was installed or run then.
        UsageError: An entry that does not belong into a deployment.
        CheckFailed: The tests failed.
        Unavailable: No majority took the bundle.
    """
    parsed = [Entry.parse(data) for data in entries]
    for outcome in check(state, parsed, clock.time_ms()):
        if not outcome.accepted:
            raise refuse(outcome)
    # The tests reach what their author reaches, as if he made their calls.
    authors = {entry.author for entry in parsed}
    context = FULL
    for author in authors:
        context = narrow(context, of_principal(state.principal(author, clock.time_ms())))
    await asyncio.to_thread(functions.check_bundle, spec)
    report = await functions.test(spec.digest, carried(context))
    if not report["ok"]:
        raise CheckFailed(
            f"{spec.name} {spec.version} failed its tests; the version that was active stays",
            fix="mend the function or its tests and deploy again",
            tests=report,
        )
    copies = await functions.spread(spec.digest)
    return Ready(report, copies.have, copies.nodes)


def check(state: State, entries: Sequence[Entry], time_ms: int, allowed: Collection[str] = _KINDS) -> list[Outcome]:
    """Return what the ledger would say to entries about functions now, without any effect.

    How old they are is judged by the block they get into, and not here.

    Args:
        state: The ledger's state.
        entries: The entries, in order.
        time_ms: Wall clock: who has expired by then may nothing.
        allowed: Kinds of entries, all about functions; those of a deployment if not given.

    Raises:
        UsageError: An entry of another kind.
    """
    # What is about functions changes these two alone, and replace what is in them.
    trial = copy.copy(state)
    trial.functions, trial.tombs = dict(state.functions), dict(state.tombs)
    return [_outcome(trial, entry, time_ms, allowed) for entry in entries]


def _outcome(trial: State, entry: Entry, time_ms: int, allowed: Collection[str]) -> Outcome:
    if entry.kind not in allowed:
        raise UsageError(f"a {entry.kind} entry is no part of this", fix="send it with ledger.submit")
    if entry.mesh_id != trial.mesh_id:
        return Outcome(accepted=False, reason="the entry is for another mesh", code="mesh")
    first = trial.first_outcome(entry.hash)
    if first is not None:
        return first[1]
    if not entry.holds():
        return Outcome(accepted=False, reason="the signature is not the author's", code="signature")
    try:
        return EFFECTS[entry.kind](trial, kinds.read(entry.kind, entry.body), entry, Context(0, time_ms))
    except Refused as refused:
        return refused.outcome
