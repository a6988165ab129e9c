"""Routes of registries: the one in the mesh's own ledger, those a node asks, and what it knows through them."""

from __future__ import annotations

from typing import Final

from osiris_mesh.gateway.http import registries, registry_tree, types
from osiris_mesh.gateway.http.route import JSON, Route
from osiris_mesh.gateway.registry_files import LINES, TREE
from osiris_mesh.registry.tree_http import Batch, Taken

__all__ = ["REGISTRY_ROUTES"]

# What a stranger's registry or provider says may be any error there is.
_OUTSIDE: Final = (404, 409, 422, 502, 504)

REGISTRY_ROUTES: Final[tuple[Route, ...]] = (
    Route(
        "GET",
        "/v1/registries",
        "mesh.read",
        registries.list_,
        types.RegistriesView,
        "The registries this node asks, and how they are.",
    ),
    Route(
        "POST",
        "/v1/registries",
        "node.manage",
        registries.add,
        types.RegistryAdded,
        "Have this node ask a registry, once it was fetched and is believed.",
        types.NewRegistry,
        errors=_OUTSIDE,
    ),
    Route(
        "PUT",
        "/v1/registries",
        "node.manage",
        registries.order,
        types.RegistriesView,
        "Give registries another precedence on this node.",
        types.RegistryOrderBody,
        errors=(404,),
    ),
    Route(
        "DELETE",
        "/v1/registries/{registry}",
        "node.manage",
        registries.remove,
        types.RegistryRemoved,
        "Have this node forget a registry.",
        errors=(404,),
    ),
    Route(
        "POST",
        "/v1/registry/sync",
        "node.manage",
        registries.sync,
        types.RegistriesView,
        "Fetch what registries have, now, and verify it.",
        types.RegistrySyncBody,
        errors=_OUTSIDE,
    ),
    Route(
        "GET",
        "/v1/registry/resolve/{name}",
        "function.read",
        registries.resolve,
        types.RegistryResolution,
        "What a reference comes to in this mesh and its registries, and why.",
        query=types.RegistryResolveQuery,
        errors=_OUTSIDE,
    ),
    Route(
        "GET",
        "/v1/registry/records/{name}",
        "function.read",
        registries.show,
        types.RegistryHistory,
        "The history of a name, statement by statement.",
        errors=_OUTSIDE,
    ),
    Route(
        "GET",
        "/v1/registry/names",
        "function.read",
        registries.find,
        types.Found,
        "Names of all registries, by pattern.",
        query=types.FindQuery,
    ),
    Route(
        "GET",
        "/v1/registry/evidence",
        "mesh.read",
        registries.evidence,
        types.Evidence,
        "What registries said that was refused.",
        query=types.EvidenceQuery,
        errors=(404,),
    ),
    Route(
        "GET",
        "/v1/registry/usage",
        "mesh.read",
        registries.usage,
        types.Usage,
        "Calls of providers, their cost and time, by day, provider, caller and function.",
        query=types.UsageQuery,
    ),
    Route(
        "POST",
        "/v1/registry/discover",
        "node.manage",
        registries.discover,
        types.Discovered,
        "What a provider offers, and what of it cannot be called.",
        types.DiscoverBody,
        errors=_OUTSIDE,
    ),
    Route(
        "PUT",
        TREE,
        "registry.publish",
        registry_tree.publish,
        Taken,
        "Publish to the registry in the ledger, all of it or nothing.",
        Batch,
        errors=(409, 504),
    ),
    Route(
        "GET",
        f"{TREE}/{{file}}",
        "function.read",
        registry_tree.file,
        None,
        "The index of the registry in the ledger, its settings, root or checkpoint.",
        errors=(404,),
        gives=(JSON, LINES),
    ),
    Route(
        "GET",
        f"{TREE}/ns/{{vendor}}/{{file}}",
        "function.read",
        registry_tree.vendor_file,
        None,
        "A vendor's keys, of the registry in the ledger.",
        errors=(404,),
        gives=(JSON, LINES),
    ),
    Route(
        "GET",
        f"{TREE}/ns/{{vendor}}/{{namespace}}/{{file}}",
        "function.read",
        registry_tree.published_name,
        None,
        "The history of one name, of the registry in the ledger.",
        errors=(404,),
        gives=(JSON, LINES),
    ),
)
