"""Moments as people write them: so long ago, or a date and time."""

from __future__ import annotations

from datetime import datetime

from osiris_mesh.errors import UsageError
from osiris_mesh_cli.values import seconds

__all__ = ["moment"]


def moment(text: str, now_ms: int) -> int:
    """Return milliseconds since 1970 of ``10m`` (so long ago) or ``2025-01-31[T12:00[:00][+01:00]]``.

    A date and time without a zone is of this machine's.

    Raises:
        UsageError: Neither.
    """
    try:
        parsed = datetime.fromisoformat(text)
    except ValueError:
        try:
            return max(now_ms - int(seconds(text) * 1000), 0)
        except UsageError:
            raise UsageError(f"{text!r} is not a moment", fix="write 10m, 2d, 2025-01-31 or 2025-01-31T12:00") from None
    try:
        return max(int(parsed.astimezone().timestamp() * 1000), 0)
    except (OverflowError, OSError, ValueError):
        raise UsageError(f"{text!r} is too far away", fix="write 10m, 2d, 2025-01-31 or 2025-01-31T12:00") from None
