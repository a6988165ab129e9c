"""The published JSON Schema of all that is said in a registry, made from the types: ``docs/registry.schema.json``.

``python -m osiris_mesh.registry.schema`` prints it. It says what types and ranges say; what needs more than one field,
or a name's own grammar, is said by :meth:`osiris_mesh.registry.record.Payload.check` alone.
"""

from __future__ import annotations

import json
import sys
from typing import Any, Final

import msgspec

from osiris_mesh.registry.checkpoint import Checkpoint
from osiris_mesh.registry.keys import NamespaceKeys, Root
from osiris_mesh.registry.record import Amendment, Binding, Placement
from osiris_mesh.registry.statement import MAX_SIGNATURES

__all__ = ["schema", "text"]

_PAYLOADS: Final = (Binding, Amendment, Placement, NamespaceKeys, Root, Checkpoint)


def schema() -> dict[str, Any]:
    """Return the JSON Schema 2020-12 of one statement."""
    payloads, components = msgspec.json.schema_components(_PAYLOADS, ref_template="#/$defs/{name}")
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "A statement in a registry of Osiris Mesh",
        "description": "One line: a payload and who signed it. The bytes are RFC 8785's; see protocol/registry.md.",
        "type": "object",
        "properties": {
            "payload": {"oneOf": list(payloads)},
            "signatures": {
                "type": "array",
                "items": {
                    "type": "object",
                    "properties": {"key": _hex(32), "signature": _hex(64)},
                    "required": ["key", "signature"],
                    "additionalProperties": False,
                },
                "minItems": 1,
                "maxItems": MAX_SIGNATURES,
            },
        },
        "required": ["payload", "signatures"],
        "additionalProperties": False,
        "$defs": {name: _tidy(definition) for name, definition in sorted(components.items())},
    }


def text() -> str:
    """Return the file."""
    return json.dumps(schema(), indent=2, ensure_ascii=False) + "\n"


def _hex(size: int) -> dict[str, Any]:
    return {"type": "string", "pattern": f"^[0-9a-f]{{{2 * size}}}$", "minLength": 2 * size, "maxLength": 2 * size}


def _tidy(value: Any) -> Any:
    """Keep of a docstring its first line: what fields mean is in the document, for people."""
    if isinstance(value, dict):
        return {
            name: item.partition("\n")[0] if name == "description" and isinstance(item, str) else _tidy(item)
            for name, item in value.items()
        }
    return [_tidy(item) for item in value] if isinstance(value, list) else value


if __name__ == "__main__":
    sys.stdout.write(text())
