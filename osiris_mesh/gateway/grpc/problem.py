"""Errors over gRPC: a status code, the text, and the error itself in the trailing metadata."""

from __future__ import annotations

from typing import Any, Final

import grpc

from osiris_mesh.errors import OsirisError
from osiris_mesh.gateway.grpc.osiris_pb2 import Error
from osiris_mesh.gateway.grpc.values import to_value
from osiris_mesh.gateway.statuses import HTTP_ALONE, TABLE, grpc_code

__all__ = ["ERROR_KEY", "STATUS", "message_of", "status_of"]

ERROR_KEY: Final = "osiris-error-bin"
"""Key of the trailing metadata."""

STATUS: Final[tuple[tuple[type[OsirisError], grpc.StatusCode], ...]] = tuple(
    (kind, grpc.StatusCode[name]) for kind, _, name in TABLE if kind not in HTTP_ALONE
)
"""Status codes by class; the first that fits counts."""

# Clients take 8 KiB of metadata by default.
_ALL: Final = 6000
_TEXT: Final = 4000
_SHORT: Final = 400


def status_of(error: OsirisError) -> grpc.StatusCode:
    """Return the status code of an error."""
    return grpc.StatusCode[grpc_code(error)]


def message_of(error: OsirisError) -> bytes:
    """Return the packed ``osiris.v1.Error`` of an error, small enough for metadata: long texts lose their beginning."""
    for most in (_TEXT, _SHORT):
        found = Error(code=error.code, what=error.what[:most], fix=error.fix[:most])
        for key, value in list(error.details.items())[:16]:
            cut = _cut(value, most)
            if cut is not None:
                found.details[key].CopyFrom(to_value(cut))
        packed: bytes = found.SerializeToString()
        if len(packed) <= _ALL:
            return packed
    bare: bytes = Error(code=error.code, what=error.what[:_SHORT], fix=error.fix[:_SHORT]).SerializeToString()
    return bare


def _cut(value: Any, most: int) -> Any:
    """Return a detail as it is sent: of texts and bytes the end, of containers nothing."""
    if isinstance(value, str | bytes):
        return value[-most:]
    if isinstance(value, bool | float) or (isinstance(value, int) and abs(value) < 1 << 63):
        return value
    return None
