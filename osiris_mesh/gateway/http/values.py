"""Values between JSON and the mesh, under the name the HTTP face knows them by."""

from __future__ import annotations

from osiris_mesh.function.json_form import from_json, packed_to_json, to_json

__all__ = ["from_json", "packed_to_json", "to_json"]
