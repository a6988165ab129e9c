"""Every route there is: the one table from which the checks, the OpenAPI description and docs/http.md come."""

from __future__ import annotations

from typing import Final

from osiris_mesh.gateway.http import mesh, streams, types
from osiris_mesh.gateway.http.describe import openapi
from osiris_mesh.gateway.http.function_routes import FUNCTION_ROUTES
from osiris_mesh.gateway.http.people_routes import PEOPLE_ROUTES
from osiris_mesh.gateway.http.registry_routes import REGISTRY_ROUTES
from osiris_mesh.gateway.http.route import CHANGE_ERRORS, PUBLIC, Route
from osiris_mesh.gateway.http.settings_routes import SETTINGS_ROUTES
from osiris_mesh.gateway.mcp.http import MCP_ROUTES

__all__ = ["ROUTES"]

_PLAIN_TEXT: Final = "text/plain"

ROUTES: Final[tuple[Route, ...]] = (
    Route("GET", "/v1/health", PUBLIC, mesh.health, types.Health, "Whether this controller serves."),
    Route("GET", "/v1/openapi.json", PUBLIC, openapi, dict, "This description."),
    # The mesh and this node.
    Route("GET", "/v1/status", "mesh.read", mesh.status, types.Status, "How the mesh stands."),
    Route("GET", "/v1/overview", "mesh.read", mesh.overview, types.Overview, "Nodes and functions with their figures."),
    Route("GET", "/v1/members", "mesh.read", mesh.members, types.Members, "The members."),
    Route(
        "DELETE",
        "/v1/members/{peer}",
        "member.manage",
        mesh.remove_member,
        types.Changed,
        "Remove a member.",
        types.Signed,
        errors=CHANGE_ERRORS,
    ),
    Route(
        "PUT",
        "/v1/members/{peer}/role",
        "member.manage",
        mesh.set_member_role,
        types.Changed,
        "Say whether a member may become a voter.",
        types.SetRoleBody,
        errors=CHANGE_ERRORS,
    ),
    Route(
        "GET", "/v1/node/doctor", "mesh.read", mesh.doctor, types.Checks, "What is wrong with this node.", errors=(422,)
    ),
    Route("POST", "/v1/node/sync", "node.manage", mesh.sync, types.Synced, "Catch up with the mesh.", errors=(504,)),
    Route("POST", "/v1/node/drain", "node.manage", mesh.drain, types.NodeState, "Take no more work."),
    Route(
        "POST",
        "/v1/node/leave",
        "node.manage",
        mesh.leave,
        types.NodeState,
        "Leave the mesh, then stop.",
        errors=(504,),
    ),
    Route("POST", "/v1/node/stop", "node.manage", mesh.stop, types.NodeState, "Stop this node."),
    Route(
        "GET",
        "/v1/metrics",
        "mesh.read",
        mesh.metrics,
        types.Samples,
        "Figures of calls, by function.",
        query=types.MetricsQuery,
        errors=(404,),
    ),
    Route("GET", "/metrics", "mesh.read", mesh.prometheus, None, "Metrics for Prometheus.", gives=(_PLAIN_TEXT,)),
    # Functions.
    *FUNCTION_ROUTES,
    # Registries.
    *REGISTRY_ROUTES,
    # Events and the ledger.
    Route(
        "GET",
        "/v1/events",
        "mesh.read",
        streams.events,
        None,
        "Events as they happen.",
        query=types.EventsQuery,
        gives=(streams.EVENT_STREAM,),
        stream=True,
    ),
    Route(
        "GET",
        "/v1/events/history",
        "mesh.read",
        streams.history,
        types.EventHistory,
        "Events this node remembers.",
        query=types.HistoryQuery,
    ),
    Route(
        "GET",
        "/v1/ledger/blocks",
        "mesh.read",
        mesh.blocks,
        types.Blocks,
        "Blocks of the ledger.",
        query=types.BlocksQuery,
        errors=(422,),
    ),
    Route(
        "GET",
        "/v1/ledger/blocks/{height}",
        "mesh.read",
        mesh.block,
        types.Block,
        "One block, with every field of its entries.",
        errors=(404, 422),
    ),
    Route("GET", "/v1/ledger/verify", "mesh.read", mesh.verify, types.Verified, "Check the whole stored chain."),
    # Who may come in, who may do what.
    *PEOPLE_ROUTES,
    # What is set for the whole mesh.
    *SETTINGS_ROUTES,
    *MCP_ROUTES,
)
