"""``node.overview``: nodes and functions with their figures, as ``top`` and ``monitor`` show them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

from osiris_mesh.codec import pack
from osiris_mesh.gossip import LoadTable
from osiris_mesh.gossip.load import Load
from osiris_mesh.ledger.state import State
from osiris_mesh.link import Audience, Request, Router

__all__ = ["Overview", "function_rows", "node_rows"]


class Overview:
    """Registers and answers ``node.overview`` for :attr:`Audience.LOCAL`.

    Args:
        router: The node's methods.
        status: The map of ``node.status``.
        state: What the ledger's entries amount to.
        loads: What nodes tell of themselves, this one included.
        calls: This node's figures of calls by function.
    """

    def __init__(
        self,
        router: Router,
        *,
        status: Callable[[], dict[str, Any]],
        state: Callable[[], State],
        loads: LoadTable,
        calls: Callable[[], Iterable[Mapping[str, Any]]],
    ) -> None:
        self._status = status
        self._state = state
        self._loads = loads
        self._calls = calls
        router.unary("node.overview", self._answer, allow=Audience.LOCAL)

    async def _answer(self, _request: Request) -> bytes:
        return pack(self.view())

    def view(self) -> dict[str, Any]:
        """Return nodes and functions."""
        status, state = self._status(), self._state()
        loads = {peer: load for peer in self._loads if (load := self._loads.get(peer)) is not None}
        kept = ("mesh_id", "name", "peer_id", "leader", "term", "height", "quorum")
        return {key: status[key] for key in kept} | {
            "nodes": node_rows(status["members"], loads),
            "functions": function_rows(state, loads, {str(row["function"]): row for row in self._calls()}),
        }


def node_rows(members: Iterable[Mapping[str, Any]], loads: Mapping[str, Load]) -> list[dict[str, Any]]:
    """Return a row a node; figures are None of one that has told nothing."""
    rows = []
    for member in members:
        if member["role"] == "client":
            continue
        load = loads.get(member["peer_id"])
        functions = [] if load is None else list(load.functions.values())
        rows.append(
            {
                **{key: member[key] for key in ("peer_id", "name", "state", "leader", "voter")},
                "cpu": None if load is None else round(load.cpu, 3),
                "memory": None if load is None else round(load.memory, 3),
                "memory_used": None if load is None else load.memory_used,
                "memory_total": None if load is None else load.memory_total,
                "disk_free": None if load is None else load.disk_free,
                "instances": sum(row.instances for row in functions),
                "in_flight": sum(row.in_flight for row in functions),
                "queued": sum(row.queued for row in functions),
            }
        )
    return rows


def function_rows(
    state: State, loads: Mapping[str, Load], calls: Mapping[str, Mapping[str, Any]]
) -> list[dict[str, Any]]:
    """Return a row a function: demand in the whole mesh, calls as this node counts them since its start."""
    rows = []
    for name, record in sorted(state.functions.items()):
        digests = {version.spec.digest for version in record.versions.values()}
        demand = [row for load in loads.values() for digest, row in load.functions.items() if digest in digests]
        counted = calls.get(name, {})
        rows.append(
            {
                "name": name,
                "version": record.active,
                "nodes": sum(any(digest in load.functions for digest in digests) for load in loads.values()),
                "instances": sum(row.instances for row in demand),
                "in_flight": sum(row.in_flight for row in demand),
                "queued": sum(row.queued for row in demand),
                "calls": counted.get("calls", 0),
                "errors": counted.get("errors", 0),
                **{time: counted.get(time, 0.0) for time in ("mean_us", "p50_us", "p99_us")},
            }
        )
    return rows
